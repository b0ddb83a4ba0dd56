"""One network for many signals: every way to share, on the same tasks, by the one protocol.

A `Method` is a shared network, several trainings of it, and the step sizes it may try. For every
number of steps that a table shows, the optimizer and step size are those that are best on
validation tasks after so many steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import evaluate, fields
from learnit_utils.experiments import contours, shared_losses, shared_training
from learnit_utils.experiments.protocol import DIGITS, Choice, Grid, Pieces, Study
from learnit_utils.experiments.seeds import drawn
from learnit_utils.experiments.shared_losses import looked_at
from learnit_utils.experiments.shared_networks import Parts, Shared
from learnit_utils.experiments.shared_training import TrainedShared
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Tasks

STUDY = "sharing"


class Method(NamedTuple):
    """A way to share."""

    network: Shared
    seeds: Sequence[Callable[[], Parts] | Parts]  # trainings
    grid: Grid
    priors: Sequence[float] = (0.0,)  # strengths of the prior on the own part, to try


class Trials(NamedTuple):
    """Tasks on which methods are tried."""

    validation: Tasks
    test: Tasks
    owners: Sequence[str]  # whose each test task is
    unseen: bool = False  # judged where a fit did not look, instead of everywhere


class Reached(NamedTuple):
    """What a method reaches after a number of steps."""

    choice: Choice
    psnr: np.ndarray  # dB, (seeds, test tasks)
    prior: float = 0.0


def study(
    method: Method, trials: Trials, pieces: Pieces, cap: int, every: int, prior: float = 0.0
) -> Study:
    """The study of one method, by the name "method", on some tasks."""
    return Study(
        STUDY,
        shared_training.problem(method.network, prior, trials.unseen),
        {"method": list(method.seeds)},
        method.grid,
        trials.validation,
        trials.test,
        cap=cap,
        every=every,
        pieces=pieces,
    )


def choice_at(study: Study, step: int, name: str = "method") -> Choice:
    """The best optimizer and step size on validation tasks after a number of steps.

    Raises:
        ValueError: a number that is not looked at, or every fit diverges.
    """
    if step % study.every or not 0 <= step <= study.cap:
        raise ValueError(f"step = {step}: expected a multiple of {study.every} up to {study.cap}")
    best = None
    for optimizer, lr in study.tried():
        value = study.curve(name, optimizer, lr)["psnr"][step // study.every]
        if np.isfinite(value) and (best is None or value > best.value):
            lrs = study.grid[optimizer][1]
            edge = len(lrs) > 1 and lr in (min(lrs), max(lrs))
            best = Choice(optimizer, lr, step, edge, float(value))
    if best is None:
        raise ValueError(f"{study.name}: every fit diverges within {step} steps")
    return best


def reached(study: Study, steps: Sequence[int]) -> dict[int, Reached]:
    """What a method reaches on test tasks after each of some numbers of steps."""
    found = {}
    for step in steps:
        choice = choice_at(study, step)
        found[step] = Reached(choice, _of_seeds(study, choice))
    return found


def _of_seeds(study: Study, choice: Choice) -> np.ndarray:
    count = len(study.contender("method").seeds)
    return np.stack([study.at("method", choice, seed)["psnr"] for seed in range(count)])


def best_prior(
    method: Method, trials: Trials, pieces: Pieces, cap: int, every: int
) -> dict[float, Reached]:
    """Prior -> what a method reaches on test tasks with it, stopped where validation says.

    The strongest on validation comes first.
    """
    found = {}
    for prior in method.priors:
        one = study(method, trials, pieces, cap, every, prior)
        choice = one.choose_one("method")
        found[prior] = Reached(choice, _of_seeds(one, choice), prior)
    return dict(sorted(found.items(), key=lambda item: -item[1].choice.value))


# --- trainings as seeds of a method ---------------------------------------------------------------
def as_parts(theta: Any) -> Parts:
    """Weights as an initialization of which every weight is a signal's own."""
    return Parts(theta, jax.tree.map(jnp.zeros_like, theta))


def random_parts(field: fields.Field, key: jax.Array) -> Parts:
    """A random initialization; the key is not used up."""
    return as_parts(drawn(field, key))


def trained_parts(make: Callable[[], TrainedShared]) -> Parts:
    """The parameters of a trained shared network, as optimizers take them.

    Learned step sizes are left out; the first layers of `heads` get a last layer that is drawn
    anew, and all of their weights are to be fitted (Vyas et al. 2024, section 3.2).
    """
    trained = make()
    if trained.network.spec["kind"] != "heads":
        return shared_training.plain(trained.parts)
    spec = {k: v for k, v in trained.network.spec.items() if k != "kind"}
    last = fields.siren(**spec).init(jax.random.key(trained.recipe.seed))[-1]
    return as_parts([*trained.parts.shared, last])


def trainings(
    first: TrainedShared, again: Callable[..., TrainedShared], name: str, count: int
) -> list[Callable[[], TrainedShared]]:
    """A trained network, and others by the same recipe that are trained where they are needed.

    Args:
        first: the trained one.
        again: (name, recipe) -> one trained by a recipe, for example `book.inits.train_shared`.
        name: of the recipe.
        count: of trainings, the first one included; their seeds follow each other.
    """
    recipes = [replace(first.recipe, seed=first.recipe.seed + n) for n in range(1, count)]
    known = partial(itself, first._replace(info={}))
    return [known, *(partial(again, name, recipe) for recipe in recipes)]


def itself(trained: TrainedShared) -> TrainedShared:
    """What it is given."""
    return trained


