"""The digest under which results are filed: equal for equal content, and only then."""

import ast
import dataclasses
import functools
import importlib
import json
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from learnit_utils import evaluate, fields, inner, tasks
from learnit_utils.experiments import _sources, content, protocol, recipe, registry, store
from learnit_utils.experiments.content import digest
from learnit_utils.experiments.recipe import Recipe
from learnit_utils.forward import photometric
from learnit_utils.inner import Init
from learnit_utils.tasks import Split, Tasks


def all_different(things):
    """Each thing has a digest of its own, and the same one twice."""
    found = [digest(x) for x in things]
    assert found == [digest(x) for x in things]
    assert len(set(found)) == len(found)


# --- values -----------------------------------------------------------------------------------
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ARRAYS = arrays.arrays(
    st.sampled_from([np.float32, np.float64, np.int32, np.uint8, np.bool_]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.tuples(inside, inside)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inside, max_size=3)
    ),
    max_leaves=6,
)


def copied(x):
    """Another object of the same content; mappings in another order."""
    if isinstance(x, dict):
        return {k: copied(v) for k, v in reversed(x.items())}
    if isinstance(x, list | tuple):
        return type(x)(map(copied, x))
    return x.copy() if isinstance(x, np.ndarray) else x


def spelled(x):
    """A text that tells any two values apart; a list is a tuple, as in JSON."""
    if isinstance(x, dict):
        return "dict" + spelled(sorted(spelled([k, v]) for k, v in x.items()))
    if isinstance(x, list | tuple):
        return f"[{','.join(map(spelled, x))}]"
    if isinstance(x, np.ndarray):
        return f"{x.dtype}{x.shape}{x.tobytes().hex()}"
    return f"{type(x).__name__} {x!r}"


@given(VALUES)
def test_equal_content_has_equal_digests(x):
    assert digest(copied(x)) == digest(x)


@given(st.lists(VALUES, min_size=2, max_size=5))
def test_digests_differ_exactly_where_contents_do(values):
    assert len({digest(x) for x in values}) == len(set(map(spelled, values)))


