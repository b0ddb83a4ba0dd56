"""A chapter's parameters: read from its tagged cell, checked before anything runs.

The cell is the schema. Every line reads

    name: type = default  # help, in [low, high]        a range: [ ] closed, ( ) open ends
    name: type = default  # help, one of a, b, c        a choice

with type int, float, bool, str, list[int], list[float] or list[str]; a range or a choice holds for
each entry of a list, where "each of a, b, c" is a choice too. A long list may take several lines,
with the comment on the last. A text whose comment ends in "a path", "a folder" or "a file" may name
one, relative to where `learnit run` was called; "one of a, b; or a file" allows words beside it.

Three phrases in the help say when a parameter counts, so that no value is ignored without a word:

    width: int = 64  # units of a layer if weights is train, in [8, 512]
        another value than the default is refused where weights is something else;
    folder: str = ""  # pictures if weights is train; or a folder
        the same, but data of one's own are a wish: where weights is not given, it becomes train;
    size: int = 64  # pixels of a side unless weights is book, in [8, 178]
        the other way round;
    weights: str = "book"  # book: what ships; train: learn it, implies table = run; or a folder
        the value "train" sets table where it is not given, and refuses its default.
"""

import ast
import difflib
import io
import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

_KINDS = {
    "int": (int, "a whole number"),
    "float": (float, "a finite number"),
    "bool": (bool, "true or false"),
    "str": (str, "text"),
    "list[int]": (int, "whole numbers separated by commas, each"),
    "list[float]": (float, "finite numbers separated by commas, each"),
    "list[str]": (str, "texts separated by commas, each"),
}
_RANGE = re.compile(r",?\s*(?:each )?in ([\[(])\s*([^,\s]+),\s*([^\])\s]+)\s*([\])])\s*$")
_PLACE = re.compile(r"\ba (path|folder|file)\s*$")
_BESIDE = re.compile(r"\bone of ([\w.+-]+(?:, [\w.+-]+)*); or a (?:path|folder|file)\s*$")
_WORD = re.compile(r"(?:^|; )(\w+):")  # "book: the shipped ones; train: learn them; or a folder"
_CHOICE = re.compile(r",?\s*(?:(?:each )?one|each) of ([\w.+-]+(?:, [\w.+-]+)*)\s*$")
_PAIR = r"\w+ = [\w.+-]+"
_IMPLIES = re.compile(rf"(\w+):[^;]*\bimplies ({_PAIR}(?:, {_PAIR})*)\s*(?:$|;)")
_READ = re.compile(r"\b(if|unless) (\w+) is (\w+)\s*(?:$|;|, (?!and\b|or\b))")


NOT = {"if": "unless", "unless": "if"}


