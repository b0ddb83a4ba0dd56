"""Weights in the layouts of others: out and in again bit for bit, told apart, or refused unread."""

import io
import pickle
import struct
import sys
import types
import zipfile
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import evaluate, fields, inner, tasks
from learnit_utils._unpickle import PickleError
from learnit_utils.book.cli import main
from learnit_utils.experiments import _torchfile, exchange, store
from learnit_utils.experiments.exchange import LAYOUTS
from learnit_utils.fields import Layer
from learnit_utils.forward import pixels
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel

FIELDS = {
    "siren": fields.siren(8, 4, 25.0, 3, hidden_omega0=12.0),
    "siren_2": fields.siren(7, 2, 30.0, 1, dims=1, offset=0.0),
    "relu": fields.relu(8, 3, 1, head="sigmoid", offset=0.0),
    "posenc": fields.posenc(8, 3, 5, 4, max_log2=6.0, scale=1.0, dims=3, offset=0.0),
    "fourier": fields.fourier(8, 3, 2.0, 3, features=6, feature_seed=4),
}


def drawn(field, seed=0):
    """Weights whose biases are not zero."""
    theta = field.init(jax.random.key(seed))
    keys = jax.random.split(jax.random.key(seed + 1), len(theta))
    return [Layer(w, 0.1 * jax.random.normal(k, b.shape)) for (w, b), k in zip(theta, keys)]


def trained(name, folder, step_sizes=None):
    field = FIELDS[name]
    path = folder / "from.safetensors"
    store.save(path, field, Init(drawn(field), step_sizes), method="drawn")
    return store.load(path)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(np.asarray(u), np.asarray(v))


def asked_for(spec, layout):
    """What the weights of a field in a layout do not say."""
    if layout == "npz":
        return {}
    shapes = ("kind", "width", "depth", "channels", "dims", "features", "scheme")
    return dict(kind=spec["kind"]) | {k: v for k, v in spec.items() if k not in shapes}


# --- out and in again -------------------------------------------------------------------------
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FIELDS)
def test_out_and_in_again_is_the_same_bit_for_bit(tmp_path, name, layout):
    first = trained(name, tmp_path)
    target = tmp_path / f"to{LAYOUTS[layout]}"
    assert exchange.export(first, layout, target)[0] == target
    how = asked_for(first.field.spec, layout)
    exchange.convert(target, tmp_path / "again.safetensors", **how)
    again = store.load(tmp_path / "again.safetensors")
    same(again.init, first.init)
    x = jnp.linspace(-1, 1, 5 * first.field.spec["dims"]).reshape(5, -1)
    same(again.field(again.theta, x), first.field(first.theta, x))
    drawn_as = {k: v for k, v in again.field.spec.items() if k != "scheme"}
    assert drawn_as == {k: v for k, v in first.field.spec.items() if k != "scheme"}


def test_an_npz_keeps_learned_step_sizes(tmp_path):
    theta = drawn(FIELDS["siren"])
    rates = jax.tree.map(lambda a: jnp.full((2, *a.shape), 1e-2), theta)
    first = trained("siren", tmp_path, rates)
    exchange.export(first, "npz", tmp_path / "to.npz")
    exchange.convert(tmp_path / "to.npz", tmp_path / "again.safetensors")
    same(store.load(tmp_path / "again.safetensors").init, first.init)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_command_exports_what_ships(tmp_path, monkeypatch, capsys, layout):
    monkeypatch.chdir(tmp_path)
    assert main(["export-weights", "faces64_metasgd", "--to", layout]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"faces64_metasgd{LAYOUTS[layout]}"
    assert ("its learned step sizes are left out; an npz holds them too" in told) == (
        layout != "npz"
    )
    more = () if layout == "npz" else ("--kind", "siren", "--omega0", "30")
    assert main(["import-weights", told[0], "again.safetensors", *more]) == 0
    same(store.load(tmp_path / "again.safetensors").theta, store.load("faces64_metasgd").theta)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["faces64_maml", "--to", "keras"], 2, "expected one of torch, flax, haiku, npz"),
        (["faces64_maml"], 2, "--to"),
        (["nothing", "--to", "npz"], 1, "weights 'nothing': shipped are"),
        (["faces64_maml", "file/below.npz", "--to", "npz"], 2, "not a folder"),
    ],
)
def test_the_command_refuses_in_a_line(tmp_path, monkeypatch, capsys, words, status, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main(["export-weights", *words]) == status
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# --- PyTorch -----------------------------------------------------------------------------------
def by_hand(tensors, spec, x):
    """The network of a state dict in NumPy, double precision, with PyTorch's orientation."""
    h = x.astype(np.float64)
    if "angular" in tensors:
        z = h @ tensors["angular"]
        h = np.concatenate([np.sin(z), np.cos(z)], -1)
    for i in range(spec["depth"]):
        z = h @ tensors[f"layers.{i}.weight"].T.astype(np.float64) + tensors[f"layers.{i}.bias"]
        gain = spec.get("omega0") if i == 0 else spec.get("hidden_omega0")
        last = i == spec["depth"] - 1
        h = z if last else np.sin(gain * z) if spec["kind"] == "siren" else np.maximum(z, 0)
    return (1 / (1 + np.exp(-h)) if spec["head"] == "sigmoid" else h) + spec["offset"]


@pytest.mark.parametrize("name", FIELDS)
def test_a_state_dict_is_the_field_in_pytorchs_orientation(tmp_path, name):
    first = trained(name, tmp_path)
    exchange.export(first, "torch", tmp_path / "to.pt")
    tensors = _torchfile.read(tmp_path / "to.pt")
    x = np.random.default_rng(0).uniform(-1, 1, (20, first.field.spec["dims"])).astype("f4")
    wanted = by_hand(tensors, first.field.spec, x)
    np.testing.assert_allclose(first.field(first.theta, x), wanted, atol=2e-5)
    assert wanted.std() > 0.01
    compile((tmp_path / "to.py").read_text(), "to.py", "exec")


def module_of(path):
    """The field that the exported module makes of the exported weights."""
    torch = pytest.importorskip("torch", reason="the extra peer")
    names = {}
    exec(path.with_suffix(".py").read_text(), names)
    return torch, names["Field"](torch.load(path, weights_only=True))


@pytest.mark.parametrize("name", FIELDS)
def test_pytorch_reads_an_export_and_computes_the_same(tmp_path, name):
    first = trained(name, tmp_path)
    exchange.export(first, "torch", tmp_path / "to.pt")
    torch, module = module_of(tmp_path / "to.pt")
    x = np.random.default_rng(0).uniform(-1, 1, (20, first.field.spec["dims"])).astype("f4")
    with torch.no_grad():
        found = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, first.field(first.theta, x), atol=2e-5)
    torch.save(module.state_dict(), tmp_path / "again.pt")
    exchange.convert(
        tmp_path / "again.pt",
        tmp_path / "again.safetensors",
        **asked_for(first.field.spec, "torch"),
    )
    same(store.load(tmp_path / "again.safetensors").theta, first.theta)


