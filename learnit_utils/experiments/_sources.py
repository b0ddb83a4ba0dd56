"""The sources of the package: what a definition refers to, directly or not, and a digest of it all.

Python's own parser reads the modules; comments and docstrings are left out. What is followed are
names, attributes of modules, and imports of the form `from learnit_utils.x import y`. Of a room, a
package whose modules are found by walking over its `__path__`, those are followed that are named.
"""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "learnit_utils"
WALKED = "__path__"  # in the place of a definition: whatever the room has

Names = frozenset[tuple[str, str]]  # (module, name) of definitions of the package


def hashed(description: Any) -> str:
    """SHA-256 of something that is JSON."""
    return hashlib.sha256(text_of(description).encode("utf8", "surrogatepass")).hexdigest()


def text_of(description: Any) -> str:
    """JSON as a text."""
    return json.dumps(description, ensure_ascii=False)


def in_package(module: str | None) -> bool:
    """Whether a module is one of this package."""
    return (module or "").partition(".")[0] == PACKAGE


# --- syntax trees --------------------------------------------------------------------------------
def bare(tree: ast.AST) -> ast.AST:
    """A syntax tree without docstrings; comments are not in it."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        text = first.value if isinstance(first, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            node.body = body[1:] or [ast.Pass()]
    return tree


def plain(node: Any) -> Any:
    """A syntax tree as JSON, the same by every version of Python."""
    if isinstance(node, ast.AST):
        parts = [
            (k, v) for k, v in ast.iter_fields(node) if k not in ("ctx", "kind", "type_comment")
        ]
        return [
            type(node).__name__,
            *([k, plain(v)] for k, v in parts if v is not None and v != []),
        ]
    return [*map(plain, node)] if isinstance(node, list) else repr(node)


# --- definitions and what they refer to ----------------------------------------------------------
@cache
def definitions(module: str) -> dict[str, list[ast.stmt]]:
    """The statements of a module of the package by the names that they define or change."""
    found: dict[str, list[ast.stmt]] = {}
    for node in _tree(module).body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            for name in _bound(node) | (_changed(node) & found.keys()):
                found.setdefault(name, []).append(node)
    return found


@cache
def _tree(module: str) -> ast.Module:
    origin = importlib.util.find_spec(module).origin
    return bare(ast.parse(Path(origin).read_text("utf8")))


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement of a module defines."""
    if isinstance(node, DEFINITIONS):
        return {node.name}
    names = {n.name for n in ast.walk(node) if isinstance(n, DEFINITIONS)}
    stored = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return names | {n.id for n in stored if isinstance(n.ctx, ast.Store)}


def _changed(node: ast.stmt) -> set[str]:
    """The names whose values a statement may change: X[k] = v, X.add(v), @X.defjvp."""
    if isinstance(node, DEFINITIONS):
        decorators = (getattr(d, "func", d) for d in node.decorator_list)
        return {_root(d) for d in decorators if isinstance(d, ast.Attribute)} - {node.name}
    targets = (getattr(n, "targets", ()) for n in ast.walk(node))
    roots = {_root(target) for several in targets for target in several}
    if isinstance(node, ast.Expr):
        roots |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return roots


def _root(node: ast.AST) -> str:
    """X of X.a[b].c."""
    while not isinstance(node, ast.Name) and hasattr(node, "value"):
        node = node.value
    return getattr(node, "id", "")


def _imports(tree: ast.AST) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Local name, (module of the package, name in it or None for the module itself)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and in_package(node.module):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                what = (inner, None) if _is_module(inner) else (node.module, alias.name)
                yield alias.asname or alias.name, what


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def attributes_in(nodes: Iterable[ast.AST]) -> dict[str, set[str | None]]:
    """Name -> the attributes taken of it; None where it stands by itself."""
    taken: dict[str, set[str | None]] = {}
    below = [n for node in nodes for n in ast.walk(node)]
    owners = {id(n.value) for n in below if isinstance(n, ast.Attribute)}
    for n in below:
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name):
            taken.setdefault(n.value.id, set()).add(n.attr)
        elif isinstance(n, ast.Name) and id(n) not in owners:
            taken.setdefault(n.id, set()).add(None)
    return taken


@cache
def references(module: str, name: str) -> Names:
    """The definitions of the package that one of them refers to."""
    nodes = definitions(module).get(name)
    if nodes is not None:
        return _referred(module, nodes) - {(module, name)}
    where, what = dict(_imports(_tree(module))).get(name, (f"{module}.{name}", None))
    if what is not None:  # handed on from there
        return frozenset({(where, what)})
    return _whole(where) if _is_module(where) else frozenset()


