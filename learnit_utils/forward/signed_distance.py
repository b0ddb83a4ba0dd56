"""The signed distance of a solid at points of a cube, and the solid's surface from a field of it.

Values are those of `signals.solids`: 1/2 on the surface, smaller inside. A step of a fit sees some
points drawn at random, half of them from all and half from those that lie nearest to the surface:
most of a cube is far from everything, and says little.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from skimage.measure import marching_cubes

from learnit_utils import evaluate, tasks
from learnit_utils.evaluate import Problem
from learnit_utils.fields import Field, Theta
from learnit_utils.forward import Model, pixels
from learnit_utils.metrics import decibel, mse
from learnit_utils.tasks import Split, Tasks

LEVEL = 0.5  # of the surface
NEAR = 8  # one in so many points counts as near the surface


class Seen(NamedTuple):
    """What a fit may draw from."""

    values: jax.Array  # (points, 1)
    near: jax.Array  # (points // NEAR,): numbers of the points that lie nearest to the surface


class Lattices(NamedTuple):
    """Positions in the cube [0, 1]^3 that all solids share."""

    support: jax.Array  # (points, 3)
    query: jax.Array  # (others, 3), between them


def grid(size: int, *, align: str = "centre") -> jax.Array:
    """Positions of size^3 points of the cube [0, 1]^3: (size, size, size, 3), the first axis first.

    Args:
        size: points of a side.
        align: "centre" puts point i of n at (i + 1/2) / n; "corner" at i / n, between those.

    Raises:
        ValueError: an unknown alignment, or no points.
    """
    if align not in ("corner", "centre") or size < 1:
        what = "expected a size >= 1, aligned by corner or centre"
        raise ValueError(f"size = {size}, align = {align!r}: {what}")
    line = (np.arange(size) + (0.5 if align == "centre" else 0.0)) / size
    return jnp.asarray(np.stack(np.meshgrid(line, line, line, indexing="ij"), -1), jnp.float32)


def nearest(values: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the points whose values are nearest to the surface's: (tasks, count).

    Args:
        values: (tasks, points, 1). Of equal ones, those that come first.
    """
    away = np.abs(np.asarray(values)[..., 0] - LEVEL)
    return np.argsort(away, axis=1, kind="stable")[:, :count].astype(np.int32)


def solid_tasks(support: Any, query: Any) -> Tasks:
    """Every solid as a task: each = `Split` of `Seen` and held-out values, shared = `Lattices`.

    Args:
        support: a `signals.base.Dataset`, or arrays (count, n, n, n, 1), at centres of cells.
        query: the same solids at corners of cells.

    Raises:
        ValueError: arrays that are not cubes, or two numbers of solids.
    """
    both = [np.asarray(getattr(data, "arrays", data)) for data in (support, query)]
    for a in both:
        if a.ndim != 5 or len(set(a.shape[1:4])) > 1 or a.shape[4] != 1 or len(a) != len(both[0]):
            shape = f"{both[0].shape} and {both[1].shape}"
            raise ValueError(f"solids of shape {shape}: expected (count, n, n, n, 1) twice")
    seen, held_out = (a.reshape(len(a), -1, 1) for a in both)
    near = nearest(seen, max(1, seen.shape[1] // NEAR))
    each = Split(Seen(jnp.asarray(seen), jnp.asarray(near)), jnp.asarray(held_out))
    x = (grid(a.shape[1], align=to) for a, to in zip(both, ("centre", "corner")))
    return Tasks(each, Lattices(*(points.reshape(-1, 3) for points in x)))


def random_points(count: int) -> Callable:
    """The forward model of a solid: values at random points, half of them near its surface.

    A mean over them has the mean of two means as its expectation: that over all points, and that
    over those near the surface.

    Args:
        count: points drawn, half of them (rounded down) near the surface.

    Returns:
        forward(f, task, key) for `tasks.regression`, on tasks as from `solid_tasks`.

    Raises:
        ValueError: fewer than two points.

    Source: Park et al. 2019 (DeepSDF), section 5.1: more samples near the surface.
    """
    if count < 2:
        raise ValueError(f"count = {count}: expected at least 2 points")

    def forward(f, task, key):
        seen = task.each.support
        key_near, key_any = jax.random.split(key)
        beside = jax.random.randint(key_near, (count // 2,), 0, len(seen.near))
        anywhere = jax.random.randint(key_any, (count - count // 2,), 0, len(seen.values))
        which = jnp.concatenate([seen.near[beside], anywhere])
        return f(task.shared.support[which]), seen.values[which]

    return forward


def error(field: Field) -> Callable:
    """Mean squared error at all held-out points: (theta, task, key) -> scalar."""

    def held_out(theta, task, key):
        del key
        return mse(field(theta, task.shared.query), task.each.query)

    return held_out


# --- the surface --------------------------------------------------------------------------------
class Surface(NamedTuple):
    """A triangle mesh."""

    vertices: np.ndarray  # (v, 3), in sides of the cube
    faces: np.ndarray  # (f, 3), of numbers of vertices

    @property
    def areas(self) -> np.ndarray:
        """Of every triangle: (f,)."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        return np.linalg.norm(np.cross(b - a, c - a), axis=-1) / 2

    @property
    def volume(self) -> float:
        """What a closed surface encloses, by the divergence theorem."""
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        return abs(float((a * np.cross(b, c)).sum()) / 6)


def surface(values: np.ndarray, level: float = LEVEL) -> Surface:
    """The level set of values at the centres of the cells of a cube, by marching cubes.

    Args:
        values: (n, n, n), n >= 2.
        level: of the surface.

    Returns:
        A mesh; without vertices if no value lies beyond the level.

    Raises:
        ValueError: values that are no cube, or not finite.

    Source: Lorensen and Cline 1987, as scikit-image has it (Lewiner et al. 2003).
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 3 or len(set(values.shape)) > 1 or len(values) < 2:
        raise ValueError(f"values of shape {values.shape}: expected (n, n, n) with n >= 2")
    if not np.isfinite(values).all():
        raise ValueError(f"values: {(~np.isfinite(values)).sum()} are not finite")
    if not values.min() < level < values.max():
        return Surface(np.zeros((0, 3)), np.zeros((0, 3), int))
    vertices, faces, _, _ = marching_cubes(values, level)
    return Surface((vertices.astype(np.float64) + 0.5) / len(values), faces)


def cube(field: Field, theta: Theta, size: int) -> np.ndarray:
    """The field at the centres of size^3 cells: (size, size, size)."""
    return np.asarray(pixels.render(field, theta, grid(size)))[..., 0]


# --- as a recipe's forward model ----------------------------------------------------------------
@lru_cache
def solid_problem(field: Field, count: int) -> Problem:
    """Fit random points, drawn anew in every step; judge at all held-out points."""
    return Problem(tasks.regression(field, random_points(count)), error(field), resample=True)


def _score(learned, settings, init, data) -> float:
    """Mean PSNR in dB at held-out points after the recipe's inner steps."""
    losses = evaluate.trajectory(_held_out(learned.field), learned.adapt, init, data)
    return float(decibel(losses[:, -1]).mean())


@lru_cache
def _held_out(field):
    return error(field)  # one function for one field, so that a program is compiled once


MODELS = {
    "signed_distance": Model(
        forward=lambda s: random_points(s.rays),
        tasks=lambda load, split: solid_tasks(load(split), load(split, part="query")),
        problem=lambda field, s: solid_problem(field, s.rays),
        score=_score,
    )
}
