"""How a network that many signals share is fitted to one of them, and three ways to learn it.

The shared part is learned with the own parts of all training signals beside it (`joint`), with own
parts at their start (`amortised`), or through the steps that fit them (`bilevel`). At test time it
is frozen, and the own part is fitted (`fitting`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import inner, outer
from learnit_utils.experiments.shared_networks import Parts, Shared
from learnit_utils.inner import Adapt, Init
from learnit_utils.tasks import Loss, Tasks


class Seen(NamedTuple):
    """What differs from task to task: a picture of which a fit may use a part."""

    values: jax.Array  # (points, channels)
    mask: jax.Array  # (points, 1): 1 where the fit may look, 0 elsewhere
    judged: jax.Array  # (points, 1): 1 where it is judged
    number: jax.Array  # (): which of the training signals it is


class Frame(NamedTuple):
    """What all tasks have in common."""

    x: jax.Array  # (points, 2), the pixels' coordinates
    mean: jax.Array  # (points, channels): an encoder sees this where it may not look
    prior: jax.Array  # (), the strength of the prior on the own part; see `fitting`


def seen_tasks(
    pictures: jax.Array | np.ndarray,
    x: jax.Array,
    mean: jax.Array,
    mask: np.ndarray | None = None,
    *,
    unseen: bool = False,
    prior: float = 0.0,
) -> Tasks:
    """Pictures as tasks of a shared network.

    Args:
        pictures: (count, points, channels).
        x: (points, 2).
        mean: (points, channels), see `Frame`.
        mask: (points,) or (count, points), true where a fit may look; everywhere unless given.
        unseen: judged where it may not look, instead of everywhere.
        prior: see `Frame`.
    """
    pictures = jnp.asarray(pictures)
    count, points, _ = pictures.shape
    seen = jnp.ones(points) if mask is None else jnp.asarray(mask, jnp.float32)
    every = jnp.broadcast_to(seen[..., None], (count, points, 1))
    judged = 1 - every if unseen else jnp.ones_like(every)
    return Tasks(
        Seen(pictures, every, judged, jnp.arange(count)), Frame(x, mean, jnp.float32(prior))
    )


def with_prior(tasks: Tasks, prior: float) -> Tasks:
    """The same tasks with another strength of the prior."""
    return tasks._replace(shared=tasks.shared._replace(prior=jnp.float32(prior)))


# --- losses -------------------------------------------------------------------------------------
def looked_at(task: Tasks) -> jax.Array:
    """What an encoder sees of a task: its picture, and the mean picture where it may not look."""
    seen = task.each
    return jnp.where(seen.mask > 0, seen.values, task.shared.mean)


def error(network: Shared, parts: Parts, task: Tasks, weight: jax.Array) -> jax.Array:
    """Mean squared error of a decoded picture where `weight` (points, 1) is 1."""
    drawn = network.decode(parts.shared, parts.own, task.shared.x, looked_at(task))
    squared = weight * (drawn - task.each.values) ** 2
    return squared.sum() / (weight.sum() * drawn.shape[-1])


def penalty(own: Any) -> jax.Array:
    """The sum of squares of an own part: minus twice the logarithm of a Gaussian prior on it."""
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(own))


def fitting(network: Shared) -> Loss:
    """loss(parts, task, key): what a fit of the own part descends; the shared part is frozen.

    The error where the fit may look, plus prior / points * |own|^2 with the number of points that
    it may look at: the most probable own part under a Gaussian, where the task's `prior` is the
    variance of the pixels' noise over that of the entries of the own part.
    """

    def loss(parts, task, key):
        del key
        frozen = parts._replace(shared=jax.lax.stop_gradient(parts.shared))
        mask = task.each.mask
        believed = task.shared.prior * penalty(parts.own) / mask.sum()
        return error(network, frozen, task, mask) + believed

    return loss


def judging(network: Shared) -> Loss:
    """loss(parts, task, key): the error where a task is judged."""

    def loss(parts, task, key):
        del key
        return error(network, parts, task, task.each.judged)

    return loss


# --- three ways to learn what is shared -----------------------------------------------------------
def stratified(key: jax.Array, side: int, block: int) -> jax.Array:
    """Indices of one pixel in every block x block pixels of a picture: ((side / block)^2,).

    Raises:
        ValueError: a block that does not divide the side.
    """
    if block < 1 or side % block:
        raise ValueError(f"block = {block}: expected a divisor of the side, {side}")
    n = side // block
    inside = jax.random.randint(key, (2, n, n), 0, block)
    rows = block * jnp.arange(n)[:, None] + inside[0]
    return (side * rows + block * jnp.arange(n)[None, :] + inside[1]).reshape(-1)


def augmented(key: jax.Array, picture: jax.Array, side: int, most: int = 3) -> jax.Array:
    """A picture (points, channels) perhaps mirrored, moved by at most `most` pixels, and with its
    contrast changed by up to a tenth."""
    key_flip, key_shift, key_contrast = jax.random.split(key, 3)
    u = picture.reshape(side, side, -1)
    u = jnp.where(jax.random.bernoulli(key_flip), u[:, ::-1], u)
    wide = jnp.pad(u, ((most, most), (most, most), (0, 0)), mode="edge")
    begin = jax.random.randint(key_shift, (2,), 0, 2 * most + 1)
    u = jax.lax.dynamic_slice(wide, (begin[0], begin[1], 0), u.shape)
    contrast = jax.random.uniform(key_contrast, minval=0.9, maxval=1.1)
    return jnp.clip(0.5 + contrast * (u - 0.5), 0, 1).reshape(picture.shape)


def _on_part(network, parts, task, index) -> jax.Array:
    """Mean squared error at some of the points."""
    drawn = network.decode(parts.shared, parts.own, task.shared.x[index], looked_at(task))
    return ((drawn - task.each.values[index]) ** 2).mean()


def joint(network: Shared, side: int, block: int) -> outer.MetaGradient:
    """The shared part and the own parts of all training signals, learned together.

    The own part of the parameters is a table, a row per training signal.

    Args:
        network: shared.
        side, block: of the pictures, and of the blocks of which every step sees one pixel.

    Source: Park et al. 2019 (DeepSDF), equation 9: an auto-decoder.
    """

    def loss(parts, task, key):
        own = jax.tree.map(lambda leaf: leaf[task.each.number], parts.own)
        value = _on_part(network, parts._replace(own=own), task, stratified(key, side, block))
        return value + task.shared.prior * penalty(own) / side**2

    return outer.maml(loss, inner.sgd(loss, 0, 0.0))


def amortised(network: Shared, side: int, block: int) -> outer.MetaGradient:
    """The shared part, learned with every signal's own part at its start; pictures are augmented.

    Arguments as in `joint`.
    """

    def loss(parts, task, key):
        key_picture, key_points = jax.random.split(key)
        values = augmented(key_picture, task.each.values, side)
        task = task._replace(each=task.each._replace(values=values))
        here = parts._replace(own=jax.lax.stop_gradient(parts.own))
        return _on_part(network, here, task, stratified(key_points, side, block))

    return outer.maml(loss, inner.sgd(loss, 0, 0.0))


def own_steps(network: Shared, steps: int, lr: float = 1.0) -> Adapt:
    """adapt(parts, task, key): steps of descent on the own part alone, on what the mask shows.

    The start of the own part is not learned. Where it is an `inner.Init` with step sizes, these are
    used; otherwise every step has length `lr`.
    """

    def adapt(parts, task, key):
        def on_own(own, task, key):
            return error(network, parts._replace(own=own), task, task.each.mask)

        start, rates = Init.of(parts.own)
        start = Init(jax.lax.stop_gradient(start), rates)
        rated = rates is not None
        descend = inner.meta_sgd(on_own, steps) if rated else inner.sgd(on_own, steps, lr)
        own, losses = descend(start, task, key)
        return parts._replace(own=own), losses

    return adapt


def bilevel(network: Shared, steps: int, lr: float = 1.0) -> outer.MetaGradient:
    """The shared part, learned through `own_steps`, by the loss after them where tasks are judged.

    Source: Zintgraf et al. 2019 (CAVIA), algorithm 1; Dupont et al. 2022 (functa), section 3.
    """
    return outer.maml(judging(network), own_steps(network, steps, lr))
