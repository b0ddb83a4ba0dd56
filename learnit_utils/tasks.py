"""Tasks: signals seen through a measurement, as pytrees, and the loss of a field on one of them.

The meta-learning core (`inner`, `outer`, `train`) only ever calls `loss(theta, task, key)`. What a
task holds, and how a field is measured against it, is decided here and in `observe`.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learnit_utils import metrics
from learnit_utils.fields import Field
from learnit_utils.observe import pixels, volume
from learnit_utils.signals.base import Dataset
from learnit_utils.signals.objects import Objects


class Tasks(NamedTuple):
    """Many tasks, or one: a single task is the same thing without the leading axis of `each`."""

    each: Any  # pytree; every leaf (count, ...): what differs from task to task
    shared: Any = ()  # pytree: what all tasks have in common, for example coordinates

    @property
    def count(self) -> int:
        """How many tasks there are; only for many, not for one."""
        return jax.tree.leaves(self.each)[0].shape[0]

    def take(self, index) -> "Tasks":
        """The task at an index, or the tasks at an array or a slice of indices."""
        return Tasks(jax.tree.map(lambda leaf: leaf[index], self.each), self.shared)


def images(data: Dataset) -> Tasks:
    """Every picture of a Dataset as a task: `each` its pixels (count, points, channels), `shared`
    their coordinates (points, 2) in [0, 1)."""
    count, height, width, channels = data.arrays.shape
    values = jnp.asarray(data.arrays.reshape(count, height * width, channels))
    return Tasks(values, pixels.grid(height, width).reshape(-1, 2))


def objects(data: Objects, held_out: Objects | None = None) -> Tasks:
    """Every object as a task: `each` its `volume.Views`, `shared` the `volume.Camera`.

    Args:
        held_out: other views of the same objects, to judge by; then `each` is a `volume.Object`.

    Raises:
        ValueError: they are not views of the same objects.
    """

    def views(of):
        return volume.Views(jnp.asarray(of.pictures), jnp.asarray(of.poses))

    camera = volume.Camera(jnp.float32(data.angle), jnp.float32(data.radius))
    if held_out is None:
        return Tasks(views(data), camera)
    if held_out.names != data.names:
        raise ValueError("held_out: views of other objects")
    return Tasks(volume.Object(views(data), views(held_out)), camera)


def splits(load: Callable[..., Dataset], make: Callable[[Dataset], Tasks] = images, **options):
    """The three splits of a signal class: an object with `train`, `validation` and `test`.

    Args:
        load: (split, **options) -> Dataset, for example `signals.faces.load`.
        make: Dataset -> Tasks.
        options: handed to `load`.
    """
    names = ("train", "validation", "test")
    return SimpleNamespace(**{name: make(load(name, **options)) for name in names})


def all_pixels(f: Callable, task: Tasks, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The measurement of an image: the field at every pixel, and the pixels. Needs no key."""
    del key
    return f(task.shared), task.each


def regression(field: Field, measure: Callable = all_pixels) -> Callable:
    """loss(theta, task, key) -> scalar: mean squared error between field and signal, as measured.

    Args:
        field: the network.
        measure: (f, task, key) -> (predicted, measured), two arrays of one shape, with f the
            field at fixed weights, points -> values; the key feeds whatever is drawn at random.

    Source: Tancik et al. 2021.
    """

    def loss(theta, task, key):
        predicted, measured = measure(lambda x: field(theta, x), task, key)
        return metrics.mse(predicted, measured)

    return loss


def hardest(field: Field, loss: Callable, part: float) -> Callable:
    """The loss on the points of an image that pull hardest: (theta, task, key) -> scalar.

    At every call the points are ranked by the norm of the gradient of their squared error with
    respect to the last layer, |f - T| sqrt(|h|^2 + 1) with h what that layer is given; the ranking
    itself is not differentiated. For inner steps on a part of the context, which makes a longer
    horizon cheap.

    Args:
        field: the network; its last layer's head is the identity.
        loss: on tasks as from `images`.
        part: of the points, in (0, 1].

    Raises:
        ValueError: a part outside (0, 1].

    Source: Tack et al. 2023 (GradNCP), context pruning; without its bootstrapped target.
    """
    if not 0 < part <= 1:
        raise ValueError(f"part = {part}: in (0, 1]")

    def on_part(theta, task, key):
        now, (values, x) = jax.lax.stop_gradient(theta), task
        h, off = field.inputs(now, x)[-1], field(now, x) - values
        pull = (off**2).sum(axis=-1) * ((h**2).sum(axis=-1) + 1)
        _, index = jax.lax.top_k(pull, max(1, round(part * len(pull))))
        return loss(theta, Tasks(values[index], x[index]), key)

    return on_part
