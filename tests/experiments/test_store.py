"""Weights and the manifest beside them: what was saved comes back, anything else is refused."""

import json
import subprocess
import sys
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save as tensors

from learnit_utils import _files, fields, inner, shipped
from learnit_utils.experiments import registry, store
from learnit_utils.experiments.recipe import Recipe, functions
from learnit_utils.experiments.store import StoreError
from learnit_utils.fields import Layer
from learnit_utils.inner import Init
from learnit_utils.tasks import Tasks

FIELDS = {
    "siren": fields.siren(6, 3, 20.0, 3, hidden_omega0=25.0, offset=0.25),
    "relu": fields.relu(5, 2, 1, head="sigmoid", offset=0.0),
    "fourier": fields.fourier(4, 3, 2.5, features=3, feature_seed=9),
    "posenc": fields.posenc(4, 2, 3, dims=1),
}


@cache
def shapes(kind):
    return jax.eval_shape(FIELDS[kind].init, jax.random.key(0))


def drawn(kind="siren", seed=0, lead=()):
    """A theta of random numbers, every leaf with `lead` in front of its shape."""
    rng = np.random.default_rng(seed)
    return [
        Layer(*(rng.normal(0, 0.3, (*lead, *s.shape)).astype(np.float32) for s in layer))
        for layer in shapes(kind)
    ]


def rated(seed=0, kind="siren"):
    """An init with learned step sizes for two steps."""
    return Init(drawn(kind, seed), drawn(kind, seed + 1, (2,)))


def same(a, b):
    assert [len(layer) for layer in a] == [len(layer) for layer in b]
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(x, y, strict=True)


def refused(name_or_path, told=""):
    """The one line with which loading is refused."""
    with pytest.raises(StoreError) as error:
        store.load(name_or_path)
    message = str(error.value)
    assert told in message
    assert "\n" not in message
    return message


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "start.safetensors"
    store.save(path, FIELDS["siren"], rated(), method="maml")
    return path


# --- what was saved comes back ----------------------------------------------------------------
@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("steps", [None, 1, 3])
def test_weights_come_back(tmp_path, kind, steps):
    path = tmp_path / "start.safetensors"
    step_sizes = drawn(kind, 1, (steps,)) if steps else None
    store.save(path, FIELDS[kind], Init(drawn(kind), step_sizes))
    found = store.load(path)
    assert found.field == FIELDS[kind]
    same(found.theta, drawn(kind))
    if steps:
        same(found.init.step_sizes, step_sizes)
    else:
        assert found.init.step_sizes is None
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found.theta))


@pytest.mark.parametrize("per", inner.PER)
def test_every_kind_of_learned_step_sizes_comes_back(tmp_path, per):
    path = tmp_path / "start.safetensors"
    init = inner.with_step_sizes(jax.tree.map(jnp.asarray, drawn()), 4, 0.01, per)
    store.save(path, FIELDS["siren"], init)
    same(store.load(path).init.step_sizes, init.step_sizes)


def test_the_loaded_field_is_the_saved_function(saved):
    x = np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2)
    found = store.load(str(saved))
    wanted = jax.jit(FIELDS["siren"].apply)(drawn(), x)
    np.testing.assert_array_equal(jax.jit(found.field.apply)(found.theta, x), wanted)


@pytest.mark.parametrize("kind", ["transposed", "strided", "big_endian", "jax"])
def test_arrays_of_any_layout_come_back(tmp_path, kind):
    lay = {
        "transposed": lambda a: np.ascontiguousarray(a.T).T,
        "strided": lambda a: np.repeat(a, 2, -1)[..., ::2],
        "big_endian": lambda a: a.astype(">f4"),
        "jax": jnp.asarray,
    }[kind]
    path = tmp_path / "start.safetensors"
    store.save(path, FIELDS["siren"], jax.tree.map(lay, drawn()))
    same(store.load(path).theta, drawn())


