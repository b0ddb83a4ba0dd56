"""Photographs of one place by many people: built landmarks that ship, or Phototourism.

A photograph has its own size, intrinsics, pose and bounds: a `forward.cameras.View`.
"""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from learnit_utils import shipped
from learnit_utils.forward import cameras
from learnit_utils.forward.cameras import View
from learnit_utils.signals.base import DataError, check_request, read_picture, spread

COLOUR_ONLY = True  # there are no gray versions
LANDMARKS = ("gate", "fountain", "basilica")
PARTS = ("photographs", "others")
SCALE = 0.05  # of learnit's poses
FLIP = np.diag([1.0, -1.0, -1.0])  # from x right, y down, z ahead to the axes of `cameras`
ARRAYS = ("bds", "kinv_mats", "c2w_mats", "res_mats")


class Photographs(NamedTuple):
    """Photographs of one place; with `others`, so many of each light, along a second axis."""

    views: View  # leaves (count, ...)
    names: tuple[str, ...]
    provenance: dict[str, Any]  # source, licence, split, count, data_sha256

    def view(self, i) -> View:
        """Photograph i (a number, or a pair of them)."""
        return View(*(leaf[i] for leaf in self.views))

    def picture(self, i) -> np.ndarray:
        """Photograph i as (height, width, 3) uint8."""
        high, wide = self.views.size[i]
        return self.views.pixels[i][: high * wide].reshape(high, wide, 3)


def gathered(parts: Sequence[tuple], names, **provenance) -> Photographs:
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


# --- landmarks that ship -----------------------------------------------------------------------
def _archive(landmark: str) -> dict[str, bytes]:
    return shipped.members(f"landmarks_{landmark}.zip")


@cache
def table(landmark: str) -> dict[str, Any]:
    """What is known of a collection: `photos` by name, `corners` (n, 3) of the landmark.

    Raises:
        DataError: another landmark.
    """
    if landmark not in LANDMARKS:
        raise DataError(f"landmark = {landmark!r:.60}: expected one of {', '.join(LANDMARKS)}")
    return json.loads(_archive(landmark)["cameras.json"])


def credits(landmark: str) -> tuple[dict[str, str], ...]:
    """One row per model that stands in the scenes: name, title, author, licence, source."""
    table(landmark)
    text = _archive(landmark)["ATTRIBUTION.csv"].decode("utf8")
    return tuple(csv.DictReader(io.StringIO(text)))


def _shipped(landmark: str, name: str, size: int):
    photo = table(landmark)["photos"][name]
    picture = read_picture(io.BytesIO(_archive(landmark)[f"{name}.webp"]), name)
    wide, high = photo["size"]
    intrinsics = (photo["focal"], photo["focal"], wide / 2, high / 2)
    pose = np.concatenate([photo["pose"], [[0, 0, 0, 1]]])
    return *smaller(picture, intrinsics, size), pose, (photo["near"], photo["far"])


def load(
    split: str = "train",
    *,
    landmark: str = "gate",
    part: str = "photographs",
    size: int = 120,
    limit: int | None = None,
) -> Photographs:
    """Photographs of a built landmark: light, weather, camera and passers-by differ in each.

    Args:
        split: "train", "validation" or "test".
        landmark: gate, fountain or basilica.
        part: "photographs", or "others": other views in the light of each, without passers-by,
            which only validation and test have; arrays then are (count, others, ...).
        size: pixels of the longer side, at most; averaged down.
        limit: at most so many photographs, spread over the split.

    Raises:
        DataError: a request that cannot be met.

    Source: tools/build_landmarks.py; `credits` names the authors of models in the scenes.
    """
    check_request(split, size)
    if part not in PARTS:
        raise DataError(f"part = {part!r:.60}: expected one of {', '.join(PARTS)}")
    photos = table(landmark)["photos"]
    names = [n for n, p in photos.items() if "light_of" not in p and split in ("all", p["split"])]
    names = [names[i] for i in spread(len(names), limit)]
    about = dict(source=f"built {landmark}", licence="MIT, with models CC0 or CC-BY", split=split)
    if part == "photographs":
        return gathered([_shipped(landmark, n, size) for n in names], names, **about)
    of = {n: [o for o, p in photos.items() if p.get("light_of") == n] for n in names}
    if not all(of.values()):
        raise DataError(f"part = {part!r}: photographs to train on have no other views")
    flat = [o for n in names for o in of[n]]
    found = gathered([_shipped(landmark, o, size) for o in flat], names, **about)

    by_light = (a.reshape(len(names), -1, *a.shape[1:]) for a in found.views)
    return found._replace(views=View(*by_light))


