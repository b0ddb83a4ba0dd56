"""A digest of what a computation depends on: values by their content, functions by their source.

A kept result is filed under the digest of the function and arguments it was computed from, so it
cannot be taken for the result of another init, data set, setting or renderer. Nothing is listed by
hand. For a function of this package the source is that of its definition and of every definition of
the package it refers to, directly or not, without comments and docstrings; for one of a notebook,
its own source and the values of the globals it names. What a function closes over counts, too.
Other libraries count by the names of their functions; their versions belong in a manifest.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import json
import textwrap
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from learnit_utils.fields import Field

PACKAGE = "learnit_utils"


def digest(*things: Any) -> str:
    """SHA-256 of the content of things, hexadecimal.

    >>> digest(1, [2.0, "a"]) == digest(1, [2.0, "a"]), digest(1) == digest(1.0)
    (True, False)

    Raises:
        TypeError: something whose content is unknown.
    """
    text = json.dumps(_describe(things, ()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _describe(x: Any, inside: tuple) -> Any:
    """JSON, equal for things of equal content; `inside` are the functions being described."""
    if x is None or isinstance(x, bool | int | str):
        return x
    if isinstance(x, float):
        return ["float", repr(x)]
    if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return ["key", np.asarray(jax.random.key_data(x)).tolist()]
    if isinstance(x, jax.Array | np.ndarray | np.generic):
        return _array(x)
    if isinstance(x, Field) and x.spec is not None:
        return ["field", _describe(dict(x.spec), inside)]
    if isinstance(x, Mapping):
        return ["mapping", sorted([str(k), _describe(v, inside)] for k, v in x.items())]
    if isinstance(x, tuple | list):
        name = [] if type(x) in (tuple, list) else [_name(type(x))]
        return ["sequence", *name, [_describe(v, inside) for v in x]]
    if isinstance(x, type):
        return _source(x, inside)
    if dataclasses.is_dataclass(x):
        values = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
        return [_name(type(x)), _describe(values, inside)]
    if isinstance(x, functools.partial):
        return ["partial", *(_describe(v, inside) for v in (x.func, x.args, x.keywords))]
    if isinstance(x, range | Path | types.SimpleNamespace):
        return [_name(type(x)), str(x)]
    if callable(x):
        return _function(x, inside)
    raise TypeError(f"{_name(type(x))}: its content is unknown")


def _name(x) -> str:
    return f"{x.__module__}.{x.__qualname__}"


def _array(x) -> list:
    a = np.ascontiguousarray(np.asarray(x))
    return ["array", str(a.dtype), list(a.shape), hashlib.sha256(a.data).hexdigest()]


# --- functions --------------------------------------------------------------------------------
def _function(f: Any, inside: tuple) -> Any:
    if isinstance(f, types.MethodType):
        return ["method", _describe(f.__self__, inside), _function(f.__func__, inside)]
    while not isinstance(f, types.FunctionType) and hasattr(f, "__wrapped__"):
        f = f.__wrapped__  # of jax.jit, functools.cache
    if not isinstance(f, types.FunctionType):
        return _source(f, inside)
    if id(f) in inside:
        return ["again", f.__qualname__]
    inside = (*inside, id(f))
    cells = zip(f.__code__.co_freevars, f.__closure__ or ())
    closed = {name: _describe(cell.cell_contents, inside) for name, cell in cells}
    defaults = [_describe(v, inside) for v in (f.__defaults__, f.__kwdefaults__)]
    return [_source(f, inside), sorted(closed.items()), defaults]


def _source(f: Any, inside: tuple) -> Any:
    """The source behind a function or class."""
    module = getattr(f, "__module__", None) or ""
    qualname = getattr(f, "__qualname__", None)
    if qualname is None:  # an object with __call__
        return [_name(type(f)), _describe(vars(f), inside)]
    if module.partition(".")[0] == PACKAGE:
        return [module, qualname, _package_source(module, qualname.partition(".")[0])]
    spec = importlib.util.find_spec(module) if module not in ("", "__main__") else None
    where = (spec.origin or "") if spec else ""
    if spec and ("site-packages" in where or spec.origin in ("built-in", "frozen") or not where):
        return ["library", module, qualname]
    if spec and not isinstance(f, types.FunctionType):
        return ["library", module, qualname]
    return _local_source(f, inside)


def _local_source(f: Any, inside: tuple) -> Any:
    """A function of a notebook or a script: its source, and the globals that it names."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(f)).strip())
    except SyntaxError:  # a lambda in the middle of an expression
        tree = ast.parse("0")
        tree.body = [ast.Expr(ast.Constant(f.__code__.co_code.hex() + str(f.__code__.co_consts)))]
    except OSError:
        raise TypeError(f"{_name(f)}: its source is not to be had") from None
    named = {}
    if isinstance(f, types.FunctionType):
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        for name in sorted(names & f.__globals__.keys()):
            value = f.__globals__[name]
            if isinstance(value, types.ModuleType):
                named[name] = _module_uses(value, name, tree)
            elif value is not f:
                named[name] = _describe(value, inside)
    return ["source", ast.dump(_bare(tree)), sorted(named.items())]


