"""Spectral bias as figures: tones, rings, pulls, aliases, the rule for the knobs."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils import metrics
from learnit_utils.book import figures

UNDER = dict(title="tone (cycles per interval)")


def shades(count: int) -> np.ndarray:
    """One colour per tone, from low to high."""
    return plt.cm.viridis(np.linspace(0, 0.85, count))


def tones_left(left: Mapping[str, tuple[np.ndarray, np.ndarray]], tones: Sequence[int]) -> Figure:
    """What is left of each tone against the step: network -> measured, predicted (steps, tones)."""
    look = dict(ylabel="part of the tone that is left", height=3.2, sharey=True, ylim=(1e-3, 3))
    fig, axes = figures.panels(list(left), xlabel="step", xscale="log", yscale="log", **look)
    for ax, both in zip(axes, left.values()):
        measured, predicted = (part[1:].T for part in both)
        x = np.arange(1, measured.shape[1] + 1)
        figures.with_predictions(ax, x, measured, predicted, tones, shades(len(tones)))
    figures.legend_under(fig, columns=len(tones), **UNDER)
    fig.set_label(
        "What is left of each tone against the step, for three networks: low tones fall first. The "
        "dashed predictions lie on the measured lines for two networks, and behind them for SIREN."
    )
    return fig


def signal(samples: np.ndarray, y: np.ndarray) -> Figure:
    """A signal and the heights of its waves."""
    fig, (ax, bars) = plt.subplots(1, 2, figsize=(7.6, 2.8), width_ratios=(3, 2))
    ax.plot(samples, y, lw=1)
    ax.set(xlabel="position (intervals)", ylabel="value")
    height = 2 * np.abs(np.fft.rfft(y - y.mean())) / len(y)
    bars.stem(height, markerfmt=".", basefmt=" ")
    bars.set(xlabel="frequency (cycles per interval)", ylabel="height of the wave")
    bars.set_xlim(0, 64)
    fig.set_label("The signal, a busy curve, and its spectrum: a few lines of equal height.")
    return fig


def half_times(
    measured: np.ndarray, networks: Sequence[str], tones: Sequence[int], steps: int
) -> Figure:
    """Median over starts of (networks, starts, tones) half times; triangles for never."""
    usual = np.median(np.nan_to_num(measured, nan=np.inf), axis=1)  # (networks, tones)
    never = np.where(np.isinf(usual), 1.6 * steps, np.nan)
    fig, ax = plt.subplots(figsize=(7.6, 3.4))
    for j, (k, colour) in enumerate(zip(tones, shades(len(tones)))):
        place = np.arange(len(networks)) + 0.12 * (j - (len(tones) - 1) / 2)
        ax.plot(place, usual[:, j], "o", color=colour, label=f"{k}")
        ax.plot(place, never[:, j], "^", color=colour, mfc="none")
    ax.axhline(steps, ls=":", lw=1, color="0.5")
    ax.set(yscale="log", ylabel="steps until half is gone", ylim=(0.7, 3 * steps))
    ax.set_xticks(range(len(networks)), [n.replace(", ", "\n") for n in networks], fontsize=8)
    figures.legend_under(fig, columns=len(tones), **UNDER)
    fig.set_label(
        "Steps until half of each tone is gone for several networks; higher tones take longer, and "
        "a larger σ or ω₀ brings them within reach."
    )
    return fig


def pulls(pull: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> Figure:
    """The pull on waves of 1, 2, ... cycles, and the eigenvalues, network by network."""
    ylabel = ["pull / largest eigenvalue", "eigenvalue / largest"]
    xlabel = ["frequency (cycles per interval)", "number of the eigenvalue"]
    look = dict(xscale="log", yscale="log", ylim=(1e-7, 1.5))
    fig, (ax, spec) = figures.panels(["", ""], xlabel=xlabel, ylabel=ylabel, **look)
    counts = {f: sum(n.startswith(f) for n in pull) for f in ("Fourier", "SIREN")}
    shade = ["C5", *plt.cm.autumn(np.linspace(0, 0.7, counts["Fourier"]))]
    shade += [*plt.cm.winter(np.linspace(0, 0.9, counts["SIREN"]))]
    dashes = dict(ReLU=":", Fourier="--", SIREN="-")
    for name, colour in zip(pull, shade):
        line = dict(ls=dashes[name.split(",")[0]], color=colour)
        ax.plot(np.arange(1, len(pull[name]) + 1), pull[name], label=name, **line)
        shown = values[name][:100] / values[name][0]
        spec.plot(np.arange(1, len(shown) + 1), shown, **line)
    figures.legend_under(fig, columns=4, handlelength=3)
    fig.set_label(
        "The kernel's pull on waves of each frequency, and its eigenvalues, for several networks; "
        "σ and ω₀ move the fall to higher frequencies."
    )
    return fig


def forecast(
    predicted: np.ndarray, measured: np.ndarray, parts: Mapping[str, np.ndarray], steps: int
) -> Figure:
    """Measured against predicted half times; parts: family -> mask of its cases."""
    fig, ax = plt.subplots(figsize=(5.2, 4.2))
    for (name, part), mark in zip(parts.items(), "so^"):
        ax.plot(predicted[part], measured[part], mark, alpha=0.6, label=name)
    ax.plot([1, steps], [1, steps], "-", lw=1, color="0.5")
    ax.set(xlabel="predicted steps to half", ylabel="measured steps to half")
    ax.set(xscale="log", yscale="log")
    ax.legend(fontsize=8)
    fig.set_label(
        "Measured against predicted steps until half a tone is gone; most dots on the diagonal, "
        "SIREN's slow tones below it."
    )
    return fig


def fits_and_rings(
    picture: np.ndarray, left: Mapping[str, np.ndarray], power: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Fits above the spectra of what is left, as one picture for a slider.

    Args:
        picture: (size, size).
        left: network -> residual (size, size).
        power: network -> power of the residual by ring.
    """
    ring = np.arange(1, len(picture) // 2)
    whole = metrics.radial_spectrum(picture)[1][ring]
    fig, axes = plt.subplots(2, 3, figsize=(7.6, 4.6), dpi=100, height_ratios=(3, 2))
    fig.patch.set_facecolor("white")
    for (top, low), (name, r) in zip(axes.T, left.items()):
        figures.picture(top, r + picture, name)
        low.loglog(ring, whole, lw=1, label="picture")
        low.loglog(ring, power[name][ring], label="left")
        low.set(ylim=(whole.min() / 300, whole.max() * 3))
        low.set_xlabel("cycles per picture", fontsize=8)
    axes[1, 0].set_ylabel("power (value²)", fontsize=8)
    axes[1, 0].legend(fontsize=7)
    fig.canvas.draw()
    image = np.asarray(fig.canvas.buffer_rgba())[..., :3] / 255
    plt.close(fig)
    return image


def rings_left(
    power: Mapping[str, tuple[np.ndarray, np.ndarray]], rings: np.ndarray, at: Sequence[int]
) -> Figure:
    """Power left by ring at some steps: network -> measured, predicted (len(at), rings)."""
    axis = dict(xlabel="frequency (cycles per picture)", ylabel="power left (value²)")
    fig, axes = figures.panels(list(power), **axis, yscale="log", sharey=True)
    for ax, (real, predicted) in zip(axes, power.values()):
        figures.with_predictions(ax, rings, real, predicted, [f"step {t}" for t in at])
    axes[0].legend(fontsize=8)
    fig.set_label(
        "Power left in each ring after several numbers of steps, measured and predicted, for two "
        "networks; the prediction is close for one and late for the other."
    )
    return fig


def supports(picture: np.ndarray, fits: Mapping[str, np.ndarray]) -> Figure:
    """A picture and fits of it, above their spectra near zero frequency."""
    fig, axes = plt.subplots(2, 1 + len(fits), figsize=(7.6, 4.1))
    near = dict(vmin=-5, vmax=-1, cmap="viridis", extent=(-12.5, 12.5, 12.5, -12.5))
    middle = len(picture) // 2
    c = slice(max(0, middle - 12), middle + 13)
    for (top, low), (name, u) in zip(axes.T, {"photograph": picture, **fits}.items()):
        psnr = "" if u is picture else f"\n{metrics.psnr(u, picture):.1f} dB"
        figures.picture(top, u, name + psnr)
        spectrum = np.fft.fftshift(np.abs(np.fft.fft2(u - u.mean()))) / u.size
        low.imshow(np.log10(spectrum[c, c] + 1e-6), **near)
        low.set_xlabel("cycles per picture", fontsize=8)
    fig.set_label(
        "The photograph and three fits, with their spectra: f₀ = 1 gives four overlapping copies, "
        "whose spectrum has gaps at odd frequencies."
    )
    return fig


def aliases(
    wave: np.ndarray,
    trained: Mapping[float, np.ndarray],
    heights: Mapping[float, Mapping[str, np.ndarray]],
    alias: int,
) -> Figure:
    """One start's output between the samples, and mean heights of waves, for every first omega0.

    Args:
        wave: (n,) the tone; every other sample was seen.
        trained: omega0 -> output (n,).
        heights: omega0 -> {"trained", "from the kernel"} -> (n/2 + 1,).
        alias: cycles of the alias.
    """
    fig, axes = plt.subplots(2, len(trained), figsize=(7.6, 4.6), squeeze=False)
    part, samples = np.s_[100:131], np.arange(len(wave)) / len(wave)
    for (top, low), (w, output) in zip(axes.T, trained.items()):
        top.plot(samples[part], wave[part], "-", lw=1, color="0.5", label="tone")
        top.plot(samples[part], output[part], "-", color="C0", label="trained")
        top.plot(samples[part][::2], wave[part][::2], "o", ms=4, color="C3", label="seen")
        top.set(title=f"first ω₀ = {w:g}", ylim=(-1.4, 2.4), xlabel="position (intervals)")
        top.locator_params(axis="x", nbins=4)
        low.plot(heights[w]["from the kernel"], "--", color="C1", label="from the kernel")
        low.plot(heights[w]["trained"], "-", lw=1, color="C0", label="trained")
        low.axvline(alias, ls=":", lw=1, color="0.5")
        low.set(ylim=(0, 1.1), xlabel="cycles per interval")
    for ax, label in zip(axes[:, 0], ("value", "height of the wave")):
        ax.set_ylabel(label)
        ax.legend(fontsize=7)
    fig.set_label(
        "Outputs between the samples and their spectra for small and large first ω₀: the large "
        "ones oscillate between samples, with a second peak at the alias."
    )
    return fig


def rule(
    curves: Mapping[str, tuple[Sequence[float], np.ndarray]], tones: Sequence[int], limit: int
) -> Figure:
    """Error on unseen samples against reach: family -> reaches (knobs,), errors (tones, knobs)."""
    axis = dict(xlabel="reach (cycles per interval)", ylabel="error on unseen samples / energy")
    look = dict(xscale="log", yscale="log", ylim=(3e-8, 3), height=3.5, sharey=True)
    fig, axes = figures.panels(list(curves), **axis, **look)
    for ax, (reaches, errors) in zip(axes, curves.values()):
        for f, missed, shade in zip(tones, errors, shades(len(tones))):
            ax.plot(reaches, missed, "o-", ms=4, color=shade, label=f"{f}")
            ax.axvline(f, ls=":", lw=1, color=shade)
        ax.axvline(limit, ls="--", lw=1, color="0.5")
    figures.legend_under(fig, columns=len(tones), **UNDER)
    fig.set_label(
        "Error on the unseen samples against the reach of the kernel for several tones: it rises "
        "slowly where the reach ends below the tone and fast beyond half the samples seen."
    )
    return fig
