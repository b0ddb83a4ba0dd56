"""Test time: how fast signals that were never seen are fitted from a start, and other starts.

PSNR here is -10 log10 of the loss, in dB for signals with peak 1.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from learnit_utils import inner, outer
from learnit_utils.fields import Field, Theta
from learnit_utils.tasks import Tasks


def _keys(tasks: Tasks, seed: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), tasks.count)


def _over_tasks(f: Callable, tasks: Tasks, keys: jax.Array):
    """f(task, key) for every task: one by one on CPU, a few at a time elsewhere."""

    def one(each, key):
        return f(tasks._replace(each=each), key)

    size = None if jax.default_backend() == "cpu" else outer.AT_ONCE
    return jax.lax.map(lambda item: one(*item), (tasks.each, keys), batch_size=size)


def decibel(loss) -> np.ndarray:
    """PSNR in dB of a mean squared error, peak 1."""
    return -10 * np.log10(np.asarray(loss, np.float64))


def trajectory(
    loss: Callable, adapt: Callable, start: Any, tasks: Tasks, seed: int = 0
) -> np.ndarray:
    """PSNR in dB of every task before, between and after the steps of `adapt`: (count, K + 1).

    The key of a task's last measurement is the one that meta-training uses for it, so column K is
    the quantity that `outer` reports.
    """
    return decibel(_trajectories(loss, adapt)(start, tasks, _keys(tasks, seed)))


# Compiled programs are kept by the functions they are made of, so that a table of many starts,
# seeds and step sizes compiles once.
@lru_cache(maxsize=128)
def _trajectories(loss, adapt):
    """(start, tasks, keys) -> losses (count, K + 1)."""

    def one(start, task, key):
        key_inner, key_outer = jax.random.split(key)
        theta, losses = adapt(start, task, key_inner)
        return jnp.append(losses, loss(theta, task, key_outer))

    def run(start, tasks, keys):
        return _over_tasks(lambda task, key: one(start, task, key), tasks, keys)

    return jax.jit(run)


@lru_cache(maxsize=128)
def _descent(loss, optimizer, steps):
    """adapt for an optax transform; nothing is differentiated twice here, so nothing is kept."""
    return inner.descend(loss, steps, optimizer, keep=0)


@lru_cache(maxsize=128)
def _rated(loss, make, steps):
    """adapt for ((rate, theta), task, key), the optimiser made from a traced step size."""

    def adapt(start, task, key):
        rate, theta = start
        return inner.descend(loss, steps, make(rate), keep=0)(theta, task, key)

    return adapt


def psnr_after(loss: Callable, adapt: Callable, start: Any, tasks: Tasks, seed: int = 0) -> float:
    """Mean over tasks of the PSNR in dB after adaptation, as training reports it."""
    return float(trajectory(loss, adapt, start, tasks, seed)[:, -1].mean())


def curve(
    loss: Callable,
    theta: Theta,
    tasks: Tasks,
    optimizer: optax.GradientTransformation,
    steps: int,
    seed: int = 0,
) -> np.ndarray:
    """PSNR in dB at steps 0 ... steps of any optimiser, for every task: (count, steps + 1)."""
    return trajectory(loss, _descent(loss, optimizer, steps), theta, tasks, seed)


class Progress(NamedTuple):
    """What `progress` measures, in dB, every row one task: (count, steps / every + 1)."""

    seen: np.ndarray  # of the loss that is descended
    judged: np.ndarray  # of the loss that is only looked at; (..., *shape) if it has a shape


def progress(
    loss: Callable,
    judge: Callable,
    theta: Theta,
    tasks: Tasks,
    optimizer: Callable[[float], optax.GradientTransformation],
    rate: float,
    steps: int,
    every: int = 1,
    *,
    fresh: bool = False,
    seed: int = 0,
) -> Progress:
    """Fit tasks by one loss and judge every so many steps by another.

    For inverse problems: `loss` compares what was measured, `judge` the signal itself.

    Args:
        loss: (theta, task, key) -> scalar.
        judge: the same, or (theta, task, key) -> several losses, for example one per view.
        optimizer: step size -> optax transform, for example `optax.adam`.
        rate: the step size.
        steps: a multiple of `every`.
        fresh: whether every step draws anew what `loss` draws; if not, once per task.
        seed: of what is drawn.

    Raises:
        ValueError: steps that are not.
    """
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"steps = {steps}, every = {every}: a multiple, at least 1")
    run = _progress(loss, judge, optimizer, steps // every, every, fresh)
    both = run(theta, tasks, _keys(tasks, seed), jnp.float32(rate))
    return Progress(*map(decibel, both))


@lru_cache(maxsize=128)
def _progress(loss, judge, optimizer, blocks, every, fresh):
    """(theta, tasks, keys, rate) -> both losses (count, blocks + 1, ...)."""

    def one(theta, task, key, rate):
        descent = optimizer(rate)

        def now(theta):  # one key for all that is drawn: a measurement is made once
            return tuple(f(theta, task, jax.random.clone(key)) for f in (loss, judge))

        def step(i, carry):
            theta, state = carry
            drawn = jax.random.clone(key)
            grad = jax.grad(loss)(theta, task, jax.random.fold_in(drawn, i) if fresh else drawn)
            updates, state = descent.update(grad, state, theta)
            return optax.apply_updates(theta, updates), state

        def block(carry, begin):
            carry = jax.lax.fori_loop(begin, begin + every, step, carry)
            return carry, now(carry[0])

        begin = every * jnp.arange(blocks)
        _, after = jax.lax.scan(block, (theta, descent.init(theta)), begin)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), now(theta), after)

    def run(theta, tasks, keys, rate):
        return _over_tasks(lambda task, key: one(theta, task, key, rate), tasks, keys)

    return jax.jit(run)


class Tuned(NamedTuple):
    """The outcome of `tune`."""

    rate: float  # the best step size
    rates: tuple[float, ...]  # those tried
    psnr: np.ndarray  # (len(rates), count, steps + 1)
    at_edge: bool  # the best is the smallest or largest tried: the range was too narrow


def tune(
    loss: Callable,
    theta: Theta,
    tasks: Tasks,
    optimizer: Callable[[float], optax.GradientTransformation],
    rates: Sequence[float],
    steps: int,
    seed: int = 0,
) -> Tuned:
    """The step size with the best mean PSNR after `steps` steps on these (validation) tasks.

    Args:
        optimizer: step size -> optax transform, for example `optax.sgd` or `optax.adam`.
        rates: the step sizes to try. One that diverges counts as the worst.

    Raises:
        ValueError: no step size to try, or none that does not diverge.
    """
    if not len(rates):
        raise ValueError("rates: at least one step size")
    adapt = _rated(loss, optimizer, steps)
    psnr = [trajectory(loss, adapt, (jnp.float32(r), theta), tasks, seed) for r in rates]
    psnr = np.stack(psnr)
    scores = np.nan_to_num(psnr[:, :, -1].mean(axis=1), nan=-np.inf)
    if not np.isfinite(scores).any():
        raise ValueError(f"every step size diverges: {', '.join(f'{r:g}' for r in rates)}")
    best = int(scores.argmax())
    return Tuned(float(rates[best]), tuple(rates), psnr, best in (0, len(rates) - 1))


class Compared(NamedTuple):
    """One cell of a table of starts and optimisers."""

    psnr: "Interval"  # mean over seeds after the steps, in dB
    tuned: Tuned


def compare(
    loss: Callable,
    starts: Mapping[str, Sequence[Theta]],
    optimizers: Mapping[str, tuple[Callable, Sequence[float]]],
    tuners: Tasks,
    cases: Sequence[Tasks],
    steps: int,
) -> dict[tuple[str, str], Compared]:
    """PSNR after `steps` steps for every start and optimiser, each at its best step size.

    Args:
        starts: name -> one start per seed.
        optimizers: name -> (step size -> optax transform, step sizes to try).
        tuners: validation tasks on which the step size is chosen, with the first seed's start.
        cases: one set of test tasks per seed.
        steps: K.
    """
    table = {}
    for name, thetas in starts.items():
        for o, (optimizer, rates) in optimizers.items():
            tuned = tune(loss, thetas[0], tuners, optimizer, rates, steps)
            adapt, rate = _rated(loss, optimizer, steps), jnp.float32(tuned.rate)
            after = [
                psnr_after(loss, adapt, (rate, theta), case)
                for theta, case in zip(thetas, cases, strict=True)
            ]
            table[name, o] = Compared(interval(after), tuned)
    return table


def steps_to(psnr: np.ndarray, level: float) -> int | None:
    """The first step at which a curve (steps + 1,) reaches a level in dB; None if it does not."""
    reached = np.flatnonzero(np.asarray(psnr) >= level)
    return int(reached[0]) if len(reached) else None


class Interval(NamedTuple):
    """A mean and the half width of its confidence interval."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half:.2f}"


