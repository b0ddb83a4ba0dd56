"""Files: written whole, entered and checked; archives that cannot escape; what ships."""

import io
import os
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from learnit_utils import _files, shipped
from learnit_utils._files import FileError
from learnit_utils.signals import photos

ENTERS = """
import sys
from pathlib import Path
from learnit_utils import _files
for i in range(60):
    _files.enter(Path(sys.argv[1]), f"{sys.argv[2]}{i}", sys.argv[2].encode() * i, number=i)
"""


def test_processes_that_enter_files_into_one_folder_lose_none(tmp_path):
    words = [[sys.executable, "-c", ENTERS, str(tmp_path), name] for name in "ab"]
    both = [subprocess.Popen(w, stderr=subprocess.PIPE) for w in words]
    told = [p.communicate(timeout=120)[1] for p in both]
    assert [p.returncode for p in both] == [0, 0], told
    entries = _files.manifest(tmp_path)
    assert sorted(entries) == sorted(f"{name}{i}" for name in "ab" for i in range(60))
    assert all(_files.check(tmp_path / name, entry) is None for name, entry in entries.items())


# --- writing ----------------------------------------------------------------------------------
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "sub" / "a.bin"
    _files.write(path, b"old")

    def broken(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="no space"):
        _files.write(path, b"new and longer")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    _files.write(path, b"new")
    assert path.read_bytes() == b"new"


def test_what_a_dead_process_left_is_cleared(tmp_path):
    left, alive = (tmp_path / f".a.bin.{pid}.part" for pid in (2**22 + 1, os.getppid()))
    left.touch()
    alive.touch()
    _files.write(tmp_path / "a.bin", b"x")
    assert not left.exists()
    assert alive.exists()


def test_a_lock_is_held_by_one(tmp_path):
    with _files.locked(tmp_path / "lock"):
        with pytest.raises(BlockingIOError), _files.locked(tmp_path / "lock"):
            pass
        with pytest.raises(BlockingIOError), _files.locked(tmp_path / "lock", wait=0.1):
            pass
    with _files.locked(tmp_path / "lock"):
        pass


# --- manifests --------------------------------------------------------------------------------
def test_an_entered_file_is_checked_by_its_entry(tmp_path):
    assert _files.manifest(tmp_path) == {}
    _files.enter(tmp_path, "b.bin", b"second", licence="none")
    _files.enter(tmp_path, "a.bin", b"first")
    entries = _files.manifest(tmp_path)
    assert list(entries) == ["a.bin", "b.bin"]
    assert entries["b.bin"] == dict(
        sha256=_files.sha256(b"second"), bytes=len(b"second"), licence="none"
    )
    path = tmp_path / "b.bin"
    assert _files.sha256(path) == _files.sha256(b"second")
    assert _files.check(path, entries["b.bin"]) is None
    path.write_bytes(b"secone")
    assert "SHA-256" in _files.check(path, entries["b.bin"])
    path.write_bytes(b"seco")
    assert _files.check(path, entries["b.bin"]) == "4 bytes, the manifest says 6"
    path.unlink()
    assert _files.check(path, entries["b.bin"]) == "missing"


@pytest.mark.parametrize(
    ("text", "told"), [("{", "not JSON"), ("[" * 10**5, "not JSON"), ("[1]", "expected an object")]
)
def test_a_broken_manifest_is_named(tmp_path, text, told):
    (tmp_path / _files.MANIFEST).write_text(text)
    with pytest.raises(FileError, match=told) as error:
        _files.manifest(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(FileError, match=told):
        _files.enter(tmp_path, "a.bin", b"first")
    assert not (tmp_path / "a.bin").exists()


# --- archives ---------------------------------------------------------------------------------
def archive(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data, mode in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = mode << 16
            z.writestr(info, data)
    return zipfile.ZipFile(buffer)


@pytest.mark.parametrize(
    ("member", "told"),
    [
        (("../evil", b"x", 0), "leaves the archive"),
        (("a/../../evil", b"x", 0), "leaves the archive"),
        (("/etc/evil", b"x", 0), "leaves the archive"),
        (("..\\evil", b"x", 0), "leaves the archive"),
        (("C:\\evil", b"x", 0), "leaves the archive"),
        (("link", b"/etc/passwd", stat.S_IFLNK | 0o777), "a link or a device"),
        (("device", b"", stat.S_IFCHR | 0o666), "a link or a device"),
        (("bomb", b"\0" * 10_000_000, 0), "expands more than"),
    ],
)
def test_unsafe_archives_are_refused(member, told):
    with pytest.raises(FileError, match=told):
        _files.unzip(archive(("ok.txt", b"fine", 0), member))


def test_an_archive_that_is_too_large_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(FileError, match="more than 1000 bytes"):
        _files.unzip(archive(("a", rng.bytes(600), 0), ("b", rng.bytes(600), 0)), max_bytes=1000)


def test_a_plain_archive_is_read():
    assert _files.unzip(archive(("a/b.txt", b"fine", 0))) == {"a/b.txt": b"fine"}


# --- shipped files ----------------------------------------------------------------------------
def test_every_shipped_file_is_as_shipped():
    rows = shipped.verify()
    assert {name.rpartition("/")[0] for name, _ in rows} == set(shipped.FOLDERS)
    assert [row for row in rows if row[1] is not None] == []


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "stranger"])
def test_a_changed_file_is_refused(tmp_path, monkeypatch, harm):
    folder, name = tmp_path / "archives", photos.ARCHIVE
    entry = shipped.manifest("archives")[name]
    _files.write(folder / name, (shipped.ROOT / "archives" / name).read_bytes())
    _files.write(folder / _files.MANIFEST, _files.manifest_text({name: entry}))
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    assert shipped.verify() == [(f"archives/{name}", None)]
    assert shipped.read.__wrapped__(name) == (folder / name).read_bytes()
    target = folder / name
    data = bytearray(target.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        target.write_bytes(data)
    elif harm == "cut":
        target.write_bytes(data[:-1])
    elif harm == "remove":
        target.unlink()
    else:
        (folder / "extra.bin").write_bytes(b"?")
    problems = {n: p for n, p in shipped.verify() if p}
    if harm == "stranger":
        assert problems == {"archives/extra.bin": "not in the manifest"}
    else:
        assert list(problems) == [f"archives/{name}"]
        with pytest.raises(FileError, match=name):
            shipped.read.__wrapped__(name)


def test_a_file_that_nobody_shipped_is_named():
    with pytest.raises(FileError, match=r"nothing\.zip: not in archives/manifest\.json"):
        shipped.read("nothing.zip")
