"""Where a chapter trains, and what happens if that is not new: go on, wait, or begin anew."""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from learnit_utils import _files
from learnit_utils.book import report
from learnit_utils.train import TrainError

WAIT = 24 * 3600  # seconds
ANEW = "--anew"  # what a message names where a state can only be replaced


def folder(recipe: Any) -> Path:
    """Where a chapter trains a recipe: by its settings, the user's files, JAX and the devices."""
    settings = hashlib.sha256(json.dumps(recipe.settings(), sort_keys=True).encode())
    files = _files.content(Path(recipe.folder).expanduser()) if recipe.folder else "none"
    kinds = [device.device_kind for device in jax.local_devices()]
    where = hashlib.sha256(json.dumps([version("jax"), kinds]).encode())
    name = f"{settings.hexdigest()[:12]}-{files[:8]}-{where.hexdigest()[:8]}"
    return report.folder() / "training" / name


def trained(execute: Callable[..., Path], name: str, recipe: Any) -> Path:
    """The weights of a recipe, trained in its folder, where a run that was stopped goes on.

    A chapter that asks for what another one is learning waits for it. What cannot be continued is
    learned anew, and a line says why.

    Args:
        execute: `run.execute` or `shared_training.execute`.
        name: of the weights.
        recipe: of the training.

    Raises:
        TrainError: training that cannot go on.
    """
    place, live = folder(recipe), report.running() is None  # a page shows how it ended, no bar
    if why := _changed(place, recipe):
        print(f"{name}: {why}, so it is learned anew")
    with _alone(place / ".lock", name):
        try:
            return execute(name, recipe, place, progress=live)
        except TrainError as e:
            if ANEW not in str(e):
                raise
            print(f"{name}: its earlier state cannot be continued, so it is learned anew")
            return execute(name, recipe, place, progress=live, resume=False)


def _changed(place: Path, recipe: Any) -> str:
    """What differs from earlier trainings with the same settings; "" if nothing does."""
    settings, files, _ = place.name.split("-")
    earlier = [p.name.split("-") for p in place.parent.glob(f"{settings}-*-*")]
    if place.exists() or not earlier:
        return ""
    if all(parts[1] != files for parts in earlier):
        return f"what lies in {recipe.folder} has changed"
    return "JAX or the devices have changed"


@contextmanager
def _alone(lock: Path, name: str):
    """The body runs while no other process is in it for the same lock file."""
    with ExitStack() as held:
        try:
            held.enter_context(_files.locked(lock))
        except BlockingIOError:
            print(f"{name}: another chapter is learning it, waiting for that", flush=True)
            held.enter_context(_files.locked(lock, wait=WAIT))
        yield
