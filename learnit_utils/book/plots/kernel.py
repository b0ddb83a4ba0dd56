"""Eigenvectors, spectra and their energies as figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures
from learnit_utils.experiments.dictionary import Missing, Stage
from learnit_utils.ntk import Eigenpairs


def atoms(vectors: np.ndarray, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Eigenvectors (n, count) as gray pictures around 0.5, channels averaged."""
    pictures = vectors.T.reshape(-1, *shape).mean(axis=-1)
    return [0.5 + 0.5 * v / np.abs(v).max() for v in pictures]


def mosaic(vectors: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The first twelve eigenvectors as one picture, row by row."""
    tiles = [np.pad(u, 2, constant_values=1.0) for u in atoms(vectors[:, :12], shape)]
    return np.vstack([np.hstack(tiles[i : i + 4]) for i in (0, 4, 8)])


def energy(pairs: Mapping[str, Eigenpairs], held: Mapping[str, np.ndarray]) -> Figure:
    """Mean energy held against the eigenvalue and against the number of eigenvectors.

    Args:
        pairs: name -> all eigenpairs.
        held: name -> (signals, n), as from `ntk.energy`.
    """
    xlabel = ["eigenvalue / largest", "number of eigenvectors"]
    look = dict(ylabel="energy of test faces held", sharey=True, height=3.3, xscale="log")
    fig, (by_value, by_number) = figures.panels(["", ""], xlabel=xlabel, **look)
    for name, p in pairs.items():
        mean, positive = held[name].mean(axis=0), p.values > 1e-7 * p.values[0]
        by_value.plot(p.values[positive] / p.values[0], mean[positive], "-", label=name)
        by_number.plot(np.arange(1, len(mean) + 1), mean, "-", label=name)
    by_value.axvline(0.1, ls=":", lw=1, color="0.5")
    by_value.invert_xaxis()
    by_value.legend()
    return fig


def speeds(missing: Mapping[str, Missing]) -> Figure:
    """Where the energy of what is missing lies on the axis of s, and s by number."""
    xlabel = ["$s_i = 2\\alpha\\lambda_i/N$", "number of the eigenvector"]
    ylabel = ["part of what is missing", "$s_i$"]
    fig, (left, right) = figures.panels(["", ""], xlabel=xlabel, ylabel=ylabel, height=3.2)
    edges = np.geomspace(1e-5, 3, 45)
    for name, m in missing.items():
        s = np.clip(m.speeds, edges[0], edges[-1])  # in its first and last bar what lies beyond
        look = dict(label=name, histtype="stepfilled", alpha=0.5)
        left.hist(s, edges, weights=m.share, **look)
        right.plot(np.arange(1, len(s) + 1), s, "-", label=name)
    left.axvline(1, ls=":", lw=1, color="0.5")
    right.axhline(1, ls=":", lw=1, color="0.5")
    left.set(xscale="log")
    right.set(yscale="log", ylim=(1e-5, 4))
    left.legend(loc="upper left")
    right.legend()
    return fig


STAGES = {  # label of y: attribute of a Stage -> its name
    "kernel distance": dict(from_first="from the first", from_last="from the last"),
    "ratio": dict(trace="trace / first trace", flat="trace / λ₁"),
    "s": dict(largest="largest", mean="mean, missing faces"),
    "PSNR, two steps (dB)": dict(real="real", predicted="predicted"),
}


def stages(found: Mapping[int, Stage]) -> Figure:
    """How the kernel moves over the outer steps, in four panels."""
    fig, axes = plt.subplots(2, 2, figsize=(7.6, 4.8), sharex=True)
    for ax, (ylabel, names) in zip(axes.flat, STAGES.items()):
        lines = {
            name: (list(found), [getattr(stage, key) for stage in found.values()])
            for key, name in names.items()
        }
        figures.curves(lines, ax=ax, xlabel="", ylabel=ylabel, marker="os")
        ax.set_xscale("symlog", linthresh=10)
    axes[0, 1].set_yscale("log")
    plt.setp(axes[1], xlabel="outer step")
    return fig


def real_and_predicted(
    by_step: Mapping[str, tuple[np.ndarray, np.ndarray]],
    by_lr: Mapping[str, tuple[np.ndarray, np.ndarray]],
    lrs: Sequence[float],
    limit: float,
) -> Figure:
    """PSNR against steps and, after two steps, against the step size.

    Args:
        by_step: name -> real and predicted PSNR (steps + 1,).
        by_lr: name -> the same, (len(lrs),).
        lrs: step sizes.
        limit: a step size to mark.
    """
    xlabel, ylabel = ["gradient steps", "step size α"], ["PSNR (dB)", "PSNR after two steps (dB)"]
    fig, (left, right) = figures.panels(["", ""], xlabel=xlabel, ylabel=ylabel)
    for i, (name, (real, predicted)) in enumerate(by_step.items()):
        left.plot(real, "-", color=f"C{i}", label=f"{name}, real")
        left.plot(predicted, "--", color=f"C{i}", label=f"{name}, predicted")
        for values, style in zip(by_lr[name], ("o-", "s--")):
            right.plot(lrs, values, style, color=f"C{i}", ms=4)
    right.axvline(limit, ls=":", lw=1, color="0.5")
    right.set(xscale="log", ylim=(5, None))
    left.legend(fontsize=7)
    return fig


def spectra(found: Mapping[int, Mapping[str, Mapping[str, Any]]], leading: int) -> Figure:
    """Leading eigenvalues over N on grids of several sizes: side -> name -> {"values": ...}."""
    names = list(next(iter(found.values())))
    look = dict(xlabel="number of the eigenvalue", ylabel="eigenvalue / N", height=3.0)
    fig, axes = figures.panels(names, **look)
    for ax, name in zip(axes, names):
        for i, (side, both) in enumerate(found.items()):
            values = both[name]["values"][:leading]
            line = dict(marker="os^Dv<>"[i % 7], ms=4, label=f"{side} × {side}")
            ax.plot(np.arange(1, len(values) + 1), values, "-", **line)
        ax.set(ylim=(0, None))
        ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    axes[0].legend(fontsize=8)
    return fig