def test_the_manifest_says_what_the_file_is(tmp_path):
    path = tmp_path / "start.safetensors"
    told = dict(method="reptile", seed=3, scores=dict(psnr=[21.5, None]), note="Grüße")
    store.save(path, FIELDS["siren"], drawn(), **told)
    text = (tmp_path / "manifest.json").read_text("utf8")
    entry = json.loads(text)[path.name]
    assert entry == store.load(path).info
    assert entry["sha256"] == _files.sha256(path)
    assert entry["bytes"] == path.stat().st_size
    assert fields.build(**entry["field"]) == FIELDS["siren"]
    assert {k: entry[k] for k in told} == told


def test_the_manifest_keeps_its_other_entries(tmp_path):
    names = ["b", "a", "c"]
    for seed, name in enumerate(names):
        store.save(tmp_path / f"{name}.safetensors", FIELDS["relu"], drawn("relu", seed))
    before = json.loads((tmp_path / "manifest.json").read_text("utf8"))
    store.save(tmp_path / "a.safetensors", FIELDS["siren"], drawn(), method="again")
    after = json.loads((tmp_path / "manifest.json").read_text("utf8"))
    assert list(after) == [f"{n}.safetensors" for n in sorted(names)]
    assert after.pop("a.safetensors")["method"] == "again"
    del before["a.safetensors"]
    assert after == before
    same(store.load(tmp_path / "b.safetensors").theta, drawn("relu", 0))
    same(store.load(tmp_path / "a.safetensors").theta, drawn())


def test_the_environment_can_stand_in_a_manifest():
    found = json.loads(json.dumps(store.environment()))
    assert found["versions"]["jax"] == jax.__version__
    assert jax.devices()[0].platform in found["device"]
    assert "cores" in found["device"] or jax.default_backend() != "cpu"


# --- weights that ship ------------------------------------------------------------------------
@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that ships two starts."""
    for name in ("natural_maml", "faces_reptile"):
        store.save(tmp_path / f"weights/{name}.safetensors", FIELDS["siren"], drawn())
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    return tmp_path


def test_shipped_weights_are_found_by_name(package):
    assert store.names() == ["faces_reptile", "natural_maml"]
    same(store.load("natural_maml").theta, drawn())


ELSEWHERE = ["../weights/natural_maml", "weights/natural_maml", "snapshots/../natural_maml"]


@pytest.mark.parametrize("name", ["natural", "", "NATURAL_MAML", *ELSEWHERE])
def test_an_unknown_name_lists_those_that_ship(package, name):
    assert repr(name) in refused(name, "shipped are faces_reptile, natural_maml")


def test_where_nothing_ships_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    assert store.names() == []
    refused("natural_maml", "shipped are none")


def test_shipped_weights_are_checked(package):
    path = package / "weights/natural_maml.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    refused("natural_maml", "the manifest says")
    path.unlink()
    refused("natural_maml", "missing")


def test_a_shipped_snapshot_is_found_by_its_name(package):
    store.save(package / "weights/snapshots/natural_maml_50.safetensors", FIELDS["relu"], relu())
    same(store.load("snapshots/natural_maml_50").theta, relu())
    assert store.names() == ["faces_reptile", "natural_maml"]  # it is no finished init
    refused("natural_maml_50", "shipped are")
    refused("snapshots/natural_maml", "shipped are")


def relu():
    return drawn("relu", 3)


def test_everything_that_ships_can_be_loaded():
    files = sorted(shipped.manifest("weights/snapshots"))
    assert files
    on_the_way = [f"snapshots/{file.removesuffix('.safetensors')}" for file in files]
    for name in (*store.names(), *on_the_way):
        found = store.load(name)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.init))
        assert found.field.spec == found.problem().field.spec


# --- how it was trained -----------------------------------------------------------------------
SETTINGS = Recipe(field=dict(FIELDS["siren"].spec), steps=7, snapshots=(2, 5)).settings()


def test_an_init_knows_the_recipe_it_was_trained_by(tmp_path):
    path = tmp_path / "init.safetensors"
    store.save(path, FIELDS["siren"], drawn(), settings=SETTINGS, history=dict(step=[0, 7]))
    found = store.load(path)
    assert found.trained_by() == found.recipe == Recipe(**SETTINGS)
    assert found.recipe.snapshots == (2, 5)
    assert found.history == dict(step=[0, 7])
    learned = found.problem()
    assert learned is functions(Recipe(**SETTINGS))  # shared, and so is what is compiled
    assert learned.field == found.field
    task = Tasks(np.full((4, 3), 0.5, np.float32), np.zeros((4, 2), np.float32))
    told = learned.loss(found.theta, task, jax.random.key(0))
    np.testing.assert_allclose(told, np.square(found.field(found.theta, task.shared) - 0.5).mean())
    at_test_time = found.test_problem()
    assert at_test_time.loss(found.theta, task, jax.random.key(0)) == told
    assert np.shape(at_test_time.held_out(found.theta, task, jax.random.key(0))) == ()


def test_without_a_recipe_that_is_said(tmp_path):
    path = tmp_path / "init.safetensors"
    store.save(path, FIELDS["siren"], drawn(), method="imported")
    found = store.load(path)
    assert (found.recipe, found.history) == (None, {})
    for ask in (found.trained_by, found.problem, found.test_problem):
        with pytest.raises(StoreError, match=r"^imported weights have no recipe or history$"):
            ask()


@pytest.mark.parametrize("settings", [dict(SETTINGS, rates=3), {"measure": "pixels"}, 3, None, [1]])
def test_settings_that_are_no_recipe_are_refused(tmp_path, settings):
    path = tmp_path / "init.safetensors"
    store.save(path, FIELDS["siren"], drawn(), settings=settings)
    refused(path, f"weights {str(path)!r}: ")


# --- several processes ------------------------------------------------------------------------
def test_several_processes_enter_files_into_one_folder(tmp_path):
    program = """
