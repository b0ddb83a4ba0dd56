"""COLMAP's models on disk: where they lie, which is the largest, whether a file is whole."""

import mmap
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learnit_utils.signals.base import DataError, hidden, picture_files

# Below a folder: undistorted models first, then those that the mapper left.
UNDISTORTED = ("dense/sparse", "dense/*/sparse", "dense/sparse/*")
MAPPED = ("sparse", "sparse/*", "colmap/sparse/*", "colmap_sparse/*", "colmap_text", "*", ".")
SMALLER = ("images", "images_2", "images_4", "images_8")
PARTS = ("cameras", "images", "points3D")


class Found(NamedTuple):
    """A model, and the folder of its photographs."""

    model: Path
    images: Path
    others: dict[str, int]  # smaller models beside it: how many photographs each has


def pycolmap() -> Any:
    """The library.

    Raises:
        DataError: it is not installed.
    """
    try:
        import pycolmap
    except ImportError:
        raise DataError("pycolmap is missing: pip install 'learnit-utils[sfm]'") from None
    return pycolmap


# --- which model -------------------------------------------------------------------------------
def find(root: Path, images: str | None = None) -> Found:
    """The largest undistorted model in a folder that has its photographs, else the largest one.

    Args:
        root: the folder of a place, of a model (dense/0), or with COLMAP's files themselves.
        images: the folder of photographs in it; found unless given.

    Raises:
        DataError: no model, or no such folder.
    """
    tiers = [[m for place in tier for m in _models(root, place)] for tier in (UNDISTORTED, MAPPED)]
    for models in tiers:
        found = {m: count(m) for m in models}
        for model in sorted(found, key=lambda m: -found[m]):
            pictures = _images(root, model, images, models is tiers[0])
            if pictures is not None:
                others = {_below(m, root): n for m, n in found.items() if m != model}
                return Found(model, pictures, others)
    if not any(tiers):
        where = ", ".join(p for p in (*UNDISTORTED, *MAPPED) if p != "*")
        raise DataError(f"{root}: no reconstruction there (images.bin or images.txt in {where})")
    if images is None:
        raise DataError(f"{root}: no photographs there ({', '.join(SMALLER)} beside the model)")
    raise DataError(f"{root}: no folder {images!r:.60} beside the model")


def _models(root: Path, place: str) -> list[Path]:
    folders = sorted(root.glob(place)) if place != "." else [root]
    return [f for f in folders if not hidden(f, root) and _file(f, "images") is not None]


def _file(folder: Path, part: str) -> Path | None:
    """A part of a model, binary (COLMAP's preference) or text."""
    files = (folder / f"{part}{end}" for end in (".bin", ".txt"))
    return next((f for f in files if f.is_file()), None)


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def count(model: Path) -> int:
    """How many photographs a model has, from the head of its file."""
    file = _file(model, "images")
    if file.suffix == ".bin":
        with open(file, "rb") as f:
            head = f.read(8)
        return struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    lines = file.read_text("utf8", "replace").splitlines()
    return sum(not line.startswith("#") for line in lines) // 2


def _images(root: Path, model: Path, images: str | None, undistorted: bool) -> Path | None:
    """The folder of a model's photographs: beside its folder `sparse`; of a mapped one, in root.

    Undistorted models never take the photographs that were put in.
    """
    sparse = next((p for p in (model, model.parent) if p.name == "sparse"), None)
    near = [sparse.parent if sparse else model] + ([] if undistorted else [root])
    for name in SMALLER if images is None else (images,):
        for place in dict.fromkeys(near):
            if (place / name).is_dir() and picture_files(place / name):
                return place / name
    return root if images is None and not undistorted and picture_files(root) else None


# --- whether a file is whole -------------------------------------------------------------------
def check(model: Path) -> None:
    """Compare the sizes of binary files with what they say they hold, before anything is read.

    COLMAP reads on over the end of a file that was cut off, and takes what it finds there for
    cameras and counts.

    Raises:
        DataError: a part that is missing, or a file that is longer or shorter than its entries.
    """
    ends = {_file(model, part).suffix for part in PARTS if _file(model, part) is not None}
    for part in PARTS:
        if _file(model, part) is None:
            raise DataError(f"{model / part}{'.bin' if '.bin' in ends else '.txt'}: missing")
    entries = dict(cameras=_camera, images=_image, points3D=_point, rigs=_rig, frames=_frame)
    for part, entry in entries.items() if ends == {".bin"} else ():
        if (model / f"{part}.bin").is_file():  # COLMAP before 3.12 has no rigs and frames
            _walk(model / f"{part}.bin", entry)