def test_two_steps_in_pytorch_end_at_the_same_psnr(tmp_path):
    first = store.load("faces64_maml_tuned")
    exchange.export(first, "torch", tmp_path / "to.pt")
    torch, module = module_of(tmp_path / "to.pt")
    task = pixels.image_tasks(first.recipe.load("test")).take(slice(0, 1))
    loss = tasks.regression(first.field)
    adapt = inner.sgd(loss, 2, first.recipe.inner_lr)
    ours = np.asarray(evaluate.trajectory(loss, adapt, first.init, task))
    x = torch.from_numpy(np.array(task.shared).reshape(-1, 2))
    y = torch.from_numpy(np.array(task.each[0]).reshape(len(x), -1))
    steps, theirs = torch.optim.SGD(module.parameters(), lr=first.recipe.inner_lr), []
    for _ in range(3):
        steps.zero_grad()
        error = ((module(x) - y) ** 2).mean()
        theirs.append(error.item())
        error.backward()
        steps.step()
    np.testing.assert_allclose(decibel(np.array(theirs)), decibel(ours).ravel()[:3], atol=1e-4)


def test_pytorchs_own_files_are_read_without_it(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra peer")
    net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    steps = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    steps.step()
    held = {k: v.detach().numpy() for k, v in net.state_dict().items()}
    whole = dict(epoch=3, state_dict=net.state_dict(), optimizer=steps.state_dict())
    for i, what in enumerate((net.state_dict(), dict(net.named_parameters()), whole)):
        torch.save(what, tmp_path / "net.pt")
        exchange.convert(tmp_path / "net.pt", tmp_path / f"{i}.safetensors", kind="relu")
        theta = store.load(tmp_path / f"{i}.safetensors").theta
        np.testing.assert_array_equal(theta[0].w, held["0.weight"].T)
        np.testing.assert_array_equal(theta[1].b, held["2.bias"])
    torch.save(net, tmp_path / "net.pt")
    with pytest.raises(PickleError, match=r"it asks for torch\.nn\.modules"):
        exchange.read(tmp_path / "net.pt")
    torch.save(net.state_dict(), tmp_path / "net.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(PickleError, match=r"PyTorch before 1\.6"):
        exchange.read(tmp_path / "net.pt")


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 4), st.booleans())
def test_views_of_a_storage_are_read_as_pytorch_means_them(tmp_path_factory, n, m, skip, turned):
    """A tensor is a shape and strides over numbers that it may share."""
    numbers = np.arange(skip + n * m, dtype="f4")
    stride = (1, n) if turned else (m, 1)
    program = rebuilt(shape=(n, m), stride=stride, offset=skip, count=len(numbers))
    path = tmp_path_factory.mktemp("view") / "a.pt"
    path.write_bytes(archive({"data.pkl": program, "data/0": numbers.tobytes()}))
    wanted = numbers[skip:].reshape((m, n) if turned else (n, m))
    np.testing.assert_array_equal(
        _torchfile.read(path)["w"], wanted.T if turned else wanted, strict=True
    )


