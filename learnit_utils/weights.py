"""Trained weights: safetensors beside a manifest that says what they are and hashes them."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensors

from learnit_utils import assets, cost, fields
from learnit_utils.checkpoint import plain
from learnit_utils.fields import Field, Layer, Theta

SUFFIX, MANIFEST = ".safetensors", "manifest.json"
PRECISIONS = ("float32", "float16")  # of a file; in memory weights are float32
PARTS = ("layer", "rates")


class WeightsError(ValueError):
    """Weights that are missing, damaged or not what their manifest says; one line."""


class Weights(NamedTuple):
    """A learned start."""

    field: Field
    theta: Theta
    info: dict[str, Any]  # the manifest's entry: method, settings, seed, scores, history, ...
    rates: Theta | None = None  # learned step sizes, (steps or 1, *parameter) per leaf


def names() -> list[str]:
    """The weights that ship with the package."""
    return sorted(Path(n).stem for n in assets.manifest("weights"))


def load(name_or_path: str | Path) -> Weights:
    """Shipped weights by name, or a file by its path.

    Starts on their way have names like path/faces64_maml_tuned_50.

    A file needs a `manifest.json` in its folder that names it. Tensors are `layer_I.w` (in, out)
    and `layer_I.b` (out), I = 0, 1, ...; learned step sizes `rates_I.w`, `rates_I.b` have a
    leading axis (steps, or 1 for all steps).

    Raises:
        WeightsError: unknown name, missing file, or one whose size, hash, tensor names, shapes or
            types are not those of the manifest, or with values that are not finite.
    """
    name = str(name_or_path)
    given = Path(name_or_path)
    if given.suffix == SUFFIX:
        folder, file = given.parent, given.name
    else:
        folder, file = assets.PACKAGE / "weights", name + SUFFIX
        if given.parent == Path("path"):
            folder, file = folder / "path", given.name + SUFFIX
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf8"))
    except FileNotFoundError:
        manifest = {}
    except (ValueError, RecursionError):
        raise WeightsError(f"{folder / MANIFEST}: not JSON") from None
    entry = manifest.get(file) if isinstance(manifest, dict) else None
    if isinstance(entry, dict) and not {"sha256", "bytes", "field"} <= entry.keys():
        raise WeightsError(f"weights {name!r}: its entry lacks sha256, bytes or field")
    if not isinstance(entry, dict):
        known = ", ".join(names()) or "none"
        hint = f"{MANIFEST} beside it does not name it" if given.suffix else f"shipped are {known}"
        raise WeightsError(f"weights {name!r}: {hint}")
    problem = assets.check(folder / file, entry)
    if problem:
        raise WeightsError(f"weights {name!r}: {problem}")
    return _read((folder / file).read_bytes(), entry, name)


def _read(data: bytes, entry: dict, name: str) -> Weights:
    try:
        found = read_tensors(data)
        field = fields.build(**entry["field"])
    except (SafetensorError, ValueError, TypeError, KeyError) as e:
        raise WeightsError(f"weights {name!r}: {str(e).splitlines()[0]}") from None
    kind = entry.get("precision", "float32")
    if kind not in PRECISIONS:
        raise WeightsError(
            f"weights {name!r}: precision {kind!r:.60}, not one of {', '.join(PRECISIONS)}"
        )
    like = jax.eval_shape(field.init, jax.random.key(0))
    wanted = {
        f"layer_{i}.{k}": v.shape for i, la in enumerate(like) for k, v in la._asdict().items()
    }
    rated = any(n.startswith("rates_") for n in found)
    steps = {found[n].shape[:1] for n in found if n.startswith("rates_")}
    if rated and (len(steps) > 1 or steps & {(), (0,)}):
        raise WeightsError(f"weights {name!r}: rates_ of {sorted(steps)} steps")
    for n, shape in list(wanted.items()) if rated else ():
        n = n.replace("layer", "rates")
        per_layer = n in found and found[n].shape[1:] == (1,) * len(shape)
        wanted[n] = (*min(steps), *((1,) * len(shape) if per_layer else shape))
    for n in sorted(wanted.keys() | found.keys()):
        if n not in found or n not in wanted:
            where = "missing" if n not in found else "not a tensor of this field"
            raise WeightsError(f"weights {name!r}: {n} is {where}")
        a = found[n]
        if a.shape != wanted[n] or a.dtype != kind:
            raise WeightsError(
                f"weights {name!r}: {n} is {a.dtype}{a.shape}, not {kind}{wanted[n]}"
            )
        if not np.isfinite(a).all():
            raise WeightsError(f"weights {name!r}: {n} has values that are not finite")

    def part(which):
        layers = range(len(like))
        arrays = ((found[f"{which}_{i}.{k}"] for k in "wb") for i in layers)
        return [Layer(*(jnp.asarray(a, jnp.float32) for a in both)) for both in arrays]

    return Weights(field, part("layer"), entry, part("rates") if rated else None)


def save(
    path: str | Path,
    field: Field,
    theta: Theta,
    *,
    rates: Theta | None = None,
    precision: str = "float32",
    **info,
) -> None:
    """Write weights and their entry in the manifest beside them, each atomically.

    Args:
        path: ends in .safetensors; the folder's manifest.json keeps its other entries.
        rates: learned step sizes, if any.
        precision: of the file, float32 or float16, which is half as large; see `rounded`.
        info: whatever JSON the manifest should hold: method, settings, seed, scores, ...

    Raises:
        WeightsError: values that are not finite, a path with another suffix, another precision.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise WeightsError(f"precision = {precision!r:.60}: one of {', '.join(PRECISIONS)}")
    if path.suffix != SUFFIX:
        raise WeightsError(f"{path}: weights are files in {SUFFIX}")
    arrays = {}
    for kind, layers in zip(PARTS, (theta, rates or [])):
        for i, layer in enumerate(layers):
            both = rounded(layer, precision)._asdict()
            arrays |= {f"{kind}_{i}.{k}": plain(v).astype(precision) for k, v in both.items()}
    for name, a in arrays.items():
        if not np.isfinite(a).all():
            raise WeightsError(f"{path}: {name} has values that are not finite in {precision}")
    data = tensors(arrays)
    entry = dict(sha256=assets.sha256(data), bytes=len(data), field=dict(field.spec), **info)
    entry |= dict(precision=precision) if precision != "float32" else {}
    table = path.with_name(MANIFEST)
    try:
        manifest = json.loads(table.read_text("utf8")) if table.exists() else {}
    except ValueError:
        raise WeightsError(f"{table}: not JSON") from None
    manifest[path.name] = entry
    text = assets.text_of(manifest)
    assets.write(path, data)
    assets.write(table, text)


def rounded(start: Any, precision: str) -> Any:
    """A start as a file of this precision gives it back, in float32."""

    def there_and_back(a):
        return jnp.asarray(a, jnp.float32).astype(precision).astype(jnp.float32)

    return jax.tree.map(there_and_back, start)


def circumstances() -> dict[str, Any]:
    """Versions and device, for a manifest."""
    device = jax.devices()[0]
    cores = f", cores: {cost.cores()}" if device.platform == "cpu" else ""
    libraries = {n: version(n) for n in ("learnit-utils", "jax", "jaxlib", "optax", "numpy")}
    return dict(
        versions=dict(python=platform.python_version(), **libraries),
        device=f"{len(jax.local_devices())} x {device.platform} ({device.device_kind}){cores}",
    )
