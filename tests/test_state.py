"""Files that are whole or not there, and training states that are intact or refused."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from learnit_utils import _files, _state, fields
from learnit_utils._state import StateError


# --- writing is atomic ------------------------------------------------------------------------
def test_writing_makes_the_folder_and_replaces_the_file(tmp_path):
    path = tmp_path / "a/b/state.bin"
    for data in (b"old", b"", b"new" * 1000):
        _files.write(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


@pytest.fixture(params=["replace", "fsync", "write", "open"])
def fails(request, monkeypatch):
    """One step of writing a file stops with a full disk."""

    def full(*args, **words):
        raise OSError(28, "No space left on device")

    class Full:
        """A file that takes half of what it is given."""

        def __init__(self, path, mode):
            self.file = open(path, mode)  # noqa: SIM115

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            full()

    def start():
        if request.param in ("replace", "fsync"):
            monkeypatch.setattr(os, request.param, full)
        else:
            monkeypatch.setattr(
                _files, "open", Full if request.param == "write" else full, raising=False
            )

    return start


def test_a_failure_while_writing_leaves_the_old_file(tmp_path, fails):
    path = tmp_path / "state.bin"
    _files.write(path, b"old")
    fails()
    with pytest.raises(OSError, match="No space left"):
        _files.write(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_while_writing_anew_leaves_nothing(tmp_path, fails):
    fails()
    with pytest.raises(OSError, match="No space left"):
        _files.write(tmp_path / "state.bin", b"new")
    assert list(tmp_path.iterdir()) == []


def test_the_new_content_is_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    done, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    _files.write(tmp_path / "state.bin", b"data")
    assert done == ["sync", "replace", "sync"]  # the file, its name, the folder


def test_an_interrupted_save_keeps_the_state(tmp_path, fails):
    path = tmp_path / "state"
    _state.save(path, [jnp.ones(3)], dict(step=1))
    fails()
    with pytest.raises(OSError, match="No space left"):
        _state.save(path, [jnp.zeros(3)], dict(step=2))
    tree, info = _state.load(path, [jnp.ones(3)])
    np.testing.assert_array_equal(tree[0], 1)
    assert info == dict(step=1)


# --- several processes ------------------------------------------------------------------------
ENTER = """
import sys
from pathlib import Path
from learnit_utils import _files
folder, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(30):
    _files.enter(folder, f"{name}{i}", f"{name} {i}".encode() * 100, by=name)
"""

WRITE = """
import os, sys
from pathlib import Path
from learnit_utils import _files
replace = os.replace

def slow(source, target):
    print("written", flush=True)
    sys.stdin.readline()
    replace(source, target)

os.replace = slow
_files.write(Path(sys.argv[1]), b"by the child")
"""


@contextmanager
def child(program, *args):
    """A process that is ready, and goes on when it reads a line."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", program, *map(str, args)], **pipes) as process:
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


def goes_on(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def test_processes_that_enter_files_at_once_lose_none(tmp_path):
    """And whoever reads meanwhile finds a manifest that holds for every file it names."""
    with child(ENTER, tmp_path, "a") as a, child(ENTER, tmp_path, "b") as b:
        for process in (a, b):
            goes_on(process)
        counts = []
        while a.poll() is None or b.poll() is None:
            entries = _files.manifest(tmp_path)
            counts.append(len(entries))
            assert {_files.check(tmp_path / name, entry) for name, entry in entries.items()} <= {
                None
            }
        assert a.returncode == b.returncode == 0
    assert counts == sorted(counts)
    entries = _files.manifest(tmp_path)
    names = {f"{name}{i}" for name in "ab" for i in range(30)}
    assert entries.keys() == names
    for name, entry in entries.items():
        data = f"{name[0]} {name[1:]}".encode() * 100
        assert entry == _files.described(data, by=name[0])
        assert (tmp_path / name).read_bytes() == data
    assert {p.name for p in tmp_path.iterdir()} == {*names, _files.MANIFEST, ".manifest.lock"}


@pytest.mark.parametrize("ending", ["goes on", "is killed"])
def test_what_a_process_is_writing_is_its_own(tmp_path, ending):
    """Another writer of the same file takes the name, and leaves what is not there yet alone."""
    path = tmp_path / "state.bin"
    with child(WRITE, path) as process:
        part = tmp_path / f".state.bin.{process.pid}.part"
        assert part.read_bytes() == b"by the child"
        _files.write(path, b"by us")
        assert path.read_bytes() == b"by us"
        assert part.exists()
        if ending == "goes on":
            goes_on(process)
            assert process.wait() == 0
            assert path.read_bytes() == b"by the child"
        else:
            process.kill()
            process.wait()
            assert part.exists()
            _files.write(path, b"by us again")
            assert path.read_bytes() == b"by us again"
    assert list(tmp_path.iterdir()) == [path]


# --- what was saved comes back ----------------------------------------------------------------
def drawn(width, depth):
    """A theta of random numbers."""
    shapes = jax.eval_shape(fields.siren(width, depth, channels=1).init, jax.random.key(0))
    rng = np.random.default_rng(width)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes)


