"""A chapter's parameters: read from its tagged cell, checked before anything runs.

The cell is the schema. Every line reads

    name: type = default  # help, in [low, high]        a range: [ ] closed, ( ) open ends
    name: type = default  # help, one of a, b, c        a choice

with type int, float, bool, str, list[int], list[float] or list[str]; a range or a choice holds for
each entry of a list, where "each of a, b, c" is a choice too. A long list may take several lines,
with the comment on the last. A text whose comment ends in "a path", "a folder" or "a file" may name
one, relative to where `learnit run` was called.
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
_WORD = re.compile(r"(?:^|; )(\w+):")  # "book: the shipped ones; train: learn them; or a folder"
_CHOICE = re.compile(r",?\s*(?:(?:each )?one|each) of ([\w.+-]+(?:, [\w.+-]+)*)\s*$")


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
        """The value, made absolute if it names a file or folder and is no word the chapter knows.

        Such words are the default, the empty text, and those that its help explains, "WORD: ...".
        """
        if not (self.type == "str" and _PLACE.search(self.help)):
            return value
        known = {"", self.default, *_WORD.findall(self.help)} - {"empty"}
        return value if value in known else str(here / Path(value).expanduser())

    @cached_property
    def _adapter(self) -> TypeAdapter:
        base = Literal[self.choices] if self.choices else _KINDS[self.type][0]
        limits: dict[str, Any] = {"allow_inf_nan": False} if base is float else {}
        if self.low is not None:
            limits["ge" if self.ends[0] == "[" else "gt"] = self.low
            limits["le" if self.ends[1] == "]" else "lt"] = self.high
        entry = Annotated[base, Field(**limits)] if limits else base
        many = self.type.startswith("list")
        return TypeAdapter(Annotated[list[entry], Field(min_length=1)] if many else entry)

    def check(self, value: Any) -> Any:
        """The value in its type; text, as from a command line, is read first.

        Raises:
            ParameterError: naming the parameter, what was given and what is allowed.
        """
        given = value
        if isinstance(value, str) and self.type.startswith("list"):
            value = value.strip().removeprefix("[").removesuffix("]").split(",")
            value = [entry.strip() for entry in value]
        lax = isinstance(value, str) or (isinstance(value, list) and isinstance(given, str))
        try:
            return self._adapter.validate_python(value, strict=None if lax else True)
        except ValidationError:
            shown = str(given) if str(given).isprintable() else repr(given)
            raise ParameterError(f"{self.name} = {shown[:60]}: {self.allowed}") from None


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


def resolve(schema: Schema, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter's value: the given ones, checked, over the defaults."""
    for name in given:
        if name not in schema:
            known = ", ".join(schema)
            raise ParameterError(
                f"no parameter {name!r:.60}{nearest(name, schema)}: one of {known}"
            )
    return {n: p.check(given[n]) if n in given else p.default for n, p in schema.items()}
