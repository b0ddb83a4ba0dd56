"""A learned init beside the paper's other inits: how long they take, and what they output.

Everything here is kept in the study "starts".

Source: Tancik et al. 2021, table 1 and section 4.1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from learnit_utils import evaluate, inner
from learnit_utils.experiments import fitting
from learnit_utils.experiments.first_steps import FirstStep, first_step
from learnit_utils.experiments.protocol import DIGITS, Pieces, made
from learnit_utils.experiments.transfer import kept_psnr
from learnit_utils.fields import Field, Theta
from learnit_utils.inner import Adapt
from learnit_utils.metrics import decibel, mse
from learnit_utils.tasks import Loss, Tasks

STUDY, STANDARD, LEARNED = "starts", "standard", "learned"
LOOK = 100  # the cost of making an init and looking at it once, in steps
Seeds = Mapping[str, Sequence[Any]]  # name -> seeds of an init, as in `protocol.Contender`


# --- long fits ----------------------------------------------------------------------------------
class LongFits(NamedTuple):
    """Steps of Adam against the few steps of a learned init."""

    tried: dict[float, np.ndarray]  # step size -> PSNR (steps + 1,), standard init, validation
    lr: float  # the best of them at the end
    learned: np.ndarray  # PSNR along the learned init's steps on the same task
    arrive: dict[float, int | None]  # step size -> steps to the learned init's last PSNR
    enough: int  # steps of the fits on test tasks
    goal: float  # mean PSNR that the learned init reaches there
    reach: dict[str, int | None]  # init -> steps to the goal, by the best step size

    @property
    def at_edge(self) -> bool:
        """Whether the best step size is the smallest or the largest tried."""
        return fitting.at_edge(self.lr, sorted(self.tried))


def long_fits(
    pieces: Pieces,
    loss: Loss,
    adapt: Adapt,
    inits: Seeds,
    validation: Tasks,
    test: Sequence[Tasks],
    lrs: Sequence[float],
    steps: int,
) -> LongFits:
    """How many steps of Adam other inits need for what a learned one reaches in a few of descent.

    Args:
        pieces: where every fit is kept.
        loss: that is descended and that judges.
        adapt: the steps of the learned init.
        inits: "standard", "learned" and others.
        validation: one task, on which Adam's step size is chosen for the standard init.
        test: one task for each of the first seeds.
        lrs: step sizes of Adam.
        steps: of the longest fit; on test tasks all get twice the steps that the standard init
            needed on validation.
    """

    def adam(lr, count, init, task, **about):
        by_adam = inner.with_optimizer(loss, count, optax.adam(lr), keep_last=0)
        how = dict(study=STUDY, cost=count, lr=lr, steps=count)
        return kept_psnr(pieces, loss, by_adam, init, task, **how, **about)[0]

    def learned(task, of):
        how = dict(study=STUDY, by=LEARNED, of=of)
        return kept_psnr(pieces, loss, adapt, inits[LEARNED][0], task, **how)[0]

    standard, about = inits[STANDARD][0], dict(by=STANDARD, of="validation")
    tried = {lr: adam(lr, steps, standard, validation, **about) for lr in lrs}
    best = fitting.best({lr: psnr[-1] for lr, psnr in tried.items()})
    few = learned(validation, "validation")
    arrive = {lr: evaluate.steps_to(psnr, few[-1]) for lr, psnr in tried.items()}
    enough = min(steps, 2 * (arrive[best] or steps))
    goal = float(np.mean([learned(task, f"test {i}")[-1] for i, task in enumerate(test)]))
    reach = {}
    for name, seeds in inits.items():
        if name != LEARNED:
            pairs = enumerate(zip(seeds, test))
            runs = [adam(best, enough, s, t, by=name, of=f"test {i}") for i, (s, t) in pairs]
            reach[name] = evaluate.steps_to(np.mean(runs, axis=0), goal)
    return LongFits(tried, best, few, arrive, enough, goal, reach)


# --- first looks --------------------------------------------------------------------------------
def first_steps(
    pieces: Pieces, field: Field, loss: Loss, inits: Seeds, tasks: Sequence[Tasks], lr: float
) -> dict[str, FirstStep]:
    """`first_steps.first_step` of every init, mean over seeds with one image each.

    Args:
        pieces: where every step is kept.
        field, loss, lr: as in `first_steps.first_step`.
        inits: with a seed for each image.
        tasks: one image each.
    """
    found = {}
    for name, seeds in inits.items():
        steps = []
        for i, (init, task) in enumerate(zip(seeds, tasks, strict=True)):
            about, args = dict(by=name, of="first step", seed=i), (field, loss, init, task, lr)
            steps.append(pieces.call(STUDY, about, _first_step, *args, cost=LOOK))
        found[name] = FirstStep(*np.mean(steps, axis=0).tolist())
    return found


def _first_step(field, loss, init, task, lr):
    found = first_step(field, loss, made(init).theta, task, lr)
    return [float(f"{value:.6g}") for value in found]


def output_match(
    pieces: Pieces, field: Field, inits: Sequence[Any], theta: Theta, x: jax.Array
) -> float:
    """PSNR in dB of the output of seeds of an init against that of theta, at x: the median."""
    found = []
    for i, init in enumerate(inits):
        about = dict(by="matched", of="output", seed=i)
        found.append(pieces.call(STUDY, about, _match, field, init, theta, x, cost=LOOK))
    return float(np.median(found))


def _match(field, init, theta, x):
    return round(float(decibel(mse(field(made(init).theta, x), field(theta, x)))), DIGITS)