@given(ARRAYS.filter(lambda a: a.size), st.data())
def test_one_changed_entry_changes_the_digest(a, data):
    raw = bytearray(a.tobytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1
    b = np.frombuffer(bytes(raw), a.dtype).reshape(a.shape)
    assert digest(a) != digest(b)
    assert digest(a) == digest(a.copy(order="F"))


def test_a_digest_is_that_of_all_things_together():
    all_different([(), (1,), (1, 2), (2, 1), ((1, 2),), (1, (2,)), ([1], 2)])
    assert digest(1, 2) != digest((1, 2)) != digest([1], 2)


def test_values_of_different_kinds_differ():
    all_different([1, 1.0, True, "1", np.float32(1), np.int64(1), [1], {1: 1}, None])
    all_different([np.float32(1), np.float32([1]), np.float32([[1]])])
    assert digest(np.float64(0.1)) == digest(0.1)  # it is a float
    all_different([0.0, -0.0, float("nan"), float("inf"), 1e-300, 0.1, 0.1 + 2**-55 * 3])
    all_different([{"1": 0}, {1: 0}, {1.0: 0}, {True: 0}, [["1", 0]]])
    all_different([["float", "1.0"], 1.0, ["sequence"], "jax.numpy.float32", jnp.float32])
    all_different([np.zeros(0, np.float32), np.zeros((0, 3), np.float32), np.zeros((3, 0))])
    all_different([range(3), range(4), Path("a"), Path("b"), "a", {1, 2}, {1, 3}, np.dtype("f4")])


def test_arrays_go_by_content_and_not_by_where_they_are():
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    for other in (
        jnp.asarray(a),
        np.asfortranarray(a),
        np.repeat(a, 2, 1)[:, ::2],
        a.astype("<f4"),
    ):
        assert digest(other) == digest(a)
    assert digest(jnp.bfloat16(1)) != digest(jnp.float16(1))
    dates = np.array(["2024-01-01"], "M8[D]")
    assert digest(dates) != digest(dates + 1)
    objects = [np.array([[1], "a"], object) for _ in range(2)]
    assert digest(objects[0]) == digest(objects[1])
    assert digest(objects[0]) != digest(np.array([[2], "a"], object))


def test_a_long_array_in_a_namespace_counts_in_full():
    one, two = (types.SimpleNamespace(train=np.zeros(5000)) for _ in range(2))
    assert digest(one) == digest(two)
    two.train[2500] = 1
    assert digest(one) != digest(two)


def test_keys_go_by_their_content_and_are_not_used_up():
    key = jax.random.key(3)
    all_different([key, jax.random.key(4), jax.random.split(jax.random.clone(key)), 3, [0, 3]])
    assert digest(key) == digest(jax.random.key(3))
    all_different([jax.random.key(0, impl="rbg"), jax.random.key(0)])
    jax.random.normal(key)  # would fail if the digest had consumed it
    assert digest(key) == digest(jax.random.key(3))


def test_inits_tasks_and_settings_differ_in_any_part():
    w, other = [fields.Layer(jnp.ones((2, 3)), jnp.zeros(3))], jnp.ones((2, 4))
    all_different([w, [tuple(w[0])], Init(w), Init(w, w), Init(w, other), (w, None), Init(other)])
    all_different([Tasks(w), Tasks(w, 1), Tasks(Split(w, w)), Tasks(Split(w, other)), Split(w, w)])
    base = Recipe()
    settings = dict(seed=1, samples=33, outer_lr=2e-5, options=dict(kind="cars"), limit=3)
    changed = [dataclasses.replace(base, **{k: v}) for k, v in settings.items()]
    all_different([base, *changed])
    assert digest(base) == digest(Recipe())


def test_fields_go_by_their_spec():
    same = [fields.siren(8, 3, 20.0, 2) for _ in range(2)]
    assert digest(same[0]) == digest(same[1])
    siren = functools.partial(fields.siren, 8, 3, 20.0)
    all_different([siren(2), siren(3), siren(2, hidden_omega0=3.0), siren(2, scheme="code")])
    all_different([fields.relu(8, 3), fields.posenc(8, 3), fields.fourier(8, 3, 1.0)])


def test_a_field_of_ones_own_goes_by_its_functions():
    def own(factor, **spec):
        apply = lambda theta, x: factor * theta * x  # noqa: E731
        return fields.Field(lambda key: factor, apply, None, None, **spec)

    assert digest(own(2)) == digest(own(2)) != digest(own(3))
    named = dict(spec=dict(kind="mine"))
    assert digest(own(2, **named)) != digest(own(3, **named))


class Open:
    __slots__ = ()


@pytest.mark.parametrize(
    "x",
    [Open(), np.random.default_rng(0), memoryview(b""), iter([]), {"a": [Open()]}, object],
    ids=lambda x: type(x).__name__,
)
def test_what_is_unknown_is_refused(x):
    if x is object:
        x = sys.stdout
    with pytest.raises(TypeError, match=r"content is unknown|its source is not to be had"):
        digest(1, x)


def test_a_function_without_source_is_refused():
    made = {}
    exec("def f(x): return x", made)
    with pytest.raises(TypeError, match="f: its source is not to be had"):
        digest(made["f"])


# --- functions --------------------------------------------------------------------------------
def closing_over(value, default=0, *, keyword=0):
    def f(x, default=default, *, keyword=keyword):
        return x + value + default + keyword

    return f


def test_closures_defaults_and_partial_arguments_count():
    f = closing_over
    all_different([f, f(1), f(2), f(1.0), f(1, 1), f(1, keyword=1), f(np.ones(2)), f(np.ones(3))])
    assert digest(f(np.ones(2))) == digest(f(np.ones(2)))
    p = functools.partial
    all_different([f, p(f), p(f, 1), p(f, 2), p(f, value=1), p(f, 1, 2), p(p(f, 1), 2, keyword=1)])
    all_different([f(f(1)), f(f(2)), f(p(f, 1))])


def other_branch(which):
    if which:

        def f(x):
            return x + 1
    else:

        def f(x):
            return x + 2

    return f


def test_functions_of_one_name_differ_by_their_bodies():
    all_different([other_branch(True), other_branch(False)])


# fmt: off
LAMBDAS = [lambda x: x + 1, lambda x: x + 2, lambda y: y + 1, lambda x: x.real, lambda x: x.imag,
           lambda x: lambda x: x, (lambda: lambda x: x)(), lambda x, y=1: x, lambda x, y=2: x,
           lambda x: [x for _ in "a"], lambda x: [x for _ in "b"], lambda x: len(x), lambda x: 1,
           lambda x: 1 if x else 2, lambda x: 1 if x else 3, lambda x: not x, lambda x: x and 1]
# fmt: on


def test_lambdas_of_one_line_are_told_apart():
    all_different(LAMBDAS)
    all_different([*fields._HEADS.values(), LAMBDAS[0]])


SETTING, HELPERS, TABLE = 1.0, {"f": closing_over(1)}, np.arange(3)


def uses_setting(x):
    return x * SETTING


def uses_local(x):
    SETTING = 2.0
    return [x * SETTING for _ in range(3)]


def uses_helper(x):
    return [HELPERS["f"](y) for y in x]


def uses_both(x):
    return lambda: uses_setting(x) + TABLE


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("SETTING", 2.0, {uses_setting, uses_both}),
        ("TABLE", np.arange(4), {uses_both}),
        ("HELPERS", {"f": closing_over(2)}, {uses_helper}),
        ("uses_setting", uses_local, {uses_both}),
        ("UNRELATED", 3, set()),
    ],
)
def test_globals_that_a_local_function_names_count(monkeypatch, name, value, changed):
    functions = [uses_setting, uses_local, uses_helper, uses_both]
    before = {f: digest(f) for f in functions}
    monkeypatch.setitem(globals(), name, value)
    assert {f for f in functions if digest(f) != before[f]} == changed


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1)


