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
from learnit_utils.signals.base import (
    DataError,
    check_request,
    left_out,
    read_layers,
    spread,
    tell,
)
from learnit_utils.signals.transforms import block_mean

COLOUR_ONLY = True  # there are no gray versions
KINDS = ("chairs", "lamps", "cars", "sofas")
PARTS = ("support", "query", "both")


class Objects(NamedTuple):
    """Objects, each in several pictures, and the cameras that took them."""

    pictures: np.ndarray  # (count, views, height, width, 3) uint8, on white
    poses: np.ndarray  # (count, views, 4, 4) float32, as in `forward.cameras`
    fov_x: float  # angle of view from left to right, in radians
    radius: float  # of the ball around the origin that holds every object
    names: tuple[str, ...]
    provenance: dict[str, Any]  # source, licence, split, count, sha256 of pictures and poses


def gathered(
    pictures: np.ndarray, poses: np.ndarray, fov_x: float, radius: float, names, **provenance: Any
) -> Objects:
    """Objects of these arrays, hashed; see `Objects`."""
    digest = hashlib.sha256(np.ascontiguousarray(pictures).data)
    digest.update(np.ascontiguousarray(poses).data)
    provenance |= dict(count=len(names), data_sha256=digest.hexdigest())
    return Objects(pictures, poses, fov_x, radius, tuple(names), provenance)


def check(kind: str, part: str, views: int | None, kinds=KINDS) -> None:
    """Raise DataError unless kind, part and number of views exist."""
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
    return on_white(cells.reshape(-1, side, side, 4))


def on_white(layers: np.ndarray) -> np.ndarray:
    """(..., 4) uint8 laid on white: (..., 3) uint8."""
    colour, alpha = layers[..., :3].astype(np.uint32), layers[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def said(part: str, views: int | None) -> str:
    """What the source of a provenance says of the views, so that no two parts have one name."""
    which = dict(support="", query=", held-out views", both=", all views")[part]
    return which if views is None else f"{which}, {views} of each"


def smaller(pictures: np.ndarray, size: int) -> np.ndarray:
    """(views, side, side, 3) uint8 averaged down; DataError unless `size` divides the side."""
    try:
        return block_mean(pictures, size)
    except ValueError as e:
        raise DataError(str(e)) from None


def credits(kind: str) -> tuple[dict[str, str], ...]:
    """One row per shipped model: name, title, author, licence, source.

    Raises:
        DataError: another kind.
    """
    check(kind, "support", None)
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
    check(kind, part, views)
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
        pictures.append(smaller(_sheet(kind, name)[which][:views], size))
        poses.append([np.asarray(cameras.orbit(*a, table["distance"])) for a in angles])
    source = f"Sweet Home 3D {kind}, rendered" + said(part, views)
    about = dict(source=source, licence="CC0-1.0 or CC-BY-3.0, by model", split=split)
    pictures, poses = np.stack(pictures), np.stack(poses).astype(np.float32)
    return gathered(pictures, poses, table["camera_angle_x"], table["radius"], names, **about)


def shapenet(path: str | Path, split: str = "train", **options) -> Objects:
    """learnit's ShapeNet from its folder; see `shapenet.read`."""
    from learnit_utils.signals import shapenet as its  # which builds on this module

    return its.read(path, split, **options)


def from_folder(
    path: str | Path, split: str = "train", *, on_error: str | None = None, **options
) -> Objects:
    """learnit's ShapeNet from its folder; unless on_error is given, it is "skip" with a warning."""
    data = shapenet(path, split, on_error=on_error or "skip", **options)
    if on_error is None and (skipped := data.provenance["skipped"]):
        tell(left_out(Path(path), skipped))
    return data
