"""Files that ship with the package: checked by SHA-256 before anything opens them."""

import io
import zipfile
from functools import cache
from pathlib import Path

from learnit_utils import _files
from learnit_utils._files import FileError

ROOT = Path(__file__).parent
FOLDERS = ("archives", "weights", "weights/snapshots", "weights/shared", "results")


def manifest(folder: str) -> dict[str, dict]:
    """The manifest of a shipped folder: file name -> sha256, bytes and provenance."""
    return _files.manifest(ROOT / folder)


@cache
def read(name: str, folder: str = "archives") -> bytes:
    """The bytes of a shipped file.

    Raises:
        FileError: a file that no manifest names, or whose size or SHA-256 disagrees with it.
    """
    entry = manifest(folder).get(name)
    if entry is None:
        raise FileError(f"{name}: not in {folder}/{_files.MANIFEST}")
    problem = _files.check(ROOT / folder / name, entry)
    if problem:
        raise FileError(f"{name}: {problem}")
    return (ROOT / folder / name).read_bytes()


@cache
def members(name: str) -> dict[str, bytes]:
    """The files in a shipped zip archive: name -> bytes. Errors as in `read` and `_files.unzip`."""
    return _files.unzip(zipfile.ZipFile(io.BytesIO(read(name))))


def verify() -> list[tuple[str, str | None]]:
    """(folder/file, problem or None) for every shipped file, and for files no manifest names."""
    rows = []
    for folder in FOLDERS:
        entries = manifest(folder)
        rows += [(f"{folder}/{n}", _files.check(ROOT / folder / n, e)) for n, e in entries.items()]
        for path in sorted((ROOT / folder).glob("[!.]*")):
            if path.is_file() and path.name not in {_files.MANIFEST, *entries}:
                rows.append((f"{folder}/{path.name}", "not in the manifest"))
    return rows
