"""Pictures from few views, compared by the one protocol: inits, classical methods, a sweep."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from learnit_utils import baselines
from learnit_utils.evaluate import Interval, Problem, interval
from learnit_utils.experiments import classical, scanner
from learnit_utils.experiments.protocol import (
    Choice,
    Contender,
    Grid,
    Pieces,
    Study,
    tuned_method,
)
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.experiments.store import Trained
from learnit_utils.fields import Field, Theta
from learnit_utils.forward import pixels, reconstruct
from learnit_utils.forward.tomography import from_degrees, scan_problem, scan_tasks
from learnit_utils.signals import scans
from learnit_utils.tasks import Split, Tasks, regression

FITTER = optax.adam(3e-3)  # of the mean and the matched init, to pictures
EXAMPLE = (16, 120.0)  # views and degrees of a scan that stands for one's own
BRIGHT = 0.99  # this share of an own scan's pixels shall lie in [0, 1]


def counted(views: int | np.ndarray) -> str:
    """A number of views in words; of angles in radians, also how far they reach.

    >>> counted(1), counted(4), counted(wedge(8, 120.0))
    ('1 view', '4 views', '8 views within 120°')
    """
    if not np.ndim(views):
        return f"{views} view{'s' * (views != 1)}"
    reach = np.rad2deg(np.ptp(views)) * (1 + 1 / max(len(views) - 1, 1))
    return f"{counted(len(views))} within {reach:.0f}°"


def wedge(views: int, reach: float) -> np.ndarray:
    """Even angles of a scanner that cannot turn all the way: (views,) float32, radians.

    Args:
        views: how many, at k reach / views.
        reach: degrees, at most 180.

    Raises:
        ValueError: fewer than 2 views, or another reach.
    """
    if views < 2 or not 0 < reach <= 180:
        raise ValueError(
            f"views = {views}, reach = {reach}: expected >= 2, and degrees in (0, 180]"
        )
    return from_degrees(np.arange(views) * (reach / views))


def label(init: str, views: int | np.ndarray) -> str:
    """The name of an init in a study of so many views, or of such angles."""
    return f"{init}, {counted(views)}"


# --- inits ------------------------------------------------------------------------------------
class Entrant(NamedTuple):
    """An init, or several seeds of it, and the network it is of."""

    seeds: Sequence[Any]  # as in `protocol.Contender`
    net: Field
    cost: float = 0  # of making a seed

    def contender(self) -> Contender:
        """As a study takes it."""
        return Contender(self.seeds, scan_problem(self.net), self.cost)


def random_init(net: Field, keys: Sequence[jax.Array]) -> Entrant:
    """A network's random init, a seed for every key."""
    return Entrant([partial(_drawn, net, key) for key in keys], net)


def _drawn(net: Field, key: jax.Array) -> Theta:
    return net.init(jax.random.clone(key))  # a seed is drawn anew for every piece


def _anew(make: Callable, *args) -> Any:
    """make(*args), as often as it is called, though a key among the arguments is used up once."""
    return make(*(jax.random.clone(arg) if _is_key(arg) else arg for arg in args))


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)


def entrants(
    net: Field,
    learned: Mapping[str, Trained],
    images: Tasks,
    keys: Sequence[jax.Array],
    keys_random: Sequence[jax.Array],
    steps: int,
) -> dict[str, Entrant]:
    """The inits of the paper's table; what has to be computed is, where a piece is measured.

    Args:
        net: of the random, the mean and the matched init.
        learned: name -> learned init; the first is what "matched" and "shuffled" go by.
        images: image tasks of training, whose mean "mean" is fitted to.
        keys: of the mean, the matched and the shuffled init.
        keys_random: one for each seed of the random init.
        steps: of the fits of the mean and the matched init.
    """
    key_mean, key_matched, key_shuffled = keys
    first, whole, how = next(iter(learned.values())), regression(net), (FITTER, steps)
    like = (first.theta, images.shared)
    made = {
        "mean": (partial(_anew, baselines.mean, net, key_mean, whole, images, *how), net),
        "matched": (partial(_anew, baselines.matched, net, key_matched, whole, *like, *how), net),
        "shuffled": (partial(_anew, baselines.shuffled, key_shuffled, first.theta), first.field),
    } | {name: (w.theta, w.field) for name, w in learned.items()}
    found = {name: Entrant([seed], its) for name, (seed, its) in made.items()}
    return {"random": random_init(net, keys_random)} | found


