"""Kept results of the book: a change of anything that they depend on changes their key.

The chapters' own cells make the studies here, by their defaults, with the results that ship. Every
call by which a study asks for a piece is listed. Then one part of its arguments is changed, however
deep it lies: a weight, a pixel, a step size, K, a number of features, a constant that a loss has.
"""

import ast
import contextlib
import copy
import dataclasses
import datetime
import functools
import inspect
import json
import os
import platform
import re
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from learnit_utils import fields
from learnit_utils.book import results
from learnit_utils.experiments import _sources, fitting
from learnit_utils.experiments.content import digest

# The cells that make the studies and ask for pieces of each kind.
CELLS = {
    "01_siren": ["data", "contest-families", "contest"],
    "02_spectral_bias": ["signal", "rich", "rule", "rule-runs"],
    "03_maml_vs_reptile": ["load", "headline", "starts", "compare", "long", "straight", "table"],
    "04_class_priors": ["load", "data", "table", "margins", "exception", "mixture", "few"],
    "05_ntk_dictionary": ["load", "table-draws", "path", "curves-fits", "sides"],
    "06_ct": ["starts", "sigma", "sigma-measured", "all-starts", "tune", "test", "sweep"],
    "07_simple_nerf": ["learned", "objects", "study", "studies", "collapse", "tested", "views"],
    "08_phototourism": ["inits", "study", "collection", "choose", "tested", "depths"],
}
CELLS["06_ct"] += ["sweep-measured", "wedge"]
CELLS["07_simple_nerf"] += ["converge", "kept"]
CELLS["08_phototourism"] += ["certify"]
CELLS["09_shared_networks"] = ["networks", "data", "methods", "measure", "shapes"]
CELLS["09_shared_networks"] += ["shapes-measure", "solids"]
CELLS["10_few_shot"] = ["study", "measured", "shifts", "directions"]
CELLS["11_optimizers"] = ["load", "learn", "distances", "elsewhere", "cost"]
CELLS["11_optimizers"] += ["dictionaries", "iterations"]
TOO_LONG = {"ct_sigma"}  # a fit of it is measured in tests/experiments/test_few_views.py
pytestmark = pytest.mark.slow
STUDIES = set(results.shipped_studies())


class Asked(NamedTuple):
    """A piece that a study asked for."""

    study: str
    function: object
    args: tuple


class Listening(results.Results):
    """The results that ship, and a list of what is asked for."""

    def __init__(self):
        super().__init__("book")
        self.calls: list[Asked] = []

    def call(self, study, about, function, *args, cost=1):
        self.calls.append(Asked(study, function, args))
        return super().call(study, about, function, *args, cost=cost)

    def certify(self, *studies):
        """Not in the page: a test does so."""


def listen(chapter):
    """The calls of a chapter; fits that it makes in the page are left out."""
    book = Listening()
    shell = InteractiveShell(config=Config(HistoryManager=dict(enabled=False)))
    cells = json.loads((ROOT / f"notebooks/{chapter}.ipynb").read_text("utf8"))["cells"]
    sources = {c["id"]: "".join(c["source"]) for c in cells}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(results, "open", lambda choice: book)
        patched.setattr(
            fitting, "fit_anew", lambda *_: lambda grid: np.zeros((*grid.shape[:-1], 3))
        )
        for cell in ("setup", "parameters", *CELLS[chapter]):
            shell.run_cell(sources[cell]).raise_error()
    return book


class Named(dict):
    """By chapter."""

    def __repr__(self):  # Hypothesis writes down what a test is given
        return f"of {', '.join(self)}"


@pytest.fixture(scope="module")
def books():
    """Chapter -> the results it has read."""
    return Named((chapter, listen(chapter)) for chapter in CELLS)


@pytest.fixture(scope="module")
def asked(books):
    """Chapter -> its calls."""
    return Named((chapter, book.calls) for chapter, book in books.items())


