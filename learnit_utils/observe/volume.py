"""Volume rendering: what a camera sees of density and colour, by emission and absorption.

Cameras and rays are those of `cameras`: directions have length 1, so places t on a ray are
distances, and densities are per unit of length.

Quadrature. A ray from near to far is cut into equal bins. Each is given one sample, and *every*
sample stands for its whole bin, the last one too; what is still on its way at `far` meets the
background. So uniform density obeys Beer and Lambert exactly, wherever the samples fall. learnit's
notebooks measure from sample to sample, and then have to make up the last length: 1e-3 in one, so
that the last sample is as good as ignored, and 1e10 in the other, so that the least density there
hides the background.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learnit_utils.cameras import Rays, check_poses, in_sphere, of_picture, through
from learnit_utils.fields import Field, Theta

DENSITIES = {
    "relu": jax.nn.relu,
    "softplus": jax.nn.softplus,
    "shifted": lambda z: jax.nn.softplus(z - 1),
    "exp": lambda z: jnp.exp(jnp.minimum(z, 10)),
}
WHITE = 1.0
CHUNK = {"cpu": 256}  # rays at a time: on a CPU, few enough to stay in cache
LARGE = 4096  # elsewhere


class Seen(NamedTuple):
    """What comes along rays."""

    colour: jax.Array  # (..., channels)
    depth: jax.Array  # (...,): mean distance of what is met, `far` for what is not
    opacity: jax.Array  # (...,): the share of light that something was met by
    weights: jax.Array | None  # (..., samples): the share of every sample


# --- along a ray -------------------------------------------------------------------------------
def places(near: jax.Array, far: jax.Array, samples: int, key: jax.Array | None = None):
    """Where a ray is sampled: places t (..., samples) and the width of a bin (..., 1).

    Args:
        near, far: (...,), from where to where.
        samples: equal bins, one sample in each.
        key: draws the place within each bin; the middles without one.

    Raises:
        ValueError: fewer than one sample.

    Source: Mildenhall et al. 2020, equation 2.
    """
    if samples < 1:
        raise ValueError(f"samples = {samples}: at least 1")
    shape = (*jnp.shape(near), samples)
    within = jnp.full(shape, 0.5) if key is None else jax.random.uniform(key, shape)
    width = ((far - near) / samples)[..., None]
    steps = jnp.broadcast_to(jnp.arange(samples, dtype=within.dtype), shape)
    return near[..., None] + (steps + within) * width, width


def composite(
    density: jax.Array, colour: jax.Array, t: jax.Array, width: jax.Array, far, background=WHITE
) -> Seen:
    """What comes along a ray, from its samples.

    w_i = T_i (1 - exp(-sigma_i delta)) with T_i = exp(-sum_{j<i} sigma_j delta), and the rest,
    1 - sum_i w_i = exp(-sum_j sigma_j delta), from the background.

    Args:
        density: (..., samples), 0 or more, per unit of length.
        colour: (..., samples, channels).
        t, width: as from `places`.
        far: (...,), the depth of what is not met.
        background: a number or (channels,).

    Source: Max 1995; Mildenhall et al. 2020, equation 3.
    """
    thick = density * width
    before = jnp.cumsum(thick, axis=-1) - thick
    weights = jnp.exp(-before) * -jnp.expm1(-thick)
    left = jnp.exp(-thick.sum(axis=-1))
    met = (weights[..., None] * colour).sum(axis=-2)
    seen = met + left[..., None] * jnp.broadcast_to(background, met.shape)
    depth = (weights * t).sum(axis=-1) + left * far
    return Seen(seen, depth, 1 - left, weights)


def matter(f: Callable, density: str = "softplus") -> Callable:
    """What a network says as colour and density: points (..., 3) -> (..., 3), (...,).

    Args:
        f: (..., 3) -> (..., 4); the first three, through a sigmoid, are the colour.
        density: what makes the fourth a density, one of relu, softplus, shifted, exp.

    Raises:
        ValueError: another density.

    Source: Tancik et al. 2021, its notebook `shapenet` (relu); Barron et al. 2021 (shifted).
    """
    if density not in DENSITIES:
        raise ValueError(f"density = {density!r}: one of {', '.join(DENSITIES)}")

    def both(x):
        raw = f(x)
        return jax.nn.sigmoid(raw[..., :3]), DENSITIES[density](raw[..., 3])

    return both


def along(f: Callable, rays: Rays, near, far, samples: int, key=None, background=WHITE) -> Seen:
    """What comes along rays through f, as from `matter`; arguments as in `places`."""
    t, width = places(near, far, samples, key)
    points = rays.origin[..., None, :] + t[..., None] * rays.direction[..., None, :]
    colour, density = f(points)
    return composite(density, colour, t, width, far, background)


def in_turn(f: Callable, rays: Rays, radius, samples: int, background=WHITE, chunk=None) -> Seen:
    """What comes along rays (n, 3) through a ball, sampled in the middles of bins.

    A chunk at a time, which sets the memory; so the weights are left out, None.
    """
    chunk = chunk or CHUNK.get(jax.default_backend(), LARGE)

    def one(ray):
        seen = along(f, ray, *in_sphere(ray, radius), samples, None, background)
        return seen._replace(weights=None)

    return jax.lax.map(one, rays, batch_size=min(chunk, len(rays.origin)))


def render(
    field: Field,
    theta: Theta,
    pose: jax.Array,
    shape,
    angle: float,
    *,
    radius: float,
    samples: int = 64,
    density: str = "softplus",
    background=WHITE,
    chunk: int | None = None,
) -> Seen:
    """A picture of a field in a ball around the origin.

    Args:
        pose, shape, angle: the camera, as in `of_picture`.
        radius: of the ball.
        chunk: rays at a time, which sets the memory, whatever the size of the picture.

    Returns:
        Seen, with leading axes (height, width); its weights are left out, None.

    Raises:
        ValueError: a chunk below 1, or as `of_picture`, `check_poses` and `matter`.
    """
    check_poses(pose, "pose")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk = {chunk}: at least 1")
    rays = Rays(*(r.reshape(-1, 3) for r in of_picture(pose, shape, angle)))
    look = (radius, samples, density, jnp.asarray(background), chunk)
    seen = _rendered(field, theta, rays, *look)
    return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), seen)


def _picture(field, theta, rays, radius, samples, density, background, chunk):
    f = matter(lambda x: field(theta, x), density)
    return in_turn(f, rays, radius, samples, background, chunk)


_rendered = jax.jit(_picture, static_argnums=(0, 3, 4, 5, 7))


# --- measurements of tasks ---------------------------------------------------------------------
class Views(NamedTuple):
    """What is different from one object to the next: `each` of a task."""

    pictures: jax.Array  # (..., views, height, width, channels), 0 ... 255
    poses: jax.Array  # (..., views, 4, 4)


class Camera(NamedTuple):
    """What all objects have in common: `shared` of a task."""

    angle: jax.Array  # of view, in radians
    radius: jax.Array  # of the ball that holds the object


def pixels(rays: int, samples: int, density: str = "softplus", background=WHITE) -> Callable:
    """The measurement of an object: the colours of random pixels of its views.

    Args:
        rays: pixels drawn, each from any view.
        samples: per ray, each at a random place of its bin.
        density: as in `matter`.
        background: what the pictures were laid on.

    Returns:
        measure(f, task, key) for `tasks.regression`, on tasks with each = Views, shared = Camera.

    Source: Tancik et al. 2021, section 4.3.
    """
    if rays < 1 or samples < 1:
        raise ValueError(f"rays = {rays}, samples = {samples}: at least 1")

    def measure(f, task, key):
        views, high, wide = task.each.pictures.shape[:3]
        key_pixels, key_places = jax.random.split(key)
        which = jax.random.randint(key_pixels, (rays,), 0, views * high * wide)
        view, row, column = jnp.unravel_index(which, (views, high, wide))
        truth = task.each.pictures[view, row, column].astype(jnp.float32) / 255
        r = through(task.each.poses[view], row + 0.5, column + 0.5, (high, wide), task.shared.angle)
        near, far = in_sphere(r, task.shared.radius)
        seen = along(matter(f, density), r, near, far, samples, key_places, background)
        return seen.colour, truth

    return measure


class Object(NamedTuple):
    """What is different from one object to the next at test time: `each` of a task."""

    seen: Views  # to fit
    held_out: Views  # to judge by; no method may look at it


def seen(measure: Callable) -> Callable:
    """A measurement of Views as one of what is seen of an Object."""
    return lambda f, task, key: measure(f, task._replace(each=task.each.seen), key)


def judge(
    field: Field, samples: int, density: str = "softplus", every: int = 4, background=WHITE
) -> Callable:
    """How far the held-out views of an Object are off: (theta, task, key) -> (views,) mean squares.

    Args:
        samples: per ray, in the middles of bins.
        every: of so many pixels, in each direction, one is looked at, in the middle of its block.
        density, background: as in `pixels`.
    """

    def errors(theta, task, key):
        del key
        f = matter(lambda x: field(theta, x), density)
        high, wide = task.each.held_out.pictures.shape[1:3]
        at = [jnp.arange(n // every) * every + every // 2 for n in (high, wide)]
        row, column = (i.ravel() for i in jnp.meshgrid(*at, indexing="ij"))

        def one(view):
            picture, pose = view
            truth = picture[row, column].astype(jnp.float32) / 255
            r = through(pose, row + 0.5, column + 0.5, (high, wide), task.shared.angle)
            shown = in_turn(f, r, task.shared.radius, samples, background)
            return jnp.mean((shown.colour - truth) ** 2)

        return jax.lax.map(one, tuple(task.each.held_out))

    return errors
