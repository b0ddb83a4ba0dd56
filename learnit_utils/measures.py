"""What a recipe lets training see of its signals, one entry per measurement.

A new measurement is a new entry here: how a field is compared with a task in training, what the
tasks of a split are, and by what a start is scored.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils import evaluate, tasks
from learnit_utils.observe import photographs, tomography, volume
from learnit_utils.tasks import Tasks

ANGLES = 4  # views of a scanner where a start that learns from line integrals is scored
STEPS = 100  # of descent from one photograph where a start that learns from rays is scored
HALF, RATE = 64, 1.0  # steps of SGD on the left half where one that learns from photographs is


class Measure(NamedTuple):
    """One way of seeing signals. A recipe is anything with the settings of `recipes.Recipe`."""

    measure: Callable  # recipe -> (f, task, key) -> (predicted, measured), for `tasks.regression`
    tasks: Callable  # (load, split) -> Tasks; load is (split, **options) -> the signals
    score: Callable  # (parts, recipe, start, tasks) -> mean PSNR in dB of what was not fitted
    fresh: bool = True  # whether every inner step draws anew what it sees


# --- pixels ------------------------------------------------------------------------------------
def _images(load, split) -> Tasks:
    return tasks.images(load(split))


def _score_pixels(p, recipe, start, data) -> float:
    """After the recipe's inner steps."""
    return evaluate.psnr_after(p.loss, p.adapt, start, data)


# --- line integrals ----------------------------------------------------------------------------
def _score_views(p, recipe, start, data) -> float:
    """Of pictures after the recipe's inner steps on line integrals from `ANGLES` even angles."""
    side, steps = recipe.size, recipe.inner_steps
    angles = jnp.asarray(tomography.even_angles(ANGLES))
    seen = tomography.scan(data.each.reshape(-1, side, side), angles)
    scans = Tasks(tomography.Scan(seen, data.each), (data.shared, angles))
    losses = _scanned(p.field)
    done = evaluate.progress(*losses, start, scans, optax.sgd, recipe.inner_lr, steps, steps)
    return float(done.judged[:, -1].mean())


@lru_cache
def _scanned(field):
    """What is fitted, and what is judged."""
    measures = tomography.scanned(), tomography.judged
    return tuple(tasks.regression(field, m) for m in measures)


# --- rays --------------------------------------------------------------------------------------
def _rays(recipe):
    return volume.pixels(recipe.rays, recipe.samples, recipe.density)


def _objects(load, split) -> Tasks:
    """To train on, whatever views the recipe gives; otherwise one to fit and others to judge by."""
    if split == "train":
        return tasks.objects(load(split))
    return tasks.objects(load(split, views=1), load(split, part="held_out", views=None))


def _score_rays(p, recipe, start, data) -> float:
    """Of held-out views after `STEPS` of the recipe's inner steps on one view."""
    every = max(1, recipe.size // 32)
    losses = _photographed(p.field, recipe.rays, recipe.samples, recipe.density, every)
    rate = recipe.inner_lr
    done = evaluate.progress(*losses, start, data, optax.sgd, rate, STEPS, STEPS, fresh=True)
    return float(done.judged[:, -1].mean())


@lru_cache
def _photographed(field, rays, samples, density, every):
    """What is fitted, and what is judged."""
    measure = volume.seen(volume.pixels(rays, samples, density))
    return tasks.regression(field, measure), volume.judge(field, samples, density, every)


# --- photographs of one place ------------------------------------------------------------------
def _photographs(recipe):
    return photographs.pixels(recipe.rays, recipe.samples, recipe.density)


def _places(load, split) -> Tasks:
    """To train on; otherwise with other views in the same light."""
    if split == "train":
        return photographs.as_tasks(load(split))
    return photographs.as_tasks(load(split), load(split, part="others"))


def _score_photographs(p, recipe, start, data) -> float:
    """Of other views in the same light after `HALF` steps on the left half."""
    losses = _halved(p.field, recipe.rays, recipe.samples, recipe.density)
    done = evaluate.progress(*losses, start, data, optax.sgd, RATE, HALF, HALF, fresh=True)
    return float(done.judged[:, -1, 1:].mean())


@lru_cache
def _halved(field, rays, samples, density):
    """What is fitted, and what is judged."""
    measure = photographs.given(photographs.pixels(rays, samples, density, "left"))
    return tasks.regression(field, measure), photographs.judge(field, samples, density)


MEASURES = {
    "pixels": Measure(lambda recipe: tasks.all_pixels, _images, _score_pixels),
    # A scanner's angles are those of the task in all its steps.
    "views": Measure(lambda recipe: tomography.views(recipe.views), _images, _score_views, False),
    "rays": Measure(_rays, _objects, _score_rays),
    "photographs": Measure(_photographs, _places, _score_photographs),
}


def few(data: Tasks, count: int) -> Tasks:
    """At most so many tasks, spread over all, for a look on the way."""
    step = max(1, data.count // count)
    return data.take(np.arange(0, data.count, step)[:count])


def of(recipe: Any) -> Measure:
    """The measurement of a recipe."""
    return MEASURES[recipe.measure]
