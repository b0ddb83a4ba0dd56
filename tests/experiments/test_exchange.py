"""Published pickles: what is genuine is converted, what is hostile is refused and never runs."""

import copyreg
import gc
import importlib.util
import io
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import time
import types
from collections import OrderedDict
from functools import cache
from itertools import pairwise

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import _unpickle
from learnit_utils._unpickle import PickleError
from learnit_utils.book.cli import main
from learnit_utils.experiments import exchange, store

PROTOCOLS = (2, 3, 4, 5)


# --- genuine files ----------------------------------------------------------------------------
def module_name(i):
    return f"siren/siren_layer{f'_{i}' if i else ''}/linear"


def layers_of(sizes=(2, 8, 8, 3), seed=0):
    """[(w, b), ...] of a sine network."""
    rng = np.random.default_rng(seed)
    return [
        (rng.uniform(-0.3, 0.3, (n, m)).astype("f4"), rng.uniform(-0.5, 0.5, m).astype("f4"))
        for n, m in pairwise(sizes)
    ]


def tree_of(layers, mapping=dict):
    pairs = {module_name(i): mapping(dict(w=w, b=b)) for i, (w, b) in enumerate(layers)}
    return mapping(pairs)


def respelled(data, old, new):
    """The program again, unframed, with another module's name in it."""
    cuts = [(op.name, at) for op, _, at in pickletools.genops(data)]
    ends = [at for _, at in cuts[1:]] + [len(data)]
    parts = []
    for (name, start), end in zip(cuts, ends):
        part = data[start:end]
        if name == "GLOBAL":
            part = part.replace(b"c" + old + b".", b"c" + new + b".")
        elif name == "SHORT_BINUNICODE" and part[2:].startswith(old + b"."):
            part = part[:1] + bytes([part[1] + len(new) - len(old)]) + new + part[2 + len(old) :]
        if name != "FRAME":
            parts.append(part)
    return b"".join(parts)


def with_modules(data, spelling):
    there, other = b"numpy._core", b"numpy.core"
    if spelling == "numpy.core":
        there, other = other, there
    return respelled(data, other, there)


class FlatMapping:
    """As dm-haiku's: a mapping that is made again from a dict."""

    def __init__(self, mapping):
        self.mapping = mapping

    def __reduce__(self):
        return type(self), (self.mapping,)


FlatMapping.__module__ = "haiku._src.data_structures"


def dumped(tree, protocol, monkeypatch):
    """pickle.dumps where dm-haiku seems to be installed."""
    with monkeypatch.context() as m:
        for name in ("haiku", "haiku._src", "haiku._src.data_structures"):
            m.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules["haiku._src.data_structures"].FlatMapping = FlatMapping
        return pickle.dumps(tree, protocol)


def same_tree(found, layers):
    assert list(found) == [module_name(i) for i in range(len(layers))]
    for (w, b), held in zip(layers, found.values()):
        assert list(held) == ["w", "b"]
        for a, wanted in ((held["w"], w), (held["b"], b)):
            assert a.dtype == wanted.dtype
            np.testing.assert_array_equal(a, wanted, strict=True)


