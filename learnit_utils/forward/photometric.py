"""Photographs as measurements: of an object by known cameras, and of one place in many lights.

An object is one task: its photographs, all by one kind of camera, on white. A photograph of a place
is a task by itself: it has its own size, camera and bounds, and the field paints its own sky at the
far end of every ray. At test time `each` of a task is a `tasks.Split`: what is fitted, and what is
held out.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import evaluate, tasks
from learnit_utils.evaluate import SGD, Problem
from learnit_utils.fields import Field
from learnit_utils.forward import Model
from learnit_utils.forward.cameras import (
    Rays,
    View,
    clip_to_ball,
    intrinsics_from_fov,
    pixel_centres,
    pixels_to_rays,
    view_rays,
)
from learnit_utils.forward.rendering import (
    density_and_colour,
    far_end,
    render_rays,
    render_rays_chunked,
    white,
)
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Split, Tasks

HALVES = ("all", "left", "right")


# --- objects ----------------------------------------------------------------------------------
class Views(NamedTuple):
    """Photographs of one object: `each` of a task."""

    pictures: jax.Array  # (..., views, height, width, channels), 0 ... 255
    poses: jax.Array  # (..., views, 4, 4)


class Camera(NamedTuple):
    """What all photographs of objects have in common: `shared` of a task."""

    fov_x: jax.Array  # angle of view from left to right, in radians
    radius: jax.Array  # of the ball around the origin that holds every object


def object_tasks(support, query=None) -> Tasks:
    """Every object as a task: `each` its `Views`, `shared` the `Camera`.

    Args:
        support: a `signals.objects.Objects`.
        query: held-out views of the same objects; then `each` is a `Split`.

    Raises:
        ValueError: views of other objects.
    """

    def views(data):
        return Views(jnp.asarray(data.pictures), jnp.asarray(data.poses))

    camera = Camera(jnp.float32(support.fov_x), jnp.float32(support.radius))
    if query is None:
        return Tasks(views(support), camera)
    if query.names != support.names:
        raise ValueError("query: views of other objects than support")
    return Tasks(Split(views(support), views(query)), camera)


def object_rays(pose: jax.Array, camera: Camera, shape) -> Rays:
    """The rays of all pixels of an object's picture, leaves (height, width, ...)."""
    return _object_rays(pose, camera, shape, *pixel_centres(shape))


def _object_rays(pose, camera, shape, row, column):
    rays = pixels_to_rays(pose, intrinsics_from_fov(shape, camera.fov_x), row, column)
    return clip_to_ball(rays, camera.radius)


def object_pixels(rays: int, samples: int, density: str = "softplus") -> Callable:
    """The forward model of an object: the colours of random pixels of its photographs.

    Args:
        rays: pixels drawn, each from any photograph.
        samples: per ray, each at a random position in its bin.
        density: as in `rendering.density_and_colour`.

    Returns:
        forward(f, task, key) for `tasks.regression`, on tasks with each = Views, shared = Camera.

    Source: Tancik et al. 2021, section 4.3.
    """
    _at_least_1(rays=rays, samples=samples)

    def forward(f, task, key):
        views, high, wide = task.each.pictures.shape[:3]
        key_pixels, key_samples = jax.random.split(key)
        which = jax.random.randint(key_pixels, (rays,), 0, views * high * wide)
        view, row, column = jnp.unravel_index(which, (views, high, wide))
        truth = task.each.pictures[view, row, column].astype(jnp.float32) / 255
        position = row + 0.5, column + 0.5
        ray = _object_rays(task.each.poses[view], task.shared, (high, wide), *position)
        scene = density_and_colour(f, density)
        return render_rays(scene, ray, samples, key_samples, white).colour, truth

    return forward


