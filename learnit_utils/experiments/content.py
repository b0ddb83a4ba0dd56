"""A digest of what a computation depends on: values by their content, functions by their source.

A kept result is filed under the digest of the function and arguments it was computed from, so it
cannot be taken for the result of another init, data set, setting or renderer. Nothing is listed by
hand. For a function of this package the source is that of its definition and of every definition of
the package it refers to, directly or not, without comments and docstrings; for one of a notebook,
its own source and the values of the globals it names. What a function closes over counts, too, and
so do the methods of an argument's class. Other libraries count by the names of their functions;
their versions belong in a manifest.
"""

import ast
import dataclasses
import dis
import functools
import hashlib
import importlib.util
import json
import linecache
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learnit_utils.fields import KINDS, Field

PACKAGE = "learnit_utils"

Names = frozenset[tuple[str, str]]  # (module, name) of definitions of the package


def digest(*things: Any) -> str:
    """SHA-256 of the content of things, hexadecimal.

    >>> digest(1, [2.0, "a"]) == digest(1, [2.0, "a"]), digest(1) == digest(1.0)
    (True, False)

    Raises:
        TypeError: something whose content is unknown.
    """
    return _hashed(_describe(things, ()))


def _hashed(description: Any) -> str:
    return hashlib.sha256(_text(description).encode("utf8", "surrogatepass")).hexdigest()


def _text(description: Any) -> str:
    return json.dumps(description, ensure_ascii=False)


# --- values -----------------------------------------------------------------------------------
def _describe(x: Any, inside: tuple) -> Any:
    """JSON, equal for things of equal content; `inside` are the functions being described."""
    if x is None or isinstance(x, bool | int | str):
        return x
    if isinstance(x, float):
        return ["float", repr(float(x))]
    if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return ["key", str(x.dtype), np.asarray(jax.random.key_data(x)).tolist()]
    if isinstance(x, jax.Array | np.ndarray | np.generic):
        return _array(x, inside)
    if isinstance(x, Field) and x.spec is not None and x.spec.get("kind") in KINDS:
        source = _package_source(KINDS[x.spec["kind"]].__module__, x.spec["kind"])
        return ["field", _describe(dict(x.spec), inside), source]
    if isinstance(x, Mapping):
        return [
            "mapping",
            *_sorted([_describe(k, inside), _describe(v, inside)] for k, v in x.items()),
        ]
    if isinstance(x, tuple | list):
        kind = [] if type(x) in (tuple, list) else [_type(type(x), inside)]
        return ["sequence", *kind, [_describe(v, inside) for v in x]]
    if isinstance(x, set | frozenset):
        return ["set", *_sorted(_describe(v, inside) for v in x)]
    if isinstance(x, type):
        return _type(x, inside)
    if dataclasses.is_dataclass(x):
        values = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
        return [_type(type(x), inside), _describe(values, inside)]
    if isinstance(x, functools.partial):
        return ["partial", *(_describe(v, inside) for v in (x.func, x.args, x.keywords))]
    if isinstance(x, types.SimpleNamespace):
        return ["namespace", _describe(vars(x), inside)]
    if isinstance(x, range | Path | np.dtype):
        return [_name(type(x)), str(x)]
    if isinstance(x, types.ModuleType):
        return _module(x.__name__, [None])
    if callable(x):
        return _callable(x, inside)
    if type(x) is object:  # a mark that libraries give to what was not given
        return ["object"]
    raise TypeError(f"{_name(type(x))}: its content is unknown")


def _sorted(descriptions: Iterable) -> list:
    return sorted(descriptions, key=_text)


def _name(x) -> str:
    return f"{x.__module__}.{x.__qualname__}"


def _array(x, inside: tuple) -> list:
    a = np.asarray(x)
    if a.dtype.hasobject:
        return ["array", "object", list(a.shape), _describe(a.ravel().tolist(), inside)]
    return ["array", str(a.dtype), list(a.shape), hashlib.sha256(a.tobytes()).hexdigest()]


