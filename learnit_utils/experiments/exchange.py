"""Weights in and out: the layouts of haiku, flax, PyTorch and NumPy's npz.

Coming in, nothing of a file is executed: pickles go through `_unpickle`, PyTorch's files through
`_torchfile`, and npz is read without pickles. What the weights do not say is asked for.
"""

import io
import json
import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from learnit_utils import _files, _unpickle
from learnit_utils._unpickle import PickleError, line
from learnit_utils.experiments import _torchfile, _torchmodule, _waves, store
from learnit_utils.experiments._torchmodule import ANGULAR
from learnit_utils.experiments.store import Trained
from learnit_utils.fields import Field, Layer, Theta
from learnit_utils.inner import Init

WEIGHTS = dict(w=False, kernel=False, weight=True)  # role -> whether it is (out, in)
BIASES = ("b", "bias")
WHOLE = ("state_dict", "model_state_dict", "network_fn_state_dict", "model")  # of a checkpoint
SPEC = "spec"  # what an npz holds beside the layers
MOST_DIMS = 4  # coordinates of a point; more inputs than that are features of them
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LAYOUTS = dict(torch=".pt", flax=".flax.pkl", haiku=".haiku.pkl", npz=".npz")


class Found(NamedTuple):
    """What a file of weights holds."""

    theta: Theta
    names: list[str]  # of the layers
    step_sizes: Theta | None = None
    spec: Mapping[str, Any] | None = None  # of the field, if the file says it
    angular: np.ndarray | None = None  # frequencies of its features, if the file says them


# --- reading ------------------------------------------------------------------------------------
def read(source: str | Path) -> Found:
    """The layers in a file, whatever its layout, first to last.

    Raises:
        PickleError: no such file, another content, or layers that do not fit together.
    """
    source = Path(source)
    try:
        begin = b""
        if source.is_file():
            with open(source, "rb") as file:
                begin = file.read(len(OLD_TORCH))
        if begin == OLD_TORCH:
            raise PickleError("a file of PyTorch before 1.6: load it there and save it again")
        if not begin.startswith(_torchfile.MAGIC):
            return layers(_unpickle.read(source))
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            return _of_npz(source)
        tensors = _torchfile.read(source)
        inside = next((name for name in WHOLE if isinstance(tensors.get(name), dict)), None)
        return layers(tensors[inside] if inside else tensors, in_order=True)
    except (PickleError, zipfile.BadZipFile) as e:
        name = line(source.name)
        raise PickleError(str(e) if str(e).startswith(name) else f"{name}: {e}") from None


def layers(tree: Mapping[str, Any], in_order: bool = False) -> Found:
    """The layers in nested mappings of arrays, by the names of their weights and biases.

    Weights are `w` and `b` (haiku), `kernel` and `bias` (flax) or `weight` and `bias` (PyTorch,
    where a weight is (out, in)). Layers go by the numbers in their names.

    Args:
        in_order: they stand in their order already, as in a state dict.

    Raises:
        PickleError: another structure, or layers that do not fit together.
    """
    flat = dict(_flat(tree)) if isinstance(tree, Mapping) else {}
    parts: dict[tuple, dict[str, np.ndarray]] = {}
    for path, a in flat.items():
        parts.setdefault(path[:-1], {})[path[-1] if path else ""] = a
    theta, names, angular = [], [], None
    for path in parts if in_order else sorted(parts, key=_order):
        held = parts[path]
        if set(held) == {ANGULAR}:
            angular = held[ANGULAR]
            continue
        role = next((r for r in WEIGHTS if r in held), None)
        bias = next((b for b in BIASES if b in held), None)
        if role is None or bias is None or len(held) != 2:
            shown = line("/".join(path) or ", ".join(sorted(held)[:3]))
            raise PickleError(
                f"a mapping of layers with arrays 'w' and 'b' is needed, it holds {shown}"
            )
        w = held[role].T if WEIGHTS[role] else held[role]
        theta.append(_checked(w, held[bias], line("/".join(path)), theta))
        names.append("/".join(path))
    if not theta:
        raise PickleError("a mapping of layers with arrays 'w' and 'b' is needed, it holds none")
    return Found(theta, names, angular=angular)


def _flat(tree: Any, path: tuple = ()):
    """((part, part, ...), array) of every array; parts of a name are divided by / or dots."""
    if isinstance(tree, Mapping):
        for name, below in tree.items():
            yield from _flat(below, (*path, *re.split(r"[/.]", name)))
    else:
        yield path, tree


def _order(path: tuple) -> list:
    """(siren, siren_layer_2, linear) -> [("siren", 0), ("siren_layer", 2), ("linear", 0)]."""
    found = [re.fullmatch(r"(.*?)_?([0-9]{1,9})?", part, re.S) for part in path]
    return [(m[1], int(m[2] or 0)) for m in found]


