"""PyTorch's files of tensors by name, read without running them and written without PyTorch.

Such a file is a zip: `data.pkl`, a pickle that says which tensors there are, and `data/0`,
`data/1`, ... with their bytes. The pickle goes through the machine of `_unpickle`, which answers
the few names that state dicts need and refuses every other.
"""

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from learnit_utils import _files
from learnit_utils._unpickle import (
    ALLOWED,
    MAX_AXES,
    MAX_BYTES,
    PickleError,
    _Array,
    _Machine,
    line,
)

STORAGES = dict(FloatStorage="f4", DoubleStorage="f8", HalfStorage="f2")
OTHERS = ("LongStorage", "IntStorage", "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage")
OTHERS += ("BFloat16Storage",)  # not read, but state dicts hold counters beside their weights
MAGIC = b"PK\x03\x04"


class _Kind:
    """Stands in for a type of storage, which is named and not called."""

    def __init__(self, code):
        self.code = code

    def __call__(self, *_):
        raise PickleError("a storage made directly")


class _Storage:
    """Bytes of the archive as numbers of one type; None where those are not floating-point."""

    def __init__(self, numbers):
        self.numbers = numbers


class _Skipped:
    """A tensor of whole numbers."""


def _tensor(storage, offset, size, stride, *_):
    if not isinstance(storage, _Storage):
        raise PickleError("a tensor without a storage")
    if storage.numbers is None:
        return _Skipped()
    axes = (size, stride)
    good = all(type(a) is tuple and len(a) <= MAX_AXES for a in axes) and len(size) == len(stride)
    good = good and all(type(n) is int and 0 <= n <= MAX_BYTES for n in (offset, *size, *stride))
    if not good:
        raise PickleError("a tensor without shape or strides")
    numbers, last = storage.numbers, offset + sum((n - 1) * s for n, s in zip(size, stride))
    if math.prod(size) and not (last < len(numbers) and math.prod(size) <= len(numbers)):
        raise PickleError(f"a tensor of shape {size} in a storage of {len(numbers)} numbers")
    made, step = _Array(), numbers.itemsize
    if math.prod(size):
        steps = tuple(s * step for s in stride)
        made.value = np.lib.stride_tricks.as_strided(numbers[offset:], size, steps).copy()
    else:
        made.value = np.zeros(size, numbers.dtype)
    return made


def _parameter(tensor, *_):
    if not isinstance(tensor, _Array | _Skipped):
        raise PickleError("a parameter that is no tensor")
    return tensor


NAMES = ALLOWED | {("torch._utils", "_rebuild_tensor_v2"): _tensor}
NAMES |= {("torch._utils", "_rebuild_parameter"): _parameter}
NAMES |= {("torch", name): _Kind(code) for name, code in STORAGES.items()}
NAMES |= {("torch", name): _Kind(None) for name in OTHERS}


class _Tensors(_Machine):
    """The machine of a state dict: it also finds storages in the archive."""

    def __init__(self, data, members, order):
        super().__init__(data, NAMES, sum(map(len, members.values())))
        self.members, self.order = members, order

    def stored(self, op, argument):
        told = self.stack.pop() if op == "BINPERSID" else None
        if not (type(told) is tuple and len(told) == 5 and told[0] == "storage"):
            raise PickleError("something stored that is no storage")
        kind, key = getattr(told[1], "call", None), told[2]
        if not (isinstance(kind, _Kind) and isinstance(key, str) and key in self.members):
            raise PickleError("a storage that is not in the file")
        raw = self.members[key]
        if kind.code is None:
            self.stack.append(_Storage(None))
            return
        numbers = np.dtype(self.order + kind.code)
        if type(told[4]) is not int or told[4] * numbers.itemsize != len(raw):
            raise PickleError(f"a storage of {line(told[4])} numbers with {len(raw)} bytes")
        self.stack.append(_Storage(np.frombuffer(raw, numbers)))

    def named(self, key):
        return str(key) if type(key) is int else key  # optimizers count their entries

    def state(self, given):
        if type(self.stack[-1]) is not dict:  # a state dict has notes on its modules: not needed
            super().state(given)


