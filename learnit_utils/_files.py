"""Files: written whole or not at all, locked, entered in a manifest; archives that cannot escape.

A manifest is `manifest.json` in a folder: file name -> sha256, bytes and whatever is said of the
file. Weights, results and archives are all written by `enter` and checked by `check`.
"""

import hashlib
import json
import os
import stat
import time
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

try:
    import fcntl
except ModuleNotFoundError:  # not POSIX
    fcntl = None

MANIFEST = "manifest.json"


class FileError(ValueError):
    """A file that is missing, changed or unsafe; the message is one line."""


def sha256(data: bytes | Path) -> str:
    """Hex digest of bytes, or of a file."""
    return hashlib.sha256(data.read_bytes() if isinstance(data, Path) else data).hexdigest()


def content(path: Path) -> str:
    """Hex digest of a file, or of the names and contents of all files below a folder.

    Hidden files and folders do not count; the name of `path` itself does not either.
    """
    if not path.is_dir():
        return _digest(path)
    lines = []
    for folder, below, names in os.walk(path):
        below[:] = [name for name in below if not _hidden(name)]
        for name in names:
            if not _hidden(name):
                file = Path(folder, name)
                lines.append(f"{file.relative_to(path).as_posix()} {_digest(file)}")
    return sha256("\n".join(sorted(lines)).encode("utf8", "surrogateescape"))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "@eaDir"


def _digest(file: Path) -> str:
    try:
        about = file.stat()
        return _digest_of(file, about.st_size, about.st_mtime_ns, about.st_ino)
    except OSError as e:  # gone, a broken link, not to be read
        return type(e).__name__


@cache
def _digest_of(file: Path, *about: int) -> str:
    """Of a file; read once until it changes."""
    del about
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# --- writing ----------------------------------------------------------------------------------
def write(path: Path, data: bytes) -> None:
    """Write a file so that its name always holds the whole old or the whole new content.

    The bytes go to a file beside it, to the disk, and then take the name in one step.
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
        part.unlink(missing_ok=True)
        for left in path.parent.glob(f".{path.name}.*.part"):
            if not _alive(left.suffixes[-2]):
                left.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _alive(suffix: str) -> bool:
    """Whether the process that a leftover file ".NAME.PID.part" is of still runs."""
    try:
        os.kill(int(suffix[1:]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def locked(path: Path, wait: float | None = None):
    """Hold a lock file while the body runs.

    The lock goes with the process, however it ends. Where locks do not exist (not POSIX), nothing
    is held.

    Args:
        path: of the lock file.
        wait: at most so many seconds if another process holds it; None does not wait.

    Raises:
        BlockingIOError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + (wait or 0)
    with open(path, "w") as file:
        while fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise
                time.sleep(0.05)
        yield


# --- manifests --------------------------------------------------------------------------------
def manifest(folder: Path) -> dict[str, dict]:
    """The manifest of a folder; empty if there is none.

    Raises:
        FileError: not a manifest.
    """
    path = folder / MANIFEST
    try:
        entries = json.loads(path.read_text("utf8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        raise FileError(f"{path}: not JSON") from None
    if not isinstance(entries, dict):
        raise FileError(f"{path}: expected an object of file names")
    return entries


def enter(folder: Path, name: str, data: bytes, /, **info: Any) -> None:
    """Write a file into a folder, and its hash, size and `info` into the folder's manifest.

    Several processes may enter files into one folder.
    """
    _change(folder, lambda entries: entries.update({name: described(data, **info)}), {name: data})


def described(data: bytes, /, **info: Any) -> dict[str, Any]:
    """The manifest's entry for a file of these bytes."""
    return dict(sha256=sha256(data), bytes=len(data), **info)


def _change(folder: Path, change: Callable[[dict], None], files: dict[str, bytes]) -> None:
    with locked(folder / ".manifest.lock", wait=60):
        entries = manifest(folder)
        change(entries)
        text = manifest_text(entries)  # before anything is written: info may not be JSON
        for name, data in files.items():
            write(folder / name, data)
        write(folder / MANIFEST, text)


def manifest_text(entries: dict[str, dict]) -> bytes:
    """A manifest as its file: sorted, a line per entry."""
    lines = [
        f"{json.dumps(k)}: {json.dumps(entries[k], ensure_ascii=False)}" for k in sorted(entries)
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def check(path: Path, entry: dict) -> str | None:
    """What is wrong with a file by its manifest's entry, or None."""
    if not path.is_file():
        return "missing"
    if path.stat().st_size != entry["bytes"]:
        return f"{path.stat().st_size} bytes, the manifest says {entry['bytes']}"
    if sha256(path) != entry["sha256"]:
        return "its SHA-256 is not the one in the manifest"
    return None


# --- archives ---------------------------------------------------------------------------------
def unzip(archive: zipfile.ZipFile, max_bytes: int = 2**30, max_ratio: int = 100) -> dict:
    """Read a zip into memory as {name: bytes}; nothing is written to disk.

    Raises:
        FileError: a member that is absolute, climbs out with "..", is a link or a device, or
            expands more than `max_ratio` times, and archives of more than `max_bytes` in all.
    """
    members, total = {}, 0
    for info in archive.infolist():
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        mode = info.external_attr >> 16
        if info.filename.startswith(("/", "\\")) or ".." in parts or ":" in info.filename:
            raise FileError(f"{info.filename!r}: a path that leaves the archive")
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise FileError(f"{info.filename!r}: a link or a device")
        if info.file_size > max_ratio * max(info.compress_size, 1024):
            raise FileError(f"{info.filename!r}: expands more than {max_ratio} times")
        total += info.file_size
        if total > max_bytes:
            raise FileError(f"the archive expands to more than {max_bytes} bytes")
        if not info.is_dir():
            members[info.filename] = archive.read(info)
    return members
