"""One photograph of a place at a time: the inits that are compared, fits, and what they show.

A photograph is fitted, whole or by its left half alone. What the fit is worth is told by the right
half, by other views in the same light, and by the distances of surfaces; built landmarks have all
three, real photographs only the first.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils.experiments.protocol import Choice, Study, made
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.fields import Field, Theta
from learnit_utils.forward import rendering
from learnit_utils.forward.cameras import View, centred_square, view_rays
from learnit_utils.forward.photometric import photograph_tasks
from learnit_utils.forward.rendering import Rendering, Sampling
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel, ssim
from learnit_utils.signals import landmarks
from learnit_utils.signals.landmarks import Photographs
from learnit_utils.signals.transforms import unit
from learnit_utils.tasks import Loss, Split, Tasks

BLOCK = 2400  # rays that are rendered by one call: a quarter of 120 x 80 pixels
COST_OF_PICTURE = 100  # rendering one takes as long as so many steps of a fit


# --- fits -------------------------------------------------------------------------------------
def fits(
    loss: Loss,
    init: Any,
    view: View,
    optimizer: optax.GradientTransformation,
    marks: Sequence[int],
    lr: float = 1.0,
) -> list[Theta]:
    """The weights after several numbers of steps of one fit to a photograph.

    Equals `evaluate.fit` at every mark, and is compiled once for all of them.

    Args:
        loss: on the support of a `Split`; see `photometric.photograph_problem`.
        optimizer: an optax transform.
        marks: numbers of steps, ascending.
        lr: a factor on its updates.
    """
    begin, run = _steps(loss, optimizer)
    carry, found = begin(Init.of(init).theta), []
    for begin, end in zip([0, *marks], marks):
        carry = run(carry, Tasks(Split(view, ())), jnp.float32(lr), begin, end)
        found.append(carry[0])
    return found


@lru_cache(maxsize=32)
def _steps(loss, optimizer):
    """theta -> carry; and (carry, task, lr, begin, end) -> carry, steps begin ... end - 1."""

    def begin(theta):
        return theta, optimizer.init(theta)

    def run(carry, task, lr, begin, end):
        def step(i, carry):
            theta, state = carry
            grad = jax.grad(loss)(theta, task, jax.random.fold_in(jax.random.key(0), i))
            updates, state = optimizer.update(grad, state, theta)
            return optax.apply_updates(theta, jax.tree.map(lambda u: lr * u, updates)), state

        return jax.lax.fori_loop(begin, end, step, carry)

    return jax.jit(begin), jax.jit(run)


def fit_by(study: Study, name: str, choice: Choice, loss: Loss, view: View) -> Theta:
    """An init of a study after the steps of a choice, at least one, on one photograph."""
    marks, (optimizer, _) = [max(1, choice.step)], study.grid[choice.optimizer]
    return fits(loss, study.init(name), view, optimizer, marks, choice.lr)[0]


# --- what a field shows -----------------------------------------------------------------------
@partial(jax.jit, static_argnums=(0, 1))
def _block(field, sampling, theta, camera, row, column):
    return rendering.render(field, theta, view_rays(camera, row, column), sampling)


def look(
    field: Field, theta: Any, view: View, at: Sequence[np.ndarray], sampling: Sampling
) -> Rendering:
    """A field through positions of a photograph, leaves (n, ...); its weights are None.

    Args:
        view: the photograph; its pixels are not used.
        at: row and column (n,) each, in pixels.
    """
    camera, theta = view._replace(pixels=None, size=None), Init.of(theta).theta
    row, column = (np.asarray(a, np.float32) for a in at)
    parts = []
    for first in range(0, len(row), BLOCK):
        here = np.minimum(first + np.arange(BLOCK), len(row) - 1)  # one shape, compiled once
        parts.append(_block(field, sampling, theta, camera, row[here], column[here]))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(row)], *parts)


def shown(field: Field, theta: Any, view: View, sampling: Sampling) -> np.ndarray:
    """What a field shows from where a photograph was taken: (height, width, 3)."""
    high, wide = (int(n) for n in view.size)
    row, column = np.divmod(np.arange(high * wide), wide)
    seen = look(field, theta, view, (row + 0.5, column + 0.5), sampling)
    return seen.colour.reshape(high, wide, 3)


def gallery(
    field: Field, thetas: Sequence[Any], views: Sequence[View], sampling: Sampling
) -> list[list[np.ndarray]]:
    """What each of several networks shows from where several photographs were taken."""
    return [[shown(field, theta, view, sampling) for view in views] for theta in thetas]


def square(view: View, side: int) -> np.ndarray:
    """The central square of a photograph, (side, side, 3) in [0, 1]."""
    row, column = (np.asarray(a).astype(int) for a in centred_square(view.size, side))
    return picture(view)[row, column].reshape(side, side, 3)


def shown_square(field: Field, theta: Any, view: View, side: int, sampling: Sampling) -> np.ndarray:
    """What a field shows in the central square of a photograph: (side, side, 3)."""
    at = centred_square(view.size, side)
    return look(field, theta, view, at, sampling).colour.reshape(side, side, 3)


def picture(view: View) -> np.ndarray:
    """A photograph as (height, width, 3) in [0, 1]."""
    high, wide = (int(n) for n in view.size)
    return unit(view.pixels[: high * wide]).reshape(high, wide, 3)


def views(several: View) -> list[View]:
    """Photographs (count, ...) one by one, as NumPy arrays."""
    leaves = [np.asarray(leaf) for leaf in several]
    return [View(*(leaf[i] for leaf in leaves)) for i in range(len(several.size))]


def stands(each: Split, others: int) -> list[View]:
    """A photograph and at most so many others in its light."""
    return [View(*map(np.asarray, each.support)), *views(each.query)[:others]]


# --- structure and depth, as pieces of a study ----------------------------------------------------
_ssim = jax.jit(ssim)


def ssim_after(
    field: Field,
    init: Any,
    loss: Loss,
    tasks: Tasks,
    optimizer: optax.GradientTransformation,
    lr: float,
    steps: int,
    sampling: Sampling,
) -> dict[str, list]:
    """SSIM after fits by a loss: "right half", "other views" (their mean) -> (tasks,)."""
    found = {"right half": [], "other views": []}
    for i in range(tasks.count):
        each = tasks.take(i).each
        (theta,) = fits(loss, made(init), each.support, optimizer, [steps], lr)
        given, *others = stands(each, len(each.query.size))
        half = int(given.size[1]) // 2
        pair = shown(field, theta, given, sampling), picture(given)
        found["right half"].append(_ssim(*(u[:, half:] for u in pair)))
        pairs = [(shown(field, theta, view, sampling), picture(view)) for view in others]
        found["other views"].append(np.mean([_ssim(*pair) for pair in pairs]))
    return {metric: _json(values) for metric, values in found.items()}


def similarity(study: Study, field: Field, choice: Choice, sampling: Sampling) -> Scores:
    """SSIM of every seed of every init of a study after a choice, from its pieces."""
    rows, (optimizer, _) = [], study.grid[choice.optimizer]
    pictures = 1 + study.test.each.query.size.shape[1]
    cost = (choice.step + COST_OF_PICTURE * pictures) * study.test.count
    for name in study.inits:
        for seed, init in enumerate(study.contender(name).seeds):
            about = dict(init=name, seed=seed, optimizer=choice.optimizer, lr=choice.lr)
            about |= dict(step=choice.step, of="ssim")
            how = (study.problem.loss, study.test, optimizer, choice.lr, choice.step, sampling)
            args = (study.name, about, ssim_after, field, init, *how)
            for metric, values in study.pieces.call(*args, cost=cost).items():
                numbers = np.array(values, np.float64)  # None becomes nan
                rows += [Row(name, seed, i, metric, float(v)) for i, v in enumerate(numbers)]
    return Scores(rows)


class Surfaces(NamedTuple):
    """Distances in photographs, at positions in pixels; infinite where there is no surface."""

    row: np.ndarray  # (photographs, n) float32
    column: np.ndarray
    distance: np.ndarray


def with_surfaces(place: str, data: Photographs) -> Tasks:
    """Photographs of a built landmark, each a Split: the photograph; its `Surfaces`."""
    found = []
    for name, size in zip(data.names, data.views.size):
        where, distance = landmarks.depth(place, name)
        scale = size / landmarks.table(place)["photos"][name]["size"][::-1]
        found.append(np.array([*((where + 0.5) * scale).T, distance], np.float32))
    filled = np.full((len(found), 3, max(a.shape[1] for a in found)), np.inf, np.float32)
    for whole, a in zip(filled, found):
        whole[:, : a.shape[1]] = a
    return Tasks(Split(photograph_tasks(data).each, Surfaces(*np.moveaxis(filled, 1, 0))))


def depth_after(
    field: Field,
    init: Any,
    loss: Loss,
    tasks: Tasks,
    optimizer: optax.GradientTransformation,
    lr: float,
    steps: int,
    sampling: Sampling,
) -> list:
    """PSNR in dB of the depth that fits show, with far minus near bound as its peak: (tasks,).

    Args:
        tasks: as from `with_surfaces`; where there is no surface, nothing is compared.
    """
    found = []
    for i in range(tasks.count):
        view, true = tasks.take(i).each
        (theta,) = fits(loss, init, view, optimizer, [steps], lr)
        solid = np.isfinite(true.distance)
        seen = look(field, theta, view, (true.row[solid], true.column[solid]), sampling)
        near, far = np.asarray(view.bounds)
        found.append(decibel(np.mean((seen.depth - true.distance[solid]) ** 2), far - near))
    return _json(found)


def _json(values) -> list:
    """Numbers to four digits, with None for what is not finite."""
    return [round(float(v), 4) if np.isfinite(v) else None for v in values]
