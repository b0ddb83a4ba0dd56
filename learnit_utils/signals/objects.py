"""Objects seen by cameras: renders of furniture and vehicles that ship, or learnit's ShapeNet."""

import csv
import hashlib
import io
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learnit_utils import shipped
from learnit_utils.forward import cameras
from learnit_utils.signals.base import SPLITS, DataError, check_request, read_layers, spread
from learnit_utils.signals.transforms import block_mean

COLOUR_ONLY = True  # there are no gray versions
KINDS = ("chairs", "lamps", "cars", "sofas")
PARTS = ("support", "query", "both")
SHAPENET_RADIUS = 2.0  # cameras at distance 4, near 2, far 6


class Objects(NamedTuple):
    """Objects, each in several pictures, and the cameras that took them."""

    pictures: np.ndarray  # (count, views, height, width, 3) uint8, on white
    poses: np.ndarray  # (count, views, 4, 4) float32, as in `forward.cameras`
    fov_x: float  # angle of view from left to right, in radians
    radius: float  # of the ball around the origin that holds every object
    names: tuple[str, ...]
    provenance: dict[str, Any]  # source, licence, split, count, sha256 of pictures and poses


def _objects(pictures, poses, fov_x, radius, names, **provenance) -> Objects:
    pictures, poses = np.stack(pictures), np.stack(poses).astype(np.float32)
    digest = hashlib.sha256(np.ascontiguousarray(pictures).data)
    digest.update(np.ascontiguousarray(poses).data)
    provenance |= dict(count=len(names), data_sha256=digest.hexdigest())
    return Objects(pictures, poses, fov_x, radius, tuple(names), provenance)


def _check(kind, part, views, kinds):
    if kind not in kinds:
        raise DataError(f"kind = {kind!r:.60}: expected one of {', '.join(kinds)}")
    if part not in PARTS:
        raise DataError(f"part = {part!r:.60}: expected one of {', '.join(PARTS)}")
    if views is not None and views < 1:
        raise DataError(f"views = {views}: expected an integer >= 1")


def _archive(kind: str) -> dict[str, bytes]:
    return shipped.members(f"objects_{kind}.zip")


@cache
def _cameras(kind: str) -> dict[str, Any]:
    return json.loads(_archive(kind)["cameras.json"])


@cache
def _sheet(kind: str, name: str) -> np.ndarray:
    """All views of a model as they ship: (views, side, side, 3) uint8, on white."""
    table = _cameras(kind)
    side, columns = table["size"], table["columns"]
    layers = read_layers(io.BytesIO(_archive(kind)[f"{name}.webp"]), name)
    high = len(layers) // side
    cells = layers.reshape(high, side, columns, side, 4).swapaxes(1, 2)
    return _on_white(cells.reshape(-1, side, side, 4))


