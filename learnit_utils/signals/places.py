"""What readers of photographs of a place share: splits, sizes, what is left out, rays' bounds."""

import csv
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from learnit_utils.forward import cameras
from learnit_utils.forward.cameras import View
from learnit_utils.signals.base import DataError, left_out, picture_size, spread

SCALE = 0.05  # of learnit's poses
FLIP = np.diag([1.0, -1.0, -1.0])  # from x right, y down, z ahead to the axes of `cameras`
FEW = 50  # photographs: with fewer, a folder is split by parts
LARGE = 1e9  # no focal length, position or bound is
FAR_OFF = 1e4  # positions of float32 are exact to a thousandth of what is seen within so many times
LOOKED_AT = 25  # photographs whose sizes tell by how much a folder of them is smaller


class Photographs(NamedTuple):
    """Photographs of one place; with `others`, so many of each light, along a second axis."""

    views: View  # leaves (count, ...)
    names: tuple[str, ...]
    provenance: dict[str, Any]  # source, licence, split, count, data_sha256; skipped: {name: why}

    def view(self, i) -> View:
        """Photograph i (a number, or a pair of them)."""
        return View(*(leaf[i] for leaf in self.views))

    def picture(self, i) -> np.ndarray:
        """Photograph i as (height, width, 3) uint8."""
        high, wide = self.views.size[i]
        return self.views.pixels[i][: high * wide].reshape(high, wide, 3)


def gathered(parts: Sequence[tuple], names: Sequence[str], **provenance: Any) -> Photographs:
    """Photographs from (picture, intrinsics, pose, bounds) each."""
    pictures, intrinsics, poses, bounds = zip(*parts)
    most = max(u.shape[0] * u.shape[1] for u in pictures)
    pixels = np.zeros((len(parts), most, 3), np.uint8)
    for row, u in zip(pixels, pictures):
        row[: u.shape[0] * u.shape[1]] = u.reshape(-1, 3)
    views = View(
        pixels,
        np.array([u.shape[:2] for u in pictures], np.int32),
        np.array(intrinsics, np.float32),
        np.array(poses, np.float32),
        np.array(bounds, np.float32),
    )
    digest = hashlib.sha256()
    for a in views:
        digest.update(np.ascontiguousarray(a).data)
    provenance |= dict(count=len(names), data_sha256=digest.hexdigest())
    return Photographs(views, tuple(names), provenance)


