"""Published checkpoints: the weights in a pickle of haiku's layout, as files of the book."""

import re
from pathlib import Path

import numpy as np

from learnit_utils import _files, fields
from learnit_utils._unpickle import PickleError, line, read
from learnit_utils.experiments import store
from learnit_utils.fields import Layer


def _order(module: str) -> list:
    """siren/siren_layer_2/linear -> [("siren", 0), ("siren_layer", 2), ("linear", 0)]."""
    parts = [re.fullmatch(r"(.*?)(?:_([0-9]{1,9}))?", part, re.S) for part in module.split("/")]
    return [(m[1], int(m[2] or 0)) for m in parts]


def layers(tree: dict) -> list[Layer]:
    """The layers of {"siren/siren_layer/linear": {"w": ..., "b": ...}, "siren/siren_layer_1/..."}.

    Raises:
        PickleError: another structure, or layers that do not fit together.
    """

    def layered(v):
        return (
            isinstance(v, dict)
            and set(v) == {"w", "b"}
            and all(isinstance(a, np.ndarray) for a in v.values())
        )

    if not isinstance(tree, dict) or not tree or not all(map(layered, tree.values())):
        held = ", ".join(sorted(tree)[:3]) if isinstance(tree, dict) else "one array"
        raise PickleError(
            f"a mapping of layers with arrays 'w' and 'b' is needed, it holds {line(held)}"
        )
    theta = []
    for module in sorted(tree, key=_order):
        with np.errstate(over="ignore", invalid="ignore"):
            w, b = (tree[module][k].astype(np.float32) for k in "wb")
        module = line(module)
        if w.ndim != 2 or b.shape != w.shape[1:] or (theta and theta[-1].w.shape[1] != w.shape[0]):
            raise PickleError(
                f"{module}: w {w.shape} and b {b.shape} do not continue the layers before"
            )
        if w.size == 0:
            raise PickleError(f"{module}: w {w.shape} has no numbers in it")
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise PickleError(f"{module}: values that are not finite")
        theta.append(Layer(w, b))
    return theta


def convert(
    source: str | Path,
    target: str | Path,
    *,
    omega0: float,
    hidden_omega0: float | None = None,
    offset: float = 0.5,
) -> None:
    """Write the SIREN in a published pickle as weights with a manifest beside them.

    Args:
        source: the pickle, haiku's layout: weights (in, out).
        target: ends in .safetensors.
        omega0, hidden_omega0, offset: as in `fields.siren`; the pickle does not hold them.

    Raises:
        PickleError: the file is not such a checkpoint.
        StoreError, ValueError: a target or setting that cannot be.
    """
    try:
        theta = layers(read(source))
    except PickleError as e:
        name = line(Path(source).name)
        raise PickleError(str(e) if str(e).startswith(name) else f"{name}: {e}") from None
    widths = {layer.w.shape[1] for layer in theta[:-1]}
    if len(widths) != 1:
        raise PickleError(
            f"{Path(source).name}: hidden layers of widths {sorted(widths)}, one is needed"
        )
    field = fields.siren(
        widths.pop(),
        len(theta),
        omega0,
        theta[-1].w.shape[1],
        hidden_omega0=hidden_omega0,
        dims=theta[0].w.shape[0],
        offset=offset,
    )
    origin = dict(file=Path(source).name, sha256=_files.sha256(Path(source)))
    store.save(target, field, theta, method="imported", origin=origin)