@cache
def _after_a_step():
    theta = drawn(4, 3)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    _, state = jax.jit(optimizer.update)(theta, optimizer.init(theta), theta)
    return dict(theta=theta, optimizer=state, key=jax.random.key_data(jax.random.key(3)))


def training_state():
    return dict(_after_a_step())


INFO = dict(step=7, history=[1.5, -0.25], name="Grüße", best=None, done=True)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "state.safetensors"
    _state.save(path, training_state(), INFO)
    return path


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        np.testing.assert_array_equal(x, y, strict=True)


def test_theta_and_the_state_of_optax_come_back(saved):
    like = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), training_state())
    tree, info = _state.load(saved, like)
    same(tree, jax.tree.map(np.asarray, training_state()))
    assert info == INFO
    assert float(np.abs(tree["optimizer"][1][0].mu[0].w).max()) > 0


def test_shapes_are_enough_to_load(saved):
    tree, _ = _state.load(saved, jax.eval_shape(training_state))
    same(tree, jax.tree.map(np.asarray, training_state()))


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.text(max_size=5),
        hnp.arrays(
            st.sampled_from(["f4", "f8", "f2", "i4", "i8", "u1", "?"]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        ),
        max_size=4,
    )
)
def test_any_arrays_come_back(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "any"
    _state.save(path, tree, {})
    found, _ = _state.load(path, tree)
    assert set(found) == set(tree)
    for name in tree:
        assert found[name].dtype == tree[name].dtype
        np.testing.assert_array_equal(found[name], tree[name], strict=True)


@pytest.mark.parametrize("kind", ["transposed", "strided", "big_endian", "broadcast"])
def test_arrays_of_any_layout_come_back(tmp_path, kind):
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    laid = {
        "transposed": a.T,
        "strided": a[::-1, ::2],
        "big_endian": a.astype(">f4"),
        "broadcast": np.broadcast_to(a[0], (5, 4)),
    }[kind]
    _state.save(tmp_path / "state", [laid], {})
    found, _ = _state.load(tmp_path / "state", [laid.astype(np.float32)])
    np.testing.assert_array_equal(found[0], laid)


def test_numbers_and_leaves_of_any_shape(tmp_path):
    path = tmp_path / "state"
    _state.save(path, dict(step=3, rate=0.5, log=np.arange(5.0)), {})
    tree, info = _state.load(path, dict(step=0, rate=0.0, log=None))
    assert (tree["step"], tree["rate"], info) == (3, 0.5, {})
    np.testing.assert_array_equal(tree["log"], np.arange(5.0))


def test_the_digest_of_a_tree_is_of_values_shapes_types_and_places():
    one = np.ones((2, 3), np.float32)
    other = one.copy()
    other[1, 2] = np.nextafter(np.float32(1), np.float32(2))
    trees = [
        [one],
        [other],
        [one.T],
        [one.ravel()],
        [one.astype(np.float64)],
        [one.view(np.int32)],
        [one, one],
        [[one]],
        dict(a=one),
        [np.ones(1, np.float32)],
        [np.ones((), np.float32)],
    ]
    assert len({_state.tree_digest(t) for t in trees}) == len(trees)
    assert _state.tree_digest([one]) == _state.tree_digest([jnp.ones((2, 3))])


# --- what belongs to something else -----------------------------------------------------------
def less(tree):
    del tree["key"]
    return tree


def more(tree):
    return {**tree, "extra": np.zeros(2)}


def renamed(tree):
    tree["kez"] = tree.pop("key")
    return tree


def sgd(tree):
    return {**tree, "optimizer": optax.sgd(0.1).init(tree["theta"])}


def momentum(tree):
    return {**tree, "optimizer": optax.sgd(0.1, momentum=0.9).init(tree["theta"])}


def wider(tree):
    return {**tree, "theta": drawn(5, 3)}


def deeper(tree):
    return {**tree, "theta": drawn(4, 4)}


def shallower(tree):
    return {**tree, "theta": tree["theta"][:-1]}


def integers(tree):
    return {**tree, "theta": jax.tree.map(lambda a: a.astype(jnp.int32), tree["theta"])}


def doubles(tree):
    return {**tree, "theta": jax.tree.map(lambda a: np.asarray(a, np.float64), tree["theta"])}


def flat(tree):
    return {**tree, "theta": jax.tree.map(jnp.ravel, tree["theta"])}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (less, "['key'] in it belongs to something else"),
        (more, "no ['extra'] in it"),
        (renamed, "no ['kez'] in it"),
        (sgd, "belongs to something else"),
        (momentum, "no ['optimizer']"),
        (wider, "['theta'][0].w is float32[2, 4], not float32[2, 5]"),
        (deeper, "not float32[4, 4]"),
        (shallower, "belongs to something else"),
        (integers, "['theta'][0].w is float32[2, 4], not int32[2, 4]"),
        (doubles, "not float64[2, 4]"),
        (flat, "['theta'][0].w is float32[2, 4], not float32[8]"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_state_of_something_else_is_refused(saved, change, told):
    with pytest.raises(StateError) as error:
        _state.load(saved, change(training_state()))
    message = str(error.value)
    assert message.startswith(f"{saved}: ")
    assert told in message
    assert "\n" not in message


# --- damage -----------------------------------------------------------------------------------
def damaged(data, rng):
    """One random harm to the bytes of a file."""
    size, harm = len(data), rng.integers(8)
    header = 8 + int.from_bytes(data[:8], "little")
    i, j = sorted(int(n) for n in rng.integers(size, size=2))
    out = bytearray(data)
    if harm == 0:  # a bit, anywhere
        out[i] ^= 1 << rng.integers(8)
    elif harm == 1:  # a byte of the header; white space for white space would be no harm
        out[rng.integers(header)] = rng.integers(33, 256)
    elif harm == 2:  # a printable byte of the header
        out[rng.integers(8, header)] = rng.integers(33, 127)
    elif harm == 3:
        out = out[:i]
    elif harm == 4:
        out += rng.bytes(rng.integers(1, 40))
    elif harm == 5:
        del out[i : j + 1]
    elif harm == 6:
        out[i:i] = out[i : j + 1]
    else:
        out[i : i + 8] = rng.bytes(min(8, size - i))
    return bytes(out)


def refused(path, like):
    with pytest.raises(StateError) as error:
        _state.load(path, like)
    message = str(error.value)
    assert message == f"{path}: damaged, its hash does not agree with its content"


def test_four_hundred_random_damages_are_refused(saved, rng):
    data, like, tried = saved.read_bytes(), training_state(), 0
    while tried < 400:
        torn = damaged(data, rng)
        if torn != data:
            saved.write_bytes(torn)
            refused(saved, like)
            tried += 1


def test_every_flipped_bit_of_the_header_is_refused(saved):
    """The header says where the tensors are and holds the hash: 8 bits of every 23rd byte."""
    data, like = saved.read_bytes(), training_state()
    header = 8 + int.from_bytes(data[:8], "little")
    for i in [*range(8), *range(8, header, 23)]:
        for bit in range(8):
            torn = bytearray(data)
            torn[i] ^= 1 << bit
            saved.write_bytes(torn)
            refused(saved, like)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -1])
