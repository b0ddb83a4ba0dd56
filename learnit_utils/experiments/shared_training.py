"""Shared networks as runs with recipes: trained by `learnit train NAME`, scored, written, read.

A file holds the shared part and the own part from which a fit starts, in half precision.
"""

import dataclasses
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensors

from learnit_utils import _files, evaluate, inner, outer, shipped, train
from learnit_utils._files import FileError
from learnit_utils.evaluate import ADAM, SGD, Problem
from learnit_utils.experiments import run, shared_losses, store
from learnit_utils.experiments.recipe import Recipe
from learnit_utils.experiments.shared_losses import seen_tasks
from learnit_utils.experiments.shared_networks import Codes, Parts, Shared, build
from learnit_utils.experiments.store import SUFFIX, StoreError
from learnit_utils.forward import pixels
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel
from learnit_utils.signals.base import SPLITS
from learnit_utils.tasks import Tasks, subset
from learnit_utils.train import Monitor

FOLDER, PRECISION = "weights/shared", "float16"
NEAR = 0.03  # in values: for `signals.shapes`, as many picture sides from the curve
FITTED = 50  # Adam steps on the own part by which a joint training is watched


@dataclasses.dataclass(frozen=True)
class SharedRecipe:
    """All that decides the training of a shared network."""

    network: dict = dataclasses.field(
        default_factory=lambda: dict(kind="codes", width=112, depth=4, code=64)
    )
    training: Literal["joint", "amortised", "bilevel"] = "joint"
    signals: str = "faces"  # a module of learnit_utils.signals
    size: int = 64  # pixels of a side
    folder: str = ""  # a user's pictures instead, for the signals' `from_folder`
    limit: int | None = None  # training pictures
    prior: float = 0.0  # of the own part, in the joint training; `shared_losses.fitting`
    block: int = 2  # a step sees one pixel in every block x block; not in a bilevel training
    inner_steps: int = 3  # K of a bilevel training
    # What has a learned step size of its own there, if anything, and where they begin; without, the
    # own part moves by steps of length `inner_lr`.
    step_sizes: Literal["layer_step", "parameter", "parameter_step"] | None = None
    inner_lr: float = 1.0
    look: Literal["all", "near"] = "all"  # what inner steps see; `NEAR` the level 1/2 alone
    outer_lr: float = 1e-3  # largest step size of Adam on the shared part
    own_lr: float = 1e-2  # of the own parts in a joint training, of step sizes in a bilevel one
    clip: float | None = 1.0
    warmup: int = 50
    batch: int = 16
    steps: int = 2000
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """All settings, as JSON holds them."""
        return dataclasses.asdict(self)

    def load(self, split: str, **more) -> Any:
        """The signals of a split; `more` as in `Recipe.load`."""
        how = dict(signals=self.signals, size=self.size, limit=self.limit, folder=self.folder)
        return Recipe(**how).load(split, **more)


class TrainedShared(NamedTuple):
    """A trained shared network."""

    network: Shared
    parts: Parts  # the shared part, and the own part from which a fit starts
    recipe: SharedRecipe
    info: dict[str, Any]  # the manifest's entry


