"""Trained inits: safetensors beside a manifest that says what they are and hashes them.

To fit a trained init to a task as it was learned, with its step sizes if it has any:

    trained = store.load("faces64_metasgd")  # or a path that ends in .safetensors
    field, loss, adapt, _ = trained.problem()
    task = pixels.image_tasks(trained.recipe.load("test")).take(slice(0, 1))
    decibel(evaluate.trajectory(loss, adapt, trained.init, task))  # PSNR, steps 0 to K

What takes an optimizer (`evaluate.fit`, `curve`, `progress`) does not use learned step sizes.
"""

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

from learnit_utils import __version__, _files, shipped
from learnit_utils._files import FileError
from learnit_utils._state import plain
from learnit_utils.evaluate import Problem
from learnit_utils.experiments import _waves, flops
from learnit_utils.experiments.recipe import Learned, Recipe, functions, model
from learnit_utils.fields import Field, Layer, Theta
from learnit_utils.inner import Init

SUFFIX, SNAPSHOTS = ".safetensors", "snapshots"
PRECISIONS = ("float32", "float16")  # of a file; in memory weights are float32
PREFIXES = ("layer", "step_sizes")


class StoreError(ValueError):
    """Weights that are missing, damaged or not what their manifest says; one line."""


class Trained(NamedTuple):
    """A trained init and how it was trained."""

    field: Field
    init: Init
    recipe: Recipe | None  # None if it was not trained here, for example imported
    history: dict[str, list]  # "step", "seconds", "psnr", ... of the run; empty if it has none
    info: dict[str, Any]  # the manifest's entry: method, seed, scores, versions, device, ...

    @property
    def theta(self) -> Theta:
        """The weights alone."""
        return self.init.theta

    def trained_by(self) -> Recipe:
        """The recipe.

        Raises:
            StoreError: there is none.
        """
        if self.recipe is None:
            raise StoreError(f"{self.info.get('method')} weights have no recipe or history")
        return self.recipe

    def problem(self) -> Learned:
        """Field, loss, inner loop and outer gradient that it was trained with."""
        return functions(self.trained_by())

    def test_problem(self) -> Problem:
        """What a fit at test time may use, and what judges it, by the recipe's forward model."""
        recipe = self.trained_by()
        return model(recipe).problem(functions(recipe).field, recipe)


def names() -> list[str]:
    """The inits that ship with the package."""
    return sorted(Path(n).stem for n in shipped.manifest("weights"))


# --- reading ----------------------------------------------------------------------------------
def load(name_or_path: str | Path) -> Trained:
    """A shipped init by name, or a file by its path.

    Snapshots have names like snapshots/faces64_maml_tuned_50.

    A file needs a `manifest.json` in its folder that names it. Tensors are `layer_I.w` (in, out)
    and `layer_I.b` (out), I = 0, 1, ...; learned step sizes `step_sizes_I.w`, `step_sizes_I.b` have
    a leading axis (steps, or 1 for all steps).

    Raises:
        StoreError: unknown name, missing file, or one whose size, hash, tensor names, shapes or
            types are not those of the manifest, or with values that are not finite.
    """
    name, given = str(name_or_path), Path(name_or_path)
    path = given if given.suffix == SUFFIX else _shipped(given)
    try:
        entry = _files.manifest(path.parent).get(path.name) if path else None
    except FileError as e:
        raise StoreError(str(e)) from None
    if entry is None:
        known = ", ".join(names()) or "none"
        beside = f"{_files.MANIFEST} beside it does not name it"
        raise StoreError(f"weights {name!r}: {beside if given.suffix else f'shipped are {known}'}")
    if not isinstance(entry, dict) or not {"sha256", "bytes", "field"} <= entry.keys():
        raise StoreError(f"weights {name!r}: its entry lacks sha256, bytes or field")
    if problem := _files.check(path, entry):
        raise StoreError(f"weights {name!r}: {problem}")
    return _read(path.read_bytes(), entry, name)


def _shipped(name: Path) -> Path | None:
    """Where an init of this name ships, or None for a path to elsewhere."""
    folders = {Path(): Path("weights"), Path(SNAPSHOTS): Path("weights", SNAPSHOTS)}
    folder = folders.get(name.parent)
    return folder and shipped.ROOT / folder / (name.name + SUFFIX)