def test_functions_that_call_themselves_or_each_other():
    def closed(n):
        return n and closed(n - 1)

    all_different([even, odd, closed])


class Callable_:
    """With a setting."""

    def __init__(self, value):
        self.value = value

    def __call__(self, x):
        return self.value * x

    def method(self, x):
        return self(x)


class Other(Callable_):
    def __call__(self, x):
        return self.value + x


@dataclasses.dataclass
class Data:
    value: float = 1.0

    @property
    def twice(self):
        return 2 * self.value


class Pair(NamedTuple):
    a: int
    b: int


def test_objects_methods_and_classes():
    all_different([Callable_(1), Callable_(2), Other(1), Callable_, Other, Callable_(1).method])
    all_different([Callable_(1).method, Callable_(2).method, Other(1).method, Callable_.method])
    all_different([Data(), Data(2.0), Data, Pair(1, 2), Pair(2, 1), (1, 2), Pair])
    all_different([dict.get, {}.get, {"a": 1}.get, "a".join, "b".join, len, max])


def test_a_changed_method_of_a_class_counts(monkeypatch):
    before = [digest(x) for x in (Callable_(1), Other(1), Data(), Callable_(1).method)]
    monkeypatch.setattr(Callable_, "__call__", Other.__call__)
    monkeypatch.setattr(Data, "twice", property(lambda self: 3 * self.value))
    after = [digest(x) for x in (Callable_(1), Other(1), Data(), Callable_(1).method)]
    assert not set(before) & set(after)  # Other's base has changed


def test_what_jax_makes_of_a_function_is_of_that_function():
    one, two = closing_over(1), closing_over(2)
    for transform in (jax.grad, jax.vmap, jax.value_and_grad, jax.jit, jax.checkpoint):
        assert digest(transform(one)) == digest(transform(one)) != digest(transform(two))
    all_different([one, jax.grad(one), jax.vmap(one), jax.vmap(one, in_axes=1), jax.grad(one, 1)])
    assert digest(jax.jit(one)) == digest(one)  # the same function, compiled
    assert digest(functools.cache(one)) == digest(one)
    all_different(
        [jnp.sin, jnp.cos, jnp.add, np.sin, np.mean, np.add, jax.nn.relu, jax.nn.softplus]
    )


def test_optimizers_go_by_their_settings():
    all_different(
        [optax.sgd(1.0), optax.sgd(0.5), optax.adam(1.0), optax.adam(0.5), optax.adam(1.0, 0.8)]
    )
    assert digest(optax.adam(1.0)) == digest(evaluate.ADAM)
    clip = [optax.chain(optax.clip_by_global_norm(n), optax.adam(1.0)) for n in (1.0, 2.0)]
    cosine = [optax.adam(optax.cosine_decay_schedule(1e-3, n)) for n in (10, 20)]
    all_different([*clip, *cosine])


