"""Codes without a network: closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.experiments import linear_codes

RNG = np.random.default_rng(0)
LESSONS = RNG.random((20, 36)).astype(np.float32)
EVERYWHERE = np.ones(36, bool)


def test_components_are_orthonormal_and_explain_the_training_pictures():
    parts = linear_codes.components(LESSONS, 19)
    np.testing.assert_allclose(parts.basis.T @ parts.basis, np.eye(19), atol=1e-10)
    codes = linear_codes.code_of(parts, LESSONS, EVERYWHERE, 0.0)
    np.testing.assert_allclose(linear_codes.decoded(parts, codes), LESSONS, atol=1e-6)
    np.testing.assert_allclose(codes.std(axis=0, ddof=1), parts.spread)


@given(st.integers(1, 15), st.floats(1e-4, 10), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_code_is_where_the_gradient_of_the_posterior_is_zero(count, prior, seed):
    rng = np.random.default_rng(seed)
    parts, mask = linear_codes.components(LESSONS, count), rng.random(36) < 0.5
    mask[0] = True
    picture = rng.random((1, 36))
    z = linear_codes.code_of(parts, picture, mask, prior)
    residual = mask * (linear_codes.decoded(parts, z) - picture)
    gradient = residual @ parts.basis + prior * z / parts.spread**2
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_with_a_strong_prior_the_mean_is_left():
    parts = linear_codes.components(LESSONS, 5)
    z = linear_codes.code_of(parts, LESSONS[:1], EVERYWHERE, 1e12)
    np.testing.assert_allclose(linear_codes.decoded(parts, z)[0], LESSONS.mean(axis=0), atol=1e-6)


def test_no_code_of_equal_size_is_nearer_than_the_components_of_the_training_pictures():
    """Eckart and Young: over the training pictures, for any other orthonormal basis."""
    parts = linear_codes.components(LESSONS, 6)
    best = linear_codes.decoded(parts, linear_codes.code_of(parts, LESSONS, EVERYWHERE, 0.0))
    other, _ = np.linalg.qr(RNG.normal(size=(36, 6)))
    centred = LESSONS - LESSONS.mean(axis=0)
    assert ((best - LESSONS) ** 2).sum() < ((centred @ other @ other.T - centred) ** 2).sum()


def test_what_the_simple_methods_draw():
    pictures = RNG.random((3, 36)).astype(np.float32)
    left = np.tile(np.arange(6) < 3, 6)
    how = (LESSONS, pictures, left)
    mean = linear_codes.reconstruct("mean", *how)
    np.testing.assert_allclose(mean, np.tile(LESSONS.mean(axis=0), (3, 1)))
    gray = linear_codes.reconstruct("gray", *how)
    np.testing.assert_allclose(gray[:, 0], pictures[:, left].mean(axis=1), rtol=1e-6)
    mirrored = linear_codes.reconstruct("mirror", *how).reshape(3, 6, 6)
    np.testing.assert_array_equal(mirrored, mirrored[:, :, ::-1])
    np.testing.assert_array_equal(mirrored[:, :, :3], pictures.reshape(3, 6, 6)[:, :, :3])
    again = linear_codes.reconstruct("nearest", LESSONS, LESSONS[4:6], left)
    np.testing.assert_array_equal(again, LESSONS[4:6])


def test_the_right_half_does_not_count_where_only_the_left_is_seen():
    pictures, left = RNG.random((2, 36)), np.tile(np.arange(6) < 3, 6)
    other = np.where(left, pictures, RNG.random((2, 36)))
    for method, setting in (("nearest", {}), ("gray", {}), ("components", dict(count=4, prior=1))):
        a, b = (
            linear_codes.reconstruct(method, LESSONS, p, left, **setting) for p in (pictures, other)
        )
        np.testing.assert_array_equal(a, b)


def test_bad_requests():
    with pytest.raises(ValueError, match="count = 20: expected 1 to 19"):
        linear_codes.components(LESSONS, 20)
    with pytest.raises(ValueError, match="method = 'magic': expected mean, gray"):
        linear_codes.reconstruct("magic", LESSONS, LESSONS, EVERYWHERE)
