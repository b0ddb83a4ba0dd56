"""Meta-training and its directions as figures."""

import inspect
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils import baselines, evaluate, fields, inner, outer, tasks, train
from learnit_utils.book import diagrams, figures
from learnit_utils.evaluate import Interval
from learnit_utils.experiments import protocol, recipe
from learnit_utils.experiments.first_steps import FirstStep, WayBack
from learnit_utils.experiments.memory import Peak
from learnit_utils.experiments.store import Trained
from learnit_utils.fields import Field, Theta
from learnit_utils.inner import Init
from learnit_utils.tasks import Tasks


def by_step(psnr: Mapping[str, np.ndarray], least: float | None = None) -> Figure:
    """Mean PSNR (tasks, K + 1) of every init against the step, from `least` dB up."""
    steps = np.arange(next(iter(psnr.values())).shape[1])
    series = {name: (steps, p.mean(axis=0)) for name, p in psnr.items()}
    look = dict(xlabel="gradient steps", ylabel="PSNR (dB)", marker="o", legend_outside=True)
    fig = figures.curves(series, **look)
    fig.axes[0].set(xticks=steps, ylim=(least, None))
    fig.set_label("Mean PSNR before and after each step, from random and from learned inits.")
    return fig


def parabolas(
    curvature: np.ndarray,
    targets: np.ndarray,
    alpha: float,
    closed: Mapping[str, Callable],
    computed: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """The outer loss of parabolas for several K, and the directions of the methods for K = 2.

    Args:
        curvature, targets: of the tasks, L = c (theta - T)^2 / 2.
        alpha: inner step size.
        closed: method -> starts (n,) -> direction, the closed form.
        computed: method -> starts and computed directions.
    """
    theta = np.linspace(-1.6, 1.6, 200)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.3))
    for k, style in zip((0, 1, 2, 5), ("-", "--", "-.", ":")):
        distance = (1 - alpha * curvature) ** k * (theta[:, None] - targets)
        value = (0.5 * curvature * distance**2).mean(axis=1)
        (drawn,) = left.plot(theta, value, style, label=f"K = {k}")
        left.plot(theta[value.argmin()], value.min(), "o", color=drawn.get_color())
    ylabel = r"mean over tasks of $L_T(\theta_K)$"
    left.set(xlabel=r"start $\theta_0$", ylabel=ylabel, ylim=(0, 3))
    left.legend(fontsize=8)
    for (method, form), marker in zip(closed.items(), "osD"):
        (drawn,) = right.plot(theta, form(theta))
        look = dict(color=drawn.get_color(), label=method, ms=4)
        right.plot(*computed[method], marker, **look)
    right.axhline(0, lw=0.8, color=figures.INK)
    right.set(xlabel=r"start $\theta_0$", ylabel="direction, K = 2")
    right.legend(fontsize=8)
    fig.set_label(
        "Left: the outer loss for K = 0, 1, 2, 5; its minimum moves from near the steep task's "
        "target to the flat one's. Right: three straight lines, the directions of the methods."
    )
    return fig


AGREEMENT = dict(
    cosine_fomaml="cosine of FOMAML with MAML",
    cosine_reptile="cosine of Reptile with MAML",
    missing="length of MAML − FOMAML, relative to MAML",
)


def agreement(history: Mapping[str, Sequence[float]]) -> Figure:
    """How the directions of a MAML run agreed over its outer steps (`evaluate.agreement`)."""
    series = {label: (history["step"], history[name]) for name, label in AGREEMENT.items()}
    axis = dict(xlabel="outer steps of the MAML run", ylabel="cosine, or ratio (no unit)")
    fig = figures.curves(series, **axis, marker="o", legend_outside=True)
    fig.set_label(
        "Over MAML training: cosines of FOMAML's and Reptile's directions with MAML's, and the "
        "norm of what FOMAML leaves out."
    )
    return fig