# --- the code of both papers, by its layout ----------------------------------------------------
def stack(sizes, name, make=np.asarray, seed=0, keys="wb"):
    """{name: {w, b}, name_1: ...} as haiku and flax name repeated modules."""
    rng = np.random.default_rng(seed)
    found = {}
    for i, (n, m) in enumerate(pairwise(sizes)):
        w, b = rng.normal(0, n**-0.5, (n, m)).astype("f4"), rng.normal(0, 0.1, m).astype("f4")
        found[name(i)] = {keys[0]: make(w), keys[1]: make(b)}
    return found


def haiku(name):
    return lambda i: name.format(f"_{i}" if i else "")


SIREN = haiku("siren/siren_layer{}/linear")
DENSE = "Dense_{}".format
HIDDEN = [16] * 4
FAMILIES = {
    "dictionary paper, haiku SIREN": (stack([2, *HIDDEN, 1], SIREN), "siren", dict(omega0=30.0)),
    "dictionary paper, haiku MLP": (stack([2, *HIDDEN, 1], haiku("mlp/linear{}")), None, {}),
    "dictionary paper, haiku FFN": (stack([32, *HIDDEN, 1], haiku("ffn/linear{}")), None, {}),
    "dictionary paper, flax": (
        dict(params=stack([2, *HIDDEN, 3], DENSE, keys=("kernel", "bias"))), None, {}),
    "learnit, tomography": (stack([512, *HIDDEN, 1], haiku("model/linear{}")), None, {}),
    "learnit, objects and places": (stack([120, *HIDDEN, 4], haiku("model/linear{}")), None, {}),
}  # fmt: skip


def put(folder, tree, name="params.pkl"):
    (folder / name).write_bytes(pickle.dumps(tree, 4))
    return folder / name


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("family", FAMILIES)
def test_published_layouts_are_told_apart_or_asked_for(tmp_path, family, make):
    """Arrays of JAX are read as those of NumPy; no name is taken for a network it may not be."""
    tree, kind, more = FAMILIES[family]
    found = exchange.read(put(tmp_path, jax.tree.map(make, tree)))
    held = list(tree.get("params", tree).values())
    assert len(found.theta) == len(held)
    for layer, wanted in zip(found.theta, held):
        np.testing.assert_array_equal(layer.w, next(iter(wanted.values())))
    if kind:
        assert exchange.field_of(found, **more).spec["kind"] == kind
        return
    inputs = found.theta[0].w.shape[0]
    kinds = "siren or relu" if inputs <= 4 else "posenc or fourier"
    with pytest.raises(PickleError, match=f"{inputs} inputs it is: --kind {kinds}"):
        exchange.field_of(found)


def learnits_encoding(x):
    """Of its notebooks `shapenet` and `phototourism`: frequency by frequency."""
    parts = [[np.sin(x * 2**k), np.cos(x * 2**k)] for k in np.linspace(0, 8, 20)]
    return np.concatenate([np.concatenate(both, -1) for both in parts], -1)


def test_learnits_network_of_objects_is_the_same_function(tmp_path):
    tree = stack([120, *HIDDEN, 4], haiku("model/linear{}"))
    source = put(tmp_path, tree)
    words = ["--kind", "posenc", "--set", "frequencies=20", "--set", "max_log2=8"]
    words += ["--set", "scale=1", "--offset", "0", "--by-frequency"]
    target = tmp_path / "start.safetensors"
    assert main(["import-weights", str(source), str(target), *words]) == 0
    found = store.load(target)
    assert (found.field.spec["dims"], found.field.spec["channels"]) == (3, 4)
    x = np.random.default_rng(1).uniform(-0.2, 0.2, (30, 3)).astype(np.float32)
    h = learnits_encoding(x.astype(np.float64))
    for i, layer in enumerate(tree.values()):
        h = h @ layer["w"] + layer["b"]
        h = h if i == 4 else np.maximum(h, 0)
    np.testing.assert_allclose(found.field(found.theta, x), h, atol=1e-4)
    assert h.std() > 0.05


