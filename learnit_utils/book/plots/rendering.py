"""What happens along a ray of a rendered scene."""

import jax
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures


def along_ray(
    t: jax.Array,
    width: float,
    density: jax.Array,
    colour: jax.Array,
    weights: jax.Array,
    depth: float,
) -> Figure:
    """Density along a ray in its colours; beside it the light that is left, and the weights.

    Args:
        t: (samples,) distances from the camera.
        width: of a bin.
        density: (samples,) per unit of length.
        colour: (samples, 3) in [0, 1].
        weights: (samples,) of `rendering.Rendering`: the light that each bin absorbs.
        depth: mean distance of absorption.
    """
    fig, (left, right) = figures.panels(
        ["density", "what is left, and weights"],
        xlabel="distance from the camera",
        ylabel=["σ (per unit of length)", "share of the light"],
    )
    shown = np.clip(np.asarray(colour), 0, 1)
    left.bar(t, density, width=width, color=shown, edgecolor="0.5")
    before = 1 - (np.cumsum(weights) - np.asarray(weights))
    right.plot(t, before, label="what is left T", color="C0")
    right.bar(t, weights, width=width, label="weight w", color="C1")
    right.axvline(depth, color="0.5", ls=":", label="mean depth")
    right.legend(fontsize=8)
    return fig
