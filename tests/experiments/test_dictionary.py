"""The kernel as a dictionary: energies add up, speeds are those of descent, stages agree."""

import json
from functools import partial

import jax
import numpy as np
import pytest

from learnit_utils import fields, ntk
from learnit_utils.experiments import dictionary
from learnit_utils.experiments.seeds import drawn
from learnit_utils.forward import pixels
from learnit_utils.metrics import decibel
from learnit_utils.ntk import Eigenpairs

SIDE = 8
GRID = pixels.grid(SIDE).reshape(-1, 2)
FIELD = fields.siren(16, 3, 20.0, 1)


@pytest.fixture(scope="module")
def pairs():
    return ntk.eigenpairs(ntk.gram(FIELD, FIELD.init(jax.random.key(0)), GRID), SIDE**2)


def diagonal(values):
    n = len(values)
    return Eigenpairs(np.array(values, float), np.eye(n), np.zeros(n))


def test_energy_is_counted_in_eigenvectors_of_a_tenth_of_the_largest():
    signal = np.array([[3.0, -3.0, 1.0, -1.0]])  # of mean zero
    found = dictionary.held(diagonal([10.0, 2.0, 1.0, 0.5]), signal)
    assert found.count == 3
    np.testing.assert_allclose(found.inside, 19 / 20)
    np.testing.assert_allclose(found.in_10, 1)


def test_parts_of_what_is_missing_add_up_to_one(pairs, rng):
    found = dictionary.missing(pairs, rng.normal(size=(3, SIDE**2)), 1e-2)
    np.testing.assert_allclose(found.share.sum(), 1, rtol=1e-5)
    assert 0 <= found.near_one <= 1


def test_what_lies_at_one_speed_is_found_there():
    n = 4
    lr = n / 2  # so that s = eigenvalue
    found = dictionary.missing(diagonal([2.0, 1.0, 0.2, 0.1]), np.array([[0.0, 1.0, 0.0, 0.0]]), lr)
    assert found.median == 1.0
    assert found.near_one == 1.0
    np.testing.assert_allclose(found.speeds, [2.0, 1.0, 0.2, 0.1])


def test_a_step_leaves_one_minus_s_of_an_eigenvector(pairs):
    lr = 1e-3
    v = pairs.vectors[:, 2].astype(np.float64)
    left = ntk.linearised_curve(pairs, v, lr, 1)[-1] * len(v)
    np.testing.assert_allclose(left, (1 - dictionary.speeds(pairs, lr)[2]) ** 2, rtol=1e-5)


def test_stages_of_a_run_that_stands_still(rng):
    theta = FIELD.init(jax.random.key(0))
    targets = pixels.image_tasks(rng.random((2, SIDE, SIDE, 1)).astype(np.float32))
    found = dictionary.stages(FIELD, {0: theta, 5: theta}, targets, 1e-4)
    assert found[0] == found[5]
    stage = found[0]
    assert abs(stage.from_first) < 1e-6
    assert abs(stage.from_last) < 1e-6
    assert stage.trace == 1.0
    assert stage.flat >= 1
    assert stage.mean <= stage.largest * (1 + 1e-5)
    assert abs(stage.real - stage.predicted) < 1e-2  # small steps: the kernel is all there is


def test_predictions_are_those_of_the_linear_model(pairs, rng):
    theta = FIELD.init(jax.random.key(0))
    targets = pixels.image_tasks(rng.random((2, SIDE, SIDE, 1)).astype(np.float32))
    stage = dictionary.stages(FIELD, {0: theta}, targets, 1e-2)[0]
    r = np.asarray(FIELD(theta, GRID)[None] - targets.each).reshape(2, -1)
    told = decibel(ntk.linearised_curve(pairs, r, 1e-2, 2)[:, -1]).mean()
    np.testing.assert_allclose(stage.predicted, told, atol=1e-3)


def test_the_matrix_free_spectrum_is_that_of_the_matrix(pairs):
    theta = FIELD.init(jax.random.key(0))
    found = dictionary.spectrum(FIELD, theta, SIDE, 3, 0)
    np.testing.assert_allclose(found["values"], pairs.values[:3] / SIDE**2, rtol=1e-2)
    np.testing.assert_allclose(found["trace"], pairs.values.sum() / SIDE**2, rtol=1e-3)


# --- as pieces ----------------------------------------------------------------------------------
INIT = partial(drawn, FIELD, jax.random.key(0))  # a function that makes weights


def test_means_of_what_is_held_are_those_of_the_eigenpairs(pairs, rng):
    signals = rng.normal(size=(3, SIDE**2))
    found = dictionary.held_means(FIELD, INIT, GRID, signals, SIDE**2 - 1)
    count, *energies = dictionary.held(pairs, signals)
    assert found[0] == count
    np.testing.assert_allclose(found[1:], [e.mean() for e in energies], rtol=1e-3)


def test_stages_as_json_are_the_stages(rng):
    targets = pixels.image_tasks(rng.random((2, SIDE, SIDE, 1)).astype(np.float32))
    other = FIELD.init(jax.random.key(1))
    told = dictionary.stages_json(FIELD, {0: INIT, 7: other}, targets, 1e-3)
    assert json.loads(json.dumps(told)) == told
    theta = {0: FIELD.init(jax.random.key(0)), 7: other}
    plain = dictionary.stages(FIELD, theta, targets, 1e-3)
    np.testing.assert_allclose(told, [list(stage) for stage in plain.values()], rtol=1e-6)


@pytest.mark.slow
def test_real_fits_begin_at_the_init_and_follow_the_kernel_in_small_steps(pairs, rng):
    targets = pixels.image_tasks(rng.random((2, SIDE, SIDE, 1)).astype(np.float32))
    lr = 1e-3
    found = dictionary.real_fits(FIELD, INIT, targets, lr, 3, [lr, 2 * lr])
    r = np.asarray(FIELD(INIT(), GRID)[None] - targets.each).reshape(2, -1)
    by_law = decibel(ntk.linearised_curve(pairs, r, lr, 3))
    np.testing.assert_allclose(found["along"], by_law, atol=1e-2)
    np.testing.assert_allclose(found["tried"][0], by_law[:, 2].mean(), atol=1e-2)
    assert 0 <= found["turned"] < 1e-3
    still = dictionary.real_fits(FIELD, INIT, targets, 0.0, 3, [lr])
    assert abs(still["turned"]) < 1e-6
    np.testing.assert_allclose(np.ptp(still["along"], axis=1), 0, atol=1e-4)
