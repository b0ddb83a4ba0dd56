"""Tasks: signals seen through a forward model, as pytrees, and the loss of a field on one of them.

The meta-learning core (`inner`, `outer`, `train`) only ever calls `loss(theta, task, key)`. What a
task holds, and what a field is compared with, is decided by a forward model (room `forward`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import metrics
from learnit_utils.fields import Field, Theta

Loss = Callable[[Theta, "Tasks", jax.Array], jax.Array]  # (theta, task, key) -> scalar
# (f, task, key) -> (predicted, observed), with f the field at fixed weights, points -> values
Forward = Callable[[Callable, "Tasks", jax.Array], tuple[jax.Array, jax.Array]]


class Tasks(NamedTuple):
    """Many tasks. A single one, `Task`, is the same without the leading axis of `each`."""

    each: Any  # pytree; every leaf (count, ...): what differs from task to task
    shared: Any = ()  # pytree: what all tasks have in common, for example coordinates

    @property
    def count(self) -> int:
        """The number of tasks; many have one, a `Task` has none."""
        return jax.tree.leaves(self.each)[0].shape[0]

    def take(self, index) -> "Tasks":
        """The `Task` at an index, or the tasks at an array or a slice of indices.

        Raises:
            IndexError: an index that is known, and of no task; JAX alone would take the last one.
        """
        one = not isinstance(index, slice) and np.ndim(index) == 0
        if not isinstance(index, slice | jax.core.Tracer):
            _check_index(np.asarray(index), self.count)
        each = jax.tree.map(lambda leaf: leaf[index], self.each)
        return Task(each, self.shared) if one else Tasks(each, self.shared)


class Task(Tasks):
    """One task of many, from `Tasks.take`."""

    __slots__ = ()

    @property
    def count(self) -> int:
        """Not there: the leading axis is that of its points."""
        raise TypeError("one task has no count; tasks.take(slice(i, i + 1)) are tasks, if only one")


def _check_index(index, count) -> None:
    if index.size and index.dtype != bool and not (-count <= index.min() <= index.max() < count):
        wrong = index.max() if index.max() >= count else index.min()
        raise IndexError(f"task {wrong}: expected an index below {count}, the number of tasks")


class Split(NamedTuple):
    """What differs from task to task at test time: what is fitted, and what judges the fit."""

    support: Any  # measurements that a fit may use
    query: Any  # held out; no method may use it


def all_points(f: Callable, task: Tasks, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The forward model of an image: the field at every coordinate, and the pixels."""
    del key
    return f(task.shared), task.each


def on_support(forward: Forward) -> Forward:
    """A forward model of what is in `Split.support`, for tasks whose `each` is a `Split`."""
    return lambda f, task, key: forward(f, task._replace(each=task.each.support), key)


def regression(field: Field, forward: Forward = all_points) -> Loss:
    """loss(theta, task, key) -> scalar: mean squared error between prediction and measurement.

    Args:
        field: the network.
        forward: (f, task, key) -> (predicted, observed), two arrays of one shape; the key feeds
            whatever is drawn at random.

    Source: Tancik et al. 2021, section 3.
    """

    def loss(theta, task, key):
        predicted, observed = forward(lambda x: field(theta, x), task, key)
        return metrics.mse(predicted, observed)

    return loss


def context_pruned(field: Field, loss: Loss, fraction: float) -> Loss:
    """The loss on the points of an image with the largest gradients: (theta, task, key) -> scalar.

    At every call the points are ranked by the norm of the gradient of their squared error with
    respect to the last layer, |f - T| sqrt(|h|^2 + 1) with h the input of that layer; the ranking
    itself is not differentiated. For inner steps on a part of the context, which makes a longer
    horizon cheap.

    Args:
        field: the network, with a spec; its last layer's head is the identity.
        loss: on image tasks (`forward.pixels.image_tasks`).
        fraction: of the points, in (0, 1].

    Raises:
        ValueError: a fraction outside (0, 1], or a field whose spec has another head or is not
            there.

    Source: Tack et al. 2023 (GradNCP), context pruning; without its bootstrapped target.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction = {fraction}: expected a number in (0, 1]")
    head = None if field.spec is None else field.spec.get("head")
    if head != "linear":
        raise ValueError(f"head = {head!r} of the field: expected linear, which the ranking is of")

    def on_part(theta, task, key):
        now, (values, x) = jax.lax.stop_gradient(theta), task
        h, residual = field.inputs(now, x)[-1], field(now, x) - values
        squared_norm = (residual**2).sum(axis=-1) * ((h**2).sum(axis=-1) + 1)
        _, index = jax.lax.top_k(squared_norm, max(1, round(fraction * len(squared_norm))))
        return loss(theta, Tasks(values[index], x[index]), key)

    return on_part


def subset(tasks: Tasks, count: int) -> Tasks:
    """At most `count` tasks, evenly spaced over all of them."""
    few = min(count, tasks.count)
    return tasks.take(jnp.arange(few) * tasks.count // max(few, 1))