# --- a run --------------------------------------------------------------------------------------
def execute(
    name: str,
    recipe: SharedRecipe,
    out: Path,
    into: Path | None = None,
    *,
    verbose: bool = True,
    **monitor,
) -> Path:
    """Train, score on validation and test, and write; arguments and result as `run.execute`."""
    shared, data, provenance = _prepared(recipe)
    folder = out / name
    monitor.setdefault("every", max(250, recipe.steps // 8))
    few = subset(data.validation, run.LOOKED_AT)
    done = train.run(
        _gradient(shared, recipe),
        initial(shared, recipe, data.train.count),
        data.train,
        _optimizer(shared, recipe),
        recipe.steps,
        batch=recipe.batch,
        key=run.order_key(recipe.seed),
        monitor=Monitor(
            out=folder,
            probe=lambda parts: {"psnr": score(shared, recipe, begun(shared, recipe, parts), few)},
            announce=run.print_plan if verbose else None,
            **monitor,
        ),
    )
    parts = store.rounded(begun(shared, recipe, done.init), PRECISION)
    scores = {f"{s}_psnr": score(shared, recipe, parts, getattr(data, s)) for s in SPLITS[1:]}
    path = (into or folder) / (name + SUFFIX)
    about = dict(scores=scores, wall_seconds=round(done.wall_seconds, 1), data=provenance)
    save(path, shared, recipe, parts, **about, **store.environment())
    return path


def _prepared(recipe: SharedRecipe) -> tuple[Shared, SimpleNamespace, dict]:
    loaded = {split: recipe.load(split) for split in SPLITS}

    def tasks(d):
        mask = near(d.arrays) if recipe.look == "near" else None
        return as_seen(d.arrays, loaded["train"], mask, prior=recipe.prior)

    data = SimpleNamespace(**{split: tasks(d) for split, d in loaded.items()})
    return build(**recipe.network), data, {s: d.provenance for s, d in loaded.items()}


def near(arrays: np.ndarray) -> np.ndarray:
    """Where pictures (count, side, side, 1) are near the level 1/2: (count, side * side), bool."""
    return np.abs(arrays.reshape(len(arrays), -1) - 0.5) < NEAR


def as_seen(arrays: np.ndarray, lessons: Any, mask: np.ndarray | None = None, **how: Any) -> Tasks:
    """Pictures (count, side, side, channels) as tasks of a shared network.

    Args:
        arrays: the pictures.
        lessons: the `Dataset` of the training pictures, whose mean is what an encoder sees where it
            may not look.
        mask, how: as in `shared_losses.seen_tasks`.
    """
    plain = pixels.image_tasks(arrays)
    mean = pixels.image_tasks(lessons).each.mean(axis=0)
    return seen_tasks(plain.each, plain.shared, mean, mask, **how)


def initial(shared: Shared, recipe: SharedRecipe, count: int) -> Parts:
    """The parameters with which a training on `count` signals begins."""
    r = recipe
    key_shared, key_own = jax.random.split(jax.random.key(r.seed))
    first = shared.init(key_shared)
    if r.training == "joint":
        each = jax.vmap(lambda key: shared.start(first, key))
        return Parts(first, each(jax.random.split(key_own, count)))
    own = shared.start(first, key_own)
    if r.training == "bilevel" and r.step_sizes is not None:
        own = inner.with_step_sizes(own, r.inner_steps, r.inner_lr, r.step_sizes)
    return Parts(first, own)


def begun(shared: Shared, recipe: SharedRecipe, parts: Parts) -> Parts:
    """The parameters from which a new signal is fitted: those trained, without the table."""
    if recipe.training == "joint":
        return parts._replace(own=shared.start(parts.shared, jax.random.key(recipe.seed)))
    return parts


def _gradient(shared: Shared, recipe: SharedRecipe) -> outer.MetaGradient:
    r = recipe
    if r.training == "bilevel":
        return shared_losses.bilevel(shared, r.inner_steps, r.inner_lr)
    if r.training == "amortised":
        return shared_losses.amortised(shared, r.size, r.block)
    return shared_losses.joint(shared, r.size, r.block)


def _optimizer(shared: Shared, recipe: SharedRecipe) -> optax.GradientTransformation:
    """Adam on what is shared; on own parts and step sizes with a step size of its own.

    In a joint training the own parts have no momentum, so that those outside a batch rest.
    """
    r, warmup = recipe, min(recipe.warmup, recipe.steps // 10)
    most = outer.adam(r.outer_lr, r.steps, decay="cosine", warmup=warmup, clip=r.clip)
    decayed = optax.cosine_decay_schedule(r.own_lr, r.steps, alpha=0.01)
    if r.training == "amortised":
        return most
    if r.training == "joint":
        resting = optax.adam(decayed, b1=0.0, b2=0.99)
        return optax.multi_transform(dict(shared=most, own=resting), Parts("shared", "own"))

    def groups(parts):
        labels = jax.tree.map(lambda leaf: "most", parts.shared)
        if isinstance(labels, Codes):
            labels = labels._replace(log_scale="rates")
        return Parts(labels, jax.tree.map(lambda leaf: "rates", parts.own))

    return optax.multi_transform(dict(most=most, rates=optax.adam(decayed)), groups)


# --- at test time -------------------------------------------------------------------------------
def plain(parts: Parts) -> Parts:
    """Parameters without learned step sizes, as optimizers take them."""
    return parts._replace(own=Init.of(parts.own).theta)


@cache
def problem(shared: Shared) -> Problem:
    """Fit the own part where a task may be looked at; judged where it is judged."""
    return Problem(shared_losses.fitting(shared), shared_losses.judging(shared))


def score(shared: Shared, recipe: SharedRecipe, parts: Parts, tasks: Tasks) -> float:
    """Mean PSNR in dB over whole pictures.

    Of an amortised network as it is, of one trained bilevel after the steps it was trained with,
    and after a joint training when `FITTED` steps of Adam, of step size 0.1, have fitted the own
    part.
    """
    if recipe.training == "bilevel":
        losses = jax.jit(_gradient(shared, recipe).losses)
        return float(decibel(losses(parts, tasks, evaluate.task_keys(tasks))).mean())
    how = (ADAM, 0.1, FITTED) if recipe.training == "joint" else (SGD, 0.0, 1)
    found = evaluate.progress(problem(shared), parts, tasks, *how, how[-1])
    return float(decibel(found.held_out[:, -1]).mean())


# --- files --------------------------------------------------------------------------------------
def save(path: Path, shared: Shared, recipe: SharedRecipe, parts: Parts, **info) -> None:
    """Write the parameters and their entry in the manifest beside them.

    Tensors of zeros, as where a displacement begins, are left out.

    Raises:
        StoreError: values that are not finite in half precision.
    """
    arrays = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(parts):
        name = jax.tree_util.keystr(keys)
        with np.errstate(over="ignore"):  # refused below
            arrays[name] = np.asarray(leaf).astype(PRECISION)
        if not np.isfinite(arrays[name]).all():
            raise StoreError(f"{path}: {name} has values that are not finite in {PRECISION}")
    arrays = {name: a for name, a in arrays.items() if a.any()}
    about = dict(shared=dict(shared.spec), settings=recipe.settings(), precision=PRECISION)
    _files.enter(path.parent, path.name, tensors(arrays), **about, **info)


def load(name_or_path: str | Path) -> TrainedShared:
    """A shipped shared network by name, or a file by its path.

    Raises:
        StoreError: unknown, damaged, or not what its manifest says.
    """
    given = Path(name_or_path)
    path = given if given.suffix == SUFFIX else shipped.ROOT / FOLDER / (given.name + SUFFIX)
    name, entry = f"shared network {str(name_or_path)!r:.60}", _manifest(path).get(path.name)
    if entry is None or "shared" not in entry:
        known = ", ".join(Path(n).stem for n in shipped.manifest(FOLDER)) or "none"
        raise StoreError(f"{name}: shipped are {known}")
    if trouble := _files.check(path, entry):
        raise StoreError(f"{name}: {trouble}")
    try:
        shared, recipe = build(**entry["shared"]), SharedRecipe(**entry["settings"])
        found = read_tensors(path.read_bytes())
    except (SafetensorError, ValueError, TypeError, KeyError) as e:
        raise StoreError(f"{name}: {str(e).splitlines()[0]}") from None
    like = jax.eval_shape(lambda: begun(shared, recipe, initial(shared, recipe, 1)))
    return TrainedShared(shared, _filled(like, found, name), recipe, entry)


def _manifest(path: Path) -> dict[str, dict]:
    try:
        return _files.manifest(path.parent)
    except FileError as e:
        raise StoreError(str(e)) from None


def _filled(like: Any, found: dict[str, np.ndarray], name: str) -> Any:
    """A pytree of that structure with the tensors of a file."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    wanted = {jax.tree_util.keystr(keys): leaf.shape for keys, leaf in leaves}
    shapes = {n: a.shape for n, a in found.items()}
    for odd in sorted(n for n in shapes if shapes[n] != wanted.get(n)):
        raise StoreError(f"{name}: {odd} is {shapes[odd]}, expected {wanted.get(odd)}")
    arrays = (found.get(n, np.zeros(shape)) for n, shape in wanted.items())
    return jax.tree.unflatten(tree, [jnp.asarray(a, jnp.float32) for a in arrays])
