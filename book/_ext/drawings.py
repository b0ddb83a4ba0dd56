"""Drawings of the book's own pages, computed when the book is built."""

import matplotlib.pyplot as plt
import numpy as np

from learnit_utils.book import _drawing, figures

# Six signals, each a quadratic loss L_i(θ) = (θ - c_i)ᵀ A (θ - c_i) / 2 in two weights.
A = np.diag([1.0, 6.0])
CENTRES = np.array([[2.2, 0.9], [3.0, 1.6], [3.9, 1.9], [4.4, 1.1], [3.6, 0.4], [2.7, 0.2]])
STEPS, RATE = 3, 0.12


def descend(theta, centre):
    """θ_0 ... θ_K of gradient descent on one signal."""
    path = [theta]
    for _ in range(STEPS):
        path.append(path[-1] - RATE * A @ (path[-1] - centre))
    return np.array(path)


def loss(theta, centre):
    """L_i(θ)."""
    return 0.5 * (theta - centre) @ A @ (theta - centre)


def learned_start():
    """The θ_0 that minimises the mean loss after K steps.

    θ_K - c_i = (I - ηA)^K (θ_0 - c_i), so the mean is least at the mean of the c_i.
    """
    return CENTRES.mean(0)


def idea() -> str:
    """The picture on the first page: the same few steps from two starts."""
    figures.use_style()
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.1), sharex=True, sharey=True)
    starts = {"a standard start": np.array([0.0, -1.2]), "a learned start": learned_start()}
    left = {}
    for ax, (name, start) in zip(axes, starts.items()):
        for i, centre in enumerate(CENTRES):
            path = descend(start, centre)
            ax.plot(*path.T, color=f"C{i}", ls="-", marker="o", ms=3.5, lw=1.5)
            ax.plot(*centre, color=f"C{i}", marker="*", ms=13, ls="none")
        ax.plot(*start, color=figures.INK, marker="s", ms=8, ls="none")
        left[name] = np.mean([loss(descend(start, c)[-1], c) for c in CENTRES])
        ax.set(title=name, xlabel="first weight")
    axes[0].set_ylabel("second weight")
    standard, learned = left.values()
    return figures.page_html(
        fig,
        "Two panels in a plane of two weights. Left, three gradient steps from a far start end far "
        "from six starred solutions; right, three steps from their middle end near them.",
        f"Square: the start. Stars: the best weights of six signals. Dots: {STEPS} gradient steps "
        "towards each. From the learned start the loss that is left is "
        f"{standard / learned:.0f} times smaller (quadratic losses; the learned start is the exact "
        f"minimiser of the mean loss after {STEPS} steps).",
    )


def rooms() -> str:
    """The rooms of the package, and the way of a task and of an init through them."""
    figures.use_style()
    boxes = {
        "data": ("signals\nDataset", 0, 0, "data"),
        "forward": ("forward\nforward model M", 1, 0, "data"),
        "tasks": ("tasks\nTasks, loss", 2, 0, "data"),
        "field": ("fields\nf(θ, x)", 2, 1, "weights"),
        "inner": ("inner\nadapt", 3, 0, "weights"),
        "outer": ("outer\ndirection", 4, 0, "weights"),
        "train": ("train\nouter loop", 4, 1, "weights"),
        "run": ("experiments\nrecipe, run", 3, 1, "plain"),
        "store": ("experiments\nstore: Trained", 4, 2, "weights"),
        "protocol": ("experiments\nprotocol: Study", 3, 2, "goal"),
        "book": ("book\nresults, report", 2, 2, "goal"),
    }
    arrows = [
        ("data", "forward"), ("forward", "tasks"), ("field", "tasks"), ("tasks", "inner"),
        ("inner", "outer"), ("outer", "train"), ("run", "train"), ("train", "store"),
        ("store", "protocol"), ("protocol", "book"),
    ]  # fmt: skip
    return figures.page_html(
        _drawing.flow(boxes, arrows),
        "Signals become tasks through a forward model; a field gives them a loss; inner, outer and "
        "train learn an init from it; the store keeps it, a study compares it, the book reports.",
        "The way of a task (blue) and of an init (orange) through the rooms, and what comes of "
        "them (green).",
    )
