"""Signed distances of furniture: a learned initialization against a random one, by their surfaces.

A fit sees distances at points of one lattice of the cube and is judged at those of another, and by
the mesh that marching cubes draws of it on a third, finer one. After the steps that were learned
the learned initialization takes these; otherwise both take the optimizer and the step size that are
best on validation solids after so many steps.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from learnit_utils import evaluate, fields
from learnit_utils.evaluate import Interval, interval
from learnit_utils.experiments import contours, protocol
from learnit_utils.experiments.protocol import DIGITS, Choice, Grid, Pieces, Study, made
from learnit_utils.experiments.recipe import Learned, Recipe, model
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.experiments.seeds import drawn
from learnit_utils.experiments.store import Trained
from learnit_utils.fields import Field
from learnit_utils.forward.signed_distance import Surface, cube, surface
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Tasks

STUDY, NAME = "solids", "chairs32_metasdf"
LEARNED, RANDOM = "learned", "random"
POINTS = 8000  # on a mesh, by which two are compared
MEASURES = ("psnr", "chamfer", "iou")


class Trials(NamedTuple):
    """Solids on which initializations are tried."""

    validation: Tasks
    test: Tasks
    truth: np.ndarray  # (test, n, n, n): values of the test solids on a finer lattice


def trials(
    recipe: Recipe, validation: int, test: int, uses: Callable = lambda data: data
) -> Trials:
    """Solids of a recipe's class, and their values at half as many points again along a side.

    Args:
        recipe: with the forward model `signed_distance`.
        validation, test: how many.
        uses: is shown every data set, for example to note it in a report.
    """

    def of(split, count):
        return model(recipe).tasks(
            lambda split, **more: uses(recipe.load(split, limit=count, **more)), split
        )

    truth = recipe.load("test", limit=test, size=recipe.size * 3 // 2).arrays[..., 0]
    return Trials(of("validation", validation), of("test", test), truth)


def grid(rates: Sequence[float]) -> Grid:
    """The step sizes to try on solids; those of SGD reach further than pictures need.

    Args:
        rates: of Adam.
    """
    return protocol.grid(sgd=(0.01, 0.03, 0.1, 0.3, 1.0), adam=rates)


def resized(size: int, width: int, work: float) -> dict[str, Any]:
    """Changes of the recipe `NAME` for other lattices and a network of another width.

    Args:
        size: points of a side.
        width: units of a hidden layer.
        work: outer steps, as a part of the recipe's.
    """
    recipe = RECIPES[NAME]
    steps = max(1, round(recipe.steps * work))
    return dict(size=size, field=recipe.field | dict(width=width), steps=steps)


# --- two surfaces -------------------------------------------------------------------------------
def on_surface(mesh: Surface, count: int = POINTS) -> np.ndarray:
    """Points spread over a mesh, equally many per area: (count, 3), none on an empty mesh.

    Always the same for the same mesh.
    """
    if not len(mesh.faces) or not mesh.areas.sum() > 0:
        return np.zeros((0, 3))
    rng = np.random.default_rng(0)
    which = np.sort(rng.choice(len(mesh.faces), count, p=mesh.areas / mesh.areas.sum()))
    u, v = rng.uniform(size=(2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces[which]], 1, 0)
    return a + u * (b - a) + v * (c - a)


def compared(drawn: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How alike the solids of two cubes of values (n, n, n) are.

    Returns:
        {"chamfer": in sides of the cube, infinite if a surface is missing, "iou": of the insides}.
    """
    both = (on_surface(surface(values)) for values in (drawn, truth))
    return dict(chamfer=contours.chamfer(*both), iou=contours.overlap(drawn, truth))


# --- what is measured ---------------------------------------------------------------------------
class Found(NamedTuple):
    """What initializations come to after some numbers of steps."""

    choices: dict[tuple[str, int], Choice | None]  # (name, steps); None: the learned step sizes
    measures: dict[tuple[str, int], dict[str, np.ndarray]]  # psnr (dB), chamfer (sides), iou

    @property
    def steps(self) -> list[int]:
        """The numbers of steps."""
        return list(dict.fromkeys(step for _, step in self.choices))


def compare(
    trained: Trained,
    randoms: Sequence[Callable],
    given: Trials,
    grid: Grid,
    cap: int,
    pieces: Pieces,
) -> Found:
    """The learned initialization against random ones, after as many steps as it learned and more.

    Args:
        trained: an init with learned step sizes, taken for the number of steps it was learned for.
        randoms: draw random inits, each.
        given: the solids.
        grid: optimizers and step sizes to try.
        cap: the larger number of steps.
        pieces: where results are kept.

    Returns:
        (name, steps) -> choice, and measures (inits, test solids).
    """
    found = Found({}, {})
    seeds = {RANDOM: list(randoms), LEARNED: [trained.init]}
    for step in dict.fromkeys((trained.trained_by().inner_steps, cap)):
        study = Study(
            STUDY,
            trained.test_problem(),
            seeds,
            grid,
            given.validation,
            given.test,
            cap=step,
            every=step,
            early_stop=False,
            pieces=pieces,
        )
        for name, inits in seeds.items():
            own = name == LEARNED and step == trained.trained_by().inner_steps
            choice = None if own else study.choose_one(name)
            args = (trained.problem(), study.problem, _how(choice, grid), given.test, given.truth)
            rows = [
                pieces.call(STUDY, _about(name, n, step, choice), _measured, init, *args, cost=step)
                for n, init in enumerate(inits)
            ]
            found.choices[name, step] = choice
            found.measures[name, step] = {k: np.array([r[k] for r in rows], float) for k in rows[0]}
    return found