def own_steps(
    first: TrainedShared, seeds: Sequence[Callable], trials: Trials, pieces: Pieces
) -> np.ndarray:
    """PSNR after the steps that a bilevel training learned, with their step sizes: (seeds, tasks).

    Args:
        first: the trained network.
        seeds: () -> TrainedShared, each.
    """
    how = (shared_losses.judging(first.network, trials.unseen), first.recipe)
    about = dict(init=first.network.spec["kind"], of="its own steps")
    values = [
        pieces.call(STUDY, about | dict(seed=n), _own, seed, first.network, *how, trials.test)
        for n, seed in enumerate(seeds)
    ]
    return np.array(values, float)


def _own(seed, network, judge, recipe, tasks):
    adapt = shared_losses.own_steps(network, recipe.inner_steps, recipe.inner_lr)
    found = evaluate.trajectory(judge, adapt, seed().parts, tasks)
    return np.round(decibel(found[:, -1].astype(np.float64)), DIGITS).tolist()


# --- curves of shapes -----------------------------------------------------------------------------
def curves_of(
    study: Study, choice: Choice, network: Shared, name: str = "method"
) -> dict[str, np.ndarray]:
    """How near the drawn curves of test shapes are after a choice: chamfer in pixels, iou, psnr.

    Returns:
        Name of the measure -> (seeds, tasks).
    """
    seeds, problem, _ = study.contender(name)
    loss, how = problem.loss, (study.grid[choice.optimizer][0], choice.lr, choice.step)
    rows = [
        study.pieces.call(
            STUDY,
            dict(init=name, of="curves", seed=n, optimizer=choice.optimizer, step=choice.step),
            _curves,
            *(seed, loss, network, *how, study.test),
        )
        for n, seed in enumerate(seeds)
    ]
    return {key: np.array([row[key] for row in rows], float) for key in rows[0]}


def _curves(seed, loss, network, optimizer, lr, step, tasks):
    parts = seed()
    ends = (
        evaluate.fit(loss, parts, tasks.take(i), optimizer, step, lr=lr) for i in range(tasks.count)
    )
    return _compared(network, ends, tasks)


def own_curves(
    first: TrainedShared, seeds: Sequence[Callable], tasks: Tasks, pieces: Pieces
) -> dict[str, np.ndarray]:
    """`curves_of`, after the steps that a bilevel training learned; arguments as `own_steps`."""
    about = dict(init=first.recipe.look, of="curves after its own steps")
    rows = [
        pieces.call(STUDY, about | dict(seed=n), _own_curves, seed, first.network, tasks)
        for n, seed in enumerate(seeds)
    ]
    return {key: np.array([row[key] for row in rows], float) for key in rows[0]}


def _own_curves(seed, network, tasks):
    trained = seed()
    steps, lr = trained.recipe.inner_steps, trained.recipe.inner_lr
    adapt = jax.jit(shared_losses.own_steps(network, steps, lr))
    keys = evaluate.task_keys(tasks)
    ends = (adapt(trained.parts, tasks.take(i), keys[i])[0] for i in range(tasks.count))
    return _compared(network, ends, tasks)


def _compared(network, ends, tasks) -> dict[str, list]:
    side = math.isqrt(len(tasks.shared.x))
    rows = []
    for i, parts in enumerate(ends):
        task = tasks.take(i)
        values = draw(network, parts, task)
        pair = (np.asarray(a).reshape(side, side) for a in (values, task.each.values))
        rows.append(contours.compared(*pair) | dict(psnr=psnr_of(values, task)))
    return {
        k: [round(float(r[k]), DIGITS) if np.isfinite(r[k]) else None for r in rows]
        for k in rows[0]
    }


# --- numbers stored -----------------------------------------------------------------------------
def quantised(own: Any, bits: int = 8) -> Any:
    """An own part, every array rounded to 2^bits levels between its extremes."""

    def rounded(a):
        low, high = a.min(), a.max()
        step = jnp.where(high > low, (high - low) / (2**bits - 1), 1.0)
        return low + step * jnp.round((a - low) / step)

    return jax.tree.map(rounded, own)


def fitted(method: Method, parts: Parts, task: Tasks, choice: Choice, prior: float = 0.0) -> Parts:
    """The parameters after a fit of one task by a choice."""
    loss = shared_training.problem(method.network, prior).loss
    optimizer = method.grid[choice.optimizer][0]
    return evaluate.fit(loss, parts, task, optimizer, choice.step, lr=choice.lr)


def draw(network: Shared, parts: Parts, task: Tasks) -> np.ndarray:
    """What a network draws of a task: (points, channels)."""
    return np.asarray(network.decode(parts.shared, parts.own, task.shared.x, looked_at(task)))


def psnr_of(drawn: np.ndarray, task: Tasks, mask: np.ndarray | None = None) -> float:
    """PSNR in dB of a drawing (points, channels), everywhere or where a mask (points,) is true."""
    squared = (np.asarray(drawn) - np.asarray(task.each.values)) ** 2
    return float(decibel((squared if mask is None else squared[mask]).mean()))


def sizes(methods: Mapping[str, Method]) -> dict[str, tuple[int, int]]:
    """Name -> (numbers shared, numbers stored for one signal)."""

    def count(network):
        shared = jax.eval_shape(network.init, jax.random.key(0))
        own = jax.eval_shape(network.start, shared, jax.random.key(0))
        return fields.count(shared), fields.count(own)

    return {name: count(method.network) for name, method in methods.items()}
