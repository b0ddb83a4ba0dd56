"""Test time: how fast signals that were never seen are fitted from an init, and how sure we are.

Fits return losses; `metrics.decibel` makes PSNR of mean squared errors. Where a step
size is searched for, the optimizer is an optax transform of unit step size (`SGD`, `ADAM`) and `lr`
a factor on its updates, so that one compiled program serves them all.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from learnit_utils import inner, outer
from learnit_utils.inner import Adapt, Init
from learnit_utils.metrics import SMALLEST, decibel
from learnit_utils.tasks import Loss, Tasks

SGD, ADAM = optax.sgd(1.0), optax.adam(1.0)  # of unit step size


def task_keys(tasks: Tasks, key: jax.Array | None = None) -> jax.Array:
    """One key per task, (count,); of key 0 unless given."""
    key = jax.random.key(0) if key is None else jax.random.clone(key)  # drawn from again on purpose
    return jax.random.split(key, tasks.count)


def _over_tasks(f: Callable, tasks: Tasks, keys: jax.Array):
    """f(task, key) for every task: one by one on CPU, a few at a time elsewhere."""

    def one(each, key):
        return f(tasks._replace(each=each), key)

    size = None if jax.default_backend() == "cpu" else outer.GPU_BATCH
    return jax.lax.map(lambda item: one(*item), (tasks.each, keys), batch_size=size)


# --- losses along a fit -----------------------------------------------------------------------
def trajectory(
    loss: Loss, adapt: Adapt, init: Any, tasks: Tasks, key: jax.Array | None = None
) -> np.ndarray:
    """The loss of every task before, between and after the steps of `adapt`: (count, K + 1).

    The key of a task's last loss is the one that meta-training uses for it, so column K is the
    quantity that `outer` reports.
    """
    return np.asarray(_trajectories(loss, adapt)(init, tasks, task_keys(tasks, key)))


# Compiled programs are cached by the functions they are made of, so that a table of many inits,
# seeds and step sizes compiles once.
@lru_cache(maxsize=128)
def _trajectories(loss, adapt):
    """(init, tasks, keys) -> losses (count, K + 1)."""

    def one(init, task, key):
        key_inner, key_outer = jax.random.split(key)
        theta, losses = adapt(init, task, key_inner)
        return jnp.append(losses, loss(theta, task, key_outer))

    def run(init, tasks, keys):
        return _over_tasks(lambda task, key: one(init, task, key), tasks, keys)

    return jax.jit(run)


@lru_cache(maxsize=128)
def _descent(loss, optimizer, steps):
    """adapt for ((lr, init), task, key); nothing is differentiated twice, so nothing is kept."""

    def adapt(rated, task, key):
        lr, init = rated
        descend = inner.with_optimizer(loss, steps, optimizer, lr=lr, keep_last=0)
        return descend(init, task, key)

    return adapt


def curve(
    loss: Loss,
    init: Any,
    tasks: Tasks,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    lr: float = 1.0,
    key: jax.Array | None = None,
) -> np.ndarray:
    """The loss at steps 0 ... steps of any optimizer, for every task: (count, steps + 1).

    Learned step sizes are not used; `trajectory` takes the steps that an init was learned with.

    Args:
        optimizer: an optax transform.
        lr: a factor on its updates.
    """
    adapt = _descent(loss, optimizer, steps)
    return trajectory(loss, adapt, (jnp.float32(lr), Init.of(init)), tasks, key)


def fit(
    loss: Loss,
    init: Any,
    task: Tasks,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    lr: float = 1.0,
    key: jax.Array | None = None,
) -> Any:
    """The weights after `steps` steps of an optax transform on one task; `lr` as in `curve`."""
    key = jax.random.key(0) if key is None else key
    rated = (jnp.float32(lr), Init.of(init))
    return _fitting(loss, optimizer, steps)(rated, task, key)[0]


@lru_cache(maxsize=128)
def _fitting(loss, optimizer, steps):
    return jax.jit(_descent(loss, optimizer, steps))


# --- fitted by one loss, judged by another ----------------------------------------------------
class Problem(NamedTuple):
    """What a fit may use, and what judges it."""

    loss: Loss  # descended
    held_out: Callable  # (theta, task, key) -> mean squared errors of any shape; evaluated only
    resample: bool = False  # whether every step draws anew what `loss` draws


class Progress(NamedTuple):
    """Losses along a fit, every row one task: (count, steps / every + 1)."""

    loss: np.ndarray  # the loss that is descended
    held_out: np.ndarray  # (..., *shape) if the held-out error has a shape


def progress(
    problem: Problem,
    init: Any,
    tasks: Tasks,
    optimizer: optax.GradientTransformation,
    lr: float,
    steps: int,
    every: int = 1,
    key: jax.Array | None = None,
) -> Progress:
    """Fit tasks by one loss and evaluate another every few steps.

    For inverse problems: the loss compares measurements, `held_out` the signal itself.

    Args:
        optimizer, lr: as in `curve`.
        steps: a multiple of `every`.

    Raises:
        ValueError: steps that are not.
    """
    if steps < 1 or every < 1 or steps % every:
        raise ValueError(f"steps = {steps}, every = {every}: expected steps, a multiple of every")
    run = _progress(problem, optimizer, steps // every)
    both = run(Init.of(init).theta, tasks, task_keys(tasks, key), jnp.float32(lr), every)
    return Progress(*map(np.asarray, both))


@lru_cache(maxsize=128)
def _progress(problem, optimizer, blocks):
    """(theta, tasks, keys, lr, every) -> both losses (count, blocks + 1, ...)."""
    loss, held_out, resample = problem

    def one(theta, task, key, lr, every):
        def now(theta):  # one key for all that is drawn: a measurement is made once
            return tuple(f(theta, task, jax.random.clone(key)) for f in (loss, held_out))

        def step(i, carry):
            theta, state = carry
            drawn = jax.random.clone(key)
            grad = jax.grad(loss)(theta, task, jax.random.fold_in(drawn, i) if resample else drawn)
            updates, state = optimizer.update(grad, state, theta)
            return optax.apply_updates(theta, jax.tree.map(lambda u: lr * u, updates)), state

        def block(carry, begin):
            carry = jax.lax.fori_loop(begin, begin + every, step, carry)
            return carry, now(carry[0])

        begin = every * jnp.arange(blocks)
        _, after = jax.lax.scan(block, (theta, optimizer.init(theta)), begin)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), now(theta), after)

    def run(theta, tasks, keys, lr, every):
        return _over_tasks(lambda task, key: one(theta, task, key, lr, every), tasks, keys)

    return jax.jit(run)


# --- step sizes -------------------------------------------------------------------------------
class Tuned(NamedTuple):
    """The outcome of `tune`."""

    lr: float  # the best step size
    lrs: tuple[float, ...]  # those tried
    losses: np.ndarray  # (len(lrs), count, steps + 1)
    at_edge: bool  # the best is the smallest or largest tried: the range was too narrow


def tune(
    loss: Loss,
    init: Any,
    tasks: Tasks,
    optimizer: optax.GradientTransformation,
    lrs: Sequence[float],
    steps: int,
    key: jax.Array | None = None,
) -> Tuned:
    """The step size with the best mean PSNR after `steps` steps on these (validation) tasks.

    Args:
        optimizer: of unit step size, for example `SGD` or `ADAM`.
        lrs: the step sizes to try. One that diverges ranks last, a perfect fit first.

    Raises:
        ValueError: no step size to try, or every one diverges.
    """
    if not len(lrs):
        raise ValueError("lrs: expected at least one step size")
    losses = np.stack([curve(loss, init, tasks, optimizer, steps, lr=lr, key=key) for lr in lrs])
    scores = decibel(np.maximum(losses[:, :, -1], SMALLEST)).mean(axis=1)  # nan, inf stay
    if not np.isfinite(scores).any():
        raise ValueError(f"every step size diverges: {', '.join(f'{lr:g}' for lr in lrs)}")
    best = int(np.where(np.isfinite(scores), scores, -np.inf).argmax())
    return Tuned(float(lrs[best]), tuple(lrs), losses, best in (0, len(lrs) - 1))


def steps_to(values: np.ndarray, level: float) -> int | None:
    """The first step at which a curve (steps + 1,) is at `level` or above; None if it never is.

    >>> steps_to([10.0, 19.0, 25.0], 20.0)
    2
    """
    reached = np.flatnonzero(np.asarray(values) >= level)
    return int(reached[0]) if len(reached) else None


# --- intervals --------------------------------------------------------------------------------
class Interval(NamedTuple):
    """A mean and the half width of its confidence interval."""

    mean: float
    half: float
    level: float = 0.95

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half:.2f}"


def interval(
    values: Sequence[float] | np.ndarray, groups: Sequence | None = None, level: float = 0.95
) -> Interval:
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
    error = v.std(ddof=1) / np.sqrt(len(v))
    return Interval(float(v.mean()), float(stats.t.ppf(0.5 + level / 2, len(v) - 1) * error), level)


# --- directions -------------------------------------------------------------------------------
def agreement(loss: Loss, adapt: Adapt) -> Callable[[Any, Tasks], dict[str, float]]:
    """How FOMAML's and Reptile's directions agree with MAML's.

    Returns:
        (init, tasks) -> {"cosine_fomaml", "cosine_reptile", "missing"}, with missing the norm of
        MAML - FOMAML over the norm of MAML: the part of the gradient that is second order.
    """
    methods = {
        name: jax.jit(make(loss, adapt, "scan").step) for name, make in outer.METHODS.items()
    }

    def compare(init, tasks):
        flat = {}
        for name, step in methods.items():
            _, direction = step(init, tasks, task_keys(tasks))  # the same keys for all three
            flat[name] = jax.flatten_util.ravel_pytree(direction)[0]
        g = flat["maml"]

        def cosine(name):
            a = flat[name]
            return float(a @ g / (jnp.linalg.norm(a) * jnp.linalg.norm(g)))

        missing = float(jnp.linalg.norm(g - flat["fomaml"]) / jnp.linalg.norm(g))
        cosines = dict(cosine_fomaml=cosine("fomaml"), cosine_reptile=cosine("reptile"))
        return dict(**cosines, missing=missing)

    return compare
