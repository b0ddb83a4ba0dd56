"""Test-time evaluation: curves, tuning, intervals and the paper's other starts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from learnit_utils import evaluate, fields, inner, metrics, tasks
from learnit_utils.signals.base import dataset

FIELD = fields.siren(width=16, depth=3, omega0=10.0, channels=1)
LOSS = tasks.regression(FIELD)


@pytest.fixture(scope="module")
def many():
    r = np.random.default_rng(0)
    waves = np.sin(3 * r.uniform(size=(4, 1, 1, 1)) + np.linspace(0, 6, 8)[None, :, None, None])
    return tasks.images(
        dataset((0.5 + 0.3 * np.broadcast_to(waves, (4, 8, 8, 1))).astype("f4"), "abcd")
    )


@pytest.fixture(scope="module")
def theta():
    return FIELD.init(jax.random.key(1))


def test_a_curve_holds_the_psnr_before_between_and_after_the_steps(many, theta):
    curve = evaluate.curve(LOSS, theta, many, optax.sgd(0.05), 4)
    assert curve.shape == (4, 5)
    for k in range(5):
        adapt = inner.sgd(LOSS, k, 0.05)
        for i in range(4):
            end, _ = adapt(theta, many.take(i), jax.random.key(0))
            expected = metrics.psnr(FIELD(end, many.shared), many.each[i])
            assert curve[i, k] == pytest.approx(float(expected), abs=1e-3)
    assert evaluate.psnr_after(LOSS, adapt, theta, many) == pytest.approx(
        curve[:, 4].mean(), abs=1e-3
    )


@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("optimizer", [optax.sgd, optax.adam])
def test_progress_is_the_curve_judged_by_another_loss(many, theta, every, optimizer):
    def judge(theta, task, key):
        return LOSS(theta, task, key) / 10

    run = evaluate.progress(LOSS, judge, theta, many, optimizer, 0.02, 4, every)
    curve = evaluate.curve(LOSS, theta, many, optimizer(0.02), 4)
    np.testing.assert_allclose(run.seen, curve[:, ::every], atol=1e-2)
    np.testing.assert_allclose(run.judged, run.seen + 10, atol=1e-4)


def test_progress_draws_a_measurement_once(many, theta):
    def loss(theta, task, key):
        return LOSS(theta, task, key) * jax.random.uniform(key)

    run = evaluate.progress(loss, LOSS, theta, many, optax.sgd, 0.0, 4)
    assert np.ptp(run.seen, axis=1).max() == 0
    assert np.ptp(run.seen[:, 0] - run.judged[:, 0]) > 0.1  # but each task has its own


def test_progress_can_draw_anew_and_judge_by_several(many, theta):
    """Every step has its own draw, the same whatever blocks the steps come in."""

    def noisy(theta, task, key):
        return LOSS(theta, task, key) * (1 + jax.random.uniform(key))

    def judges(theta, task, key):
        return jnp.stack([LOSS(theta, task, key), LOSS(theta, task, key) / 10])

    def run(fresh, every, seed=0):
        how = (optax.sgd, 0.02, 4, every)
        return evaluate.progress(noisy, judges, theta, many, *how, fresh=fresh, seed=seed).judged

    fine, coarse = run(True, 1), run(True, 2)
    assert fine.shape == (many.count, 5, 2)
    np.testing.assert_allclose(fine[..., 1], fine[..., 0] + 10, atol=1e-4)
    np.testing.assert_allclose(coarse, fine[:, ::2], atol=1e-4)
    assert np.abs(fine - run(False, 1))[:, 2:].max() > 1e-4
    assert np.abs(fine - run(True, 1, seed=1))[:, 1:].max() > 1e-4


@pytest.mark.parametrize(("steps", "every"), [(0, 1), (5, 2), (4, 0)])
def test_progress_needs_whole_blocks(many, theta, steps, every):
    with pytest.raises(ValueError, match=f"steps = {steps}, every = {every}: a multiple"):
        evaluate.progress(LOSS, LOSS, theta, many, optax.sgd, 0.1, steps, every)


def test_tuning_finds_the_best_step_size_and_says_if_the_range_was_too_narrow(many, theta):
    rates = [1e-4, 1e-3, 1e-2, 1e-1, 1e3]
    tuned = evaluate.tune(LOSS, theta, many, optax.sgd, rates, 3)
    means = [evaluate.curve(LOSS, theta, many, optax.sgd(r), 3)[:, -1].mean() for r in rates]
    assert tuned.rate == rates[int(np.nanargmax(means))]
    np.testing.assert_allclose(tuned.psnr[:4, :, -1].mean(1), means[:4], atol=1e-3)
    assert not tuned.at_edge
    assert evaluate.tune(LOSS, theta, many, optax.sgd, rates[:2], 3).at_edge
    with pytest.raises(ValueError, match="at least one step size"):
        evaluate.tune(LOSS, theta, many, optax.sgd, [], 3)


def test_a_step_size_that_diverges_is_never_chosen(many):
    def loss(theta, task, key):
        return jnp.mean((theta**3 - task.each) ** 2)

    tuned = evaluate.tune(loss, jnp.float32(2), many, optax.sgd, [1e3, 1e-4], 4)
    assert tuned.rate == 1e-4
    assert not np.isfinite(tuned.psnr[0]).all()


def test_a_comparison_tunes_every_start_for_every_optimiser(many, theta):
    starts = {"one": [theta, theta], "other": [FIELD.init(jax.random.key(2)) for _ in range(2)]}
    optimizers = {"SGD": (optax.sgd, [1e-3, 1e-1]), "Adam": (optax.adam, [1e-3, 1e-2])}
    cases = [many.take(slice(0, 2)), many.take(slice(2, 4))]
    table = evaluate.compare(LOSS, starts, optimizers, many, cases, 2)
    assert set(table) == {(n, o) for n in starts for o in optimizers}
    for (name, o), cell in table.items():
        make, rates = optimizers[o]
        tuned = evaluate.tune(LOSS, starts[name][0], many, make, rates, 2)
        assert cell.tuned.rate == tuned.rate
        after = [
            evaluate.curve(LOSS, t, c, make(tuned.rate), 2)[:, -1].mean()
            for t, c in zip(starts[name], cases)
        ]
        np.testing.assert_allclose(cell.psnr, evaluate.interval(after), atol=1e-3)


def test_steps_to_a_level_are_those_of_the_first_time():
    assert evaluate.steps_to([1, 5, 3, 6], 4) == 1
    assert evaluate.steps_to([1, 5, 3, 6], 1) == 0
    assert evaluate.steps_to([1, 5, 3, 6], 7) is None
    assert evaluate.steps_to([np.nan, np.nan], 0) is None


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20))
def test_intervals_are_students(values):
    mean, half = evaluate.interval(values)
    low, high = stats.t.interval(
        0.95, len(values) - 1, np.mean(values), max(stats.sem(values), 1e-300)
    )
    np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-6, atol=1e-9)


def test_values_of_one_group_count_once():
    grouped = evaluate.interval([1, 3, 10, 20, 30], ["a", "a", "b", "b", "b"])
    assert grouped == evaluate.interval([2, 20])
    with pytest.raises(ValueError, match="at least 2 independent values, got 1"):
        evaluate.interval([1, 2, 3], ["a", "a", "a"])


def test_intervals_cover_the_truth_as_often_as_they_say():
    r = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        mean, half = evaluate.interval(r.normal(3.0, 2.0, size=6))
        hits += abs(mean - 3) <= half
    assert 930 <= hits <= 970


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_start_outputs_the_mean_signal(many, seed):
    start = evaluate.mean_start(FIELD, jax.random.key(seed), LOSS, many, optax.adam(1e-2), 300)
    assert metrics.psnr(FIELD(start, many.shared), many.each.mean(0)) > 35


@pytest.mark.parametrize("seed", [0, 1])
def test_the_matched_start_outputs_the_same_with_other_weights(many, theta, seed):
    x, adam = many.shared, optax.adam(1e-2)
    start = evaluate.matched_start(FIELD, jax.random.key(seed), LOSS, theta, x, adam, 300)
    assert metrics.psnr(FIELD(start, x), FIELD(theta, x)) > 35
    assert np.abs(start[1].w - theta[1].w).max() > 0.01


def test_the_shuffled_start_has_the_same_weights_elsewhere(theta):
    shuffled = evaluate.shuffled_start(jax.random.key(0), theta)
    for a, b in zip(jax.tree.leaves(theta), jax.tree.leaves(shuffled)):
        assert a.shape == b.shape
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))
    assert not np.array_equal(theta[1].w, shuffled[1].w)
    other = evaluate.shuffled_start(jax.random.key(1), theta)
    assert not np.array_equal(other[1].w, shuffled[1].w)


def test_directions_agree_with_themselves_where_curvature_vanishes():
    """On a linear loss all three directions are parallel and nothing is of second order."""

    def loss(theta, task, key):
        return jnp.sum(theta * task.each)

    few = tasks.Tasks(jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32))
    found = evaluate.agreement(loss, inner.sgd(loss, 3, 0.1))(jnp.ones(3), few)
    assert found["cosine_fomaml"] == pytest.approx(1, abs=1e-6)
    assert found["cosine_reptile"] == pytest.approx(1, abs=1e-6)
    assert found["missing"] == pytest.approx(0, abs=1e-6)


def test_directions_on_a_bowl_have_their_closed_forms():
    a, d, lr, steps = np.array([0.5, 3.0]), np.array([1.0, 2.0]), 0.2, 2

    def loss(theta, task, key):
        return 0.5 * jnp.sum(task.each * theta**2)

    bowl = tasks.Tasks(jnp.asarray(a[None], jnp.float32))
    start = jnp.asarray(d, jnp.float32)
    found = evaluate.agreement(loss, inner.sgd(loss, steps, lr))(start, bowl)
    s = 1 - lr * a
    m, f, r = a * s ** (2 * steps) * d, a * s**steps * d, (1 - s**steps) * d

    def cosine(u, v):
        return u @ v / np.linalg.norm(u) / np.linalg.norm(v)

    assert found["cosine_fomaml"] == pytest.approx(cosine(f, m), abs=1e-5)
    assert found["cosine_reptile"] == pytest.approx(cosine(r, m), abs=1e-5)
    assert found["missing"] == pytest.approx(np.linalg.norm(m - f) / np.linalg.norm(m), abs=1e-5)


def test_tuning_says_so_if_every_step_size_diverges(many):
    def loss(theta, task, key):
        return jnp.mean((theta**3 - task.each) ** 2)

    with pytest.raises(ValueError, match="every step size diverges: 1000, 10000"):
        evaluate.tune(loss, jnp.float32(2), many, optax.sgd, [1e3, 1e4], 4)
