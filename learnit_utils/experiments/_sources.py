"""The sources of the package: what a definition refers to, directly or not, and a digest of it all.

Python's own parser reads the modules; comments and docstrings are left out. What is followed are
names, attributes of modules, and imports of the form `from learnit_utils.x import y`.
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
        if used == "__path__":  # whoever walks over a room may use all that is in it
            found |= _room(module)
        elif used in here:
            found.add((module, used))
        elif used in imports:
            where, what = imports[used]
            taken = {what} if what else attributes
            found |= {(where, n) for n in taken if n is not None}
            found |= _whole(where) if None in taken else frozenset()
            found |= _room(where) if "__path__" in taken else frozenset()
    return frozenset(found)


def _whole(module: str) -> Names:
    return frozenset((module, name) for name in definitions(module))


def _room(module: str) -> Names:
    """All definitions in the modules of a room."""
    places = importlib.util.find_spec(module).submodule_search_locations or ()
    files = sorted({p.stem for place in places for p in Path(place).glob("*.py")} - {"__init__"})
    return frozenset().union(*(_whole(f"{module}.{name}") for name in files))


@cache
def source(module: str, name: str | None, own: ast.AST | None = None) -> str:
    """Digest of a definition and all that it refers to.

    Args:
        name: None for a whole module.
        own: a function, if the name is not that of a definition: a lambda expression.
    """
    todo = {(module, name)} if name else set(_whole(module))
    if own is not None and name not in definitions(module):
        todo |= _referred(module, [own])
    seen: set[tuple[str, str]] = set()
    while todo:
        here = todo.pop()
        seen.add(here)
        todo |= references(*here) - seen
    return hashed(sorted([what, written(where, what)] for where, what in seen))


@cache
def written(module: str, name: str) -> str:
    """Digest of a definition alone; of nothing, for a name that is handed on."""
    return hashed(plain(definitions(module).get(name, [])))
