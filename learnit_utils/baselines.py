"""The paper's other inits, which separate what a learned init draws from how it is made."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from learnit_utils.evaluate import fit
from learnit_utils.fields import Field, Theta
from learnit_utils.inner import Init
from learnit_utils.tasks import Loss, Tasks


def mean(
    field: Field,
    key: jax.Array,
    loss: Loss,
    tasks: Tasks,
    optimizer: optax.GradientTransformation,
    steps: int,
) -> Theta:
    """The paper's *mean* init: a random network fitted to output the mean of the tasks' signals.

    Source: Tancik et al. 2021, section 4.1.
    """
    average = Tasks(jax.tree.map(lambda a: a.mean(axis=0), tasks.each), tasks.shared)
    return fit(loss, field.init(key), average, optimizer, steps)


def matched(
    field: Field,
    key: jax.Array,
    loss: Loss,
    init: Any,
    x: jax.Array,
    optimizer: optax.GradientTransformation,
    steps: int,
) -> Theta:
    """The paper's *matched* init: a random network fitted to output what `init` outputs at x.

    Source: Tancik et al. 2021, section 4.1.
    """
    task = Tasks(field(Init.of(init).theta, x), x)
    return fit(loss, field.init(key), task, optimizer, steps)


def shuffled(key: jax.Array, init: Any) -> Theta:
    """The paper's *shuffled* init: the entries of every array of weights in random order.

    Source: Tancik et al. 2021, section 4.1.
    """
    leaves, structure = jax.tree.flatten(Init.of(init).theta)
    keys = jax.random.split(key, len(leaves))
    mixed = [jax.random.permutation(k, a.ravel()).reshape(a.shape) for k, a in zip(keys, leaves)]
    return jax.tree.unflatten(structure, mixed)


def white(pictures: jax.Array) -> jax.Array:
    """Mean squared error of an all-white picture: (..., height, width, channels) -> (...)."""
    return jnp.mean((1 - pictures) ** 2, axis=(-3, -2, -1))
