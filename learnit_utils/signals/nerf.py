"""Photographs with a transforms.json: as instant-ngp, nerfstudio and Blender scenes have them.

`place` reads them as photographs of one place, each a task of its own; `single` as one object, seen
from all sides. Poses are as `forward.cameras` has them. Both move the point that the cameras look
at to the origin and scale their distances, unless a scale is given.
"""

import contextlib
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from learnit_utils.signals import _frames, _sparse, objects, places
from learnit_utils.signals.base import DataError, check_request, left_out, read_layers, spread

FAR = 2.0  # half of the cameras of a place are nearer than this to what they look at, if scaled
AROUND = 4.0  # and of an object, as in learnit's ShapeNet
ROOM = 0.9  # of the way to the nearest camera, at most, is inside an object's ball
NEAREST = 0.05  # of that distance: nothing is rendered nearer to a camera


class _Space(NamedTuple):
    """Where the cameras of a scene are, in units of its table, and how it is moved and scaled."""

    at: np.ndarray  # (n, 3) cameras
    middle: np.ndarray  # (3,) what they look at
    origin: np.ndarray  # (3,) what becomes the origin
    scale: float

    @property
    def away(self) -> np.ndarray:
        """Distances (n,) of the cameras from what they look at."""
        return np.linalg.norm(self.at - self.middle, axis=1)

    def pose(self, pose: np.ndarray) -> np.ndarray:
        """A pose (4, 4) moved and scaled."""
        pose = pose.copy()
        pose[:3, 3] = (pose[:3, 3] - self.origin) * self.scale
        return pose


def has(path: str | Path) -> bool:
    """Whether a folder has a table of this kind."""
    return _frames.has(Path(path).expanduser())


def looked_at(poses: np.ndarray) -> np.ndarray:
    """The point (3,) nearest to the axes of cameras (n, 4, 4), by least squares.

    Where they are parallel nothing tells how far it is; then it is in their middle.
    """
    at, ahead = poses[:, :3, 3], -poses[:, :3, 2]
    off = np.eye(3) - ahead[:, :, None] * ahead[:, None]  # across an axis
    little = 1e-6 * np.eye(3)
    return np.linalg.solve((off + little).sum(0), ((off + little) @ at[..., None]).sum(0))[:, 0]


def _space(scene: _frames.Scene, scale: float | None, target: float) -> _Space:
    poses = np.stack([f.pose for f in scene.frames.values()])
    middle = looked_at(poses)
    if scale is not None:
        if not 0 < scale < np.inf:
            raise DataError(f"scale = {scale}: expected a number > 0")
        return _Space(poses[:, :3, 3], middle, np.zeros(3), scale)
    distance = np.median(np.linalg.norm(poses[:, :3, 3] - middle, axis=1))
    if distance < 1e-6:
        raise DataError(f"{scene.root}: all cameras are at one point: no scale can be found")
    return _Space(poses[:, :3, 3], middle, middle, float(target / distance))


# --- a place -----------------------------------------------------------------------------------
def place(
    path: str | Path,
    split: str = "train",
    *,
    size: int = 128,
    scale: float | None = None,
    limit: int | None = None,
    bounds: tuple[float, float] | None = None,
    undistort: bool = False,
    on_error: str = "raise",
) -> places.Photographs:
    """The photographs of a folder as those of one place.

    Args:
        path: the folder, or its table.
        split: that of transforms_train.json, _val and _test, or of lists in the table; else see
            `places.of_split`. Without validation it is the last tenth of train.
        size: pixels of the longer side, at most; averaged down.
        scale: of positions; None finds one and moves what is looked at to the origin.
        limit: at most so many, spread over the split.
        bounds: near and far of all rays, in units of the table. Unless given, rays end where
            instant-ngp's box does (aabb_scale), else at the other side of the ball of all cameras.
        undistort: take the distortion of lenses out, with pycolmap.
        on_error: "raise", or "skip" to leave out photographs that cannot be used.

    Raises:
        DataError: a table that is not sound; a photograph that cannot be used, as of
            `_frames.Scene.look`.
    """
    check_request(split, size)
    scene = _frames.read(path)
    space = _space(scene, scale, FAR)

    def look(name):
        seen = scene.look(name, undistort)
        its = scene.frames[name].pose
        near, far = _bounds(scene, space, its) if bounds is None else bounds
        ends = near * space.scale, far * space.scale
        pose = space.pose(its)
        places.check(pose, ends, name)
        return *seen, pose, ends

    def read(name, seen):
        file, _, lens, pose, ends = seen
        picture, lens = _picture(scene, name, file, lens)
        picture = picture.astype(np.float32) / 255
        return *places.smaller(picture, lens, size), pose, ends

    about = dict(source=f"transforms.json of {scene.root.name}", licence="of the photographs")
    about |= dict(scale=space.scale, bounds=_said(scene, bounds)) | _bent(scene, undistort)
    asked = places.Asked(split, limit, on_error)
    names = sorted(scene.frames)
    return places.collected(scene.root, names, asked, look, read, scene.sides(), **about)


