"""Figures of the chapter on tomography."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures
from learnit_utils.evaluate import Interval
from learnit_utils.experiments.protocol import Choice
from learnit_utils.metrics import psnr
from learnit_utils.signals.transforms import resize

ZOOM = 4  # pixels on the page for one of the picture


def scanner_frames(
    picture: np.ndarray, sinogram: np.ndarray, angles: np.ndarray
) -> tuple[list[np.ndarray], list[str]]:
    """A scanner that turns, for a slider: the rays' direction, and the sinogram up to there.

    Args:
        picture: (n, n) in [0, 1].
        sinogram: (views, n), 0 or more.
        angles: (views,) in radians.

    Returns:
        Frames (height, width) in [0, 1], and their labels.
    """
    size, frames = len(picture), []
    t = np.linspace(-0.5, 0.5, 8 * size)
    for k, angle in enumerate(angles):
        left = np.kron(picture, np.ones((ZOOM, ZOOM)))
        at = np.stack([0.5 + t * np.cos(angle), 0.5 + t * np.sin(angle)])
        row, column = np.clip((at * size * ZOOM).astype(int), 0, size * ZOOM - 1)
        left[row, column] = 1
        known = np.arange(len(angles))[:, None] <= k
        part = np.where(known, sinogram / sinogram.max(), 0).astype(np.float32)
        right = resize(part[..., None], size * ZOOM)[..., 0]
        frames.append(np.clip(np.hstack([left, np.ones((len(left), 8)), right]), 0, 1))
    return frames, [f"{np.rad2deg(angle):.0f}°" for angle in angles]


def exactness(sides: Sequence[int], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Relative errors of projectors against pixels of a side."""
    fig = figures.curves(
        {name: (sides, e) for name, e in errors.items()},
        xlabel="pixels of a side",
        ylabel="relative error of the sinogram",
        xscale="log",
        yscale="log",
        marker="os^",
    )
    smallest = min(e[-1] for e in errors.values())
    marks = [e for e in (0.02, 0.05, 0.1, 0.2) if smallest / 2 < e]
    _ticks(fig.axes[0], sides)
    fig.axes[0].set_yticks(marks, [f"{e:.0%}" for e in marks])
    fig.axes[0].minorticks_off()
    return fig


def by_sigma(sigmas: Sequence[float], best: Mapping[str, Sequence[float]], views: str) -> Figure:
    """PSNR of several inits against the scale of the frequencies."""
    fig = figures.curves(
        {name: (sigmas, values) for name, values in best.items()},
        xlabel="σ of the frequencies (radians per picture side)",
        ylabel=f"best validation PSNR, {views} (dB)",
        xscale="log",
        marker="os^D",
    )
    _ticks(fig.axes[0], sigmas)
    return fig


def choices(
    specs: Mapping[str, Mapping], chosen: Mapping[tuple[str, int], Choice], views: Sequence[int]
) -> list[list[str]]:
    """Rows of a table: init, σ in radians a side, and what was chosen for every number of views."""
    rows = []
    for name, spec in specs.items():
        told = [chosen[name, v] for v in views]
        row = [f"{c.optimizer} {c.lr:g}, {c.step}" for c in told]
        rows.append([name, f"{spec['sigma'] * 2 * np.pi:.3g}", *row])
    return rows


def crossings(
    gaps: Mapping[tuple[float, int, int], Interval], closed: set[tuple[float, int, int]]
) -> list[list]:
    """Rows of a table: noise, steps, leads by views, and where the interval of a lead reaches 0."""
    rows: dict[tuple[float, int], list] = {}
    for (level, budget, _), gap in gaps.items():
        rows.setdefault((level, budget), [f"{level:g}", budget]).append(gap)
    for (level, budget), row in rows.items():
        at = [
            f"{v}"
            for point in gaps
            if point[:2] == (level, budget)
            for v in point[2:]
            if point in closed
        ]
        row.append(", ".join(at) or "none")
    return [*rows.values()]


def parts(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> dict[str, list[np.ndarray]]:
    """Rows of pictures: a picture, what is told of it, and the rest.

    Args:
        splits: name -> (picture, told, rest), each (n, n).
    """
    return {
        name: [picture, np.clip(2 * told, 0, 1), np.clip(0.5 + rest, 0, 1)]
        for name, (picture, told, rest) in splits.items()
    }


def sweep(
    values: Mapping[tuple[str, int, float, int], Interval], fbp: Mapping[tuple[int, float], float]
) -> Figure:
    """PSNR of inits and of filtered backprojection against the number of views, a panel a noise.

    Args:
        values: (init, views, noise, budget of steps) -> interval; the smallest budget is dotted,
            the largest solid with a band.
        fbp: (views, noise) -> PSNR.
    """
    names, views, levels, budgets = (list(dict.fromkeys(part)) for part in zip(*values))
    titles = [f"noise {level:g}" if level else "exact sinograms" for level in levels]
    look = dict(xlabel="views", ylabel="PSNR (dB)", sharey=True, xscale="log")
    fig, axes = figures.panels(titles, **look)
    for ax, level in zip(axes, levels):
        for colour, name in zip(("C0", "C1"), names):
            for budget in sorted({min(budgets), max(budgets)}):
                line = dict(color=colour, marker="o", ms=3, label=f"{name}, {budget} steps")
                line_of = [values[name, v, level, budget] for v in views]
                if budget == max(budgets):
                    figures.band(ax, views, line_of, ls="-", **line)
                else:
                    ax.plot(views, [value.mean for value in line_of], ls=":", **line)
        plain = [fbp[v, level] for v in views]
        ax.plot(views, plain, color="0.5", ls="--", label="FBP")
        _ticks(ax, views[::2])
    figures.legend_under(fig)
    return fig


def strangers(
    names: Sequence[str],
    truths: Sequence[np.ndarray],
    random: Sequence[np.ndarray],
    learned: Sequence[np.ndarray],
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[str]]]:
    """Rows and titles of `figures.image_grid`: truths, two reconstructions, the second's error."""
    rows = {"truth": list(truths), "random": list(random), "learned": list(learned)}
    wrong = [np.clip(0.5 + u - t, 0, 1) for u, t in zip(learned, truths)]
    titles = {
        name: [f"{psnr(u, t):.1f} dB" for u, t in zip(rows[name], truths)]
        for name in ("random", "learned")
    }
    return rows | {"error of learned": wrong}, titles | {"truth": list(names)}


def _ticks(ax, values: Sequence[float]) -> None:
    """Only these marks on a logarithmic axis."""
    ax.set_xticks(values, [f"{v:g}" for v in values])
    ax.minorticks_off()
