"""The same glyph, moved by a few pixels: who still knows it?

Networks of about as many weights learn characters that always stand in the middle of the picture,
and are asked about others of the same characters that are moved to the right. Kept in "few_shot".
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils import inner, outer
from learnit_utils.experiments.classifiers import Affine, Network, cross_entropy, standardised
from learnit_utils.experiments.episodes import classes_of
from learnit_utils.experiments.protocol import Pieces
from learnit_utils.signals import glyphs
from learnit_utils.tasks import Tasks

STUDY = "few_shot"
SIDE, MARGIN, CLASSES = 16, 8, 20  # of a glyph's picture; black around it; characters
PER_CLASS, UNSEEN = 60, 20  # pictures of a character, and how many of them are for the test
BATCH = 10


class Large(Network):
    """A convolutional network by XLA's own convolution, faster where pictures have many cells."""

    def features(self, body: Sequence[Affine], x: jax.Array) -> jax.Array:
        """As `Network.features`."""
        around = [(self.kernel // 2, self.kernel // 2)] * 2
        how = dict(padding=around, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        for layer in body:
            h = jax.lax.conv_general_dilated(x, layer.w, (self.stride,) * 2, **how)
            x = jax.nn.relu(standardised(h + layer.b[None, None, None]))
        x = x.mean(axis=(1, 2)) if self.kind == "conv_mean" else x
        return x.reshape(len(x), -1)


_one_size = dict(size=SIDE + 2 * MARGIN, classes=CLASSES)
NETWORKS = {  # as many weights, to within a tenth
    "fully connected": Network("dense", (18,), **_one_size),
    "strides, all cells": Large("conv", (16, 24, 28), 2, 3, **_one_size),
    "strides, mean of cells": Large("conv_mean", (16, 32, 46), 2, 3, **_one_size),
    "no strides, mean of cells": Large("conv_mean", (8, 18, 32), 1, 5, **_one_size),
}


def centred() -> tuple[np.ndarray, np.ndarray]:
    """Pictures (CLASSES, PER_CLASS, side, side, 1) of characters in the middle, and labels."""
    count = PER_CLASS * len(glyphs.alphabet("train"))
    data = glyphs.load("train", size=SIDE, limit=count, moved=0.0)
    kinds = list(classes_of(data.names).values())[:CLASSES]
    pictures = np.stack([data.arrays[kind] for kind in kinds])
    wide = ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    labels = np.repeat(np.arange(CLASSES)[:, None], PER_CLASS, axis=1)
    return np.pad(pictures, wide), labels


def moved(pictures: np.ndarray, shift: int) -> np.ndarray:
    """Pictures (..., height, width, channels) with their content `shift` pixels to the right.

    Args:
        shift: at most MARGIN, so that nothing of a glyph is lost.
    """
    return np.roll(pictures, shift, axis=-2)


def by_shift(
    pieces: Pieces, shifts: tuple[int, ...], steps: int, more: int, outer_lr: float, seeds: int
) -> dict[str, np.ndarray]:
    """Network -> accuracy on unseen pictures of known characters: (seeds, shifts).

    Args:
        shifts: in pixels, each at most MARGIN.
        steps: of Adam, in which the networks learn centred glyphs.
        more: so many times as many for the network without strides, which learns slowly.
        outer_lr: its step size.
    """
    found = {}
    for name, network in NETWORKS.items():
        about = dict(network=name, of="shift")
        own = steps * more if network.stride == 1 and network.kind != "dense" else steps
        cost = own * network.weight_count()
        found[name] = np.array(
            [
                pieces.call(
                    STUDY,
                    about | dict(seed=seed),
                    _accuracies,
                    *(network, shifts, own, outer_lr, seed),
                    cost=cost,
                )
                for seed in range(seeds)
            ]
        )
    return found


def _accuracies(network, shifts, steps, outer_lr, seed):
    pictures, labels = centred()
    known, unseen = slice(0, PER_CLASS - UNSEEN), slice(PER_CLASS - UNSEEN, None)
    theta = _fitted(network, pictures[:, known], labels[:, known], steps, outer_lr, seed)
    asked, told = pictures[:, unseen].reshape(-1, *pictures.shape[2:]), labels[:, unseen].ravel()
    predict = jax.jit(network.__call__)
    right = [predict(theta, moved(asked, s)).argmax(axis=1) == told for s in shifts]
    return [round(float(r.mean()), 4) for r in right]


def _fitted(network, pictures, labels, steps, outer_lr, seed):
    """Weights after steps of Adam on minibatches: an outer loop without inner steps."""
    flat, rng = labels.ravel(), np.random.default_rng(seed)
    drawn = np.stack([rng.permutation(len(flat))[:BATCH] for _ in range(steps)])
    shared = jnp.asarray(pictures.reshape(-1, *pictures.shape[2:]))
    tasks = Tasks((jnp.asarray(drawn), jnp.asarray(flat[drawn])), shared)

    def loss(theta, task, key):
        del key
        numbers, told = task.each
        return cross_entropy(network(theta, task.shared[numbers]), told)

    grad = outer.maml(loss, inner.sgd(loss, 0, 0.0), "vmap")
    optimizer = outer.adam(outer_lr, steps, decay="cosine")

    @jax.jit  # step by step: within XLA's loops convolutions are slow on CPUs
    def step(theta, state, task):
        _, towards = grad(theta, task, jax.random.key(0)[None])
        updates, state = optimizer.update(towards, state, theta)
        return optax.apply_updates(theta, updates), state

    theta = network.init(jax.random.key(seed))
    state = optimizer.init(theta)
    for i in range(steps):
        theta, state = step(theta, state, tasks.take(np.arange(i, i + 1)))
    return theta
