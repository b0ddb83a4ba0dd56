"""learnit's ShapeNet as it is unzipped: lists of objects, a folder of pictures and poses for each.

An object is read, laid on white and made smaller before the next one is opened, so that the memory
needed is what is asked for and one picture.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from learnit_utils.forward import cameras
from learnit_utils.signals import objects
from learnit_utils.signals._names import Files
from learnit_utils.signals.base import (
    SPLITS,
    DataError,
    check_request,
    left_out,
    read_json,
    read_layers,
    spread,
)

KINDS = ("chairs", "lamps", "cars")
RADIUS = 2.0  # cameras at distance 4, near 2, far 6
HALF = 25  # views of the support, and of the query
SYNSET = r"\d{8}"  # the folder of a class in ShapeNet, which archives may keep


class _Object(NamedTuple):
    """An object without its pictures."""

    folder: Path
    fov_x: float
    poses: np.ndarray  # (views, 4, 4) float64
    names: tuple[str, ...]  # of its pictures


class _Asked(NamedTuple):
    """What is asked for of every object."""

    part: str
    views: int | None

    def of(self, found: _Object) -> range:
        """The numbers of the views asked for."""
        count = len(found.poses)
        if self.part != "support" and count < 2 * HALF:
            told = f"{count} views of an object, {2 * HALF} are needed"
            raise DataError(f"{found.folder}: {told}")
        which = dict(support=slice(0, HALF), query=slice(-HALF, None), both=slice(None))
        return range(count)[which[self.part]][: self.views]


def read(
    path: str | Path,
    split: str = "train",
    *,
    kind: str = "chairs",
    part: str = "support",
    size: int = 128,
    views: int | None = None,
    limit: int | None = None,
    on_error: str = "raise",
) -> objects.Objects:
    """learnit's ShapeNet from its folder.

    In the folder or in one called KIND lies KIND_splits.json ("chair" for chairs: {"train": [...],
    "test": [...]}), and there or one level below (03001627) a folder per object, with
    transforms.json (camera_angle_x; frames of file_path and transform_matrix) and RGBA pictures.
    Of a file_path the last parts count. Without a list "val", the last tenth of "train" is our
    validation. The first 25 views are the support, the last 25 the query.

    Args:
        path: the folder.
        split: "train", "validation", "test" or "all".
        kind: chairs, lamps or cars.
        part: "support", "query" or "both".
        size: pixels of a side; averaged down.
        views: only the first so many of each; no other picture is opened.
        limit: at most so many objects, spread over the split.
        on_error: "raise" stops at the first object that cannot be used; "skip" leaves it out and
            notes it in provenance["skipped"].

    Raises:
        DataError: a list, folder, picture or matrix that is missing or not what it should be.
    """
    check_request(split, size)
    objects.check(kind, part, views, KINDS)
    if on_error not in ("raise", "skip"):
        raise DataError(f"on_error = {on_error!r:.60}: expected one of raise, skip")
    root = Path(path).expanduser()
    names = _listed(root, kind, split)
    names = [names[i] for i in spread(len(names), limit)]
    places, asked = _places(root, kind), _Asked(part, views)
    store, kept, skipped, one = None, [], {}, None
    for name in names:
        try:
            found = _object(_folder(root, places, name))
            which = asked.of(found)
            one = _alike(found, which, one)
            pictures = _pictures(found, which, size)
        except DataError as e:
            if on_error == "raise":
                raise
            skipped[name] = str(e)
            continue
        if store is None:
            shape = (len(names), len(which), size, size, 3)
            store = np.empty(shape, np.uint8), np.empty((*shape[:2], 4, 4), np.float32)
        _fill(store, len(kept), pictures, found.poses[which.start : which.stop])
        kept.append(name)
    if store is None:
        raise DataError(f"no usable object in split {split!r}: {left_out(root, skipped)}")
    about = dict(source=f"learnit's ShapeNet, {kind}" + objects.said(part, views), split=split)
    about |= dict(licence="ShapeNet's terms", skipped=skipped)
    arrays = (a[: len(kept)] for a in store)
    return objects.gathered(*arrays, one.fov_x, RADIUS, kept, **about)


def _listed(root: Path, kind: str, split: str) -> list[str]:
    """The names of the objects of a split."""
    one = kind[:-1]
    files = [folder / f"{one}_splits.json" for folder in (root, root / kind, root / one)]
    file = next((f for f in files if f.is_file()), files[0])
    table = read_json(file)
    keys = ("train", "test")
    if not isinstance(table, dict) or not all(isinstance(table.get(k), list) for k in keys):
        raise DataError(f"{file}: lists train and test are needed")
    learn, held = table["train"], table.get("val")
    if held is None:
        cut = len(learn) - max(1, len(learn) // 10)
        learn, held = learn[:cut], learn[cut:]
    if not isinstance(held, list):
        raise DataError(f"{file}: val is no list")
    lists = dict(zip(SPLITS, (learn, held, table["test"])))
    names = [str(n) for s in SPLITS if split in ("all", s) for n in lists[s]]
    if not names:
        raise DataError(f"{root}: no {kind} in split {split!r}")
    for name in names:
        if name in ("", ".", "..") or re.search(r"[/\\\0]", name) or len(name) > 255:
            raise DataError(f"{file}: object {name!r:.60} leads out of its folder")
    return names


def _places(root: Path, kind: str) -> list[Path]:
    """The folders in which objects may lie."""
    first = [f for f in (root / kind, root / kind[:-1], root) if f.is_dir()]
    below = (sorted(f.iterdir()) for f in first)
    synsets = [p for several in below for p in several if re.fullmatch(SYNSET, p.name)]
    return first + [p for p in synsets if p.is_dir()]


def _folder(root: Path, places: Iterable[Path], name: str) -> Path:
    """The folder of an object: the first that is not empty."""
    found = [p / name for p in places if (p / name).is_dir()]
    folder = next((f for f in found if (f / "transforms.json").is_file()), None)
    if folder is None:
        where = found[0] if found else root / name
        tried = "" if found else f" (nor in {', '.join(p.name for p in places if p != root)})"
        raise DataError(f"{where / 'transforms.json'}: missing{tried}")
    if not folder.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{folder}: a link that leads out of {root}")
    return folder


def _alike(found: _Object, which: range, one: _Object | None) -> _Object:
    """The first object; DataError unless this one has as many views and the same angle."""
    if one is None:
        return found._replace(poses=found.poses[which.start : which.stop])
    if len(which) != len(one.poses):
        told = f"{len(which)} views, {len(one.poses)} in {one.folder.name}"
        raise DataError(f"{found.folder}: {told}")
    if found.fov_x != one.fov_x:
        told = f"camera_angle_x = {found.fov_x}, {one.fov_x} in {one.folder.name}"
        raise DataError(f"{found.folder}: {told}")
    return one


def _object(folder: Path) -> _Object:
    file = folder / "transforms.json"
    table = read_json(file)
    try:
        fov_x = float(table["camera_angle_x"])
        frames = [(str(f["file_path"]), f["transform_matrix"]) for f in table["frames"]]
        poses = np.array([matrix for _, matrix in frames], np.float64)
        cameras.check_poses(poses, f"{file}: transform_matrix")
    except (KeyError, TypeError, OverflowError):
        raise DataError(f"{file}: camera_angle_x and frames are needed") from None
    except ValueError as e:
        text = str(e) if str(e).startswith(str(file)) else f"{file}: transform_matrix: {e}"
        raise DataError(text) from None
    if not 0 < fov_x < np.pi:
        raise DataError(f"{file}: camera_angle_x = {fov_x}: expected a number in (0, pi)")
    if not frames:
        raise DataError(f"{file}: no frames")
    return _Object(folder, fov_x, poses, tuple(name for name, _ in frames))


def _pictures(found: _Object, which: range, size: int) -> np.ndarray:
    """The pictures asked for, (views, size, size, 3) uint8, one opened after the other."""
    files, side = None, None
    small = np.empty((len(which), size, size, 3), np.uint8)
    for row, i in zip(small, which):
        name = found.names[i]
        file = _plain(found.folder, name)
        if file is None:
            files = files or Files(found.folder, found.names)
            file = files[name]
        layers = read_layers(file, str(file))
        if layers.shape[0] != layers.shape[1]:
            raise DataError(f"{file}: {layers.shape[1]} x {layers.shape[0]} pixels, not square")
        side = side or len(layers)
        if len(layers) != side:
            raise DataError(f"{file}: {len(layers)} pixels a side, {side} in the first picture")
        row[:] = objects.smaller(objects.on_white(layers)[None], size)[0]
    return small


def _plain(folder: Path, name: str) -> Path | None:
    """The file of a name where nothing is to be guessed."""
    file = folder / (name if name.lower().endswith(".png") else name + ".png")
    try:
        safe = ".." not in name and file.resolve().is_relative_to(folder.resolve())
        return file if safe and file.is_file() else None
    except (OSError, ValueError):  # no name of a file: too long, or with a zero in it
        return None


def _fill(store: tuple, k: int, pictures: np.ndarray, poses: np.ndarray) -> None:
    store[0][k], store[1][k] = pictures, poses