import pathlib, sys, time
from learnit_utils import _files
folder, who = pathlib.Path(sys.argv[1]), sys.argv[2]
(folder / f"ready_{who}").touch()
while len(list(folder.glob("ready_*"))) < 3:
    time.sleep(0.01)
for i in range(15):
    _files.enter(folder / "weights", f"{who}{i}", bytes([i]), who=who)
"""
    words = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen([*words, who]) for who in "abc"]
    assert [p.wait() for p in running] == [0] * 3
    entries = _files.manifest(tmp_path / "weights")
    assert sorted(entries) == sorted(f"{who}{i}" for who in "abc" for i in range(15))
    for name, entry in entries.items():
        assert entry["who"] == name[0]
        assert _files.check(tmp_path / "weights" / name, entry) is None
    assert not list((tmp_path / "weights").glob("*.part"))


# --- damage -----------------------------------------------------------------------------------
def edited(data, rng):
    """The header is JSON after 8 bytes of length: change a name, a number or a type in it."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    name = sorted(header)[rng.integers(len(header))]
    other = sorted(header)[rng.integers(len(header))]
    part = rng.integers(5)
    if part == 0:
        header[f"{name}x"] = header.pop(name)
    elif part == 1:
        header[name]["shape"] = [int(n) for n in rng.integers(-1, 9, size=rng.integers(4))]
    elif part == 2:
        header[name]["dtype"] = str(rng.choice(["F16", "BF16", "F64", "I32", "U8", "F32 "]))
    elif part == 3:
        header[name], header[other] = header[other], header[name]
    else:
        header["__metadata__"] = {"note": "was not there"}
    text = json.dumps(header).encode()
    if rng.integers(2):
        text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def damaged(data, other, rng):
    """One random harm to the bytes of a file; `other` is a file of the same size."""
    size, harm = len(data), rng.integers(8)
    i, j = sorted(int(n) for n in rng.integers(size, size=2))
    out = bytearray(data)
    if harm == 0:
        out[i] ^= 1 << rng.integers(8)
    elif harm == 1:
        for k in rng.integers(size, size=rng.integers(1, 50)):
            out[k] = rng.integers(256)
    elif harm == 2:
        out = out[:i]
    elif harm == 3:
        out += rng.bytes(rng.integers(1, 40))
    elif harm == 4:
        out[i : j + 1] = other[i : j + 1]
    elif harm == 5:
        shift = int(rng.integers(1, 65))
        out = out[shift:] + out[:shift]
    elif harm == 6:
        out = out[j:] + out[i:j] + out[:i]
    else:
        out = edited(data, rng)
    return bytes(out)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_damages_are_refused(saved, tmp_path, rng, count):
    second = tmp_path / "other.safetensors"
    store.save(second, FIELDS["siren"], rated(5))
    data, other = saved.read_bytes(), second.read_bytes()
    assert len(data) == len(other)
    tried = 0
    while tried < count:
        torn = damaged(data, other, rng)
        if torn != data:
            saved.write_bytes(torn)
            refused(saved, f"weights {str(saved)!r}: ")
            tried += 1
    saved.write_bytes(data)
    same(store.load(saved).theta, drawn())


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_damages_that_the_manifest_vouches_for(saved, tmp_path, rng, count):
    """Even so nothing but float32 of the field's shapes comes out, and no other exception."""
    second = tmp_path / "other.safetensors"
    store.save(second, FIELDS["siren"], rated(5))
    data, other = saved.read_bytes(), second.read_bytes()
    entry, loaded, refusals = store.load(saved).info, 0, []
    for _ in range(count):
        vouched(saved, damaged(data, other, rng), entry)
        try:
            theta = store.load(saved).theta
        except StoreError as e:
            refusals.append(str(e))
            continue
        loaded += 1
        assert [leaf.shape for leaf in jax.tree.leaves(theta)] == [
            leaf.shape for leaf in jax.tree.leaves(shapes("siren"))
        ]
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(theta))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(theta))
    assert not [line for line in refusals if "\n" in line or str(saved) not in line]
    assert min(loaded, len(refusals)) > count / 30  # a flipped bit of a number is a number