class ParameterError(ValueError):
    """A parameter, chapter or profile that does not fit; the message is one line."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell, and the check of a value against it."""

    name: str
    type: str
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    ends: str = "[]"
    choices: tuple[str, ...] = ()

    @classmethod
    def parse(cls, name: str, annotation: str, default: Any, comment: str) -> "Parameter":
        """Build from the parts of a line; its own default must pass its own check."""
        if annotation not in _KINDS:
            raise ParameterError(f"{name}: type {annotation!r}: one of {', '.join(_KINDS)}")
        limits: dict[str, Any] = {}
        if found := _RANGE.search(comment):
            left, low, high, right = found.groups()
            limits = dict(low=float(low), high=float(high), ends=left + right)
        elif found := _CHOICE.search(comment):
            limits = dict(choices=tuple(found[1].split(", ")))
        text = comment[: found.start()] if found else comment
        parameter = cls(name, annotation, default, text, **limits)
        parameter.check(default)
        return parameter

    @property
    def is_place(self) -> bool:
        """Whether it may name a file or folder."""
        return self.type == "str" and bool(_PLACE.search(self.help))

    @property
    def words(self) -> set[str]:
        """The values that are no file or folder, of a parameter that may name one.

        They are the default, the empty text, and those that its help explains, "WORD: ...", or
        lists, "one of ...; or a file".
        """
        beside = _BESIDE.search(self.help)
        listed = beside[1].split(", ") if beside else []
        return {"", self.default, *_WORD.findall(self.help), *listed} - {"empty"}

    @property
    def read_when(self) -> tuple[str, str, str] | None:
        """When it is read: "if" or "unless", another parameter, a value of that."""
        found = _READ.search(self.help)
        return found.groups() if found else None

    def implied(self, value: Any) -> dict[str, str]:
        """What a value of this parameter sets: {other parameter: its value as text}."""
        found: dict[str, str] = {}
        when = self.read_when
        if self.is_place and when and when[0] == "if" and value != self.default:
            found[when[1]] = when[2]
        for word, pairs in _IMPLIES.findall(self.help):
            if value == word:
                found |= dict(pair.split(" = ") for pair in pairs.split(", "))
        return found

    @property
    def allowed(self) -> str:
        """What may stand here, in words: "a whole number in [1, 1024]"."""
        words = _KINDS[self.type][1]
        if self.choices:
            many = f"{words} " if self.type.startswith("list") else ""
            return f"{many}one of {', '.join(self.choices)}"
        if self.low is None:
            return words.removesuffix(", each")
        low, high = (int(v) if v == int(v) else v for v in (self.low, self.high))
        return f"{words} in {self.ends[0]}{low}, {high}{self.ends[1]}"

    def placed(self, value: Any, here: Path) -> Any:
        """The value, made absolute if it names a file or folder."""
        if not self.is_place or value in self.words:
            return value
        return str(here / Path(value).expanduser())

    def missing(self, place: str) -> ParameterError:
        """The error of a place that is not there; it says which words may stand there, too."""
        words = sorted(self.words - {""})
        instead = f", nor one of {', '.join(words)}" if words else ""
        return ParameterError(f"{self.name} = {place}: no such file or folder{instead}")

    @cached_property
    def _adapter(self) -> TypeAdapter:
        base = Literal[self.choices] if self.choices else _KINDS[self.type][0]
        limits: dict[str, Any] = {"allow_inf_nan": False} if base is float else {}
        if self.low is not None:
            limits["ge" if self.ends[0] == "[" else "gt"] = self.low
            limits["le" if self.ends[1] == "]" else "lt"] = self.high
        return TypeAdapter(Annotated[base, Field(**limits)] if limits else base)

    def check(self, value: Any) -> Any:
        """The value in its type; text, as from a command line, is read first.

        A list may be JSON, or its entries separated by commas, in brackets or not.

        Raises:
            ParameterError: naming the parameter, what was given, which entry is at fault and what
                is allowed.
        """
        many = self.type.startswith("list")
        entries = _entries(value) if many and isinstance(value, str) else value
        if many and not (isinstance(entries, list) and entries):
            raise self._refused(value, "")
        if not many:
            return self._one(value, value, "")
        where = ": entry {}, {!r:.30}" if len(entries) > 1 else ""
        read = isinstance(value, str)
        return [
            self._one(e, value, where.format(i, e), read) for i, e in enumerate(entries, start=1)
        ]

    def _one(self, entry: Any, given: Any, where: str, read: bool = False) -> Any:
        """A value, or one entry of a list, in its type."""
        # YAML takes 1e-3 for a text; a command line knows nothing else.
        lax = isinstance(entry, str) and (read or not self.type.endswith("str]"))
        try:
            return self._adapter.validate_python(entry, strict=None if lax else True)
        except ValidationError:
            raise self._refused(given, where) from None

    def _refused(self, given: Any, where: str) -> ParameterError:
        shown = str(given) if str(given).isprintable() else repr(given)
        return ParameterError(f"{self.name} = {shown[:60]}{where}: {self.allowed}")