@pytest.mark.parametrize("spelling", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("mapping", [dict, OrderedDict, FlatMapping])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_genuine_pickles_are_read(tmp_path, monkeypatch, protocol, mapping, spelling):
    layers = layers_of()
    data = with_modules(dumped(tree_of(layers, mapping), protocol, monkeypatch), spelling)
    assert spelling.encode() in data
    assert (b"FlatMapping" in data) == (mapping is FlatMapping)
    path = tmp_path / "params.pkl"
    path.write_bytes(data)
    found = _unpickle.read(path)
    assert type(found) is dict
    assert all(type(v) is dict for v in found.values())
    same_tree(found, layers)
    assert "haiku" not in sys.modules


@pytest.mark.parametrize("name", ["to_immutable_dict", "FlatMap", "frozendict"])
def test_older_names_of_haikus_mapping(tmp_path, monkeypatch, name):
    layers = layers_of()
    path = tmp_path / "params.pkl"
    data = dumped(tree_of(layers, FlatMapping), 2, monkeypatch)
    path.write_bytes(data.replace(b"FlatMapping\n", name.encode() + b"\n"))
    same_tree(_unpickle.read(path), layers)


@pytest.mark.parametrize("protocol", [0, 1, *PROTOCOLS])
@pytest.mark.parametrize("kind", ["fortran", "big_endian", "double", "half", "view", "read_only"])
def test_arrays_of_any_layout(tmp_path, protocol, kind):
    a = np.random.default_rng(1).normal(size=(5, 4)).astype("f4")
    a = {
        "fortran": np.asfortranarray(a),
        "big_endian": a.astype(">f4"),
        "double": a.astype("f8"),
        "half": a.astype("f2"),
        "view": a[::2, 1:],
        "read_only": a,
    }[kind]
    a.flags.writeable = kind != "read_only"
    path = tmp_path / "params.pkl"
    path.write_bytes(pickle.dumps(dict(a=a), protocol))
    found = _unpickle.read(path)["a"]
    assert found.dtype == a.dtype
    np.testing.assert_array_equal(found, a, strict=True)
    found += 1  # an array of its own


def evaluated(layers, x, omega0, hidden, offset):
    """The sine network in NumPy, in float64."""
    h = x.astype(np.float64)
    for i, (w, b) in enumerate(layers):
        z = h @ w.astype(np.float64) + b
        h = np.sin((hidden if i else omega0) * z) if i < len(layers) - 1 else z
    return h + offset


@pytest.mark.parametrize(
    ("sizes", "omega0", "hidden", "offset"),
    [((2, 8, 8, 3), 30.0, None, 0.5), ((1, 6, 1), 12.5, None, 0.0), ((3, 5, 5, 5, 2), 20, 3, -1.0)],
)
def test_the_converted_field_is_the_published_one(tmp_path, sizes, omega0, hidden, offset):
    layers = layers_of(sizes)
    source, target = tmp_path / "params.pkl", tmp_path / "new/start.safetensors"
    source.write_bytes(pickle.dumps(tree_of(layers), 4))
    settings = dict(omega0=omega0, hidden_omega0=hidden, offset=offset)
    exchange.convert(source, target, **settings)
    found = store.load(target)
    x = np.random.default_rng(2).uniform(-1, 1, (40, sizes[0])).astype(np.float32)
    wanted = evaluated(layers, x, omega0, hidden or omega0, offset)
    np.testing.assert_allclose(jax.jit(found.field.apply)(found.theta, x), wanted, atol=2e-4)
    assert wanted.std() > 0.05
    assert found.init.step_sizes is None
    assert found.info["origin"]["file"] == "params.pkl"


@pytest.mark.parametrize("order", ["as_made", "backwards", "alphabetical"])
def test_eleven_layers_go_by_number(tmp_path, order):
    layers = layers_of((2, *[4] * 10, 3))
    tree = tree_of(layers)
    assert list(tree)[1:3] == ["siren/siren_layer_1/linear", "siren/siren_layer_2/linear"]
    assert "siren/siren_layer_10/linear" in tree
    names = {"as_made": list(tree), "backwards": list(tree)[::-1], "alphabetical": sorted(tree)}
    source = tmp_path / "params.pkl"
    source.write_bytes(pickle.dumps({n: tree[n] for n in names[order]}, 4))
    exchange.convert(source, tmp_path / "start.safetensors", omega0=30.0)
    theta = store.load(tmp_path / "start.safetensors").theta
    assert len(theta) == 11
    for layer, (w, b) in zip(theta, layers):
        np.testing.assert_array_equal(layer.w, w)
        np.testing.assert_array_equal(layer.b, b)


@cache
def genuine(protocol=4):
    return pickle.dumps(tree_of(layers_of((2, 4, 4, 1))), protocol)


# --- hostile files: programs that would run ---------------------------------------------------
class Evil:
    """Pickled, a call of any function."""

    def __init__(self, function, *args):
        self.made = function, args

    def __reduce__(self):
        return self.made


def call(module, name, *args, protocol=2):
    """Opcodes that call module.name on texts or opcodes; without PROTO and STOP."""
    asked = f"c{module}\n{name}\n".encode()
    if protocol > 3:
        asked = text(module) + text(name) + b"\x93"
    return asked + b"(" + b"".join(map(text, args)) + b"tR"


def text(word):
    if isinstance(word, bytes):
        return word
    return b"X" + struct.pack("<I", len(word.encode())) + word.encode()


def finished(program, protocol=4):
    return bytes([0x80, protocol]) + program + b"."


def python(canary):
    return f"open({str(canary)!r}, 'w').close()"


def shell(canary):
    return f"touch '{canary}'"


def system(canary):
    return call("os", "system", shell(canary))


def texts(*words):
    return b"](" + b"".join(map(text, words)) + b"e"


def chain(canary):
    """getattr(__import__("os"), "system")(...)"""
    imported = call("builtins", "__import__", "os")
    return call("builtins", "getattr", imported, "system") + b"(" + text(shell(canary)) + b"tR"


def via_importlib(canary):
    imported = call("importlib", "import_module", "os")
    return call("builtins", "getattr", imported, "system") + b"(" + text(shell(canary)) + b"tR"


def object_array(canary):
    a = np.empty(1, object)
    a[0] = Evil(os.system, shell(canary))
    return dict(w=a)


def reduced(canary, protocol):
    return pickle.dumps(Evil(os.system, shell(canary)), protocol)


def before_a_genuine_tree(program):
    return b"\x80\x04" + program + b"0" + genuine()[2:]


def inside_a_genuine_tree(program):
    """As the value of one more key."""
    data = respelled(genuine(), b"", b"")  # unframed
    assert data.endswith(b"u.")
    return data[:-2] + text("extra") + program + b"u."


def as_a_key(program):
    return finished(b"}" + program + b"K\x01s")


# name -> canary -> bytes; every one creates the canary if pickle.load runs it
LIVE = {
    "os.system": lambda c: finished(system(c)),
    "posix.system": lambda c: finished(call("posix", "system", shell(c))),
    "os.system_4": lambda c: finished(call("os", "system", shell(c), protocol=4)),
    "eval": lambda c: finished(call("builtins", "eval", python(c))),
    "exec": lambda c: finished(call("builtins", "exec", python(c))),
    "python_2_eval": lambda c: finished(call("__builtin__", "eval", python(c)), protocol=2),
    "getattr": lambda c: finished(chain(c)),
    "importlib": lambda c: finished(via_importlib(c)),
    "open": lambda c: finished(call("builtins", "open", str(c), "w")),
    "io.open": lambda c: finished(call("io", "open", str(c), "w")),
    "subprocess.call": lambda c: finished(call("subprocess", "call", texts("touch", str(c)))),
    "subprocess.check_output": lambda c: finished(
        call("subprocess", "check_output", texts("touch", str(c)))
    ),
    "timeit": lambda c: finished(call("timeit", "timeit", "0", python(c))),
    "runpy": lambda c: finished(
        call("runpy", "_run_code", call("builtins", "compile", python(c), "x", "exec"), b"}")
    ),
    "pickle.loads": lambda c: finished(
        call("_pickle", "loads", call("_codecs", "encode", reduced(c, 0).decode(), "latin1"))
    ),
    "map": lambda c: finished(
        call("builtins", "list", call("builtins", "map", b"cos\nsystem\n", texts(shell(c))))
    ),
    "partial": lambda c: finished(
        call("functools", "partial", b"cos\nsystem\n", shell(c)) + b"(tR"
    ),
    "dotted_name": lambda c: finished(call("posixpath", "os.system", shell(c), protocol=4)),
    "dotted_name_of_an_allowed_module": lambda c: finished(
        text("collections") + text("_sys.modules") + b"\x930" + system(c)
    ),
    "reduce_0": lambda c: reduced(c, 0),
    "reduce_2": lambda c: reduced(c, 2),
    "reduce_4": lambda c: reduced(c, 4),
    "reduce_5": lambda c: reduced(c, 5),
    "INST": lambda c: finished(b"(" + text(shell(c)) + b"ios\nsystem\n"),
    "OBJ": lambda c: finished(b"(cos\nsystem\n" + text(shell(c)) + b"o"),
    "EXT1": lambda c: finished(b"\x82\xf0(" + text(shell(c)) + b"tR"),
    "EXT2": lambda c: finished(b"\x83\xf0\x00(" + text(shell(c)) + b"tR"),
    "EXT4": lambda c: finished(b"\x84\xf0\x00\x00\x00(" + text(shell(c)) + b"tR"),
    "popped": lambda c: before_a_genuine_tree(system(c)),
    "one_more_layer": lambda c: inside_a_genuine_tree(system(c)),
    "key": lambda c: as_a_key(system(c)),
    "in_the_memo": lambda c: before_a_genuine_tree(
        b"cos\nsystem\nq\x630h\x63(" + text(shell(c)) + b"tR"
    ),
    "object_array_2": lambda c: pickle.dumps(object_array(c), 2),
    "object_array_5": lambda c: pickle.dumps(object_array(c), 5),
    "in_an_ordered_dict": lambda c: finished(
        call("collections", "OrderedDict", b"]](" + text("w") + system(c) + b"ea")
    ),
    "as_a_dtype": lambda c: finished(call("numpy", "dtype", system(c) + b"0" + text("f4"))),
}  # fmt: skip

# --- hostile files: programs that would not, data that is not a checkpoint --------------------
BUILD_STATE = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01"
F4 = call("numpy", "dtype", "f4")


def array_of(shape, raw, dtype=F4, fortran=b"\x89"):
    """The opcodes of an array; `shape` are opcodes too."""
    return BUILD_STATE + shape + dtype + fortran + raw + b"tb"


def raw(data):
    return b"B" + struct.pack("<I", len(data)) + data


def number(n):
    data = pickle.encode_long(n)
    return b"\x8b" + struct.pack("<i", len(data)) + data


def held(array):
    """{"w": array} as a program."""
    return finished(b"}" + text("w") + array + b"s")


def laughs(levels, width):
    """A mapping of mappings, each holding the one below `width` times: width**levels leaves."""
    program = array_of(b"K\x01\x85", raw(b"\0" * 4)) + b"q\x010"
    for _ in range(levels):
        program += b"}(" + b"".join(text(f"k{i}") + b"h\x01" for i in range(width)) + b"uq\x010"
    return program + b"h\x01"


def nested_tuples(levels):
    """((..., ...), (..., ...)): 2**levels empty tuples."""
    return b")" + b"q\x01h\x01\x86" * levels


def edited(change, sizes=(2, 4, 4, 1), protocol=4):
    tree = tree_of(layers_of(sizes))
    out = change(tree)
    return pickle.dumps(tree if out is None else out, protocol)


def with_array(key, change):
    name = module_name(1)
    return edited(lambda t: t[name].update({key: change(t[name][key])}))


def put(a, value):
    a = a.copy()
    a.flat[1] = value
    return a


def out_of_band():
    return pickle.dumps(tree_of(layers_of()), 5, buffer_callback=lambda b: False)


STILL = {
    "empty": b"",
    "text": b"hello, world\n",
    "json": b'{"w": [1, 2]}',
    "zip": b"PK\x03\x04" + bytes(40),
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
    "truncated": genuine()[: len(genuine()) // 2],
    "truncated_by_one": genuine()[:-1],
    "protocol_of_the_future": b"\x80\xff" + genuine()[2:],
    "frame_too_long": finished(b"\x95" + b"\xff" * 8 + b"}"),
    "nothing_on_the_stack": b".",
    "underflow": finished(b"R"),
    "no_such_memo": finished(b"h\x07"),
    "NEWOBJ": finished(b"csubprocess\nPopen\n)\x81"),
    "NEWOBJ_of_an_allowed_class": finished(b"cnumpy\ndtype\n)\x81"),
    "NEWOBJ_EX": finished(b"csubprocess\nPopen\n)}\x92"),
    "INST_of_an_allowed_class": finished(b"(icollections\nOrderedDict\n"),
    "PERSID": finished(b"P123\n"),
    "BINPERSID": finished(b"K\x01Q"),
    "NEXT_BUFFER": out_of_band(),
    "EMPTY_SET": pickle.dumps({1.5}, 4),
    "set": pickle.dumps(dict(w={1, 2}), 2),
    "frozenset": pickle.dumps(frozenset([1]), 4),
    "huge_LONG_BINPUT": finished(b"}r\xff\xff\xff\x7f"),
    "huge_LONG_BINPUT_2": finished(b"}r\xff\xff\xff\xff"),
    "huge_PUT": b"(dp99999999999\n.",
    "negative_PUT": b"(dp-1\n.",
    "huge_BINBYTES8": finished(b"\x8e" + b"\xff" * 7 + b"\x7f"),
    "huge_BYTEARRAY8": finished(b"\x96" + b"\xff" * 5 + b"\0\0\0", 5),
    "huge_LONG4": finished(b"\x8b\xff\xff\xff\x7f"),
    "huge_INT": b"I" + b"9" * 100_000 + b"\n.",
    "laughs_deep": finished(laughs(18, 2)),
    "laughs_wide": finished(laughs(7, 8)),
    "laughs_as_layers": finished(b"}" + text("a") + laughs(7, 8) + b"s"),
    "mapping_in_itself": finished(b"}q\x01" + text("a") + b"h\x01s" + text("b") + b"h\x01s"),
    "list_in_itself": finished(b"]q\x01h\x01a"),
    "tuples_as_a_key": finished(b"}" + nested_tuples(27) + b"K\x01s"),
    "tuples_as_a_key_of_pairs": finished(
        call("collections", "OrderedDict", b"]](" + nested_tuples(27) + b"K\x01ea")
    ),
    "tuples_as_a_dtype": finished(call("numpy", "dtype", nested_tuples(23))),
    "tuples_as_an_encoding": finished(call("_codecs", "encode", "x", nested_tuples(23))),
    "shape_of_huge_numbers": held(
        array_of(b"(" + number(1 << 400_000) + b"q\x01" + b"h\x01" * 300 + b"t", raw(b""))
    ),
    "shape_with_huge_and_zero": held(array_of(b"K\x00" + number(1 << 80) + b"\x86", raw(b""))),
    "shape_too_large": held(array_of(b"K\x03\x85", raw(bytes(8)))),
    "shape_too_small": held(array_of(b"K\x01\x85", raw(bytes(8)))),
    "shape_huge": held(array_of(number(1 << 62) + b"\x85", raw(bytes(8)))),
    "shape_wraps_around": held(array_of(2 * number(1 << 32) + b"\x86", raw(b""))),
    "shape_negative": held(array_of(number(-1) + b"\x85", raw(bytes(8)))),
    "shape_negative_twice": held(array_of(number(-1) + number(-2) + b"\x86", raw(bytes(8)))),
    "shape_of_floats": held(array_of(b"G" + struct.pack(">d", 2.0) + b"\x85", raw(bytes(8)))),
    "shape_of_truth": held(array_of(b"\x88\x85", raw(bytes(4)))),
    "shape_a_list": held(array_of(b"]K\x01a", raw(bytes(4)))),
    "shape_of_too_many_axes": held(array_of(b"(" + b"K\x01" * 100 + b"t", raw(bytes(4)))),
    "shape_long": held(array_of(b"(" + b"K\x01" * 10**5 + b"K\x02t", raw(bytes(4)))),
    "bytes_not_bytes": held(array_of(b"K\x01\x85", b"K\x04")),
    "bytes_a_list_of_objects": held(array_of(b"K\x01\x85", b"]cnumpy\ndtype\na")),
    "array_without_state": held(b"cnumpy._core.multiarray\n_reconstruct\n)R"),
    "array_with_a_short_state": held(
        b"cnumpy._core.multiarray\n_reconstruct\n)R(K\x01K\x01tb"
    ),
    "array_without_dtype": held(array_of(b"K\x01\x85", raw(bytes(4)), dtype=b"N")),
    "function_as_array": held(b"cnumpy._core.multiarray\n_reconstruct\n"),
    "class_as_array": held(b"cnumpy\ndtype\n"),
    "dtype_as_array": held(F4),
    "ndarray_called": held(call("numpy", "ndarray", b"K\x05")),
    "dtype_O": held(call("numpy", "dtype", "O8")),
    "dtype_V": held(call("numpy", "dtype", "V8")),
    "dtype_fields": held(call("numpy", "dtype", b"](" + text("f4") + b"e")),
    "dtype_text_with_newlines": held(call("numpy", "dtype", "f4\nO\n")),
    "long_double": pickle.dumps(dict(w=np.zeros(2, np.longdouble)), 4),
    "complex": pickle.dumps(dict(w=np.zeros(2, np.complex64)), 4),
    "integers": with_array("w", lambda a: a.astype(np.int32)),
    "unsigned": with_array("w", lambda a: a.astype(np.uint8)),
    "truth": with_array("w", lambda a: a > 0),
    "texts": with_array("b", lambda a: np.array(list("abcd"))),
    "dates": with_array("b", lambda a: np.zeros(4, "M8[s]")),
    "records": with_array("b", lambda a: np.zeros(4, [("x", "f4")])),
    "objects": with_array("b", lambda a: a.astype(object)),
    "masked": with_array("b", lambda a: np.ma.masked_array(a)),
    "scalar": with_array("b", lambda a: a[0]),
    "number": with_array("b", lambda a: 1.5),
    "list_of_numbers": with_array("b", lambda a: a.tolist()),
    "none": with_array("b", lambda a: None),
    "bytes": with_array("b", lambda a: a.tobytes()),
    "nan_in_w": with_array("w", lambda a: put(a, np.nan)),
    "inf_in_b": with_array("b", lambda a: put(a, -np.inf)),
    "too_large_for_float32": with_array("w", lambda a: put(a.astype("f8"), 1e300)),
    "mapping_as_w": with_array("w", lambda a: dict(x=a)),
    "width_mismatch": with_array("w", lambda a: np.zeros((5, 4), "f4")),
    "bias_mismatch": with_array("b", lambda a: np.zeros(5, "f4")),
    "bias_a_row": with_array("b", lambda a: a[None]),
    "w_a_vector": with_array("w", lambda a: a[0]),
    "w_a_cube": with_array("w", lambda a: a[None]),
    "scalars": edited(lambda t: dict(a=dict(w=np.zeros((), "f4"), b=np.zeros((), "f4")))),
    "two_widths": edited(lambda t: None, (2, 4, 5, 1)),
    "one_layer": edited(lambda t: None, (2, 3)),
    "no_units": edited(lambda t: None, (2, 0, 0, 3)),
    "no_inputs": edited(lambda t: None, (0, 4, 3)),
    "no_outputs": edited(lambda t: None, (2, 4, 0)),
    "no_layers": edited(lambda t: {}),
    "no_bias": edited(lambda t: t[module_name(1)].pop("b") is None),
    "no_bias_anywhere": edited(lambda t: {k: dict(w=v["w"]) for k, v in t.items()}),
    "another_name": edited(lambda t: {k: dict(weights=v["w"], b=v["b"]) for k, v in t.items()}),
    "extra_tensor": edited(lambda t: t[module_name(0)].update(g=np.ones(4, "f4"))),
    "one_level_less": edited(lambda t: t[module_name(0)]),
    "a_layer_in_a_layer": edited(lambda t: t[module_name(1)].update(t[module_name(0)])),
    "arrays_beside_layers": edited(lambda t: t.update(w=np.zeros((2, 2), "f4"))),
    "a_list_of_layers": edited(lambda t: list(t.values())),
    "a_tuple": edited(lambda t: (t, {})),
    "an_array": edited(lambda t: np.zeros((3, 3), "f4")),
    "an_array_of_one": edited(lambda t: np.ones(1, "f4")),
    "an_array_of_none": edited(lambda t: np.ones(0, "f4")),
    "just_a_text": pickle.dumps("w", 4),
    "just_none": pickle.dumps(None, 4),
    "numbers_as_names": edited(lambda t: dict(enumerate(t.values()))),
    "newline_in_a_name": edited(lambda t: {f"a\nb{k}": v for k, v in t.items()}, (2, 4, 5, 1)),
    "newline_in_a_mismatch": edited(
        lambda t: {"a\r\nb\u2028c": dict(w=np.zeros((2, 4), "f4"), b=np.zeros(3, "f4"))}
    ),
    "newline_in_a_key": edited(lambda t: {"a\nb": {"c\nd": np.zeros(3, "f4")}}),
    "name_of_a_megabyte": edited(
        lambda t: {"n" * 10**6: dict(w=np.zeros((2, 4), "f4"), b=np.zeros(3, "f4"))}
    ),
    "layer_of_a_huge_number": edited(lambda t: {"siren_" + "9" * 5000: t[module_name(0)]}),
    "newline_in_a_module": finished(call("os\nsystem", "x\ny", "x", protocol=4)),
    "module_of_a_megabyte": finished(call("m" * 10**6, "x", "x", protocol=4)),
    "surrogates": finished(b"V\\ud800\n" + text("x") + b"\x93"),
}  # fmt: skip


@pytest.fixture
def extended(monkeypatch):
    """Extension code 240 stands for os.system."""
    monkeypatch.setitem(copyreg._inverted_registry, 0xF0, ("os", "system"))
    yield
    copyreg._extension_cache.pop(0xF0, None)


def refusal(tmp_path, data, name="params.pkl"):
    """The one line with which a file is refused, in no time and without a trace."""
    source, target = tmp_path / name, tmp_path / "out/start.safetensors"
    source.write_bytes(data)
    gc.disable()  # a collection of what other tests left behind takes a second
    try:
        started = time.thread_time()
        with pytest.raises(PickleError) as error:
            exchange.convert(source, target, omega0=30.0)
        assert time.thread_time() - started < 1
    finally:
        gc.enable()
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 400
    assert [p.name for p in tmp_path.iterdir()] == [name]  # no canary, no weights, no manifest
    return message


@pytest.mark.parametrize("name", LIVE)
def test_hostile_pickles_are_refused_and_nothing_runs(tmp_path, extended, name):
    message = refusal(tmp_path, LIVE[name](tmp_path / "canary"))
    assert message.startswith("params.pkl: refused, ")


@pytest.mark.parametrize("name", LIVE)
def test_these_pickles_are_hostile_indeed(tmp_path, extended, name):
    """Whoever unpickles them runs them: otherwise the test above would prove nothing."""
    canary = tmp_path / "canary"
    try:
        made = pickle.load(io.BytesIO(LIVE[name](canary)))
        if hasattr(made, "close"):
            made.close()
    except (TypeError, KeyError, pickle.UnpicklingError):
        pass  # after the fact
    assert canary.exists()


@pytest.mark.parametrize("name", STILL)
def test_what_is_no_checkpoint_is_refused(tmp_path, name):
    assert refusal(tmp_path, STILL[name])


def test_a_name_asked_for_is_named(tmp_path):
    assert "it asks for os.system" in refusal(tmp_path, finished(call("os", "system", "true")))
    assert "it uses the opcode INST" in refusal(tmp_path, finished(b"(ios\nsystem\n"))


def test_a_small_file_does_not_fill_the_memory(tmp_path):
    """Bytes that lie in the file once cannot be the content of 300 arrays, nor 300 texts."""
    arrays = [text(f"{i}") + array_of(b"M\x10\x27\x85", b"h\x01") for i in range(300)]
    program = raw(bytes(40_000)) + b"q\x010}(" + b"".join(arrays) + b"u"
    path = tmp_path / "params.pkl"
    path.write_bytes(finished(program))
    with pytest.raises(PickleError):
        _unpickle.read(path)


def test_a_file_name_of_two_lines_is_refused_in_one(tmp_path):
    assert refusal(tmp_path, b"", name="a\nb.pkl")


@pytest.mark.parametrize("kind", ["directory", "absent", "too_large"])
def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch, kind):
    source = tmp_path / "params.pkl"
    told = "no such file"
    if kind == "directory":
        source.mkdir()
    elif kind == "too_large":
        source.write_bytes(genuine())
        monkeypatch.setattr(_unpickle, "MAX_BYTES", len(genuine()) - 1)
        told = "more than"
    with pytest.raises(PickleError, match=told) as error:
        exchange.convert(source, tmp_path / "start.safetensors", omega0=30.0)
    assert "params.pkl" in str(error.value)


def test_deep_nesting_does_not_end_the_process(tmp_path):
    """A tuple in a tuple in a tuple ... as a key: hashing it overflows the stack of C."""
    path = tmp_path / "params.pkl"
    path.write_bytes(finished(b"})" + b"\x85" * 500_000 + b"K\x01s"))
    program = (
        "import sys; from learnit_utils import _unpickle\n"
        "try: _unpickle.read(sys.argv[1])\n"
        "except _unpickle.PickleError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n")


# --- one file does not change how the next is read --------------------------------------------
GLOBALS = [
    ("collections", "OrderedDict"),
    ("haiku._src.data_structures", "FlatMapping"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
]


@pytest.mark.parametrize("asked", GLOBALS, ids="".join)
@pytest.mark.parametrize("state", ["attributes", "slots"])
def test_a_pickle_leaves_no_state_behind(tmp_path, asked, state):
    """BUILD sets attributes: of the functions that stand in for numpy's, if they let it."""
    spec = importlib.util.spec_from_file_location("learnit_unpickle_copy", _unpickle.__file__)
    copy = importlib.util.module_from_spec(spec)  # ours stays as it is, whatever happens
    spec.loader.exec_module(copy)
    before = {key: dict(vars(value)) for key, value in copy.ALLOWED.items()}
    values = b"}" + text("__doc__") + text("changed") + b"s" + text("mark") + text("changed") + b"s"
    values = values if state == "attributes" else b"N" + values + b"\x86"
    path = tmp_path / "params.pkl"
    path.write_bytes(finished(f"c{asked[0]}\n{asked[1]}\n".encode() + values + b"b"))
    with pytest.raises(copy.PickleError):
        copy.read(path)
    assert copy.ALLOWED[asked].__doc__ != "changed"
    assert {key: dict(vars(value)) for key, value in copy.ALLOWED.items()} == before


# --- damage -----------------------------------------------------------------------------------
@settings(max_examples=300)
@given(
    st.sampled_from(PROTOCOLS),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=4)), min_size=1, max_size=4),
)
def test_a_damaged_pickle_is_refused_or_still_arrays(tmp_path_factory, protocol, edits):
    data = bytearray(genuine(protocol))
    for at, new in edits:
        at %= len(data)
        data[at : at + len(new)] = new
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(data)
    read_or_refused(path)


