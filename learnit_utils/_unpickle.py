"""Pickles of nested mappings of NumPy or JAX arrays, read without running them.

A pickle is a program. Here its opcodes must be on a list, every name it asks for is answered by a
stand-in of this module or refused, and the arrays are built from their raw bytes at the end.
"""

import math
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAX_BYTES = 2**28
MAX_AXES = 8
MAX_STEPS = 10**6
HAIKU = ("FlatMapping", "FlatMap", "frozendict", "to_immutable_dict", "to_haiku_dict")


class PickleError(ValueError):
    """A pickle that holds something else, or asks for more; the message is one line."""


def line(text, most=80) -> str:
    """A text from a file, fit to stand in a message of one line."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:most])


class _DType:
    """Stands in for numpy.dtype: a floating-point type and its byte order."""

    def __init__(self, code=None, *_):
        if not isinstance(code, str) or not re.fullmatch(r"[<>=|]?f[248]", code):
            what = line(repr(code[:40])) if isinstance(code, str) else type(code).__name__
            raise PickleError(f"an array of type {what}: floating-point numbers are needed")
        self.code = code.lstrip("<>=|")
        self.order = code[0] if code[0] in "<>" else "<"

    def build(self, state):
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]

    def array(self, raw, shape, fortran) -> np.ndarray:
        dtype = np.dtype(self.order + self.code)
        if isinstance(raw, str):  # protocols 0 and 1
            raw = raw.encode("latin1")
        whole = isinstance(shape, tuple) and len(shape) <= MAX_AXES
        whole = whole and all(type(n) is int and 0 <= n <= MAX_BYTES for n in shape)
        if not whole or not isinstance(raw, bytes | bytearray):
            raise PickleError("an array without shape or bytes")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise PickleError(f"an array of shape {shape} with {len(raw)} bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C").copy()


class _Array:
    """Stands in for what numpy's _reconstruct returns, until its state arrives."""

    value = None

    def __init__(self, *_):
        pass

    def build(self, state):
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], _DType)):
            raise PickleError("an array whose state is not one")
        _, shape, dtype, fortran, raw = state
        self.value = dtype.array(raw, shape, fortran)


def _from_buffer(raw, dtype, shape, order, *_):
    if not isinstance(dtype, _DType):
        raise PickleError("an array without a type")
    made = _Array()
    made.value = dtype.array(raw, shape, order == "F")
    return made


def _from_jax(make, given, state, *_):
    if not (isinstance(make, _Name) and make.call is _Array and type(given) is tuple):
        raise PickleError("a JAX array that is not made of one of NumPy")
    made = _Array()
    made.build(state)
    return made


def _encode(text, encoding="latin1", *_):
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleError("text that is not encoded as latin1")
    return text.encode("latin1")


def _mapping(data=(), *_):
    if isinstance(data, dict):
        return data
    made, pairs = {}, list(data)
    if pairs:
        data.clear()  # a list is taken once, or a short program could make many long mappings
    for key, value in pairs:
        _put(made, key, value)
    return made


def _put(mapping, key, value):
    if type(mapping) is not dict or not isinstance(key, str):  # hashing a tuple can take forever
        raise PickleError("something other than a mapping with names")
    mapping[key] = value


def _ndarray(*_):
    raise PickleError("an ndarray made directly")


ALLOWED = {("_codecs", "encode"): _encode, ("collections", "OrderedDict"): _mapping}
ALLOWED |= {("haiku._src.data_structures", name): _mapping for name in HAIKU}
ALLOWED |= {("flax.core.frozen_dict", "FrozenDict"): _mapping}
ALLOWED |= {("numpy", "ndarray"): _ndarray, ("numpy", "dtype"): _DType}
ALLOWED |= {("jax._src.array", "_reconstruct_array"): _from_jax}
ALLOWED |= {("jax._src.device_array", "reconstruct_device_array"): _from_jax}  # until JAX 0.4
for _core in ("numpy.core", "numpy._core"):
    ALLOWED[_core + ".multiarray", "_reconstruct"] = _Array
    ALLOWED[_core + ".numeric", "_frombuffer"] = _from_buffer


