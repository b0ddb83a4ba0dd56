"""Small networks that name what a picture shows: convolutional ones, and one fully connected.

A network is two functions: `features(body, x)` makes a vector of a picture, and an affine head
makes a score (logit) per class of it. Weights are `Weights(body, head)`, both pytrees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils.experiments.convolution import convolve, output_size

EPSILON = 1e-5  # added to a variance


class Affine(NamedTuple):
    """A layer: w is (inputs, outputs), or a kernel (K, K, channels in, channels out)."""

    w: jax.Array
    b: jax.Array


class Weights(NamedTuple):
    """What a network learns."""

    body: tuple[Affine, ...]
    head: Affine


def standardised(h: jax.Array) -> jax.Array:
    """Every picture's activations (pictures, ...) with mean 0 and variance 1 (layer normalisation).

    Unlike batch normalisation it never looks at the other pictures of a batch, so no query picture
    helps to classify another.

    Source: Ba, Kiros and Hinton 2016, without gain and bias.
    """
    axes = tuple(range(1, h.ndim))
    h = h - h.mean(axis=axes, keepdims=True)
    return h / jnp.sqrt((h**2).mean(axis=axes, keepdims=True) + EPSILON)


@dataclass(frozen=True)
class Network:
    """A network without its weights.

    Attributes:
        kind: "conv", a convolution with a 3 x 3 kernel and the stride per layer, then all cells are
            features; "conv_mean", the same with a k x k kernel, and the mean over all cells at
            the end; "dense", fully connected layers.
        widths: channels, or units, of the layers.
        stride: of every convolution.
        kernel: K, cells of a kernel's side.
        size: pixels of a picture's side, of one channel.
        classes: outputs.
    """

    kind: str = "conv"
    widths: tuple[int, ...] = (16, 16, 16, 16)
    stride: int = 2
    kernel: int = 3
    size: int = 28
    classes: int = 5

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the layers' weights, the head's last."""
        n, cells, shapes = 1, self.size, []
        for width in self.widths:
            if self.kind == "dense":
                shapes.append((cells**2 * n if not shapes else n, width))
            else:
                shapes.append((self.kernel, self.kernel, n, width))
                cells = output_size(cells, self.kernel, self.stride, self.kernel // 2)
            n = width
        ends = n * cells**2 if self.kind == "conv" else n
        return [*shapes, (ends, self.classes)]

    def weight_count(self) -> int:
        """Numbers that the network learns, biases included."""
        return sum(int(np.prod(s)) + s[-1] for s in self.shapes())

    def init(self, key: jax.Array) -> Weights:
        """Random weights of variance 2 / fan-in (He et al. 2015) and zeros as biases.

        The head begins at a hundredth of that, so that no class is preferred.
        """
        shapes = self.shapes()
        keys = jax.random.split(key, len(shapes))
        layers = []
        for k, shape in zip(keys, shapes):
            scale = (2 / np.prod(shape[:-1])) ** 0.5
            w = scale * jax.random.normal(k, shape)
            layers.append(Affine(w, jnp.zeros(shape[-1])))
        head = layers.pop()
        return Weights(tuple(layers), head._replace(w=0.01 * head.w))

    def features(self, body: Sequence[Affine], x: jax.Array) -> jax.Array:
        """Vectors of pictures: (pictures, size, size, 1) -> (pictures, features)."""
        h = x.reshape(len(x), -1) if self.kind == "dense" else x
        for layer in body:
            if self.kind == "dense":
                h = h @ layer.w + layer.b[None]
            else:
                h = convolve(h, *layer, stride=self.stride, padding=self.kernel // 2)
            h = jax.nn.relu(standardised(h))
        if self.kind == "conv_mean":
            h = h.mean(axis=(1, 2))
        return h.reshape(len(h), -1)

    def __call__(self, theta: Weights, x: jax.Array) -> jax.Array:
        """Logits of pictures: (pictures, size, size, 1) -> (pictures, classes)."""
        return scores(theta.head, self.features(theta.body, x))


def scores(head: Affine, features: jax.Array) -> jax.Array:
    """Logits (pictures, classes) of an affine head."""
    return features @ head.w + head.b[None]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean of -log p(label), with p the softmax of the logits; log N for N equal logits.

    Args:
        logits: (pictures, N).
        labels: (pictures,), integers.
    """
    logp = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(logp, labels[:, None], axis=1).mean()


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a_i - b_j|^2: (m, d), (n, d) -> (m, n)."""
    return (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The share of pictures whose largest logit is at their label."""
    return (logits.argmax(axis=1) == labels).mean()
