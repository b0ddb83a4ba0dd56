"""Rules of descent, recurrent networks and unrolled iterations as figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import _drawing, figures, report
from learnit_utils.experiments import flops
from learnit_utils.experiments.descent import Walk, Watched
from learnit_utils.experiments.optimizer_contest import BOTH, MAML, METASGD, RULE, Method, Table
from learnit_utils.experiments.sparse_codes import Race

LOOKS = {  # the same in all figures of the chapter
    "random, SGD": dict(color="0.5", ls="--", marker="s"),
    "random, Adam": dict(color="0.5", ls="-", marker="o"),
    MAML: dict(color="#0072B2", ls="-", marker="o"),
    METASGD: dict(color="#CC79A7", ls=":", marker="v"),
    RULE: dict(color="#D55E00", ls="-", marker="D"),
    BOTH: dict(color="#009E73", ls="-", marker="^"),
}


def race(tables: Mapping[str, Table], horizon: int) -> Figure:
    """PSNR against the number of steps, a panel per class; the methods that were learned or tuned.

    Args:
        tables: class -> table.
        horizon: the steps that the learned optimizers unrolled, marked.
    """
    look = dict(ylabel="PSNR (dB)", height=4.3, xscale="log", sharey=True)
    fig, axes = figures.panels(list(tables), xlabel="gradient steps", **look)
    for ax, table in zip(axes, tables.values()):
        for name in table.psnr:
            means = [np.nanmean(table.by_seed(name, cap)) for cap in table.caps]
            ax.plot(table.caps, means, label=name, ms=4, lw=1.6, **LOOKS[name])
        ax.axvline(horizon, ls=":", lw=1, color="0.5")
        ax.set_xticks(table.caps, [f"{cap}" for cap in table.caps])
        ax.minorticks_off()
    figures.legend_under(fig, columns=3)
    fig.set_label(
        "PSNR against the number of gradient steps on unseen faces and on photographs, "
        "for SGD and Adam from a random initialization, MAML, Meta-SGD, a learned "
        "optimizer, and a learned initialization with an optimizer learned for it."
    )
    return fig


# --- rules of descent ---------------------------------------------------------------------------
def walks(found: Mapping[str, Walk], steepness: float) -> Figure:
    """Ways through a ravine, a panel per rule, over the level lines of the loss."""
    fig, axes = plt.subplots(2, 2, figsize=(7.6, 4.6), sharex=True, sharey=True)
    reach = np.max([np.abs(walk.path).max(axis=0) for walk in found.values()], axis=0)
    x, y = np.meshgrid(*(1.1 * r * np.linspace(-1, 1, 80) for r in reach))
    level = np.log10((x**2 + steepness * y**2) / 2 + 1e-3)
    for ax, (name, walk) in zip(axes.flat, found.items()):
        ax.contour(x, y, level, levels=10, colors="0.6", linewidths=0.6, linestyles="-")
        ax.plot(*walk.path.T, "-", color="#D55E00", marker="o", ms=2.5, lw=1.2)
        ax.plot(0, 0, marker="*", color="#0072B2", ms=10)
        ax.set(title=f"{name}, α = {walk.lr:.2g}", ylim=(-1.1 * reach[1], 1.1 * reach[1]))
        ax.grid(False)
        ax.xaxis.set_major_locator(plt.MaxNLocator(4))
    plt.setp(axes[1], xlabel="x")
    plt.setp(axes[:, 0], ylabel="y")
    fig.set_label(
        "Four ways through a ravine from the same point, by plain descent, momentum, "
        "RMSProp and Adam."
    )
    return fig


def steps_by_layer(found: Mapping[int, Watched], names: Sequence[str]) -> Figure:
    """Gradients and Adam's steps of all weights, by layer: the middle 80 % and the median.

    Args:
        found: step t -> what was seen.
        names: of the arrays of theta.
    """
    ylabel = ["gradient |g|", "Adam's step"]
    fig, axes = figures.panels(["", ""], xlabel="", ylabel=ylabel, height=3.4, yscale="log")
    for i, (t, seen) in enumerate(found.items()):
        for ax, values in zip(axes, (seen.gradient, seen.step)):
            for layer in range(len(names)):
                here = np.maximum(values[seen.layer == layer], 1e-9)
                low, middle, high = np.quantile(here, (0.1, 0.5, 0.9))
                at = layer + 0.22 * (i - (len(found) - 1) / 2)
                look = dict(color=f"C{i}", label=f"t = {t}" if layer == 0 else None)
                ax.plot([at, at], [low, high], "-", lw=3, alpha=0.5, color=f"C{i}")
                ax.plot(at, middle, ls="", marker="os^D"[i % 4], ms=4, **look)
    for ax in axes:
        ax.set_xticks(range(len(names)), names)
    figures.legend_under(fig, columns=len(found))
    fig.set_label(
        "Left: sizes of the gradients of every array of weights, spread over orders of "
        "magnitude. Right: the sizes of Adam's steps, all equal at the first step."
    )
    return fig


def memories(
    ends: Mapping[str, Mapping[float, float]],
    paths: Mapping[str, np.ndarray],
) -> Figure:
    """What a memory's length does: on a SIREN, and on losses that alternate.

    Args:
        ends: name -> {β₂: PSNR in dB at the end of the fits}.
        paths: name -> x along a walk (steps + 1,).
    """
    xlabel, ylabel = ["β₂", "step"], ["PSNR (dB)", "x"]
    titles = ["a SIREN on faces", "losses that alternate"]
    fig, (left, right) = figures.panels(titles, xlabel=xlabel, ylabel=ylabel, height=3.5)
    for (name, by_memory), mark in zip(ends.items(), "os"):
        left.plot(range(len(by_memory)), list(by_memory.values()), marker=mark, label=name)
    memory = list(next(iter(ends.values())))
    left.set_xticks(range(len(memory)), [f"{b:g}" for b in memory], fontsize=8)
    left.legend(fontsize=8)
    for name, path in paths.items():
        right.plot(np.arange(len(path)), path, label=name)
    right.set(xscale="symlog", ylim=(-1.15, 1.15))
    right.set_xticks([0, 10, 100, 1000], ["0", "10", "100", "1000"])
    right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.93))
    fig.set_label(
        "Left: PSNR against beta two, with and without bias correction. Right: two "
        "walks on losses that alternate; with a short memory Adam ends at plus one, the "
        "worst point."
    )
    return fig


# --- recurrent networks -------------------------------------------------------------------------
def unrolled_network() -> Figure:
    """The recurrent network of two words, unrolled: U and W are used at every step."""
    boxes = {
        "h0": ("$h_0 = 0$", 0, 0, "plain"),
        "h1": (r"$h_1 = \tanh(U x_1 + W h_0)$", 1, 0, "weights"),
        "h2": (r"$h_2 = \tanh(U x_2 + W h_1)$", 2, 0, "weights"),
        "J": ("$o_2 = V h_2$\n" + r"$J = -\log\,\hat y_{label}$", 3, 0, "goal"),
        "x1": ("$x_1$: first word", 1, 1, "data"),
        "x2": ("$x_2$: last word", 2, 1, "data"),
    }
    arrows = [("h0", "h1", "$W$"), ("h1", "h2", "$W$"), ("h2", "J", "$V$")]
    fig = _drawing.flow(boxes, [*arrows, ("x1", "h1", "$U$"), ("x2", "h2", "$U$")])
    fig.set_label(
        "The network unrolled over two words: W leads from state to state, U from each "
        "word into its state, V from the last state to the scores."
    )
    return fig


def reading(found: Mapping[str, np.ndarray]) -> Figure:
    """Sentence -> the probability of "animal" after each of its words."""
    fig, ax = plt.subplots(figsize=(7.6, 3.4))
    for i, (sentence, p) in enumerate(found.items()):
        style = dict(color=f"C{i}", ls=["-", "--", "-.", ":"][i % 4], marker="os^D"[i % 4])
        ax.plot(np.arange(1, len(p) + 1), p, label=sentence, **style)
    ax.set(xlabel="words read", ylabel="probability of an animal", ylim=(-0.05, 1.05))
    ax.set_xticks(np.arange(1, max(map(len, found.values())) + 1))
    figures.legend_under(fig, columns=2)
    fig.set_label("The probability of an animal after each word of four sentences.")
    return fig


def distance(
    fading: Mapping[str, np.ndarray], accuracy: Mapping[str, Mapping[int, Sequence[float]]]
) -> Figure:
    """The gradient that reaches a word, and what is learned, against the distance of the word.

    Args:
        fading: name -> norm at distances 0, 1, ...
        accuracy: name -> {distance: accuracy of every seed}.
    """
    ylabel = ["gradient at the word", "accuracy (mean and seeds)"]
    xlabel = "steps from the word to the end"
    fig, (left, right) = figures.panels(["", ""], xlabel=xlabel, ylabel=ylabel, height=3.9)
    for i, (name, norms) in enumerate(fading.items()):
        look = dict(color=f"C{i}", ls=["-", "--", "-.", ":"][i % 4])
        shown = np.where(norms > 1e-20, norms, np.nan)
        left.plot(np.arange(len(norms)), shown, label=name, **look)
        if name in accuracy:
            at, seeds = list(accuracy[name]), np.array(list(accuracy[name].values()))
            right.plot(at, seeds.mean(axis=1), marker="os^D"[i % 4], **look)
            right.plot(at, seeds, ls="", marker=".", ms=4, color=f"C{i}", alpha=0.6)
    left.set(yscale="log", ylim=(1e-20, 10))
    right.axhline(0.5, ls=":", lw=1, color="0.5")
    right.set(xscale="log", ylim=(0.3, 1.05))
    ticks = sorted({d for by in accuracy.values() for d in by})
    right.set_xticks(ticks, [f"{d}" for d in ticks])
    right.minorticks_off()
    figures.legend_under(fig, columns=2)
    fig.set_label(
        "Left: the gradient at a word against its distance from the end, falling "
        "exponentially. Right: accuracy against the distance of the word that decides."
    )
    return fig


# --- learned rules ------------------------------------------------------------------------------
def answers_to_gradients(found: Mapping[str, Mapping[int, tuple]], bins: int = 14) -> Figure:
    """Median size of a weight's step against the size of its gradient, a panel per rule.

    Args:
        found: rule -> {step t: (|g| (weights,), |step| (weights,))}.
        bins: of |g|, with as many weights in each.
    """
    look = dict(xlabel="gradient |g|", ylabel="median |step|", sharey=True, height=3.6)
    fig, axes = figures.panels(list(found), xscale="log", yscale="log", **look)
    for ax, by_step in zip(axes, found.values()):
        for i, (t, (g, step)) in enumerate(by_step.items()):
            parts = np.array_split(np.argsort(g), bins)
            x, y = (np.array([np.median(v[part]) for part in parts]) for v in (g, step))
            ax.plot(x, np.maximum(y, 1e-9), marker="os^D"[i % 4], ms=3.5, label=f"t = {t}")
    figures.legend_under(fig, columns=4)
    fig.set_label(
        "Median size of a weight's step against the size of its gradient at several "
        "steps, for Adam and for the learned optimizer."
    )
    return fig


# --- unrolling ----------------------------------------------------------------------------------
def three_loops() -> Figure:
    """What is unrolled and what is learned: MAML, a learned optimizer, LISTA."""
    rows = {
        "MAML": (r"$\theta_0$" + "\nlearned", r"$-\alpha\,\nabla L$", "plain", "weights"),
        "learned\noptimizer": (r"$\theta_0$" + "\nrandom", "LSTM\nlearned", "weights", "plain"),
        "LISTA": ("$z_0 = 0$", "soft$(xR + zS)$\nlearned", "weights", "plain"),
    }
    ends = ("$L(\\theta_2)$", r"$\log L(\theta_1)$" + "\n" + r"$+ \log L(\theta_2)$")
    ends = (*ends, r"$\|z_2 - z^*\|^2$")
    boxes, arrows = {}, []
    for row, ((name, (start, step, kind, start_kind)), end) in enumerate(zip(rows.items(), ends)):
        line = [(name, "plain"), (start, start_kind), (step, kind), (step, kind), (end, "goal")]
        for column, (text, face) in enumerate(line):
            boxes[f"{row}{column}"] = (text, column, row, face)
        arrows += [(f"{row}{c}", f"{row}{c + 1}") for c in (1, 2, 3)]
    fig = _drawing.flow(boxes, arrows)
    fig.set_label(
        "Three rows of boxes: MAML from a learned start through two steps of descent to "
        "the loss; a learned optimizer from a random start through two LSTM steps to "
        "the log losses; LISTA from zero through two learned layers to the distance "
        "from the converged code."
    )
    return fig


def convergence(
    found: Race,
    middle: int,
) -> Figure:
    """Distance to the converged code against K, a panel per dictionary.

    Args:
        found: distances.
        middle: the K of the LISTA that is shown layer by layer.
    """
    look = dict(xlabel="steps or layers K", ylabel="distance to the code", sharey=True, height=4.1)
    fig, axes = figures.panels(list(found.plain), yscale="log", xscale="log", **look)
    for ax, (name, by_layers) in zip(axes, found.learned.items()):
        longest = max(by_layers) * 2
        for i, method in enumerate(("ISTA", "FISTA")):
            values = np.array(found.plain[name][method]["distance"], float)[1 : longest + 1]
            style = dict(color="0.5", ls="-" if i == 0 else "--", label=method)
            ax.plot(np.arange(1, len(values) + 1), np.maximum(values, 1e-6), **style)
        values = np.array(by_layers[middle], float)[1 : longest + 1]
        label = f"LISTA of {middle} layers, at every layer and run on"
        ax.plot(np.arange(1, len(values) + 1), values, ":", color="#D55E00", label=label)
        look = dict(color="#009E73", marker="o", label="LISTA, learned for K layers")
        ax.plot(list(by_layers), [d[K] for K, d in by_layers.items()], "-", **look)
        ticks = [k for k in (1, 2, 4, 8, 16, 32) if k <= longest]
        ax.set_xticks(ticks, [f"{k}" for k in ticks])
        ax.minorticks_off()
        ax.set_ylim(1e-5, 3)
    figures.legend_under(fig, columns=2)
    fig.set_label(
        "Distance to the converged code against the number of steps or layers, for "
        "ISTA, FISTA and LISTA, with two dictionaries."
    )
    return fig


def code_pictures(rows: Mapping[str, Sequence[Any]], side: int) -> Figure:
    """Signals (side^2,) of mean 0 as gray pictures in named rows."""
    largest = max(np.abs(u).max() for row in rows.values() for u in row)
    shown = {
        name: [0.5 + 0.5 * np.reshape(u, (side, side)) / largest for u in row]
        for name, row in rows.items()
    }
    fig = figures.image_grid(shown)
    fig.set_label("Rows of faces, and what codes of them draw.")
    return fig


# --- tables -------------------------------------------------------------------------------------
def forward_numbers(U: Any, W: Any, V: Any, x: Any, h: Sequence, o: Any, p: Any, J: float) -> Any:
    """The worked example, forwards, as a table; h are h_1 and h_2."""
    first, second = U @ x[0], U @ x[1] + W @ h[0]
    values = {"U, given": U, "W, given": W, "U x₁": first, "h₁ = tanh(U x₁)": h[0]}
    values |= {"U x₂ + W h₁": second, "h₂": h[1], "V, least norm": V, "o₂ = V h₂": o}
    return numbers(
        values | {"ŷ": p, "J": np.array([J])}, "Rows of matrices stand between semicolons."
    )


def backward_numbers(do: Any, da: Sequence, dU: Sequence, dW: Sequence, dV: Any, gap: float) -> Any:
    """The worked example, backwards: every term of every gradient, as a table."""
    values = {"∂J/∂o₂ = ŷ − y": do, "∂J/∂a₂": da[1], "∂J/∂a₁": da[0]}
    values |= {f"∂J/∂U, from step {t + 1}": term for t, term in enumerate(dU)}
    values |= {f"∂J/∂W, from step {t + 1}": term for t, term in enumerate(dW)}
    values |= {"∂J/∂V": dV, "by hand − `jax.grad`, largest": f"{gap:.0e}"}
    part = np.abs(dU[0]).max() / np.abs(dU[1]).max()
    note = f"Largest entry of ∂J/∂U from step 1: {part:.0%} of that from step 2. It came through W."
    return numbers(values, note)


def numbers(values: Mapping[str, Any], note: str = "") -> Any:
    """Vectors and matrices by name as a table; rows of a matrix are separated by semicolons."""
    rows = [[name, _text(value)] for name, value in values.items()]
    return report.table(["", "value"], rows, note)


def _text(a: Any) -> str:
    if isinstance(a, str):
        return a
    rows = [", ".join(f"{v:.4f}" for v in row) for row in np.atleast_2d(a)]
    return "(" + "; ".join(rows) + ")"


def scores(
    table: Table,
    name: str,
    scale: str,
    note: str,
    *,
    kept: Mapping[str, Any] | None = None,
    groups: Sequence | None = None,
    leads: Mapping[str, tuple[str, str]] | None = None,
) -> Any:
    """PSNR of every method by number of steps, as a table; the numbers are reported, too.

    Args:
        table: of one class.
        name: of the numbers in the report, and of the table.
        scale, kept: as for `report.record`.
        note: under the table.
        groups: whose the tasks are.
        leads: more rows: name -> (method, the one it is compared with), task by task.
    """
    rows = []
    for method in table.psnr:
        found = {cap: table.interval(method, cap, groups) for cap in table.caps}
        report.records(f"{name}/{method}", found, "dB", scale=scale, kept=kept)
        rows.append([method, *found.values()])
    for label, pair in (leads or {}).items():
        rows.append([f"*{label}*", *(table.lead(*pair, cap, groups) for cap in table.caps)])
    return report.table([f"{name}, steps", *table.caps], rows, note)


def costs(
    learned: Mapping[str, Method],
    large: Mapping[str, float],
    note: str,
    kept: Mapping[str, Any] | None = None,
) -> Any:
    """What was learned and what it took, as a table; the numbers are reported, too.

    Args:
        large: bytes of an outer step of "maml" and "learned_optimizer" at the size of chapter 3.
    """
    rows = []
    for name, method in learned.items():
        cost, setting = method.cost, method.setting
        for what, unit in (("count", ""), ("seconds", "s"), ("bytes", "B")):
            about = dict(scale="mean over seeds, one shared core", kept=kept)
            report.record(f"cost_{what}/{name}", cost[what], unit, **about)
        unrolled = getattr(setting, "inner_steps", None) or setting.steps
        cells = [f"{cost['count']:.0f}", unrolled, flops.readable(cost["bytes"])]
        rows.append([name, *cells, f"{cost['seconds']:.0f}"])
    sizes = " and ".join(
        f"{flops.readable(size)} for the {name.replace('_', ' ')}" for name, size in large.items()
    ).replace("the maml", "MAML")
    note = f"{note} At the size of chapter 3 an outer step would hold {sizes}."
    head = ["learned", "numbers", "steps unrolled", "memory of an outer step", "seconds"]
    return report.table(head, rows, note)