def interval(values, groups: Sequence | None = None, level: float = 0.95) -> Interval:
    """Student's interval for the mean of values.

    Args:
        values: (n,), one number per task or seed.
        groups: n labels; values of one label (pictures of one person, say) are averaged first,
            because they do not vary independently, and the interval counts groups.
        level: of confidence.

    Raises:
        ValueError: fewer than two independent values.
    """
    v = np.asarray(values, np.float64)
    if groups is not None:
        labels = np.asarray(groups)
        v = np.array([v[labels == g].mean() for g in dict.fromkeys(labels.tolist())])
    if len(v) < 2:
        raise ValueError(f"an interval needs at least 2 independent values, got {len(v)}")
    spread = v.std(ddof=1) / np.sqrt(len(v))
    return Interval(float(v.mean()), float(stats.t.ppf(0.5 + level / 2, len(v) - 1) * spread))


# --- other starts ---------------------------------------------------------------------------
def fit(loss: Callable, theta: Theta, task: Tasks, optimizer, steps: int) -> Theta:
    """theta after `steps` steps of an optax transform on one task."""
    return _fitting(loss, optimizer, steps)(theta, task, jax.random.key(0))[0]


@lru_cache(maxsize=128)
def _fitting(loss, optimizer, steps):
    return jax.jit(_descent(loss, optimizer, steps))


