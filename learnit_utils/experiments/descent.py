"""Rules of descent on their own: walks through a ravine, what a rule does to each weight, traps.

A rule is a function (g, m, v, t) -> (step, m, v): the gradient, two memories that begin at 0, and
the number of the step, from 1. The weights move by -lr * step. All are arrays of one shape.

Sources: Polyak 1964 (momentum); Tieleman and Hinton 2012 (RMSProp); Kingma and Ba 2015 (Adam);
Reddi et al. 2018 (where Adam fails).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils import evaluate
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Loss, Tasks

Rule = Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]]


def walk(rule: Rule, grad: Callable, start: jax.Array, lr: float, steps: int) -> jax.Array:
    """Where a rule goes: (steps + 1, n).

    Args:
        rule: see the module.
        grad: (theta (n,), t) -> gradient (n,) at step t = 1, 2, ...
        start: (n,).
        lr: step size.
    """

    def one(carry, t):
        theta, m, v = carry
        step, m, v = rule(grad(theta, t), m, v, t)
        theta = theta - lr * step
        return (theta, m, v), theta

    zero = jnp.zeros_like(start)
    _, path = jax.lax.scan(one, (start, zero, zero), jnp.arange(1, steps + 1))
    return jnp.concatenate([start[None], path])


def as_optax(rule: Rule) -> optax.GradientTransformation:
    """A rule as an optax transform of unit step size, so that `evaluate` and `protocol` take it."""

    def init(theta):
        flat, _ = jax.flatten_util.ravel_pytree(theta)
        return jnp.zeros((), jnp.int32), jnp.zeros_like(flat), jnp.zeros_like(flat)

    def update(grad, state, theta=None):
        del theta
        t, m, v = state[0] + 1, *state[1:]
        g, back = jax.flatten_util.ravel_pytree(grad)
        step, m, v = rule(g, m, v, t)
        return back(-step), (t, m, v)

    return optax.GradientTransformation(init, update)


def gap(rule: Rule, transform: optax.GradientTransformation, gradients: jax.Array) -> float:
    """The largest difference between the steps of a rule and of an optax transform.

    Both are given the same gradients (steps, n), whatever the weights do.
    """
    ours = as_optax(rule)

    def step(states, g):
        (a, mine), (b, other) = ours.update(g, states[0]), transform.update(g, states[1])
        return (mine, other), jnp.abs(-a - b).max()

    begin = (ours.init(gradients[0]), transform.init(gradients[0]))
    return float(jax.lax.scan(step, begin, gradients)[1].max())


# --- a ravine -----------------------------------------------------------------------------------
def ravine(steepness: float) -> tuple[Callable, Callable]:
    """L(x, y) = (x^2 + steepness y^2) / 2, and its gradient as `walk` takes it."""
    scales = jnp.array([1.0, steepness])

    def loss(theta):
        return 0.5 * theta**2 @ scales

    return loss, lambda theta, t: scales * theta


class Walk(NamedTuple):
    """The best walk of a rule."""

    lr: float
    at_edge: bool  # the step size is the smallest or largest tried
    path: np.ndarray  # (steps + 1, 2)
    loss: np.ndarray  # (steps + 1,)


def best_walk(
    rule: Rule, steepness: float, start: Sequence[float], lrs: Sequence[float], steps: int
) -> Walk:
    """The walk through a ravine with the step size that ends lowest."""
    loss, grad = ravine(steepness)
    start = jnp.array(start, jnp.float32)
    paths = jax.vmap(lambda lr: walk(rule, grad, start, lr, steps))(jnp.array(lrs, jnp.float32))
    ends = np.asarray(loss(paths[:, -1]))
    if not np.isfinite(ends).any():
        raise ValueError(f"every step size diverges: {', '.join(f'{lr:g}' for lr in lrs)}")
    best = int(np.where(np.isfinite(ends), ends, np.inf).argmin())
    path = np.asarray(paths[best])
    edge = best in (0, len(lrs) - 1)
    return Walk(float(lrs[best]), edge, path, np.asarray(loss(jnp.asarray(path))))


# --- on a network -------------------------------------------------------------------------------
class Watched(NamedTuple):
    """What Adam does to each weight of a network at one step."""

    gradient: np.ndarray  # (weights,) |g|
    step: np.ndarray  # (weights,) lr |m^| / (sqrt(v^) + eps), as the rule has it
    layer: np.ndarray  # (weights,) the number of the array of theta that a weight belongs to


def spreads(found: Mapping[int, Watched]) -> dict[int, tuple[float, float]]:
    """Step -> the 90 % quantile over the 10 % quantile, of gradients and of steps."""

    def spread(sizes):
        low, high = np.quantile(np.maximum(sizes, 1e-12), (0.1, 0.9))
        return float(high / low)

    return {t: (spread(seen.gradient), spread(seen.step)) for t, seen in found.items()}


def watch(
    rule: Rule, loss: Loss, theta: Any, task: Tasks, lr: float, at: Sequence[int]
) -> dict[int, Watched]:
    """The gradient and the step of every weight at some steps t >= 1 of a fit to one task."""
    flat, back = jax.flatten_util.ravel_pytree(theta)
    grad = jax.jit(jax.grad(lambda flat: loss(back(flat), task, jax.random.key(0))))
    sizes = [leaf.size for leaf in jax.tree.leaves(theta)]
    layer = np.repeat(np.arange(len(sizes)), sizes)
    m, v, found = jnp.zeros_like(flat), jnp.zeros_like(flat), {}
    for t in range(1, max(at) + 1):
        g = grad(flat)
        step, m, v = rule(g, m, v, t)
        flat = flat - lr * step
        if t in at:
            found[t] = Watched(np.abs(np.asarray(g)), lr * np.abs(np.asarray(step)), layer)
    return found


def tuned_curves(
    rules: Mapping[Any, Rule],
    loss: Loss,
    theta: Any,
    validation: Tasks,
    test: Tasks,
    lrs: Sequence[float],
    steps: int,
) -> dict[Any, tuple[float, np.ndarray]]:
    """Every rule with the step size that is best for it on validation tasks.

    Returns:
        name -> (step size, PSNR in dB on test tasks, mean: (steps + 1,)).
    """
    found = {}
    for name, rule in rules.items():
        transform = as_optax(rule)
        lr = evaluate.tune(loss, theta, validation, transform, lrs, steps).lr
        losses = evaluate.curve(loss, theta, test, transform, steps, lr=lr)
        found[name] = (lr, decibel(losses).mean(axis=0))
    return found


# --- where a short memory fails -----------------------------------------------------------------
def reddi_walk(rule: Rule, large: float, lr: float, steps: int) -> np.ndarray:
    """x along a walk in [-1, 1] on losses that alternate: large x, -x, -x, large x, ...

    The mean loss is (large - 2) x / 3, so for large > 2 the best x is -1.

    Returns:
        x (steps + 1,), from x = 0, pushed back into [-1, 1] after every step; the step size falls
        as lr / sqrt(t).

    Source: Reddi et al. 2018, section 3, theorem 1.
    """

    def one(carry, t):
        x, m, v = carry
        g = jnp.where(t % 3 == 1, large, -1.0)
        step, m, v = rule(g, m, v, t)
        x = jnp.clip(x - lr / jnp.sqrt(t) * step, -1, 1)
        return (x, m, v), x

    zero = jnp.zeros(())
    _, path = jax.lax.scan(one, (zero, zero, zero), jnp.arange(1, steps + 1))
    return np.concatenate([[0.0], np.asarray(path)])
