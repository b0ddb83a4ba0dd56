"""Tables of scores: tidy rows, means with intervals, inits compared task by task."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from learnit_utils.evaluate import Interval, interval


class Row(NamedTuple):
    """One number of a table of scores."""

    init: str
    seed: int
    task: int
    metric: str
    value: float


class Paired(NamedTuple):
    """Two inits compared task by task."""

    interval: Interval  # of the differences
    won: float  # share of the tasks on which the first is ahead
    diverged: int  # tasks left out because a fit of either diverged


@dataclass(frozen=True)
class Scores:
    """Tidy rows: init, seed, task, metric, value; a diverged fit has the value nan."""

    rows: Sequence[Row]

    def inits(self) -> list[str]:
        """The names of the inits."""
        return list(dict.fromkeys(row.init for row in self.rows))

    def table(self, init: str, metric: str | None = None) -> np.ndarray:
        """The values of an init by a metric (the first unless given): (seeds, tasks)."""
        mine = [r for r in self.rows if r.init == init]
        if not mine:
            raise KeyError(f"no init {init!r}: there are {', '.join(self.inits())}")
        metric = metric or mine[0].metric
        values = {(r.seed, r.task): r.value for r in mine if r.metric == metric}
        if not values:
            known = ", ".join(dict.fromkeys(r.metric for r in mine))
            raise KeyError(f"no metric {metric!r}: there are {known}")
        seeds, tasks = (sorted({k[i] for k in values}) for i in (0, 1))
        flat = [values[key] for key in product(seeds, tasks)]
        return np.array(flat).reshape(len(seeds), len(tasks))

    def by_task(self, init: str, metric: str | None = None) -> np.ndarray:
        """Every task's value, mean over the seeds of the init: (tasks,)."""
        return self.table(init, metric).mean(axis=0)

    def by_seed(self, init: str, metric: str | None = None) -> np.ndarray:
        """Every seed's value, mean over tasks: (seeds,)."""
        return np.nanmean(self.table(init, metric), axis=1)

    def diverged(self, init: str, metric: str | None = None) -> int:
        """How many fits of an init diverged."""
        return int(np.isnan(self.table(init, metric)).sum())

    def mean(
        self, init: str, metric: str | None = None, groups: Sequence | None = None
    ) -> Interval:
        """Mean over tasks with its interval, without diverged fits (`diverged` counts them)."""
        values = self.by_task(init, metric)
        good = np.isfinite(values)
        return interval(values[good], _labels(groups, good))

    def paired(
        self, init: str, over: str, metric: str | None = None, groups: Sequence | None = None
    ) -> Paired:
        """By how much an init is ahead of another, task by task."""
        gap = self.by_task(init, metric) - self.by_task(over, metric)
        good = np.isfinite(gap)
        ahead = interval(gap[good], _labels(groups, good))
        return Paired(ahead, float((gap[good] > 0).mean()), int((~good).sum()))


def _labels(groups: Sequence | None, good: np.ndarray) -> list | None:
    """The groups of the tasks that are left."""
    return None if groups is None else [g for g, ok in zip(groups, good, strict=True) if ok]
