"""The outer loop's direction: how the init should move so that K inner steps end lower.

`maml`, `fomaml` and `reptile` share one signature and report one quantity, the loss of every task
*after* adaptation, so their curves compare. None of them knows what a task is: `tasks` is a
`tasks.Tasks`, with what differs in `each`.

>>> import jax, jax.numpy as jnp
>>> from learnit_utils import inner
>>> from learnit_utils.tasks import Tasks
>>> loss = lambda theta, task, key: (theta - task.each) ** 2
>>> grad = maml(loss, inner.sgd(loss, steps=1, lr=0.25))
>>> task, keys = Tasks(jnp.array([1.0])), jax.random.split(jax.random.key(0), 1)
>>> losses, direction = grad(jnp.float32(0), task, keys)
>>> losses.tolist(), float(direction)  # theta_1 = 1/2; dL/dtheta_0 = 2 (1/2 - 1) (1 - 2/4)
([0.25], -0.5)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learnit_utils.inner import Adapt, Init
from learnit_utils.tasks import Loss

BATCHING = ("auto", "scan", "vmap")
GPU_BATCH = 8  # tasks evaluated at a time on a GPU, which bounds memory


@dataclass(frozen=True)
class MetaGradient:
    """What an outer optimiser follows. Calling it is calling `step`.

    Attributes:
        step: (init, tasks, keys (count,)) -> (losses (count,), direction), with direction a
            pytree like init and losses[i] = L_i(theta_K), the loss of task i after adaptation.
        losses: (init, tasks, keys) -> losses (count,) alone, the same numbers.
        name: "maml", "fomaml" or "reptile".
    """

    step: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]
    losses: Callable[[Any, Any, jax.Array], jax.Array]
    name: str

    def __call__(self, init: Any, tasks: Any, keys: jax.Array) -> tuple[jax.Array, Any]:
        """The losses after adaptation, and the direction to descend."""
        return self.step(init, tasks, keys)


def maml(loss: Loss, adapt: Adapt, batching: str = "auto") -> MetaGradient:
    """The exact gradient of E_T L(theta_K(init, T)), through all inner steps.

    Args:
        loss: (theta, task, key) -> scalar.
        adapt: (init, task, key) -> (theta_K, losses), from `inner`.
        batching: "scan" processes the tasks one by one (their activations stay in cache, best on
            CPU), "vmap" all at once (best on GPU), "auto" picks by platform.

    Raises:
        ValueError: another `batching`.

    Source: Finn et al. 2017, equation 1; Tancik et al. 2021, section 3.
    """
    after = jax.value_and_grad(_after(loss, adapt), has_aux=True)

    def one(init, task, key):
        (value, _), gradient = after(init, task, key)
        return value, gradient

    return _over_tasks("maml", one, loss, adapt, batching)


def fomaml(loss: Loss, adapt: Adapt, batching: str = "auto") -> MetaGradient:
    """First-order MAML: grad L(theta_K), as if theta_K = init + constant. Arguments as in `maml`.

    Source: Finn et al. 2017, section 5.2; Nichol et al. 2018, section 2.
    """

    def one(init, task, key):
        key_inner, key_outer = jax.random.split(key)
        theta, _ = adapt(init, task, key_inner)
        value, gradient = jax.value_and_grad(loss)(theta, task, key_outer)
        return value, _like("fomaml", init, gradient)

    return _over_tasks("fomaml", one, loss, adapt, batching)


def reptile(loss: Loss, adapt: Adapt, batching: str = "auto") -> MetaGradient:
    """Reptile: init - theta_K, so that descent moves the init towards theta_K.

    Source: Nichol et al. 2018, algorithm 2 (its batched form). Arguments as in `maml`.
    """
    after = _after(loss, adapt)

    def one(init, task, key):
        value, theta = after(init, task, key)
        return value, _like("reptile", init, jax.tree.map(jnp.subtract, Init.of(init).theta, theta))

    return _over_tasks("reptile", one, loss, adapt, batching)


METHODS = {"maml": maml, "fomaml": fomaml, "reptile": reptile}


def _after(loss, adapt):
    """(init, task, key) -> (L(theta_K), theta_K)."""

    def after(init, task, key):
        key_inner, key_outer = jax.random.split(key)
        theta, _ = adapt(init, task, key_inner)
        return loss(theta, task, key_outer), theta

    return after


def _like(name, init, direction):
    """A direction of weights as a pytree like init, which must not have learned step sizes."""
    if Init.of(init).step_sizes is not None:
        raise ValueError(f"{name}: learned step sizes need maml, which differentiates through them")
    return Init(direction) if isinstance(init, Init) else direction


def _over_tasks(name, one, loss, adapt, batching) -> MetaGradient:
    """Average `one(init, task, key) -> (value, direction)` over the tasks of a batch."""
    if batching not in BATCHING:
        raise ValueError(f"batching = {batching!r}: expected one of {', '.join(BATCHING)}")
    after = _after(loss, adapt)

    def sequential():
        return batching == "scan" or (batching == "auto" and jax.default_backend() == "cpu")

    def step(init, tasks, keys):
        def task(each, key):
            return one(init, tasks._replace(each=each), key)

        if not sequential():
            values, directions = jax.vmap(task)(tasks.each, keys)
            return values, jax.tree.map(lambda d: d.mean(axis=0), directions)

        def body(total, item):
            value, direction = task(*item)
            return jax.tree.map(jnp.add, total, direction), value

        zero = jax.tree.map(jnp.zeros_like, init)
        total, values = jax.lax.scan(body, zero, (tasks.each, keys))
        return values, jax.tree.map(lambda t: t / tasks.count, total)

    def losses(init, tasks, keys):
        def task(each, key):
            return after(init, tasks._replace(each=each), key)[0]

        if batching == "vmap":
            return jax.vmap(task)(tasks.each, keys)
        size = None if sequential() else GPU_BATCH
        return jax.lax.map(lambda item: task(*item), (tasks.each, keys), batch_size=size)

    return MetaGradient(step, losses, name)


def adam(
    lr: float, steps: int, *, decay: str = "constant", warmup: int = 0, clip: float | None = None
) -> optax.GradientTransformation:
    """The outer optimizer of the book: Adam, with a schedule and clipping if asked for.

    Args:
        lr: the largest outer step size beta.
        steps: outer steps of the whole run, for the schedule.
        decay: "constant", or "cosine" down to 1 % of lr.
        warmup: steps in which the step size rises linearly from 0.
        clip: the direction's largest global norm.

    Raises:
        ValueError: an unknown `decay`.
    """
    if decay not in ("constant", "cosine"):
        raise ValueError(f"decay = {decay!r}: expected one of constant, cosine")
    schedule = optax.constant_schedule(lr)
    if decay == "cosine":
        schedule = optax.cosine_decay_schedule(lr, max(1, steps - warmup), alpha=0.01)
    if warmup:
        rise = optax.linear_schedule(0.0, lr, warmup)
        schedule = optax.join_schedules([rise, schedule], [warmup])
    clipping = [optax.clip_by_global_norm(clip)] if clip else []
    return optax.chain(*clipping, optax.adam(schedule if decay == "cosine" or warmup else lr))