def progress(trained: Mapping[str, Trained], steps: int) -> Figure:
    """Validation PSNR of the runs by outer steps and by the clock."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4), sharey=True)
    for name, w in trained.items():
        h = w.history
        left.plot(h["step"], h["psnr"], label=name)
        right.plot(np.array(h["seconds"]) / 60, h["psnr"])
    left.set(xlabel="outer steps", ylabel=f"validation PSNR after {steps} steps (dB)")
    right.set(xlabel="training time (min)")
    fig.legend(loc="outside lower center", ncols=5, fontsize=8)
    fig.set_label("Validation PSNR after the inner steps against outer steps and training time.")
    return fig


def step_sizes(init: Init, steps: int, began: float) -> Figure:
    """The learned step sizes of every layer's weights, one panel per inner step."""
    fig, axes = plt.subplots(1, steps, figsize=(7.6, 3.0), sharey=True, squeeze=False)
    for k, ax in enumerate(axes[0]):
        parts = [np.asarray(layer.w[min(k, len(layer.w) - 1)]) for layer in init.step_sizes]
        ax.boxplot([a.ravel() for a in parts], whis=(1, 99), showfliers=False)
        ax.axhline(began, ls="--", lw=0.8, color=figures.INK)
        ax.set(xlabel=f"layer, step {k + 1}")
    axes[0, 0].set(ylabel="learned step size of its weights")
    fig.set_label("Box plots of the learned step sizes of every layer's weights, per inner step.")
    return fig


def long_fits(fits: Mapping[float, np.ndarray], learned: np.ndarray) -> Figure:
    """PSNR against the step: long fits by step size of Adam, and the learned init's few steps."""
    series = {f"standard, Adam {lr:g}": (np.arange(len(p)), p) for lr, p in fits.items()}
    series[f"learned, SGD, {len(learned) - 1} steps"] = np.arange(len(learned)), learned
    fig = figures.curves(series, xlabel="gradient steps", ylabel="PSNR (dB)")
    fig.axes[0].axhline(learned[-1], ls=":", lw=1, color=figures.INK)
    fig.set_label(
        "PSNR of one face against steps: the standard init with several step sizes of Adam climbs "
        "for dozens of steps to where the learned init is after two."
    )
    return fig


