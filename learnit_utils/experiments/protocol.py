"""The one protocol: choose per init on validation tasks, then report on test tasks, in pairs.

Every init gets the optimizer, the step size and the stopping step at which it is best on validation
tasks, out of one grid and one cap. Then, and only then, it is measured on test tasks, and two inits
are compared task by task. Each measured piece is filed under the content of all that it depends on
(`content.digest`), so a `Pieces` that keeps them can never return those of another init.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from learnit_utils import evaluate
from learnit_utils.evaluate import Problem
from learnit_utils.experiments.content import digest
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.inner import Init
from learnit_utils.metrics import SMALLEST, decibel
from learnit_utils.tasks import Tasks

DIGITS = 4  # of a kept value
Grid = Mapping[str, tuple[optax.GradientTransformation, Sequence[float]]]


def grid(sgd: Sequence[float] = (), adam: Sequence[float] = ()) -> Grid:
    """The optimizers of the book and the step sizes to try, as a Study takes them."""
    both = {"SGD": (evaluate.SGD, tuple(sgd)), "Adam": (evaluate.ADAM, tuple(adam))}
    return {name: pair for name, pair in both.items() if pair[1]}


def mean_psnr(errors: np.ndarray) -> np.ndarray:
    """PSNR in dB, mean over all but the first two axes: (tasks, marks, ...) -> (tasks, marks).

    That of a perfect fit is finite, so that it is told from one that diverges.
    """
    psnr = decibel(np.maximum(errors, SMALLEST))
    return psnr.mean(axis=tuple(range(2, psnr.ndim)))


# --- pieces -----------------------------------------------------------------------------------
class Pieces:
    """Results of functions, computed once each; subclasses keep them in files.

    A result is found again by the content of its function and arguments.
    """

    def __init__(self):
        self._values: dict[str, Any] = {}

    def call(
        self, study: str, about: Mapping[str, Any], function: Callable, *args, cost: float = 1
    ):
        """function(*args), or its kept result.

        Args:
            study: of the file that keeps it.
            about: what the piece is, for people; it does not identify it.
            function: returns JSON; deterministic.
            args: by their content (`content.digest`) a result is found again.
            cost: how much work it is, compared with other pieces of the study.
        """
        del study, about, cost
        key = digest(function, *args)
        if key not in self._values:
            self._values[key] = function(*args)
        return self._values[key]


# --- a study ----------------------------------------------------------------------------------
class Contender(NamedTuple):
    """An init in a study, or several seeds of it."""

    seeds: Sequence[Any]  # Init, weights, or a function of no arguments that makes one
    problem: Problem | None = None  # the study's, unless it has one of its own
    cost: float = 0  # of making a seed, if that is much work; as in `Pieces.call`


def made(seed: Any) -> Init:
    """The init that a seed of a `Contender` stands for."""
    return _made(seed)


class Choice(NamedTuple):
    """What validation chose for an init."""

    optimizer: str
    lr: float
    step: int
    at_edge: bool  # the step size is the smallest or largest tried
    value: float  # the mean on validation tasks there


class Outcome(NamedTuple):
    """What came of an init: `Study.outcome`."""

    choice: Choice
    test: dict[str, np.ndarray]  # metric -> (test tasks,)


@dataclass(frozen=True)
class Study:
    """Choose on validation, report on test.

    Attributes:
        name: of the results that are kept.
        problem: what a fit may use, and what judges it.
        inits: name -> `Contender`, or a sequence of seeds of an init.
        grid: name -> (optax transform of unit step size, step sizes to try).
        validation: tasks on which everything is chosen, by the first seed of an init; or a function
            of no arguments that makes them, called where a piece is measured.
        test: tasks that are reported, or a function that makes them, or one set for each seed.
        cap: the most steps that any init may take.
        every: steps between two looks at the held-out error; a divisor of cap.
        metrics: name -> function of held-out errors (tasks, marks, ...) -> (tasks, marks), larger
            is better.
        early_stop: whether the stopping step is chosen too; otherwise it is the cap.
        key: feeds what the loss draws; key 0 unless given.
        pieces: where measured pieces are kept.
    """

    name: str
    problem: Problem
    inits: Mapping[str, Any]
    grid: Grid
    validation: Tasks | Callable[[], Tasks]
    test: Tasks | Callable[[], Tasks] | Sequence[Tasks]
    cap: int
    every: int
    metrics: Mapping[str, Callable] = field(default_factory=lambda: {"psnr": mean_psnr})
    early_stop: bool = True
    key: jax.Array | None = None
    pieces: Pieces = field(default_factory=Pieces)

    def __post_init__(self):
        if self.every < 1 or self.cap < 1 or self.cap % self.every:
            raise ValueError(
                f"cap = {self.cap}, every = {self.every}: expected a multiple of every"
            )
        if not self.inits or not any(lrs for _, lrs in self.grid.values()):
            raise ValueError("inits, grid: expected at least one init and one step size")

    # --- what is measured ---------------------------------------------------------------------
    def contender(self, name: str) -> Contender:
        """An init with the problem it is fitted by."""
        entry = self.inits[name]
        entry = entry if isinstance(entry, Contender) else Contender(entry)
        return entry._replace(problem=entry.problem or self.problem)

    def init(self, name: str, seed: int = 0) -> Init:
        """An init by name."""
        return _made(self.contender(name).seeds[seed])

    def curve(self, name: str, optimizer: str, lr: float) -> dict[str, np.ndarray]:
        """Metric -> mean over validation tasks at steps 0, every, ... cap."""
        seeds, problem, making = self.contender(name)
        args = (seeds[0], problem, self.grid[optimizer][0], lr, self.validation)
        about = dict(init=name, optimizer=optimizer, lr=lr, of="validation")
        cost = making + self.cap * _count(self.validation)
        kept = self._call(about, _mean_curve, *args, self.cap, self.every, cost=cost)
        return {metric: _array(values) for metric, values in kept.items()}

    def course(self, name: str, choice: Choice, seed: int = 0) -> dict[str, np.ndarray]:
        """Metric -> (test tasks, marks) at steps 0, every, ... cap, by a choice's optimizer."""
        seeds, problem, making = self.contender(name)
        tasks = self._test(seed)
        args = (seeds[seed], problem, self.grid[choice.optimizer][0], choice.lr, tasks)
        about = dict(init=name, seed=seed, optimizer=choice.optimizer, lr=choice.lr, of="course")
        cost = making + self.cap * _count(tasks)
        kept = self._call(about, _course, *args, self.cap, self.every, cost=cost)
        return {metric: _array(values) for metric, values in kept.items()}

    def at(self, name: str, choice: Choice, seed: int = 0) -> dict[str, np.ndarray]:
        """Metric -> (test tasks,) at the step of a choice."""
        seeds, problem, making = self.contender(name)
        tasks = self._test(seed)
        args = (seeds[seed], problem, self.grid[choice.optimizer][0], choice.lr, tasks)
        about = dict(init=name, seed=seed, optimizer=choice.optimizer, lr=choice.lr)
        about |= dict(step=choice.step, of="test")
        cost = making + choice.step * _count(tasks)
        kept = self._call(about, _at_step, *args, choice.step, cost=cost)
        return {metric: _array(values) for metric, values in kept.items()}

    def best(self, name: str) -> dict[str, float]:
        """ "OPTIMIZER LR" -> the best mean of the first metric on validation tasks, one piece.

        Minus infinity for fits that diverge.
        """
        seeds, problem, making = self.contender(name)
        about = dict(init=name, of="best")
        args = (seeds[0], problem, _pairs(self.grid), self.validation, self.cap, self.every)
        args = (*args, self.early_stop)
        cost = making + self.cap * _count(self.validation) * len(self.tried())
        kept = self._call(about, _best, *args, cost=cost)
        return {how: -np.inf if value is None else value for how, value in kept.items()}

    def outcome(self, name: str) -> "Outcome":
        """Choice and scores of the first seed of an init, kept as one piece: for sweeps."""
        seeds, problem, making = self.contender(name)
        alone = dict(problem=problem, grid=_pairs(self.grid), validation=self.validation)
        alone |= dict(test=self._test(0), cap=self.cap, every=self.every)
        about = dict(init=name, of="outcome")
        cost = making + self.cap * _count(self.validation) * len(self.tried())
        kept = self._call(about, _outcome, seeds[0], alone, self.early_stop, cost=cost)
        return Outcome(Choice(**kept["choice"]), {k: _array(v) for k, v in kept["test"].items()})

    def _call(self, about, function, *args, cost):
        args = (*args, _pairs(self.metrics), self.key)
        return self.pieces.call(self.name, about, function, *args, cost=cost)

    def _test(self, seed: int) -> Tasks | Callable[[], Tasks]:
        one = isinstance(self.test, Tasks) or callable(self.test)
        return self.test if one else self.test[seed]

    # --- choose and report --------------------------------------------------------------------
    def tried(self) -> list[tuple[str, float]]:
        """(optimizer, step size) of the whole grid."""
        return [(name, lr) for name, (_, lrs) in self.grid.items() for lr in lrs]

    @cached_property
    def _first_metric(self) -> str:
        return next(iter(self.metrics))

    def choose_one(self, name: str, by: str | None = None) -> Choice:
        """The best optimizer, step size and step of one init on validation tasks.

        Raises:
            ValueError: every fit of the grid diverges.
        """
        by, best = by or self._first_metric, None
        for optimizer, lr in self.tried():
            values = self.curve(name, optimizer, lr)[by]
            mark = self._best_mark(values)
            if mark is not None and (best is None or values[mark] > best.value):
                lrs = self.grid[optimizer][1]
                edge = len(lrs) > 1 and lr in (min(lrs), max(lrs))
                best = Choice(optimizer, lr, int(mark) * self.every, edge, float(values[mark]))
        if best is None:
            raise ValueError(f"{self.name}: every fit of {name} diverges, on the whole grid")
        return best

    def _best_mark(self, values: np.ndarray) -> int | None:
        """Where a curve is best, if it may stop there; None where it is finite nowhere."""
        marks = np.arange(len(values)) if self.early_stop else np.array([len(values) - 1])
        usable = marks[np.isfinite(values[marks])]
        return max(usable, key=lambda k: values[k], default=None)

    def choose(self, by: str | None = None) -> dict[str, Choice]:
        """init -> what is best for it on validation tasks, by a metric (the first unless given)."""
        return {name: self.choose_one(name, by) for name in self.inits}

    def score(self, choice: Mapping[str, Choice]) -> Scores:
        """Every seed of the chosen inits on test tasks, each at its choice."""
        rows = []
        for name, chosen in choice.items():
            for seed in range(len(self.contender(name).seeds)):
                for metric, values in self.at(name, chosen, seed).items():
                    rows += [Row(name, seed, i, metric, float(v)) for i, v in enumerate(values)]
        return Scores(rows)