# --- which photographs -------------------------------------------------------------------------
def of_split(names: Sequence[str], split: str, lists: dict[str, str] | None) -> list[str]:
    """Those of a split: by NeRF-W's list, by learnit's rule, or by parts if there are few.

    learnit's: the first 20 by name are for the test, the next 5 for validation. Of fewer than
    `FEW` photographs a fifth and a tenth are, at least one each.
    """
    if split == "all":
        return list(names)
    if lists is not None:
        return [n for n in names if lists.get(n, lists.get(Path(n).name)) == split]
    few = len(names) < FEW
    test, held = (max(1, len(names) // k) for k in (5, 10)) if few else (20, 5)
    start, end = dict(test=(0, test), validation=(test, test + held), train=(test + held, None))[
        split
    ]
    return list(names)[start:end]


def lists(path: Path) -> dict[str, str] | None:
    """Photograph -> split, from NeRF-W's table of a place (.tsv) if the folder has one."""
    files = sorted(p for p in path.glob("*.tsv") if not p.name.startswith("."))
    if not files:
        return None
    if len(files) > 1:
        raise DataError(f"{path}: several tables, {files[0].name} and {files[1].name}")
    try:
        with open(files[0], newline="", encoding="utf8") as f:
            rows = list(csv.DictReader(f, delimiter="\t"))
    except (OSError, ValueError, csv.Error) as e:
        raise DataError(f"{files[0]}: not a table ({str(e).splitlines()[0]:.60})") from None
    if not rows or not {"filename", "split"} <= set(rows[0]):
        raise DataError(f"{files[0]}: columns filename and split are needed")
    named = {r["filename"]: r["split"] for r in rows if r.get("id", "x") not in ("", None)}
    val = [n for n, s in named.items() if s == "train"][-5:]  # it has none
    return named | dict.fromkeys(val, "validation")


class Asked(NamedTuple):
    """What is asked for of a folder."""

    split: str
    limit: int | None = None
    on_error: str = "raise"


def collected(
    root: Path,
    names: Sequence[str],
    asked: Asked,
    look: Callable[[str], Any],
    read: Callable[[str, Any], tuple],
    table: dict[str, str] | None = None,
    **about: Any,
) -> Photographs:
    """The photographs of a split, read one after the other.

    With on_error = "skip" what cannot be used is left out and noted in provenance["skipped"]. What
    is seen at first sight, or of few photographs all, is left out before the split is made, so
    that no side is empty.

    Args:
        root: the folder, named in errors.
        names: of all photographs, in order.
        asked: split, limit, and "raise" or "skip".
        look: (name) -> what is known of it at first sight; DataError if it cannot be used.
        read: (name, that) -> (picture, intrinsics, pose, bounds), for `gathered`.
        table: of splits; see `lists`.
        about: source, licence and more for the provenance.

    Raises:
        DataError: no photograph of the split that can be used; with "raise", one that cannot.
    """
    if asked.on_error not in ("raise", "skip"):
        raise DataError(f"on_error = {asked.on_error!r:.60}: expected one of raise, skip")
    skipped: dict[str, str] = {}

    def tried(f, name, *more):
        try:
            return f(name, *more)
        except DataError as e:
            if asked.on_error == "raise":
                raise
            skipped[name] = str(e)

    if asked.on_error == "skip":
        known = {n: seen for n in names if (seen := tried(look, n)) is not None}
        if len(names) < FEW:
            names = [n for n in known if tried(read, n, known[n]) is not None]
        names = [n for n in names if n in known]
    chosen = of_split(names, asked.split, table)
    if not chosen:
        why = f"; {left_out(root, skipped)}" if skipped else ""
        raise DataError(
            f"{root}: no photographs in split {asked.split!r} ({len(names)} in all){why}"
        )
    chosen = [chosen[i] for i in spread(len(chosen), asked.limit)]
    if asked.on_error == "raise":
        known = {n: look(n) for n in chosen}
    parts = {n: part for n in chosen if (part := tried(read, n, known[n])) is not None}
    if not parts:
        raise DataError(f"no usable photograph in split {asked.split!r}: {left_out(root, skipped)}")
    about |= dict(split=asked.split, skipped=skipped)
    return gathered(list(parts.values()), list(parts), **about)


# --- their sizes and lenses --------------------------------------------------------------------
def smaller(picture: np.ndarray, intrinsics: tuple, most: int) -> tuple[np.ndarray, tuple]:
    """A picture (box-resampled so that its longer side is at most `most`) and its intrinsics."""
    high, wide = picture.shape[:2]
    if max(high, wide) <= most:
        return np.round(255 * picture).astype(np.uint8), intrinsics
    part = most / max(high, wide)
    size = max(8, round(wide * part)), max(8, round(high * part))
    image = Image.fromarray(np.round(255 * picture).astype(np.uint8))
    small = np.asarray(image.resize(size, Image.Resampling.BOX))
    return small, scaled(intrinsics, size[0] / wide, size[1] / high)


def scaled(intrinsics: tuple, sx: float, sy: float) -> tuple[float, float, float, float]:
    """Intrinsics of a picture made smaller: `sx` of its width, `sy` of its height are left."""
    fx, fy, cx, cy = intrinsics
    return fx * sx, fy * sy, cx * sx, cy * sy


def share_left(files: Sequence[Path], sizes: Sequence[tuple[float, float]]) -> float:
    """How large the pictures of a folder are, in parts of what their cameras say; mostly 1.

    Folders like images_4 hold all pictures smaller than they were taken. The median of some tells
    by how much; a few pictures of another size, or cut or turned ones, do not move it.

    Args:
        files: the pictures; those that cannot be read do not count.
        sizes: width and height of each by its camera.
    """
    parts = []
    for i in spread(len(files), LOOKED_AT):
        try:
            wide, high = picture_size(files[i])
        except DataError:
            continue
        part = wide / max(sizes[i][0], 1)
        if abs(high - part * sizes[i][1]) < 1.5:
            parts.append(part)
    part = float(np.median(parts)) if parts else 1.0
    return 1.0 if abs(part - 1) < 0.01 else part


def check_size(file: Path, size: tuple[float, float], part: float) -> tuple[int, int]:
    """Width and height of a picture file as stored; it is that `part` of its camera's size.

    Raises:
        DataError: not a picture, or one of another size: cut, resized or turned.
    """
    wide, high = picture_size(file)
    off = max(abs(wide - size[0] * part), abs(high - size[1] * part))
    if off >= (0.5 if part == 1 else 1.5):
        its = f"{size[0]:g} x {size[1]:g}" + ("" if part == 1 else f" times {part:.3g}")
        raise DataError(f"{file}: {wide} x {high} pixels, its camera {its}")
    return wide, high


def check(pose: np.ndarray, bounds: tuple[float, float], name: str) -> None:
    """Raise DataError unless `pose` is a camera's pose and 0 <= near < far."""
    try:
        cameras.check_poses(pose, f"{name}: its pose")
    except ValueError as e:
        raise DataError(str(e)) from None
    near, far = bounds
    if not 0 <= near < far < LARGE:
        raise DataError(f"{name}: bounds {near:g} to {far:g}: expected 0 <= near < far")
    away = np.linalg.norm(pose[:3, 3])
    if not away <= FAR_OFF * far:
        told = f"{away:.3g} from the origin and sees {far:.3g} far"
        raise DataError(f"{name}: its camera is {told}: too much for single precision, move it")


def check_lens(intrinsics: tuple, name: str) -> None:
    """Raise DataError unless the focal lengths are positive and all four numbers finite."""
    if not (np.abs(intrinsics) < LARGE).all() or min(intrinsics[:2]) <= 0:
        told = ", ".join(f"{v:g}" for v in intrinsics)
        raise DataError(f"{name}: fx, fy, cx, cy = {told}: expected finite, focal lengths > 0")


def stretch(size: tuple[float, float], intrinsics: tuple) -> float:
    """How much farther a point is than deep, at most: 1 / cos of the widest angle in a picture.

    Args:
        size: width and height of the picture.
        intrinsics: (fx, fy, cx, cy), in the same pixels.
    """
    fx, fy, cx, cy = intrinsics
    x = max(cx, size[0] - cx) / fx
    y = max(cy, size[1] - cy) / fy
    return float(np.sqrt(1 + x**2 + y**2))
