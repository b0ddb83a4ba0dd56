"""Diagrams of the core, drawn from its own objects: what flows where, who calls whom."""

from typing import Any

from matplotlib.figure import Figure

from learnit_utils.book import _drawing
from learnit_utils.fields import Field, Theta
from learnit_utils.tasks import Tasks


def data_flow(source: tuple[int, int], size: int, tasks: Tasks) -> Figure:
    """From a picture to a loss, with the shapes of the tasks given.

    Args:
        source: (height, width) of the picture as it comes.
        size: pixels of a side after resampling.
        tasks: image tasks, from `tasks.images`.
    """
    side = min(source)
    boxes = {
        "face": (f"picture\n{source[0]} × {source[1]}", 0, 0, "data"),
        "crop": (f"square\n{side} × {side}", 1, 0, "data"),
        "image": (f"image\n{size} × {size}", 2, 0, "data"),
        "x": (f"coordinates\n{tuple(tasks.shared.shape)}", 3, 0, "data"),
        "field": ("field\n" + r"$f_\theta$", 4, 0, "weights"),
        "y": (f"pixels\n{tuple(tasks.each.shape[1:])}", 3, 1, "data"),
        "loss": ("loss\nMSE", 4, 1, "goal"),
    }
    arrows = [("face", "crop"), ("crop", "image"), ("image", "x"), ("x", "field"), ("image", "y")]
    return _drawing.flow(boxes, [*arrows, ("y", "loss"), ("field", "loss")])


def network(field: Field, theta: Theta) -> Figure:
    """A field layer by layer, with the shapes of its weights."""
    last = len(theta) - 1
    act = {"siren": "sin"}.get(field.spec["kind"], "ReLU")
    boxes = {
        str(i): (f"layer {i + 1}\n{tuple(layer.w.shape)}", i, 0, "weights")
        for i, layer in enumerate(theta)
    }
    return _drawing.flow(boxes, [(str(i), str(i + 1), act) for i in range(last)])


def gradient_path(method: str, steps: int = 2) -> Figure:
    """Which adapted weights the outer gradient passes on its way back to the start.

    Args:
        method: "maml", "fomaml" or "reptile".
        steps: K.
    """
    end = str(steps)
    boxes: dict[str, Any] = {str(k): (rf"$\theta_{k}$", k, 0, "weights") for k in range(steps + 1)}
    descend = [(str(k), str(k + 1), rf"$-\alpha\nabla L_T(\theta_{k})$") for k in range(steps)]
    if method == "reptile":
        return _drawing.flow(boxes, [*descend, (end, "0", rf"$\theta_0 - \theta_{end}$", "dashed")])
    boxes["L"] = (rf"$L_T(\theta_{end})$", steps + 1, 0, "goal")
    after = ("L", end, rf"$\nabla L_T(\theta_{end})$", "dashed")
    back = [(end, "0", "copied as it is", "dashed")]
    if method == "maml":
        factor = r"$I - \alpha\nabla^2 L_T(\theta_{%d})$"
        back = [(str(k + 1), str(k), factor % k, "dashed") for k in range(steps)]
    return _drawing.flow(boxes, [*descend, (end, "L"), after, *back])


def outer_step() -> Figure:
    """Who calls whom in one outer step of MAML."""
    actors = {"train": "train.run", "outer": "outer.maml", "inner": "inner.sgd", "loss": "loss"}
    messages = [
        ("train", "train", "draw a batch of tasks"),
        ("train", "outer", r"$\theta_0$, tasks, keys"),
        ("outer", "inner", r"$\theta_0$, task"),
        ("inner", "loss", r"$\theta_k$, task"),
        ("loss", "inner", r"$\nabla L_T(\theta_k)$", "dashed"),
        ("inner", "inner", r"$\theta_{k+1} = \theta_k - \alpha \nabla L_T$"),
        ("inner", "outer", r"$\theta_K$", "dashed"),
        ("outer", "loss", r"$\theta_K$: the loss after adaptation"),
        ("outer", "outer", "back through the K steps"),
        ("outer", "train", "losses, direction", "dashed"),
        ("train", "train", "Adam moves the start"),
    ]
    loops = [(0, 10, "every outer step"), (2, 8, "every task"), (3, 5, "k = 0, ..., K - 1")]
    return _drawing.sequence(actors, messages, loops=loops)


def run_states() -> Figure:
    """The states of a training run."""
    states = {
        "planned": ("planned", 0, 0),
        "running": ("running", 1, 0, "data"),
        "validated": ("validated", 2, 0, "data"),
        "saved": ("saved", 3, 0, "data"),
        "finished": ("finished", 4, 0, "goal"),
        "stopped": ("stopped", 0, 1, "stop"),
        "resumed": ("resumed", 1, 1, "data"),
        "killed": ("killed", 2, 1, "stop"),
    }
    moves = [
        ("planned", "running", "start"),
        ("running", "validated", "every 250"),
        ("validated", "saved"),
        ("saved", "running", "steps left", "below"),
        ("saved", "finished", "last step"),
        ("running", "stopped", "loss not finite"),
        ("running", "killed", "signal"),
        ("killed", "resumed", "run again"),
        ("resumed", "running", "state read"),
    ]
    return _drawing.flow(states, moves)