def _read(data: bytes, entry: dict, name: str) -> Trained:
    try:
        found = read_tensors(data)
        field = _waves.build(**entry["field"])
        recipe = Recipe(**entry["settings"]) if "settings" in entry else None
    except (SafetensorError, ValueError, TypeError, KeyError) as e:
        raise StoreError(f"weights {name!r}: {str(e).splitlines()[0]}") from None
    kind = entry.get("precision", "float32")
    if kind not in PRECISIONS:
        raise StoreError(
            f"weights {name!r}: precision {kind!r:.60}: expected one of {', '.join(PRECISIONS)}"
        )
    like = jax.eval_shape(field.init, jax.random.key(0))
    wanted = {
        f"layer_{i}.{k}": v.shape for i, la in enumerate(like) for k, v in la._asdict().items()
    }
    rated = any(n.startswith("step_sizes_") for n in found)
    if rated:
        wanted |= _shapes_of_step_sizes(found, wanted, name)
    for n in sorted(wanted.keys() | found.keys()):
        _check_tensor(n, found, wanted, kind, name)
    layers, step_sizes = (_layers(found, p, len(like)) for p in PREFIXES)
    return Trained(field, Init(layers, step_sizes), recipe, entry.get("history", {}), entry)


def _shapes_of_step_sizes(found, wanted, name) -> dict[str, tuple]:
    """The shapes of learned step sizes, whose number of steps the tensors themselves say."""
    steps = {found[n].shape[:1] for n in found if n.startswith("step_sizes_")}
    if len(steps) > 1 or steps & {(), (0,)}:
        raise StoreError(f"weights {name!r}: step_sizes_ of {sorted(steps)} steps")
    shapes = {}
    for n, shape in wanted.items():
        n = n.replace("layer", "step_sizes")
        per_layer = n in found and found[n].shape[1:] == (1,) * len(shape)
        shapes[n] = (*min(steps), *((1,) * len(shape) if per_layer else shape))
    return shapes


def _check_tensor(n, found, wanted, kind, name) -> None:
    if n not in found or n not in wanted:
        where = "missing" if n not in found else "not a tensor of this field"
        raise StoreError(f"weights {name!r}: {n} is {where}")
    a = found[n]
    if a.shape != wanted[n] or a.dtype != kind:
        raise StoreError(f"weights {name!r}: {n} is {a.dtype}{a.shape}, not {kind}{wanted[n]}")
    if not np.isfinite(a).all():
        raise StoreError(f"weights {name!r}: {n} has values that are not finite")


def _layers(found, prefix, count) -> Theta | None:
    if f"{prefix}_0.w" not in found:
        return None
    pairs = ((found[f"{prefix}_{i}.{k}"] for k in "wb") for i in range(count))
    return [Layer(*(jnp.asarray(a, jnp.float32) for a in pair)) for pair in pairs]


# --- writing ----------------------------------------------------------------------------------
def save(
    path: str | Path, field: Field, init: Any, *, precision: str = "float32", **info: Any
) -> None:
    """Write an init and its entry in the manifest beside it, each atomically.

    Args:
        path: ends in .safetensors; the folder's manifest.json keeps its other entries.
        field: the network; its spec goes into the manifest.
        init: an `Init`, or bare weights.
        precision: of the file, float32 or float16, which is half as large; see `rounded`.
        info: whatever JSON the manifest should hold: method, settings, seed, scores, ...

    Raises:
        StoreError: values that are not finite, a path with another suffix, another precision.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise StoreError(f"precision = {precision!r:.60}: expected one of {', '.join(PRECISIONS)}")
    if path.suffix != SUFFIX:
        raise StoreError(f"{path}: expected a file name in {SUFFIX}")
    arrays = {}
    for prefix, layers in zip(PREFIXES, Init.of(init)):
        for i, layer in enumerate(layers or []):
            both = rounded(layer, precision)._asdict()
            arrays |= {f"{prefix}_{i}.{k}": plain(v).astype(precision) for k, v in both.items()}
    for name, a in arrays.items():
        if not np.isfinite(a).all():
            raise StoreError(f"{path}: {name} has values that are not finite in {precision}")
    info |= dict(precision=precision) if precision != "float32" else {}
    try:
        _files.enter(path.parent, path.name, tensors(arrays), field=dict(field.spec), **info)
    except FileError as e:
        raise StoreError(str(e)) from None


def rounded(init: Any, precision: str) -> Any:
    """An init as a file of this precision gives it back, in float32."""

    def there_and_back(a):
        return jnp.asarray(a, jnp.float32).astype(precision).astype(jnp.float32)

    return jax.tree.map(there_and_back, init)


def environment() -> dict[str, Any]:
    """Versions and device, for a manifest."""
    device = jax.devices()[0]
    cores = f", cores: {flops.cores()}" if device.platform == "cpu" else ""
    libraries = {n: version(n) for n in ("jax", "jaxlib", "optax", "numpy")}
    libraries["learnit-utils"] = __version__
    return dict(
        versions=dict(python=platform.python_version(), **libraries),
        device=f"{len(jax.local_devices())} x {device.platform} ({device.device_kind}){cores}",
    )
