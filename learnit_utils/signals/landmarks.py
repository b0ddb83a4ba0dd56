"""Photographs of one place by many people: built landmarks that ship, or Phototourism.

A photograph has its own size, intrinsics, pose and bounds: a `forward.cameras.View`.
"""

import csv
import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from learnit_utils import shipped
from learnit_utils.forward.cameras import View
from learnit_utils.signals import places
from learnit_utils.signals.base import (
    SUFFIXES,
    DataError,
    check_request,
    picture_files,
    read_picture,
    spread,
)
from learnit_utils.signals.places import FLIP, SCALE, Photographs, gathered, smaller

COLOUR_ONLY = True  # there are no gray versions
LANDMARKS = ("gate", "fountain", "basilica")
PARTS = ("photographs", "others")
ARRAYS = ("bds", "kinv_mats", "c2w_mats", "res_mats")
BOUNDS = np.array([0.9, 1.2])  # of learnit's notebook: room before and behind the points


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
    about |= dict(source=f"built {landmark}, other views")
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
def arrays(
    path: str | Path,
    split: str = "train",
    *,
    images: str | None = None,
    size: int = 128,
    limit: int | None = None,
    on_error: str = "raise",
) -> Photographs:
    """learnit's Phototourism from its folder: its four arrays beside a folder of photographs.

    bds.npy (n, 2), kinv_mats.npy (n, 3, 3), c2w_mats.npy (n, 3 or 4, 4) and res_mats.npy (n, 2:
    width, height) in the order of the photographs' names. Positions are multiplied by `SCALE`,
    bounds by `SCALE` and `BOUNDS`, as in its notebook. Its bounds are depths, since its rays have
    a length of one along the axis; ours are distances, and `far` is what the corner needs.
    Photographs are read as they are stored.

    Args:
        path: the folder.
        split: see `places.of_split`; of a .tsv if there is one.
        images: the folder of the photographs in it; images or dense/images unless given.
        size: pixels of the longer side, at most; averaged down.
        limit: at most so many, spread over the split.
        on_error: "raise", or "skip" to leave out photographs that cannot be used.

    Raises:
        DataError: arrays or photographs that are missing or do not fit together.
    """
    check_request(split, size)
    root = Path(path).expanduser()
    found = {name: _array(root / f"{name}.npy") for name in ARRAYS}
    folders = ("images", "dense/images") if images is None else (images,)
    folder = next((root / f for f in folders if (root / f).is_dir()), root / folders[0])
    files = [p for p in picture_files(folder) if p.parent == folder]
    if not files:
        raise DataError(f"{folder}: no photographs ({', '.join(SUFFIXES)}) there")
    shapes = dict(bds=(2,), kinv_mats=(3, 3), c2w_mats=(4,), res_mats=(2,))
    for name, a in found.items():
        if a.ndim < 2 or len(a) != len(files) or a.shape[-len(shapes[name]) :] != shapes[name]:
            raise DataError(f"{name}.npy: {a.shape} for {len(files)} photographs")
        if not np.isfinite(a).all():
            raise DataError(f"{name}.npy: numbers that are not finite")
    part = places.share_left(files, found["res_mats"])
    number = {f.name: i for i, f in enumerate(files)}

    def look(name):
        i = number[name]
        size = places.check_size(files[i], tuple(found["res_mats"][i]), part)
        return files[i], size, *_camera(found, i, name)

    def read(name, seen):
        file, (wide, high), lens, pose, bounds = seen
        scales = np.array([wide, high]) / found["res_mats"][number[name]]
        picture = read_picture(file, str(file), upright=False)
        return *places.smaller(picture, places.scaled(lens, *scales), size), pose, bounds

    about = dict(source="learnit's Phototourism", licence="of the photographs")
    asked = places.Asked(split, limit, on_error)
    return places.collected(root, list(number), asked, look, read, places.lists(root), **about)


def _array(file: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(file, allow_pickle=False), np.float64)
    except FileNotFoundError:
        raise DataError(f"{file}: missing") from None
    except Exception as e:  # a file that is not what it says
        why = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise DataError(f"{file}: {why}") from None


def _camera(found: dict[str, np.ndarray], i: int, name: str) -> tuple:
    """(intrinsics, pose, bounds) of a photograph by learnit's arrays."""
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
    near, far = found["bds"][i] * BOUNDS * SCALE
    places.check(pose, (near, far), name)
    return intrinsics, pose, (near, far * places.stretch(found["res_mats"][i], intrinsics))


def from_folder(path: str | Path, split: str = "train", **options) -> Photographs:
    """Photographs of a folder: learnit's arrays or COLMAP's model; see `colmap.load_collection`."""
    from learnit_utils.signals import colmap  # which builds on this module

    return colmap.load_collection(path, split, **options)
