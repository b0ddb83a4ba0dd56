"""A ReLU network on waves of given frequencies: Fourier features that someone else has drawn."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from learnit_utils import fields
from learnit_utils.fields import Field

KIND = "waves"


def build(kind: str, **settings: Any) -> Field:
    """The field of that kind and settings: one of `fields`, or `waves`."""
    return waves(**settings) if kind == KIND else fields.build(kind, **settings)


def waves(
    width: int, depth: int, channels: int, *, angular: Sequence[Sequence[float]], **common: Any
) -> Field:
    """A ReLU network on [sin(x F), cos(x F)].

    Args:
        width, depth, channels, common: as in `fields.relu`.
        angular: F, angular frequencies (dims, n), fixed and not part of theta.

    Raises:
        ValueError: a setting outside its range.
    """
    frequencies = np.asarray(angular, np.float32)
    settings = fields._common({"dims": len(frequencies)} | common, "he")
    if frequencies.ndim != 2 or len(frequencies) != settings["dims"]:
        raise ValueError(f"angular of shape {frequencies.shape}: expected (dims, n)")
    if not np.isfinite(frequencies).all():
        raise ValueError("angular: expected finite numbers")
    spec = dict(kind=KIND, width=width, depth=depth, channels=channels) | settings
    spec |= dict(angular=tuple(map(tuple, frequencies.tolist())))
    draw = fields._normal(settings["scheme"])
    return fields._network(lambda x: fields._waves(x, frequencies), jax.nn.relu, draw, spec)
