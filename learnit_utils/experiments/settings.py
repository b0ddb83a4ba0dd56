"""Settings of a recipe from a command line: `learnit train NAME --set field.width=128`.

`NAME=VALUE` replaces a field of the recipe, `NAME.KEY=VALUE` an entry of one that is a mapping: of
the network, or of the options that its signals are loaded with. `none` stands for None; a list is
JSON, or its entries separated by commas.
"""

import ast
import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from learnit_utils import fields
from learnit_utils.experiments import shared_networks
from learnit_utils.experiments.recipe import Recipe, RecipeError, signal_modules

NOTHING = ("none", "null")  # in any case
CONFIG = ConfigDict(allow_inf_nan=False)


def changed(recipe: Any, settings: Iterable[str]) -> Any:
    """A recipe, of any kind, with settings replaced, each given as the text NAME=VALUE.

    Two things follow: another kind of network, or other signals, leave out entries of the recipe
    that they do not have; and pictures in colour, or without, get a field of as many channels.

    Raises:
        RecipeError: an unknown setting, with the names that there are; a value of the wrong kind;
            or a field whose channels are not those of the pictures.
    """
    before, given = recipe, list(settings)
    known = {f.name: f.type for f in dataclasses.fields(recipe)}
    for setting in given:
        name, equals, value = setting.partition("=")
        name, _, part = name.partition(".")
        if not equals or name not in known or bool(part) != (known[name] is dict):
            raise _unknown(setting, known, recipe)
        if part:
            new = getattr(recipe, name) | {part: _entry(recipe, name, part, value)}
        else:
            new = _typed(name, known[name], value)
        recipe = dataclasses.replace(recipe, **{name: new})
    names = (n for n, kind in known.items() if kind is dict)
    recipe = dataclasses.replace(recipe, **{n: _fitting(recipe, n, given) for n in names})
    return _with_channels(before, recipe, given)


def followed(recipe: Any, settings: Iterable[str]) -> dict[str, Any]:
    """What `changed` sets beside the settings: {"field.channels": 3}."""
    settings = list(settings)
    before, after = (getattr(r, "field", {}) for r in (recipe, changed(recipe, settings)))
    given = {s.partition("=")[0] for s in settings}
    new = {f"field.{k}": v for k, v in after.items() if before.get(k) != v}
    return {name: value for name, value in new.items() if name not in given}


def _fitting(recipe: Any, name: str, given: list[str]) -> dict[str, Any]:
    """A mapping of a recipe without the entries that it cannot have, if those were not given."""
    allowed, held = _entries(recipe, name), getattr(recipe, name)
    if allowed is None:
        return held
    asked = {s.partition("=")[0] for s in given}
    for part in held:
        if part not in allowed and f"{name}.{part}" in asked:
            raise _no_entry(name, part, allowed)
    return {k: v for k, v in held.items() if k in allowed}


def _with_channels(before: Any, recipe: Any, given: list[str]) -> Any:
    """The recipe with a channel per colour, if it was so before."""

    def colours(r):
        return 1 if r.gray else 3

    if not isinstance(recipe, Recipe) or before.field.get("channels") != colours(before):
        return recipe
    if recipe.field["channels"] == colours(recipe):
        return recipe
    if any(s.startswith("field.channels=") for s in given):
        raise RecipeError(
            f"field.channels = {recipe.field['channels']}: expected {colours(recipe)} "
            f"with gray = {recipe.gray}"
        )
    return dataclasses.replace(recipe, field=recipe.field | dict(channels=colours(recipe)))


def of_field(kind: str | None, settings: Iterable[str]) -> dict[str, Any]:
    """Settings of a field as keywords, each given as the text NAME=VALUE.

    Args:
        kind: of `fields.KINDS`; of any kind unless given.

    Raises:
        RecipeError: another kind, a setting that it does not have, or a value of the wrong kind.
    """
    if kind is not None and kind not in fields.KINDS:
        raise RecipeError(f"kind = {kind!r:.60}: expected one of {', '.join(fields.KINDS)}")
    allowed: dict[str, Any] = {}
    for name, make in fields.KINDS.items():
        allowed |= _parameters(make) if kind in (None, name) else {}
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in allowed:
            what = f"a {kind} network" if kind else "a network"
            names = ", ".join(allowed)
            raise RecipeError(f"{setting!r:.60}: expected NAME=VALUE; {what} has {names}")
        found[name] = _typed(name, allowed[name], value)
    return found


