"""Photographs: 205 that ship with the book, whole or in crops."""

import csv
import io
import re
import zlib
from functools import cache

import numpy as np

from learnit_utils import shipped
from learnit_utils.signals import local
from learnit_utils.signals.base import (
    DataError,
    Dataset,
    check_request,
    dataset,
    read_picture,
    split_of,
    spread,
)
from learnit_utils.signals.transforms import square

ARCHIVE = "natural_photos_178.zip"


def _archive() -> dict[str, bytes]:
    return shipped.members(ARCHIVE)


@cache
def credits() -> tuple[dict[str, str], ...]:
    """One row per shipped photograph: file, licence, author, source."""
    table = _archive()["ATTRIBUTION.csv"].decode("utf8")
    return tuple(csv.DictReader(io.StringIO(table)))


def _short(file: str) -> str:
    """The name of a shipped photograph without number and suffix, as far as it is unique."""
    return re.sub(r"^\d+_|\.webp$", "", file)


@cache
def _named() -> dict[str, dict[str, str]]:
    """Name -> row. A name that stands twice carries its number: 099_colosseum."""
    short = [_short(row["file"]) for row in credits()]
    unique = [s if short.count(s) == 1 else row["file"][:-5] for s, row in zip(short, credits())]
    return dict(zip(unique, credits()))


def load(
    split: str = "train",
    *,
    size: int = 178,
    gray: bool = False,
    limit: int | None = None,
    crops: int = 0,
) -> Dataset:
    """The shipped photographs: 178 x 178 RGB, public domain or CC0.

    The split goes by the photograph's source, so the three that are in the collection twice
    cannot stand on both sides, nor can crops of one photograph.

    Args:
        split: "train", "validation", "test" or "all".
        size: pixels of a side; resampled (bicubic, antialiased) unless 178.
        gray: one channel instead of three.
        limit: so many photographs, spread over the split.
        crops: 0 for whole photographs; otherwise so many random squares of each, of 60 to 100 % of
            its side, the same ones every time and named NAME#0, NAME#1, ...

    Source: Debian's gcompris-qt-data 3.1-2; `credits()` names every author.
    """
    check_request(split, size)
    if crops < 0:
        raise DataError(f"crops = {crops}: 0 or more")
    rows = {n: r for n, r in _named().items() if split in ("all", split_of(r["source"]))}
    chosen = [list(rows)[i] for i in spread(len(rows), limit)]
    pictures, names = [], []
    for name in chosen:
        file = rows[name]["file"]
        whole = read_picture(io.BytesIO(_archive()[file]), file)
        parts = {name: whole} if crops == 0 else _crops(name, whole, crops)
        pictures += [square(part, size, gray) for part in parts.values()]
        names += parts
    return dataset(
        pictures,
        names,
        source="205 photographs of gcompris-qt-data 3.1-2"
        + (f", {crops} crops each" if crops else ""),
        licence="public domain or CC0-1.0, by photograph",
        split=split,
    )


def _crops(name, picture, count):
    """{NAME#i: (side, side, 3)}: random squares, each from the name and its number alone."""
    parts, (high, wide) = {}, picture.shape[:2]
    for i in range(count):
        rng = np.random.default_rng([zlib.crc32(name.encode()), i])
        side = int(rng.integers(round(0.6 * min(high, wide)), min(high, wide) + 1))
        top, left = rng.integers(high - side + 1), rng.integers(wide - side + 1)
        parts[f"{name}#{i}"] = picture[top : top + side, left : left + side]
    return parts


from_folder = local.imagenette
