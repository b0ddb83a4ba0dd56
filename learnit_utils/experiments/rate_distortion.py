"""A network as a code for a picture: what its weights cost, and how it compares with image files.

Source: Dupont et al. 2021 (COIN).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from learnit_utils import fields
from learnit_utils.experiments import fitting
from learnit_utils.fields import Field, Theta
from learnit_utils.metrics import decibel
from learnit_utils.signals.transforms import encoded

QUALITIES = (1, 5, 10, 20, 40, 60, 80, 90, 95)  # settings of an image format


class Coded(NamedTuple):
    """Weights as a receiver has them."""

    theta: Theta
    bits: int  # that were sent


def half_floats(theta: Theta) -> Coded:
    """Weights rounded to 16-bit floats."""
    return Coded(_each(_halved, theta), 16 * fields.count(theta))


def on_levels(theta: Theta, bits: int = 8) -> Coded:
    """Every tensor on 2^bits even levels from its smallest to its largest entry.

    These two are sent along, as 32-bit floats.
    """
    tensors = len(jax.tree.leaves(theta))
    sent = bits * fields.count(theta) + 64 * tensors
    return Coded(_each(partial(_levelled, bits=bits), theta), sent)


def _each(code, theta):
    return jax.tree.map(lambda leaf: code(np.asarray(leaf, np.float32)), theta)


def _halved(a):
    return a.astype(np.float16).astype(np.float32)


def _levelled(a, bits):
    low, step = a.min(), (a.max() - a.min()) / np.float32(2**bits - 1)
    return low + step * np.round((a - low) / np.maximum(step, np.float32(1e-12)))


def network_point(field: Field, coded: Coded, x: jax.Array, y: jax.Array) -> tuple[float, float]:
    """(bits per pixel, PSNR in dB) of a picture y (pixels, channels) that weights stand for.

    Args:
        field: their network.
        coded: the weights as a receiver has them.
        x: where the pixels are, (pixels, dims).
        y: what they are, in [0, 1].
    """
    decoded = fitting.predict(field, coded.theta, x)
    return coded.bits / len(x), _psnr(decoded, y)


def file_points(
    picture: np.ndarray, kind: str, qualities: Sequence[int] = QUALITIES
) -> list[tuple[float, float]]:
    """(bits per pixel, PSNR in dB) of a picture (height, width, 3) in an image format.

    Args:
        picture: in [0, 1].
        kind: "JPEG" or "WEBP"; whole files, headers included.
        qualities: settings of the format, 1 to 100.
    """
    files = [encoded(picture, kind, quality) for quality in qualities]
    return [(rate, _psnr(u, picture)) for rate, u in files]


def _psnr(a, b):
    return float(decibel(np.mean((a - np.asarray(b)) ** 2)))


def curve(points: Sequence[tuple[float, float]]) -> np.ndarray:
    """Points (rate, PSNR) in the order of their rates, (2, n)."""
    return np.array(sorted(points)).T


def lead(ours: np.ndarray, other: np.ndarray, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """By how many dB one curve is ahead of another, at rates that both reach.

    Args:
        ours, other: (2, n), from `curve`; straight lines between their points.
        count: of rates.

    Returns:
        Rates (count,) in bits per pixel, and the lead (count,) in dB.

    Raises:
        ValueError: the curves have no rate in common.
    """
    low, high = max(ours[0, 0], other[0, 0]), min(ours[0, -1], other[0, -1])
    if low > high:
        raise ValueError(f"rates from {low:.3g} to {high:.3g}: expected some in common")
    rates = np.linspace(low, high, count)
    return rates, np.interp(rates, *ours) - np.interp(rates, *other)
