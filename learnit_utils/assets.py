"""Files that ship with the package: checked by SHA-256 before anything opens them."""

import hashlib
import io
import json
import os
import stat
import zipfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath

try:
    import fcntl
except ModuleNotFoundError:  # not POSIX
    fcntl = None

FOLDERS = ("assets", "weights", "weights/path", "measurements")
PACKAGE = Path(__file__).parent


class AssetError(ValueError):
    """A file that is missing, changed or unsafe; the message is one line."""


def sha256(data: bytes | Path) -> str:
    """Hex digest of bytes, or of a file."""
    return hashlib.sha256(data.read_bytes() if isinstance(data, Path) else data).hexdigest()


def manifest(folder: str) -> dict[str, dict]:
    """The manifest of a folder of the package: file name -> sha256, bytes and provenance."""
    path = PACKAGE / folder / "manifest.json"
    return json.loads(path.read_text("utf8")) if path.exists() else {}


@cache
def read(name: str, folder: str = "assets") -> bytes:
    """The bytes of a shipped file, refused unless size and SHA-256 agree with the manifest."""
    entry = manifest(folder).get(name)
    if entry is None:
        raise AssetError(f"{name}: not in {folder}/manifest.json")
    problem = check(PACKAGE / folder / name, entry)
    if problem:
        raise AssetError(f"{name}: {problem}")
    return (PACKAGE / folder / name).read_bytes()


@cache
def members(name: str) -> dict[str, bytes]:
    """The files in a shipped zip archive: name -> bytes. Errors as in `read` and `unzip`."""
    return unzip(zipfile.ZipFile(io.BytesIO(read(name))))


def check(path: Path, entry: dict) -> str | None:
    """What is wrong with a shipped file, or None."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{path.stat().st_size} bytes, the manifest says {entry['bytes']}"
    if sha256(path) != entry["sha256"]:
        return "its SHA-256 is not the one in the manifest"
    return None


def enter(folder: Path, name: str, data: bytes, **told) -> None:
    """Write a file into a folder, and its hash, size and what is told of it into the manifest."""
    table = folder / "manifest.json"
    entries = json.loads(table.read_text("utf8")) if table.exists() else {}
    entries[name] = dict(sha256=sha256(data), bytes=len(data), **told)
    text = text_of(entries)
    write(folder / name, data)
    write(table, text)


def text_of(entries: dict[str, dict]) -> bytes:
    """A manifest as its file: sorted, a line per entry."""
    lines = [
        f"{json.dumps(k)}: {json.dumps(entries[k], ensure_ascii=False)}" for k in sorted(entries)
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def verify() -> list[tuple[str, str | None]]:
    """(folder/file, problem or None) for every shipped file, and for files no manifest names."""
    rows = []
    for folder in FOLDERS:
        entries = manifest(folder)
        rows += [(f"{folder}/{n}", check(PACKAGE / folder / n, e)) for n, e in entries.items()]
        for path in sorted((PACKAGE / folder).glob("*")):
            if path.is_file() and path.name not in {"manifest.json", *entries}:
                rows.append((f"{folder}/{path.name}", "not in the manifest"))
    return rows


def unzip(archive: zipfile.ZipFile, max_bytes: int = 2**30, max_ratio: int = 100) -> dict:
    """Read a zip into memory as {name: bytes}; nothing is written to disk.

    Raises:
        AssetError: a member that is absolute, climbs out with "..", is a link or a device, or
            expands more than `max_ratio` times, and archives of more than `max_bytes` in all.
    """
    members, total = {}, 0
    for info in archive.infolist():
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        mode = info.external_attr >> 16
        if info.filename.startswith(("/", "\\")) or ".." in parts or ":" in info.filename:
            raise AssetError(f"{info.filename!r}: a path that leaves the archive")
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise AssetError(f"{info.filename!r}: a link or a device")
        if info.file_size > max_ratio * max(info.compress_size, 1024):
            raise AssetError(f"{info.filename!r}: expands more than {max_ratio} times")
        total += info.file_size
        if total > max_bytes:
            raise AssetError(f"the archive expands to more than {max_bytes} bytes")
        if not info.is_dir():
            members[info.filename] = archive.read(info)
    return members


@contextmanager
def locked(path: Path):
    """Hold a lock file while the body runs; BlockingIOError if another process holds it.

    The lock goes with the process, however it ends. Where locks do not exist (not POSIX), nothing
    is held.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def write(path: Path, data: bytes) -> None:
    """Write a file so that its name always holds the whole old or the whole new content.

    The bytes go to a file beside it, to the disk, and then take the name in one step. One process
    at a time may write a file; `locked` sees to that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        for left in path.parent.glob(f".{path.name}.*.part"):  # ours, or of a run that was killed
            left.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