# --- one part of something, changed -------------------------------------------------------------
def parts(x):
    """(label, value, put) of what something is made of; put(value) is a context with the whole."""
    if isinstance(x, fields.Field) and x.spec is not None and x.spec.get("kind") in fields.KINDS:
        yield "spec", x.spec, made(lambda v: unchecked(x, "spec", v))
    elif isinstance(x, Mapping):
        for k, v in x.items():
            yield k, v, made(lambda v, k=k: {**x, k: v})
    elif isinstance(x, tuple | list):
        for i, v in enumerate(x):
            yield named(x, i), v, made(lambda v, i=i: rebuilt(x, i, v))
    elif dataclasses.is_dataclass(x) and not isinstance(x, type):
        for f in dataclasses.fields(x):
            yield f.name, getattr(x, f.name), made(lambda v, f=f: unchecked(x, f.name, v))
    elif isinstance(x, functools.partial):
        yield "func", x.func, made(lambda v: functools.partial(v, *x.args, **x.keywords))
        yield "args", x.args, made(lambda v: functools.partial(x.func, *v, **x.keywords))
        yield "keywords", x.keywords, made(lambda v: functools.partial(x.func, *x.args, **v))
    elif isinstance(x, types.MethodType):
        yield "self", x.__self__, made(lambda v: types.MethodType(x.__func__, v))
    elif callable(x) and isinstance(inspect.unwrap(x), types.FunctionType):
        f = inspect.unwrap(x)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
            yield name, cell.cell_contents, assigned(x, cell, "cell_contents")
        if f.__defaults__:
            yield "defaults", f.__defaults__, assigned(x, f, "__defaults__")
        if f.__kwdefaults__:
            yield "kwdefaults", f.__kwdefaults__, assigned(x, f, "__kwdefaults__")


def unchecked(x, name, value):
    """Data with another value, whether or not it is a valid one."""
    new = copy.copy(x)
    object.__setattr__(new, name, value)
    return new


def named(x, i):
    return x._fields[i] if hasattr(x, "_fields") else i


def rebuilt(x, i, value):
    if hasattr(x, "_fields"):
        return x._replace(**{x._fields[i]: value})
    return type(x)([*x[:i], value, *x[i + 1 :]])


def made(make):
    return lambda value: contextlib.nullcontext(make(value))


def assigned(whole, owner, attribute):
    """In place, until the context is left."""

    @contextlib.contextmanager
    def put(value):
        before = getattr(owner, attribute)
        setattr(owner, attribute, value)
        try:
            yield whole
        finally:
            setattr(owner, attribute, before)

    return put


def leaves(x, path=(), inside=()):
    """The paths of what has no parts, and a change of."""
    if other(x) is not None:
        yield path
    elif id(x) not in inside and not isinstance(x, type | types.ModuleType):
        for i, (_, value, _) in enumerate(parts(x)):
            yield from leaves(value, (*path, i), (*inside, id(x)))


def other(x, at=0):
    """Something else of the same kind; an array differs in one entry; None where there is none."""
    if isinstance(x, bool):
        return not x
    if isinstance(x, int):
        return x + 1
    if isinstance(x, float):
        return float(np.nextafter(x, np.inf))
    if isinstance(x, str):
        return x + "_"
    if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jax.random.key_data(x) ^ 1)
    if isinstance(x, jax.Array | np.ndarray | np.generic) and np.size(x):
        raw = bytearray(np.asarray(x).tobytes())
        raw[at % len(raw)] ^= 1
        return np.frombuffer(bytes(raw), x.dtype).reshape(np.shape(x))
    return None


@contextlib.contextmanager
def changed(x, path, at):
    """x with the leaf at a path changed."""
    if not path:
        yield other(x, at)
        return
    _, value, put = list(parts(x))[path[0]]
    with changed(value, path[1:], at) as new, put(new) as whole:
        yield whole


def spelled(x, path):
    """A path, for people."""
    words = []
    for i in path:
        label, x, _ = list(parts(x))[i]
        words.append(str(label))
    return ".".join(words)


def arguments(call):
    """The arguments of a call by name."""
    return inspect.signature(call.function).bind(*call.args).arguments