@pytest.mark.parametrize(
    ("sizes", "name", "how", "told"),
    [
        ((120, 8, 8, 4), "mlp/linear{}", dict(kind="siren", omega0=30.0), "120 inputs: not coord"),
        ((512, 8, 8, 1), "siren/linear{}", dict(omega0=30.0), "512 inputs: not coordinates"),
        ((120, 8, 8, 4), "mlp/linear{}", dict(kind="relu"), "at most 4, but features of them"),
        ((120, 8, 8, 4), "mlp/linear{}", dict(kind="posenc"), "number of its frequencies is miss"),
        ((120, 8, 8, 4), "m/linear{}", dict(kind="posenc", frequencies=7), "a posenc network of"),
        ((63, 8, 8, 4), "m/linear{}", dict(kind="posenc", frequencies=10), "63 inputs, a posenc"),
        ((31, 8, 1), "m/linear{}", dict(kind="fourier", sigma=1.0, feature_seed=0), "31 inputs, a"),
        ((32, 8, 1), "m/linear{}", dict(kind="fourier", sigma=1.0), "--angular FILE.npy is miss"),
        ((2, 8, 8, 1), "siren/linear{}", {}, "do not hold omega0: --omega0 is missing"),
        ((2, 8, 9, 1), "siren/linear{}", dict(omega0=30.0), "hidden layers of widths"),
        ((2, 8, 1), "siren/linear{}", dict(omega0=30.0, sigma=3.0), "sigma: expected one of"),
    ],
)  # fmt: skip
def test_a_stack_that_cannot_be_that_network_is_refused(tmp_path, sizes, name, how, told):
    source = put(tmp_path, stack(sizes, haiku(name)))
    with pytest.raises(PickleError) as error:
        exchange.convert(source, tmp_path / "start.safetensors", **how)
    assert told in str(error.value)
    assert str(error.value).startswith("params.pkl: ")
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["params.pkl"]


def test_frequencies_of_another_draw_are_refused(tmp_path):
    first = trained("fourier", tmp_path)
    exchange.export(first, "torch", tmp_path / "to.pt")
    how = dict(kind="fourier", sigma=2.0)
    with pytest.raises(PickleError, match="its frequencies are not those of a fourier network"):
        exchange.convert(tmp_path / "to.pt", tmp_path / "again.safetensors", **how, feature_seed=3)
    exchange.convert(tmp_path / "to.pt", tmp_path / "again.safetensors", **how, feature_seed=4)


def test_frequencies_in_the_file_are_enough(tmp_path):
    first = trained("fourier", tmp_path)
    exchange.export(first, "torch", tmp_path / "to.pt")
    exchange.convert(tmp_path / "to.pt", tmp_path / "again.safetensors", kind="fourier")
    again = store.load(tmp_path / "again.safetensors")
    assert again.field.spec["kind"] == "waves"
    x = jnp.linspace(-1, 1, 20).reshape(10, 2)
    want = first.field(first.theta, x)
    np.testing.assert_allclose(again.field(again.theta, x), want, atol=1e-5)
    assert again.field == store.load(tmp_path / "again.safetensors").field
    for layout in LAYOUTS:  # and out again
        exchange.export(again, layout, tmp_path / f"more{LAYOUTS[layout]}")
    exchange.convert(tmp_path / "more.npz", tmp_path / "more.safetensors")
    same(store.load(tmp_path / "more.safetensors").theta, first.theta)


