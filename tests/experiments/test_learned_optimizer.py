"""A learned optimizer: what it reads, that its loop is the unrolled one, and that it learns."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnit_utils import evaluate, fields, tasks
from learnit_utils.experiments import learned_optimizer as lo
from learnit_utils.forward import pixels

FIELD = fields.siren(6, 3, 10.0, 1)
LOSS = tasks.regression(FIELD)
IMAGES = pixels.image_tasks(np.random.default_rng(0).random((4, 6, 6, 1)).astype(np.float32))
SETTING = lo.Setting(outer_steps=3, lr=1e-2, steps=4, units=3)


def random_rule(seed=0):
    rule = lo.draw_rule(jax.random.key(seed), 3, 2)
    return rule._replace(w=jax.random.normal(jax.random.key(seed + 1), rule.w.shape))


@given(size=st.floats(-30, 10), sign=st.sampled_from([-1, 1]))
def test_gradients_are_read_by_logarithm_and_sign(size, sign):
    g = np.float32(sign * np.exp(size))
    first, second = np.asarray(lo.preprocess(jnp.array([g])))[0]
    if abs(g) >= np.exp(-10):
        np.testing.assert_allclose(
            [first, second], [np.log(abs(g)) / 10, sign], rtol=1e-3, atol=1e-5
        )
    else:
        np.testing.assert_allclose([first, second], [-1, np.exp(10) * g], rtol=1e-3, atol=1e-5)
    assert np.isfinite([first, second]).all()


def test_what_is_read_of_zero_is_finite():
    np.testing.assert_array_equal(lo.preprocess(jnp.zeros(1)), [[-1.0, 0.0]])


def test_every_weight_is_served_alike():
    """Weights in another order get the same steps in that order."""
    rule, g = random_rule(), jnp.array([1e-3, -2.0, 0.5, 1e-7])
    order = jnp.array([2, 0, 3, 1])
    memories, move = lo.step(rule, lo.begin(rule, 4), g)
    _, again = lo.step(rule, memories, -g)
    shuffled, move_s = lo.step(rule, lo.begin(rule, 4), g[order])
    _, again_s = lo.step(rule, shuffled, -g[order])
    np.testing.assert_allclose(move_s, move[order], rtol=1e-5)
    np.testing.assert_allclose(again_s, again[order], rtol=1e-5)


def test_a_fresh_rule_stays_where_it_is():
    rule = lo.draw_rule(jax.random.key(0), 3, 2)
    _, move = lo.step(rule, lo.begin(rule, 5), jnp.arange(5.0))
    np.testing.assert_array_equal(move, 0)


def loop(rule, theta, task, steps):
    flat, back = jax.flatten_util.ravel_pytree(theta)
    memories, losses = lo.begin(rule, flat.size), []
    for _ in range(steps):
        value, g = jax.value_and_grad(lambda flat: LOSS(back(flat), task, None))(flat)
        memories, move = lo.step(rule, memories, g)
        flat, losses = flat + move, [*losses, value]
    return back(flat), [*losses, LOSS(back(flat), task, None)]


def test_the_unrolled_descent_is_the_loop():
    rule, theta = random_rule(), FIELD.init(jax.random.key(0))
    learned = lo.Learned(rule, theta)
    end, losses = lo.descent(LOSS, 4)(learned, IMAGES.take(0), jax.random.key(0))
    by_loop, told = loop(rule, theta, IMAGES.take(0), 4)
    np.testing.assert_allclose(losses, told[:-1], rtol=1e-4)
    for a, b in zip(jax.tree.leaves(end), jax.tree.leaves(by_loop)):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_what_is_trained_is_the_loop():
    """A course from a learned start has the losses after each step."""
    learned = lo.Learned(random_rule(), FIELD.init(jax.random.key(0)))
    course = lo.courses(FIELD, LOSS, SETTING._replace(start=True))
    losses, _ = course(learned, IMAGES.take(1), jax.random.key(0))
    _, told = loop(learned.rule, learned.theta, IMAGES.take(1), 4)
    np.testing.assert_allclose(losses, told[1:], rtol=1e-4)


def test_random_scaling_changes_the_units_of_the_weights():
    learned = lo.Learned(random_rule(), FIELD.init(jax.random.key(0)))
    losses = [
        lo.courses(FIELD, LOSS, SETTING._replace(rescale=r))(
            learned, IMAGES.take(0), jax.random.key(0)
        )[0]
        for r in (0.0, 2.0)
    ]
    assert np.abs(losses[0] - losses[1]).max() > 1e-4


def test_the_outer_gradient_reaches_the_rule_and_the_start():
    """And is that of the mean logarithm, with the gradients that are read held fixed."""
    learned = lo.Learned(random_rule(), FIELD.init(jax.random.key(0)))
    grad = lo.gradient(FIELD, LOSS, SETTING)
    values, direction = grad(learned, IMAGES.take(slice(2)), jax.random.split(jax.random.key(0)))
    assert values.shape == (2,)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(direction.rule.w))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(direction.theta))


@pytest.mark.slow
def test_a_rule_learns_to_descend_and_its_numbers_come_back():
    setting = SETTING._replace(outer_steps=150)
    made = lo.learn(FIELD, LOSS, setting, IMAGES, jax.random.key(2))
    like = lo.Learned(lo.draw_rule(jax.random.key(0), 3, 2))
    learned = lo.unpacked(made["numbers"], like)
    assert made["count"] == sum(leaf.size for leaf in jax.tree.leaves(learned))
    assert made["bytes"] > 0
    ours = learned._replace(theta=FIELD.init(jax.random.key(9)))
    losses = evaluate.trajectory(LOSS, lo.descent(LOSS, 4), ours, IMAGES)
    assert losses[:, -1].mean() < 0.8 * losses[:, 0].mean()


@given(seed=st.integers(0, 2**31))
def test_packed_numbers_are_those_in_half_precision(seed):
    rng = np.random.default_rng(seed)
    tree = [
        jnp.asarray(rng.normal(size=(2, 3)), jnp.float32),
        jnp.asarray(rng.normal(size=4), jnp.float32),
    ]
    for a, b in zip(tree, lo.unpacked(lo.packed(tree), tree)):
        np.testing.assert_array_equal(
            np.asarray(a).astype(np.float16), np.asarray(b).astype(np.float16)
        )
        assert b.dtype == jnp.float32


def test_numbers_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="expected 2"):
        lo.unpacked(lo.packed([jnp.ones(3)]), [jnp.ones(2)])


def test_what_is_watched_is_what_is_done():
    rule, theta = random_rule(), FIELD.init(jax.random.key(0))
    seen = lo.watch(rule, LOSS, theta, IMAGES.take(0), (1, 3))
    flat = jax.flatten_util.ravel_pytree(theta)[0]
    g = jax.flatten_util.ravel_pytree(jax.grad(LOSS)(theta, IMAGES.take(0), None))[0]
    _, move = lo.step(rule, lo.begin(rule, flat.size), g)
    np.testing.assert_allclose(seen[1][0], np.abs(g), rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(seen[1][1], np.abs(move), rtol=1e-3, atol=1e-7)
    assert sorted(seen) == [1, 3]