def memory(peaks: Mapping[str, Mapping[int, Peak]]) -> Figure:
    """Peak memory against inner steps: way -> {K: Peak}."""
    fig, ax = plt.subplots(figsize=(7.6, 3.2))
    for (label, by_steps), style in zip(peaks.items(), ("o-", "s--")):
        told, held = np.array(list(by_steps.values())).T / 2**20
        steps = list(by_steps)
        (drawn,) = ax.plot(steps, told, style, label=f"{label}: compiled")
        ring = dict(ls="", marker="o", ms=11, mfc="none", color=drawn.get_color())
        ax.plot(steps, held, **ring, label=f"{label}: measured")
    ax.set(xlabel="inner steps K", ylabel="peak memory (MiB)", yscale="log", xscale="log")
    ax.set_xticks(steps, [str(k) for k in steps])
    ax.xaxis.set_minor_locator(plt.NullLocator())
    ax.legend(fontsize=8)
    fig.set_label(
        "Peak memory of a MAML gradient against inner steps: it grows in proportion if activations "
        "are kept and stays flat if they are recomputed."
    )
    return fig


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures (size, size, channels) beside each other as one RGB picture with white gaps."""
    size, _, channels = pictures[0].shape
    gap = np.ones((size, max(1, size // 16), channels), np.float32)
    strip = [part for u in pictures for part in (gap, np.asarray(u))][1:]
    row = np.hstack(strip)
    return np.clip(np.broadcast_to(row, (*row.shape[:2], 3)), 0, 1)


# --- diagrams and tables ------------------------------------------------------------------------
PATHS = {
    "maml": "MAML: the gradient of the loss after two steps returns through both steps.",
    "fomaml": "FOMAML: that gradient is applied to the start as it is.",
    "reptile": "Reptile: the start moves towards the adapted weights; nothing is differentiated.",
}


def show_gradient_paths() -> None:
    """Which adapted weights the outer gradient of each method passes."""
    for method, says in PATHS.items():
        figures.show(diagrams.gradient_path(method), says, says)


def show_outer_step() -> None:
    """Who calls whom, once per outer step."""
    alt = "Sequence diagram of an outer step: train.run draws tasks, outer.maml adapts to each "
    alt += "with inner.sgd, differentiates back, and the outer optimizer moves the init."
    figures.show(diagrams.outer_step(), alt, "Inner and outer loop.")


def show_data_flow(source: tuple[int, int], tasks: Tasks, field: Field, theta: Theta) -> None:
    """From a picture of (height, width) to a loss, and the layers of the field."""
    size = round(len(tasks.shared) ** 0.5)
    alt = "Data flow: picture, square crop, resampled image, coordinates and pixels, field, loss."
    caption = "From a face to a loss: signals.faces, pixels.image_tasks, fields.siren, "
    figures.show(diagrams.data_flow(source, size, tasks), alt, caption + "tasks.regression.")
    alt = "The SIREN: five affine layers with a sine between each two."
    caption = "The field: weights (in, out) of its layers, with sin(ω₀ ·) between them."
    figures.show(diagrams.network(field, theta), alt, caption)


def show_run_states() -> None:
    """The states of a training run."""
    alt = "States of a training run: planned, running, validated, saved, finished; killed and "
    alt += "resumed; stopped at a loss that is not finite."
    caption = "A training run (train.run). On a CPU a resumed run ends, bit for bit, where an "
    figures.show(diagrams.run_states(), alt, caption + "uninterrupted one does.")


CONCEPTS = {
    "coordinate network $f_\\theta$": fields.siren,
    "task, and its loss": tasks.regression,
    "inner loop, $K$ steps": inner.sgd,
    "learned step sizes": inner.meta_sgd,
    "MAML": outer.maml,
    "FOMAML": outer.fomaml,
    "Reptile": outer.reptile,
    "outer loop, validation, checkpoints": train.run,
    "test-time curves": evaluate.curve,
    "mean, matched, shuffled starts": baselines.mean,
    "choose on validation, report on test": protocol.Study,
    "settings of the shipped runs": recipe.Recipe,
}


def concept_rows() -> list[list[str]]:
    """Concept, its definition in the code, and where that stands."""
    rows = []
    for concept, thing in CONCEPTS.items():
        module = thing.__module__.partition(".")[2]
        line = inspect.getsourcelines(thing)[1]
        where = f"`{module.replace('.', '/')}.py`, line {line}"
        rows.append([concept, f"`{module}.{thing.__name__}`", where])
    return rows


def run_rows(trained: Mapping[str, Trained], reached: Mapping[str, Interval]) -> list[list]:
    """Init, PSNR reached, method, outer optimizer, time: a row per run."""
    rows = []
    for name, w in trained.items():
        r, minutes = w.trained_by(), w.info["wall_seconds"] / 60
        outer_by = f"{r.steps} × Adam {r.outer_lr:g}, {r.decay}" + (", clipped" if r.clip else "")
        rows.append([f"`{name}`", reached[name], r.method, outer_by, f"{minutes:.0f} min"])
    return rows


def way_back_rows(ways: Mapping[str, Sequence[WayBack]]) -> list[list[str]]:
    """Norm, cosine with v_K and factor of every vector of each chain."""
    rows = []
    for name, way in ways.items():
        factors = ["" if v.factor is None else f", {v.factor:.2f}" for v in way]
        cells = [f"{v.norm:.3g}, {v.cosine:.2f}{f}" for v, f in zip(way, factors)]
        rows.append([f"`{name}`", *cells])
    return rows


def contest_rows(
    score: Mapping[str, Mapping[str, Interval]],
    choice: Mapping[str, Mapping[str, protocol.Choice]],
    steps: Mapping[str, str],
    firsts: Mapping[str, FirstStep],
) -> list[list[str]]:
    """Init, a score per optimizer with its step size, steps to the goal, straightness, pull."""
    rows = []
    for name, first in firsts.items():
        picks = [(score[o][name], choice[o][name]) for o in score]
        cells = [f"{s} (α = {p.lr:g}{'*' * p.at_edge})" for s, p in picks]
        pull = f"{first.gradient_norm:.2g}"
        rows.append([name, *cells, steps[name], f"{first.straightness:.2f}", pull])
    return rows