def _array(values: Any) -> np.ndarray:
    return np.array(values, np.float64)  # None becomes nan


def _made(seed: Any) -> Init:
    return Init.of(seed() if callable(seed) else seed)


def _pairs(mapping: Mapping) -> tuple:
    """A mapping of which the order counts: ties go to the first, and so does the choice."""
    return tuple(mapping.items())


def _made_tasks(tasks: Any) -> Tasks:
    return tasks() if callable(tasks) else tasks


def _count(tasks: Any) -> int:
    """How many tasks there are; 1 as long as they are not made."""
    return 1 if callable(tasks) else tasks.count


def _progress(seed, problem, optimizer, lr, tasks, steps, every, metrics, key):
    init, tasks = _made(seed), _made_tasks(tasks)
    key = None if key is None else jax.random.clone(key)  # every fit draws the same
    errors = evaluate.progress(problem, init, tasks, optimizer, lr, steps, every, key)
    return {name: metric(errors.held_out) for name, metric in metrics}


def _kept(values: np.ndarray) -> list:
    """As JSON, with None for what is not a number."""
    rounded = np.round(np.asarray(values, np.float64), DIGITS)
    return np.where(np.isfinite(rounded), rounded, None).tolist()


def _mean_curve(seed, problem, optimizer, lr, tasks, cap, every, metrics, key):
    """Metric -> mean over tasks at every mark."""
    found = _progress(seed, problem, optimizer, lr, tasks, cap, every, metrics, key)
    return {name: _kept(values.mean(axis=0)) for name, values in found.items()}