def _type(cls: type, inside: tuple) -> Any:
    """A class: one of this package by its source, one of a notebook by its methods."""
    if _in_package(cls.__module__):
        return [_name(cls), _package_source(cls.__module__, cls.__qualname__.partition(".")[0])]
    if _in_library(cls.__module__):
        return ["class", _name(cls)]
    if id(cls) in inside:
        return ["again", cls.__qualname__]
    inside, own = (*inside, id(cls)), {}
    for name, value in vars(cls).items():
        value = getattr(value, "fget", getattr(value, "__func__", value))  # property, classmethod
        written = isinstance(value, types.FunctionType) and value.__module__ == cls.__module__
        if written and value.__code__.co_filename != "<string>":  # not made by dataclass
            own[name] = value
    bases = [_type(base, inside) for base in cls.__bases__]
    return [_name(cls), bases, _describe(own, inside)]


# --- functions --------------------------------------------------------------------------------
def _callable(f: Any, inside: tuple) -> Any:
    if isinstance(f, types.MethodType):
        return ["method", _describe(f.__self__, inside), _callable(f.__func__, inside)]
    while not isinstance(f, types.FunctionType) and hasattr(f, "__wrapped__"):
        f = f.__wrapped__  # of jax.jit, functools.cache
    if isinstance(f, types.FunctionType):
        return _function(f, inside)
    owner = getattr(f, "__self__", None)
    if isinstance(f, types.BuiltinFunctionType) and not isinstance(owner, types.ModuleType | None):
        return ["method", _describe(owner, inside), f.__name__]
    module, name = (getattr(f, what, None) for what in ("__module__", "__qualname__"))
    if isinstance(f, np.ufunc) or (_in_library(type(f).__module__) and hasattr(f, "__name__")):
        return ["library", module or _name(type(f)), name or f.__name__]
    if not hasattr(f, "__dict__"):
        raise TypeError(f"{_name(type(f))}: its content is unknown")
    return [_type(type(f), inside), _describe(vars(f), inside)]


def _function(f: types.FunctionType, inside: tuple) -> Any:
    code, module = f.__code__, f.__globals__.get("__name__", "")
    if id(f) in inside:
        return ["again", f.__qualname__]
    inside, closed = (*inside, id(f)), {}
    for name, cell in zip(code.co_freevars, f.__closure__ or ()):
        try:
            closed[name] = _describe(cell.cell_contents, inside)
        except ValueError:  # not assigned yet
            closed[name] = ["empty"]
    if _in_library(module):
        return ["library", module, code.co_qualname, _sorted(closed.items())]
    own = _own_node(f)
    if _in_package(module):
        used = _package_source(module, code.co_qualname.partition(".")[0], own)
    else:
        used = _sorted(_globals(f, own, inside).items())
    defaults = [_describe(v, inside) for v in (f.__defaults__, f.__kwdefaults__)]
    return ["function", _plain(own), used, _sorted(closed.items()), defaults]


def _own_node(f: types.FunctionType) -> ast.AST:
    """The definition of a function, or a lambda expression.

    Raises:
        TypeError: its source is not to be had.
    """
    code = f.__code__
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename, f.__globals__))
    args = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    found = [n for n in _functions_of(text) if _begins(n) == (code.co_firstlineno, code.co_name)]
    found = [n for n in found if _arguments(n) == args]
    if len(found) > 1:  # lambdas of one line: by the place of what they return
        returned = [p for p in code.co_positions() if None not in p][-1]
        found = [n for n in found if returned == _place(getattr(n, "body", None))]
    if len(found) != 1:
        raise TypeError(f"{_name(f)}: its source is not to be had")
    return found[0]


@functools.lru_cache(maxsize=256)
def _functions_of(text: str) -> list[ast.AST]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return [n for n in ast.walk(_bare(ast.parse(text))) if isinstance(n, kinds)]


def _begins(node: ast.AST) -> tuple[int, str]:
    lines = [d.lineno for d in getattr(node, "decorator_list", ())]
    return min([node.lineno, *lines]), getattr(node, "name", "<lambda>")


def _arguments(node: ast.AST) -> tuple[str, ...]:
    a = node.args
    return tuple(arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs))


def _place(node: Any) -> tuple | None:
    """As in `code.co_positions`."""
    if not isinstance(node, ast.AST):
        return None
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _globals(f: types.FunctionType, own: ast.AST, inside: tuple) -> dict[str, Any]:
    """The globals that a notebook's function names, by their content."""
    found, attributes = {}, _attributes([own])
    for name in sorted(_global_names(f.__code__) & f.__globals__.keys()):
        value = f.__globals__[name]
        if isinstance(value, types.ModuleType):
            found[name] = _module(value.__name__, sorted(attributes.get(name, {None}), key=str))
        else:
            found[name] = _describe(value, inside)
    return found


