"""Volume rendering: the colour of a ray through density and colour, by emission and absorption.

Quadrature. A ray from near to far is cut into equal bins. Each has one sample, and *every* sample
stands for its whole bin, the last one too; light that is left at `far` meets the background. So
uniform density obeys Beer and Lambert exactly, wherever the samples fall. learnit's notebooks
measure from sample to sample, and then have to make up the last length: 1e-3 in one, so that the
last sample hardly counts, and 1e10 in the other, so that the least density there hides the
background.

>>> import jax.numpy as jnp
>>> medium = lambda x: (jnp.full(x.shape[:-1], 2.0), jnp.zeros((*x.shape[:-1], 3)))
>>> zero = jnp.zeros(3)
>>> rays = Rays(zero, jnp.array([1.0, 0, 0]), jnp.float32(0), jnp.float32(0.5))
>>> round(float(render_rays(medium, rays, 8).opacity), 5)  # 1 - exp(-2 / 2)
0.63212
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learnit_utils.fields import Field, Theta
from learnit_utils.forward.cameras import Rays

DENSITIES = {
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "shifted": lambda z: jax.nn.softplus(z - 1),
    "exp": lambda z: jnp.exp(jnp.minimum(z, 10)),
}
CHUNK = {"cpu": 256}  # rays at a time: on a CPU, few enough to stay in cache
LARGE_CHUNK = 4096  # elsewhere

# points (..., 3) -> density (...,) per unit of length, colour (..., channels)
Scene = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


class Rendering(NamedTuple):
    """The result of rendering rays."""

    colour: jax.Array  # (..., channels)
    depth: jax.Array  # (...,) mean distance of absorption, with `far` for what is not absorbed
    opacity: jax.Array  # (...,) fraction of light absorbed before `far`
    weights: jax.Array | None  # (..., samples) fraction absorbed in each bin


# --- what is behind the scene -----------------------------------------------------------------
def white(scene: Scene, rays: Rays) -> float:
    """A white background."""
    del scene, rays
    return 1.0


def far_end(scene: Scene, rays: Rays) -> jax.Array:
    """The scene's own colour at the far end of every ray, as a sky (..., channels).

    This is what a last interval of 1e10 amounts to in learnit's notebook `phototourism`.
    """
    return scene(rays.at(rays.far))[1]


BACKGROUNDS = {"white": white, "far_end": far_end}


# --- along a ray ------------------------------------------------------------------------------
def sample_along_rays(rays: Rays, samples: int, key: jax.Array | None = None):
    """Distances t (..., samples) at which rays are sampled, and the width of a bin (..., 1).

    Args:
        rays: with bounds near and far (...,).
        samples: equal bins, one sample in each.
        key: draws the position within each bin; the middles without one.

    Raises:
        ValueError: fewer than one sample.

    Source: Mildenhall et al. 2020, equation 2.
    """
    if samples < 1:
        raise ValueError(f"samples = {samples}: expected an integer >= 1")
    near, far = rays.near, rays.far
    shape = (*jnp.shape(near), samples)
    within = jnp.full(shape, 0.5) if key is None else jax.random.uniform(key, shape)
    width = ((far - near) / samples)[..., None]
    steps = jnp.broadcast_to(jnp.arange(samples, dtype=within.dtype), shape)
    return near[..., None] + (steps + within) * width, width


def composite(
    density: jax.Array, colour: jax.Array, t: jax.Array, width: jax.Array, far, background=1.0
) -> Rendering:
    """The colour of rays from their samples.

    w_i = T_i (1 - exp(-sigma_i delta)) with T_i = exp(-sum_{j<i} sigma_j delta), and the rest,
    1 - sum_i w_i = exp(-sum_j sigma_j delta), from the background.

    Args:
        density: (..., samples), 0 or more, per unit of length.
        colour: (..., samples, channels).
        t, width: as from `sample_along_rays`.
        far: (...,), the depth of what is not absorbed.
        background: a number or (..., channels).

    Source: Max 1995; Mildenhall et al. 2020, equation 3.
    """
    thickness = density * width
    before = jnp.cumsum(thickness, axis=-1) - thickness
    weights = jnp.exp(-before) * -jnp.expm1(-thickness)
    left = jnp.exp(-thickness.sum(axis=-1))
    absorbed = (weights[..., None] * colour).sum(axis=-2)
    total = absorbed + left[..., None] * jnp.broadcast_to(background, absorbed.shape)
    depth = (weights * t).sum(axis=-1) + left * far
    return Rendering(total, depth, 1 - left, weights)


def density_and_colour(f: Callable, density: str = "softplus") -> Scene:
    """A network's output as a scene: points (..., 3) -> density (...,), colour (..., 3).

    Args:
        f: (..., 3) -> (..., 4); the first three, through a sigmoid, are the colour.
        density: the function that makes the fourth a density: relu, softplus, shifted or exp.

    Raises:
        ValueError: an unknown density.

    Source: Tancik et al. 2021, its notebook `shapenet` (relu); Barron et al. 2021 (shifted).
    """
    if density not in DENSITIES:
        raise ValueError(f"density = {density!r}: expected one of {', '.join(DENSITIES)}")

    def scene(x):
        raw = f(x)
        return DENSITIES[density](raw[..., 3]), jax.nn.sigmoid(raw[..., :3])

    return scene


def render_rays(
    scene: Scene, rays: Rays, samples: int, key: jax.Array | None = None, background=white
) -> Rendering:
    """The colour of rays through a scene.

    Args:
        scene: as from `density_and_colour`.
        rays, samples, key: as in `sample_along_rays`.
        background: (scene, rays) -> colour, for example `white` or `far_end`.
    """
    t, width = sample_along_rays(rays, samples, key)
    points = rays.origin[..., None, :] + t[..., None] * rays.direction[..., None, :]
    density, colour = scene(points)
    return composite(density, colour, t, width, rays.far, background(scene, rays))


def render_rays_chunked(
    scene: Scene, rays: Rays, samples: int, background=white, chunk: int | None = None
) -> Rendering:
    """`render_rays` for rays (n, ...), sampled in the middles of bins, `chunk` at a time.

    The chunk bounds the memory; `weights` is None.
    """
    chunk = chunk or CHUNK.get(jax.default_backend(), LARGE_CHUNK)

    def one(ray):
        return render_rays(scene, ray, samples, None, background)._replace(weights=None)

    return jax.lax.map(one, rays, batch_size=min(chunk, len(rays.origin)))


# --- pictures ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sampling:
    """How a field is rendered.

    Attributes:
        samples: per ray.
        density: as in `density_and_colour`.
        background: a name in `BACKGROUNDS`.
        chunk: rays at a time, which bounds the memory; chosen by platform unless given.
    """

    samples: int = 64
    density: str = "softplus"
    background: str = "white"
    chunk: int | None = None

    def __post_init__(self):
        if self.samples < 1 or (self.chunk is not None and self.chunk < 1):
            raise ValueError(
                f"samples = {self.samples}, chunk = {self.chunk}: expected integers >= 1"
            )
        for name, known in (("density", DENSITIES), ("background", BACKGROUNDS)):
            if getattr(self, name) not in known:
                given = getattr(self, name)
                raise ValueError(f"{name} = {given!r}: expected one of {', '.join(known)}")


def render(field: Field, theta: Theta, rays: Rays, sampling: Sampling = Sampling()) -> Rendering:
    """A field seen along rays of any shape, for example all rays of a camera's picture.

    Args:
        field: coordinates (..., 3) to 4 channels.
        rays: leaves (*shape, ...), with finite bounds.

    Returns:
        A Rendering with leading axes `shape`; its weights are None.
    """
    shape = rays.origin.shape[:-1]
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[len(shape) :]), rays)
    out = _rendered(field, sampling, theta, flat)
    return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), out)


@partial(jax.jit, static_argnums=(0, 1))
def _rendered(field, sampling, theta, rays):
    scene = density_and_colour(lambda x: field(theta, x), sampling.density)
    background = BACKGROUNDS[sampling.background]
    return render_rays_chunked(scene, rays, sampling.samples, background, sampling.chunk)