def depth(landmark: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """True distances in a held-back photograph, on a grid of its pixels.

    Returns:
        (n, 2) row and column of pixels; (n,) distances, infinite for the sky.

    Raises:
        DataError: a photograph whose distances do not ship.
    """
    places, file = table(landmark), f"{name}_depth.png"
    if file not in _archive(landmark):
        raise DataError(f"{name!r:.60}: no distances of this photograph")
    photo, every = places["photos"][name], places["every"]
    level = read_picture(io.BytesIO(_archive(landmark)[file]), file)[..., 0]
    level = np.round(255 * level)
    near, far = photo["near"], photo["far"]
    value = np.where(level == 255, np.inf, near + level / 254 * (far - near))
    row, column = np.meshgrid(
        *(np.arange(n) * every + every // 2 for n in level.shape), indexing="ij"
    )
    return np.stack([row.ravel(), column.ravel()], -1), value.ravel()


# --- from a folder -----------------------------------------------------------------------------
def of_split(names: Sequence[str], split: str, lists: dict[str, str] | None) -> list[str]:
    """Those of a split: by NeRF-W's list, or learnit's: 0-19 test, 20-24 validation, the rest."""
    if split == "all":
        return list(names)
    if lists is not None:
        return [n for n in names if lists.get(Path(n).name) == split]
    where = dict(test=slice(0, 20), validation=slice(20, 25), train=slice(25, None))
    return list(names)[where[split]]


def lists(path: Path) -> dict[str, str] | None:
    """Photograph -> split, from NeRF-W's table of a place (.tsv) if the folder has one."""
    files = sorted(path.glob("*.tsv"))
    if not files:
        return None
    if len(files) > 1:
        raise DataError(f"{path}: several tables, {files[0].name} and {files[1].name}")
    with open(files[0], newline="", encoding="utf8") as f:
        rows = list(csv.DictReader(f, delimiter="\t"))
    if not rows or not {"filename", "split"} <= set(rows[0]):
        raise DataError(f"{files[0]}: columns filename and split are needed")
    named = {r["filename"]: r["split"] for r in rows if r.get("id", "x") not in ("", None)}
    val = [n for n, s in named.items() if s == "train"][-5:]  # it has none
    return named | dict.fromkeys(val, "validation")


def smaller(picture: np.ndarray, intrinsics, most: int):
    """A picture (box-resampled so that its longer side is at most `most`) and its intrinsics."""
    high, wide = picture.shape[:2]
    if max(high, wide) <= most:
        return np.round(255 * picture).astype(np.uint8), intrinsics
    part = most / max(high, wide)
    size = max(8, round(wide * part)), max(8, round(high * part))
    image = Image.fromarray(np.round(255 * picture).astype(np.uint8))
    small = np.asarray(image.resize(size, Image.Resampling.BOX))
    sx, sy = size[0] / wide, size[1] / high
    fx, fy, cx, cy = intrinsics
    return small, (fx * sx, fy * sy, cx * sx, cy * sy)


def arrays(
    path: str | Path, split: str = "train", *, images: str = "images", size: int = 128, limit=None
) -> Photographs:
    """learnit's Phototourism from its folder: its four arrays beside a folder of photographs.

    bds.npy (n, 2), kinv_mats.npy (n, 3, 3), c2w_mats.npy (n, 3 or 4, 4) and res_mats.npy (n, 2:
    width, height) in the order of the photographs' names. Positions and bounds are multiplied by
    `SCALE`, as in its notebook.

    Args:
        path: the folder.
        split: learnit's, 0-19 test, 20-24 validation, the rest to train, or that of a .tsv there.
        images: the folder of the photographs in it.
        size: pixels of the longer side, at most; averaged down.
        limit: at most so many, spread over the split.

    Raises:
        DataError: arrays or photographs that are missing or do not fit together.
    """
    check_request(split, size)
    root = Path(path).expanduser()
    found = {}
    for name in ARRAYS:
        file = root / f"{name}.npy"
        try:
            found[name] = np.asarray(np.load(file, allow_pickle=False), np.float64)
        except FileNotFoundError:
            raise DataError(f"{file}: missing") from None
        except (OSError, ValueError) as e:
            raise DataError(f"{file}: {str(e).splitlines()[0]}") from None
    files = sorted(p for p in (root / images).glob("*") if p.suffix.lower() in (".jpg", ".png"))
    if not files:
        raise DataError(f"{root / images}: no photographs (.jpg or .png) there")
    shapes = dict(bds=(2,), kinv_mats=(3, 3), c2w_mats=(4,), res_mats=(2,))
    for name, a in found.items():
        if len(a) != len(files) or not a.shape[-len(shapes[name]) :] == shapes[name]:
            raise DataError(f"{name}.npy: {a.shape} for {len(files)} photographs")
        if not np.isfinite(a).all():
            raise DataError(f"{name}.npy: numbers that are not finite")
    names = [f.name for f in files]
    chosen = of_split(names, split, lists(root))
    if not chosen:
        raise DataError(f"{root}: no photographs in split {split!r}")
    chosen = [chosen[i] for i in spread(len(chosen), limit)]
    parts = [_from_arrays(files[i], i, found, size) for i in map(names.index, chosen)]
    about = dict(source="learnit's Phototourism", licence="of the photographs", split=split)
    return gathered(parts, chosen, **about)


def _from_arrays(file: Path, i: int, found, size: int):
    k = found["kinv_mats"][i]
    sign = np.sign(np.diag(k))
    k = k * sign[:, None]  # both conventions: y down and z ahead, or y up and z back
    ok = (
        abs(k[0, 1]) < 1e-9
        and abs(k[2, 2] - 1) < 1e-9
        and (np.abs(k[[1, 2, 2], [0, 0, 1]]) < 1e-9).all()
    )
    if not ok or min(k[0, 0], k[1, 1]) <= 0:
        raise DataError(f"kinv_mats.npy: entry {i} is not the inverse of a camera matrix")
    intrinsics = (1 / k[0, 0], 1 / k[1, 1], -k[0, 2] / k[0, 0], -k[1, 2] / k[1, 1])
    pose = np.eye(4)
    pose[:3] = found["c2w_mats"][i][:3]
    pose[:3, :3] = pose[:3, :3] @ np.diag(sign) @ FLIP
    pose[:3, 3] *= SCALE
    check(pose, found["bds"][i], f"{file.name}")
    picture = read_picture(file)
    wide, high = found["res_mats"][i]
    if picture.shape[:2] != (int(high), int(wide)):
        have = f"{picture.shape[1]} x {picture.shape[0]} pixels"
        raise DataError(f"{file}: {have}, its camera is for {int(wide)} x {int(high)}")
    picture, intrinsics = smaller(picture, intrinsics, size)
    return picture, intrinsics, pose, found["bds"][i] * SCALE


def check(pose, bounds, name: str) -> None:
    """Raise DataError unless `pose` is a camera's pose and 0 <= near < far."""
    try:
        cameras.check_poses(pose, f"{name}: its pose")
    except ValueError as e:
        raise DataError(str(e)) from None
    near, far = bounds
    if not 0 <= near < far:
        raise DataError(f"{name}: bounds {near:g} to {far:g}: expected 0 <= near < far")


def from_folder(path: str | Path, split: str = "train", **options) -> Photographs:
    """Photographs of a folder: learnit's arrays or COLMAP's model; see `colmap.load_collection`."""
    from learnit_utils.signals import colmap  # which builds on this module

    return colmap.load_collection(path, split, **options)
