"""Episodes, and what came of the ways to learn in them."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures
from learnit_utils.evaluate import Interval
from learnit_utils.tasks import Tasks

NAMES = {  # way -> what the page calls it
    "pixels": "nearest picture",
    "untrained": "random features",
    "scratch": "random initialization",
    "centroid": "transfer: class means",
    "head": "transfer: new head",
    "fine-tune": "transfer: fine-tune all",
    "prototypes": "prototypes",
    "reptile": "Reptile",
    "fomaml": "FOMAML",
    "anil": "ANIL",
    "maml": "MAML",
}


def shots(count: int) -> str:
    """Words for a number of shots."""
    return f"{count} shot{'s' * (count > 1)}"


def episode(task: Tasks, shown: int = 3) -> Figure:
    """The support and some of the query of one episode, a column for each class.

    Args:
        task: one episode of one-channel pictures.
        shown: query pictures of each class.
    """
    support, query = (np.asarray(part) for part in task.each)
    both = np.concatenate([support, query[:, :shown]], axis=1)
    pictures = np.asarray(task.shared)
    rows, columns, gap = both.shape[1], both.shape[0], support.shape[1]
    ratios = [1] * gap + [0.12] + [1] * shown
    fig, axes = plt.subplots(
        rows + 1,
        columns,
        figsize=(0.62 * columns + 1.1, 0.66 * rows + 0.3),
        gridspec_kw=dict(height_ratios=ratios),
    )
    for (i, j), ax in np.ndenumerate(axes):
        ax.axis("off")
        if i != gap:
            figures.picture(ax, pictures[both[j, i - (i > gap)]])
    for j in range(columns):
        axes[0, j].set_title(f"class {j}", fontsize=8)
    axes[0, 0].set_ylabel("support", fontsize=9)
    axes[gap + 1, 0].set_ylabel("query", fontsize=9)
    for ax in (axes[0, 0], axes[gap + 1, 0]):
        ax.axis("on")
    return fig


def accuracies(found: Mapping[tuple[str, str, int], Interval], chance: float) -> Figure:
    """Accuracy of every way, a panel for each kind of signals.

    Args:
        found: (signals, way, shots) -> right answers in per cent.
        chance: of a guess.
    """
    signals, ways, shots = (list(dict.fromkeys(key[i] for key in found)) for i in range(3))
    high = 1.3 + 0.27 * len(ways)
    fig, axes = plt.subplots(1, len(signals), figsize=(7.6, high), sharey=True, squeeze=False)
    for ax, kind in zip(axes[0], signals):
        for k, (shot, marker) in enumerate(zip(shots, "os")):
            rows = [row for row, way in enumerate(ways) if (kind, way, shot) in found]
            of = [found[kind, ways[row], shot] for row in rows]
            mean, half = (np.array([getattr(i, p) for i in of]) for p in ("mean", "half"))
            look = dict(fmt=marker, color=f"C{k}", ls="", capsize=2)
            label = f"{shot} picture{'s' * (shot > 1)} of each class"
            ax.errorbar(mean, rows, xerr=half, label=label, **look)
        ax.axvline(100 * chance, color="0.5", ls=":", lw=1.2, label="chance")
        ax.set(title=kind, xlabel="right answers (%)", xlim=(15, 102))
        ax.set_yticks(range(len(ways)), [NAMES[way] for way in ways])
    axes[0, 0].invert_yaxis()
    figures.legend_under(fig, columns=3)
    return fig


def directions(cosines: Mapping[str, Mapping[str, Sequence[float]]], steps: Sequence[int]):
    """Cosine of FOMAML's with MAML's direction against K.

    Args:
        cosines: title of a panel -> where it is measured -> cosine for every K.
        steps: K.
    """
    fig, axes = figures.panels(
        list(cosines), xlabel="inner steps K", ylabel="cosine, FOMAML and MAML", sharey=True
    )
    for ax, lines in zip(axes, cosines.values()):
        for (name, values), marker in zip(lines.items(), "os"):
            ax.plot(steps, values, marker=marker, label=name)
        ax.axhline(0, color="0.5", ls=":", lw=1)
        ax.set_xticks(list(steps))
    lowest = min(min(values) for lines in cosines.values() for values in lines.values())
    axes[0].set_ylim(min(-0.05, lowest - 0.1), 1.05)
    figures.legend_under(fig, columns=2)
    return fig


def progress(losses: np.ndarray, chance: float, window: int = 10) -> Figure:
    """The loss after adaptation in training episodes: (steps, batch), smoothed.

    Args:
        chance: the loss of a guess.
        window: outer steps in a mean.
    """
    fig, ax = plt.subplots(figsize=(7.6, 2.6))
    per_step = losses.mean(axis=1)
    window = max(1, min(window, len(per_step) // 2))
    smooth = np.convolve(per_step, np.ones(window) / window, mode="valid")
    ax.plot(np.arange(len(smooth)) + window, smooth, label="query loss after the inner steps")
    ax.axhline(chance, color="0.5", ls=":", label="a guess, log N")
    ax.set(xlabel="outer steps", ylabel="cross-entropy")
    ax.legend()
    return fig
