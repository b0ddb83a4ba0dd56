"""Test-time evaluation: curves, progress, tuning and intervals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from learnit_utils import evaluate, fields, inner, metrics, tasks
from learnit_utils.evaluate import ADAM, SGD, Problem
from learnit_utils.forward import pixels
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel

FIELD = fields.siren(width=16, depth=3, omega0=10.0, channels=1)
LOSS = tasks.regression(FIELD)


@pytest.fixture(scope="module")
def many():
    r = np.random.default_rng(0)
    waves = np.sin(3 * r.uniform(size=(4, 1, 1, 1)) + np.linspace(0, 6, 8)[None, :, None, None])
    return pixels.image_tasks((0.5 + 0.3 * np.broadcast_to(waves, (4, 8, 8, 1))).astype("f4"))


@pytest.fixture(scope="module")
def theta():
    return FIELD.init(jax.random.key(1))


def test_a_curve_holds_the_loss_before_between_and_after_the_steps(many, theta):
    curve = evaluate.curve(LOSS, theta, many, SGD, 4, lr=0.05)
    assert curve.shape == (4, 5)
    one_step = jax.jit(inner.sgd(LOSS, 1, 0.05))
    for i in range(4):
        now = theta
        for k in range(5):
            expected = metrics.psnr(FIELD(now, many.shared), many.each[i])
            assert decibel(curve[i, k]) == pytest.approx(float(expected), abs=1e-3)
            now, _ = one_step(now, many.take(i), jax.random.key(0))
    after = evaluate.trajectory(LOSS, inner.sgd(LOSS, 4, 0.05), theta, many)
    np.testing.assert_allclose(decibel(after), decibel(curve), atol=1e-3)


def test_the_last_column_of_a_trajectory_is_what_training_reports(many, theta):
    """With the key that the outer loss of a task draws by."""

    def noisy(theta, task, key):
        return LOSS(theta, task, key) * (1 + jax.random.uniform(key))

    adapt, key = inner.sgd(noisy, 1, 0.05), jax.random.key(3)
    found = evaluate.trajectory(noisy, adapt, theta, many, key)

    def reported(task, key):
        inside, outside = jax.random.split(key)
        return noisy(adapt(theta, task, inside)[0], task, outside)

    each = zip(range(4), jax.random.split(jax.random.clone(key), 4))
    expected = [jax.jit(reported)(many.take(i), k) for i, k in each]
    np.testing.assert_allclose(found[:, -1], expected, rtol=1e-5)
    np.testing.assert_array_equal(
        jax.random.key_data(evaluate.task_keys(many)),
        jax.random.key_data(jax.random.split(jax.random.key(0), 4)),
    )


@pytest.mark.slow
def test_a_step_size_is_a_factor_on_updates_of_unit_size_in_one_program(many, theta):
    """adam(1) times lr is adam(lr), and curves for many lr are compiled once."""
    traced = []

    def loss(theta, task, key):
        traced.append(task)
        return LOSS(theta, task, key)

    evaluate.curve(loss, theta, many, ADAM, 3, lr=1e-3)
    once = len(traced)
    for lr in (2e-3, 1e-2):
        found = evaluate.curve(loss, theta, many, ADAM, 3, lr=lr)
        whole = evaluate.curve(LOSS, theta, many, optax.adam(lr), 3)
        np.testing.assert_allclose(found, whole, rtol=1e-4)
        fitted = evaluate.fit(loss, theta, many.take(2), ADAM, 3, lr=lr)
        after = LOSS(fitted, many.take(2), jax.random.key(0))
        assert float(after) == pytest.approx(found[2, -1], rel=1e-4)
    assert len(traced) == 2 * once - 1  # `curve` once, `fit` once, without the loss at the end


def test_an_init_is_fitted_as_its_weights_are(many, theta):
    """Learned step sizes are not those of a fit."""
    rated = inner.with_step_sizes(theta, 2, 0.1, "layer_step")
    whole = evaluate.curve(LOSS, theta, many, SGD, 4, lr=0.05)
    problem = Problem(LOSS, LOSS)
    for init in (Init(theta), rated):
        found = evaluate.curve(LOSS, init, many, SGD, 4, lr=0.05)
        np.testing.assert_array_equal(found, whole)
        run = evaluate.progress(problem, init, many, SGD, 0.05, 4)
        np.testing.assert_allclose(run.held_out, whole, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_progress_is_the_curve_judged_by_another_loss(many, theta, every, optimizer):
    run = evaluate.progress(TENTH, theta, many, optimizer, 0.02, 4, every)
    curve = evaluate.curve(LOSS, theta, many, optimizer, 4, lr=0.02)
    seen, judged = decibel(run.loss), decibel(run.held_out)
    np.testing.assert_allclose(seen, decibel(curve[:, ::every]), atol=1e-2)
    np.testing.assert_allclose(judged, seen + 10, atol=1e-4)


TENTH = Problem(LOSS, lambda theta, task, key: LOSS(theta, task, key) / 10)


def test_progress_draws_a_measurement_once(many, theta):
    def loss(theta, task, key):
        return LOSS(theta, task, key) * jax.random.uniform(key)

    run = evaluate.progress(Problem(loss, LOSS), theta, many, SGD, 0.0, 4)
    seen, judged = decibel(run.loss), decibel(run.held_out)
    assert np.ptp(seen, axis=1).max() == 0
    assert np.ptp(seen[:, 0] - judged[:, 0]) > 0.1  # but each task has its own


@pytest.mark.slow
def test_progress_can_draw_anew_and_judge_by_several(many, theta):
    """Every step has its own draw, the same whatever blocks the steps come in."""

    def noisy(theta, task, key):
        return LOSS(theta, task, key) * (1 + jax.random.uniform(key))

    def judges(theta, task, key):
        return jnp.stack([LOSS(theta, task, key), LOSS(theta, task, key) / 10])

    def run(resample, every, seed=0):
        problem, key = Problem(noisy, judges, resample), jax.random.key(seed)
        found = evaluate.progress(problem, theta, many, SGD, 0.02, 4, every, key)
        return decibel(found.held_out)

    fine, coarse = run(True, 1), run(True, 2)
    assert fine.shape == (many.count, 5, 2)
    np.testing.assert_allclose(fine[..., 1], fine[..., 0] + 10, atol=1e-4)
    np.testing.assert_allclose(coarse, fine[:, ::2], atol=1e-4)
    assert np.abs(fine - run(False, 1))[:, 2:].max() > 1e-4
    assert np.abs(fine - run(True, 1, seed=1))[:, 1:].max() > 1e-4


@pytest.mark.parametrize(("steps", "every"), [(0, 1), (5, 2), (4, 0)])
def test_progress_needs_whole_blocks(many, theta, steps, every):
    told = f"steps = {steps}, every = {every}: expected steps, a multiple of every"
    with pytest.raises(ValueError, match=told):
        evaluate.progress(TENTH, theta, many, SGD, 0.1, steps, every)


# --- step sizes -------------------------------------------------------------------------------
@pytest.mark.slow
def test_tuning_finds_the_best_step_size_and_says_if_the_range_was_too_narrow(many, theta):
    lrs = [1e-4, 1e-3, 1e-2, 1e-1, 1e3]
    tuned = evaluate.tune(LOSS, theta, many, SGD, lrs, 3)
    curves = [evaluate.curve(LOSS, theta, many, optax.sgd(lr), 3) for lr in lrs]
    means = [decibel(curve[:, -1]).mean() for curve in curves]
    assert tuned.lr == lrs[int(np.nanargmax(means))]
    assert tuned.lrs == tuple(lrs)
    assert tuned.losses.shape == (5, 4, 4)
    np.testing.assert_allclose(decibel(tuned.losses[:4, :, -1]).mean(1), means[:4], atol=1e-3)
    assert not tuned.at_edge
    assert evaluate.tune(LOSS, theta, many, SGD, lrs[:2], 3).at_edge
    with pytest.raises(ValueError, match="lrs: expected at least one step size"):
        evaluate.tune(LOSS, theta, many, SGD, [], 3)


def cubic(theta, task, key):
    """Its fits diverge to nan."""
    return jnp.mean((theta**3 - task.each) ** 2)


def square(theta, task, key):
    """Overflows to inf after one step of 1e25 or more, and to nothing worse."""
    return jnp.mean((theta - task.each) ** 2)


def test_a_step_size_that_diverges_is_never_chosen(many):
    tuned = evaluate.tune(cubic, jnp.float32(2), many, SGD, [1e3, 1e-4], 4)
    assert tuned.lr == 1e-4
    assert np.isnan(tuned.losses[0, :, -1]).all()
    tuned = evaluate.tune(square, jnp.float32(2), many, SGD, [1e-4, 1e25], 1)
    assert tuned.lr == 1e-4
    assert np.isposinf(tuned.losses[1, :, -1]).all()


def test_tuning_says_so_if_every_step_size_diverges(many):
    with pytest.raises(ValueError, match="every step size diverges: 1000, 10000"):
        evaluate.tune(cubic, jnp.float32(2), many, SGD, [1e3, 1e4], 4)


def test_tuning_says_so_if_every_step_size_overflows(many):
    """To infinity, which is a number that can be compared."""
    assert np.isposinf(evaluate.curve(square, jnp.float32(2), many, SGD, 1, lr=1e25)[:, -1]).all()
    with pytest.raises(ValueError, match=r"every step size diverges: 1e\+25, 1e\+30"):
        evaluate.tune(square, jnp.float32(2), many, SGD, [1e25, 1e30], 1)


def test_a_perfect_fit_is_the_best_and_no_divergence(many):
    """An error of 0 is infinitely many decibels."""
    still = tasks.Tasks(jnp.zeros((3, 4)))
    tuned = evaluate.tune(square, jnp.float32(2), still, SGD, [0.1, 0.5, 0.3], 1)
    assert tuned.lr == 0.5  # one step of it is the minimum
    assert (tuned.losses[1, :, -1] == 0).all()
    assert evaluate.tune(square, jnp.float32(2), still, SGD, [0.5], 1).lr == 0.5


def test_steps_to_a_level_are_those_of_the_first_time():
    assert evaluate.steps_to([1, 5, 3, 6], 4) == 1
    assert evaluate.steps_to([1, 5, 3, 6], 1) == 0
    assert evaluate.steps_to([1, 5, 3, 6], 7) is None
    assert evaluate.steps_to([np.nan, np.nan], 0) is None


# --- intervals --------------------------------------------------------------------------------
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20), st.sampled_from([0.5, 0.95, 0.99]))
def test_intervals_are_students(values, level):
    mean, half, said = evaluate.interval(values, level=level)
    assert said == level
    low, high = stats.t.interval(
        level, len(values) - 1, np.mean(values), max(stats.sem(values), 1e-300)
    )
    np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-6, atol=1e-9)


def test_values_of_one_group_count_once():
    grouped = evaluate.interval([1, 3, 10, 20, 30], ["a", "a", "b", "b", "b"])
    assert grouped == evaluate.interval([2, 20])
    with pytest.raises(ValueError, match="at least 2 independent values, got 1"):
        evaluate.interval([1, 2, 3], ["a", "a", "a"])


def test_an_interval_reads_as_mean_and_half_width():
    assert str(evaluate.Interval(21.456, 0.1234)) == "21.46 ± 0.12"


def test_intervals_cover_the_truth_as_often_as_they_say():
    r = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        mean, half, level = evaluate.interval(r.normal(3.0, 2.0, size=6))
        assert level == 0.95
        hits += abs(mean - 3) <= half
    assert 930 <= hits <= 970


# --- directions -------------------------------------------------------------------------------
def test_directions_agree_with_themselves_where_curvature_vanishes():
    """On a linear loss all three directions are parallel and nothing is of second order."""

    def loss(theta, task, key):
        return jnp.sum(theta * task.each)

    few = tasks.Tasks(jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32))
    found = evaluate.agreement(loss, inner.sgd(loss, 3, 0.1))(jnp.ones(3), few)
    assert found["cosine_fomaml"] == pytest.approx(1, abs=1e-6)
    assert found["cosine_reptile"] == pytest.approx(1, abs=1e-6)
    assert found["missing"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("of", [lambda theta: theta, Init], ids=["weights", "Init"])
def test_directions_on_a_bowl_have_their_closed_forms(of):
    a, d, lr, steps = np.array([0.5, 3.0]), np.array([1.0, 2.0]), 0.2, 2

    def loss(theta, task, key):
        return 0.5 * jnp.sum(task.each * theta**2)

    bowl = tasks.Tasks(jnp.asarray(a[None], jnp.float32))
    init = of(jnp.asarray(d, jnp.float32))
    found = evaluate.agreement(loss, inner.sgd(loss, steps, lr))(init, bowl)
    s = 1 - lr * a
    m, f, r = a * s ** (2 * steps) * d, a * s**steps * d, (1 - s**steps) * d

    def cosine(u, v):
        return u @ v / np.linalg.norm(u) / np.linalg.norm(v)

    assert found["cosine_fomaml"] == pytest.approx(cosine(f, m), abs=1e-5)
    assert found["cosine_reptile"] == pytest.approx(cosine(r, m), abs=1e-5)
    assert found["missing"] == pytest.approx(np.linalg.norm(m - f) / np.linalg.norm(m), abs=1e-5)