def test_a_file_cut_off_is_refused(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    refused(saved, training_state())


def with_header(saved, change):
    """The file again, its header changed by `change`."""
    data = saved.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header = change(header) or header
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    saved.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


FIRST, SECOND = "['theta'][0].w", "['theta'][1].w"
EDITS = {
    "another_step": lambda h: h["__metadata__"].update(info=json.dumps({**INFO, "step": 8})),
    "no_info": lambda h: h["__metadata__"].pop("info"),
    "no_hash": lambda h: h["__metadata__"].pop("sha256"),
    "no_metadata": lambda h: h.pop("__metadata__") and None,
    "metadata_a_text": lambda h: h.update(__metadata__="x"),
    "info_a_number": lambda h: h["__metadata__"].update(info=5),
    "list": lambda h: [h],
    "renamed": lambda h: h.update({"x": h.pop(FIRST)}),
    "swapped": lambda h: h.update({FIRST: {**h[FIRST], "data_offsets": h[SECOND]["data_offsets"]}}),
    "reshaped": lambda h: h[FIRST].update(shape=[4, 2]),
    "retyped": lambda h: h[FIRST].update(dtype="I32"),
    "bfloat": lambda h: h[FIRST].update(dtype="BF16", shape=[4, 4]),
    "float8": lambda h: h[FIRST].update(dtype="F8_E4M3", shape=[8, 4]),
    "unknown_type": lambda h: h[FIRST].update(dtype="F31"),
    "negative": lambda h: h[FIRST].update(shape=[-2, -4]),
    "huge": lambda h: h[FIRST].update(shape=[2**62, 2**62]),
    "scalar_as_vector": lambda h: h["['optimizer'][1][0].count"].update(shape=[1]),
}


def test_a_file_with_its_header_written_again_is_as_good(saved):
    with_header(saved, lambda h: None)
    tree, info = _state.load(saved, training_state())
    same(tree, jax.tree.map(np.asarray, training_state()))
    assert info == INFO


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_header_is_refused(saved, edit):
    with_header(saved, EDITS[edit])
    refused(saved, training_state())


def test_files_that_are_no_states_are_refused(tmp_path):
    path = tmp_path / "state"
    for data in (b"", b"{}", b"\0" * 100, b"\xff" * 100, b"\x80\x04N.", b"[" * 100_000):
        path.write_bytes(data)
        refused(path, [])
    deep = b'{"a":' * 50_000
    path.write_bytes(len(deep).to_bytes(8, "little") + deep)
    refused(path, [])