def test_problem_constants_count():
    field, other = fields.relu(4, 2, 4, dims=3), fields.relu(5, 2, 4, dims=3)
    problem = photometric.object_problem
    variants = [(8, 16, "softplus", 1), (9, 16, "softplus", 1), (8, 17, "softplus", 1)]
    variants += [(8, 16, "relu", 1), (8, 16, "softplus", 2)]
    all_different([problem(other, *variants[0]), *(problem(field, *v) for v in variants)])
    assert digest(problem(field, *variants[0])) == digest(problem(field, *variants[0]))
    image = tasks.regression(fields.siren(4, 2))
    all_different(
        [
            image,
            tasks.regression(fields.siren(5, 2)),
            tasks.context_pruned(fields.siren(4, 2), image, 0.5),
        ]
    )
    all_different(
        [
            inner.sgd(image, 2, 0.1),
            inner.sgd(image, 3, 0.1),
            inner.sgd(image, 2, 0.2),
            inner.sgd(image, 2, 0.1, resample=False),
        ]
    )


# --- the sources of the package ---------------------------------------------------------------
MODULES = {
    "__init__": "",
    "outer": '''
        """A module."""
        from madeup import settings
        from madeup.inner import follows, step as one_step
        from madeup.room import walked

        LIMIT = 3


        def run(x):
            """What it does."""
            for _ in range(LIMIT):
                x = one_step(x) * settings.FACTOR  # a comment
            return x


        def unrelated(x):
            return settings.OTHER * x


        def late(x):
            from madeup import lazy

            return lazy.late(x)


        def through(x):
            from madeup import room

            return room.first.f(x)


        def walks(x):
            return walked(x, "twice")


        def pair(which):
            return (lambda x: x + 1) if which else (lambda x: x + 2)


        class Base:
            def scaled(self, x):
                return helper(x)


        class Thing(Base):
            def __init__(self, value):
                self.value = value

            def run(self, x):
                return self.scaled(x)

            def __call__(self, x):
                return self.value


        def annotated(thing: Thing):
            return thing.run(1)


        def helper(x):
            return 2 * x


        def wrapped(f):
            def inside(x):
                return f(x) + 1

            return inside


        @wrapped
        def decorated(x):
            return x


        def plain(x):
            return x


        replaced = plain
        replaced = wrapped(replaced)
        TABLE = {}
        TABLE["a"] = helper
        for name in ("b", "c"):
            TABLE[name] = plain


        def looks_up(x):
            return TABLE["a"](x)


        if LIMIT > 2:

            def branched(x):
                return x
        else:

            def branched(x):
                return -x
    ''',
    "inner": """
        from functools import cache, singledispatch


        def step(x):
            return deeper(x)


        @cache
        def deeper(x):
            return x + CONSTANT


        CONSTANT = 1
        CONSTANT += 2


        @singledispatch
        def rule(x):
            return x


        @rule.register
        def _(x: int):
            return 3 * x


        def follows(x):
            return rule(x)
    """,
    "settings": "FACTOR, OTHER = 2.0, 3.0\n",
    "lazy": "def late(x):\n    return x\n",
    "room/__init__": """
        import importlib
        import pkgutil


        def walked(x, name="first"):
            found = {}
            for module in pkgutil.iter_modules(__path__):
                here = importlib.import_module(f"{__name__}.{module.name}")
                found |= {module.name: here.f, **getattr(here, "OFFERED", {})}
            return found[name](x)
    """,
    "room/first": "def f(x):\n    return x\n",
    "room/second": """
        from madeup.room import walked


        def f(x):
            return 2 * walked(x, "third")


        OFFERED = {"twice": f}
    """,
    "room/third": "def f(x):\n    return 3 * x\n",
    "room/fourth": "def f(x):\n    return 4 * x\n",
}


