"""Photographs: 205 that ship with the book, a folder of your own, or Imagenette from a folder."""

import csv
import io
import re
import zipfile
from functools import cache
from pathlib import Path

from learnit_utils import assets
from learnit_utils.signals.base import (
    SUFFIXES,
    DataError,
    Dataset,
    check_request,
    dataset,
    files_dataset,
    read_picture,
    split_of,
    square,
)

ARCHIVE = "natural_photos_178.zip"


@cache
def _archive() -> dict[str, bytes]:
    return assets.unzip(zipfile.ZipFile(io.BytesIO(assets.read(ARCHIVE))))


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


def load(split: str = "train", *, size: int = 178, gray: bool = False) -> Dataset:
    """The shipped photographs: 178 x 178 RGB, public domain or CC0.

    The split goes by the photograph's source, so the three that are in the collection twice
    cannot stand on both sides.

    Args:
        split: "train", "validation", "test" or "all".
        size: pixels of a side; resampled (bicubic, antialiased) unless 178.
        gray: one channel instead of three.

    Source: Debian's gcompris-qt-data 3.1-2; `credits()` names every author.
    """
    check_request(split, size)
    rows = {n: r for n, r in _named().items() if split in ("all", split_of(r["source"]))}
    files = _archive()
    pictures = [
        square(read_picture(io.BytesIO(files[row["file"]]), row["file"]), size, gray)
        for row in rows.values()
    ]
    return dataset(
        pictures,
        rows,
        source="205 photographs of gcompris-qt-data 3.1-2",
        licence="public domain or CC0-1.0, by photograph",
        split=split,
    )


def _files_under(folder: str | Path) -> list[Path]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: not a folder")
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise DataError(f"{root}: no picture in it ({', '.join(SUFFIXES)})")
    return found


def _from_files(files, root, size, gray, on_error, where) -> Dataset:
    """Files below root as a Dataset, named by their path; what was left out is noted."""

    def below_root(path):
        return path.relative_to(root).as_posix()

    return files_dataset(root, files, size, gray, on_error, below_root, **where)


def folder(
    path: str | Path,
    split: str = "all",
    *,
    size: int = 178,
    gray: bool = False,
    on_error: str = "raise",
) -> Dataset:
    """Pictures of your own: every picture file below a folder, cropped square.

    Args:
        path: the folder; sub-folders are searched too.
        split: "all", or 70 / 15 / 15 by a hash of the file's content, so copies stay together.
        size, gray: as in `load`.
        on_error: "raise" stops at the first file that cannot be used; "skip" leaves it out and
            notes it in provenance["skipped"].
    """
    check_request(split, size)
    root = Path(path).expanduser()
    files = _files_under(root)
    if split != "all":
        files = [p for p in files if split_of(assets.sha256(p)) == split]
    where = dict(source=f"folder {root.name}", licence="the owner's", split=split)
    return _from_files(files, root, size, gray, on_error, where)


def imagenette(
    path: str | Path,
    split: str = "train",
    *,
    size: int = 178,
    gray: bool = False,
    limit: int | None = None,
    on_error: str = "raise",
) -> Dataset:
    """Imagenette from its unpacked folder (imagenette2-160 or -320), class names kept in names.

    Args:
        path: the folder that holds `train` and `val`.
        split: its `val` is our "test"; an eighth of its `train`, by hash of the file name, is
            our "validation".
        limit: read no more than this many files, in an order that mixes the classes.
        size, gray, on_error: as in `folder`.

    Source: github fastai/imagenette (MD5 of imagenette2-320.tgz 3df6f0d01a2c9592104656642f5e78a3).
    """
    check_request(split, size)
    root = Path(path).expanduser()
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise DataError(f"{root}: no folder {part!r} in it, so this is not Imagenette unpacked")
    files = _files_under(root / ("val" if split == "test" else "train"))
    if split == "all":
        files += _files_under(root / "val")
    if split in ("train", "validation"):
        held = [assets.sha256(p.name.encode())[0] in "01" for p in files]
        held_out = split == "validation"
        files = [p for p, h in zip(files, held) if h == held_out]
    files = sorted(files, key=lambda p: assets.sha256(p.name.encode()))[:limit]
    where = dict(source=f"Imagenette ({root.name})", split=split)
    where["licence"] = "research use; the photographs belong to their authors"
    return _from_files(files, root, size, gray, on_error, where)
