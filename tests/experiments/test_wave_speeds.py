"""Waves and kernels: lengths, kernels whose speeds are known, parts that add up."""

import jax
import numpy as np
import pytest

from learnit_utils import evaluate, fields, ntk, tasks
from learnit_utils.experiments import wave_speeds
from learnit_utils.forward import pixels
from learnit_utils.metrics import decibel

SIDE, LR = 16, 0.3
POINTS = np.asarray(pixels.grid(SIDE).reshape(-1, 2))
CYCLES = np.arange(SIDE // 2)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("k", [0, 1, 5])
def test_a_wave_has_length_one_and_no_mean(k, channels):
    found = wave_speeds.waves(POINTS, k, channels)
    assert found.shape == (8, SIDE**2 * channels)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    if k:
        np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-12)
    else:
        np.testing.assert_allclose(found, 1 / np.sqrt(SIDE**2 * channels))


def test_a_wave_has_the_frequency_asked_for():
    power = wave_speeds.ring_power(wave_speeds.waves(POINTS, 4), (SIDE, SIDE, 1))
    assert power.argmax() == 4
    assert power[3:6].sum() > 0.8 * power.sum()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_multiple_of_the_identity_has_one_speed(channels):
    count = SIDE**2 * channels
    kernel = 200.0 * np.eye(count)
    s = 2 * LR * 200 / count
    found = wave_speeds.wave_speeds(kernel, POINTS, CYCLES, LR)
    np.testing.assert_array_equal(found.cycles, CYCLES)
    np.testing.assert_allclose(found.speed, s)
    np.testing.assert_allclose(found.left, (1 - s) ** 4)
    three = wave_speeds.wave_speeds(kernel, POINTS, CYCLES, LR, steps=3)
    np.testing.assert_allclose(three.left, (1 - s) ** 6)


def test_the_speed_of_what_hardly_moves_is_exact_in_single_precision():
    kernel = (1e-5 * np.eye(SIDE**2)).astype(np.float32)
    found = wave_speeds.wave_speeds(kernel, POINTS, [0, 3], LR)
    np.testing.assert_allclose(found.speed, 2 * LR * 1e-5 / SIDE**2, rtol=1e-5)
    assert found.left.dtype == np.float32


def test_a_kernel_of_the_constant_moves_nothing_else():
    kernel = np.ones((SIDE**2, SIDE**2)) / (2 * LR)  # s(0) = 1
    found = wave_speeds.wave_speeds(kernel, POINTS, CYCLES, LR)
    np.testing.assert_allclose(found.speed, CYCLES == 0, atol=1e-9)
    np.testing.assert_allclose(found.left, CYCLES > 0, atol=1e-9)


def test_of_two_kernels_with_the_same_speed_the_uneven_one_leaves_its_variance(rng):
    """With mean speed 1 all that one step leaves is the variance over the eigenvectors."""
    count = SIDE**2
    speeds = rng.uniform(0.5, 1.5, count)
    kernel = np.diag(speeds) * count / (2 * LR)
    found = wave_speeds.wave_speeds(kernel, POINTS, [3], LR, steps=1)
    weight = wave_speeds.waves(POINTS, 3) ** 2
    mean = weight @ speeds
    variance = (weight * (speeds - mean[:, None]) ** 2).sum(axis=1)
    np.testing.assert_allclose(found.left[0], ((1 - mean) ** 2 + variance).mean())


def test_speeds_are_those_of_the_prediction():
    """|M^2 v|^2 is what `ntk.linearised_curve` leaves of a wave."""
    field = fields.siren(16, 3, 20.0, 1)
    kernel = np.asarray(ntk.gram(field, field.init(jax.random.key(0)), POINTS))
    found = wave_speeds.wave_speeds(kernel, POINTS, [2], 1e-3)
    wave = wave_speeds.waves(POINTS, 2)
    left = ntk.linearised_curve(kernel, wave, 1e-3, 2)[:, -1] * SIDE**2
    np.testing.assert_allclose(found.left[0], left.mean(), rtol=1e-3)


def test_rings_add_up_to_the_mean_square(rng):
    signals = rng.normal(size=(3, SIDE * SIDE * 3))
    power = wave_speeds.ring_power(signals, (SIDE, SIDE, 3))
    np.testing.assert_allclose(power.sum(), np.mean(signals**2))


def test_pictures_of_the_grids_size_stay_as_they_are(rng):
    pictures = rng.random((2, SIDE * SIDE, 3)).astype(np.float32)
    same = wave_speeds.resampled(pictures, SIDE)
    np.testing.assert_array_equal(same, pictures.reshape(2, -1).astype(np.float64))
    assert wave_speeds.resampled(pictures, 8).shape == (2, 8 * 8 * 3)
    np.testing.assert_allclose(wave_speeds.resampled(np.full_like(pictures, 0.3), 8), 0.3, 1e-5)


def test_an_account_adds_up(rng):
    shape = (SIDE, SIDE, 1)
    wave = wave_speeds.waves(POINTS, 6)[:1]
    errors = 0.3 + np.sqrt(SIDE**2) * 0.1 * wave  # energy 0.09 in the constant, 0.01 in the wave
    losses = np.array([[0.1, 0.01, 0.001]])
    found = wave_speeds.account(errors, losses, shape, above=4)
    np.testing.assert_allclose(found.itself, decibel(0.1))
    np.testing.assert_allclose(found.captured, 20)
    np.testing.assert_allclose(found.itself + found.captured, found.predicted)
    np.testing.assert_allclose(found.constant, 0.9)
    np.testing.assert_allclose(found.fine, 0.1, rtol=0.05)
    assert wave_speeds.account(errors, losses, shape, above=SIDE).fine == 0


def test_small_steps_fall_as_the_kernel_says(rng):
    field = fields.siren(16, 3, 20.0, 1)
    loss, theta = tasks.regression(field), field.init(jax.random.key(0))
    task = pixels.image_tasks(rng.random((1, SIDE, SIDE, 1)).astype(np.float32)).take(0)
    kernel = np.asarray(ntk.gram(field, theta, POINTS))
    small, large = (
        wave_speeds.small_step_gap(field, loss, theta, kernel, task, lr, 2) for lr in (1e-4, 1e-2)
    )
    assert small < 0.01
    assert small < large


def test_a_kernel_does_not_turn_in_a_step_of_no_size(rng):
    field = fields.siren(16, 3, 20.0, 1)
    loss, theta = tasks.regression(field), field.init(jax.random.key(0))
    pictures = pixels.image_tasks(rng.random((2, SIDE, SIDE, 1)).astype(np.float32))
    towards = {"one": pictures.take(0), "other": pictures.take(1)}
    points = pictures.shared[::3]
    still = wave_speeds.turning(field, loss, theta, towards, 0.0, points)
    assert set(still) == {"one", "other"}
    np.testing.assert_allclose(list(still.values()), 0, atol=1e-6)
    moved = wave_speeds.turning(field, loss, theta, towards, 1e-2, points)
    after = evaluate.fit(loss, theta, towards["one"], evaluate.SGD, 1, lr=1e-2)
    kernels = (ntk.gram(field, t, points) for t in (theta, after))
    np.testing.assert_allclose(moved["one"], ntk.distance(*kernels), rtol=1e-6)
    assert moved["one"] > 0