@pytest.fixture
def madeup(tmp_path, monkeypatch):
    """A package in place of ours; a function that changes a text in it and gives it anew."""
    sources = {name: textwrap.dedent(text).lstrip() for name, text in MODULES.items()}
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_sources, "PACKAGE", "madeup")
    times = iter(range(10**9, 2 * 10**9, 10))

    def changed(module=None, old="", new=""):
        if module:
            assert sources[module].count(old) == 1
            sources[module] = sources[module].replace(old, new)
        for name, text in sources.items():
            path = tmp_path / "madeup" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, (now := next(times), now))  # sources go by time
        forget()
        return importlib.import_module("madeup.outer")

    def forget():
        for name in [n for n in sys.modules if n.partition(".")[0] == "madeup"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        for f in (*vars(content).values(), *vars(_sources).values()):
            if hasattr(f, "cache_clear"):
                f.cache_clear()

    yield changed
    forget()


def digests(module):
    return {
        **{n: digest(f) for n, f in vars(module).items() if isinstance(f, types.FunctionType)},
        "lambdas": digest(module.pair(True)),
        "other_lambda": digest(module.pair(False)),
        "thing": digest(module.Thing),
        "object": digest(module.Thing(1)),
        "method": digest(module.Thing(1).run),
    }


ALL = {"thing", "object", "method", "annotated"}
CHANGES = {
    "direct": ("outer", "* settings.FACTOR", "+ settings.FACTOR", {"run"}),
    "constant": ("outer", "LIMIT = 3", "LIMIT = 4", {"run", "branched"}),
    "imported": ("inner", "return deeper(x)", "return -deeper(x)", {"run", "one_step"}),
    "two steps away": ("inner", "x + CONSTANT", "x - CONSTANT", {"run", "one_step"}),
    "constant far away": ("inner", "CONSTANT = 1", "CONSTANT = 5", {"run", "one_step"}),
    "constant changed far away": ("inner", "CONSTANT += 2", "CONSTANT += 5", {"run", "one_step"}),
    "of a module": ("settings", "2.0", "2.5", {"run", "unrelated"}),  # one statement
    "another of that module": ("outer", "settings.OTHER * x", "x * settings.OTHER", {"unrelated"}),
    "lazy": ("lazy", "return x", "return -x", {"late"}),
    "through a room": ("room/first", "return x", "return -x", {"through", "walks", "walked"}),
    "found by what it offers": ("room/second", "2 * w", "3 * w", {"walks"}),
    "named by what was found": ("room/third", "3 * x", "4 * x", {"walks"}),
    "not named": ("room/fourth", "4 * x", "5 * x", set()),
    "the walk": ("room/__init__", "[name](x)", "[name](-x)", {"walks", "walked"}),
    "a lambda": (
        "outer",
        "lambda x: x + 1",
        "lambda x: x + 3",
        {"pair", "lambdas", "other_lambda"},
    ),
    "a method": ("outer", "self.scaled(x)", "-self.scaled(x)", ALL),
    "a base": ("outer", "return helper(x)", "return -helper(x)", ALL),
    "what a method calls": ("outer", "2 * x", "3 * x", ALL | {"helper", "looks_up"}),
    "a decorator": ("outer", "f(x) + 1", "f(x) - 1", {"wrapped", "decorated", "replaced"}),
    "an entry": ("outer", 'TABLE["a"] = helper', 'TABLE["a"] = plain', {"looks_up"}),
    "entries of a loop": ("outer", '("b", "c")', '("b", "d")', {"looks_up"}),
    "a branch": ("outer", "return -x", "return 1 - x", {"branched"}),
    "a docstring": ("outer", "What it does.", "What it did.", set()),
    "a docstring of the module": ("outer", '"""A module."""', '"""Another."""', set()),
    "a docstring is gone": ("outer", '    """What it does."""\n', "", set()),
    "a comment": ("outer", "# a comment", "# another", set()),
    "lines and blanks": ("outer", "LIMIT = 3\n", "LIMIT   =  3\n\n\n\n", set()),
    "a rule": ("inner", "3 * x", "4 * x", {"follows"}),
    "a module not used": ("lazy", "def late", "def early(x):\n    return x\n\n\ndef late", set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_in_the_package_changes_what_depends_on_it(madeup, change):
    module, old, new, expected = CHANGES[change]
    before, after = digests(madeup()), digests(madeup(module, old, new))
    assert {n for n in before if before[n] != after[n]} == expected


@pytest.mark.parametrize(
    ("name", "counts"), [("fourth", True), ("first+fourth", True), ("x", False)]
)
def test_what_an_argument_names_in_a_room_counts(madeup, name, counts):
    things = ["x", {"signals": name}]
    before = digest(madeup().walked, *things)
    assert (digest(madeup("room/fourth", "4 * x", "5 * x").walked, *things) != before) == counts


def test_a_recipe_depends_on_the_classes_and_the_forward_model_that_it_names():
    def named(**settings):
        room = recipe.Recipe.__module__
        reached = _sources.reached(room, "Recipe") | _sources.reached(room, "functions")
        found = _sources.members(reached, [*settings.values()])
        return {module.removeprefix("learnit_utils.") for module, _ in found}

    faces = named()
    assert {"signals.faces", "forward.pixels"} <= faces
    assert ("learnit_utils.signals.faces", "load") in _sources.reached(
        "learnit_utils.signals.faces", None
    )
    assert "signals.photos" in named(signals="photos")
    assert ("learnit_utils.shipped", "read") in _sources.reached(
        "learnit_utils.signals.photos", None
    )
    assert named(signals="faces+glyphs") - faces == {"signals.glyphs"}
    assert "forward.tomography" in named(forward="tomography")
    others = {"signals.glyphs", "signals.shapes", "signals.phantoms", "forward.tomography"}
    assert not others & faces


@pytest.mark.parametrize("name", [*registry.RECIPES, *registry.SHARED])
def test_every_recipe_names_what_it_loads(name):
    settings = {**registry.RECIPES, **registry.SHARED}[name]
    reached = _sources.reached(type(settings).__module__, type(settings).__name__)
    named = {module for module, _ in _sources.members(reached, [*vars(settings).values()])}
    for part in settings.signals.split("+"):
        assert recipe.signal_modules()[part].__name__ in named


def test_nothing_changes_by_itself(madeup):
    before = digests(madeup())
    assert digests(madeup()) == before
    assert before["lambdas"] != before["other_lambda"]


def notebook(x):
    return outer.run(x) + outer.helper(x)  # noqa: F821


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (("settings", "2.0", "2.5"), True),
        (("outer", "2 * x", "3 * x"), True),
        (("outer", "lambda x: x + 1", "lambda x: x + 3"), False),
        (("inner", "3 * x", "4 * x"), False),
    ],
)
def test_what_a_notebook_takes_from_a_module_counts(madeup, monkeypatch, change, counts):
    monkeypatch.setitem(globals(), "outer", madeup())
    before = digest(notebook)
    monkeypatch.setitem(globals(), "outer", madeup(*change))
    assert (digest(notebook) != before) == counts


def test_a_whole_module_counts_in_full(madeup):
    before = digest(madeup())
    assert digest(madeup("outer", "lambda x: x + 1", "lambda x: x + 3")) != before


# --- our own package --------------------------------------------------------------------------
def reached(f):
    """The definitions that a function of the package refers to."""
    todo, seen = {(f.__module__, f.__qualname__)}, set()
    while todo:
        here = todo.pop()
        seen.add(here)
        todo |= _sources.references(*here) - seen
    return {f"{module.removeprefix('learnit_utils.')}.{name}" for module, name in seen}


def test_a_curve_of_a_study_depends_on_all_that_makes_it():
    found = reached(protocol._mean_curve)
    assert {"evaluate._progress", "evaluate.task_keys", "inner.Init", "tasks.Tasks"} <= found
    assert not any(name.startswith(("book.", "signals.", "train.")) for name in found)
    assert {"_sine.sine", "fields._network", "fields._HEADS"} <= reached(fields.siren)
    assert {"signals.base.dataset", "signals.__path__"} <= reached(Recipe)


def test_a_changed_definition_changes_fields_losses_and_recipes(monkeypatch):
    loss = tasks.regression(fields.siren(4, 2))
    things = {
        "siren": fields.siren(4, 2),
        "fourier": fields.fourier(4, 2),
        "relu": fields.relu(4, 2),
        "loss": loss,
        "other loss": tasks.regression(fields.relu(4, 2)),
        "inner loop": inner.sgd(loss, 2, 0.1),
        "recipe": recipe.functions,
        "protocol": protocol._mean_curve,
        "tasks": Tasks(1),
    }
    before = {name: digest(x) for name, x in things.items()}
    known = _sources.definitions

    def definitions(module):
        found = dict(known(module))
        if module == "learnit_utils._sine":
            found["sine"] = [ast.parse("sine = None").body[0]]
        return found

    monkeypatch.setattr(_sources, "definitions", definitions)
    caches = (_sources.references, _sources.source, _sources.written)
    try:
        for f in caches:
            f.cache_clear()
        changed = {name for name, x in things.items() if digest(x) != before[name]}
    finally:
        monkeypatch.undo()
        for f in caches:
            f.cache_clear()
    assert changed == {"siren", "fourier", "loss", "inner loop", "recipe"}
    assert before == {name: digest(x) for name, x in things.items()}


def test_the_imports_of_the_package_are_of_the_kind_that_is_followed():
    """`from learnit_utils.x import y`, never relative and never `import learnit_utils.x`."""
    for path in sorted((ROOT / "learnit_utils").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
            if isinstance(node, ast.Import):
                assert not any(a.name.startswith("learnit_utils") for a in node.names), path


def test_nothing_of_the_package_is_taken_for_nothing():
    nothing = {_sources.hashed([]), _sources.written("learnit_utils.fields", "no_such_name")}
    for path in sorted((ROOT / "learnit_utils").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        written = {_sources.written(module, name) for name in _sources.definitions(module)}
        assert not written & nothing


# --- everywhere the same ----------------------------------------------------------------------
PROGRAM = """
import functools
import jax, numpy as np
from learnit_utils import evaluate, fields
from learnit_utils.experiments import protocol
from learnit_utils.experiments.content import digest
from learnit_utils.experiments.recipe import Recipe
from learnit_utils.forward import photometric
from learnit_utils.inner import Init


class Scale:
    def __init__(self, s):
        self.s = s

    def __call__(self, x):
        return self.s * x


def scaled(x, by=Scale(3)):
    return by(x) + np.sum([y for y in range(3)])


field = fields.siren(8, 3)
problem = photometric.object_problem(fields.relu(4, 2, 4, dims=3), 8, 16, "softplus", 1)
things = [field, problem, Init(np.ones((2, 3), np.float32)), Recipe(), evaluate.ADAM, scaled]
things += [functools.partial(scaled, by=2), {"b": 1.5, "a": {3, 1, 2}}, jax.random.key(5), "\u00fc"]
things += [protocol._mean_curve, jax.grad(scaled), lambda x: lambda y: [x for _ in y], dict.get]
found = [digest(x) for x in things]
"""


def test_two_processes_give_the_same_digests(tmp_path, monkeypatch):
    (tmp_path / "digests_of_things.py").write_text(PROGRAM)
    ask = "import digests_of_things as d, json; print(json.dumps(d.found))"
    words, seeded = [sys.executable, "-c", ask], os.environ | dict(PYTHONHASHSEED="1")
    there = subprocess.run(words, cwd=tmp_path, env=seeded, capture_output=True, check=True).stdout
    monkeypatch.syspath_prepend(tmp_path)
    here = importlib.import_module("digests_of_things").found
    del sys.modules["digests_of_things"]
    assert json.loads(there) == here
    assert len(set(here)) == len(here)


def test_another_python_parses_the_same():
    """What newer versions add to a syntax tree is empty, and left out."""
    node = ast.parse(
        "def f(x: int) -> None:\n    return [x, None, ..., 'a', b'b', 1j, f'{x!r:>3}']"
    ).body[0]
    plain = _sources.plain(node)
    node._fields = (*node._fields, "type_params")
    node.type_params = []
    assert _sources.plain(node) == plain
    assert "ctx" not in json.dumps(plain)


@pytest.mark.parametrize("name", ["faces64_metasgd", "chairs128_sv"])
def test_inits_that_ship_have_a_digest(name):
    found = store.load(name)
    assert digest(found.init, found.recipe) == digest(store.load(name).init, found.recipe)


def test_functions_of_a_notebook_go_by_their_cells():
    shell = InteractiveShell(config=Config(HistoryManager=dict(enabled=False)))
    shell.run_cell("import numpy as np\nfrom learnit_utils import metrics\nscale = 2.0")

    def found(cell):
        shell.run_cell(cell).raise_error()
        return digest(shell.user_ns["f"])

    plain = "def f(x):\n    return scale * metrics.mse(x, np.zeros(3))"
    first = found(plain)
    assert found("where = %pwd\n# a comment\n\n" + plain) == first
    assert found("other = lambda x: x\n" + plain + "\nf(np.ones(3))") == first
    assert found(plain.replace("scale *", "scale +")) != first
    assert found("scale = 3.0\n" + plain) != first
    assert found("scale = 2.0\n" + plain) == first
    assert found("f = lambda x: scale") != found("f = lambda x: scale + 1")