def _on_white(layers: np.ndarray) -> np.ndarray:
    """(..., 4) uint8 laid on white: (..., 3) uint8."""
    colour, alpha = layers[..., :3].astype(np.uint32), layers[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _smaller(pictures: np.ndarray, size: int) -> np.ndarray:
    try:
        return block_mean(pictures, size)
    except ValueError as e:
        raise DataError(str(e)) from None


def credits(kind: str) -> tuple[dict[str, str], ...]:
    """One row per shipped model: name, title, author, licence, source.

    Raises:
        DataError: another kind.
    """
    _check(kind, "support", None, KINDS)
    table = _archive(kind)["ATTRIBUTION.csv"].decode("utf8")
    return tuple(csv.DictReader(io.StringIO(table)))


def load(
    split: str = "train",
    *,
    kind: str = "chairs",
    part: str = "support",
    size: int = 128,
    views: int | None = None,
    variants: bool = True,
    limit: int | None = None,
) -> Objects:
    """Renders of real models, split by model: 128 x 128, random light, random cameras.

    Args:
        split: "train", "validation", "test" or "all".
        kind: chairs, lamps or cars; sofas, of which all are "test", are there to surprise.
        part: "support" for the first 25 views, to fit; "query" for 25 others, held out, which
            the training models do not have; "both".
        size: pixels of a side; averaged down from 128.
        views: only the first so many of each.
        variants: whether training models count again, stretched, in other colours and light.
        limit: at most so many objects, spread over the split.

    Raises:
        DataError: a request that cannot be met.

    Source: Debian's sweethome3d-furniture 1.8-1, rendered by tools/render_objects.py; `credits`
    names every author.
    """
    check_request(split, size)
    _check(kind, part, views, KINDS)
    table = _cameras(kind)
    names = [n for n, m in table["models"].items() if split in ("all", m["split"])]
    names = [n for n in names if variants or "~" not in n]
    names = [names[i] for i in spread(len(names), limit)]
    if part != "support" and split in ("train", "all"):
        raise DataError(f"part = {part!r}: models to train on have no held-out views")
    if not names:
        raise DataError(f"no {kind} in split {split!r}")
    half = table["views"]
    which = dict(support=slice(0, half), query=slice(half, None), both=slice(None))[part]
    pictures, poses = [], []
    for name in names:
        angles = np.deg2rad(table["models"][name]["views"][which][:views])
        pictures.append(_smaller(_sheet(kind, name)[which][:views], size))
        poses.append([np.asarray(cameras.orbit(*a, table["distance"])) for a in angles])
    source = f"Sweet Home 3D {kind}, rendered"
    about = dict(source=source, licence="CC0-1.0 or CC-BY-3.0, by model", split=split)
    return _objects(pictures, poses, table["camera_angle_x"], table["radius"], names, **about)


def shapenet(
    path: str | Path,
    split: str = "train",
    *,
    kind: str = "chairs",
    part: str = "support",
    size: int = 128,
    views: int | None = None,
    limit: int | None = None,
) -> Objects:
    """learnit's ShapeNet from its folder.

    Next to KIND_splits.json ("chair" for chairs: {"train": [...], "test": [...]}), or in its folder
    KIND, lies a folder per object, with transforms.json (camera_angle_x; frames of file_path and
    transform_matrix) and RGBA pictures. Without a list "val", the last tenth of "train" is our
    validation. The first 25 views are the support, the last 25 the query.

    Args:
        path: the folder.
        kind: chairs, lamps or cars.
        part: "support", "query" or "both".
        size: pixels of a side; averaged down.
        split, views, limit: as in `load`.

    Raises:
        DataError: a list, folder, picture or matrix that is missing or not what it should be.
    """
    check_request(split, size)
    _check(kind, part, views, ("chairs", "lamps", "cars"))
    root, one = Path(path).expanduser(), kind[:-1]
    table = _read_json(root / f"{one}_splits.json")
    if not isinstance(table, dict) or not all(
        isinstance(table.get(k), list) for k in ("train", "test")
    ):
        raise DataError(f"{root / f'{one}_splits.json'}: lists train and test are needed")
    learn, held = table["train"], table.get("val")
    if held is None:
        cut = len(learn) - max(1, len(learn) // 10)
        learn, held = learn[:cut], learn[cut:]
    lists = dict(zip(SPLITS, (learn, held, table["test"])))
    names = [n for s in SPLITS if split in ("all", s) for n in lists[s]]
    if not names:
        raise DataError(f"{root}: no {kind} in split {split!r}")
    names = [str(names[i]) for i in spread(len(names), limit)]
    places = (root / kind, root / one, root)
    found = [_object(next((p for p in places if (p / n).is_dir()), root) / n) for n in names]
    angles = {angle for _, _, angle in found}
    counts = {len(poses) for _, poses, _ in found}
    shapes = {pictures.shape[1:] for pictures, _, _ in found}
    for what, several in (("camera_angle_x", angles), ("views", counts), ("sizes", shapes)):
        if len(several) > 1:
            raise DataError(f"{root}: several {what} among its objects: {sorted(several)[:4]}")
    half = 25
    which = dict(support=slice(0, half), query=slice(-half, None), both=slice(None))[part]
    if part != "support" and min(counts) < 2 * half:
        raise DataError(f"{root}: {min(counts)} views of an object, {2 * half} are needed")
    pictures = [_smaller(u[which][:views], size) for u, _, _ in found]
    poses = [p[which][:views] for _, p, _ in found]
    about = dict(source=f"learnit's ShapeNet, {kind}", licence="ShapeNet's terms", split=split)
    return _objects(pictures, poses, angles.pop(), SHAPENET_RADIUS, names, **about)


def _read_json(path: Path):
    try:
        return json.loads(path.read_text("utf8"))
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except (ValueError, RecursionError, OSError):
        raise DataError(f"{path}: not JSON") from None


def _object(folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Pictures (views, side, side, 3) uint8, poses (views, 4, 4) and angle of view of a folder."""
    file = folder / "transforms.json"
    table = _read_json(file)
    try:
        fov_x = float(table["camera_angle_x"])
        frames = [(str(f["file_path"]), f["transform_matrix"]) for f in table["frames"]]
        poses = np.array([matrix for _, matrix in frames], np.float64)
        cameras.check_poses(poses, f"{file}: transform_matrix")
    except (KeyError, TypeError):
        raise DataError(f"{file}: camera_angle_x and frames are needed") from None
    except ValueError as e:
        text = str(e) if str(e).startswith(str(file)) else f"{file}: transform_matrix: {e}"
        raise DataError(text) from None
    if not 0 < fov_x < np.pi:
        raise DataError(f"{file}: camera_angle_x = {fov_x}: expected a number in (0, pi)")
    pictures = []
    for name, _ in frames:
        path = folder / (name if name.lower().endswith(".png") else name + ".png")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{file}: {name!r:.60} leads out of its folder")
        if not path.is_file():
            raise DataError(f"{path}: missing")
        layers = read_layers(path, str(path))
        if layers.shape[0] != layers.shape[1]:
            raise DataError(f"{path}: {layers.shape[1]} x {layers.shape[0]} pixels, not square")
        if pictures and layers.shape[:2] != pictures[0].shape[:2]:
            side = pictures[0].shape[0]
            raise DataError(f"{path}: {len(layers)} pixels a side, {side} in the first picture")
        pictures.append(_on_white(layers))
    if not pictures:
        raise DataError(f"{file}: no frames")
    return np.stack(pictures), poses, fov_x


from_folder = shapenet