def _walk(file: Path, entry: Callable[[Any, int], int]) -> None:
    """Go through the entries of a file: (data, where) -> where the next begins."""
    size = file.stat().st_size
    if size < 8:
        raise DataError(f"{file}: {size} bytes, cut off")
    with open(file, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        (number,), at = struct.unpack_from("<Q", data), 8
        for i in range(number):
            try:
                at = entry(data, at)
            except (struct.error, KeyError):
                at = size + 1
            if at > size:
                raise DataError(f"{file}: cut off or broken: entry {i + 1} of {number:.4g}")
    if at != size:
        raise DataError(f"{file}: {size} bytes, its {number} entries have {at}")


def _camera(data, at: int) -> int:
    return at + 24 + 8 * _parameters()[struct.unpack_from("<i", data, at + 4)[0]]


@cache
def _parameters() -> dict[int, int]:
    """How many parameters every camera model has."""
    colmap, found = pycolmap(), {}
    for model in colmap.CameraModelId.__members__.values():
        if int(model) >= 0:
            camera = colmap.Camera.create_from_model_id(0, model, 1.0, 1, 1)
            found[int(model)] = len(camera.params)
    return found


def _image(data, at: int) -> int:
    end = data.find(b"\0", at + 64)
    if end < 0:
        raise KeyError("no end of a name")
    return end + 9 + 24 * struct.unpack_from("<Q", data, end + 1)[0]


def _point(data, at: int) -> int:
    return at + 51 + 8 * struct.unpack_from("<Q", data, at + 43)[0]


def _rig(data, at: int) -> int:
    sensors, at = struct.unpack_from("<I", data, at + 4)[0], at + 8
    for k in range(sensors):  # the first without a pose, which is the rig's
        at += 8 if k == 0 else 9 + 56 * struct.unpack_from("<B", data, at + 8)[0]
    return at


def _frame(data, at: int) -> int:
    return at + 68 + 16 * struct.unpack_from("<I", data, at + 64)[0]


def read(model: Path) -> Any:
    """The reconstruction of a folder.

    Raises:
        DataError: files that are missing, cut off, or not what they should be.
    """
    colmap = pycolmap()
    check(model)
    try:
        return colmap.Reconstruction(str(model))
    except Exception as e:  # of many kinds: KeyError, IndexError, MemoryError, RuntimeError
        why = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise DataError(f"{model}: not a sound model ({type(e).__name__}: {why:.160})") from None


def undistorted(picture: np.ndarray, told: dict[str, Any], name: str) -> tuple[np.ndarray, tuple]:
    """A picture as a pinhole camera would have taken it, without blank pixels, and its lens.

    Args:
        picture: (height, width, 3) uint8.
        told: COLMAP's camera of it: model, width, height and params.
        name: what errors call it.

    Returns:
        (height, width, 3) uint8 of another size, (fx, fy, cx, cy).

    Raises:
        DataError: a camera that COLMAP cannot undistort.
    """
    colmap = pycolmap()
    with _told(name):
        camera = colmap.Camera(told)
        camera.rescale(picture.shape[1], picture.shape[0])
        bitmap = colmap.Bitmap.from_array(np.ascontiguousarray(picture))
        plain, lens = colmap.undistort_image(colmap.UndistortCameraOptions(), bitmap, camera)
    return plain.to_array(), tuple(np.asarray(lens.params, np.float64))


def plain_camera(told: dict[str, Any], name: str) -> tuple[tuple[int, int], tuple]:
    """Width and height, and lens, that `undistorted` will give.

    Raises:
        DataError: as `undistorted`.
    """
    colmap = pycolmap()
    with _told(name):
        lens = colmap.undistort_camera(colmap.UndistortCameraOptions(), colmap.Camera(told))
    return (lens.width, lens.height), tuple(np.asarray(lens.params, np.float64))


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as e:  # of many kinds
        why = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise DataError(f"{name}: not undistorted ({why:.100})") from None


def exists(root: Path) -> bool:
    """Whether there is a model in a folder."""
    return any(_models(root, place) for place in (*UNDISTORTED, *MAPPED))