def _bounds(scene: _frames.Scene, space: _Space, pose: np.ndarray) -> tuple[float, float]:
    """Distances along the rays of a camera at which the scene begins and ends at the latest."""
    box, at = scene.box(), pose[:3, 3]
    if box is not None:
        off, half = np.abs(at - box[0]), box[1]
        near = np.linalg.norm(np.maximum(off - half, 0))
        far = np.linalg.norm(off + half)
    else:
        radius, away = space.away.max(), np.linalg.norm(at - space.middle)
        near, far = away - radius, away + radius
    return max(float(near), NEAREST * float(np.median(space.away))), float(far)


def _bent(scene: _frames.Scene, undistort: bool) -> dict[str, int]:
    """How many lenses are undistorted, for the provenance."""
    bent = 0
    for frame in scene.frames.values() if undistort else ():
        with contextlib.suppress(DataError):
            bent += bool(frame.distortion())
    return dict(undistorted=bent) if bent else {}


def _said(scene: _frames.Scene, bounds: tuple | None) -> str:
    """What bounds go by, for the provenance."""
    if bounds is not None:
        return "as given"
    return "the ball of all cameras" if scene.box() is None else "aabb_scale"


def _picture(scene, name: str, file: Path, lens: tuple) -> tuple[np.ndarray, tuple]:
    """(height, width, 3) uint8 as stored, on white, undistorted, and its intrinsics."""
    white = objects.on_white(read_layers(file, str(file), opaque=True))
    camera = _camera(scene, name, white.shape[1::-1], lens)
    return (white, lens) if camera is None else _sparse.undistorted(white, camera, name)


def _camera(scene, name: str, size: tuple[int, int], lens: tuple) -> dict[str, Any] | None:
    """COLMAP's camera of a photograph, if its lens distorts."""
    get = (distortion := scene.frames[name].distortion()).get
    if not distortion:
        return None
    if get("fisheye"):
        model, more = "OPENCV_FISHEYE", [get(k, 0.0) for k in _frames.RADIAL]
    elif get("k4"):
        raise DataError(f"{name}: k4 = {get('k4'):g} of a perspective lens: not known to COLMAP")
    else:
        model, more = "FULL_OPENCV", [get(k, 0.0) for k in ("k1", "k2", "p1", "p2", "k3")] + 3 * [0]
    return dict(model=model, width=size[0], height=size[1], params=[*lens, *more])