def _checked(w, b, name: str, before: Theta) -> Layer:
    """A layer in single precision that continues those before."""
    if w.ndim != 2 or b.shape != w.shape[1:] or (before and before[-1].w.shape[1] != w.shape[0]):
        raise PickleError(f"{name}: w {w.shape} and b {b.shape} do not continue the layers before")
    if w.size == 0:
        raise PickleError(f"{name}: w {w.shape} has no numbers in it")
    with np.errstate(over="ignore", invalid="ignore"):
        w, b = np.ascontiguousarray(w, np.float32), b.astype(np.float32)
    if not (np.isfinite(w).all() and np.isfinite(b).all()):
        raise PickleError(f"{name}: values that are not finite")
    return Layer(w, b)


def _of_npz(source: Path) -> Found:
    """The layers in an npz, of an export or of anyone's arrays by name."""
    try:
        members = _torchfile.members_of(source)
        arrays = {n.removesuffix(".npy"): _array(n, data) for n, data in members.items()}
    except (PickleError, _files.FileError) as e:
        raise PickleError(str(e)) from None
    except Exception as e:  # a damaged file can fail in any way
        raise PickleError(f"not a readable npz ({type(e).__name__}: {line(e)})") from None
    spec = arrays.pop(SPEC, None)
    kept = {n: a for n, a in arrays.items() if n.startswith("step_sizes_")}
    found = layers({n: a for n, a in arrays.items() if n not in kept})
    if spec is None:
        return found._replace(step_sizes=None) if not kept else layers(arrays)
    try:
        told = json.loads(spec.tobytes())
        _waves.build(**told)
    except (ValueError, TypeError, RecursionError) as e:
        raise PickleError(f"its field cannot be built ({line(e)})") from None
    count = range(len(found.theta) if kept else 0)
    rates = [Layer(*(kept.get(f"step_sizes_{i}.{k}") for k in "wb")) for i in count]
    if any(a is None for rate in rates for a in rate):
        raise PickleError("step sizes that do not belong to its layers")
    return found._replace(spec=told, step_sizes=rates or None)


def _frequencies(file: Path) -> np.ndarray:
    """Angular frequencies (dims, n) from an npy."""
    try:
        found = _array(file.name, file.read_bytes())
    except Exception as e:  # a damaged file can fail in any way
        raise PickleError(f"{line(file.name)}: no array of frequencies ({line(e)})") from None
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise PickleError(f"{line(file.name)}: expected finite frequencies of shape (dims, n)")
    return found if found.shape[0] <= MOST_DIMS else found.T