def _about(name, seed, step, choice):
    how = "its own step sizes" if choice is None else f"{choice.optimizer} {choice.lr:g}"
    return dict(init=name, seed=seed, step=step, by=how, of="surfaces")


def _how(choice: Choice | None, grid: Grid):
    return None if choice is None else (grid[choice.optimizer][0], choice.lr, choice.step)


def _ends(seed, learned: Learned, problem, how, tasks: Tasks) -> Iterator[Any]:
    """The weights after the fit of every task, by an optimizer or by learned step sizes."""
    init, keys = made(seed), evaluate.task_keys(tasks)
    adapt = jax.jit(learned.adapt)
    for i in range(tasks.count):
        if how is None:
            yield adapt(init, tasks.take(i), keys[i])[0]
        else:
            optimizer, lr, step = how
            task, key = tasks.take(i), keys[i]
            yield evaluate.fit(problem.loss, init, task, optimizer, step, lr=lr, key=key)


def _measured(seed, learned: Learned, problem, how, tasks: Tasks, truth) -> dict[str, list]:
    """Every measure of every task, None where there is no surface."""
    rows, judge = [], jax.jit(problem.held_out)
    for i, theta in enumerate(_ends(seed, learned, problem, how, tasks)):
        squared = float(judge(theta, tasks.take(i), jax.random.key(0)))
        alike = compared(cube(learned.field, theta, len(truth[i])), truth[i])
        rows.append(alike | dict(psnr=float(decibel(squared))))
    return {
        k: [round(r[k], DIGITS + 2) if np.isfinite(r[k]) else None for r in rows] for k in MEASURES
    }


def examples(
    trained: Trained,
    randoms: Sequence[Callable],
    given: Trials,
    grid: Grid,
    found: Found,
    which: Sequence[int],
) -> dict[str, list[np.ndarray]]:
    """Some test solids, and what the first seed of every init makes of them, by name.

    Args:
        trained, randoms, given, grid: as in `compare`.
        found: what it returned.
        which: numbers of the solids.

    Returns:
        "the chair" and "random, 5 steps", ... -> values (n, n, n) of every solid.
    """
    few = given.test.take(np.asarray(which))
    first = {RANDOM: randoms[0], LEARNED: trained.init}
    by, size = (trained.problem(), trained.test_problem()), given.truth.shape[1]
    shown = {"the chair": [given.truth[i] for i in which]}
    for (name, step), choice in found.choices.items():
        ends = _ends(first[name], *by, _how(choice, grid), few)
        shown[f"{name}, {step} steps"] = [cube(trained.field, theta, size) for theta in ends]
    return shown


def leads(found: Found, step: int) -> dict[str, Interval]:
    """How far the learned init is ahead after so many steps, paired by solid: measure -> interval.

    Of random inits the mean. Solids of which a fit has no surface are left out, and so is a measure
    with fewer than two solids.
    """
    ours, theirs = (found.measures[name, step] for name in (LEARNED, RANDOM))
    gaps = {k: ours[k].mean(axis=0) - theirs[k].mean(axis=0) for k in MEASURES}
    usable = {k: gap[np.isfinite(gap)] for k, gap in gaps.items()}
    return {k: interval(gap) for k, gap in usable.items() if len(gap) > 1}


def ahead(lead: dict[str, Interval]) -> bool:
    """Whether the learned init is ahead by every measure, beyond doubt; `lead` as from `leads`."""
    signs = dict(psnr=1, chamfer=-1, iou=1)
    return all(k in lead and sign * lead[k].mean > lead[k].half for k, sign in signs.items())


def bytes_of(field: Field, truth: np.ndarray) -> dict[str, int]:
    """What a solid takes to store, in bytes: as weights of a field and as a mesh, at 32 bits.

    Args:
        field: the network.
        truth: (n, n, n), of which marching cubes draws the mesh.
    """
    weights = fields.count(jax.eval_shape(field.init, jax.random.key(0)))
    mesh = surface(truth)
    return dict(field=4 * weights, mesh=4 * (mesh.vertices.size + mesh.faces.size))


def random_draws(field: Field, keys: Sequence[jax.Array]) -> list[Callable]:
    """Functions that draw an init each, by a key each."""
    return [partial(drawn, field, key) for key in keys]
