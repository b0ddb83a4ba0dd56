"""Pictures made into other pictures: cropped, resampled, averaged, sent through a file format."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnit_utils import metrics
from learnit_utils.forward import pixels
from learnit_utils.signals import photos, transforms

SEEDS = st.integers(0, 2**31 - 1)


# --- bytes ------------------------------------------------------------------------------------
def test_bytes_fill_the_unit_interval():
    every = transforms.unit(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert every.shape == (16, 16)
    assert every.dtype == np.float32
    np.testing.assert_allclose(every.ravel(), np.linspace(0, 1, 256), atol=1e-7)
    back = np.round(255 * every).astype(np.uint8)
    np.testing.assert_array_equal(back.ravel(), np.arange(256))


# --- squares ----------------------------------------------------------------------------------
def test_the_crop_is_the_central_square():
    u = np.zeros((10, 30, 3), np.float32)
    u[:, 10:20] = 1
    assert (transforms.square(u, 10) == 1).all()
    assert (transforms.square(u.swapaxes(0, 1), 10) == 1).all()
    assert transforms.square(u, 7, gray=True).shape == (7, 7, 1)


@given(st.integers(4, 20), st.integers(4, 20), SEEDS)
def test_at_its_own_size_a_square_is_a_part_of_the_picture(high, wide, seed):
    u = np.random.default_rng(seed).random((high, wide, 3)).astype(np.float32)
    n = min(high, wide)
    v = transforms.square(u, n)
    top, left = (high - n) // 2, (wide - n) // 2
    np.testing.assert_array_equal(v, u[top : top + n, left : left + n])
    gray = transforms.square(u, n, gray=True)
    np.testing.assert_allclose(gray[..., 0], v @ np.float32([0.299, 0.587, 0.114]), atol=1e-6)


# --- resampling -------------------------------------------------------------------------------
def test_resizing_keeps_the_mean_and_a_constant():
    u = photos.load("test", limit=1).arrays[0]
    assert abs(transforms.resize(u, 89).mean() - u.mean()) < 1e-3
    flat = np.full((8, 8, 3), 0.3, np.float32)
    np.testing.assert_allclose(transforms.resize(flat, 20), 0.3, atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(48, 16), (16, 48), (24, 24)])
def test_resizing_keeps_what_lies_where(before, after):
    """Pixel centres are aligned: a ramp over the picture stays that ramp, away from the edge."""
    ramp = np.asarray(pixels.grid(before, align="centre")).astype(np.float32)
    there = np.asarray(pixels.grid(after, align="centre"))
    found = transforms.resize(ramp, after)
    assert found.dtype == np.float32
    edge = max(3, after // 4)
    inside = (slice(edge, -edge),) * 2
    np.testing.assert_allclose(found[inside], there[inside], atol=1e-5)


def test_resizing_stays_within_the_range():
    """Bicubic kernels overshoot at an edge; the picture does not."""
    u = np.zeros((16, 16, 1), np.float32)
    u[:, 8:] = 1
    v = transforms.resize(u, 40)
    assert v.min() == 0
    assert v.max() == 1


# --- blocks -----------------------------------------------------------------------------------
@given(st.sampled_from([(12, 12), (12, 6), (12, 4), (12, 1), (6, 2)]), SEEDS)
def test_a_block_is_its_mean_to_half_a_level(sides, seed):
    (side, size), rng = sides, np.random.default_rng(seed)
    u = rng.integers(0, 256, (3, side, side, 3)).astype(np.uint8)
    v = transforms.block_mean(u, size)
    assert v.shape == (3, size, size, 3)
    assert v.dtype == np.uint8
    k = side // size
    for i in range(size):
        for j in range(size):
            block = u[:, i * k : (i + 1) * k, j * k : (j + 1) * k].reshape(3, -1, 3)
            assert np.abs(v[:, i, j] - block.mean(axis=1)).max() <= 0.5


@pytest.mark.parametrize("size", [5, 24, 8])
def test_blocks_that_do_not_fit_are_named(size):
    with pytest.raises(ValueError, match=f"size = {size}: expected 12 or a divisor of it"):
        transforms.block_mean(np.zeros((1, 12, 12, 3), np.uint8), size)


# --- file formats -----------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_more_bits_are_a_better_picture(kind):
    u = photos.load("test", size=64, limit=1).arrays[0]
    rates, decoded = zip(*(transforms.encoded(u, kind, q) for q in (10, 50, 90)))
    quality = [float(metrics.psnr(d, u)) for d in decoded]
    assert list(rates) == sorted(rates)
    assert quality == sorted(quality)
    assert 0 < rates[0] < rates[-1] < 24
    assert quality[0] > 15
    for v in decoded:
        assert v.shape == u.shape
        assert v.dtype == np.float32
        assert 0 <= v.min() <= v.max() <= 1


def test_another_format_is_named():
    with pytest.raises(ValueError, match="kind = 'PNG': expected one of JPEG, WEBP"):
        transforms.encoded(np.ones((8, 8, 3)), "PNG", 50)
