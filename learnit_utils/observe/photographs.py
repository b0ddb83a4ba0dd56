"""Photographs of one place as measurements: every photograph is a task of its own.

Each has its size, its lens, its pose, and bounds between which it is sampled. What comes along a
ray is that of `volume`. There is no white sheet behind a landmark: what is left of the light at the
far bound meets the field's own colour there, so the sky is painted on the far end of every ray.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import cameras
from learnit_utils.fields import Field, Theta
from learnit_utils.observe import volume
from learnit_utils.observe.volume import Seen
from learnit_utils.signals.landmarks import Photographs
from learnit_utils.tasks import Tasks

HALVES = ("all", "left", "right")


class Photograph(NamedTuple):
    """What is different from one photograph to the next: `each` of a task."""

    pixels: jax.Array  # (..., most, 3) uint8, row after row
    size: jax.Array  # (..., 2): height, width
    lens: jax.Array  # (..., 4), as in `cameras.by_lens`
    pose: jax.Array  # (..., 4, 4)
    bounds: jax.Array  # (..., 2): near, far


class Held(NamedTuple):
    """A photograph at test time, and others in the same light: `each` of a task."""

    given: Photograph
    others: Photograph  # a leading axis more; no method may look at them


def as_tasks(data: Photographs, others: Photographs | None = None) -> Tasks:
    """Every photograph as a task; with `others`, `each` is a `Held`.

    Raises:
        ValueError: others of other photographs.
    """

    def each(of):
        return Photograph(*(jnp.asarray(a) for a in of[:5]))

    if others is None:
        return Tasks(each(data))
    if others.names != data.names:
        raise ValueError("others: not those of these photographs")
    return Tasks(Held(each(data), each(others)))


def look(
    f: Callable, photo: Photograph, row, column, samples: int, density="softplus", key=None
) -> Seen:
    """What a field shows at places (...,) of one photograph, in pixels.

    Args:
        f: (..., 3) -> (..., 4), as for `volume.matter`.
        samples: per ray; in the middles of bins without a key, else anywhere in them.
    """
    both = volume.matter(f, density)
    rays = cameras.by_lens(photo.pose, row, column, photo.lens)
    near, far = (jnp.broadcast_to(b, rays.origin.shape[:-1]) for b in photo.bounds)
    behind, _ = both(rays.origin + far[..., None] * rays.direction)
    return volume.along(both, rays, near, far, samples, key, behind)


def _columns(photo: Photograph, half: str):
    """Where a half begins and how wide it is, in pixels."""
    wide = photo.size[1]
    middle = wide // 2
    return dict(all=(0, wide), left=(0, middle), right=(middle, wide - middle))[half]


def pixels(rays: int, samples: int, density: str = "softplus", half: str = "all") -> Callable:
    """The measurement of a photograph: the colours of random pixels.

    Args:
        rays: pixels drawn.
        samples: per ray, each at a random place of its bin.
        density: as in `volume.matter`.
        half: all, or the left or right half alone.

    Returns:
        measure(f, task, key) for `tasks.regression`, on tasks with each = Photograph.

    Source: Tancik et al. 2021, section 4.4.
    """
    if rays < 1 or samples < 1:
        raise ValueError(f"rays = {rays}, samples = {samples}: at least 1")
    if half not in HALVES:
        raise ValueError(f"half = {half!r}: one of {', '.join(HALVES)}")

    def measure(f, task, key):
        photo = task.each
        key_pixels, key_places = jax.random.split(key)
        first, wide = _columns(photo, half)
        which = jax.random.randint(key_pixels, (rays,), 0, photo.size[0] * wide)
        row, column = which // wide, first + which % wide
        truth = photo.pixels[row * photo.size[1] + column].astype(jnp.float32) / 255
        seen = look(f, photo, row + 0.5, column + 0.5, samples, density, key_places)
        return seen.colour, truth

    return measure


def given(measure: Callable) -> Callable:
    """A measurement of a Photograph as one of what is given of a Held."""
    return lambda f, task, key: measure(f, task._replace(each=task.each.given), key)


def judge(field: Field, samples: int, density: str = "softplus", grid: int = 24) -> Callable:
    """How far off a Held is: (theta, task, key) -> (1 + others,) mean squares.

    The first is of the right half of the given photograph, for fits to the left one; the others of
    whole photographs in the same light.

    Args:
        samples: per ray, in the middles of bins.
        grid: looked at are grid x grid pixels, spread evenly.
    """

    def of(theta, photo, half):
        f, at = (lambda x: field(theta, x)), (jnp.arange(grid) + 0.5) / grid
        first, wide = _columns(photo, half)
        row, column = jnp.meshgrid(at * photo.size[0], first + at * wide, indexing="ij")
        row, column = (jnp.floor(i.ravel()).astype(jnp.int32) for i in (row, column))
        truth = photo.pixels[row * photo.size[1] + column].astype(jnp.float32) / 255
        chunk = min(volume.CHUNK.get(jax.default_backend(), volume.LARGE), grid * grid)

        def one(place):
            return look(f, photo, *place, samples, density).colour

        shown = jax.lax.map(one, (row + 0.5, column + 0.5), batch_size=chunk)
        return jnp.mean((shown - truth) ** 2)

    def errors(theta, task, key):
        del key
        mine = of(theta, task.each.given, "right")
        others = jax.lax.map(lambda photo: of(theta, photo, "all"), task.each.others)
        return jnp.concatenate([mine[None], others])

    return errors


def middle(size, side: int) -> tuple[jax.Array, jax.Array]:
    """Rows and columns (side * side,) each, in pixels, of the square in the middle of a picture.

    Args:
        size: (2,) height and width of the picture.
        side: pixels of the square that these places make.
    """
    least = jnp.min(jnp.asarray(size))
    at = (jnp.arange(side) + 0.5) * (least / side)
    row, column = ((n - least) / 2 + at for n in size)
    return tuple(i.ravel() for i in jnp.meshgrid(row, column, indexing="ij"))


def render(
    field: Field,
    theta: Theta,
    photo: Photograph,
    *,
    shape: tuple[int, int] | None = None,
    samples: int = 64,
    density: str = "softplus",
    places=None,
) -> Seen:
    """What a field shows where a photograph was taken from; its weights are left out, None.

    Args:
        photo: one; its pixels are not looked at.
        shape: (height, width) of the picture, the photograph's own unless given.
        places: rows and columns (n,) each, in pixels of the photograph, instead of all.

    Returns:
        Seen with leading axes (height, width), or (n,).
    """
    high, wide = (int(n) for n in np.asarray(photo.size))
    if places is None:
        shape = shape or (high, wide)
        row, column = ((jnp.arange(n) + 0.5) * (whole / n) for n, whole in zip(shape, (high, wide)))
        row, column = (i.ravel() for i in jnp.meshgrid(row, column, indexing="ij"))
    else:
        (row, column), shape = (jnp.asarray(p, jnp.float32) for p in places), (len(places[0]),)
    bare = photo._replace(pixels=jnp.zeros((1, 3), jnp.uint8), size=jnp.zeros(2, jnp.int32))
    seen = _rendered(field, theta, bare, row, column, samples, density)
    return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), seen)


def _picture(field, theta, photo, row, column, samples, density):
    chunk = min(volume.CHUNK.get(jax.default_backend(), volume.LARGE), len(row))

    def one(place):
        seen = look(lambda x: field(theta, x), photo, *place, samples, density)
        return seen._replace(weights=None)

    return jax.lax.map(one, (row, column), batch_size=chunk)


_rendered = jax.jit(_picture, static_argnums=(0, 5, 6))
