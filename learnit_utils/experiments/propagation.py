"""How far pre-activations spread in a sine network before training, layer by layer.

Source: Sitzmann et al. 2020, section 3.2 and supplement 1.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import fields
from learnit_utils.fields import Layer, Theta


class Scheme(NamedTuple):
    """How the weights of a sine network are drawn: uniform, with half-widths by fan-in n."""

    omega0: float
    first: Callable[[int], float]  # half-width of W_1
    hidden: Callable[[int], float]  # of every other W_l
    bias: Callable[[int], float]  # of every b_l

    def half_widths(self, sizes: Sequence[int]) -> list[tuple[float, float]]:
        """(of W, of b) for every layer of a network with these sizes, input and output included."""
        of_weights = [self.first, *[self.hidden] * (len(sizes) - 2)]
        return [(a(n), self.bias(n)) for a, n in zip(of_weights, sizes)]


def draw(key: jax.Array, scheme: Scheme, sizes: Sequence[int]) -> Theta:
    """Weights as the scheme draws them."""
    theta = []
    for n, m, (a, c) in zip(sizes, sizes[1:], scheme.half_widths(sizes)):
        key, key_w, key_b = jax.random.split(key, 3)
        w = jax.random.uniform(key_w, (n, m), minval=-a, maxval=a)
        theta.append(Layer(w, jax.random.uniform(key_b, (m,), minval=-c, maxval=c)))
    return theta


def spread(
    keys: jax.Array, scheme: Scheme, sizes: Sequence[int], points: int = 2048
) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square of the pre-activations of every sine layer, at random points of [-1, 1]^n.

    Args:
        keys: (seeds,), one for each draw of weights and points.
        scheme: how the weights are drawn.
        sizes: units of every layer, input and output included; hidden layers all as wide.
        points: so many for each seed.

    Returns:
        Spreads (seeds, layers) in radians, and the pre-activations (points, width) of the last sine
        layer of the first seed.
    """
    unit = fields.siren(sizes[1], len(sizes) - 1, 1.0, channels=sizes[-1], dims=sizes[0])

    def one(key):
        key_theta, key_x = jax.random.split(key)
        theta = draw(key_theta, scheme, sizes)
        x = jax.random.uniform(key_x, (points, sizes[0]), minval=-1.0, maxval=1.0)
        return _spread(unit, theta, x, scheme.omega0)

    spreads, last = zip(*map(one, keys))
    return np.stack(spreads), np.asarray(last[0])


@partial(jax.jit, static_argnums=0)
def _spread(unit, theta, x, omega0):
    """Of a network with omega0, which is one with omega0 = 1 and weights omega0 times as large."""
    sines = unit.preactivations(jax.tree.map(lambda leaf: omega0 * leaf, theta), x)[:-1]
    return jnp.stack([jnp.sqrt(jnp.mean(z**2)) for z in sines]), sines[-1]
