"""A digest of what a computation depends on: values by their content, functions by their source.

A kept result is filed under the digest of the function and arguments it was computed from, so it
cannot be taken for the result of another init, data set, setting or renderer. Nothing is listed by
hand. For a function of this package the source is that of its definition and of every definition of
the package it refers to, directly or not, without comments and docstrings; for one of a notebook,
its own source and the values of the globals it names. What a function closes over counts, too, and
so do the methods of an argument's class. Signal classes and forward models that are found by name
count if their names occur in the arguments or in the sources. Other libraries count by the names of
their functions; their versions belong in a manifest.
"""

import ast
import dataclasses
import dis
import functools
import hashlib
import importlib.util
import inspect
import linecache
import sys
import types
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learnit_utils.experiments import _sources
from learnit_utils.fields import KINDS, Field

_REACHED: ContextVar[set] = ContextVar("definitions of the package that a digest has reached")


def digest(*things: Any) -> str:
    """SHA-256 of the content of things, hexadecimal.

    >>> digest(1, [2.0, "a"]) == digest(1, [2.0, "a"]), digest(1) == digest(1.0)
    (True, False)

    Raises:
        TypeError: something whose content is unknown.
    """
    reached: set[tuple[str, str]] = set()
    token = _REACHED.set(reached)
    try:
        description = _describe(things, ())
    finally:
        _REACHED.reset(token)
    found_by_name = _sources.members(frozenset(reached), description)
    return _sources.hashed([description, found_by_name] if found_by_name else description)


def _source(module: str, name: str | None, own: ast.AST | None = None) -> str:
    """`_sources.source`; what it reaches is noted for the digest that is being made."""
    _REACHED.get().update(_sources.reached(module, name, own))
    return _sources.source(module, name, own)


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
        source = _source(KINDS[x.spec["kind"]].__module__, x.spec["kind"])
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
    return sorted(descriptions, key=_sources.text_of)


def _name(x) -> str:
    return f"{x.__module__}.{x.__qualname__}"


def _array(x, inside: tuple) -> list:
    a = np.asarray(x)
    if a.dtype.hasobject:
        return ["array", "object", list(a.shape), _describe(a.ravel().tolist(), inside)]
    return ["array", str(a.dtype), list(a.shape), hashlib.sha256(a.tobytes()).hexdigest()]


def _type(cls: type, inside: tuple) -> Any:
    """A class: one of this package by its source, one of a notebook by its methods."""
    if _sources.in_package(cls.__module__):
        return [_name(cls), _source(cls.__module__, cls.__qualname__.partition(".")[0])]
    if _in_library(cls.__module__):
        return ["class", _name(cls)]
    if id(cls) in inside:
        return ["again", cls.__qualname__]
    inside, own = (*inside, id(cls)), {}
    for name, value in vars(cls).items():
        for part in ("fget", "func", "__func__"):  # of a property, cached property, class method
            value = getattr(value, part, value)
        f = inspect.unwrap(value) if callable(value) else None
        written = isinstance(f, types.FunctionType) and f.__module__ == cls.__module__
        if written and f.__code__.co_filename != "<string>":  # not made by dataclass
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
    if _sources.in_package(module):
        used = _source(module, code.co_qualname.partition(".")[0], own)
    else:
        used = _sorted(_globals(f, own, inside).items())
    defaults = [_describe(v, inside) for v in (f.__defaults__, f.__kwdefaults__)]
    return ["function", _sources.plain(own), used, _sorted(closed.items()), defaults]


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
    if len(found) > 1:  # lambda expressions in one line
        found = [n for n in found if _place(n.body) == _span(code)]
    if len(found) != 1:
        raise TypeError(f"{_name(f)}: its source is not to be had")
    return found[0]


@functools.lru_cache(maxsize=256)
def _functions_of(text: str) -> list[ast.AST]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    return [n for n in ast.walk(_sources.bare(ast.parse(text))) if isinstance(n, kinds)]


def _begins(node: ast.AST) -> tuple[int, str]:
    lines = [d.lineno for d in getattr(node, "decorator_list", ())]
    return min([node.lineno, *lines]), getattr(node, "name", "<lambda>")


def _arguments(node: ast.AST) -> tuple[str, ...]:
    a = node.args
    return tuple(arg.arg for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs))


def _place(node: ast.expr) -> tuple:
    """First and last (line, column) of an expression."""
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _span(code: types.CodeType) -> tuple:
    """First and last (line, column) of what a lambda expression computes."""
    known = [p for p in code.co_positions() if None not in p and p[2:] != (0, 0)]
    return min((p[0], p[2]) for p in known), max((p[1], p[3]) for p in known)


def _globals(f: types.FunctionType, own: ast.AST, inside: tuple) -> dict[str, Any]:
    """The globals that a notebook's function names, by their content."""
    found, attributes = {}, _sources.attributes_in([own])
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
    if not _sources.in_package(name):
        return ["module", name]
    return ["module", name, [[n, _source(name, n)] for n in taken]]


@cache
def _in_library(module: str | None) -> bool:
    """Whether a module is Python's or installed, rather than a notebook, a script or beside one."""
    top = (module or "").partition(".")[0]
    if top in ("", "__main__") or top == _sources.PACKAGE:
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