@pytest.mark.parametrize("turned", [False, True])
def test_learnits_network_of_slices_is_the_same_function(tmp_path, turned):
    """Of its notebook `2d_ct`: sines and cosines of frequencies in radians, then a sigmoid."""
    rng = np.random.default_rng(0)
    tree = stack([64, *HIDDEN, 1], haiku("model/linear{}"))
    source, rff = put(tmp_path, tree), rng.normal(0, 30, (2, 32))
    np.save(tmp_path / "F.npy", rff.T if turned else rff)
    words = ["--kind", "fourier", "--angular", str(tmp_path / "F.npy"), "--offset", "0"]
    target = tmp_path / "start.safetensors"
    ask = ["import-weights", str(source), str(target), *words, "--set", "head=sigmoid"]
    assert main(ask) == 0
    found = store.load(target)
    x = rng.uniform(0, 1, (30, 2)).astype(np.float32)
    z = x.astype(np.float64) @ rff.astype(np.float32)
    h = np.concatenate([np.sin(z), np.cos(z)], -1)
    for i, layer in enumerate(tree.values()):
        h = h @ layer["w"] + layer["b"]
        h = 1 / (1 + np.exp(-h)) if i == 4 else np.maximum(h, 0)
    np.testing.assert_allclose(found.field(found.theta, x), h, atol=2e-4)
    assert h.std() > 0.01


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no array of frequencies"),
        (b"PK\x03\x04", "no array of frequencies"),
        (pickle.dumps(print), "no array of frequencies"),
        (np.ones(4), "expected finite frequencies"),
        (np.full((2, 4), np.nan), "expected finite frequencies"),
        (np.ones((2, 5)), "its first layer has 8 inputs"),
        (np.ones((2, 4), int), "no array of frequencies"),
        (None, "no array of frequencies"),
    ],
)
def test_frequencies_that_do_not_fit_are_refused(tmp_path, data, told):
    source, file = put(tmp_path, stack([8, 8, 1], haiku("m/linear{}"))), tmp_path / "F.npy"
    if data is not None:
        file.write_bytes(data if isinstance(data, bytes) else npy(data))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PickleError, match=told) as error:
        exchange.convert(source, tmp_path / "a.safetensors", kind="fourier", angular=file)
    assert len(str(error.value).splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("module", ["flax.core.frozen_dict", "haiku._src.data_structures"])
def test_mappings_of_flax_and_haiku_are_read_without_them(tmp_path, monkeypatch, module):
    name = "FrozenDict" if "flax" in module else "FlatMapping"
    kind = type(name, (dict,), dict(__module__=module))
    kind.__reduce__ = lambda self: (kind, (dict(self),))
    tree = stack([2, 8, 8, 1], SIREN)
    with monkeypatch.context() as m:
        for i in range(len(module.split("."))):
            part = ".".join(module.split(".")[: i + 1])
            m.setitem(sys.modules, part, types.ModuleType(part))
        setattr(sys.modules[module], name, kind)
        source = put(tmp_path, kind({k: kind(v) for k, v in tree.items()}))
    found = exchange.read(source)
    np.testing.assert_array_equal(found.theta[1].w, list(tree.values())[1]["w"])


def test_arrays_of_older_jax_are_read(tmp_path):
    data = pickle.dumps(jax.tree.map(jnp.asarray, stack([2, 8, 1], SIREN)), 2)
    old = data.replace(b"cjax._src.array\n_rec", b"cjax._src.device_array\nrec")
    old = old.replace(b"reconstruct_array\n", b"reconstruct_device_array\n")
    assert b"reconstruct_device_array" in old
    (tmp_path / "params.pkl").write_bytes(old)
    assert len(exchange.read(tmp_path / "params.pkl").theta) == 2


@pytest.mark.parametrize("separator", ["/", "."])
def test_an_npz_of_anyones_arrays_is_read_by_its_names(tmp_path, separator):
    tree = stack([2, *[4] * 11, 3], haiku("net/linear{}"))
    flat = {f"{k}{separator}{r}": a for k, v in tree.items() for r, a in v.items()}
    np.savez_compressed(tmp_path / "a.npz", **flat)
    found = exchange.read(tmp_path / "a.npz")
    for layer, wanted in zip(found.theta, tree.values(), strict=True):
        np.testing.assert_array_equal(layer.w, wanted["w"])
    exchange.convert(tmp_path / "a.npz", tmp_path / "a.safetensors", kind="siren", omega0=5.0)
    assert store.load(tmp_path / "a.safetensors").field.spec["omega0"] == 5.0


# --- hostile archives --------------------------------------------------------------------------
def text(word):
    return b"X" + struct.pack("<I", len(word.encode())) + word.encode()


def whole(n):
    data = pickle.encode_long(n)
    return b"\x8b" + struct.pack("<i", len(data)) + data


def several(*parts):
    return b"(" + b"".join(parts) + b"t"


def storage(kind="torch\nFloatStorage\n", key="0", count=4, word="storage", size=5):
    parts = [text(word), b"c" + kind.encode(), text(key), text("cpu"), whole(count)]
    return several(*parts[:size]) + b"Q"


def tensor(held=None, offset=0, shape=(4,), stride=(1,), count=4, **how):
    """The opcodes of a tensor."""
    held = storage(count=count, **how) if held is None else held
    axes = [several(*map(whole, a)) if isinstance(a, tuple) else a for a in (shape, stride)]
    rest = b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + several(held, whole(offset), *axes, rest) + b"R"


def rebuilt(**how):
    return b"\x80\x02}" + text("w") + tensor(**how) + b"s."


def archive(members, root="archive/", **how):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **how) as z:
        for name, data in members.items():
            z.writestr(root + name, data)
    return file.getvalue()


def pt(program=None, raw=bytes(16), **members):
    """A file of PyTorch with that pickle and one storage."""
    files = {"data.pkl": rebuilt() if program is None else program, "data/0": raw}
    return archive(files | {k.replace("__", "/"): v for k, v in members.items()})


def call(module, name, *args):
    return f"c{module}\n{name}\n".encode() + several(*map(text, args)) + b"R"


def within(value):
    return b"\x80\x02}" + text("w") + value + b"s."