class _Name(NamedTuple):
    """A name that is allowed, until it is called."""

    call: Callable


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
VALUES = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    """.split()  # noqa: SIM905
)


class _Machine:
    """The stack machine of a pickle. Every step is one of those below; there is no other."""

    def __init__(self, data: bytes, allowed: dict | None = None, elsewhere: int = 0):
        self.data, self.spent = data, 0
        self.allowed = ALLOWED if allowed is None else allowed
        self.most = 2 * (len(data) + elsewhere)  # bytes of arrays; `elsewhere` are in other files
        self.stack, self.marks, self.memo = [], [], {}

    def run(self) -> Any:
        """What the pickle makes."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(self.data)):
            op = opcode.name
            if count > MAX_STEPS:
                raise PickleError(f"it has more than {MAX_STEPS} steps")
            if op == "STOP":
                return self.stack.pop()
            if op in VALUES:
                self.stack.append(argument)
            elif op in CONSTANTS:
                self.stack.append(CONSTANTS[op])
            elif op in EMPTY:
                self.stack.append(EMPTY[op]())
            elif op in STEPS:
                STEPS[op](self, op, argument)
            else:
                raise PickleError(f"it uses the opcode {op}")
        raise PickleError("it does not end")

    def marked(self) -> list:
        begin = self.marks.pop()
        items = self.stack[begin:]
        del self.stack[begin:]
        return items

    def protocol(self, op, argument):
        if op == "PROTO" and argument > 5:
            raise PickleError(f"it is of protocol {argument}")

    def move(self, op, argument):
        if op == "MARK":
            self.marks.append(len(self.stack))
        elif op == "POP_MARK":
            self.marked()
        elif op == "POP":
            self.stack.pop()
        else:
            self.stack.append(self.stack[-1])

    def recall(self, op, argument):
        self.stack.append(self.memo[argument])

    def remember(self, op, argument):
        self.memo[len(self.memo) if op == "MEMOIZE" else argument] = self.stack[-1]

    def gather(self, op, argument):
        if op in ("TUPLE", "LIST"):
            self.stack.append((tuple if op == "TUPLE" else list)(self.marked()))
        else:
            n = int(op[-1])
            self.stack[-n:] = [tuple(self.stack[-n:])]

    def put(self, op, argument):
        single = op == "SETITEM"
        items = [self.stack.pop(), self.stack.pop()][::-1] if single else self.marked()
        if op == "DICT":
            self.stack.append({})
        for key, value in zip(items[::2], items[1::2], strict=True):
            _put(self.stack[-1], self.named(key), value)

    def named(self, key):
        return key

    def append(self, op, argument):
        items = [self.stack.pop()] if op == "APPEND" else self.marked()
        if type(self.stack[-1]) is not list:
            raise PickleError("it appends to what is not a list")
        self.stack[-1].extend(items)

    def name(self, op, argument):
        if op == "GLOBAL":
            self.stack.append(self.asked(*argument.split(" ", 1)))
            return
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise PickleError("it asks for something without a name")
        self.stack.append(self.asked(module, name))

    def asked(self, module, name):
        if (module, name) not in self.allowed:
            raise PickleError(f"it asks for {line(module)}.{line(name)}")
        return _Name(self.allowed[module, name])

    def stored(self, op, argument):
        raise PickleError(f"it uses the opcode {op}")

    def make(self, op, argument):
        given = self.stack.pop()
        if op == "BUILD":
            self.state(given)
        else:
            asked = self.stack.pop()
            if not isinstance(asked, _Name) or type(given) is not tuple:
                raise PickleError("it calls something")
            self.stack.append(asked.call(*given))
        made = self.stack[-1]
        made = made.value if isinstance(made, _Array) else made
        if isinstance(made, bytes | np.ndarray):
            self.spent += memoryview(made).nbytes
        if self.spent > self.most:
            raise PickleError("its arrays are larger than the file")

    def state(self, given):
        if not isinstance(self.stack[-1], _Array | _DType):
            raise PickleError("it changes what is not an array")
        self.stack[-1].build(given)


STEPS = dict.fromkeys(("PROTO", "FRAME"), _Machine.protocol)
STEPS |= dict.fromkeys(("MARK", "POP", "POP_MARK", "DUP"), _Machine.move)
STEPS |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall)
STEPS |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember)
STEPS |= dict.fromkeys(("TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "LIST"), _Machine.gather)
STEPS |= dict.fromkeys(("DICT", "SETITEM", "SETITEMS"), _Machine.put)
STEPS |= dict.fromkeys(("APPEND", "APPENDS"), _Machine.append)
STEPS |= dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _Machine.name)
STEPS |= dict.fromkeys(("REDUCE", "BUILD"), _Machine.make)
STEPS |= dict.fromkeys(("PERSID", "BINPERSID"), lambda machine, *step: machine.stored(*step))


def read(path: str | Path, most: int | None = None) -> Any:
    """Nested dicts of float arrays from a pickle (protocols 0 to 5).

    Args:
        most: bytes that the file may have; MAX_BYTES unless given.

    Raises:
        PickleError: anything that such a file does not need; nothing in it has run.
    """
    path, most = Path(path), MAX_BYTES if most is None else most
    name = line(path.name)
    if not path.is_file():
        raise PickleError(f"{name}: no such file")
    if path.stat().st_size > most:
        raise PickleError(f"{name}: more than {most >> 20} MiB")
    data = path.read_bytes()
    try:
        return _plain(_Machine(data).run(), set())
    except PickleError as e:
        raise PickleError(f"{name}: refused, {e}") from None
    except Exception as e:  # a damaged program can fail in any way
        why = f"{type(e).__name__}: {line(e)}"
        raise PickleError(f"{name}: not a readable pickle ({why})") from None


def _plain(tree, seen, depth=0):
    if depth > 20 or id(tree) in seen:  # shared mappings could unfold without end
        raise PickleError("mappings nested deeper than 20, or one in two places")
    if isinstance(tree, _Array):
        if tree.value is None:
            raise PickleError("an array without content")
        return tree.value
    if isinstance(tree, dict):
        seen.add(id(tree))
        return {k: _plain(v, seen, depth + 1) for k, v in tree.items()}
    raise PickleError(
        f"it holds a {type(tree).__name__.strip('_')} where mappings of arrays belong"
    )
