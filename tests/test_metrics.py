"""Metrics against scikit-image, and the laws they obey."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from learnit_utils import metrics
from learnit_utils.signals import photos


def pair(seed, shape, noise):
    rng = np.random.default_rng(seed)
    a = rng.random(shape)
    b = np.clip(a + noise * rng.standard_normal(shape), 0, 1)
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(32, 32), (17, 40), (24, 31, 3)])
@pytest.mark.parametrize("peak", [1.0, 2.0])
def test_psnr_and_ssim_equal_scikit_image(seed, shape, peak):
    a, b = pair(seed, shape, 0.2)
    ours = float(metrics.psnr(jnp.asarray(a), jnp.asarray(b), peak))
    theirs = peak_signal_noise_ratio(a.astype(float), b.astype(float), data_range=peak)
    assert abs(ours - theirs) < 1e-4  # dB; 1e-5 relative
    assert abs(ours / theirs - 1) < 1e-5
    ours = float(metrics.ssim(jnp.asarray(a), jnp.asarray(b), peak))
    theirs = structural_similarity(
        a.astype(float),
        b.astype(float),
        data_range=peak,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1 if len(shape) == 3 else None,
    )
    assert abs(ours - theirs) < 1e-5


def test_ssim_of_a_photograph_and_its_blur():
    u = photos.load("test", size=64).arrays[0]
    v = (u + np.roll(u, 1, 0) + np.roll(u, 1, 1)) / 3
    assert metrics.ssim(jnp.asarray(u), jnp.asarray(u)) == pytest.approx(1, abs=1e-6)
    assert 0.3 < metrics.ssim(jnp.asarray(u), jnp.asarray(v)) < 0.99


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.01, 0.5))
def test_metrics_are_symmetric_and_psnr_scales(seed, noise):
    a, b = (jnp.asarray(u) for u in pair(seed, (16, 16), noise))
    assert metrics.mse(a, b) == metrics.mse(b, a)
    assert metrics.ssim(a, b) == pytest.approx(float(metrics.ssim(b, a)), abs=1e-6)
    assert metrics.psnr(3 * a, 3 * b, 3.0) == pytest.approx(float(metrics.psnr(a, b)), abs=1e-3)


def test_psnr_of_equal_images_is_infinite():
    assert metrics.psnr(jnp.ones((4, 4)), jnp.ones((4, 4))) == np.inf


# --- decibels of errors -----------------------------------------------------------------------
@pytest.mark.parametrize("peak", [1.0, 2.0])
def test_decibels_of_errors_are_the_psnr(peak):
    pictures = [pair(seed, (8, 8), 0.2) for seed in range(6)]
    errors = np.array([metrics.mse(a, b) for a, b in pictures]).reshape(2, 3)
    found = metrics.decibel(errors, peak)
    assert found.shape == (2, 3)
    assert found.dtype == np.float64
    expected = [metrics.psnr(jnp.asarray(a), jnp.asarray(b), peak) for a, b in pictures]
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-4)


def test_decibels_of_no_error_are_infinite_and_of_a_diverged_one_not_a_number():
    found = metrics.decibel(jnp.array([0.0, 1.0, 0.01, jnp.inf, jnp.nan]))
    np.testing.assert_allclose(found, [np.inf, 0, 20, -np.inf, np.nan], rtol=1e-6, equal_nan=True)
    assert metrics.decibel(0) == np.inf
    assert np.isnan(metrics.decibel(np.nan))


@given(st.floats(1e-30, 1e30))
def test_decibels_have_their_inverse(error):
    """Also where float32 would give 0 or infinity in between."""
    assert 10 ** (-float(metrics.decibel(error)) / 10) == pytest.approx(error, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(32, 32), (31, 48), (20, 20, 3)])
def test_rings_of_the_spectrum_add_up_to_the_mean_square(seed, shape):
    u = np.random.default_rng(seed).standard_normal(shape)
    frequency, power = metrics.radial_spectrum(u)
    assert len(frequency) == len(power)
    assert power.sum() == pytest.approx(np.mean(u**2), rel=1e-12)
    assert power[1:].sum() == pytest.approx(
        np.mean(np.var(u.reshape(-1, u.shape[2]) if u.ndim == 3 else u.ravel(), axis=0)), rel=1e-12
    )


@pytest.mark.parametrize("k", [1, 3, 7])
def test_a_wave_sits_in_its_ring(k):
    t = np.arange(64) / 64
    frequency, power = metrics.radial_spectrum(np.broadcast_to(np.cos(2 * np.pi * k * t), (64, 64)))
    assert frequency[np.argmax(power)] == k
    assert power[k] == pytest.approx(0.5)


@pytest.mark.parametrize("axis", [0, 1])
def test_rings_count_cycles_per_longer_side(axis):
    """Of a picture of 32 x 64 square pixels, four cycles down are eight per longer side."""
    t = np.arange(64) / 64  # in longer sides
    r, c = np.meshgrid(t[:32], t, indexing="ij")
    _, power = metrics.radial_spectrum(np.cos(2 * np.pi * 8 * (r, c)[axis]))
    assert np.argmax(power) == 8


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.mse(jnp.ones((2, 3)), jnp.ones((3, 2))),
        lambda: metrics.psnr(jnp.ones(3), jnp.ones((1, 3))),
        lambda: metrics.ssim(jnp.ones((8, 8)), jnp.ones((8, 8))),
        lambda: metrics.ssim(jnp.ones(64), jnp.ones(64)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match="shape"):
        call()


@pytest.mark.parametrize("metric", [metrics.mse, metrics.psnr, metrics.ssim])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, bool])
def test_whole_numbers_are_refused_before_they_wrap_around(metric, dtype):
    """Of 8 bits, 10 - 200 is 66; what is compared are values, as of u / 255."""
    u, v = np.full((12, 12), 10).astype(dtype), np.full((12, 12), 200).astype(dtype)
    told = rf"^values of type {np.dtype(dtype)}: expected floating point, as of u / 255$"
    for a, b in ((u, v), (jnp.asarray(u), jnp.asarray(v)), (u, v / np.float32(255))):
        with pytest.raises(ValueError, match=told):
            metric(a, b)


@given(st.integers(0, 255), st.integers(0, 255))
def test_the_error_of_pictures_of_8_bits_is_that_of_their_values(a, b):
    u, v = (np.full((2, 2), x, np.uint8) / np.float32(255) for x in (a, b))
    assert float(metrics.mse(u, v)) == pytest.approx(((a - b) / 255) ** 2, rel=1e-4, abs=1e-9)