def live(canary):
    """Programs that would run, were the pickle in the archive loaded."""
    touch, code = f"touch '{canary}'", f"open({str(canary)!r}, 'w').close()"
    run = call("os", "system", touch)
    imported = call("builtins", "__import__", "os")
    return {
        "os.system": pt(within(run)),
        "posix.system": pt(within(call("posix", "system", touch))),
        "eval": pt(within(call("builtins", "eval", code))),
        "exec": pt(within(call("builtins", "exec", code))),
        "timeit": pt(within(call("timeit", "timeit", "0", code))),
        "open": pt(within(call("builtins", "open", str(canary), "w"))),
        "getattr": pt(within(call("builtins", "getattr", "x", "y") + imported)),
        "INST": pt(b"\x80\x02(" + text(touch) + b"ios\nsystem\n."),
        "OBJ": pt(b"\x80\x02(cos\nsystem\n" + text(touch) + b"o."),
        "EXT1": pt(b"\x80\x02\x82\xf0" + several(text(touch)) + b"R."),
        "as_a_storage": pt(within(tensor(held=run))),
        "as_a_kind": pt(within(tensor(held=several(text("storage"), run) + b"Q"))),
        "as_hooks": pt(within(b"ctorch._utils\n_rebuild_parameter\n" + several(run) + b"R")),
        "as_a_key": pt(b"\x80\x02}" + run + text("w") + b"s."),
        "as_notes": pt(b"\x80\x02ccollections\nOrderedDict\n)R}" + text("_m") + run + b"sb."),
        "before": pt(b"\x80\x02" + run + b"0" + rebuilt()[2:]),
        "whole_module": pt(within(call("torch.nn.modules.linear", "Linear", touch))),
        "torch.load": pt(within(call("torch", "load", touch))),
        "torch.hub": pt(within(call("torch.hub", "load", touch))),
        "numpy.load": pt(within(call("numpy", "load", touch))),
        "rebuild_by_type": pt(within(call("torch._tensor", "_rebuild_from_type_v2", touch))),
        "persistent_text": pt(within(b"P" + touch.encode() + b"\n")),
        "object_array": archive({"w.npy": npy(object_array(canary))}, ""),
        "npz_of_pickles": archive({"a.npy": pickle.dumps(Evil(touch))}, ""),
        "pickle_as_npz": archive({"w.npy": b"\x93NUMPY\x01\x00" + pickle.dumps(Evil(touch))}, ""),
    }  # fmt: skip


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


def npy(a):
    file = io.BytesIO()
    np.save(file, a, allow_pickle=True)
    return file.getvalue()


def object_array(canary):
    a = np.empty(1, object)
    a[0] = Evil(f"touch '{canary}'")
    return a


def head(shape, descr="'<f4'", data=bytes(16), version=b"\x01\x00", more=""):
    """An array file with any header."""
    said = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {more}}}\n".encode()
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(said))
    return b"\x93NUMPY" + version + size + said + data


def npz(**arrays):
    return archive({f"{k}.npy": v for k, v in arrays.items()}, "")


FLOATS = npy(np.ones((2, 3), "f4"))
SPECIAL = npy(np.frombuffer(b'{"kind": "nosuch"}', np.uint8))


def layer_files(w, b, **more):
    return npz(**{"layer_0.w": npy(w), "layer_0.b": npy(b)}, **more)


