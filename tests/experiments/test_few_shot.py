"""Ways of few-shot learning: who sees what, and identities between them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from learnit_utils import inner
from learnit_utils.experiments import episodes, few_shot, first_order
from learnit_utils.experiments.few_shot import How, Setting
from learnit_utils.experiments.protocol import Pieces
from learnit_utils.tasks import Tasks

TINY = Setting(
    size=12, widths=(4, 4), steps=4, episodes=16, validation=3, test=4, queries=2, test_queries=2
)
NET = TINY.network()
pytestmark = pytest.mark.slow  # they compile a training each
LOOPS = ("maml", "fomaml", "reptile", "anil", "maml_same", "prototypes")


@pytest.fixture(scope="module")
def theta():
    return NET.init(jax.random.key(0))


@pytest.fixture(scope="module")
def game():
    return few_shot.episodes_of(TINY, "train", 1, 2)


def with_other_query(tasks, index):
    """The same episodes, asked about other pictures."""
    pictures = np.array(tasks.shared)
    numbers = np.asarray(tasks.each.query)[index].ravel()
    pictures[numbers] = np.random.default_rng(1).uniform(size=pictures[numbers].shape)
    return Tasks(tasks.each, jnp.asarray(pictures))


def test_the_inner_loop_never_sees_the_query(theta, game):
    support = few_shot.loss_on(NET, "support")
    for adapt in (inner.sgd(support, 2, 0.1), few_shot.anil(support, 2, 0.1)):
        ends = [
            adapt(theta, tasks.take(0), jax.random.key(0))[0]
            for tasks in (game, with_other_query(game, 0))
        ]
        jax.tree.map(np.testing.assert_array_equal, *ends)


@pytest.mark.parametrize("kind", LOOPS)
def test_the_outer_loop_sees_the_query_unless_it_is_told_not_to(theta, game, kind):
    few = game.take(slice(0, 1))
    grad = few_shot.direction(TINY, kind, 0.1, 2)
    key = jax.random.key(0)[None]
    both = [grad(theta, t, jax.random.clone(key))[1] for t in (few, with_other_query(few, 0))]
    a, b = (ravel_pytree(d)[0] for d in both)
    assert np.linalg.norm(a) > 0
    assert bool((a == b).all()) == (kind == "maml_same")


def test_anil_moves_the_head_alone_and_still_learns_the_body(theta, game):
    adapt = few_shot.anil(few_shot.loss_on(NET, "support"), 3, 0.5)
    end, losses = adapt(theta, game.take(0), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, end.body, theta.body)
    assert np.abs(end.head.w - theta.head.w).max() > 0
    assert losses[-1] < losses[0]
    grad = few_shot.direction(TINY, "anil", 0.5, 3)
    _, towards = grad(theta, game, jax.random.split(jax.random.key(0), 2))
    assert min(np.abs(leaf).max() for leaf in jax.tree.leaves(towards.body)) > 0


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), shots=st.integers(1, 3))
def test_prototypes_are_an_affine_head(seed, shots):
    """-|v - c|^2 is 2 c v - |c|^2, less what is the same for all classes."""
    rng = np.random.default_rng(seed)
    v = jnp.asarray(rng.normal(size=(30, 6)), jnp.float32)
    numbers = np.arange(5 * (shots + 2)).reshape(5, -1) % 30
    task = Tasks(few_shot_split(numbers, shots), v)
    logits = few_shot.by_prototypes(lambda u: u)(task)
    query = v[numbers[:, shots:].ravel()]
    c = v[numbers[:, :shots]].mean(axis=1)
    head = query @ (2 * c.T) - (c**2).sum(1)[None]
    same = logits - head
    np.testing.assert_allclose(same, same[:, :1] * np.ones((1, 5)), atol=1e-4)


def few_shot_split(numbers, shots):
    from learnit_utils.tasks import Split

    return Split(jnp.asarray(numbers[:, :shots]), jnp.asarray(numbers[:, shots:]))


def test_one_step_of_a_new_head_points_to_centred_class_means(theta, game):
    """Exercise 3: from zeros the weights of output n become alpha / N (c_n - mean of all c)."""
    fresh = few_shot.new_head(theta, 5)
    tasks = few_shot.with_features(NET, theta.body, game)
    support = few_shot.loss_on(few_shot.classifiers.scores, "support")
    end, _ = inner.sgd(support, 1, 0.7)(fresh.head, tasks.take(0), jax.random.key(0))
    c, _ = episodes.pictures(tasks.take(0), "support")
    np.testing.assert_allclose(end.w.T, 0.7 / 5 * (c - c.mean(axis=0)[None]), atol=1e-5)


def test_transfer_is_ordinary_training_of_all_classes(theta):
    tasks = few_shot.minibatches(TINY, 10, 3, 0)
    numbers, labels = (np.asarray(leaf) for leaf in tasks.each)
    names = few_shot.pictures_of(TINY)["train"].names
    kinds = list(episodes.classes_of(names))
    assert all(names[i].startswith(f"{kinds[n]}/") for i, n in zip(numbers.flat, labels.flat))
    wide = TINY.network(len(kinds)).init(jax.random.key(0))
    grad = few_shot.direction(TINY, "transfer", 0.0, 0)
    _, towards = grad(wide, tasks.take(slice(0, 1)), jax.random.key(0)[None])
    plain = jax.grad(few_shot.classification(TINY))(wide, tasks.take(0), None)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), towards, plain)


def test_a_seed_decides_what_is_learned():
    how = How(1e-2)
    a = few_shot.learned(TINY, "prototypes", how, 0)
    few_shot.learned.cache_clear()
    jax.tree.map(np.testing.assert_array_equal, a, few_shot.learned(TINY, "prototypes", how, 0))
    other = few_shot.learned(TINY, "prototypes", how, 1)
    assert (ravel_pytree(a)[0] != ravel_pytree(other)[0]).any()


@pytest.mark.parametrize("name", few_shot.WAYS)
def test_every_way_is_chosen_on_validation_and_counts_answers(name):
    way = few_shot.WAYS[name]._replace(hows=few_shot.WAYS[name].hows[:2])
    pieces = Pieces()
    how, tried = few_shot.chosen_how(pieces, TINY, name, way)
    assert how in way.hows
    assert all(tried[how] >= value for value in tried.values())
    m = few_shot.measured(pieces, TINY, name, how, 2, way)
    for shots in TINY.test_shots:
        assert m.accuracy[shots].shape == (2, TINY.test)
        right = m.accuracy[shots] * TINY.ways * TINY.test_queries
        np.testing.assert_allclose(right, np.rint(right), atol=1e-9)
        assert m.uses[shots] in way.tried


def test_test_episodes_are_seen_with_the_chosen_use_alone():
    asked = []

    def use(setting, theta, tasks, how):
        asked.append((how["x"], tasks.count))
        return np.full(tasks.count, 1.0 - abs(how["x"] - 2) / 5)

    found = few_shot._chosen(TINY, "random", use, How(0.0), few_shot.grid(x=(1, 2, 3)))
    assert found["uses"] == {"1": dict(x=2), "5": dict(x=2)}
    assert [a for a in asked if a[1] == TINY.test] == [(2, TINY.test)] * 2
    assert found["correct"]["1"] == [TINY.ways * TINY.test_queries] * TINY.test


@settings(max_examples=10)
@given(c=st.floats(0.1, 2), steps=st.integers(1, 6), lr=st.floats(0.01, 0.3))
def test_on_one_parabola_both_directions_are_parallel(c, steps, lr):
    def bowl(theta, task, key):
        return 0.5 * c * (theta - task.each) ** 2

    tasks = Tasks(jnp.array([1.0]))
    found = first_order.cosine(bowl, bowl, jnp.float32(0), tasks, steps, lr)
    assert found == pytest.approx(1.0, abs=1e-5)


def test_without_curvature_nothing_is_left_out():
    def plane(theta, task, key):
        return (task.each * theta).sum()

    tasks = Tasks(jnp.eye(3))
    found = first_order.cosine(plane, plane, jnp.ones(3), tasks, 3, 0.1)
    assert found == pytest.approx(1.0, abs=1e-5)