def _referred(module: str, nodes: Iterable[ast.AST]) -> Names:
    """The definitions of the package that some nodes of a module refer to."""
    here, imports = definitions(module), dict(_imports(_tree(module)))
    imports |= {k: v for node in nodes for k, v in _imports(node)}
    found: set[tuple[str, str]] = set()
    for used, attributes in attributes_in(nodes).items():
        if used == WALKED:
            found.add((module, WALKED))
        elif used in here:
            found.add((module, used))
        elif used in imports:
            where, what = imports[used]
            taken = {what} if what else attributes
            found |= {(where, n) for n in taken if n is not None}
            found |= _whole(where) if None in taken else frozenset()
    return frozenset(found)


def _whole(module: str) -> Names:
    return frozenset((module, name) for name in definitions(module))


@cache
def reached(module: str, name: str | None, own: ast.AST | None = None) -> Names:
    """A definition and all that it refers to; of a room that is walked over, (room, WALKED).

    Args:
        name: None for a whole module.
        own: a function, if the name is not that of a definition: a lambda expression.
    """
    todo = {(module, name)} if name else set(_whole(module))
    if own is not None and name not in definitions(module):
        todo |= _referred(module, [own])
    return _closed(todo)


def _closed(todo: Iterable[tuple[str, str]]) -> Names:
    todo, seen = set(todo), set()
    while todo:
        here = todo.pop()
        seen.add(here)
        todo |= references(*here) - seen
    return frozenset(seen)


@cache
def source(module: str, name: str | None, own: ast.AST | None = None) -> str:
    """Digest of a definition and all that it refers to; arguments as of `reached`."""
    return _digest(reached(module, name, own))


def _digest(names: Names) -> str:
    return hashed(sorted([what, written(where, what)] for where, what in names))


@cache
def written(module: str, name: str) -> str:
    """Digest of a definition alone; of nothing, for a name that is handed on."""
    return hashed(plain(definitions(module).get(name, [])))


# --- what is found by its name -------------------------------------------------------------------
def members(names: Names, description: Any) -> list[list[str]]:
    """The modules of rooms that definitions walk over and whose names occur: [module, digest].

    A module has its own name and those under which it offers things: the keys of a dictionary whose
    name, for example MODELS, is a text in the room itself. A name occurs as a text, alone or joined
    to others by "+", in the definitions, in what they then refer to or in the description: a recipe
    names its signal classes and its forward model.

    Args:
        description: JSON.
    """
    found: set[str] = set()
    words, new = set(_names_in(description)), names
    while new:
        words |= {word for name in new for word in _words(*name)}
        rooms = {where for where, what in names if what == WALKED}
        named = {m for room in rooms for m, called in _room(room) if called & words} - found
        found |= named
        new = _closed(name for m in named for name in _whole(m)) - names
        names |= new
    return [[module, source(module, None)] for module in sorted(found)]


def _names_in(description: Any) -> Iterator[str]:
    if isinstance(description, str):
        yield from description.split("+")
    elif isinstance(description, list):
        for part in description:
            yield from _names_in(part)


@cache
def _words(module: str, name: str) -> frozenset[str]:
    """The texts of a definition that may be names."""
    nodes = (n for node in definitions(module).get(name, ()) for n in ast.walk(node))
    return frozenset(_names_in([n.value for n in nodes if isinstance(n, ast.Constant)]))


@cache
def _room(room: str) -> list[tuple[str, frozenset[str]]]:
    """The modules of a room, each with the names by which it may be asked for."""
    places = importlib.util.find_spec(room).submodule_search_locations or ()
    stems = sorted({p.stem for place in places for p in Path(place).glob("*.py")} - {"__init__"})
    offers = frozenset().union(*(_words(room, name) for name in definitions(room)))
    return [(f"{room}.{s}", frozenset({s}) | _keys(f"{room}.{s}", offers)) for s in stems]


def _keys(module: str, dictionaries: frozenset[str]) -> frozenset[str]:
    shown = [node for name in dictionaries for node in definitions(module).get(name, ())]
    keys = [k for node in shown if isinstance(node.value, ast.Dict) for k in node.value.keys]
    return frozenset(_names_in([k.value for k in keys if isinstance(k, ast.Constant)]))