# --- names --------------------------------------------------------------------------------------
def _unknown(setting: str, known: dict[str, Any], recipe: Any) -> RecipeError:
    asked = setting.partition("=")[0]
    parts = [f"{n}.{k}" for n, t in known.items() if t is dict for k in _entries(recipe, n) or ()]
    inside = [p for p in parts if p.partition(".")[2] == asked]
    flat = [n for n, t in known.items() if t is not dict]
    close = inside or difflib.get_close_matches(asked, [*flat, *parts], n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close and close[0] != asked else ""
    names = ", ".join(n + (".KEY" if t is dict else "") for n, t in known.items())
    return RecipeError(f"{setting!r:.60}: expected NAME=VALUE, with NAME one of {names}{hint}")


def _no_entry(name: str, part: str, allowed: dict[str, Any]) -> RecipeError:
    close = difflib.get_close_matches(part, allowed, n=1, cutoff=0.6)
    hint = f"; did you mean {name}.{close[0]}?" if close else ""
    there = ", ".join(allowed) or "no entries"
    return RecipeError(f"{name}.{part:.40}: with these settings {name} has {there}{hint}")


def _entries(recipe: Any, name: str) -> dict[str, Any] | None:
    """The entries that a mapping of a recipe may have, with their types; None if unknown."""
    kinds = dict(field=fields.KINDS, network=shared_networks.KINDS).get(name)
    if kinds is not None:
        kind = getattr(recipe, name).get("kind")
        return None if kind not in kinds else {"kind": str} | _parameters(kinds[kind])
    if name != "options" or any(n not in signal_modules() for n in recipe.signals.split("+")):
        return None
    found: dict[str, Any] = {}
    for module in (signal_modules()[n] for n in recipe.signals.split("+")):
        own = getattr(module, "from_folder", None) if recipe.folder else None
        loader = own or getattr(module, "load", None) or module.from_folder
        if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(loader).parameters.values()):
            return None
        found |= _parameters(loader)
    return {k: v for k, v in found.items() if k not in ("path", "split", "size", "gray", "limit")}


def _parameters(function: Callable) -> dict[str, Any]:
    """The parameters of a function, with their types."""
    found = inspect.signature(function).parameters.values()
    own = {p.name: p.annotation for p in found if p.kind is not p.VAR_KEYWORD}
    common = any(p.kind is p.VAR_KEYWORD for p in found)
    return own | (dict(fields.Common.__annotations__) if common else {})


# --- values -------------------------------------------------------------------------------------
def _entry(recipe: Any, name: str, part: str, text: str) -> Any:
    """The value of an entry of a mapping, in its type where that is known."""
    allowed = _entries(recipe, name)
    if allowed is None or part not in allowed:
        return _literal(text)
    return _typed(f"{name}.{part}", allowed[part], text)


def _literal(text: str) -> Any:
    """A number, a truth value, None or a list where it is one, else the text itself."""
    words = {"true": True, "false": False} | dict.fromkeys(NOTHING)
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _typed(name: str, kind: Any, text: str) -> Any:
    if text.lower() in NOTHING and type(None) in get_args(kind):
        return None
    try:
        adapter = TypeAdapter(kind, config=CONFIG)
    except PydanticSchemaGenerationError:
        return _literal(text)
    try:
        if kind == tuple[int, ...]:
            words = text.strip("[]() ").split(",")
            words = [w.strip(" \"'") for w in words]
            return adapter.validate_python([w for w in words if w])
        return adapter.validate_strings(text)
    except ValidationError as e:
        raise RecipeError(f"{name} = {text!r:.60}: {e.errors()[0]['msg']}") from None
