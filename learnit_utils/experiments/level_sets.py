"""Signed distances by DeepSDF's way and by MetaSDF's: how near the level sets of fits are.

Curves are those of `signals.shapes`; a fit sees the distances at all pixels, or only at those near
the curve, and is judged by its level set.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from learnit_utils import evaluate
from learnit_utils.experiments import contours, shared_losses, shared_training, sharing
from learnit_utils.experiments.protocol import DIGITS, Choice, Pieces, Study
from learnit_utils.experiments.shared_networks import Shared
from learnit_utils.experiments.shared_training import TrainedShared
from learnit_utils.experiments.sharing import STUDY, Method, Trials, draw, psnr_of

Measures = Mapping[str, np.ndarray]  # chamfer (pixels), iou, psnr -> (seeds, tasks)


def trials(load: Callable, validation: int, test: int, near: bool) -> Trials:
    """Curves of which a fit sees the distances at all pixels, or at those near the curve.

    Args:
        load: split -> Dataset of `signals.shapes`.
        validation, test: how many.
        near: only near the curve.
    """
    lessons, both = load("train"), []
    for split, count in (("validation", validation), ("test", test)):
        arrays = load(split).arrays[:count]
        mask = shared_training.near(arrays) if near else None
        both.append(shared_training.as_seen(arrays, lessons, mask))
    return Trials(*both, owners=(), kind=f"curves, {'near them' if near else 'everywhere'}")


def curves_of(study: Study, choice: Choice, network: Shared) -> dict[str, np.ndarray]:
    """How near the drawn curves of test shapes are after a choice: chamfer in pixels, iou, psnr.

    Returns:
        Name of the measure -> (seeds, tasks).
    """
    name = sharing.name_in(study)
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
    first: TrainedShared, seeds: Sequence[Callable], given: Trials, pieces: Pieces
) -> dict[str, np.ndarray]:
    """`curves_of`, after the steps that a bilevel training learned; arguments as `own_steps`."""
    about = dict(init=f"trained on {first.recipe.look}: {given.kind}", of="its own steps")
    rows = [
        pieces.call(STUDY, about | dict(seed=n), _own_curves, seed, first.network, given.test)
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


def compare(
    methods: Mapping[str, Method],
    rated: Mapping[str, Sequence[Callable[[], TrainedShared]]],
    given: Trials,
    pieces: Pieces,
    cap: int,
    every: int,
) -> dict[str, Measures]:
    """Every method on the same curves: name -> measures.

    Args:
        methods: fitted by the optimizer, step size, number of steps and prior that are best on
            validation curves.
        rated: name -> trainings whose own learned steps are taken.
        given: the curves.
        pieces: where results are kept.
        cap, every: as in `sharing.study`.
    """
    found = {}
    for name, method in methods.items():
        best = sharing.best_prior(method, given, pieces, cap, every).best
        study = sharing.study(method, given.with_prior(best.prior), pieces, cap, every)
        found[name] = curves_of(study, best.choice, method.network)
    for name, makes in rated.items():
        found[name] = own_curves(makes[0](), makes, given, pieces)
    return found


def examples(
    methods: Mapping[str, Method],
    rated: Mapping[str, Sequence[Callable[[], TrainedShared]]],
    given: Trials,
    pieces: Pieces,
    cap: int,
    every: int,
    count: int,
) -> dict[str, list[np.ndarray]]:
    """What the first seed of every method draws of the first curves: name -> (points, 1) each.

    Arguments as in `compare`.
    """
    few = [given.test.take(i) for i in range(count)]
    found: dict[str, list[Any]] = {}
    for name, method in methods.items():
        best = sharing.best_prior(method, given, pieces, cap, every).best
        how = (best.choice, best.prior)
        ends = [sharing.fitted(method, method.seeds[0](), task, *how) for task in few]
        found[name] = [draw(method.network, end, task) for end, task in zip(ends, few)]
    for name, makes in rated.items():
        one = makes[0]()
        steps = (one.recipe.inner_steps, one.recipe.inner_lr)
        adapt = jax.jit(shared_losses.own_steps(one.network, *steps))
        ends = [adapt(one.parts, task, jax.random.key(n))[0] for n, task in enumerate(few)]
        found[name] = [draw(one.network, end, task) for end, task in zip(ends, few)]
    return found