def object_error(field: Field, samples: int, density: str = "softplus", every: int = 4) -> Callable:
    """Mean squared errors of the held-out views: (theta, task, key) -> (views,).

    Args:
        field: the network.
        samples: per ray, in the middles of bins.
        density: as in `object_pixels`.
        every: one pixel of every block of `every` x `every` is compared, the middle one.
    """

    def error(theta, task, key):
        del key
        scene = density_and_colour(lambda x: field(theta, x), density)
        high, wide = task.each.query.pictures.shape[1:3]
        at = [jnp.arange(n // every) * every + every // 2 for n in (high, wide)]
        row, column = (i.ravel() for i in jnp.meshgrid(*at, indexing="ij"))

        def one(view):
            picture, pose = view
            truth = picture[row, column].astype(jnp.float32) / 255
            rays = _object_rays(pose, task.shared, (high, wide), row + 0.5, column + 0.5)
            shown = render_rays_chunked(scene, rays, samples, white)
            return jnp.mean((shown.colour - truth) ** 2)

        return jax.lax.map(one, tuple(task.each.query))

    return error


# --- photographs of one place -----------------------------------------------------------------
def photograph_tasks(support, query=None) -> Tasks:
    """Every photograph as a task: `each` its `cameras.View`.

    Args:
        support: a `signals.landmarks.Photographs`.
        query: other views in the same light; then `each` is a `Split`.

    Raises:
        ValueError: views of other photographs.
    """

    def views(data):
        return View(*(jnp.asarray(leaf) for leaf in data.views))

    if query is None:
        return Tasks(views(support))
    if query.names != support.names:
        raise ValueError("query: views in the light of other photographs than support")
    return Tasks(Split(views(support), views(query)))


def picture_rays(view: View, shape: tuple[int, int] | None = None) -> Rays:
    """The rays of a photograph's whole picture, leaves (height, width, ...).

    Args:
        view: one photograph; its pixels are not used.
        shape: (height, width) of the rendered picture; the photograph's own unless given.
    """
    size = tuple(int(n) for n in np.asarray(view.size))
    shape = shape or size
    row, column = ((jnp.arange(n) + 0.5) * (whole / n) for n, whole in zip(shape, size))
    return view_rays(view, *jnp.meshgrid(row, column, indexing="ij"))


def _columns(view: View, half: str):
    """The first column of a half and its width, in pixels."""
    wide = view.size[1]
    middle = wide // 2
    return dict(all=(0, wide), left=(0, middle), right=(middle, wide - middle))[half]


def photograph_pixels(
    rays: int, samples: int, density: str = "softplus", half: str = "all"
) -> Callable:
    """The forward model of a photograph: the colours of random pixels.

    Args:
        rays: pixels drawn.
        samples: per ray, each at a random position in its bin.
        density: as in `rendering.density_and_colour`.
        half: all, or the left or right half alone.

    Returns:
        forward(f, task, key) for `tasks.regression`, on tasks with each = View.

    Source: Tancik et al. 2021, section 4.4.
    """
    _at_least_1(rays=rays, samples=samples)
    if half not in HALVES:
        raise ValueError(f"half = {half!r}: expected one of {', '.join(HALVES)}")

    def forward(f, task, key):
        view = task.each
        key_pixels, key_samples = jax.random.split(key)
        first, wide = _columns(view, half)
        which = jax.random.randint(key_pixels, (rays,), 0, view.size[0] * wide)
        row, column = which // wide, first + which % wide
        truth = view.pixels[row * view.size[1] + column].astype(jnp.float32) / 255
        ray = view_rays(view, row + 0.5, column + 0.5)
        scene = density_and_colour(f, density)
        return render_rays(scene, ray, samples, key_samples, far_end).colour, truth

    return forward


def photograph_error(
    field: Field, samples: int, density: str = "softplus", grid: int = 24
) -> Callable:
    """Mean squared errors at test time: (theta, task, key) -> (1 + others,).

    The first is of the right half of the support, for fits to the left one; the others are of whole
    photographs in the same light.

    Args:
        field: the network.
        samples: per ray, in the middles of bins.
        density: as in `photograph_pixels`.
        grid: grid x grid pixels of each are compared, evenly spread.
    """

    def of(theta, view, half):
        scene = density_and_colour(lambda x: field(theta, x), density)
        at, (first, wide) = (jnp.arange(grid) + 0.5) / grid, _columns(view, half)
        row, column = jnp.meshgrid(at * view.size[0], first + at * wide, indexing="ij")
        row, column = (jnp.floor(i.ravel()).astype(jnp.int32) for i in (row, column))
        truth = view.pixels[row * view.size[1] + column].astype(jnp.float32) / 255
        rays = view_rays(view, row + 0.5, column + 0.5)
        shown = render_rays_chunked(scene, rays, samples, far_end).colour
        return jnp.mean((shown - truth) ** 2)

    def error(theta, task, key):
        del key
        support = of(theta, task.each.support, "right")
        query = jax.lax.map(lambda view: of(theta, view, "all"), task.each.query)
        return jnp.concatenate([support[None], query])

    return error


def _at_least_1(**counts):
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: expected an integer >= 1")


# --- as recipes' forward models -----------------------------------------------------------------
OBJECT_STEPS = 100  # of SGD on one photograph, where an init of objects is scored
PHOTOGRAPH_STEPS, PHOTOGRAPH_LR = 64, 1.0  # of SGD on the left half, where one of a place is


def _objects(load, split) -> Tasks:
    """To train on, the views that the recipe gives; otherwise one to fit and held-out ones."""
    if split == "train":
        return object_tasks(load(split))
    return object_tasks(load(split, views=1), load(split, part="query", views=None))


@lru_cache
def object_problem(field: Field, rays: int, samples: int, density: str, every: int) -> Problem:
    """Fit random pixels of the support; judge held-out views on every few pixels."""
    loss = tasks.regression(field, tasks.on_support(object_pixels(rays, samples, density)))
    return Problem(loss, object_error(field, samples, density, every), resample=True)


def _object_problem(field, s) -> Problem:
    return object_problem(field, s.rays, s.samples, s.density, max(1, s.size // 32))


def _object_score(learned, settings, init, data) -> float:
    """Mean PSNR in dB of held-out views after `OBJECT_STEPS` of the inner steps on one view."""
    problem, lr = _object_problem(learned.field, settings), settings.inner_lr
    done = evaluate.progress(problem, init, data, SGD, lr, OBJECT_STEPS, OBJECT_STEPS)
    return float(decibel(done.held_out[:, -1]).mean())


def _photographs(load, split) -> Tasks:
    """To train on; otherwise with other views in the same light."""
    if split == "train":
        return photograph_tasks(load(split))
    return photograph_tasks(load(split), load(split, part="others"))


@lru_cache
def photograph_problem(
    field: Field, rays: int, samples: int, density: str, half: str = "left"
) -> Problem:
    """Fit random pixels of a half; judge the right half and other views in the same light."""
    forward = tasks.on_support(photograph_pixels(rays, samples, density, half))
    loss = tasks.regression(field, forward)
    return Problem(loss, photograph_error(field, samples, density), resample=True)


def _photograph_problem(field, s) -> Problem:
    return photograph_problem(field, s.rays, s.samples, s.density)


def _photograph_score(learned, settings, init, data) -> float:
    """Mean PSNR in dB of other views after `PHOTOGRAPH_STEPS` on the left half."""
    problem, steps = _photograph_problem(learned.field, settings), PHOTOGRAPH_STEPS
    done = evaluate.progress(problem, init, data, SGD, PHOTOGRAPH_LR, steps, steps)
    return float(decibel(done.held_out[:, -1, 1:]).mean())


MODELS = {
    "object_views": Model(
        forward=lambda s: object_pixels(s.rays, s.samples, s.density),
        tasks=_objects,
        problem=_object_problem,
        score=_object_score,
    ),
    "photographs": Model(
        forward=lambda s: photograph_pixels(s.rays, s.samples, s.density),
        tasks=_photographs,
        problem=_photograph_problem,
        score=_photograph_score,
    ),
}
