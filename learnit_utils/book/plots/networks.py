"""Networks fitted to one picture: how they start, what a sweep finds, their derivatives."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures


def spreads(
    predicted: Mapping[str, np.ndarray],
    measured: Mapping[str, np.ndarray],
    shown: str,
    values: np.ndarray,
) -> Figure:
    """Spread of pre-activations by layer, lines predicted and dots measured; one distribution.

    Args:
        predicted, measured: name -> spread of every sine layer (layers,), in radians.
        shown: the name of the one whose last layer is drawn beside its normal density.
        values: pre-activations of that layer, any shape.
    """
    fig, (ax, density) = plt.subplots(1, 2, figsize=(7.6, 3.6), width_ratios=(3, 2))
    for i, (name, line) in enumerate(predicted.items()):
        layers, colour = np.arange(1, len(line) + 1), f"C{i % 6}"
        ax.plot(layers, line, color=colour, label=name)
        ax.plot(layers, measured[name], "os^DvPX"[i % 7], color=colour)
    ax.set(xlabel="sine layer", ylabel="spread of pre-activations (rad)", yscale="log")
    figures.legend_under(fig, columns=5)
    layers, std = len(predicted[shown]), predicted[shown][-1]
    density.hist(np.ravel(values), 80, density=True, color="C4", alpha=0.6)
    t = np.linspace(-4, 4, 200)
    normal = np.exp(-0.5 * (t / std) ** 2) / (std * (2 * np.pi) ** 0.5)
    density.plot(t, normal, color="C1")
    label = f"pre-activation, layer {layers} (rad)"
    density.set(xlabel=label, ylabel="density", xlim=(-4, 4))
    return fig


def sweeps(
    psnr: Mapping[str, Mapping[tuple[float, float], float]], knobs: Mapping[str, str]
) -> Figure:
    """PSNR against the knob of every family, a line per step size.

    Args:
        psnr: family -> {(knob, step size): PSNR in dB}.
        knobs: the families that are drawn -> what their knob is called, with its unit.
    """
    fig, axes = figures.panels(
        list(knobs),
        xlabel=list(knobs.values()),
        ylabel="PSNR (dB)",
        height=2.9,
        sharey=True,
        ylim=(5, 75),
    )
    for ax, values in zip(axes, map(psnr.get, knobs)):
        for lr in dict.fromkeys(rate for _, rate in values):
            line = {knob: value for (knob, rate), value in values.items() if rate == lr}
            ax.plot(list(line), list(line.values()), marker="o", label=f"step size {lr:g}")
        ax.legend(fontsize=8, loc="upper left")
    return fig


def residuals(
    along: Mapping[str, np.ndarray], spectra: Mapping[str, np.ndarray], rings: int
) -> Figure:
    """PSNR of every step, and the spectra of what is left after the last.

    Args:
        along: name -> PSNR in dB after 0, 1, 2, ... steps.
        spectra: name -> power in rings 0, 1, 2, ... (cycles per picture), of the residuals in
            colour, of anything else thin in ink.
        rings: draw rings 1 to rings - 1.
    """
    fig, (ax, spectrum) = figures.panels(
        ["", ""],
        xlabel=["Adam step", "frequency (cycles/picture)"],
        ylabel=["PSNR (dB)", "power of the residual"],
        height=3.6,
    )
    for name, values in along.items():
        ax.plot(values, label=name)
    for name, power in spectra.items():
        look = {} if name in along else dict(color=figures.INK, lw=1, ls="-", label=name)
        spectrum.plot(np.arange(1, rings), power[1:rings], **look)
    spectrum.set_yscale("log")
    figures.legend_under(fig, columns=5)
    return fig


def derivatives(
    maps: Mapping[str, Sequence[np.ndarray]],
    correlations: Mapping[str, Sequence[float]],
    top: float,
    bowl: float,
) -> Figure:
    """Lengths of gradients over Laplacians, a column each.

    Args:
        maps: name -> (length of the gradient, Laplacian), (height, width) each.
        correlations: name -> of both with what they are compared with, where there is such.
        top: the length drawn brightest.
        bowl: the Laplacian drawn darkest, of either sign.
    """
    fig, axes = plt.subplots(2, len(maps), figsize=(7.6, 5.2), squeeze=False)
    for column, (name, (slope, laplacian)) in zip(axes.T, maps.items()):
        r = " / ".join(f"{value:.2f}" for value in correlations.get(name, ()))
        figures.picture(column[0], slope, name + (f", r = {r}" if r else ""), vmax=top)
        figures.picture(column[1], laplacian, vmin=-bowl, vmax=bowl, cmap=figures.DIVERGING)
    return fig