def _course(seed, problem, optimizer, lr, tasks, cap, every, metrics, key):
    """Metric -> (tasks, marks)."""
    found = _progress(seed, problem, optimizer, lr, tasks, cap, every, metrics, key)
    return {name: _kept(values) for name, values in found.items()}


def _at_step(seed, problem, optimizer, lr, tasks, step, metrics, key):
    """Metric -> (tasks,) at one step."""
    steps = max(step, 1)
    found = _progress(seed, problem, optimizer, lr, tasks, steps, steps, metrics, key)
    return {name: _kept(values[:, min(step, 1)]) for name, values in found.items()}


def _best(seed, problem, grid, tasks, cap, every, early_stop, metrics, key):
    """ "OPTIMIZER LR" -> best mean of the first metric."""
    alone = _alone(seed, dict(problem=problem, grid=grid, validation=tasks, test=tasks), metrics)
    study, found = alone(cap=cap, every=every, early_stop=early_stop, key=key), {}
    for optimizer, lr in study.tried():
        values = study.curve("init", optimizer, lr)[study._first_metric]
        mark = study._best_mark(values)
        found[f"{optimizer} {lr:g}"] = None if mark is None else float(values[mark])
    return found


def _outcome(seed, settings, early_stop, metrics, key):
    """The choice, and metric -> (test tasks,)."""
    study = _alone(seed, settings, metrics)(early_stop=early_stop, key=key)
    choice = study.choose_one("init")
    test = {name: _kept(values) for name, values in study.at("init", choice).items()}
    return dict(choice=choice._asdict(), test=test)


