"""What weights cost, how far rounding moves them, and leads between curves."""

import jax
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.experiments import rate_distortion
from learnit_utils.forward import pixels
from learnit_utils.metrics import decibel

FIELD = fields.siren(8, 3, channels=3)


@pytest.fixture
def theta():
    return FIELD.init(jax.random.key(0))


def test_bits_are_counted(theta):
    entries = (2 * 8 + 8) + (8 * 8 + 8) + (8 * 3 + 3)
    assert rate_distortion.half_floats(theta).bits == 16 * entries
    assert rate_distortion.on_levels(theta, 5).bits == 5 * entries + 6 * 64


def test_half_floats_are_off_by_their_precision(theta):
    for a, b in zip(jax.tree.leaves(theta), jax.tree.leaves(rate_distortion.half_floats(theta)[0])):
        np.testing.assert_allclose(a, b, rtol=2**-11, atol=1e-7)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_levels_are_off_by_half_a_step_and_hold_their_ends(theta, bits):
    coded = rate_distortion.on_levels(theta, bits).theta
    for a, b in zip(jax.tree.leaves(theta), jax.tree.leaves(coded)):
        step = float(a.max() - a.min()) / (2**bits - 1)
        assert np.abs(a - b).max() <= 0.5 * step + 1e-6
        assert len(np.unique(b)) <= 2**bits
        np.testing.assert_allclose([b.min(), b.max()], [a.min(), a.max()], atol=1e-6)


def test_rounding_again_changes_nothing(theta):
    once = rate_distortion.on_levels(theta, 4).theta
    again = rate_distortion.on_levels(once, 4).theta
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), once, again)


def test_a_network_that_is_the_picture_up_to_rounding(theta):
    x = pixels.grid(4).reshape(-1, 2)
    coded = rate_distortion.half_floats(theta)
    y = np.asarray(FIELD(coded.theta, x)) + 0.1
    rate, psnr = rate_distortion.network_point(FIELD, coded, x, y)
    assert rate == coded.bits / 16
    assert psnr == pytest.approx(20.0, abs=1e-3)


def test_files_cost_more_and_err_less_with_quality(rng):
    smooth = np.linspace(0, 1, 32)[:, None, None] * np.ones((32, 32, 3))
    picture = np.clip(smooth + rng.normal(0, 0.05, smooth.shape), 0, 1).astype(np.float32)
    points = rate_distortion.file_points(picture, "JPEG", (5, 50, 95))
    rates, psnr = np.array(points).T
    assert np.all(np.diff(rates) > 0)
    assert np.all(np.diff(psnr) > 0)
    assert psnr[-1] > decibel(0.05**2)


def test_a_curve_is_sorted_by_rate():
    np.testing.assert_array_equal(rate_distortion.curve([(2, 30), (1, 20)]), [[1, 2], [20, 30]])


def test_a_lead_is_taken_where_both_have_rates():
    ours = np.array([[1.0, 3.0], [20.0, 40.0]])
    other = np.array([[2.0, 4.0], [25.0, 35.0]])
    rates, lead = rate_distortion.lead(ours, other, 3)
    np.testing.assert_allclose(rates, [2.0, 2.5, 3.0])
    np.testing.assert_allclose(lead, [5.0, 7.5, 10.0])
    with pytest.raises(ValueError, match="expected some in common"):
        rate_distortion.lead(ours, other + np.array([[5.0], [0.0]]))
