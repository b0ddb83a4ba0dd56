"""The plainest forward model: the values of a picture at pixel positions."""

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import evaluate, tasks
from learnit_utils.evaluate import Problem
from learnit_utils.fields import Field, Theta
from learnit_utils.forward import Model
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Tasks


def grid(height: int, width: int | None = None, *, align: str = "corner") -> jax.Array:
    """Coordinates of the pixels of the unit square, (height, width, 2), rows first.

    Args:
        height, width: pixels; a square unless width is given.
        align: "corner" puts pixel i of n at i / n, in [0, 1), as learnit does; "centre" puts it at
            (i + 1/2) / n, so that a coarse and a fine grid of the same picture share their centre.

    Raises:
        ValueError: an unknown alignment.
    """
    if align not in ("corner", "centre"):
        raise ValueError(f"align = {align!r}: expected one of corner, centre")
    shift = 0.5 if align == "centre" else 0.0
    sides = [np.arange(n) + shift for n in (height, width or height)]
    rows, cols = (side / len(side) for side in sides)
    return jnp.asarray(np.stack(np.meshgrid(rows, cols, indexing="ij"), -1), jnp.float32)


def image_tasks(data) -> Tasks:
    """Every picture as a task: `each` its pixels (count, points, channels), `shared` their
    coordinates (points, 2) in [0, 1).

    Args:
        data: a `signals.base.Dataset`, or an array (count, height, width, channels).
    """
    arrays = getattr(data, "arrays", data)
    count, height, width, channels = arrays.shape
    values = jnp.asarray(arrays.reshape(count, height * width, channels))
    return Tasks(values, grid(height, width).reshape(-1, 2))


def image_splits(load: Callable, **options) -> SimpleNamespace:
    """The three splits of a signal class as image tasks: `.train`, `.validation` and `.test`.

    Args:
        load: (split, **options) -> Dataset, for example `signals.faces.load`.
        options: passed to `load`.
    """
    names = ("train", "validation", "test")
    return SimpleNamespace(**{name: image_tasks(load(name, **options)) for name in names})


def sample(key: jax.Array, coords: jax.Array, image: jax.Array, n: int):
    """n pixels drawn without replacement.

    Args:
        coords: (height, width, 2), as from `grid`.
        image: (height, width, channels).

    Returns:
        Coordinates (n, 2) and values (n, channels).

    Raises:
        ValueError: if n is not between 1 and the number of pixels.
    """
    pixels = coords.shape[0] * coords.shape[1]
    if not 1 <= n <= pixels:
        raise ValueError(f"n = {n}: expected 1 to {pixels}, the number of pixels")
    index = jax.random.choice(key, pixels, (n,), replace=False)
    return coords.reshape(pixels, -1)[index], image.reshape(pixels, -1)[index]


def render(field: Field, theta: Theta, coords: jax.Array, chunk: int = 2**15) -> jax.Array:
    """The field at every coordinate, (..., 2) -> (..., channels), `chunk` points at a time.

    The chunk bounds the memory, so a field can be drawn at any resolution.
    """
    flat = coords.reshape(-1, coords.shape[-1])
    if len(flat) <= chunk:
        return _apply(field, theta, flat).reshape(*coords.shape[:-1], -1)
    pieces = [_apply(field, theta, flat[i : i + chunk]) for i in range(0, len(flat), chunk)]
    return jnp.concatenate(pieces).reshape(*coords.shape[:-1], -1)


_apply = jax.jit(lambda field, theta, x: field.apply(theta, x), static_argnums=0)


# --- as a recipe's forward model ----------------------------------------------------------------
@lru_cache
def image_problem(field: Field) -> Problem:
    """Fit a picture at all points; the same loss judges it."""
    loss = tasks.regression(field)
    return Problem(loss, loss)


def _score(learned, settings, init, data) -> float:
    """Mean PSNR in dB after the recipe's inner steps."""
    losses = evaluate.trajectory(learned.loss, learned.adapt, init, data)
    return float(decibel(losses[:, -1]).mean())


MODELS = {
    "pixels": Model(
        forward=lambda settings: tasks.all_points,
        tasks=lambda load, split: image_tasks(load(split)),
        problem=lambda field, settings: image_problem(field),
        score=_score,
    )
}
