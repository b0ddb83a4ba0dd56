"""Recipes: settings from a command line, the data and the functions they stand for."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from learnit_utils import fields, forward, inner, tasks
from learnit_utils.experiments import recipe as recipes
from learnit_utils.experiments.recipe import Recipe, RecipeError, functions, with_changes
from learnit_utils.experiments.registry import FINDINGS, RECIPES, SHARED
from learnit_utils.experiments.settings import changed, followed
from learnit_utils.signals.base import DataError

TINY = Recipe(size=12, field=dict(kind="siren", width=8, depth=2, omega0=10.0, channels=1), steps=6)


# --- settings from a command line -------------------------------------------------------------
@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("outer_lr=3e-4", "outer_lr", 3e-4),
        ("batch=7", "batch", 7),
        ("method=reptile", "method", "reptile"),
        ("agreement=false", "agreement", False),
        ("agreement=yes", "agreement", True),
        ("folder=/a=b, c", "folder", "/a=b, c"),
        ("folder=", "folder", ""),
        ("folder=none", "folder", "none"),  # a text, not a setting that may be None
        ("limit=5", "limit", 5),
        ("limit=none", "limit", None),
        ("limit=None", "limit", None),
        ("clip=null", "clip", None),
        ("clip=0.5", "clip", 0.5),
        ("context_fraction=none", "context_fraction", None),
        ("step_sizes=none", "step_sizes", None),
        ("step_sizes=parameter", "step_sizes", "parameter"),
        ("snapshots=1,20,300", "snapshots", (1, 20, 300)),
        ("snapshots=[1, 20]", "snapshots", (1, 20)),
        ("snapshots=(4,)", "snapshots", (4,)),
        ("snapshots=4", "snapshots", (4,)),
        ("snapshots=", "snapshots", ()),
        ("snapshots=[]", "snapshots", ()),
    ],
)
def test_a_setting_is_read_as_its_kind(setting, name, value):
    before = with_changes(TINY, limit=9, clip=1.0, step_sizes="layer_step", snapshots=(1,))
    after = changed(before, [setting])
    assert getattr(after, name) == value
    assert type(getattr(after, name)) is type(value)
    assert with_changes(after, **{name: getattr(before, name)}) == before


@pytest.mark.parametrize(
    ("setting", "name", "expected"),
    [
        ("field.width=128", "field", TINY.field | dict(width=128)),
        ("field.omega0=5.5", "field", TINY.field | dict(omega0=5.5)),
        ("field.head=sigmoid", "field", TINY.field | dict(head="sigmoid")),
        ("field.hidden_omega0=null", "field", TINY.field | dict(hidden_omega0=None)),
        ("field.hidden_omega0=None", "field", TINY.field | dict(hidden_omega0=None)),
        ("field.omega0=1e1", "field", TINY.field | dict(omega0=10.0)),
        ("options.crops=2", "options", dict(crops=2)),
    ],
)
def test_a_setting_reaches_into_a_mapping(setting, name, expected):
    before = with_changes(TINY, signals="photos", options=dict(crops=3))
    settings = json.dumps(before.settings())
    after = changed(before, [setting])
    assert getattr(after, name) == expected
    assert json.dumps(before.settings()) == settings  # the recipe it came from is as it was
    assert with_changes(after, **{name: getattr(before, name)}) == before


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (["signals=local", "folder=x", "options.on_error=skip"], dict(on_error="skip")),
        (["signals=objects", "options.variants=False"], dict(variants=False)),
        (["signals=objects", "options.views=None"], dict(views=None)),
        (["signals=objects", "options.views=3", "options.kind=a=b"], dict(views=3, kind="a=b")),
        (["signals=photos+text", "options.seed=4"], dict(crops=3, seed=4)),
        (["folder=x", "signals=local"], {}),  # what the recipe had for other signals
        (["signals=faces"], {}),
    ],
)
def test_options_are_those_of_the_signals(settings, options):
    before = with_changes(TINY, signals="photos", options=dict(crops=3))
    assert changed(before, settings).options == options


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (["gray=false"], TINY.field | dict(channels=3)),
        (["gray=false", "field.channels=3"], TINY.field | dict(channels=3)),
        (["gray=false", "gray=true"], TINY.field),
        (["field.kind=relu"], dict(kind="relu", width=8, depth=2, channels=1)),
        (["field.kind=posenc", "field.max_log2=none"],
         dict(kind="posenc", width=8, depth=2, channels=1, max_log2=None)),
        (["forward=object_views"], TINY.field),
    ],
)  # fmt: skip
def test_a_field_follows_the_other_settings(settings, field):
    after = changed(TINY, settings)
    assert after.field == field
    functions(after)  # it can be built
    new = followed(TINY, settings)
    assert new == ({"field.channels": 3} if settings == ["gray=false"] else {})


@given(st.sampled_from(sorted(RECIPES)), st.booleans())
def test_channels_are_those_of_the_pictures_wherever_they_were(name, gray):
    before = RECIPES[name]
    after = changed(before, [f"gray={gray}"])
    if before.field["channels"] == (1 if before.gray else 3):
        assert after.field["channels"] == (1 if gray else 3)
    else:  # density and colour
        assert after.field == before.field


def test_what_is_set_in_a_field_is_what_is_built():
    settings = ["field.width=7", "field.depth=4", "field.head=sigmoid", "field.width=9"]
    after = changed(TINY, settings)  # the last word counts
    expected = fields.siren(9, 4, 10.0, 1, head="sigmoid")
    assert functions(after).field == expected
    with pytest.raises(ValueError, match="width = 0: expected an integer >= 1"):
        functions(changed(TINY, ["field.width=0"]))


@given(
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(0, 10**6), max_size=5),
)
def test_numbers_come_back(whole, number, several):
    texts = [f"steps={whole}", f"outer_lr={number!r}", f"clip={number!r}"]
    after = changed(TINY, [*texts, f"snapshots={','.join(map(str, several))}"])
    assert (after.steps, after.outer_lr, after.clip) == (whole, number, number)
    assert after.snapshots == tuple(several)


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("width=3", "field.width"),
        ("on_error=skip", "options.on_error"),
        ("batc=1", "batch"),
        ("field.wdth=3", "field.width"),
    ],
)
def test_the_nearest_name_is_told(setting, meant):
    own = with_changes(TINY, signals="local", folder="x")
    with pytest.raises(RecipeError, match=f"did you mean {meant}[?]$"):
        changed(own, [setting])


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("outer_lr", "'outer_lr': expected NAME=VALUE, with NAME one of signals, "),
        ("width=3", "'width=3': expected NAME=VALUE, with NAME one of signals, "),
        ("=3", "'=3': expected NAME=VALUE"),
        ("", "'': expected NAME=VALUE"),
        ("field=1", "'field=1': expected NAME=VALUE"),
        ("field.wdth=3", "field.wdth: with these settings field has kind, width, depth, "),
        ("field.max_log2=3", "field.max_log2: with these settings field has kind, width, "),
        ("field.width=many", "field.width = 'many': Input should be a valid integer"),
        ("field.omega0=nan", "field.omega0 = 'nan': Input should be a finite number"),
        ("field.channels=3", "field.channels = 3: expected 1 with gray = True"),
        ("options.on_error=skip", "options.on_error: with these settings options has no entries"),
        ("field.=1", "'field.=1': expected NAME=VALUE"),
        ("options=1", "'options=1': expected NAME=VALUE"),
        ("batch.size=1", "'batch.size=1': expected NAME=VALUE"),
        ("batch=two", "batch = 'two': Input should be a valid integer"),
        ("batch=1.5", "batch = '1.5': Input should be a valid integer"),
        ("batch=none", "batch = 'none': Input should be a valid integer"),
        ("limit=few", "limit = 'few': Input should be a valid integer"),
        ("outer_lr=nan", "outer_lr = 'nan': Input should be a finite number"),
        ("clip=inf", "clip = 'inf': Input should be a finite number"),
        ("method=sgd", "method = 'sgd': Input should be 'maml', 'fomaml' or 'reptile'"),
        ("method=none", "method = 'none': Input should be 'maml', 'fomaml' or 'reptile'"),
        ("step_sizes=task", "step_sizes = 'task': Input should be 'layer_step', "),
        ("agreement=perhaps", "agreement = 'perhaps': Input should be a valid boolean"),
        ("snapshots=1,two", "snapshots = '1,two': Input should be a valid integer"),
        ("snapshots=none", "snapshots = 'none': Input should be a valid integer"),
        ("snapshots=1.5", "snapshots = '1.5': Input should be a valid integer"),
        ("batch=" + "9" * 99 + "x", "batch = '" + "9" * 59 + ": Input should be"),
    ],
)
def test_a_setting_that_cannot_be_is_named(setting, told):
    with pytest.raises(RecipeError) as error:
        changed(TINY, ["seed=1", setting])
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


def test_the_settings_that_reach_into_mappings_are_listed():
    with pytest.raises(RecipeError, match=r"options\.KEY, field\.KEY, method"):
        changed(TINY, ["nothing=1"])


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_json_and_make_the_recipe_again(name):
    recipe = RECIPES[name]
    again = Recipe(**json.loads(json.dumps(recipe.settings())))
    assert again == recipe
    assert isinstance(again.snapshots, tuple)


def test_every_finding_is_about_a_recipe():
    for prefix, finding in FINDINGS.items():
        assert any(name.startswith(prefix) for name in RECIPES | SHARED), prefix
        assert finding.endswith(".")


# --- data -------------------------------------------------------------------------------------
SHIPPED = [name for name, module in recipes.signal_modules().items() if hasattr(module, "load")]


def test_the_signal_classes_are_the_modules_that_load():
    assert {"faces", "photos", "text", "sdf", "phantoms", "objects", "landmarks"} <= set(SHIPPED)
    assert {*recipes.signal_modules()} - {*SHIPPED} == {"local"}
    assert not {"base", "transforms", "colmap"} & {*recipes.signal_modules()}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_limit_is_for_training_only(name):
    colours = getattr(recipes.signal_modules()[name], "COLOUR_ONLY", False)
    full = with_changes(TINY, signals=name, gray=not colours, size=16)
    few = with_changes(full, limit=3)
    assert few.load("train").provenance["count"] == 3
    for split in ("validation", "test"):
        assert few.load(split).provenance == full.load(split).provenance
        assert full.load(split, limit=2).provenance["count"] == 2  # asked for by the caller


def test_two_classes_are_their_pictures_together():
    both = with_changes(TINY, signals="sdf+faces").load("test")
    parts = [with_changes(TINY, signals=s).load("test") for s in ("sdf", "faces")]
    np.testing.assert_array_equal(both.arrays, np.concatenate([d.arrays for d in parts]))
    assert len(set(both.names)) == len(both.arrays)
    for what in ("source", "licence"):
        assert both.provenance[what] == " + ".join(d.provenance[what] for d in parts)


@pytest.fixture
def folder(tmp_path, rng):
    """Twelve pictures of noise."""
    for i in range(12):
        u = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(u).save(tmp_path / f"{i}.png")
    return tmp_path


def test_a_folder_goes_to_the_class_that_is_read_from_one(folder):
    recipe = with_changes(TINY, signals="local+text", folder=str(folder), limit=4)
    d = recipe.load("train")
    assert d.arrays.shape == (8, 12, 12, 1)
    assert d.provenance["source"].startswith(f"folder {folder.name} + random words")
    held = with_changes(recipe, held_out=1).load("test")
    assert held.provenance["count"] == 1 + 80


def test_options_go_to_the_class(folder):
    """As on the command line."""
    recipe = with_changes(TINY, signals="local", folder=str(folder))
    whole = sum(recipe.load(s).provenance["count"] for s in ("train", "validation", "test"))
    assert whole == 12
    (folder / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        recipe.load("train")
    skips = changed(recipe, ["options.on_error=skip"])
    left = [skips.load(s).provenance for s in ("train", "validation", "test")]
    assert sum(where["count"] for where in left) == 12
    assert all("bad.png" in where["skipped"] for where in left)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(signals="cats"),
            "signals = 'cats': expected one of faces, glyphs, landmarks, local, objects",
        ),
        (dict(signals="faces+cats"), "signals = 'cats': "),
        (dict(signals="base"), "signals = 'base': expected one of "),
        (dict(signals="local"), "signals = 'local': expected a folder"),
        (dict(signals="text", folder="x"), "folder = 'x': text is not read from one"),
        (dict(signals="objects"), "gray = True: these have colours, expected gray=False"),
    ],
)
def test_signals_that_are_not_known_are_named(change, message):
    with pytest.raises(DataError, match=message):
        with_changes(TINY, **change).load("train")


# --- functions --------------------------------------------------------------------------------
def test_recipes_that_agree_in_what_is_compiled_share_their_functions():
    learned = functions(TINY)
    assert functions(with_changes(TINY, steps=99, seed=3, outer_lr=1.0, signals="sdf")) is learned
    values = dict(method="reptile", inner_steps=3, inner_lr=0.5, context_fraction=0.5)
    values |= dict(step_sizes="parameter", field=TINY.field | dict(width=9), views=3, rays=3)
    values |= dict(samples=3, density="relu", forward="tomography")
    assert set(values) == set(recipes.CHOICES)
    made = [functions(with_changes(TINY, **{name: value})) for name, value in values.items()]
    assert len({id(m) for m in (learned, *made)}) == len(made) + 1


@pytest.mark.parametrize("name", RECIPES)
def test_the_functions_of_a_recipe_are_those_of_its_method(name):
    recipe = RECIPES[name]
    learned = functions(recipe)
    assert learned.grad.name == recipe.method
    assert learned.field == fields.build(**recipe.field)


@pytest.mark.slow
def test_the_inner_loop_is_the_one_that_is_asked_for(rng):
    """Plain, with learned step sizes, on the hardest points."""
    recipe = with_changes(TINY, field=dict(kind="relu", width=4, depth=2, channels=1))
    field, key = fields.build(**recipe.field), jax.random.key(0)
    theta, loss = field.init(jax.random.key(1)), tasks.regression(field)
    task = tasks.Tasks(jnp.asarray(rng.uniform(size=(9, 1)), jnp.float32), jnp.ones((9, 2)) / 3)
    rated = inner.with_step_sizes(theta, 2, 1e-2, "layer_step")
    hardest = tasks.context_pruned(field, loss, 0.5)
    for changes, init, adapt in (
        ({}, theta, inner.sgd(loss, 2, 1e-2)),
        (dict(step_sizes="layer_step"), rated, inner.meta_sgd(loss, 2)),
        (dict(context_fraction=0.5), theta, inner.sgd(hardest, 2, 1e-2)),
    ):
        ours = functions(with_changes(recipe, **changes)).adapt
        found, expected = (jax.jit(f)(init, task, jax.random.clone(key)) for f in (ours, adapt))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_forward_model_is_found_by_name_or_refused():
    for name in ("pixels", "tomography", "object_views", "photographs"):
        assert recipes.model(with_changes(TINY, forward=name)) is forward.models()[name]
    with pytest.raises(RecipeError, match="forward = 'sound': expected one of ") as error:
        functions(with_changes(TINY, forward="sound"))
    assert "pixels" in str(error.value)


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.steps = 7
    assert with_changes(TINY, snapshots=[1, 2]).snapshots == (1, 2)
