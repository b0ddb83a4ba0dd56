"""A table of inits and classes: what stands in its cells, who leads, what an init's loop does."""

import jax
import numpy as np
import optax
import pytest

from learnit_utils import evaluate, inner
from learnit_utils.evaluate import interval
from learnit_utils.experiments import recipe, transfer
from learnit_utils.experiments.recipe import Recipe
from learnit_utils.experiments.store import Trained
from learnit_utils.forward import pixels
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel

SIDE, LRS = 8, (1e-3, 1e-2)
NET = dict(kind="siren", width=8, depth=2, omega0=10.0, channels=1)
RECIPE = Recipe(size=SIDE, field=NET, inner_lr=1e-2)


def trained(**changes):
    """An init as from a run: weights at random, step sizes as the recipe says."""
    settings = recipe.with_changes(RECIPE, **changes)
    field = recipe.functions(settings).field
    init = Init(field.init(jax.random.key(1)))
    if settings.step_sizes:
        init = inner.with_step_sizes(init.theta, settings.inner_steps, 0.02, settings.step_sizes)
    return Trained(field, init, settings, {}, {})


LEARNED = trained()
FIELD, LOSS, ADAPT, _ = LEARNED.problem()


def pictures(seed, count):
    values = np.random.default_rng(seed).random((count, SIDE, SIDE, 1)).astype(np.float32)
    return pixels.image_tasks(values)


@pytest.fixture(scope="module")
def trials():
    return {
        "a": transfer.Trials(pictures(0, 4), ["p", "p", "q", "r"], pictures(1, 2)),
        "b": transfer.Trials(pictures(2, 3), ["0", "1", "2"], pictures(3, 2)),
    }


@pytest.fixture(scope="module")
def inits():
    keys = jax.random.split(jax.random.key(0), 3)
    return {name: FIELD.init(key) for name, key in zip(("random", "a", "b"), keys)}


@pytest.fixture(scope="module")
def table(inits, trials):
    return transfer.table(LOSS, ADAPT, inits, trials, LRS)


@pytest.mark.slow
def test_a_learned_init_takes_the_steps_it_was_learned_with(table, inits, trials):
    losses = evaluate.trajectory(LOSS, ADAPT, inits["a"], trials["b"].test)
    np.testing.assert_allclose(table.curves["a", "b"], decibel(losses), atol=1e-4)
    np.testing.assert_allclose(table.scores["b"].by_task("a"), decibel(losses[:, -1]), atol=1e-4)
    assert table.curves["a", "b"].shape == (3, RECIPE.inner_steps + 1)


@pytest.mark.slow
def test_a_random_init_takes_adams_best_step_size_on_validation(table, inits, trials):
    for of, (test, _, validation) in trials.items():
        tuned = evaluate.tune(LOSS, inits["random"], validation, evaluate.ADAM, LRS, 2)
        assert table.adam[of].lr == tuned.lr
        end = evaluate.curve(LOSS, inits["random"], test, optax.adam(tuned.lr), 2)[:, -1]
        np.testing.assert_allclose(table.scores[of].by_task("random"), decibel(end), atol=2e-4)
        plain = evaluate.curve(LOSS, inits["random"], test, optax.sgd(RECIPE.inner_lr), 2)
        np.testing.assert_allclose(table.curves["random", of], decibel(plain), atol=1e-3)


def test_means_and_leads_count_owners(table, trials):
    ours, theirs = (table.curves[name, "a"][:, -1] for name in ("a", "b"))
    owners = trials["a"].owners
    np.testing.assert_allclose(table.mean("a", "a"), interval(ours, owners), rtol=1e-6)
    lead = table.lead("a", "b", "a")
    np.testing.assert_allclose(lead, interval(ours - theirs, owners), rtol=1e-5)
    np.testing.assert_allclose(table.lead_by_step("a", "b", "a")[-1], lead, rtol=1e-5)
    assert len(table.lead_by_step("a", "b", "a")) == RECIPE.inner_steps + 1
    np.testing.assert_allclose(table.lead("b", "a", "a").mean, -lead.mean, rtol=1e-6)


