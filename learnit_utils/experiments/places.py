"""A place that many have photographed: the inits learned from it, and what they have not seen."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from learnit_utils.experiments.recipe import Recipe
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.experiments.seeds import random_inits
from learnit_utils.experiments.store import Trained
from learnit_utils.fields import Field
from learnit_utils.forward.photometric import photograph_tasks
from learnit_utils.metrics import decibel
from learnit_utils.signals import landmarks
from learnit_utils.signals.landmarks import Photographs
from learnit_utils.tasks import Tasks

RUNS = dict(one="1", early="1_early", many="64")  # init -> how the names of its recipes end


# --- inits ------------------------------------------------------------------------------------
def recipe_names(place: str, run: str, seeds: int = 1) -> list[str]:
    """The recipes of an init of a place, of at most so many seeds.

    >>> recipe_names("gate", "many", 2), recipe_names("basilica", "many", 2)
    (['gate_reptile64', 'gate_reptile64_1'], ['basilica_reptile64'])
    """
    first = f"{place}_reptile{RUNS[run]}"
    names = [first, *(f"{first}_{n}" for n in range(1, seeds))]
    return [name for name in names if name in RECIPES]


def resized(name: str, inner_steps: int, gradients: int, **net: Any) -> dict[str, Any]:
    """What changes in a recipe with other inner steps, other work and another network.

    Args:
        name: of the recipe; one with a single inner step keeps it.
        inner_steps: K of the others.
        gradients: of a whole run, of which one that is stopped early takes its share; 0 for as many
            as the recipes take.
        net: settings of the field to replace.

    Returns:
        The settings field, inner_steps and steps.
    """
    recipe = RECIPES[name]
    usual = max(r.steps * r.inner_steps for r in map(RECIPES.get, _runs_of_a_place()))
    each = 1 if recipe.inner_steps == 1 else inner_steps
    steps = (gradients or usual) * recipe.steps * recipe.inner_steps // (usual * each)
    return dict(field=recipe.field | net, inner_steps=each, steps=steps)


def _runs_of_a_place() -> list[str]:
    return [recipe_names(landmarks.LANDMARKS[0], run)[0] for run in RUNS]


def contenders(
    field: Field, trained: Mapping[str, Sequence[Trained]], key: jax.Array, seeds: int
) -> dict[str, list[Any]]:
    """The inits of a study: "scratch", drawn anew for each seed, and those that were trained."""
    scratch = {"scratch": random_inits(field, key, seeds)}
    return scratch | {run: [w.init for w in found] for run, found in trained.items()}


# --- photographs that no init has seen ----------------------------------------------------------
def known(place: str, names: Sequence[str], what: str) -> list[Any]:
    """What is known of photographs of a built landmark; empty for another place.

    Args:
        what: "weather" or "passers_by".
    """
    if place not in landmarks.LANDMARKS:
        return []
    return [landmarks.table(place)["photos"][name][what] for name in names]


class HeldOut(NamedTuple):
    """Photographs of a place that no init was trained on, each with others in its light."""

    place: str  # a built landmark, or empty
    validation: Tasks  # each a Split: the photograph; others (count, others, ...)
    test: Tasks
    sources: dict[str, Photographs]  # "validation", "test": the photographs

    def known(self, what: str) -> list[Any]:
        """What is known of the test photographs; see `known`."""
        return known(self.place, self.sources["test"].names, what)

    def first(self, weather: str) -> int:
        """The first test photograph in some weather; the first of all where none is known."""
        found = self.known("weather")
        return found.index(weather) if weather in found else 0


def load(recipe: Recipe, validation: int, test: int) -> HeldOut:
    """The photographs that a recipe holds out, at most so many of each split."""
    place = "" if recipe.folder else recipe.options["landmark"]
    sources, found = {}, []
    for split, limit in dict(validation=validation, test=test).items():
        sources[split] = recipe.load(split, limit=limit)
        others = recipe.load(split, part="others", limit=limit)
        found.append(photograph_tasks(sources[split], others))
    return HeldOut(place, *found, sources)


# --- what judges a fit ------------------------------------------------------------------------
def right_half(errors: np.ndarray) -> np.ndarray:
    """PSNR in dB of the right half; errors (tasks, marks, 1 + others) -> (tasks, marks)."""
    return decibel(errors[..., 0])


def other_views(errors: np.ndarray) -> np.ndarray:
    """Mean PSNR in dB of other views in the same light; shapes as for `right_half`."""
    return decibel(errors[..., 1:]).mean(axis=-1)


def metrics(built: bool) -> dict[str, Any]:
    """The metrics of a study; in the light of a real photograph there are no other views."""
    return {"right half": right_half} | ({"other views": other_views} if built else {})
