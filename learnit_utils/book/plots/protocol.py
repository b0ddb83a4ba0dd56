"""Figures of a study: what validation sees of the grid, and what it chooses."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures

Curves = Mapping[tuple[str, float], np.ndarray]  # (optimizer, step size) -> PSNR at 0, every, ...


def tuning(
    curves: Mapping[str, Curves],
    stars: Mapping[str, tuple[int, float]],
    every: int,
    floors: Mapping[str, float] | None = None,
) -> Figure:
    """Validation curves of the whole grid, a panel for each init, with what was chosen.

    Args:
        curves: title of a panel -> curves; every optimizer has a style of line.
        stars: title -> (step, PSNR) of the choice.
        every: steps between two entries of a curve.
        floors: label -> PSNR of something that needs no steps.
    """
    titles = list(curves)
    labels = dict(xlabel="steps", ylabel="held-out PSNR (dB)")
    fig, axes = figures.panels(titles, **labels, sharey=True)
    for ax, title in zip(axes, titles):
        optimizers = list(dict.fromkeys(optimizer for optimizer, _ in curves[title]))
        for n, ((optimizer, lr), curve) in enumerate(curves[title].items()):
            style = ("-", "--", ":")[optimizers.index(optimizer)]
            steps = every * np.arange(len(curve))
            ax.plot(steps, curve, color=f"C{n}", ls=style, label=f"{optimizer} {lr:g}")
        for label, level in (floors or {}).items():
            ax.axhline(level, color="0.5", ls=":", label=label)
        ax.plot(*stars[title], "k*", ms=9, mec="w")
    figures.legend_under(fig, columns=4)
    return fig