def read(path: str | Path) -> dict[str, Any]:
    """The tensors of floating-point numbers in a file of `torch.save`, as nested dicts of arrays.

    Other entries, for example the number of an epoch, are left out.

    Raises:
        PickleError: anything that a state dict does not need; nothing in it has run.
    """
    path = Path(path)
    name = line(path.name)
    try:
        members = members_of(path)
        (index,) = [m for m in members if m == "data.pkl" or m.endswith("/data.pkl")]
        root = index.removesuffix("data.pkl")
        order = members.get(f"{root}byteorder", b"little")
        begin = f"{root}data/"
        stored = {m.removeprefix(begin): v for m, v in members.items() if m.startswith(begin)}
        machine = _Tensors(members[index], stored, ">" if order == b"big" else "<")
        found = _only_arrays(machine.run(), set())
    except PickleError as e:
        raise PickleError(f"{name}: refused, {e}") from None
    except Exception as e:  # a damaged file can fail in any way
        why = f"{type(e).__name__}: {line(e)}"
        raise PickleError(f"{name}: not a readable file of PyTorch ({why})") from None
    if not found:
        raise PickleError(f"{name}: no tensors by name in it; save the state dict of the module")
    return found


def members_of(path: Path, most: int = MAX_BYTES) -> dict[str, bytes]:
    """The members of a zip, in memory.

    Raises:
        PickleError: more than `most` bytes; FileError: see `_files.unzip`.
    """
    if path.stat().st_size > most:
        raise PickleError(f"more than {most >> 20} MiB")
    with zipfile.ZipFile(path) as archive:
        if len(archive.namelist()) != len(set(archive.namelist())):
            raise PickleError("two members of one name")
        return _files.unzip(archive, most, 1000)


def _only_arrays(tree, seen, depth=0):
    if depth > 20 or id(tree) in seen:
        raise PickleError("mappings nested deeper than 20, or one in two places")
    if type(tree) is not dict:
        raise PickleError("it holds something else than mappings of tensors")
    seen.add(id(tree))
    found = {}
    for name, value in tree.items():
        if isinstance(value, _Array):
            found[name] = value.value
        elif type(value) is dict and (below := _only_arrays(value, seen, depth + 1)):
            found[name] = below
    return found


# --- writing --------------------------------------------------------------------------------------
def written(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a file that `torch.load` reads as {name: tensor}, with its safe default."""
    program, archive = [b"\x80\x02}("], io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for i, (name, a) in enumerate(tensors.items()):
            a = np.ascontiguousarray(a, "<f4")
            program.append(_text(name) + _rebuilt(str(i), a))
            file.writestr(_member(f"archive/data/{i}"), a.tobytes())
        file.writestr(_member("archive/data.pkl"), b"".join([*program, b"u."]))
        file.writestr(_member("archive/byteorder"), b"little")
        file.writestr(_member("archive/version"), b"3\n")
    return archive.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    """A member without a date, so that equal tensors make equal files."""
    return zipfile.ZipInfo(name)


def _rebuilt(key: str, a: np.ndarray) -> bytes:
    """The opcodes that make one contiguous tensor of a storage."""
    storage = b"(" + _text("storage") + b"ctorch\nFloatStorage\n" + _text(key) + _text("cpu")
    storage += _whole(a.size) + b"tQ"
    stride = [s // a.itemsize for s in a.strides]
    shape = b"".join(b"(" + b"".join(map(_whole, axes)) + b"t" for axes in (a.shape, stride))
    hooks = b"ccollections\nOrderedDict\n)R"
    made = b"(" + storage + _whole(0) + shape + b"\x89" + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + made + b"R"


def _text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word.encode())) + word.encode()


def _whole(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)
