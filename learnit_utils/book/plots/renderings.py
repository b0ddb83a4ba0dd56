"""Figures of rendered scenes: along a ray, beside the truth, by the number of photographs."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures
from learnit_utils.forward.rendering import Rendering
from learnit_utils.metrics import psnr


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
        weights: (samples,), the share of the light that each bin absorbs.
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
    right.plot(t, before, label="what is left", color="C0")
    right.bar(t, weights, width=width, label="weight w", color="C1")
    right.axvline(depth, color="0.5", ls=":", label="mean depth")
    right.legend(fontsize=8)
    return fig


def under_truth(
    truths: Sequence[np.ndarray],
    pictures: Mapping[str, Sequence[Rendering]],
    ends: tuple[float, float] | None = None,
) -> tuple[dict, dict]:
    """Rows and titles for `figures.image_grid`: pictures under the truth, each with its PSNR.

    Args:
        truths: pictures in [0, 1], "never seen".
        pictures: label -> renderings of the same views.
        ends: if given, the depth of the first view follows, bright at the first of these distances
            and black at the second.
    """
    rows, titles = {"never seen": [*truths]}, {}
    for label, row in pictures.items():
        rows[label] = [seen.colour for seen in row]
        titles[label] = [f"{psnr(u, t):.1f} dB" for u, t in zip(rows[label], truths)]
        if ends:
            near, far = ends
            rows[label].append(np.clip((far - np.asarray(row[0].depth)) / (far - near), 0, 1))
    if ends:
        titles[next(iter(pictures))].append("depth, first view")
    return rows, titles


def signed(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Changes as gray: 0.5 for none, black and white for the largest in the first picture."""
    most = np.abs(pictures[0]).max()
    return [np.clip(0.5 + 0.5 * picture / most, 0, 1) for picture in pictures]


def by_views(
    intervals: Mapping[str, Mapping[int, object]],
    courses: Mapping[str, tuple[np.ndarray, np.ndarray]],
    most: int,
) -> Figure:
    """Held-out PSNR by how many views are given, and against steps with the most.

    Args:
        intervals: label -> views -> `evaluate.Interval`.
        courses: label -> (steps, PSNR).
        most: views of the courses.
    """
    fig, axes = figures.panels(
        ["views given", f"{most} views given"],
        xlabel=["views", "steps"],
        ylabel="held-out PSNR (dB)",
        sharey=True,
    )
    for colour, (label, by_count) in zip(("C1", "C0"), intervals.items()):
        look = dict(color=colour, label=label, marker="o", ms=4, ls="-")
        figures.band(axes[0], list(by_count), list(by_count.values()), **look)
        axes[1].plot(*courses[label], "-", color=colour)
    axes[0].set_xscale("log")
    axes[0].set_xticks(list(by_count), list(by_count))
    axes[0].minorticks_off()
    figures.legend_under(fig)
    return fig
