"""Signed distances of furniture: solids sampled from the models behind the renders of `objects`.

What ships of a model is a cube of cells, full or empty, and not its mesh. Distances are computed
from the cells when they are loaded: exact for the cells, and within about half a cell of those of
the model's surface.
"""

import csv
import io
import json
import lzma
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy import ndimage

from learnit_utils import shipped
from learnit_utils.signals.base import DataError, Dataset, check_request, dataset, spread

KINDS, PARTS = ("chairs", "lamps"), ("support", "query")
REACH = 0.1  # sides of the cube: where distances are cut off
# Values are rounded to 16 bits, so that no processor's last bit shows; those that lie halfway, as
# the surface does, upwards, even if a last bit is missing.
LEVELS, HALF = 2**16 - 1, 0.5 + 1e-6
STRETCH = (0.8, 1.25)  # along every axis, of altered copies


def signed_distance(
    cells: np.ndarray, size: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """Distance of every cell's centre to the surface between full and empty cells.

    The surface lies half a cell from the nearest centre on its other side, which is exact where it
    is a plane along the axes, and off by less than half a cell elsewhere.

    Args:
        cells: (a, b, c) of bool, at least one full and one empty.
        size: of a cell along each axis.

    Returns:
        (a, b, c), negative inside, in the unit of `size`.

    Raises:
        DataError: cells that are all full or all empty have no surface.
    """
    cells = np.asarray(cells, bool)
    if cells.all() or not cells.any():
        raise DataError("cells: all full or all empty, expected a surface between them")
    away, half = ndimage.distance_transform_edt, 0.5 * float(np.mean(size))
    outside, inside = (away(part, sampling=size) for part in (~cells, cells))
    return np.where(cells, half - inside, outside - half)


def sampled(
    values: np.ndarray, sizes: np.ndarray, middle: np.ndarray, size: int, part: str
) -> np.ndarray:
    """Values at the centres of cells, interpolated at a lattice of the cube: (size, size, size).

    Args:
        values: (a, b, c); beyond them the outermost go on.
        sizes: (3,), of their cells in sides of the cube.
        middle: (3,), where the cube's middle is, in numbers of cells.
        size: points of a side of the lattice.
        part: "support" for the centres of its cells, (i + 1/2) / size; "query" for their corners,
            i / size, which lie as far from the centres as points can.
    """
    line = (np.arange(size) + (0.5 if part == "support" else 0.0)) / size - 0.5
    where = np.stack(np.meshgrid(*(line / s + m for s, m in zip(sizes, middle)), indexing="ij"))
    return ndimage.map_coordinates(values, where, order=1, mode="nearest")


def surrounded(solid: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """The box around a solid's full cells with so many empty ones on every side, and its first
    cell's numbers (3,) in the whole.
    """
    full = np.argwhere(solid)
    low, high = full.min(axis=0), full.max(axis=0) + 1
    box = solid[tuple(slice(a, b) for a, b in zip(low, high))]
    return np.pad(box, margin), low - margin


# --- what ships --------------------------------------------------------------------------------
def _archive() -> dict[str, bytes]:
    return shipped.members("solids.zip")


@cache
def _table() -> dict[str, Any]:
    return json.loads(_archive()["solids.json"])


def cells(name: str) -> np.ndarray:
    """The cells of a shipped model: (96, 96, 96) of bool, true inside.

    Raises:
        DataError: no model of that name.
    """
    if name not in _table()["models"]:
        raise DataError(f"no solid {name!r:.60} among those that ship")
    n = _table()["cells"]
    bits = np.frombuffer(lzma.decompress(_archive()[f"{name}.xz"]), np.uint8)
    return np.unpackbits(bits)[: n**3].reshape((n,) * 3).astype(bool)


def names(kind: str, split: str) -> list[str]:
    """The names of the models of a kind in a split, or in "all"."""
    rows = _table()["models"].items()
    return [n for n, m in rows if m["kind"] == kind and split in ("all", m["split"])]


def credits(kind: str) -> tuple[dict[str, str], ...]:
    """One row per shipped model: name, title, author, licence, source.

    Raises:
        DataError: another kind.
    """
    _check_kind(kind)
    rows = csv.DictReader(io.StringIO(_archive()["ATTRIBUTION.csv"].decode("utf8")))
    those = set(names(kind, "all"))
    return tuple(row for row in rows if row["name"] in those)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise DataError(f"kind = {kind!r:.60}: expected one of {', '.join(KINDS)}")


def stretched(name: str, variant: int) -> tuple[np.ndarray, bool]:
    """How a copy differs from a model: sizes (3,) of its cells in sides of the cube, and whether
    left and right are exchanged. Copy 0 is the model; the longest side is the same in all.
    """
    n, extent = _table()["cells"], _table()["extent"]
    if variant == 0:
        return np.full(3, 1 / n), False
    rng = np.random.default_rng([*name.encode(), variant])
    by, turned = rng.uniform(*STRETCH, 3), bool(rng.integers(2))
    full = np.argwhere(cells(name))
    sides = (np.ptp(full, axis=0) + 1) / n * by
    return by * extent / sides.max() / n, turned


@lru_cache(maxsize=512)
def _values(name: str, variant: int, size: int, reach: float) -> np.ndarray:
    """Both lattices of a copy of a model: (2, size, size, size), rounded, in [0, 1]."""
    sizes, turned = stretched(name, variant)
    solid = cells(name)[::-1] if turned else cells(name)
    box, first = surrounded(solid, int(np.ceil(reach / sizes.min())) + 2)
    values = np.clip(0.5 + signed_distance(box, tuple(sizes)) / (2 * reach), 0, 1)
    middle = (len(solid) - 1) / 2 - first
    both = np.stack([sampled(values, sizes, middle, size, part) for part in PARTS])
    return (np.floor(LEVELS * both + HALF) / LEVELS).astype(np.float32)


def load(
    split: str = "train",
    *,
    size: int = 32,
    gray: bool = True,
    limit: int | None = None,
    kind: str = "chairs",
    part: str = "support",
    variants: int = 0,
    reach: float = REACH,
) -> Dataset:
    """Signed distances d of solids in cubes, as 1/2 + d / (2 reach), cut off at 0 and 1.

    The surface is the level 1/2; inside it values are smaller. The longest side of a model is 0.8
    of the cube's.

    Args:
        split: "train", "validation", "test" or "all", by model as those of `objects`.
        size: points of a side.
        gray: has to be true; a distance is one number.
        limit: at most so many models, spread over the split.
        kind: chairs or lamps.
        part: "support", distances at the centres of size^3 cells; "query", at their corners.
        variants: altered copies of every model to train on: stretched along the axes, some
            mirrored.
        reach: largest distance that is told, in sides of the cube.

    Returns:
        Arrays (count, size, size, size, 1), x first and z upwards.

    Raises:
        DataError: a request that cannot be met.

    Source: Debian's sweethome3d-furniture 1.8-1, sampled by tools/sample_solids.py; `credits` names
    every author. The cut-off is that of Park et al. 2019 (DeepSDF), section 3.
    """
    check_request(split, size)
    _check_kind(kind)
    if part not in PARTS:
        raise DataError(f"part = {part!r:.60}: expected one of {', '.join(PARTS)}")
    if not gray:
        raise DataError("gray = False: a distance is one number, expected gray=True")
    if not 0 < reach <= 1 or variants < 0:
        why = "expected a reach in (0, 1] and a number of copies >= 0"
        raise DataError(f"reach = {reach}, variants = {variants}: {why}")
    found = names(kind, split)
    chosen = [found[i] for i in spread(len(found), limit)]
    copies = {n: variants if _table()["models"][n]["split"] == "train" else 0 for n in chosen}
    all_of = [(n, v) for n in chosen for v in range(copies[n] + 1)]
    which = PARTS.index(part)
    pictures = [_values(n, v, size, float(reach))[which][..., None] for n, v in all_of]
    source = f"distances of Sweet Home 3D {kind}" + (", held-out points" if which else "")
    about = dict(source=source, licence="CC0-1.0 or CC-BY-3.0, by model", split=split)
    return dataset(pictures, [n + (f"~{v}" if v else "") for n, v in all_of], **about)
