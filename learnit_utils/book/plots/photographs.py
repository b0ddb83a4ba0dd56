"""Figures of fits to single photographs: every init has one look."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures
from learnit_utils.evaluate import Interval

LOOK = dict(scratch=("C1", ":"), one=("C2", "--"), early=("C3", "-."), many=("C0", "-"))
MARKERS = dict(scratch="o", one="s", early="D", many="^")
Names = Mapping[str, str]  # init -> what the legend says
Curves = Mapping[str, Mapping[str, tuple]]  # title of a panel -> init -> (x, y)
Labels = tuple[str, str]  # of x and y


def lines(panels: Curves, names: Names, xlabel: str, stars: Curves | None = None) -> Figure:
    """PSNR against x for several inits, in panels side by side.

    Args:
        stars: title -> init -> (x, y) of a point that is marked on its line.
    """
    titles = list(panels)
    fig, axes = figures.panels(titles, xlabel=xlabel, ylabel="PSNR (dB)", sharey=True)
    for title, ax in zip(titles, axes):
        for init, (x, y) in panels[title].items():
            color, style = LOOK[init]
            ax.plot(x, y, color=color, ls=style, label=names[init])
        for point in (stars or {}).get(title, {}).values():
            ax.plot(*point, "k*", ms=9, mec="w")
    figures.legend_under(fig, columns=2 if stars else 3)
    return fig


def scatter(pairs: Mapping[str, np.ndarray], names: Names, title: str, labels: Labels) -> Figure:
    """One score against another, a point per photograph, and the line where both agree.

    Args:
        pairs: init -> (2, photographs), in dB.
    """
    fig, (ax,) = figures.panels([title], xlabel=labels[0], ylabel=labels[1])
    for init, values in pairs.items():
        look = dict(color=LOOK[init][0], alpha=0.8, label=names[init])
        ax.plot(*values, MARKERS[init], ms=4, **look)
    ends = [end([end(values.ravel()) for values in pairs.values()]) for end in (min, max)]
    ax.plot(ends, ends, color="0.5", lw=1, ls=":")
    figures.legend_under(fig, columns=2)
    return fig


def bands(
    intervals: Mapping[str, Mapping[int, Interval]],
    names: Names,
    title: str,
    labels: Labels,
) -> Figure:
    """Means with bands of their intervals against numbers of steps, evenly spaced.

    Args:
        intervals: init -> steps -> `evaluate.Interval`.
    """
    fig, (ax,) = figures.panels([title], xlabel=labels[0], ylabel=labels[1])
    for init, by_steps in intervals.items():
        color, style = LOOK[init]
        look = dict(color=color, ls=style, marker="o", ms=4, label=names[init])
        figures.band(ax, range(len(by_steps)), list(by_steps.values()), **look)
    ax.set_xticks(range(len(by_steps)), list(by_steps))
    figures.legend_under(fig)
    return fig
