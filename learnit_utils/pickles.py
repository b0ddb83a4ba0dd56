"""Published checkpoints: pickles of nested mappings of NumPy arrays, read without running them.

A pickle is a program. Here its opcodes must be on a list, every name it asks for is answered by a
stand-in of this module or refused, and the arrays are built from their raw bytes at the end.
"""

import math
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from learnit_utils import assets, fields, weights
from learnit_utils.fields import Layer

MAX_BYTES = 2**28
MAX_MEMO = 10**6
# Everything that builds plain data and arrays; INST, OBJ, NEWOBJ, EXT, PERSID and buffers stay out.
OPCODES = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK DUP GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWTRUE NEWFALSE
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 GLOBAL STACK_GLOBAL REDUCE BUILD
    """.split()  # noqa: SIM905
)
HAIKU = ("FlatMapping", "FlatMap", "frozendict", "to_immutable_dict", "to_haiku_dict")


class PickleError(ValueError):
    """A pickle that is not a published checkpoint of this kind; one line."""


class _DType:
    """Stands in for numpy.dtype: a floating-point type and its byte order."""

    def __init__(self, code, *_):
        if not isinstance(code, str) or not re.fullmatch(r"[<>=|]?f[248]", code):
            raise PickleError(f"an array of type {code!r:.40}: floating-point numbers are needed")
        self.code = code.lstrip("<>=|")
        self.order = code[0] if code[0] in "<>" else "<"

    def __setstate__(self, state):
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]

    def array(self, raw, shape, fortran) -> np.ndarray:
        dtype = np.dtype(self.order + self.code)
        whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or not isinstance(raw, bytes | bytearray):
            raise PickleError("an array without shape or bytes")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise PickleError(f"an array of shape {shape} with {len(raw)} bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C").copy()


class _Array:
    """Stands in for what numpy's _reconstruct returns, until its state arrives."""

    value = None

    def __setstate__(self, state):
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], _DType)):
            raise PickleError("an array whose state is not one")
        _, shape, dtype, fortran, raw = state
        if isinstance(raw, str):  # protocols 0 and 1
            raw = raw.encode("latin1")
        self.value = dtype.array(raw, shape, fortran)


def _reconstruct(*_):
    return _Array()


def _from_buffer(raw, dtype, shape, order, *_):
    if not isinstance(dtype, _DType):
        raise PickleError("an array without a type")
    made = _Array()
    made.value = dtype.array(raw, shape, order == "F")
    return made


def _encode(text, encoding="latin1", *_):
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise PickleError(f"text encoded as {encoding!r:.40}")
    return text.encode("latin1")


def _mapping(data=(), *_):
    return dict(data)


def _ndarray(*_):
    raise PickleError("an ndarray made directly")


ALLOWED = {("_codecs", "encode"): _encode, ("collections", "OrderedDict"): _mapping}
ALLOWED |= {("haiku._src.data_structures", name): _mapping for name in HAIKU}
ALLOWED |= {("numpy", "ndarray"): _ndarray, ("numpy", "dtype"): _DType}
for _core in ("numpy.core", "numpy._core"):
    ALLOWED[_core + ".multiarray", "_reconstruct"] = _reconstruct
    ALLOWED[_core + ".numeric", "_frombuffer"] = _from_buffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise PickleError(f"it asks for {module}.{name}"[:120]) from None


def read(path: str | Path) -> Any:
    """Nested dicts of float arrays from a pickle (protocols 0 to 5).

    Raises:
        PickleError: anything that such a file does not need; nothing in it has run.
    """
    import io

    path = Path(path)
    if not path.is_file():
        raise PickleError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise PickleError(f"{path}: more than {MAX_BYTES >> 20} MiB")
    data = path.read_bytes()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in OPCODES:
                raise PickleError(f"it uses the opcode {opcode.name}")
            if opcode.name in ("PUT", "LONG_BINPUT") and argument > MAX_MEMO:
                raise PickleError("it asks for a memo of absurd size")
        return _plain(_Unpickler(io.BytesIO(data), encoding="latin1").load())
    except PickleError as e:
        raise PickleError(f"{path.name}: refused, {e}") from None
    except Exception as e:  # a damaged program can fail in any way
        why = (str(e).splitlines() or [""])[0]
        raise PickleError(
            f"{path.name}: not a readable pickle ({type(e).__name__}: {why:.80})"
        ) from None


def _plain(tree, depth=0):
    if depth > 20:
        raise PickleError("mappings nested deeper than 20")
    if isinstance(tree, _Array):
        if tree.value is None:
            raise PickleError("an array without content")
        return tree.value
    if isinstance(tree, dict) and all(isinstance(k, str) for k in tree):
        return {k: _plain(v, depth + 1) for k, v in tree.items()}
    raise PickleError(
        f"it holds a {type(tree).__name__.strip('_')} where mappings of arrays belong"
    )


def _order(module: str) -> list:
    """siren/siren_layer_2/linear -> [("siren", 0), ("siren_layer", 2), ("linear", 0)]."""
    parts = [re.fullmatch(r"(.*?)(?:_(\d+))?", part, re.S) for part in module.split("/")]
    return [(m[1], int(m[2] or 0)) for m in parts]


def layers(tree: dict) -> list[Layer]:
    """The layers of {"siren/siren_layer/linear": {"w": ..., "b": ...}, "siren/siren_layer_1/..."}.

    Raises:
        PickleError: another structure, or layers that do not fit together.
    """
    if not tree or not all(isinstance(v, dict) and set(v) == {"w", "b"} for v in tree.values()):
        held = ", ".join(sorted(map(str, tree))[:3])
        raise PickleError(f"a mapping of layers with 'w' and 'b' is needed, it holds {held:.80}")
    theta = []
    for module in sorted(tree, key=_order):
        w, b = (np.asarray(tree[module][k], np.float32) for k in "wb")
        if w.ndim != 2 or b.shape != w.shape[1:] or (theta and theta[-1].w.shape[1] != w.shape[0]):
            raise PickleError(
                f"{module}: w {w.shape} and b {b.shape} do not continue the layers before"
            )
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise PickleError(f"{module}: values that are not finite")
        theta.append(Layer(w, b))
    return theta


def convert(
    source: str | Path,
    target: str | Path,
    *,
    omega0: float,
    hidden_omega0: float | None = None,
    offset: float = 0.5,
) -> None:
    """Write the SIREN in a published pickle as weights with a manifest beside them.

    Args:
        source: the pickle, haiku's layout: weights (in, out).
        target: ends in .safetensors.
        omega0, hidden_omega0, offset: as in `fields.siren`; the pickle does not hold them.

    Raises:
        PickleError: the file is not such a checkpoint.
        WeightsError, ValueError: a target or setting that cannot be.
    """
    theta = layers(read(source))
    widths = {layer.w.shape[1] for layer in theta[:-1]}
    if len(widths) != 1:
        raise PickleError(
            f"{Path(source).name}: hidden layers of widths {sorted(widths)}, one is needed"
        )
    field = fields.siren(
        widths.pop(),
        len(theta),
        omega0,
        theta[-1].w.shape[1],
        hidden_omega0=hidden_omega0,
        dims=theta[0].w.shape[0],
        offset=offset,
    )
    origin = dict(file=Path(source).name, sha256=assets.sha256(Path(source)))
    weights.save(target, field, theta, method="imported", origin=origin)
