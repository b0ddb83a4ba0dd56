"""Forward models M(T, p): what a network's output is compared with. One module each.

A module may offer forward models by name in a dictionary `MODELS`; a recipe's setting `forward`
picks one. Adding one touches no other module; the map in the docstring of `learnit_utils` names it.
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple


class Model(NamedTuple):
    """A forward model as a recipe uses it; `settings` has the attributes of a recipe."""

    forward: Callable[[Any], Callable]  # settings -> forward model, for `tasks.regression`
    tasks: Callable[[Callable, str], Any]  # (load, split) -> Tasks; load is (split, **options)
    problem: Callable[[Any, Any], Any]  # (field, settings) -> evaluate.Problem of test time
    score: Callable[[Any, Any, Any, Any], float]  # (learned, settings, init, tasks) -> PSNR in dB
    resample: bool = True  # whether every inner step draws anew what it measures


@cache
def models() -> dict[str, Model]:
    """Every forward model by name."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        here = importlib.import_module(f"{__name__}.{module.name}")
        found |= getattr(here, "MODELS", {})
    return found
