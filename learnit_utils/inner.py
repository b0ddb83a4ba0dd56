"""The inner loop: K steps of descent on one task, written so that it can be differentiated.

Every function here builds `adapt(start, task, key) -> (theta_K, losses)`, where
losses[k] = L(theta_k) is measured before update k: K entries, and L(theta_K) is not among them.

Differentiating through K steps needs the activations of each. The last `keep` steps hold on to
theirs; earlier ones are computed again on the way back (`jax.checkpoint`), so memory does not grow
with K, and for K <= keep nothing is computed twice.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

KEEP = 2
UNROLLED = 4  # kept steps up to this many are written out, so that XLA sees through them
PER = ("layer_step", "parameter", "parameter_step")


class Start(NamedTuple):
    """A learned start together with its learned step sizes."""

    theta: Any
    rates: Any  # as theta; every leaf broadcasts against (steps, *parameter.shape)


def sgd(
    loss: Callable, steps: int, lr: float, *, keep: int | None = KEEP, fresh: bool = True
) -> Callable:
    """Plain gradient descent: theta_{k+1} = theta_k - lr * grad L(theta_k).

    Args:
        loss: (theta, task, key) -> scalar; the key feeds minibatches or ray jitter.
        steps: K, the number of updates; 0 returns theta unchanged.
        lr: step size alpha, in theta^2 per unit of loss.
        keep: how many of the last steps keep their activations for differentiation; None for all.
        fresh: whether every step has a key of its own; if not, all have the same, and what a loss
            draws is drawn once per task.

    Returns:
        adapt(theta, task, key) -> (theta_K, losses (K,)).

    Raises:
        ValueError: negative steps or keep, or a step size that is not finite.

    Source: Finn et al. 2017, section 2.2; Tancik et al. 2021, section 3.
    """
    if not math.isfinite(lr):
        raise ValueError(f"lr = {lr}: a finite number")

    def update(theta, state, grad, now):
        return jax.tree.map(lambda t, g: t - lr * g, theta, grad), state

    return _loop(loss, steps, keep, fresh, update, lambda theta: (theta, (), ()))


def meta_sgd(
    loss: Callable, steps: int, *, keep: int | None = KEEP, fresh: bool = True
) -> Callable:
    """Gradient descent with learned step sizes: theta_{k+1} = theta_k - rates[k] * grad L(theta_k).

    Returns:
        adapt(start, task, key) -> (theta_K, losses (K,)), with `start` a `Start` as from
        `with_rates`. Its gradient has the shape of a `Start` too: weights and step sizes.

    Source: Li et al. 2017 (Meta-SGD, per parameter); Sitzmann et al. 2020, MetaSDF (per step too).
    Arguments as in `sgd`.
    """

    def update(theta, state, grad, rates):
        return jax.tree.map(lambda t, r, g: t - r * g, theta, rates, grad), state

    def begin(start):
        def of_steps(rate):  # (1 or steps, ...) -> (steps, ...)
            return rate[jnp.minimum(jnp.arange(steps), rate.shape[0] - 1)]

        return start.theta, (), jax.tree.map(of_steps, start.rates)

    return _loop(loss, steps, keep, fresh, update, begin)


def with_rates(theta: Any, steps: int, lr: float, per: str = "parameter_step") -> Start:
    """A start whose step sizes all begin at `lr`.

    Args:
        steps: K, the number of inner steps.
        per: what has a step size of its own: "layer_step" every array of theta in every step;
            "parameter" every parameter, the same in all steps (Meta-SGD); "parameter_step" every
            parameter in every step (MetaSDF).

    Raises:
        ValueError: another `per`, or fewer than one step.
    """
    if per not in PER:
        raise ValueError(f"per = {per!r}: one of {', '.join(PER)}")
    if steps < 1:
        raise ValueError(f"steps = {steps}: at least 1")

    def leaf(t):
        shape = (1,) * t.ndim if per == "layer_step" else t.shape
        return jnp.full((1 if per == "parameter" else steps, *shape), lr, t.dtype)

    return Start(theta, jax.tree.map(leaf, theta))


def descend(
    loss: Callable,
    steps: int,
    optimizer: optax.GradientTransformation,
    *,
    keep: int | None = KEEP,
    fresh: bool = True,
) -> Callable:
    """Descent with any optax transform, its state fresh for every task. Otherwise as `sgd`.

    To differentiate through `optax.adam`, give it an `eps_root` > 0: the derivative of its square
    root is infinite where a gradient is exactly 0.
    """

    def update(theta, state, grad, now):
        updates, state = optimizer.update(grad, state, theta)
        return optax.apply_updates(theta, updates), state

    def begin(theta):
        return theta, optimizer.init(theta), ()

    return _loop(loss, steps, keep, fresh, update, begin)


def _loop(loss, steps, keep, fresh, update, begin) -> Callable:
    """adapt for any rule `update(theta, state, grad, now) -> theta, state`.

    Args:
        begin: start -> (theta_0, state, each), with the leaves of `each` (steps, ...): update k is
            given entry k of it as `now`.
    """
    if steps < 0:
        raise ValueError(f"steps = {steps}: 0 or more")
    if keep is not None and keep < 0:
        raise ValueError(f"keep = {keep}: 0 or more, or None for all")
    kept = steps if keep is None else min(keep, steps)

    def adapt(start, task, key):
        def step(carry, now_and_key):
            theta, state = carry
            now, key = now_and_key
            value, grad = jax.value_and_grad(loss)(theta, task, key)
            return update(theta, state, grad, now), value

        theta, state, each = begin(start)
        carry, losses, early = (theta, state), [], steps - kept
        keys = jax.random.split(key, steps if fresh else 1)
        all_steps = (each, keys if fresh else jnp.broadcast_to(keys, (steps,)))

        def part(which):
            return jax.tree.map(lambda leaf: leaf[which], all_steps)

        if early:
            again = jax.checkpoint(step, prevent_cse=False)
            carry, first = jax.lax.scan(again, carry, part(slice(0, early)))
            losses.append(first)
        if kept > UNROLLED:
            carry, last = jax.lax.scan(step, carry, part(slice(early, steps)))
            losses.append(last)
        else:
            for k in range(early, steps):
                carry, value = step(carry, part(k))
                losses.append(value[None])
        return carry[0], jnp.concatenate(losses) if losses else jnp.zeros(0)

    return adapt
