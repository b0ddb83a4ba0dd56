"""How rays are cut into intervals: here into bins; in learnit's notebooks from sample to sample."""

from functools import partial

import jax
import jax.numpy as jnp

from learnit_utils.forward import rendering
from learnit_utils.forward.cameras import Rays

ENDS = (1e-3, 1e10)  # lengths that learnit's notebooks give the last interval


@partial(jax.jit, static_argnums=(0, 2))
def uniform_medium_errors(
    samples: int, key: jax.Array, rays: int = 256, density: float = 2.0, length: float = 2.5
) -> jax.Array:
    """Relative errors of what a uniform medium lets through, by Beer and Lambert's law.

    Args:
        samples: per ray, at random positions.
        rays: the mean of so many errors is taken.
        density, length: of the medium.

    Returns:
        (1 + len(ENDS),): with bins, as `rendering.composite`; and with intervals from sample to
        sample of which the last is given a length of `ENDS`.
    """
    far = jnp.full(rays, length)
    segments = Rays(None, None, near=0 * far, far=far)
    t, width = rendering.sample_along_rays(segments, samples, key)
    even, black = jnp.full(t.shape, density), jnp.zeros((*t.shape, 1))
    through = [1 - rendering.composite(even, black, t, width, far).opacity]
    moved = jax.random.uniform(jax.random.clone(key), t.shape) * length / samples
    placed = jnp.linspace(0, length, samples)[None] + moved
    between = jnp.diff(placed, axis=-1).sum(axis=-1)
    through += [jnp.exp(-density * (between + end)) for end in ENDS]
    exact = jnp.exp(-density * length)
    return jnp.abs(jnp.stack(through) / exact - 1).mean(axis=-1)