# --- the protocol, on scans -------------------------------------------------------------------
@dataclass(frozen=True)
class Comparison:
    """Fits to scans, chosen on validation images and reported on test images.

    `views` is a number of even angles, or the angles themselves, in radians.

    Attributes:
        validation, test: image tasks.
        grid, cap, every, pieces: as in `protocol.Study`.
    """

    validation: Tasks
    test: Tasks
    grid: Grid
    cap: int
    every: int
    pieces: Pieces = field(default_factory=Pieces)

    def _scans(self, views: int | np.ndarray) -> list[Callable[[], Tasks]]:
        return [partial(scan_tasks, images, views) for images in (self.validation, self.test)]

    def study(self, name: str, inits: Mapping[str, Entrant], views: int | np.ndarray) -> Study:
        """The study of so many views, in which inits go by `label`; each has its own problem."""
        named = {label(n, views): init.contender() for n, init in inits.items()}
        problem = next(iter(named.values())).problem
        how = dict(cap=self.cap, every=self.every, pieces=self.pieces)
        return Study(name, problem, named, self.grid, *self._scans(views), **how)

    def classical(self, name: str, method: str, views: int | np.ndarray) -> np.ndarray:
        """PSNR of a method without a network on test images, its setting chosen: (tasks,)."""
        reconstruct, settings = classical.METHODS[method]
        args = (partial(classical.psnr, reconstruct), settings, *self._scans(views))
        shown = counted(views) if np.ndim(views) else views
        about, cost = dict(method=method, views=shown), 2 * self.cap  # more than any network's fit
        psnr = self.pieces.call(name, about, tuned_method, *args, cost=cost)["psnr"]
        return np.array(psnr, np.float64)  # none becomes nan

    def everyone(
        self,
        name: str,
        inits: Mapping[str, Entrant],
        methods: Iterable[str],
        views: int | np.ndarray,
    ) -> Scores:
        """Inits and methods without a network, all chosen and scored, by their `label`."""
        study = self.study(name, inits, views)
        rows = [*study.score(study.choose()).rows]
        for method in methods:
            psnr = self.classical(name, method, views)
            rows += [Row(label(method, views), 0, i, "psnr", float(v)) for i, v in enumerate(psnr)]
        return Scores(rows)


def together(tables: Iterable[Scores]) -> Scores:
    """Several tables as one."""
    return Scores([row for table in tables for row in table.rows])


class Lead(NamedTuple):
    """An init compared with another, task by task."""

    margin: Interval  # of the difference, the other's mean over its seeds
    won: float  # share of the pairs of a task and a seed of the other in which both are finite


def lead(scores: Scores, init: str, over: str) -> Lead:
    """How an init compares with another; the names may be of different numbers of views."""
    ahead = scores.by_task(init) - scores.table(over)
    won = ahead[np.isfinite(ahead)] > 0
    return Lead(scores.paired(init, over).interval, float(won.mean()))


# --- many views, with noise -------------------------------------------------------------------
class Course(NamedTuple):
    """PSNR along fits."""

    every: int  # steps between two looks
    held_out: np.ndarray  # (marks,) mean on validation scans
    test: np.ndarray  # (test tasks, marks)

    def within(self, budget: int) -> np.ndarray:
        """On test scans, at the step within a budget that validation scans choose: (tasks,).

        Raises:
            ValueError: every mark within the budget diverged.
        """
        usable = self.every * np.arange(len(self.held_out)) <= budget
        if not np.isfinite(self.held_out[usable]).any():
            raise ValueError(f"all fits diverge within {budget} steps, on validation scans")
        return self.test[:, np.nanargmax(self.held_out[usable])]


def gaps(
    reached: Mapping[tuple[str, int, float, int], np.ndarray], init: str, over: str
) -> dict[tuple[float, int, int], Interval]:
    """By how much an init of a sweep is ahead: (noise, budget, views) -> interval over tasks.

    Args:
        reached: (init, views, noise, budget of steps) -> (tasks,) PSNR; `Course.within`.
    """
    views, levels, budgets = (list(dict.fromkeys(k[i] for k in reached)) for i in (1, 2, 3))
    found = {}
    for level, budget, v in product(levels, budgets, views):
        psnr, other = (reached[name, v, level, budget] for name in (init, over))
        found[level, budget, v] = interval(psnr - other)
    return found


