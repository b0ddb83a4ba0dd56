"""Inits of some classes of signals tried on others: a table of inits and classes, read in pairs.

A learned init takes the steps that it was learned with. A random one takes as many steps of Adam,
with the step size that validation tasks of the class choose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import evaluate, inner
from learnit_utils.evaluate import Interval, Problem, interval
from learnit_utils.experiments import flops, recipe
from learnit_utils.experiments.protocol import DIGITS, Choice, Pieces, Study, grid, made
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.experiments.store import Trained
from learnit_utils.fields import Field, Theta
from learnit_utils.inner import Adapt
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Loss, Tasks

STUDY, RANDOM, METRIC = "transfer", "random", "psnr"
Pair = tuple[str, str]  # name of an init, name of a class


class Trials(NamedTuple):
    """Tasks of a class on which inits are tried."""

    test: Tasks
    owners: Sequence[str]  # whose each is; tasks of one owner do not vary independently
    validation: Tasks  # for the step size of a random init


MARKS = {"faces": "/", "photos": "#"}  # names are PERSON/NUMBER and PHOTOGRAPH#CROP


def owners(kind: str, names: Sequence[str]) -> list[str]:
    """Whose pictures of a class are, by their names: people, photographs, else each its own.

    >>> owners("faces", ["s33/1", "s33/2", "s34/1"])
    ['s33', 's33', 's34']
    """
    mark = MARKS.get(kind)
    return [name.partition(mark)[0] if mark else name for name in names]


# --- fits ---------------------------------------------------------------------------------------
def psnr(loss: Loss, adapt: Adapt, init: Any, tasks: Tasks) -> np.ndarray:
    """PSNR in dB before, between and after the steps of an inner loop: (tasks, steps + 1)."""
    return decibel(evaluate.trajectory(loss, adapt, init, tasks))


def curve(loss: Loss, adapt: Adapt, init: Any, tasks: Tasks) -> list:
    """`psnr` as JSON; init may be a function that makes one, as in `protocol.Contender`."""
    return np.round(psnr(loss, adapt, made(init), tasks).astype(np.float64), DIGITS).tolist()


def kept_psnr(
    pieces: Pieces,
    loss: Loss,
    adapt: Adapt,
    init: Any,
    tasks: Tasks,
    *,
    study: str = STUDY,
    cost: float = 1,
    **about: Any,
) -> np.ndarray:
    """`psnr` by a piece of a study.

    Args:
        pieces: where it is kept.
        loss, adapt, tasks: as in `psnr`.
        init: an init, or a function that makes one.
        study: the name of the file that ships.
        cost: of a task, as in `Pieces.call`.
        about: what the piece is, for people.
    """
    args, cost = (loss, adapt, init, tasks), cost * tasks.count
    return np.array(pieces.call(study, about, curve, *args, cost=cost))


def with_adam(
    loss: Loss, init: Any, trials: Trials, lrs: Sequence[float], steps: int, pieces: Pieces
) -> Study:
    """The study of one init, named "random", that takes so many steps of Adam."""
    settings = dict(cap=steps, every=steps, early_stop=False, pieces=pieces)
    tasks = (trials.validation, trials.test)
    return Study(STUDY, Problem(loss, loss), {RANDOM: [init]}, grid(adam=lrs), *tasks, **settings)


def after(
    trained: Trained,
    tasks: Tasks,
    steps: Sequence[int],
    pieces: Pieces | None = None,
    name: str = "",
) -> dict[int, np.ndarray]:
    """PSNR in dB after some numbers of steps of the inner loop that an init was learned with.

    Steps beyond those of its recipe go on in the same way; learned step sizes repeat their last.

    Args:
        trained: the init.
        tasks: to fit.
        steps: the numbers.
        pieces: where the values are kept, under that name of the init.

    Returns:
        Number of steps -> (tasks,).
    """
    settings, loss = trained.trained_by(), trained.problem().loss
    pieces = pieces or Pieces()

    def curve(count):
        adapt = recipe.functions(recipe.with_changes(settings, inner_steps=count)).adapt
        how = (pieces, loss, adapt, trained.init, tasks)
        return kept_psnr(*how, of=f"{count} steps of its own loop", by=name)

    if settings.context_fraction is not None:  # on the way it is measured on a part of the points
        return {count: curve(count)[:, -1] for count in steps}
    longest = curve(max(steps))
    return {count: longest[:, count] for count in steps}


def watched(
    field: Field, loss: Loss, theta: Theta, tasks: Tasks, lr: float, steps: int
) -> np.ndarray:
    """What a network draws before, between and after plain steps of descent on each of some tasks:
    (tasks, steps + 1, points, channels)."""
    one_step = inner.sgd(loss, 1, lr)

    @jax.jit
    def watch(theta, task):
        def step(theta, _):
            return one_step(theta, task, jax.random.key(0))[0], field(theta, task.shared)

        end, drawn = jax.lax.scan(step, theta, length=steps)
        return jnp.concatenate([drawn, field(end, task.shared)[None]])

    return np.stack([watch(theta, tasks.take(i)) for i in range(tasks.count)])


def lessons(trained: Trained) -> int:
    """The number of tasks that an init was learned from, as its manifest says."""
    return trained.info["data"]["train"]["count"]


def work(trained: Trained, tasks: Tasks) -> float:
    """FLOPs in matrix products of an outer step on these tasks, as the init was learned."""
    keys = evaluate.task_keys(tasks)
    return flops.matmul_flops(trained.problem().grad.step, trained.init, tasks, keys)


# --- the table ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Table:
    """Every init on the test tasks of every class.

    Attributes:
        curves: (init, class) -> PSNR (tasks, K + 1) along the learned inits' inner loop, the random
            init's, too.
        scores: class -> PSNR of the inits after K steps; that of the random init by Adam.
        adam: class -> the step size that was chosen for the random init.
        owners: class -> whose the test tasks are.
    """

    curves: Mapping[Pair, np.ndarray]
    scores: Mapping[str, Scores]
    adam: Mapping[str, Choice]
    owners: Mapping[str, Sequence[str]]

    def mean(self, init: str, of: str) -> Interval:
        """PSNR in dB of an init on a class, mean over owners."""
        return self.scores[of].mean(init, groups=self.owners[of])

    def lead(self, init: str, over: str, of: str) -> Interval:
        """By how many dB an init is ahead of another on a class, task by task, mean over owners."""
        return self.scores[of].paired(init, over, groups=self.owners[of]).interval

    def lead_by_step(self, init: str, over: str, of: str) -> list[Interval]:
        """The lead along the inner loop, at steps 0 ... K."""
        gap = self.curves[init, of] - self.curves[over, of]
        return [interval(at_step, self.owners[of]) for at_step in gap.T]

    def rival(self, of: str) -> str:
        """The best init for a class, its own aside."""
        others = [init for init in self.scores[of].inits() if init != of]
        return max(others, key=lambda init: self.mean(init, of).mean)

    def add(self, init: str, curves: Mapping[str, np.ndarray]) -> "Table":
        """The table with one more init, on some classes: class -> its PSNR (tasks, K + 1)."""
        scores = dict(self.scores)
        for of, values in curves.items():
            scores[of] = Scores([*scores[of].rows, *_rows(init, values[:, -1])])
        pairs = {(init, of): values for of, values in curves.items()}
        return replace(self, curves={**self.curves, **pairs}, scores=scores)


def table(
    loss: Loss,
    adapt: Adapt,
    inits: Mapping[str, Any],
    trials: Mapping[str, Trials],
    lrs: Sequence[float],
    pieces: Pieces | None = None,
) -> Table:
    """Try every init on every class.

    Args:
        loss: that is descended and that judges.
        adapt: the inner loop of the learned inits.
        inits: name -> init; one is named "random".
        trials: class -> tasks.
        lrs: step sizes of Adam for the random init.
        pieces: where the cells are kept.
    """
    pieces = pieces or Pieces()
    curves, scores, adam = {}, {}, {}
    for of, tasks in trials.items():
        rows = []
        for name, init in inits.items():
            how = (pieces, loss, adapt, init, tasks.test)
            curves[name, of] = kept_psnr(*how, by=name, of=of)
            rows += _rows(name, curves[name, of][:, -1]) if name != RANDOM else []
        steps = curves[RANDOM, of].shape[1] - 1
        study = with_adam(loss, inits[RANDOM], tasks, lrs, steps, pieces)
        adam[of] = study.choose_one(RANDOM)
        scores[of] = Scores([*study.score({RANDOM: adam[of]}).rows, *rows])
    return Table(curves, scores, adam, {of: tasks.owners for of, tasks in trials.items()})


def _rows(init: str, values: np.ndarray) -> list[Row]:
    return [Row(init, 0, task, METRIC, float(value)) for task, value in enumerate(values)]


def r_squared(by: Mapping[Pair, float], real: Mapping[Pair, float]) -> float:
    """The part of the variance of a table that its regression on another explains, 0 to 1.

    Args:
        by: the cells that are looked at.
        real: these cells, or more.
    """
    told, found = zip(*((value, real[cell]) for cell, value in by.items()))
    return float(np.corrcoef(told, found)[0, 1] ** 2)


def caught_up(curves: Mapping[Pair, np.ndarray], step: int) -> list[Pair]:
    """Foreign inits that end where the class's own init was at a step, or above.

    Args:
        curves: (init, class) -> PSNR (tasks, steps + 1).
    """
    mean = {pair: values.mean(axis=0) for pair, values in curves.items()}
    foreign = [(init, of) for init, of in mean if init != of]
    return [(init, of) for init, of in foreign if mean[init, of][-1] >= mean[of, of][step]]