def test_swapped_files_are_refused(tmp_path):
    paths = [tmp_path / f"{n}.safetensors" for n in "ab"]
    for seed, path in enumerate(paths):
        store.save(path, FIELDS["siren"], drawn(seed=seed))
    first, second = (path.read_bytes() for path in paths)
    paths[0].write_bytes(second)
    paths[1].write_bytes(first)
    for path in paths:
        refused(path, "its SHA-256 is not the one in the manifest")


def test_a_file_without_entry_or_manifest_is_refused(saved, tmp_path):
    stranger = tmp_path / "stranger.safetensors"
    stranger.write_bytes(saved.read_bytes())
    refused(stranger, "manifest.json beside it does not name it")
    (tmp_path / "manifest.json").unlink()
    refused(saved, "manifest.json beside it does not name it")
    refused(tmp_path / "no/such/folder.safetensors", "does not name it")


def test_a_lost_file_is_refused(saved):
    saved.unlink()
    refused(saved, "missing")
    saved.mkdir()
    refused(saved, "missing")


ENTRY = "start.safetensors"
MANIFESTS = {
    "empty": b"",
    "torn": b'{"start.safetensors": {"sha',
    "not_utf8": b"\xff\xfe{}",
    "list": b"[]",
    "number": b"3",
    "deep": b"[" * 100_000,
    "entry_null": b'{"start.safetensors": null}',
    "entry_text": b'{"start.safetensors": "abc"}',
    "entry_list": b'{"start.safetensors": [1]}',
    "entry_empty": b'{"start.safetensors": {}}',
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_damaged_manifest_is_refused(saved, kind):
    saved.with_name("manifest.json").write_bytes(MANIFESTS[kind])
    refused(saved)


@pytest.mark.parametrize("key", ["sha256", "bytes", "field"])
@pytest.mark.parametrize("value", ["absent", None, 3, "x", []])
def test_an_entry_without_what_it_must_say_is_refused(saved, key, value):
    table = saved.with_name("manifest.json")
    manifest = json.loads(table.read_text("utf8"))
    manifest[ENTRY][key] = value
    if value == "absent":
        del manifest[ENTRY][key]
    table.write_text(json.dumps(manifest))
    refused(saved)


# --- files that their manifest vouches for ----------------------------------------------------
def vouched(path, data, entry):
    """Write a file by hand, and its manifest with the hash that it has."""
    path.write_bytes(data)
    entry = {**entry, "sha256": _files.sha256(data), "bytes": len(data)}
    path.with_name("manifest.json").write_text(json.dumps({path.name: entry}))


def parts(with_step_sizes=True):
    kinds = [("layer", drawn())] + [("step_sizes", drawn(seed=1, lead=(2,)))] * with_step_sizes
    return {
        f"{kind}_{i}.{k}": v
        for kind, theta in kinds
        for i, layer in enumerate(theta)
        for k, v in layer._asdict().items()
    }


def by_hand(path, arrays, **spec):
    vouched(path, tensors(arrays), dict(field={**FIELDS["siren"].spec, **spec}))


@pytest.mark.parametrize("with_step_sizes", [False, True])
def test_a_file_written_by_hand_is_as_good(tmp_path, with_step_sizes):
    path = tmp_path / "hand.safetensors"
    by_hand(path, parts(with_step_sizes))
    same(store.load(path).theta, drawn())
    assert (store.load(path).init.step_sizes is not None) == with_step_sizes


CHANGES = {
    "missing": (lambda a: a.pop("layer_1.b"), "layer_1.b is missing"),
    "first_layer_missing": (lambda a: (a.pop("layer_0.w"), a.pop("layer_0.b")), "layer_0"),
    "last_layer_missing": (lambda a: (a.pop("layer_2.w"), a.pop("layer_2.b")), "layer_2"),
    "no_layers": (lambda a: [a.pop(n) for n in list(a) if "layer" in n], "layer_0"),
    "nothing": (lambda a: a.clear(), "layer_0.b is missing"),
    "extra": (lambda a: a.update(x=a["layer_0.w"]), "x is not a tensor of this field"),
    "layer_extra": (
        lambda a: a.update({"layer_3.w": a["layer_2.w"]}),
        "layer_3.w is not a tensor of this field",
    ),
    "renamed": (lambda a: a.update({"layer_0.W": a.pop("layer_0.w")}), "layer_0"),
    "transposed": (
        lambda a: a.update({"layer_0.w": np.zeros((6, 2), np.float32)}),
        "layer_0.w is float32(6, 2), not float32(2, 6)",
    ),
    "flat": (
        lambda a: a.update({"layer_0.w": np.zeros(12, np.float32)}),
        "layer_0.w is float32(12,), not float32(2, 6)",
    ),
    "bias_a_row": (lambda a: a.update({"layer_0.b": a["layer_0.b"][None]}), "(1, 6)"),
    "one_wider": (lambda a: a.update({"layer_2.b": np.zeros(4, np.float32)}), "not float32(3,)"),
    "empty": (lambda a: a.update({"layer_1.w": np.zeros((6, 0), np.float32)}), "(6, 0)"),
    "double": (lambda a: a.update({"layer_1.w": a["layer_1.w"].astype("f8")}), "float64(6, 6)"),
    "half": (lambda a: a.update({"layer_1.w": a["layer_1.w"].astype("f2")}), "float16(6, 6)"),
    "whole": (lambda a: a.update({"layer_1.w": a["layer_1.w"].astype("i4")}), "int32(6, 6)"),
    "truth": (lambda a: a.update({"layer_1.w": a["layer_1.w"] > 0}), "bool(6, 6)"),
    "nan": (lambda a: np.put(a["layer_1.w"], 7, np.nan), "layer_1.w has values that are not fin"),
    "inf": (lambda a: np.put(a["layer_2.b"], 0, np.inf), "layer_2.b has values that are not fin"),
    "step_size_missing": (lambda a: a.pop("step_sizes_1.b"), "step_sizes_1.b is missing"),
    "step_size_extra": (
        lambda a: a.update({"step_sizes_3.b": a["step_sizes_2.b"]}),
        "step_sizes_3.b is not a tensor",
    ),
    "step_size_nan": (
        lambda a: np.put(a["step_sizes_0.w"], 3, np.nan),
        "step_sizes_0.w has values",
    ),
    "step_size_double": (
        lambda a: a.update({"step_sizes_0.w": a["step_sizes_0.w"].astype("f8")}),
        "float64",
    ),
    "step_size_flat": (
        lambda a: a.update({"step_sizes_0.w": np.zeros(12, np.float32)}),
        "step_sizes_",
    ),
    "step_size_scalar": (lambda a: a.update({"step_sizes_0.w": np.float32([0.1])}), "step_sizes_"),
    "step_size_of_another_width": (
        lambda a: a.update({"step_sizes_1.w": np.zeros((2, 5, 5), np.float32)}),
        "step_sizes_",
    ),
    "step_size_without_steps": (
        lambda a: a.update({"step_sizes_1.w": a["step_sizes_1.w"][0]}),
        "step_sizes_",
    ),
    "step_sizes_of_no_step": (
        lambda a: a.update({n: v[:0] for n, v in a.items() if "step_sizes" in n}),
        "step_sizes_",
    ),
    "step_sizes_of_different_steps": (
        lambda a: a.update({"step_sizes_1.w": np.zeros((3, 6, 6), np.float32)}),
        "step_sizes_",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_tensors_that_are_not_the_fields_are_refused(tmp_path, change):
    arrays = {name: a.copy() for name, a in parts().items()}
    edit, told = CHANGES[change]
    edit(arrays)
    by_hand(tmp_path / "hand.safetensors", arrays)
    refused(tmp_path / "hand.safetensors", told)


@pytest.mark.parametrize(
    "spec",
    [
        dict(kind="sirene"),
        dict(width=7),
        dict(depth=4),
        dict(depth=2),
        dict(dims=3),
        dict(channels=1),
        dict(width=-6),
        dict(width="6"),
        dict(omega0=0.0),
        dict(omega0="x"),
        dict(omega0=[30.0]),
        dict(head="exp"),
        dict(head=[]),
        dict(scheme=None),
        dict(offset="x"),
        dict(offset=float("nan")),
        dict(gain=2),
    ],
    ids=str,
)
def test_another_field_than_the_tensors_is_refused(tmp_path, spec):
    by_hand(tmp_path / "hand.safetensors", parts(), **spec)
    refused(tmp_path / "hand.safetensors")


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\0" * 100, b"\xff" * 100, b"\x80\x04N."])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, data):
    vouched(tmp_path / "hand.safetensors", data, dict(field=dict(FIELDS["siren"].spec)))
    refused(tmp_path / "hand.safetensors")


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2", "C64"])
def test_types_that_numpy_lacks_are_refused(tmp_path, kind):
    count = {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8}[kind]
    header = json.dumps(
        {"layer_0.w": dict(dtype=kind, shape=[2, 6], data_offsets=[0, 12 * count])}
    ).encode()
    data = len(header).to_bytes(8, "little") + header + b"\0" * 12 * count
    vouched(tmp_path / "hand.safetensors", data, dict(field=dict(FIELDS["siren"].spec)))
    refused(tmp_path / "hand.safetensors")


# --- saving refuses, and leaves nothing behind ------------------------------------------------
def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def spoiled(value, **words):
    theta = drawn(**words)
    theta[1].w[..., 2, 3] = value
    return theta


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["theta", "step_sizes"])
@pytest.mark.parametrize("there", [False, True])
def test_saving_what_is_not_finite_is_refused(tmp_path, saved, value, kind, there):
    folder = tmp_path if there else tmp_path / "new"
    before = contents(tmp_path)
    bad = Init(spoiled(value), drawn(seed=1, lead=(2,)))
    if kind == "step_sizes":
        bad = Init(drawn(), spoiled(value, seed=1, lead=(2,)))
    with pytest.raises(StoreError, match=r"_1\.w has values that are not finite"):
        store.save(folder / ENTRY, FIELDS["siren"], bad)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["start", "start.npz", "start.safetensors.bak", "safetensors"])
def test_saving_under_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(StoreError, match=r"expected a file name in \.safetensors"):
        store.save(tmp_path / name, FIELDS["siren"], drawn())
    assert list(tmp_path.iterdir()) == []


def test_saving_info_that_json_cannot_hold_changes_nothing(tmp_path, saved):
    before = contents(tmp_path)
    with pytest.raises((TypeError, ValueError)):
        store.save(saved, FIELDS["siren"], drawn(seed=9), score=np.float32(3))
    with pytest.raises((TypeError, ValueError)):
        store.save(tmp_path / "new.safetensors", FIELDS["siren"], drawn(), score=object())
    assert contents(tmp_path) == before


def test_saving_beside_a_torn_manifest_changes_nothing(tmp_path, saved):
    (tmp_path / "manifest.json").write_bytes(b'{"start')
    before = contents(tmp_path)
    with pytest.raises(ValueError):  # noqa: PT011 any line will do
        store.save(tmp_path / "new.safetensors", FIELDS["siren"], drawn())
    assert contents(tmp_path) == before


# --- half precision ---------------------------------------------------------------------------
def test_half_precision_is_half_as_large_and_comes_back_rounded(tmp_path):
    path, whole = tmp_path / "half.safetensors", tmp_path / "whole.safetensors"
    init = rated()
    store.save(whole, FIELDS["siren"], init)
    store.save(path, FIELDS["siren"], init, precision="float16")
    found = store.load(path)
    same(found.theta, store.rounded(drawn(), "float16"))
    same(found.init.step_sizes, store.rounded(init.step_sizes, "float16"))
    for x, y in zip(jax.tree.leaves(found.theta), jax.tree.leaves(drawn())):
        np.testing.assert_allclose(x, y, rtol=2**-11, atol=2**-25)
    numbers = sum(a.size for a in jax.tree.leaves(init))
    assert path.stat().st_size == whole.stat().st_size - 2 * numbers
    assert found.info["precision"] == "float16"
    store.save(tmp_path / "again.safetensors", found.field, found.theta, precision="float16")
    same(store.load(tmp_path / "again.safetensors").theta, found.theta)


def test_too_large_for_half_precision_is_refused(tmp_path):
    theta = [Layer(100000 * np.sign(layer.w), layer.b) for layer in drawn()]
    store.save(tmp_path / "whole.safetensors", FIELDS["siren"], theta)
    with pytest.raises(StoreError, match=r"layer_0\.w has values that are not finite in float16"):
        store.save(tmp_path / "half.safetensors", FIELDS["siren"], theta, precision="float16")
    assert not (tmp_path / "half.safetensors").exists()


def test_another_precision_is_refused(tmp_path, saved):
    with pytest.raises(StoreError, match="one of float32, float16"):
        store.save(tmp_path / "x.safetensors", FIELDS["siren"], drawn(), precision="float64")
    table = saved.with_name("manifest.json")
    told = json.loads(table.read_text("utf8"))
    for wrong, says in (
        ("float64", "one of float32"),
        ("float16", "(6,), not float16(6,)"),
    ):
        told[saved.name]["precision"] = wrong
        table.write_text(json.dumps(told), "utf8")
        refused(saved, says)


@pytest.mark.parametrize("name", store.names())
def test_shipped_files_have_the_precision_of_their_recipe(name):
    info = store.load(name).info
    assert info.get("precision", "float32") == registry.RECIPES[name].precision