def _array(name: str, data: bytes) -> np.ndarray:
    """One array of an npz, made only if its bytes are there."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    head = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, fortran, dtype = head[version](file)
    raw = data[file.tell() :]
    if (dtype.kind != "f" and name != f"{SPEC}.npy") or dtype.hasobject or dtype.itemsize > 8:
        raise PickleError(f"{line(name)}: an array of {line(dtype)}: floating-point is needed")
    if len(shape) > _unpickle.MAX_AXES or math.prod(shape) * dtype.itemsize != len(raw):
        raise PickleError(f"{line(name)}: an array of shape {line(shape)} with {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


# --- which field ----------------------------------------------------------------------------------
def field_of(found: Found, kind: str | None = None, **settings: Any) -> Field:
    """The field that layers are the weights of.

    Args:
        found: what a file holds.
        kind: of `fields.KINDS`; unless given, what the file or its names say.
        settings: of the field, for example omega0; those that shapes say are taken from them.

    Raises:
        PickleError: a kind that is not known, or that these layers cannot be.
    """
    if found.spec is not None and kind is None and not settings:
        return _waves.build(**found.spec)
    theta, inputs = found.theta, found.theta[0].w.shape[0]
    kind = kind or ("siren" if any("siren" in name.lower() for name in found.names) else None)
    if kind is None:
        kinds = "siren or relu" if inputs <= MOST_DIMS else "posenc or fourier"
        raise PickleError(
            f"its names do not say what network of {inputs} inputs it is: --kind {kinds}"
        )
    if kind in ("siren", "relu") and inputs > MOST_DIMS:
        raise PickleError(
            f"its first layer has {inputs} inputs: not coordinates, of which a {kind} network has "
            f"at most {MOST_DIMS}, but features of them: --kind posenc or fourier"
        )
    if kind == "siren" and "omega0" not in settings:
        raise PickleError("the weights of a SIREN do not hold omega0: --omega0 is missing")
    if kind == "fourier" and not {"sigma", "feature_seed"} <= settings.keys():
        if found.angular is None:
            raise PickleError(
                "the weights of a network on Fourier features do not hold their frequencies: "
                "--angular FILE.npy is missing"
            )
        kind, settings = "waves", settings | dict(angular=found.angular.tolist())
    widths = {layer.w.shape[1] for layer in theta[:-1]}
    if len(widths) != 1:
        raise PickleError(f"hidden layers of widths {sorted(widths)}, one is needed")
    sizes = dict(width=widths.pop(), depth=len(theta), channels=theta[-1].w.shape[1])
    try:
        field = _waves.build(kind, **(sizes | _of_inputs(kind, inputs, settings)))
    except (TypeError, ValueError) as e:
        raise PickleError(f"{kind}: {line(e, 200).partition('() ')[2] or line(e, 200)}") from None
    like = jax.eval_shape(field.init, jax.random.key(0))
    if like[0].w.shape != theta[0].w.shape:
        raise PickleError(
            f"its first layer has {inputs} inputs, a {kind} network of these settings "
            f"{like[0].w.shape[0]}"
        )
    if found.angular is not None and not _same(found.angular, _torchmodule.angular(field, theta)):
        raise PickleError(f"its frequencies are not those of a {kind} network of these settings")
    return field


def _same(a: np.ndarray, b: np.ndarray | None) -> bool:
    return b is not None and a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=1e-6)


def _of_inputs(kind: str, inputs: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the number of coordinates, and of frequencies, that the inputs say."""
    if kind in ("siren", "relu"):
        return dict(dims=inputs) | settings
    if kind == "waves":
        return dict(dims=len(settings["angular"])) | settings
    if kind == "fourier":
        return dict(features=inputs // 2) | settings
    if kind == "posenc" and "frequencies" not in settings:
        raise ValueError("the number of its frequencies is missing: --set frequencies=L")
    if kind == "posenc":
        return dict(dims=max(1, inputs // (2 * max(1, settings["frequencies"])))) | settings
    return settings


def by_coordinate(layer: Layer, dims: int) -> Layer:
    """The first layer behind an encoding in the order of this package.

    learnit and NeRF list the features frequency by frequency, the sines of all coordinates before
    their cosines; here all sines come before all cosines, coordinate by coordinate.
    """
    count = layer.w.shape[0] // (2 * dims)
    rows = np.arange(2 * dims * count).reshape(count, 2, dims)  # [frequency, sine or cosine, axis]
    return Layer(layer.w[rows.transpose(1, 2, 0).ravel()], layer.b)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    kind: str | None = None,
    by_frequency: bool = False,
    angular: str | Path | None = None,
    **settings: Any,
) -> None:
    """Write the network in a file as weights with a manifest beside them.

    Args:
        source: a pickle of haiku's or flax's layout, a state dict of PyTorch, or an npz.
        target: ends in .safetensors.
        kind, settings: as in `field_of`.
        by_frequency: the encoding is in the order of learnit and NeRF; see `by_coordinate`.
        angular: an npy of the frequencies of Fourier features, in radians, (dims, n).

    Raises:
        PickleError: the file is not such a checkpoint, or cannot be that kind of network.
        StoreError, ValueError: a target or setting that cannot be.
    """
    source = Path(source)
    found = read(source)
    if angular is not None:
        found = found._replace(angular=_frequencies(Path(angular)))
    try:
        field = field_of(found, kind, **settings)
    except PickleError as e:
        raise PickleError(f"{line(source.name)}: {e}") from None
    theta = found.theta
    if by_frequency:
        if field.spec["kind"] != "posenc":
            raise PickleError("an order of frequencies is that of --kind posenc alone")
        theta = [by_coordinate(theta[0], field.spec["dims"]), *theta[1:]]
    origin = dict(file=source.name, sha256=_files.sha256(source))
    store.save(target, field, Init(theta, found.step_sizes), method="imported", origin=origin)


# --- writing --------------------------------------------------------------------------------------
def export(trained: Trained, layout: str, target: Path) -> list[Path]:
    """Write a trained init for another framework.

    Args:
        layout: "torch": a state dict, and beside it the module that loads it; "flax", "haiku":
            pickles of nested dicts of NumPy arrays; "npz": arrays by name, the field's settings,
            and learned step sizes, which the others leave out.
        target: the file.

    Returns:
        What was written.

    Raises:
        ValueError: another layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout = {layout!r:.60}: expected one of {', '.join(LAYOUTS)}")
    field, theta = trained.field, [Layer(*map(np.asarray, la)) for la in trained.theta]
    if layout == "torch":
        _files.write(target, _torchfile.written(_torchmodule.state_dict(field, theta)))
        module = target.with_suffix(".py")
        _files.write(module, _torchmodule.source(field, target.name).encode())
        return [target, module]
    if layout == "npz":
        arrays = {f"layer_{i}.{k}": a for i, la in enumerate(theta) for k, a in zip("wb", la)}
        for i, rates in enumerate(trained.init.step_sizes or ()):
            arrays |= {f"step_sizes_{i}.{k}": np.asarray(a) for k, a in zip("wb", rates)}
        spec = np.frombuffer(json.dumps(dict(field.spec)).encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, **arrays, **{SPEC: spec})
        _files.write(target, file.getvalue())
    else:
        _files.write(target, pickle.dumps(_tree(field, theta, layout), 4))
    return [target]


def _tree(field: Field, theta: Theta, layout: str) -> dict[str, Any]:
    """Weights in the names that flax and haiku give to the layers of such a network."""
    if layout == "flax":
        return {"params": {f"Dense_{i}": dict(kernel=w, bias=b) for i, (w, b) in enumerate(theta)}}
    first = "siren/siren_layer{}/linear" if field.spec["kind"] == "siren" else "mlp/linear{}"
    return {first.format(f"_{i}" if i else ""): dict(w=w, b=b) for i, (w, b) in enumerate(theta)}
