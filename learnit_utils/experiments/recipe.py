"""A recipe: all settings that decide a training run, and the functions it is made of."""

import dataclasses
import importlib
import json
import pkgutil
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

from learnit_utils import fields, forward, inner, outer, signals, tasks
from learnit_utils.fields import Field
from learnit_utils.inner import Adapt
from learnit_utils.signals.base import DataError, Dataset, dataset
from learnit_utils.tasks import Loss


class RecipeError(ValueError):
    """A setting that does not exist or a value of the wrong kind; the message is one line."""


@cache
def signal_modules() -> dict[str, Any]:
    """The signal classes by name: modules of `learnit_utils.signals` with `load` or `from_folder`.

    `load(split, *, size, gray, limit, ...)` makes what ships or is drawn; `from_folder(path, split,
    ...)` reads a user's. A module with `COLOUR_ONLY` takes no `gray`.
    """
    names = [m.name for m in pkgutil.iter_modules(signals.__path__)]
    found = {n: importlib.import_module(f"{signals.__name__}.{n}") for n in names}
    loaders = {n: m for n, m in found.items() if n not in ("base", "transforms", "colmap")}
    return {n: m for n, m in loaders.items() if hasattr(m, "load") or hasattr(m, "from_folder")}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides a run."""

    signals: str = "faces"  # a module of learnit_utils.signals; "faces+text": two classes at once
    size: int = 64  # pixels of a side
    gray: bool = True
    folder: str = ""  # a user's data, for the signals' `from_folder`
    forward: str = "pixels"  # a forward model of learnit_utils.forward
    views: int = 20  # angles of line integrals; the same in all steps of a task
    rays: int = 64  # rays per inner step
    samples: int = 32  # samples per ray
    density: str = "softplus"  # makes a network's output a density; `rendering.DENSITIES`
    limit: int | None = None  # training pictures; a class drawn from a seed has as many as wanted
    held_out: int = 200  # at most so many from a folder for validation, and for the test
    options: dict = dataclasses.field(default_factory=dict)  # more for the signals' `load`
    field: dict = dataclasses.field(
        default_factory=lambda: dict(kind="siren", width=256, depth=5, omega0=30.0, channels=1)
    )
    method: Literal["maml", "fomaml", "reptile"] = "maml"
    inner_steps: int = 2  # K
    inner_lr: float = 1e-2  # alpha, or where learned step sizes begin
    context_fraction: float | None = None  # of the pixels in inner steps; `tasks.context_pruned`
    # What has a learned step size of its own, if anything; see `inner.with_step_sizes`.
    step_sizes: Literal["layer_step", "parameter", "parameter_step"] | None = None
    step_sizes_lr: float = 1e-4  # the outer step size of learned step sizes
    outer_lr: float = 1e-5  # beta
    decay: Literal["constant", "cosine"] = "constant"  # of beta
    warmup: int = 0  # at most a tenth of the steps
    clip: float | None = None
    batch: int = 3
    steps: int = 5000
    seed: int = 0
    agreement: bool = True  # measure how FOMAML's and Reptile's directions agree with MAML's too
    precision: Literal["float32", "float16"] = "float32"  # of the weight files
    snapshots: tuple[int, ...] = ()  # outer steps at which the init is saved on the way

    def __post_init__(self):
        object.__setattr__(self, "snapshots", tuple(self.snapshots))  # a list in a manifest

    def settings(self) -> dict[str, Any]:
        """All settings, as JSON holds them."""
        return dataclasses.asdict(self)

    def load(self, split: str, **more) -> Any:
        """The signals of a split.

        Args:
            split: "train", "validation" or "test".
            more: options beside those of the recipe, or in their place.

        Raises:
            DataError: an unknown class, or data that cannot be used.
        """
        names = self.signals.split("+")
        parts = [self._load_one(name, split, **more) for name in names]
        if self.folder and not any(hasattr(m, "from_folder") for m in map(_signals, names)):
            raise DataError(f"folder = {self.folder!r:.60}: {self.signals} is not read from one")
        return parts[0] if len(parts) == 1 else _together(parts)

    def _load_one(self, name: str, split: str, **more) -> Any:
        module = _signals(name)
        options = dict(size=self.size, gray=self.gray, **self.options) | more
        if getattr(module, "COLOUR_ONLY", False) and options.pop("gray"):
            raise DataError("gray = True: these have colours, expected gray=False")
        limit = options.pop("limit", self.limit if split == "train" else None)
        if self.folder and hasattr(module, "from_folder"):
            most = limit or (self.limit if split == "train" else self.held_out)
            return module.from_folder(self.folder, split, limit=most, **options)
        if not hasattr(module, "load"):
            raise DataError(f"signals = {name!r}: expected a folder")
        return module.load(split, limit=limit, **options)


def _signals(name: str) -> Any:
    known = signal_modules()
    if name not in known:
        raise DataError(f"signals = {name!r:.60}: expected one of {', '.join(known)}")
    return known[name]


def _together(parts: list[Dataset]) -> Dataset:
    """Several classes as one."""
    pictures = [u for d in parts for u in d.arrays]
    names = [f"{k}/{n}" for k, d in enumerate(parts) for n in d.names]
    joined = {k: " + ".join(d.provenance[k] for d in parts) for k in ("source", "licence")}
    return dataset(pictures, names, **joined, split=parts[0].provenance["split"])


# --- the functions of a recipe ------------------------------------------------------------------
class Learned(NamedTuple):
    """The functions that a recipe trains with: the middle of the book's seven lines."""

    field: Field
    loss: Loss
    adapt: Adapt
    grad: outer.MetaGradient


# The settings that decide what is compiled.
CHOICES = ("field", "method", "inner_steps", "inner_lr", "context_fraction", "step_sizes")
CHOICES += ("forward", "views", "rays", "samples", "density")


def model(recipe: Recipe) -> forward.Model:
    """The forward model of a recipe.

    Raises:
        RecipeError: there is none of that name.
    """
    known = forward.models()
    if recipe.forward not in known:
        raise RecipeError(f"forward = {recipe.forward!r:.60}: expected one of {', '.join(known)}")
    return known[recipe.forward]


def functions(recipe: Recipe) -> Learned:
    """Field, loss, inner loop and outer gradient of a recipe.

    Recipes that agree in `CHOICES` share them, and so what is compiled.
    """
    return _functions(json.dumps({name: getattr(recipe, name) for name in CHOICES}))


@lru_cache(maxsize=32)
def _functions(choices: str) -> Learned:
    r = Recipe(**json.loads(choices))
    m, field = model(r), fields.build(**r.field)
    loss = tasks.regression(field, m.forward(r))
    inside = loss
    if r.context_fraction is not None:
        inside = tasks.context_pruned(field, loss, r.context_fraction)
    if r.step_sizes is None:
        adapt = inner.sgd(inside, r.inner_steps, r.inner_lr, resample=m.resample)
    else:
        adapt = inner.meta_sgd(inside, r.inner_steps, resample=m.resample)
    return Learned(field, loss, adapt, outer.METHODS[r.method](loss, adapt))


def with_changes(recipe: Recipe, **changes) -> Recipe:
    """`dataclasses.replace`, under a name that callers need not import dataclasses for."""
    return dataclasses.replace(recipe, **changes)
