"""One network for many signals: every way to share, on the same tasks, by the one protocol.

A `Method` is a shared network, several trainings of it, and the step sizes it may try. For every
number of steps that a table shows, the optimizer and step size are those that are best on
validation tasks after so many steps.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import evaluate, fields
from learnit_utils.experiments import shared_training
from learnit_utils.experiments.protocol import Choice, Grid, Pieces, Study
from learnit_utils.experiments.shared_losses import looked_at
from learnit_utils.experiments.shared_networks import Parts, Shared
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


# --- inits as methods ---------------------------------------------------------------------------
def as_parts(theta: Any) -> Parts:
    """Weights as an initialization of which every weight is a signal's own."""
    return Parts(theta, jax.tree.map(jnp.zeros_like, theta))


def of_init(make: Callable[..., Any], *args: Any) -> Parts:
    """`as_parts` of what `make(*args)` gives: weights, or a trained init."""
    found = make(*args)
    return as_parts(getattr(found, "theta", found))


def with_fresh_head(make: Callable[..., Any], field: fields.Field, key: jax.Array, *args) -> Parts:
    """An initialization whose first layers are shared ones and whose last layer is drawn anew.

    Args:
        make: (*args) -> a trained shared network of the kind "heads".
        field: draws the last layer.
        key: of it.

    Source: Vyas et al. 2024 (STRAINER), section 3.2.
    """
    trained = make(*args)
    return as_parts([*trained.parts.shared, field.init(jax.random.clone(key))[-1]])


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