def key(call, named):
    return digest(call.function, *named.values())


def one_of_each(calls):
    """The first call of every study by every function."""
    first = {}
    for call in calls:
        first.setdefault((call.study, call.function), call)
    return list(first.values())


# --- the property -------------------------------------------------------------------------------
def test_chapters_ask_for_every_study_that_ships(asked):
    assert {call.study for calls in asked.values() for call in calls} == STUDIES


@pytest.mark.parametrize("chapter", CELLS)
def test_every_part_of_a_piece_counts(asked, chapter):
    """Of one piece of each kind, every part."""
    for call in one_of_each(asked[chapter]):
        named = arguments(call)
        before = key(call, named)
        for path in leaves(named):
            what = spelled(named, path)
            with changed(named, path, 0) as otherwise:
                assert key(call, otherwise) != before, (call.study, what)
        assert key(call, named) == before  # all is as it was


@pytest.mark.parametrize("chapter", CELLS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(piece=st.integers(0, 2**31), part=st.integers(0, 2**31), at=st.integers(0, 2**31))
def test_any_part_of_any_piece_counts(asked, chapter, piece, part, at):
    """Of any piece, any one part; of an array, any one bit that is the lowest of a byte."""
    call = asked[chapter][piece % len(asked[chapter])]
    named = arguments(call)
    paths = list(leaves(named))
    path = paths[part % len(paths)]
    before, what = key(call, named), spelled(named, path)
    with changed(named, path, at) as otherwise:
        assert key(call, otherwise) != before, what
    assert key(call, named) == before


# What a key must depend on, as ends of the names of its parts.
LEARNED = ["0.w|seed.args.1", "lr", "cap|step", r"tasks(\.\w+)*"]
DEPENDS = {
    "ct": [*LEARNED, "features", "sigma"],
    "ct_sweep": [*LEARNED, "features"],
    "ct_sigma": ["inner_steps", "outer_lr", "features", "sigma", "cap"],
    "nerf_": [*LEARNED, "frequencies", "samples", "rays", "density", "every"],
    "photos_": [
        "0.w|seed.args.1",
        "lr",
        "step|steps",
        "tasks.each.support.pixels",
        "frequencies",
        "samples",
    ],
    "kernels": ["init.0.w", "side", "leading", "omega0", "width", "lr", "signals"],
    "contest": ["omega0", "sigma", "frequencies", "lr", "steps", "y"],
    "reach": ["omega0", "sigma", "tones.0.0", "n", "lr", "key"],
    "starts": ["init.theta.0.w", "lr", "steps", r"tasks\.each", "omega0", r"adapt\.steps"],
    "sharing": ["lr", "step|steps|cap", r"tasks\.each\.\w+", "width", "prior", "code"],
    "solids": [r"theta\.0\.w", "lr", r"how\.2", "cap|steps", r"support\.values", "truth", "omega0"],
    "transfer": ["init.0.w", "lr", r"tasks\.each", "omega0", r"adapt\.steps"],
    "optimizers": [r"validation\.each", r"tests\.faces\.each", "caps.0", "lr", "omega0", "rescale"],
    "distances": ["begin", "distance", r"lrs\.0", "steps", "key"],
    "sparse_codes": [r"theta\.0\.w", "train", "share", "steps", "atoms", "key"],
    "few_shot": ["seed", "shots", "kernel", "outer_lr", "inner_steps", "init.0.w|init.theta.0.w"],
}


def test_inits_data_steps_and_settings_are_among_the_parts(asked):
    """That the walk over the parts reaches them; without it the tests above would say little."""
    parts_of = {study: set() for study in STUDIES}
    for calls in asked.values():
        for call in calls:
            named = arguments(call)
            parts_of[call.study] |= {spelled(named, path) for path in leaves(named)}
    for study, found in parts_of.items():
        begins = max((b for b in DEPENDS if study.startswith(b)), key=len)
        for ends in DEPENDS[begins]:
            assert any(re.search(rf"(^|\.)({ends})$", name) for name in found), (study, ends)


def test_a_sample_that_differs_says_why():
    """Of pieces filed anew under changed code; the scoreboard shows them."""
    for found in results.filed_anew():
        for about, gap, why in found.samples:
            assert gap <= results.TOLERANCE or why, (found.study, about)


@pytest.mark.parametrize("study", sorted(STUDIES - TOO_LONG))
def test_the_cheapest_piece_of_every_shipped_result_is_reproduced(books, study):
    (book,) = (b for b in books.values() if any(call.study == study for call in b.calls))
    sample = book.sample(study)
    assert sample.difference <= results.TOLERANCE, sample


# --- sources ------------------------------------------------------------------------------------
SOURCES = [  # studies, the functions of their pieces, what these are computed by
    ("ct", "", "forward.tomography", "project"),
    ("nerf", "", "forward.rendering", "composite"),
    ("photos", "", "forward.rendering", "composite"),
    ("kernels", "held|stages|fits", "ntk", "gram"),
    ("kernels", "spectrum", "ntk", "operator"),
    ("contest", "", "experiments.fitting", "hold_then_fall"),
    ("reach", "", "ntk", "gram"),
    ("starts", "^curve$", "fields", "siren"),
    ("transfer", "^curve$", "inner", "sgd"),
]
CACHES = ("definitions", "_tree", "references", "source", "written")


def with_changed(monkeypatch, module, name):
    """From now on a definition of the package has one more statement."""
    plain = _sources._tree.__wrapped__

    def altered(asked):
        tree = plain(asked)
        for node in tree.body if asked == module else ():
            if getattr(node, "name", None) == name:
                node.body.insert(0, ast.parse("changed = True").body[0])
        return tree

    monkeypatch.setattr(_sources, "_tree", functools.cache(altered))
    forget()


def forget():
    for name in CACHES:
        if hasattr(getattr(_sources, name), "cache_clear"):
            getattr(_sources, name).cache_clear()


@pytest.mark.parametrize(("study", "by", "module", "name"), SOURCES)
def test_the_source_of_what_computes_a_piece_counts(asked, study, by, module, name, monkeypatch):
    calls = [c for found in asked.values() for c in one_of_each(found)]
    calls = [c for c in calls if c.study.startswith(study) and re.search(by, c.function.__name__)]
    before = [digest(c.function, *c.args) for c in calls]
    with_changed(monkeypatch, "learnit_utils.book.slider", "film")
    assert [digest(c.function, *c.args) for c in calls] == before  # another room
    monkeypatch.undo()
    with_changed(monkeypatch, f"learnit_utils.{module}", name)
    after = [digest(c.function, *c.args) for c in calls]
    monkeypatch.undo()
    forget()
    assert calls
    assert all(a != b for a, b in zip(after, before))
    assert [digest(c.function, *c.args) for c in calls] == before


# --- other machines -----------------------------------------------------------------------------
OLDER = {  # what compilers and NumPy may use, as on a CPU without the newer instructions
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL"
    " AVX512_ICL AVX512_SPR",
}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of x86 CPUs")
def test_an_older_cpu_finds_the_results_that_ship():
    """Keys do not depend on the last bits of what a CPU computes."""
    program = "import test_keys as t; print([len(t.listen(c).calls) > 0 for c in t.CELLS])"
    paths = os.pathsep.join([str(Path(__file__).parent), str(ROOT / "tests")])
    there = os.environ | OLDER | dict(PYTHONPATH=paths)
    done = subprocess.run([sys.executable, "-c", program], env=there, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout.decode().splitlines()[-1] == str([True] * len(CELLS))


@pytest.mark.parametrize("study", sorted(STUDIES))
def test_every_piece_that_ships_says_where_it_comes_from(study):
    pieces = results._shipped(study)["pieces"].values()
    assert pieces
    for piece in pieces:
        where = piece["provenance"]
        assert re.fullmatch("[0-9a-f]{7,40}(-dirty)?", where["commit"])
        assert datetime.date.fromisoformat(where["date"])
        assert where["device"]
        assert where["versions"]["jax"]