@dataclass(frozen=True)
class Sweep:
    """Fits in the scanner's own basis, from any number of views, with noise.

    Attributes:
        problem: network -> problem of scans from `scanner.in_basis`.
        validation, test: image tasks; noise is drawn for all of them at once.
        key: draws it.
        grid, cap, pieces: as in `protocol.Study`.
        every: steps between two looks.
    """

    problem: Callable[[Field], Problem]
    validation: Tasks
    test: Tasks
    key: jax.Array
    grid: Grid
    cap: int
    every: int
    pieces: Pieces = field(default_factory=Pieces)

    def _scans(self, make: Callable, views: int, noise: float) -> list[Callable[[], Tasks]]:
        """Validation and test scans."""
        each = (self.validation.each, self.test.each)
        both = Tasks(jax.numpy.concatenate(each), self.test.shared)
        parts = range(len(each[0])), range(len(each[0]), both.count)
        key = self.key if noise else None
        return [partial(make, both, views, noise, key, part) for part in parts]

    def course(
        self, init: str, entrant: Entrant, views: int, noise: float, chosen: Choice
    ) -> Course:
        """The first seed of an init along its fits, by the optimizer and step size chosen."""
        name, problem = f"{label(init, views)}, noise {noise:g}", self.problem(entrant.net)
        scans = self._scans(scanner.basis_scans, views, noise)
        how = dict(cap=self.cap, every=self.every, pieces=self.pieces)
        study = Study("ct_sweep", problem, {name: entrant.seeds[:1]}, self.grid, *scans, **how)
        held_out = study.curve(name, chosen.optimizer, chosen.lr)["psnr"]
        return Course(self.every, held_out, study.course(name, chosen)["psnr"])

    def fbp(self, views: int, noise: float) -> float:
        """Mean finite PSNR of filtered backprojection on test images, its window chosen."""
        method, windows = classical.METHODS["FBP"]
        scans = self._scans(scanner.noisy_scans, views, noise)
        args = (partial(classical.psnr, method), windows, *scans)
        about = dict(method="FBP", views=views, noise=noise)
        psnr = self.pieces.call("ct_sweep", about, tuned_method, *args)["psnr"]
        return np.nanmean(np.array(psnr, np.float64))


# --- a scan of one's own ------------------------------------------------------------------------
class Own(NamedTuple):
    """A measured scan, without a picture to judge by, in the values that inits are learned from."""

    task: Tasks  # one, as from `tomography.scan_tasks`; what judges is empty
    fbp: np.ndarray  # (n, n), its filtered backprojection
    unit: float  # a value of 1 in its pictures is so much, in the scan's unit a picture side
    about: Mapping[str, Any]  # as `scans.Scan.provenance`


def own_scan(file: str, size: int, images: Tasks | None = None) -> Own:
    """A sinogram from a file, for networks that are learned from pictures in [0, 1].

    Detectors are joined to at most `size`. Values are divided by `BRIGHT`, a quantile, of the
    filtered backprojection where it is positive.

    Args:
        file: as `signals.scans.read` takes it.
        size: pixels of a side that are reconstructed, at most.
        images: image tasks; without a file, the first is scanned from `EXAMPLE`.

    Raises:
        DataError: as `signals.scans.read`, or a scan of nothing that absorbs.
    """
    scan = scans.binned(_example(images) if images and not file else scans.read(file), size)
    if not scan.sinogram.mean() > 0:
        raise scans.DataError(f"{scan.provenance['source']}: nothing in it absorbs")
    picture = reconstruct.fbp(scan.sinogram, scan.angles)
    n, unit = len(picture), float(np.quantile(picture[picture > 0], BRIGHT))
    coords = pixels.grid(n).reshape(-1, 2)
    each = Split(jax.numpy.asarray(scan.sinogram / unit), jax.numpy.zeros((0, 1)))
    task = Tasks(each, (coords, jax.numpy.asarray(scan.angles)))
    return Own(task, picture / unit, unit, scan.provenance)


def _example(images: Tasks) -> scans.Scan:
    """A scan of the first of some pictures."""
    seen = scan_tasks(images.take(slice(0, 1)), wedge(*EXAMPLE))
    sinogram, angles = np.asarray(seen.each.support[0]), np.asarray(seen.shared[1])
    how = f"even within {EXAMPLE[1]:.0f}°"
    about = dict(source="a test phantom", licence="generated", angles=how, views=len(angles))
    return scans.Scan(sinogram, angles, about | dict(detectors=sinogram.shape[1]))