# --- one object --------------------------------------------------------------------------------
def single(
    path: str | Path,
    split: str = "train",
    *,
    size: int = 128,
    views: int | None = None,
    radius: float | None = None,
    undistort: bool = False,
    on_error: str = "raise",
) -> objects.Objects:
    """The photographs of a folder as one object, for `photometric.object_tasks`.

    Every photograph is cut to the square around its optical axis that all cameras see, and averaged
    down, so that one angle of view serves all, whatever their sizes and lenses. Transparency is
    laid on white. The cameras' distance becomes 4, that of learnit's ShapeNet.

    Args:
        path: the folder, or its table.
        split: as in `place`; the object is the same, the views are others.
        size: pixels of a side.
        views: at most so many, spread over the split.
        radius: of the ball that holds the object, in units of the table. Unless given, that of
            instant-ngp's box (aabb_scale) as far as the cameras, else half of their distance.
        undistort: as in `place`.
        on_error: "raise", or "skip" to leave out photographs that cannot be used.

    Raises:
        DataError: as `place`.
    """
    check_request(split, size)
    if on_error not in ("raise", "skip"):
        raise DataError(f"on_error = {on_error!r:.60}: expected one of raise, skip")
    scene = _frames.read(path)
    space, names = _space(scene, None, AROUND), sorted(scene.frames, key=_numbers)
    seen, skipped = _seen(scene, names, undistort, on_error)
    half = min((half for *_, half in seen.values()), default=0.0)
    chosen = places.of_split([n for n in names if n in seen], split, scene.sides())
    pictures, poses = [], []
    for name in (chosen[i] for i in spread(len(chosen), views)):
        try:
            picture, lens = _picture(scene, name, seen[name][0], seen[name][2])
            pictures.append(_cut(picture, lens, half, size, name))
        except DataError as e:
            if on_error == "raise":
                raise
            skipped[name] = str(e)
            continue
        poses.append(space.pose(scene.frames[name].pose))
    if not pictures:
        why = f"; {left_out(scene.root, skipped)}" if skipped else ""
        raise DataError(
            f"{scene.root}: no photographs in split {split!r} ({len(names)} in all){why}"
        )
    ball = _radius(scene, space, radius) * space.scale
    about: dict[str, Any] = dict(source=f"transforms.json of {scene.root.name}, one object")
    about |= dict(licence="of the photographs", split=split, scale=space.scale, skipped=skipped)
    about |= _bent(scene, undistort)
    arrays = np.stack(pictures)[None], np.stack(poses).astype(np.float32)[None]
    fov_x = float(2 * np.arctan(half))
    return objects.gathered(*arrays, fov_x, ball, (scene.root.resolve().name,), **about)


def _numbers(name: str) -> tuple:
    """Sorts r_2 before r_10."""
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name))


def _seen(scene, names, undistort: bool, on_error: str) -> tuple[dict, dict]:
    """{name: file, size, lens, half} of photographs, {name: why} of those that cannot be used."""
    seen, skipped = {}, {}
    for name in names:
        try:
            file, size, lens = scene.look(name, undistort)
            camera = _camera(scene, name, size, lens)
            plain = (size, lens) if camera is None else _sparse.plain_camera(camera, name)
            half = _half(*plain, name)
            if on_error == "skip" and len(names) < places.FEW:  # as in `places.collected`
                read_layers(file, str(file), opaque=True)
            seen[name] = file, size, lens, half
        except DataError as e:
            if on_error == "raise":
                raise
            skipped[name] = str(e)
    return seen, skipped


def _half(size: tuple[int, int], lens: tuple, name: str) -> float:
    """The tangent of half the angle of the largest square around the axis of a picture."""
    (wide, high), (fx, fy, cx, cy) = size, lens
    half = min(cx / fx, (wide - cx) / fx, cy / fy, (high - cy) / fy)
    if half <= 0:
        raise DataError(f"{name}: cx, cy = {cx:g}, {cy:g}: outside of {wide} x {high} pixels")
    return float(half)


def _cut(picture: np.ndarray, lens: tuple, half: float, size: int, name: str) -> np.ndarray:
    """The square of an angle around the axis, averaged to (size, size, 3) uint8."""
    fx, fy, cx, cy = lens
    box = np.array([cx - half * fx, cy - half * fy, cx + half * fx, cy + half * fy])
    whole = np.round(box)
    box = np.where(np.abs(box - whole) < 1e-6, whole, box)
    box = np.clip(box, 0, [*picture.shape[1::-1]] * 2)
    if (side := min(box[2] - box[0], box[3] - box[1])) < size:
        raise DataError(f"{name}: size = {size}: the square that all see has {side:.4g} pixels")
    image = Image.fromarray(picture)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX, box=tuple(box)))


def _radius(scene: _frames.Scene, space: _Space, radius: float | None) -> float:
    """Of the ball that holds the object, in units of the table."""
    if radius is not None:
        if not 0 < radius < np.inf:
            raise DataError(f"radius = {radius}: expected a number > 0")
        return radius
    box = scene.box()
    if box is None:
        return float(np.median(space.away)) / 2
    reach = np.linalg.norm(space.middle - box[0]) + np.sqrt(3) * box[1]
    return float(min(reach, ROOM * space.away.min()))