def mean_start(
    field: Field, key: jax.Array, loss: Callable, tasks: Tasks, optimizer, steps: int
) -> Theta:
    """The paper's *mean* start: a random network fitted to output the mean of the tasks' signals.

    Source: Tancik et al. 2021, its baselines.
    """
    average = Tasks(jax.tree.map(lambda a: a.mean(axis=0), tasks.each), tasks.shared)
    return fit(loss, field.init(key), average, optimizer, steps)


def matched_start(
    field: Field, key: jax.Array, loss: Callable, theta: Theta, x: jax.Array, optimizer, steps: int
) -> Theta:
    """The paper's *matched* start: a random network fitted to output what theta outputs at x.

    Source: Tancik et al. 2021, its baselines.
    """
    return fit(loss, field.init(key), Tasks(field(theta, x), x), optimizer, steps)


def shuffled_start(key: jax.Array, theta: Theta) -> Theta:
    """The paper's *shuffled* start: the entries of every array of theta in random order.

    Source: Tancik et al. 2021, its baselines.
    """
    leaves, structure = jax.tree.flatten(theta)
    keys = jax.random.split(key, len(leaves))
    mixed = [jax.random.permutation(k, a.ravel()).reshape(a.shape) for k, a in zip(keys, leaves)]
    return jax.tree.unflatten(structure, mixed)


# --- directions -----------------------------------------------------------------------------
def agreement(loss: Callable, adapt: Callable) -> Callable[[Any, Tasks], dict[str, float]]:
    """How FOMAML's and Reptile's directions agree with MAML's.

    Returns:
        (start, tasks) -> {"cosine_fomaml", "cosine_reptile", "missing"}, with missing the norm of
        MAML - FOMAML over the norm of MAML: the part of the gradient that is second order.
    """
    methods = {
        name: jax.jit(make(loss, adapt, "scan").step) for name, make in outer.METHODS.items()
    }

    def measure(start, tasks):
        flat = {}
        for name, step in methods.items():
            _, direction = step(start, tasks, _keys(tasks, 0))  # the same keys for all three
            flat[name] = jax.flatten_util.ravel_pytree(direction)[0]
        g = flat["maml"]

        def cosine(name):
            a = flat[name]
            return float(a @ g / (jnp.linalg.norm(a) * jnp.linalg.norm(g)))

        missing = float(jnp.linalg.norm(g - flat["fomaml"]) / jnp.linalg.norm(g))
        cosines = dict(cosine_fomaml=cosine("fomaml"), cosine_reptile=cosine("reptile"))
        return dict(**cosines, missing=missing)

    return measure
