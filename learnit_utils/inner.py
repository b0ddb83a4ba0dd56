"""The inner loop: K steps of descent on one task, written so that it can be differentiated.

Every function here builds `adapt(init, task, key) -> (theta_K, losses)`, where
losses[k] = L(theta_k) is measured before update k: K entries, and L(theta_K) is not among them.

Differentiating through K steps needs the activations of each. The last `keep_last` steps keep
theirs; earlier ones are recomputed on the way back (`jax.checkpoint`), so memory does not grow
with K, and for K <= keep_last nothing is computed twice.

>>> import jax, jax.numpy as jnp
>>> loss = lambda theta, task, key: (theta - task) ** 2
>>> theta, losses = sgd(loss, steps=2, lr=0.25)(jnp.float32(0), jnp.float32(1), jax.random.key(0))
>>> float(theta), losses.tolist()
(0.75, [1.0, 0.25])
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learnit_utils.tasks import Loss

KEEP_LAST = 2
UNROLLED = 4  # kept steps up to this many are unrolled, so that XLA optimises across them
PER = ("layer_step", "parameter", "parameter_step")

Adapt = Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]


class Init(NamedTuple):
    """An initialization: weights, and learned step sizes if it has any.

    Wherever an init is expected, bare weights are one without step sizes.
    """

    theta: Any
    step_sizes: Any = None  # as theta; every leaf broadcasts against (steps, *parameter.shape)

    @classmethod
    def of(cls, init: Any) -> "Init":
        """`init` itself, or bare weights as an Init."""
        return init if isinstance(init, cls) else cls(init)


def sgd(
    loss: Loss,
    steps: int,
    lr: float,
    *,
    keep_last: int | None = KEEP_LAST,
    resample: bool = True,
) -> Adapt:
    """Plain gradient descent: theta_{k+1} = theta_k - lr * grad L(theta_k).

    Args:
        loss: (theta, task, key) -> scalar; the key feeds minibatches or ray jitter.
        steps: K, the number of updates; 0 returns theta unchanged.
        lr: step size alpha, in theta^2 per unit of loss.
        keep_last: the number of last steps that keep their activations for differentiation; None
            for all.
        resample: whether every step has its own key; otherwise all steps share one, and what a
            loss draws is drawn once per task.

    Returns:
        adapt(init, task, key) -> (theta_K, losses (K,)).

    Raises:
        ValueError: negative steps or keep_last, or a step size that is not finite.

    Source: Finn et al. 2017, section 2.2; Tancik et al. 2021, section 3.
    """
    if not math.isfinite(lr):
        raise ValueError(f"lr = {lr}: expected a finite number")

    def update(theta, state, grad, now):
        return jax.tree.map(lambda t, g: t - lr * g, theta, grad), state

    def begin(init):
        return Init.of(init).theta, (), ()

    return _loop(loss, steps, keep_last, resample, update, begin)


def meta_sgd(
    loss: Loss, steps: int, *, keep_last: int | None = KEEP_LAST, resample: bool = True
) -> Adapt:
    """Descent with learned step sizes: theta_{k+1} = theta_k - step_sizes[k] * grad L(theta_k).

    For more steps than were learned, the last step sizes are used again.

    Returns:
        adapt(init, task, key) -> (theta_K, losses (K,)), for an `Init` with step sizes, as from
        `with_step_sizes`. Its gradient is an `Init` too: weights and step sizes.

    Source: Li et al. 2017 (Meta-SGD, per parameter); Sitzmann et al. 2020, MetaSDF (per step too).
    Arguments as in `sgd`.
    """

    def update(theta, state, grad, now):
        return jax.tree.map(lambda t, r, g: t - r * g, theta, now, grad), state

    def begin(init):
        def of_steps(leaf):  # (1 or steps, ...) -> (steps, ...)
            return leaf[jnp.minimum(jnp.arange(steps), leaf.shape[0] - 1)]

        if Init.of(init).step_sizes is None:
            raise ValueError("meta_sgd: expected an Init with step sizes (inner.with_step_sizes)")
        return init.theta, (), jax.tree.map(of_steps, init.step_sizes)

    return _loop(loss, steps, keep_last, resample, update, begin)


def with_step_sizes(theta: Any, steps: int, lr: float, per: str = "parameter_step") -> Init:
    """An init whose learned step sizes all begin at `lr`.

    Args:
        theta: weights.
        steps: K, the number of inner steps.
        lr: where every step size begins.
        per: what has a step size of its own: "layer_step" every array of theta in every step;
            "parameter" every parameter, the same in all steps (Meta-SGD); "parameter_step" every
            parameter in every step (MetaSDF).

    Raises:
        ValueError: another `per`, or fewer than one step.
    """
    if per not in PER:
        raise ValueError(f"per = {per!r}: expected one of {', '.join(PER)}")
    if steps < 1:
        raise ValueError(f"steps = {steps}: expected an integer >= 1")

    def leaf(t):
        shape = (1,) * t.ndim if per == "layer_step" else t.shape
        return jnp.full((1 if per == "parameter" else steps, *shape), lr, t.dtype)

    return Init(theta, jax.tree.map(leaf, theta))


def with_optimizer(
    loss: Loss,
    steps: int,
    optimizer: optax.GradientTransformation,
    *,
    lr: float | jax.Array = 1.0,
    keep_last: int | None = KEEP_LAST,
    resample: bool = True,
) -> Adapt:
    """Descent with an optax transform, its state re-initialised for every task.

    Args:
        optimizer: for example `optax.adam(1e-3)`.
        lr: a factor on every update. It may be traced, so that `optax.adam(1.0)` with many values
            of `lr` is one compiled program.

    Other arguments as in `sgd`. To differentiate through `optax.adam`, give it an `eps_root` > 0:
    the derivative of its square root is infinite where a gradient is exactly 0.
    """

    def update(theta, state, grad, now):
        updates, state = optimizer.update(grad, state, theta)
        return optax.apply_updates(theta, jax.tree.map(lambda u: lr * u, updates)), state

    def begin(init):
        theta = Init.of(init).theta
        return theta, optimizer.init(theta), ()

    return _loop(loss, steps, keep_last, resample, update, begin)


def _loop(loss, steps, keep_last, resample, update, begin) -> Adapt:
    """adapt for any rule `update(theta, state, grad, now) -> theta, state`.

    Args:
        begin: init -> (theta_0, state, each), with the leaves of `each` (steps, ...): update k
            gets entry k of it as `now`.
    """
    if steps < 0:
        raise ValueError(f"steps = {steps}: expected an integer >= 0")
    if keep_last is not None and keep_last < 0:
        raise ValueError(f"keep_last = {keep_last}: expected an integer >= 0, or None for all")
    kept = steps if keep_last is None else min(keep_last, steps)

    def adapt(init, task, key):
        def step(carry, now_and_key):
            theta, state = carry
            now, key = now_and_key
            value, grad = jax.value_and_grad(loss)(theta, task, key)
            return update(theta, state, grad, now), value

        theta, state, each = begin(init)
        carry, losses, early = (theta, state), [], steps - kept
        keys = jax.random.split(key, steps if resample else 1)
        all_steps = (each, keys if resample else jnp.broadcast_to(keys, (steps,)))

        def part(which):
            return jax.tree.map(lambda leaf: leaf[which], all_steps)

        if early:
            recomputed = jax.checkpoint(step, prevent_cse=False)
            carry, first = jax.lax.scan(recomputed, carry, part(slice(0, early)))
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