STILL = {
    "empty_zip": archive({}),
    "no_pickle": archive({"data/0": bytes(16)}),
    "two_pickles": archive({"data.pkl": rebuilt(), "x/data.pkl": rebuilt(), "data/0": bytes(16)}),
    "cut": pt()[:-30],
    "cut_in_half": pt()[: len(pt()) // 2],
    "only_a_magic": b"PK\x03\x04",
    "flipped": pt().replace(b"FloatStorage", b"FloatStorag\xff"),
    "climbs_out": archive({"../../data.pkl": rebuilt(), "data/0": bytes(16)}),
    "absolute": archive({"/etc/data.pkl": rebuilt()}, ""),
    "drive": archive({"C:/data.pkl": rebuilt()}, ""),
    "bomb": archive(
        {"data.pkl": rebuilt(), "data/0": bytes(2**23)}, compression=zipfile.ZIP_DEFLATED
    ),
    "no_such_storage": pt(rebuilt(key="7")),
    "storage_of_other_size": pt(rebuilt(count=5)),
    "storage_of_a_huge_size": pt(rebuilt(count=2**60)),
    "storage_of_negative_size": pt(rebuilt(count=-4)),
    "storage_of_no_kind": pt(rebuilt(kind="collections\nOrderedDict\n")),
    "storage_of_half_a_number": pt(raw=bytes(15)),
    "not_a_storage": pt(rebuilt(word="module")),
    "storage_of_four_parts": pt(rebuilt(size=4)),
    "shape_too_large": pt(rebuilt(shape=(2**20, 2**20), stride=(1, 1))),
    "shape_by_zero_strides": pt(rebuilt(shape=(2**14, 2**14), stride=(0, 0))),
    "shape_of_negatives": pt(rebuilt(shape=(-4,))),
    "stride_of_negatives": pt(rebuilt(stride=(-1,))),
    "offset_beyond": pt(rebuilt(offset=1)),
    "offset_negative": pt(rebuilt(offset=-1)),
    "other_axes": pt(rebuilt(shape=(2, 2), stride=(1,))),
    "many_axes": pt(rebuilt(shape=(1,) * 40, stride=(1,) * 40)),
    "shape_of_texts": pt(rebuilt(shape=text("4"))),
    "shape_of_lists": pt(rebuilt(shape=b"](" + whole(4) + b"e")),
    "no_tensors": pt(within(whole(3))),
    "a_list": pt(b"\x80\x02](" + tensor() + b"e."),
    "only_a_tensor": pt(b"\x80\x02" + tensor() + b"."),
    "whole_numbers": pt(rebuilt(kind="torch\nLongStorage\n", count=2)),
    "bfloat16": pt(rebuilt(kind="torch\nBFloat16Storage\n")),
    "one_dict_in_itself": pt(b"\x80\x02}q\x00" + text("w") + b"h\x00s."),
    "parameter_of_nothing": pt(within(b"ctorch._utils\n_rebuild_parameter\n(Nt" + b"R")),
    "nothing_on_the_stack": pt(b"\x80\x02."),
    "no_end": pt(rebuilt()[:-1]),
    "protocol_of_the_future": pt(b"\x80\x09" + rebuilt()[2:]),
    "one_layer_without_bias": pt(),
    "npz_truncated": npz(w=FLOATS)[:-20],
    "npz_of_text": npz(w=b"hello"),
    "npz_of_nothing": npz(w=b""),
    "npz_of_whole_numbers": npz(w=npy(np.ones((2, 3), int))),
    "npz_of_texts": npz(w=npy(np.array(["a", "b"]))),
    "npz_of_records": npz(w=npy(np.zeros(2, [("a", "f4"), ("b", "f4")]))),
    "npz_of_complex": npz(w=npy(np.ones((2, 3), complex))),
    "npz_of_long_doubles": npz(w=npy(np.ones((2, 3), np.longdouble))),
    "npz_short": npz(w=FLOATS[:-1]),
    "npz_long": npz(w=FLOATS + b"x"),
    "npz_of_a_huge_shape": npz(w=head((2**40, 2**20))),
    "npz_of_a_negative_shape": npz(w=head((-2, -2))),
    "npz_of_many_axes": npz(w=head((1,) * 40, data=bytes(4))),
    "npz_of_a_shape_of_floats": npz(w=head("(2.0, 2.0)")),
    "npz_whose_header_calls": npz(w=head("(__import__('os').getpid(),)")),
    "npz_whose_header_is_huge": npz(w=head((4,), version=b"\x02\x00", more=" " * 10**6)),
    "npz_of_version_9": npz(w=head((4,), version=b"\x09\x00")),
    "npz_of_no_layers": npz(spec=SPECIAL),
    "npz_without_biases": npz(**{"layer_0.w": FLOATS}),
    "npz_of_an_unknown_field": layer_files(np.ones((2, 3)), np.ones(3), spec=SPECIAL),
    "npz_of_a_spec_of_lists": layer_files(
        np.ones((2, 3)), np.ones(3), spec=npy(np.frombuffer(b"[1]", np.uint8))
    ),
    "npz_of_a_deep_spec": layer_files(
        np.ones((2, 3)), np.ones(3), spec=npy(np.frombuffer(b"[" * 10**5, np.uint8))
    ),
    "npz_of_nan": layer_files(np.full((2, 3), np.nan), np.ones(3)),
    "npz_of_infinities": layer_files(np.ones((2, 3)), np.full(3, np.inf)),
    "npz_of_too_large_numbers": layer_files(np.full((2, 3), 1e300), np.ones(3)),
    "npz_of_a_scalar": layer_files(np.ones(()), np.ones(3)),
    "npz_of_other_biases": layer_files(np.ones((2, 3)), np.ones(4)),
    "npz_of_empty_layers": layer_files(np.ones((2, 0)), np.ones(0)),
}  # fmt: skip


def refusal(path, data, tmp_path):
    path.write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PickleError) as error:
        exchange.convert(path, tmp_path / "start.safetensors", omega0=30.0, kind="siren")
    assert sorted(tmp_path.rglob("*")) == before
    told = str(error.value)
    assert len(told.splitlines()) == 1
    assert told.startswith(path.name)
    return told


# Every call in every place of a program, and the program in every kind of file.
def calls(canary):
    """Opcodes that make the canary, were they run."""
    code = f"open({str(canary)!r}, 'w').close()"
    texts = b"](" + text("touch") + text(str(canary)) + b"e"
    return {
        "os.system": call("os", "system", f"touch '{canary}'"),
        "subprocess": b"csubprocess\ncall\n(" + texts + b"tR",
        "eval": call("builtins", "eval", code),
        "exec": call("builtins", "exec", code),
        "os.mkdir": call("os", "mkdir", str(canary)),
        "copyfile": call("shutil", "copyfile", __file__, str(canary)),
        "timeit": call("timeit", "timeit", "0", code),
        "INST": several(text(f"touch '{canary}'"))[:-1] + b"ios\nsystem\n",
    }


PLACES = {
    "alone": lambda run: run + b".",
    "as a value": lambda run: b"}" + text("w") + run + b"s.",
    "as a key": lambda run: b"}" + run + text("w") + b"s.",
    "before others": lambda run: run + b"0" + b"}.",
    "in the memo": lambda run: run + b"q\x070}" + text("w") + b"h\x07s.",
    "in pairs": lambda run: (
        b"ccollections\nOrderedDict\n(](](" + text("w") + run + b"eetR."
    ),
    "as a type": lambda run: b"cnumpy\ndtype\n(" + run + b"0" + text("f4") + b"tR.",
    "as a state": lambda run: b"ccollections\nOrderedDict\n)R}" + text("_m") + run + b"sb.",
}  # fmt: skip
LEAST = len(PLACES) * len(calls("canary"))