def _global_names(code: types.CodeType) -> set[str]:
    names = {
        i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    return names.union(*(_global_names(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _module(name: str, taken: Iterable[str | None]) -> Any:
    """What is taken from a module; None for all of it."""
    if not _in_package(name):
        return ["module", name]
    return ["module", name, [[n, _package_source(name, n)] for n in taken]]


def _in_package(module: str | None) -> bool:
    return (module or "").partition(".")[0] == PACKAGE


@cache
def _in_library(module: str | None) -> bool:
    """Whether a module is Python's or installed, rather than a notebook, a script or beside one."""
    top = (module or "").partition(".")[0]
    if top in ("", "__main__") or top == PACKAGE:
        return False
    if top in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(module)
    except (ValueError, ModuleNotFoundError):  # made while running
        return False
    places = (spec.origin, *(spec.submodule_search_locations or ())) if spec else ()
    installed = {"site-packages", "dist-packages"}
    return any(installed & set(Path(place or "").parts) for place in places)


# --- the sources of the package -----------------------------------------------------------------
def _bare(tree: ast.AST) -> ast.AST:
    """A syntax tree without docstrings; comments are not in it."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        text = first.value if isinstance(first, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            node.body = body[1:] or [ast.Pass()]
    return tree


def _plain(node: Any) -> Any:
    """A syntax tree as JSON, the same by every version of Python."""
    if isinstance(node, ast.AST):
        parts = [
            (k, v) for k, v in ast.iter_fields(node) if k not in ("ctx", "kind", "type_comment")
        ]
        return [
            type(node).__name__,
            *([k, _plain(v)] for k, v in parts if v is not None and v != []),
        ]
    return [*map(_plain, node)] if isinstance(node, list) else repr(node)


@cache
def _definitions(module: str) -> dict[str, list[ast.stmt]]:
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
    return _bare(ast.parse(Path(origin).read_text("utf8")))


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
        if isinstance(node, ast.ImportFrom) and _in_package(node.module):
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


def _attributes(nodes: Iterable[ast.AST]) -> dict[str, set[str | None]]:
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
def _references(module: str, name: str) -> Names:
    """The definitions of the package that one of them refers to."""
    nodes = _definitions(module).get(name)
    if nodes is not None:
        return _referred(module, nodes) - {(module, name)}
    where, what = dict(_imports(_tree(module))).get(name, (f"{module}.{name}", None))
    if what is not None:  # handed on from there
        return frozenset({(where, what)})
    return _whole(where) if _is_module(where) else frozenset()


def _referred(module: str, nodes: Iterable[ast.AST]) -> Names:
    """The definitions of the package that some nodes of a module refer to."""
    definitions, imports = _definitions(module), dict(_imports(_tree(module)))
    imports |= {k: v for node in nodes for k, v in _imports(node)}
    found: set[tuple[str, str]] = set()
    for used, attributes in _attributes(nodes).items():
        if used == "__path__":  # whoever walks over a room may use all that is in it
            found |= _room(module)
        elif used in definitions:
            found.add((module, used))
        elif used in imports:
            where, what = imports[used]
            taken = {what} if what else attributes
            found |= {(where, n) for n in taken if n is not None}
            found |= _whole(where) if None in taken else frozenset()
            found |= _room(where) if "__path__" in taken else frozenset()
    return frozenset(found)


def _whole(module: str) -> Names:
    return frozenset((module, name) for name in _definitions(module))


def _room(module: str) -> Names:
    """All definitions in the modules of a room."""
    places = importlib.util.find_spec(module).submodule_search_locations or ()
    files = sorted({p.stem for place in places for p in Path(place).glob("*.py")} - {"__init__"})
    return frozenset().union(*(_whole(f"{module}.{name}") for name in files))


@cache
def _package_source(module: str, name: str | None, own: ast.AST | None = None) -> str:
    """Digest of a definition and all that it refers to.

    Args:
        name: None for a whole module.
        own: a function, if the name is not that of a definition: a lambda expression.
    """
    todo = {(module, name)} if name else set(_whole(module))
    if own is not None and name not in _definitions(module):
        todo |= _referred(module, [own])
    seen: set[tuple[str, str]] = set()
    while todo:
        here = todo.pop()
        seen.add(here)
        todo |= _references(*here) - seen
    found = [[what, _plain(_definitions(where).get(what, []))] for where, what in sorted(seen)]
    return _hashed(_sorted(found))
