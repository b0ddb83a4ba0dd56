"""Convolution as numbers in cells, as a matrix, and as what survives a shift."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures

WINDOW = "#D55E00"


def cells(ax: plt.Axes, values: np.ndarray, title: str, window: Sequence[int] = ()) -> None:
    """Numbers in a grid of cells.

    Args:
        ax: draw here.
        values: (rows, columns).
        window: (row, column, height, width) of cells to frame.
    """
    rows, columns = values.shape
    for (i, j), value in np.ndenumerate(values):
        ax.text(j, i, f"{value:g}", ha="center", va="center", fontsize=9)
    for i in range(rows + 1):
        ax.plot([-0.5, columns - 0.5], [i - 0.5] * 2, "-", color="0.6", lw=0.7)
    for j in range(columns + 1):
        ax.plot([j - 0.5] * 2, [-0.5, rows - 0.5], "-", color="0.6", lw=0.7)
    if window:
        i, j, h, w = window
        place = (j - 0.5, i - 0.5)
        ax.add_patch(plt.Rectangle(place, w, h, fc="none", ec=WINDOW, lw=2.2, zorder=3))
    ax.set(xlim=(-0.6, columns - 0.4), ylim=(rows - 0.4, -0.6), xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
    ax.set_aspect("equal")
    ax.spines[:].set_visible(False)
    ax.grid(False)


def by_hand(
    x: np.ndarray, kernel: np.ndarray, outputs: Mapping[int, np.ndarray], at: tuple[int, int]
) -> Figure:
    """An input, a kernel and the outputs at several strides; one place of the kernel is framed.

    Args:
        x: (rows, columns).
        kernel: (K, K).
        outputs: stride -> (rows, columns).
        at: the cell of the output whose window is framed, at the first stride.
    """
    widths = [x.shape[1], kernel.shape[1], *(y.shape[1] for y in outputs.values())]
    layout = dict(width_ratios=[w + 0.6 for w in widths])
    fig, axes = plt.subplots(1, len(widths), figsize=(7.6, 2.5), gridspec_kw=layout)
    stride, k = next(iter(outputs)), len(kernel)
    window = (at[0] * stride, at[1] * stride, k, k)
    cells(axes[0], x, "input", window)
    cells(axes[1], kernel, "kernel", (0, 0, k, k))
    for n, (ax, (s, y)) in enumerate(zip(axes[2:], outputs.items())):
        cells(ax, y, f"output, stride {s}", () if n else (*at, 1, 1))
    return fig


def matrices(by_title: Mapping[str, np.ndarray]) -> Figure:
    """Matrices (outputs, inputs) as colours, one scale; zeros stay blank."""
    top = max(np.abs(m).max() for m in by_title.values())
    high = [m.shape[0] for m in by_title.values()]
    look = dict(height_ratios=[h + 2.5 for h in high])
    size = (7.6, 0.9 * len(high) + 0.17 * sum(high))
    fig, axes = plt.subplots(len(high), 1, figsize=size, gridspec_kw=look)
    for ax, (title, m) in zip(np.atleast_1d(axes), by_title.items()):
        shown = np.ma.masked_equal(m, 0)
        drawn = ax.imshow(shown, cmap="PuOr_r", vmin=-top, vmax=top, aspect="auto")
        ax.set(xticks=[], yticks=[], ylabel="outputs")
        ax.set_title(title, fontsize=9)
        ax.grid(False)
        ax.spines[:].set_visible(True)
    ax.set_xlabel("inputs")
    fig.colorbar(drawn, ax=axes, label="weight")
    return fig


def by_shift(shifts: Sequence[int], accuracy: Mapping[str, np.ndarray], chance: float) -> Figure:
    """Accuracy (seeds, shifts) of networks against the shift of the pictures."""
    fig, ax = plt.subplots(figsize=(7.6, 3.4))
    for (name, values), marker in zip(accuracy.items(), "osD^"):
        ax.plot(shifts, 100 * values.mean(axis=0), marker=marker, label=name)
    ax.axhline(100 * chance, color="0.5", ls=":", lw=1.2, label="chance")
    ax.set(xlabel="shift (pixels)", ylabel="accuracy (%)", ylim=(0, 103))
    figures.legend_under(fig, columns=3)
    return fig