def read_or_refused(path):
    """A tree of arrays, or one line."""
    try:
        tree = _unpickle.read(path)
    except PickleError as e:
        lines = str(e).splitlines()
        if len(lines) != 1:
            raise AssertionError(lines) from e
    else:
        plain(tree)


def plain(tree):
    """Nothing but dicts with texts for keys and floating-point arrays."""
    if type(tree) is dict:
        assert all(type(k) is str for k in tree)
        return [plain(v) for v in tree.values()]
    assert type(tree) is np.ndarray
    assert tree.dtype.kind == "f"
    return tree.shape


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_random_programs_are_refused_in_one_line(tmp_path_factory, program):
    path = tmp_path_factory.getbasetemp() / "random.pkl"
    path.write_bytes(b"\x80\x04" + program)
    read_or_refused(path)


# --- settings and the command line ------------------------------------------------------------
@pytest.mark.parametrize(
    "words",
    [
        dict(omega0=0.0),
        dict(omega0=-1.0),
        dict(omega0=float("nan")),
        dict(omega0=30.0, hidden_omega0=float("inf")),
        dict(omega0=30.0, offset=float("nan")),
        dict(omega0=30.0, offset=float("inf")),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(tmp_path, words):
    (tmp_path / "params.pkl").write_bytes(genuine())
    with pytest.raises(ValueError) as error:  # noqa: PT011
        exchange.convert(tmp_path / "params.pkl", tmp_path / "start.safetensors", **words)
    assert len(str(error.value).splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["params.pkl"]


def command(source, target, *more):
    return main(["import-weights", str(source), str(target), *more])


def test_the_command_converts(tmp_path, capsys):
    source, target = tmp_path / "params.pkl", tmp_path / "out/start.safetensors"
    source.write_bytes(genuine(2))
    assert command(source, target, "--omega0", "30") == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{target}\n", "")
    there = {"start.safetensors", "manifest.json", ".manifest.lock"}
    assert {p.name for p in target.parent.iterdir()} == there
    spec = store.load(target).field.spec
    assert (spec["omega0"], spec["hidden_omega0"], spec["offset"]) == (30.0, 30.0, 0.5)


def test_the_command_takes_the_settings(tmp_path):
    source, target = tmp_path / "params.pkl", tmp_path / "start.safetensors"
    source.write_bytes(genuine(3))
    more = ("--omega0", "12.5", "--hidden-omega0", "3", "--offset", "-0.25")
    assert command(source, target, *more) == 0
    entry = json.loads((tmp_path / "manifest.json").read_text("utf8"))["start.safetensors"]
    assert (entry["field"]["omega0"], entry["field"]["hidden_omega0"]) == (12.5, 3.0)
    assert (entry["field"]["offset"], entry["method"]) == (-0.25, "imported")


FAILURES = {
    "hostile": (LIVE["os.system"], "start.safetensors", "30", "it asks for os.system"),
    "objects": (LIVE["object_array_2"], "start.safetensors", "30", "params.pkl"),
    "not_a_pickle": (lambda c: b"hello", "start.safetensors", "30", "params.pkl"),
    "nan": (lambda c: STILL["nan_in_w"], "start.safetensors", "30", "not finite"),
    "overflow": (lambda c: STILL["too_large_for_float32"], "start.safetensors", "30", "finite"),
    "mapping_as_w": (lambda c: STILL["mapping_as_w"], "start.safetensors", "30", "siren_layer_1"),
    "an_array": (lambda c: STILL["an_array_of_one"], "start.safetensors", "30", "mapping"),
    "newline": (lambda c: STILL["newline_in_a_mismatch"], "start.safetensors", "30", "do not cont"),
    "absent": (None, "start.safetensors", "30", "no such file"),
    "suffix": (lambda c: genuine(), "start.npz", "30", "expected a file name in .safetensors"),
    "omega0": (lambda c: genuine(), "start.safetensors", "0", "omega0 = 0.0"),
    "target_under_a_file": (lambda c: genuine(), "params.pkl/a.safetensors", "30", "params.pkl"),
}  # fmt: skip


@pytest.mark.filterwarnings("default")  # a warning would be one more line on stderr
@pytest.mark.parametrize("failure", FAILURES)
def test_the_command_fails_in_one_line_and_leaves_nothing(tmp_path, capsys, failure):
    make, target, omega0, told = FAILURES[failure]
    source = tmp_path / "params.pkl"
    if make:
        source.write_bytes(make(tmp_path / "canary"))
    before = sorted(tmp_path.rglob("*"))
    assert command(source, tmp_path / target, "--omega0", omega0) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("learnit: ")
    assert told in err
    assert sorted(tmp_path.rglob("*")) == before


REFUSED = [["--omega0", "x"], ["--omega0", "30", "--width", "3"], ["--kind", "sirn"]]
REFUSED += [["--set", "omega0"], ["--set", "nosuch=3"], ["--kind", "relu", "--omega0", "30"]]


@pytest.mark.parametrize("words", REFUSED)
def test_the_command_is_refused_before_it_starts(tmp_path, capsys, words):
    (tmp_path / "params.pkl").write_bytes(genuine())
    assert command(tmp_path / "params.pkl", tmp_path / "start.safetensors", *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["params.pkl"]