def test_the_rival_is_the_best_of_the_others(table):
    for of in ("a", "b"):
        others = {"random", "a", "b"} - {of}
        best = max(table.mean(name, of).mean for name in others)
        assert table.rival(of) in others
        assert table.mean(table.rival(of), of).mean == best


def test_an_init_more_changes_no_other_cell(table):
    values = table.curves["a", "a"] + 1.0
    more = table.add("new", {"a": values})
    np.testing.assert_allclose(more.lead("new", "a", "a").mean, 1.0, atol=1e-9)
    assert more.mean("b", "a") == table.mean("b", "a")
    assert more.scores["b"].inits() == ["random", "a", "b"]
    assert ("new", "a") not in table.curves
    assert "new" not in table.scores["a"].inits()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, dict(context_fraction=0.25)])
def test_an_inits_own_loop(settings):
    learned, tasks = trained(**settings), pictures(0, 2)
    found = transfer.after(learned, tasks, (1, 2, 4))
    assert list(found) == [1, 2, 4]
    for steps, psnr in found.items():
        _, loss, adapt, _ = trained(**settings, inner_steps=steps).problem()
        alone = transfer.psnr(loss, adapt, learned.init, tasks)[:, -1]
        np.testing.assert_allclose(psnr, alone, atol=1e-4)


def test_learned_step_sizes_repeat_their_last():
    learned, tasks = trained(step_sizes="parameter_step"), pictures(0, 2)
    found = transfer.after(learned, tasks, [4])[4]
    by_optimizer = evaluate.curve(LOSS, learned.theta, tasks, optax.sgd(0.02), 4)[:, -1]
    np.testing.assert_allclose(found, decibel(by_optimizer), rtol=1e-4)


def test_owners_are_people_photographs_or_the_pictures_themselves():
    assert transfer.owners("faces", ["s33/1", "s33/2", "s34/1"]) == ["s33", "s33", "s34"]
    assert transfer.owners("photos", ["boat#0", "boat#1", "tree#0"]) == ["boat", "boat", "tree"]
    assert transfer.owners("text", ["test/0", "test/1"]) == ["test/0", "test/1"]


def test_lessons_are_counted_by_the_manifest():
    info = {"data": {"train": {"count": 20}, "test": {"count": 80}}}
    assert transfer.lessons(LEARNED._replace(info=info)) == 20


def test_work_goes_with_the_tasks_and_the_context():
    whole = transfer.work(LEARNED, pictures(0, 1))
    assert transfer.work(LEARNED, pictures(0, 3)) == 3 * whole
    assert transfer.work(trained(inner_steps=4), pictures(0, 1)) > 1.5 * whole
    assert transfer.work(trained(context_fraction=0.25), pictures(0, 1)) < whole


def test_a_regression_on_itself_explains_everything():
    real = {("a", "a"): 3.0, ("a", "b"): 1.0, ("b", "a"): 2.0}
    by = {cell: 5 - 2 * value for cell, value in real.items()}
    np.testing.assert_allclose(transfer.r_squared(by, real), 1)
    some = {("a", "a"): 0.0, ("a", "b"): 1.0}
    np.testing.assert_allclose(transfer.r_squared(some, real), 1)
    crossed = {("a", "a"): 0.0, ("a", "b"): 0.0, ("b", "a"): 1.0}  # right of the mean, no slope
    np.testing.assert_allclose(transfer.r_squared(crossed, real), 0, atol=1e-12)


def test_who_catches_up():
    curves = {("a", "a"): [[1, 5, 6]], ("b", "a"): [[0, 2, 5]], ("random", "a"): [[0, 1, 4]]}
    curves = {pair: np.array(values, float) for pair, values in curves.items()}
    assert transfer.caught_up(curves, 1) == [("b", "a")]
    assert transfer.caught_up(curves, 0) == [("b", "a"), ("random", "a")]
    assert transfer.caught_up(curves, 2) == []
