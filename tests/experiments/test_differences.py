"""Central differences are exact for polynomials of degree two."""

import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils.experiments import differences
from learnit_utils.forward import pixels


@pytest.mark.parametrize(("high", "wide"), [(8, 8), (6, 8), (8, 5)])
def test_pixels_of_a_quadratic_have_its_derivatives(high, wide):
    r, c = np.moveaxis(np.asarray(pixels.grid(8)[:high, :wide], np.float64), -1, 0)
    length, laplacian = differences.of_pixels(3 * r**2 - r * c + 2 * c)
    expected = np.hypot(6 * r - c, 2 - r)[1:-1, 1:-1]
    np.testing.assert_allclose(length, expected, rtol=1e-6)
    np.testing.assert_allclose(laplacian, np.full((high - 2, wide - 2), 6.0), rtol=1e-6)


def test_the_gradient_of_a_quadratic_field():
    points = jnp.array([[0.25, 0.5], [1.0, -0.5], [0.0, 0.0]])
    found = differences.gradient(lambda p: p[:, 0] ** 2 - 3 * p[:, 0] * p[:, 1], points, 0.125)
    expected = np.stack([2 * points[:, 0] - 3 * points[:, 1], -3 * points[:, 0]], axis=-1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_correlation_ignores_size_and_is_zero_for_a_constant(rng):
    a = rng.normal(size=(4, 5))
    assert differences.correlation(a, 2 * a + 1) == pytest.approx(1)
    assert differences.correlation(a, -a) == pytest.approx(-1)
    assert differences.correlation(a, np.ones((4, 5))) == 0