def _entries(text: str) -> list[Any]:
    """The entries of a list given as text: JSON, or separated by commas."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, list):
        return found
    text = text.strip().removeprefix("[").removesuffix("]")
    return [entry.strip().strip("\"'") for entry in text.split(",")] if text.strip() else []


Schema = dict[str, Parameter]


def read_schema(notebook: Path) -> Schema:
    """The parameters of a chapter, in the order of its cell.

    Raises:
        ParameterError: no notebook, no cell tagged `parameters`, or a line that does not parse.
    """
    try:
        cells = json.loads(notebook.read_text("utf8"))["cells"]
    except (OSError, ValueError, KeyError) as e:
        raise ParameterError(f"{notebook}: not a notebook ({type(e).__name__})") from None
    tagged = [c for c in cells if "parameters" in c["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook.name}: {len(tagged)} cells tagged parameters, 1 needed")
    return parse_cell("".join(tagged[0]["source"]))


def parse_cell(source: str) -> Schema:
    """The parameters of a cell's text; see the module's head for the form of a line."""
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    schema: Schema = {}
    for node in ast.parse(source).body:
        typed = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if not (typed and node.value):
            line = source.splitlines()[node.lineno - 1]
            raise ParameterError(f"not of the form `name: type = default  # help`: {line}")
        name, comment = node.target.id, comments.get(node.end_lineno, "")
        if not comment:
            raise ParameterError(f"{name}: a comment that says what it is is missing")
        default = ast.literal_eval(node.value)
        schema[name] = Parameter.parse(name, ast.unparse(node.annotation), default, comment)
    return schema


def nearest(word: str, words: Iterable[str]) -> str:
    """' (did you mean "x"?)' for the closest of the words, or ''."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""


def resolve(
    schema: Schema, given: Mapping[str, Any], profile: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Every parameter's value: given ones over a profile's over what they imply over defaults.

    Raises:
        ParameterError: an unknown name, a value that does not fit, one that would be ignored, or
            one that contradicts what another needs; see the module's head.
    """
    asked = {**(profile or {}), **given}
    for name in asked:
        if name not in schema:
            known = ", ".join(schema)
            raise ParameterError(
                f"no parameter {name!r:.60}{nearest(name, schema)}: one of {known}"
            )
    values = {n: p.check(asked[n]) if n in asked else p.default for n, p in schema.items()}
    for name, (value, why) in implied(schema, values, given).items():
        if name not in asked:
            values[name] = value
        elif name in given and values[name] == schema[name].default != value:
            raise ParameterError(
                f"{name} = {values[name]}: {why} = {str(values[why])[:60]} needs {name} = {value}"
            )
    for name in given:
        _refuse_ignored(schema, name, values)
    return values


def implied(
    schema: Schema, values: Mapping[str, Any], given: Iterable[str]
) -> dict[str, tuple[Any, str]]:
    """What values set beside themselves: {parameter: (value, which parameter sets it)}.

    What is set may set more, unless it is given.
    """
    found: dict[str, tuple[Any, str]] = {}
    waiting = [*schema]
    while waiting:
        why = waiting.pop(0)
        value = found[why][0] if why in found and why not in given else values[why]
        for name, text in schema[why].implied(value).items():
            if name in schema and name not in found:
                found[name] = schema[name].check(text), why
                waiting.append(name)
    return found


def _refuse_ignored(schema: Schema, name: str, values: Mapping[str, Any]) -> None:
    """Raise if a parameter differs from its default where nothing would read it."""
    when = schema[name].read_when
    if when is None or when[1] not in schema or values[name] == schema[name].default:
        return
    word, other, value = when
    if (values[other] == schema[other].check(value)) != (word == "if"):
        more = f"; add --{other} {value}" if word == "if" else ""
        raise ParameterError(
            f"{name} = {str(values[name])[:60]}: ignored {NOT[word]} {other} is {value}, and "
            f"{other} = {str(values[other])[:60]}{more}"
        )
