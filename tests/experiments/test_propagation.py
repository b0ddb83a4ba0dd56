"""Half-widths by layer, draws within them, and spreads that the recursion predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.experiments import propagation
from learnit_utils.experiments.propagation import Scheme

SIREN = Scheme(30.0, lambda n: 1 / n, lambda n: (6 / n) ** 0.5 / 30, lambda n: 0.0)
WIDE = (2, *[256] * 6, 3)


def test_half_widths_go_by_the_inputs_of_a_layer():
    scheme = Scheme(1.0, lambda n: n, lambda n: 10 * n, lambda n: -n)
    assert scheme.half_widths((2, 5, 7, 3)) == [(2, -2), (50, -5), (70, -7)]


def test_draws_fill_their_half_widths():
    scheme = SIREN._replace(bias=lambda n: n**-0.5)
    theta = propagation.draw(jax.random.key(0), scheme, (2, 64, 64, 3))
    assert [layer.w.shape for layer in theta] == [(2, 64), (64, 64), (64, 3)]
    for layer, (a, c) in zip(theta, scheme.half_widths((2, 64, 64, 3))):
        assert 0.9 * a < jnp.abs(layer.w).max() <= a
        assert 0.5 * c < jnp.abs(layer.b).max() <= c


def test_the_spread_of_a_siren_is_level():
    """Behind the first layer 1, then the fixed point of S^2 = 1 - exp(-2 S^2), at any depth."""
    spreads, last = propagation.spread(jax.random.split(jax.random.key(0), 3), SIREN, WIDE)
    assert spreads.shape == (3, 6)
    assert last.shape == (2048, 256)
    np.testing.assert_allclose(spreads.mean(axis=0)[1], 1.0, rtol=0.06)
    np.testing.assert_allclose(spreads.mean(axis=0)[3:], 0.893, rtol=0.06)
    assert np.sqrt(np.mean(last**2)) == pytest.approx(spreads[0, -1], rel=1e-4)


def test_the_spread_is_that_of_the_field():
    """omega0 inside the weights or in front of them: the same pre-activations."""
    sizes, key = (2, 16, 16, 3), jax.random.key(5)
    spreads, _ = propagation.spread(key[None], SIREN, sizes, points=50)
    key_theta, key_x = jax.random.split(jax.random.key(5))
    theta = propagation.draw(key_theta, SIREN, sizes)
    x = jax.random.uniform(key_x, (50, 2), minval=-1.0, maxval=1.0)
    sines = fields.siren(16, 3, 30.0).preactivations(theta, x)[:-1]
    expected = [np.sqrt(np.mean(np.square(z))) for z in sines]
    np.testing.assert_allclose(spreads[0], expected, rtol=1e-4)