def _module_uses(module: types.ModuleType, alias: str, tree: ast.AST) -> Any:
    """What a notebook's function takes from a module."""
    if module.__name__.partition(".")[0] != PACKAGE:
        return module.__name__
    taken = _attributes(tree).get(alias, {None})
    return [
        [module.__name__, str(n), _package_source(module.__name__, n)]
        for n in sorted(taken, key=str)
    ]


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


@cache
def _definitions(module: str) -> tuple[dict[str, ast.AST], dict[str, tuple[str, str | None]]]:
    """The definitions of a module of the package, and what its names are imported from."""
    spec = importlib.util.find_spec(module)
    tree = _bare(ast.parse(Path(spec.origin).read_text("utf8")))
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for n in ast.walk(target):
                    if isinstance(n, ast.Name):
                        before = [found[n.id]] if isinstance(node, ast.AugAssign) else []
                        found[n.id] = ast.Module([*before, node], [])
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            root = node.value.func  # sine.defjvp(...): belongs to what it is called on
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in found:
                found[root.id] = ast.Module([found[root.id], node], [])
    for node in tree.body:  # decorators like @sine.defjvp belong to what they decorate for
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Attribute) and isinstance(decorator.value, ast.Name):
                owner = decorator.value.id
                if owner in found and owner != node.name:
                    found[owner] = ast.Module([found[owner], node], [])
    return found, _imports(tree)


def _imports(tree: ast.AST) -> dict[str, tuple[str, str | None]]:
    """Local name -> (module of the package, name in it or None for the module itself)."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == PACKAGE:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = importlib.util.find_spec(node.module) and _is_module(inner)
                found[alias.asname or alias.name] = (
                    (inner, None) if is_module else (node.module, alias.name)
                )
    return found


@cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _attributes(tree: ast.AST) -> dict[str, set[str]]:
    """name -> the attributes taken of it."""
    taken: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            taken.setdefault(node.value.id, set()).add(node.attr)
    return taken


@cache
def _references(module: str, name: str) -> frozenset[tuple[str, str]]:
    """(module, name) of the package's definitions that one definition refers to."""
    definitions, imports = _definitions(module)
    node = definitions.get(name)
    if node is None:  # re-exported from elsewhere
        return frozenset({imports[name]} if imports.get(name, (0, None))[1] else ())
    imports = imports | _imports(node)
    attributes, found = _attributes(node), set()
    for used in {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}:
        if used in definitions and used != name:
            found.add((module, used))
        elif used in imports:
            where, what = imports[used]
            names = {what} if what else attributes.get(used, set())
            found |= {(where, n) for n in names}
    return frozenset(found)


@cache
def _package_source(module: str, name: str | None) -> str:
    """Digest of a definition and all that it refers to; of a whole module if name is None."""
    todo = {(module, n) for n in ([name] if name else _definitions(module)[0])}
    seen: set[tuple[str, str]] = set()
    while todo:
        here = todo.pop()
        seen.add(here)
        todo |= _references(*here) - seen
    texts = []
    for where, what in sorted(seen):
        node = _definitions(where)[0].get(what)
        if node is not None:
            texts.append(f"{what}: {ast.dump(node)}")
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()