def object_npy(program):
    """An array of Python objects, which NumPy reads by running the pickle behind its head."""
    return head((1,), "'|O'", program)


KINDS = {
    "a pickle": ("net.pkl", lambda program: program),
    "a state dict": ("net.pt", pt),
    "an npz": ("net.npz", lambda program: npz(w=object_npy(program))),
    "an npz of a field": (
        "net.npz",
        lambda program: layer_files(np.ones((2, 3)), np.ones(3), spec=object_npy(program)),
    ),
}


@pytest.mark.parametrize("called", calls("canary"))
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_call_runs_from_any_place_in_any_kind_of_file(tmp_path, kind, place, called):
    canary, (name, wrapped) = tmp_path / "canary", KINDS[kind]
    program = b"\x80\x02" + PLACES[place](calls(canary)[called])
    refusal(tmp_path / name, wrapped(program), tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("called", calls("canary"))
@pytest.mark.parametrize("place", PLACES)
def test_each_of_these_calls_would_run(tmp_path, place, called):
    """pickle runs them, and NumPy where it is allowed to: otherwise nothing is proved."""
    for i, load in enumerate((pickle.loads, by_numpy)):
        canary = tmp_path / f"canary_{i}"
        try:
            load(b"\x80\x02" + PLACES[place](calls(canary)[called]))
        except Exception as e:
            del e  # what follows the call may fail
        assert canary.exists()


def by_numpy(program):
    return np.load(io.BytesIO(object_npy(program)), allow_pickle=True)


def test_there_are_enough_of_them(tmp_path):
    """Fifty of each kind that are refused without exception; a damaged one may still be sound."""
    alive = live(tmp_path / "c")
    arrays = [n for n in (*STILL, *alive) if "npz" in n or "object" in n]
    assert LEAST >= 50
    assert len(STILL) + len(alive) - len(arrays) >= 50
    assert len(arrays) + LEAST >= 50


@pytest.mark.parametrize("name", live(Path("canary")))
def test_hostile_archives_are_refused_and_nothing_runs(tmp_path, name):
    canary = tmp_path / "canary"
    refusal(tmp_path / "net.pt", live(canary)[name], tmp_path)
    assert not canary.exists()


def test_some_of_them_would_run(tmp_path):
    """The programs are real: pickle itself runs them."""
    for name in ("os.system", "posix.system", "exec", "INST", "before", "as_a_key"):
        canary = tmp_path / name
        with zipfile.ZipFile(io.BytesIO(live(canary)[name])) as z:
            program = z.read("archive/data.pkl")
        try:
            pickle.Unpickler(io.BytesIO(program)).load()
        except Exception as e:
            del e  # what follows the call may fail
        assert canary.exists()


@pytest.mark.parametrize("name", STILL)
def test_what_is_no_archive_of_weights_is_refused(tmp_path, name):
    refusal(tmp_path / "net.pt", STILL[name], tmp_path)


def of_a_layer(change):
    arrays = {"layer_0.w": np.ones((2, 8), "f4"), "layer_0.b": np.ones(8, "f4")}
    arrays |= {"layer_1.w": np.ones((8, 1), "f4"), "layer_1.b": np.ones(1, "f4")}
    change(arrays)
    return npz(**{k: v if isinstance(v, bytes) else npy(v) for k, v in arrays.items()})


def damaged(at, byte):
    whole = bytearray(of_a_layer(lambda arrays: None))
    whole[at % len(whole)] ^= byte
    return bytes(whole)


def read_or_told(path):
    """What is in a file, or None if it is refused in a line."""
    told = []
    try:
        return exchange.read(path)
    except PickleError as e:
        told.append(str(e))
    assert len(told[0].splitlines()) == 1
    return None


DAMAGED = [(37 * k, 1 << (k % 8)) for k in range(60)]


@pytest.mark.parametrize("seed", DAMAGED)
def test_a_damaged_npz_is_refused_or_reads_as_it_was(tmp_path, seed):
    """A zip has checksums of what it holds, not of its dates."""
    (tmp_path / "net.npz").write_bytes(damaged(*seed))
    found = read_or_told(tmp_path / "net.npz")
    if found is not None:
        same([np.asarray(a) for la in found.theta for a in la][:1], [np.ones((2, 8), "f4")])


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(0, 400), st.booleans())
def test_any_bytes_in_an_archive_are_read_or_refused(tmp_path_factory, data, at, as_pickle):
    path = tmp_path_factory.mktemp("any") / "net.pt"
    if as_pickle:
        program = rebuilt()
        at %= len(program)
        path.write_bytes(pt(program[:at] + data + program[at:]))
    else:
        path.write_bytes(npz(**{"layer_0.w": FLOATS[:at] + data, "layer_0.b": FLOATS}))
    read_or_told(path)


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(_torchfile, "MAX_BYTES", 100)
    (tmp_path / "net.pt").write_bytes(pt())
    with pytest.raises(PickleError):
        _torchfile.members_of(tmp_path / "net.pt", 100)