def _alone(seed, settings, metrics) -> Callable[..., Study]:
    """A study of one init, kept nowhere."""
    settings = settings | dict(grid=dict(settings["grid"]), metrics=dict(metrics))
    return partial(Study, "alone", inits={"init": [seed]}, **settings)


def spot_check(study: Study) -> dict[str, np.ndarray]:
    """One short fit, kept so that a page can measure it again: metric -> (1,).

    Of the last init of a study, by the last optimizer of its grid with the smallest step size, on
    the first test task, to the first look at its held-out error.
    """
    name, optimizer = next(reversed(study.inits)), next(reversed(study.grid))
    lr = min(study.grid[optimizer][1])
    choice = Choice(optimizer, lr, study.every, at_edge=False, value=np.nan)
    return replace(study, test=study.test.take(slice(1))).at(name, choice)


def tuned_method(
    score: Callable[[Tasks, Mapping[str, Any]], np.ndarray],
    settings: Sequence[Mapping[str, Any]],
    validation: Tasks | Callable[[], Tasks],
    test: Tasks | Callable[[], Tasks],
) -> dict[str, Any]:
    """The same protocol for a method without an init: the best setting on validation, then test.

    Args:
        score: (tasks, setting) -> (tasks,) values, larger is better.
        settings: those to try.
        validation, test: as in `Study`.

    Returns:
        {"setting", "psnr": values on test tasks}, as JSON.

    Raises:
        ValueError: no setting has a finite mean on validation.
    """
    validation, test = map(_made_tasks, (validation, test))
    means = np.array([np.mean(score(validation, setting)) for setting in settings])
    if not np.isfinite(means).any():
        raise ValueError(f"settings: expected one with finite scores, none of {len(means)} has")
    chosen = settings[int(np.where(np.isfinite(means), means, -np.inf).argmax())]
    return dict(setting=dict(chosen), psnr=_kept(score(test, chosen)))
