"""Pytrees of arrays on disk: one file, whole or not there, with a hash over everything in it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensors

from learnit_utils import _files


class StateError(ValueError):
    """A file that is damaged or holds something else; the message is one line."""


def digest(arrays: dict[str, np.ndarray], text: str = "") -> str:
    """SHA-256 over names, types, shapes and bytes of arrays, and a text."""
    h = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        h.update(f"\0{name}\0{a.dtype.str}\0{a.shape}\0".encode())
        h.update(np.ascontiguousarray(a).data)
    return h.hexdigest()


def tree_digest(tree: Any) -> str:
    """SHA-256 of a pytree of arrays."""
    return digest(_named(tree))


def save(path: Path, tree: Any, info: dict[str, Any]) -> None:
    """Write a pytree of arrays and whatever JSON goes with it, atomically.

    Args:
        path: the file; its folder is made. A file of that name is replaced in one step.
        tree: leaves are arrays or numbers.
        info: anything JSON can hold.
    """
    arrays, text = _named(tree), json.dumps(info, sort_keys=True)
    metadata = {"info": text, "sha256": digest(arrays, text)}
    _files.write(Path(path), tensors(arrays, metadata))


def load(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """Read back what `save` wrote.

    Args:
        path: the file.
        like: a pytree of the same structure; leaves whose shape may differ are given as None.

    Raises:
        StateError: the file is damaged, or holds another structure, shape or type.
    """
    arrays, info = read(path)
    paths, structure = jax.tree_util.tree_flatten_with_path(like, is_leaf=lambda x: x is None)
    leaves = []
    for keys, leaf in paths:
        name = jax.tree_util.keystr(keys)
        if name not in arrays:
            raise StateError(f"{path}: no {name} in it")
        found = arrays.pop(name)
        if leaf is not None and (found.shape, found.dtype) != (np.shape(leaf), _dtype(leaf)):
            wanted = f"{_dtype(leaf)}{list(np.shape(leaf))}"
            raise StateError(f"{path}: {name} is {found.dtype}{list(found.shape)}, not {wanted}")
        leaves.append(found)
    if arrays:
        raise StateError(f"{path}: {min(arrays)} in it belongs to something else")
    return jax.tree.unflatten(structure, leaves), info


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the JSON of a file that `save` wrote; StateError if it is damaged."""
    data = Path(path).read_bytes()
    try:
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        arrays = read_tensors(data)
        intact = metadata["sha256"] == digest(arrays, metadata["info"])
        info = json.loads(metadata["info"]) if intact else {}
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        intact, arrays, info = False, {}, {}
    if not intact:
        raise StateError(f"{path}: damaged, its hash does not agree with its content")
    return arrays, info


def _dtype(leaf) -> np.dtype:
    return np.dtype(leaf.dtype) if hasattr(leaf, "dtype") else np.asarray(leaf).dtype


def _named(tree) -> dict[str, np.ndarray]:
    """Key path of each leaf -> array."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): plain(leaf) for path, leaf in leaves}


def plain(leaf) -> np.ndarray:
    """As an array whose bytes lie in C order and this machine's: safetensors writes raw memory."""
    a = np.asarray(leaf)
    return np.asarray(a, a.dtype.newbyteorder("="), order="C")
