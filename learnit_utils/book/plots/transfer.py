"""Inits learned from one class of pictures, tried on others: figures of the whole table.

Where something belongs to a pair, its key is (learned from, tried on).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures
from learnit_utils.evaluate import Interval
from learnit_utils.experiments.wave_speeds import Account, WaveSpeeds

RANDOM, GRAY = "random", "0.5"


def styles(inits: Sequence[str]) -> dict[str, dict[str, str]]:
    """A colour and a kind of line for every init; a random one is gray."""
    looks = cycle(plt.rcParams["axes.prop_cycle"])
    gray = dict(color=GRAY, linestyle="-")
    return {init: gray if init == RANDOM else next(looks) for init in inits}


def square(values: np.ndarray) -> np.ndarray:
    """Values of square pictures as pictures: (..., points, channels) -> (..., n, n, channels)."""
    side = math.isqrt(values.shape[-2])
    return np.asarray(values).reshape(*values.shape[:-2], side, side, values.shape[-1])


def samples(pictures: Mapping[str, np.ndarray], count: int) -> Figure:
    """Some of the pictures (number, points, channels) of each class, evenly spaced."""
    rows = {}
    for kind, values in pictures.items():
        few = min(count, len(values))
        rows[kind] = [*square(values[np.arange(few) * len(values) // few])]
    fig = figures.image_grid(rows)
    fig.set_label(
        "Test pictures of the classes: faces, photographs, pages of words, and signed distance "
        "fields, which are smooth and dark inside a curve."
    )
    return fig


def first_steps(
    drawn: Mapping[tuple[str, str], np.ndarray], targets: Mapping[str, np.ndarray], steps: int
) -> Figure:
    """What learned inits draw, and their first steps towards a picture of each class.

    Args:
        drawn: (steps + 1 or more, points, channels) each.
        targets: class -> (points, channels).
        steps: how many to show.
    """
    heads = ["start"]
    rows = {"target": [None]} | {kind: [square(drawn[kind, kind][0])] for kind in targets}
    for target, picture in targets.items():
        heads += [f"{target}, 1", *map(str, range(2, steps + 1))]
        rows["target"] += [square(picture)] + [None] * (steps - 1)
        for source in targets:
            rows[source] += [*square(drawn[source, target][1 : steps + 1])]
    fig = figures.image_grid(rows, {"target": heads})
    fig.set_label(
        "One row per learned start: what it draws, and the first and second gradient step "
        "towards one picture of each class. Own classes are recognisable after one step; "
        "elsewhere a ghost of the own class stays."
    )
    return fig


def tiles(drawn: Mapping[tuple[str, str], np.ndarray], classes: Sequence[str], step: int):
    """All pairs at one step as one picture: learned from (rows), tried on (columns).

    Args:
        drawn: (steps + 1, points, channels) each.
        classes: both rows and columns.
        step: which.
    """

    def framed(pair):
        return np.pad(square(drawn[pair][step]), ((2, 2), (2, 2), (0, 0)), constant_values=1)

    rows = [np.hstack([framed((source, target)) for target in classes]) for source in classes]
    return np.vstack(rows).squeeze()


def slides(
    drawn: Mapping[tuple[str, str], np.ndarray], classes: Sequence[str], begin: int, end: int
) -> dict[str, Any]:
    """`tiles` at steps of interest, as `slider.frame_slider` takes them.

    Args:
        drawn, classes: as in `tiles`.
        begin: the step that is shown first; it and those before it are there.
        end: the last step.
    """
    moments = sorted({*range(begin + 1), end // 2, end})
    return dict(
        frames=[tiles(drawn, classes, step) for step in moments],
        labels=[f"after {step}" for step in moments],
        start=moments.index(begin),
        width=480,
        name="gradient steps",
        alt="A picture of each class while every learned start is fitted to it",
        caption=f"Columns, fitted to one picture of: {', '.join(classes)}. Rows, learned from: the "
        "same. Move the slider: off the diagonal most pictures arrive late or not at all.",
    )


def curves(longer: Mapping[tuple[str, str], np.ndarray], classes: Sequence[str], mark: int):
    """PSNR against steps, a panel for each class; its own init is thick.

    Args:
        longer: (pictures, steps + 1) in dB.
        classes: of the panels.
        mark: a step to mark.
    """
    inits = list(dict.fromkeys(source for source, _ in longer))
    end = next(iter(longer.values())).shape[1] - 1
    titles = [f"on {target}" for target in classes]
    look = dict(height=2.9, xticks=[0, end // 2, end])
    fig, axes = figures.panels(titles, xlabel="gradient steps", ylabel="PSNR (dB)", **look)
    for ax, target in zip(axes, classes):
        for source, style in styles(inits).items():
            mean, width = longer[source, target].mean(axis=0), 2.8 if source == target else 1.6
            ax.plot(mean, label=source, lw=width, **style)
        ax.axvline(mark, ls=":", lw=1, color=GRAY)
    figures.legend_under(fig, columns=len(inits))
    fig.set_label(
        "PSNR against gradient steps on each class, one line per start; the own start is drawn "
        "thick."
    )
    return fig


def spectra(power: Mapping[str, np.ndarray], speeds: Mapping[str, WaveSpeeds]) -> Figure:
    """Power of classes, speed of waves and what two steps leave of them, against frequency.

    Args:
        power: class -> power per ring, as from `wave_speeds.ring_power`.
        speeds: init -> as from `wave_speeds.wave_speeds`.
    """
    titles = ["power in pictures", "$s(k)$ of the starts", "$\\ell(k)$: left after 2 steps"]
    look = dict(xlabel="k (cycles per picture)", ylabel="", height=3.3, yscale="log")
    fig, (of_classes, of_inits, left) = figures.panels(titles, **look)
    for init, style in styles(list(speeds)).items():
        cycles, speed, energy = speeds[init]
        of_inits.plot(cycles, speed, label=init, **style)
        left.plot(cycles, energy, **style)
        if init in power:
            of_classes.plot(cycles[1:], power[init][cycles[1:]], **style)
    for ax in (of_inits, left):
        ax.axhline(1, ls=":", lw=1, color=GRAY)
    for ax in (of_classes, of_inits, left):
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xticks([0, 1, 10], ["0", "1", "10"])
        ax.set_xlim(left=-0.2)
    figures.legend_under(fig, columns=len(speeds))
    fig.set_label(
        "Left: power of the classes against frequency; distance fields fall fastest, text stays "
        "high. Middle: speed of the starts, near one up to a frequency that is lowest for "
        "distance fields and highest for text. Right: what is left of a wave; thousandths of "
        "coarse waves for most starts, but much of all waves for the start from text, and nearly "
        "all of the constant."
    )
    return fig


def prediction(
    captured: Mapping[tuple[str, str], float],
    predicted: Mapping[tuple[str, str], float],
    real: Mapping[tuple[str, str], float],
    steps: int,
) -> Figure:
    """The energy that kernels capture, and real against predicted PSNR after steps; all in dB."""
    inits, classes = (list(dict.fromkeys(names)) for names in zip(*real))
    fig, (table, cells) = plt.subplots(1, 2, figsize=(7.6, 4.4))
    values = [[captured[source, target] for target in classes] for source in inits]
    title = "energy captured (dB)"
    figures.heat_map(values, inits, classes, label="", ax=table, title=title)
    marks, colours = dict(zip(inits, cycle("xosD^v"))), styles(inits)
    for (source, target), value in real.items():
        look = dict(color=colours[target]["color"], ms=7, mew=1.8)
        cells.plot(predicted[source, target], value, marks[source], **look)
    middle = np.mean(list(real.values()))
    cells.axline((middle, middle), slope=1, ls=":", lw=1, color=GRAY)
    for init, mark in marks.items():
        cells.plot([], [], mark, color=GRAY, label=f"start: {init}")
    for target in classes:
        cells.plot([], [], "s", color=colours[target]["color"], label=f"on {target}")
    cells.set(xlabel="predicted (dB)", ylabel=f"real, after {steps} steps (dB)")
    figures.legend_under(fig, columns=5)
    fig.set_label(
        "Left: the energy of a class that the kernel of a start captures, least for the start "
        "learned from text. Right: real against predicted PSNR of every cell; most points lie on "
        "the diagonal, the row of text above it."
    )
    return fig


def by_count(
    values: Mapping[str, Mapping[int, Interval]], level: float, label: str, steps: int
) -> Figure:
    """PSNR after some steps against the number of training pictures.

    Args:
        values: what the pictures are -> number of training pictures -> PSNR in dB.
        level: of a line to compare with, in dB.
        label: of the line.
        steps: after which PSNR was measured.
    """
    fig, ax = plt.subplots(figsize=(7.6, 3.0))
    for name, by_number in values.items():
        mean, half, _ = zip(*by_number.values())
        ax.errorbar([*by_number], mean, half, capsize=3, label=name)
    counts = [*by_number]
    ax.axhline(level, ls=":", color=GRAY, label=label)
    ax.set(xscale="log", xlabel="training pictures", ylabel=f"PSNR after {steps} steps (dB)")
    ax.set_xticks(counts, map(str, counts))
    ax.minorticks_off()
    ax.legend()
    fig.set_label(
        "PSNR after two steps against the number of training pictures, on these and on test "
        "pictures."
    )
    return fig


ACCOUNT = ("start (dB)", "error at k = 0", "above k = 8", "captured (dB)", "sum (dB)", "real (dB)")


def account_rows(
    accounts: Mapping[tuple[str, str], Account], real: Mapping[tuple[str, str], float]
) -> list[list[str]]:
    """Rows of a table: the pair, and the columns of ACCOUNT."""
    rows = []
    for pair, a in accounts.items():
        parts = [f"{a.itself:.1f}", f"{100 * a.constant:.2g} %", f"{100 * a.fine:.2g} %"]
        ends = [f"{value:.1f}" for value in (a.captured, a.predicted, real[pair])]
        rows.append([" on ".join(pair), *parts, *ends])
    return rows
