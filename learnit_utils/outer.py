"""The outer loop's direction: how the start should move so that K inner steps end lower.

`maml`, `fomaml` and `reptile` share one signature and report one quantity, the loss of every task
*after* adaptation, so their curves compare. None of them knows what a
task is: `tasks` is a `tasks.Tasks`, with what differs in `each`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

BATCHING = ("auto", "scan", "vmap")
AT_ONCE = 8  # tasks evaluated at a time on a GPU, however many there are


@dataclass(frozen=True)
class MetaGradient:
    """What an outer optimiser follows. Calling it is calling `step`.

    Attributes:
        step: (start, tasks, keys (count,)) -> (losses (count,), direction), with direction a
            pytree like start and losses[i] = L_i(theta_K), the loss of task i after adaptation.
        losses: (start, tasks, keys) -> losses (count,) alone, the same numbers.
        name: "maml", "fomaml" or "reptile".
    """

    step: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]
    losses: Callable[[Any, Any, jax.Array], jax.Array]
    name: str

    def __call__(self, start: Any, tasks: Any, keys: jax.Array) -> tuple[jax.Array, Any]:
        """The losses after adaptation, and the direction to descend."""
        return self.step(start, tasks, keys)


def maml(loss: Callable, adapt: Callable, batching: str = "auto") -> MetaGradient:
    """The exact gradient of E_T L(theta_K(start, T)), through all inner steps.

    Args:
        loss: (theta, task, key) -> scalar.
        adapt: (start, task, key) -> (theta_K, losses), from `inner`.
        batching: "scan" goes through the tasks one by one (their activations stay in cache, best
            on CPU), "vmap" takes them at once (best on GPU), "auto" picks by platform.

    Raises:
        ValueError: another `batching`.

    Source: Finn et al. 2017, equation 1; Tancik et al. 2021, section 3.
    """
    after = jax.value_and_grad(_after(loss, adapt), has_aux=True)

    def one(start, task, key):
        (value, _), gradient = after(start, task, key)
        return value, gradient

    return _over_tasks("maml", one, loss, adapt, batching)


def fomaml(loss: Callable, adapt: Callable, batching: str = "auto") -> MetaGradient:
    """First-order MAML: grad L(theta_K), as if theta_K = start + constant. Arguments as in `maml`.

    Source: Finn et al. 2017, section 5.2; Nichol et al. 2018, section 2.
    """

    def one(start, task, key):
        key_inner, key_outer = jax.random.split(key)
        theta, _ = adapt(start, task, key_inner)
        _same_weights("fomaml", start, theta)
        return jax.value_and_grad(loss)(theta, task, key_outer)

    return _over_tasks("fomaml", one, loss, adapt, batching)


def reptile(loss: Callable, adapt: Callable, batching: str = "auto") -> MetaGradient:
    """Reptile: start - theta_K, so that descent moves the start towards theta_K.

    Source: Nichol et al. 2018, algorithm 2 (its batched form). Arguments as in `maml`.
    """
    after = _after(loss, adapt)

    def one(start, task, key):
        value, theta = after(start, task, key)
        _same_weights("reptile", start, theta)
        return value, jax.tree.map(jnp.subtract, start, theta)

    return _over_tasks("reptile", one, loss, adapt, batching)


METHODS = {"maml": maml, "fomaml": fomaml, "reptile": reptile}


def _after(loss, adapt):
    """(start, task, key) -> (L(theta_K), theta_K)."""

    def after(start, task, key):
        key_inner, key_outer = jax.random.split(key)
        theta, _ = adapt(start, task, key_inner)
        return loss(theta, task, key_outer), theta

    return after


def _same_weights(name, start, theta):
    if jax.tree.structure(start) != jax.tree.structure(theta):
        raise ValueError(f"{name}: learned step sizes need maml, which differentiates through them")


def _over_tasks(name, one, loss, adapt, batching) -> MetaGradient:
    """Average `one(start, task, key) -> (value, direction)` over the tasks of a batch."""
    if batching not in BATCHING:
        raise ValueError(f"batching = {batching!r}: one of {', '.join(BATCHING)}")
    after = _after(loss, adapt)

    def in_turn():
        return batching == "scan" or (batching == "auto" and jax.default_backend() == "cpu")

    def step(start, tasks, keys):
        def task(each, key):
            return one(start, tasks._replace(each=each), key)

        if not in_turn():
            values, directions = jax.vmap(task)(tasks.each, keys)
            return values, jax.tree.map(lambda d: d.mean(axis=0), directions)

        def body(total, item):
            value, direction = task(*item)
            return jax.tree.map(jnp.add, total, direction), value

        zero = jax.tree.map(jnp.zeros_like, start)
        total, values = jax.lax.scan(body, zero, (tasks.each, keys))
        return values, jax.tree.map(lambda t: t / tasks.count, total)

    def losses(start, tasks, keys):
        def task(each, key):
            return after(start, tasks._replace(each=each), key)[0]

        if batching == "vmap":
            return jax.vmap(task)(tasks.each, keys)
        size = None if in_turn() else AT_ONCE
        return jax.lax.map(lambda item: task(*item), (tasks.each, keys), batch_size=size)

    return MetaGradient(step, losses, name)
