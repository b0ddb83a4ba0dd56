"""The inits that a chapter's parameter `weights` names: shipped, trained now, or from a folder."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from learnit_utils.book import _training
from learnit_utils.experiments import run, shared_training, sharing, store
from learnit_utils.experiments.recipe import Recipe, with_changes
from learnit_utils.experiments.registry import RECIPES, SHARED
from learnit_utils.experiments.shared_training import SharedRecipe, TrainedShared
from learnit_utils.experiments.store import SNAPSHOTS, SUFFIX, StoreError, Trained


def load_or_train(choice: str, name: str, **changes) -> Trained:
    """A trained init.

    Args:
        choice: "book" for one that ships; "train" to run the recipe now, its state kept in the
            run's folder under a name that goes with settings, files and JAX; else a weight file,
            or a folder that holds NAME.safetensors.
        name: of the recipe.
        changes: settings to replace in the recipe, for "train".

    Raises:
        StoreError: nothing usable there, or a user's data that would not be used.
    """
    _refuse_data(choice, changes)
    if choice == "book":
        return store.load(name)
    if choice == "train":
        return train(name, with_changes(RECIPES[name], **changes))
    folder, file = Path(choice).expanduser(), name + SUFFIX
    places = (folder / file, folder / name / file) if folder.is_dir() else (folder,)
    return store.load(next((p for p in places if p.exists()), places[0]))


def _refuse_data(choice: str, changes: dict) -> None:
    """Data of one's own say nothing to weights that were learned before."""
    if choice != "train" and (folder := changes.get("folder")):
        raise StoreError(
            f"weights = {choice!r:.60}: learned from other data than {folder}; "
            'weights = "train" learns from these'
        )


def train(name: str, recipe: Recipe) -> Trained:
    """An init trained now, its state kept in the run's folder; see `load_or_train`.

    Unlike there, nothing else in the registry counts: what depends on this function depends on one
    recipe.
    """
    return store.load(_training.trained(run.execute, name, recipe))


def shared(choice: str, name: str, **changes) -> TrainedShared:
    """A trained network that many signals share; arguments as in `load_or_train`.

    The network's own settings are changed one by one: network=dict(width=32).
    """
    _refuse_data(choice, changes)
    if choice == "book":
        return shared_training.load(name)
    if choice == "train":
        network = SHARED[name].network | changes.pop("network", {})
        return train_shared(name, with_changes(SHARED[name], network=network, **changes))
    folder, file = Path(choice).expanduser(), name + SUFFIX
    places = (folder / file, folder / name / file) if folder.is_dir() else (folder,)
    return shared_training.load(next((p for p in places if p.exists()), places[0]))


def shared_trainings(
    choice: str, name: str, count: int, resize: Sequence[float] = (), **changes
) -> list[Callable[[], TrainedShared]]:
    """Several trainings of a shared network: the first as `shared`, the others where needed.

    Args:
        choice, name, changes: as in `shared`.
        count: how many.
        resize: size, width and work as in `sharing.resized`, if choice is "train".
    """
    if choice != "train":
        return sharing.trainings(shared(choice, name), train_shared, name, count)
    changes |= sharing.resized(SHARED[name], *resize) if resize else {}
    return sharing.trainings(shared(choice, name, **changes), train_shared, name, count)


def train_shared(name: str, recipe: SharedRecipe) -> TrainedShared:
    """A shared network trained now, its state kept in the run's folder."""
    return _trained_shared(name, json.dumps(recipe.settings()))


@cache  # every piece of a study asks for it
def _trained_shared(name, settings):
    recipe = SharedRecipe(**json.loads(settings))
    return shared_training.load(_training.trained(shared_training.execute, name, recipe))


def snapshots(choice: str, name: str, **changes) -> dict[int, Trained]:
    """The snapshots of a run, {outer step: init}, the finished one last.

    Arguments as for `load_or_train`; from a folder, whatever lies in its folder `snapshots`.
    """
    end = load_or_train(choice, name, **changes)
    steps = end.trained_by().snapshots
    if choice == "book":
        found = {s: store.load(f"{SNAPSHOTS}/{name}_{s}") for s in steps}
    else:
        given = Path(choice).expanduser()
        if choice == "train":
            given = _training.folder(with_changes(RECIPES[name], **changes))
        files = {s: f"{SNAPSHOTS}/{name}_{s}{SUFFIX}" for s in steps}
        places = [(s, folder / f) for s, f in files.items() for folder in (given, given / name)]
        found = {s: store.load(path) for s, path in places if path.exists()}
    return {**found, end.info["steps"]: end}
