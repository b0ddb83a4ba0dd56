"""transforms.json: cameras of photographs, as instant-ngp, nerfstudio and Blender write them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learnit_utils.forward import cameras
from learnit_utils.signals import places
from learnit_utils.signals._names import Files, parts
from learnit_utils.signals.base import SPLITS, DataError, picture_size, read_json

ONE = "transforms.json"
SIDES = dict(zip(SPLITS, ("train", "val", "test")))
RADIAL = ("k1", "k2", "k3", "k4")
DISTORTION = (*RADIAL, "p1", "p2")
PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
NGP_SCALE = 0.33  # instant-ngp puts a scene into its unit cube by this and an offset of 1/2


class Frame(NamedTuple):
    """A photograph and its camera."""

    name: str  # as the table has it
    split: str | None  # that the table says
    pose: np.ndarray  # (4, 4) float64
    told: Mapping[str, Any]  # the table's values, the frame's own before those of all

    def number(self, key: str, default: float | None = None) -> float | None:
        """A value of the camera.

        Raises:
            DataError: not a finite number.
        """
        value = self.told.get(key)
        if value is None:
            return default
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) < 1e30:
            raise DataError(f"{self.name}: {key} = {value!r:.60}: expected a finite number")
        return float(value)

    def distortion(self) -> dict[str, float]:
        """Coefficients that are not 0; {"fisheye": 1} too, if the lens is one.

        Raises:
            DataError: a camera that is no perspective or fisheye one.
        """
        found = {k: v for k in DISTORTION if (v := self.number(k, 0.0))}
        model = str(self.told.get("camera_model") or "OPENCV").upper()
        if model.endswith("FISHEYE") or self.told.get("is_fisheye") is True:
            return found | dict(fisheye=1.0)
        if model not in PINHOLES:
            raise DataError(f"{self.name}: camera_model {model:.40} is no perspective camera")
        return found

    def lens(self, size: tuple[int, int]) -> tuple[tuple, tuple[float, float]]:
        """(fx, fy, cx, cy), and width and height that they are for.

        Args:
            size: of the picture file, which is taken where the table has no w and h.

        Raises:
            DataError: no focal length, or one that is not possible.
        """
        wide, high = self.number("w", size[0]), self.number("h", size[1])
        fx, fy = self._focal("x", wide), self._focal("y", high)
        if fx is None and fy is None:
            raise DataError(f"{self.name}: fl_x or camera_angle_x is needed")
        fx, fy = fy if fx is None else fx, fx if fy is None else fy
        lens = fx, fy, self.number("cx", wide / 2), self.number("cy", high / 2)
        if min(wide, high) < 1:
            raise DataError(f"{self.name}: w, h = {wide:g}, {high:g}: expected 1 or more")
        places.check_lens(lens, self.name)
        return lens, (wide, high)

    def _focal(self, axis: str, pixels: float) -> float | None:
        focal, angle = self.number(f"fl_{axis}"), self.number(f"camera_angle_{axis}")
        if focal is not None or angle is None:
            return focal
        if not 0 < angle < np.pi:
            told = f"camera_angle_{axis} = {angle:g}: expected a number in (0, pi)"
            raise DataError(f"{self.name}: {told}")
        return pixels / (2 * np.tan(angle / 2))


class Scene(NamedTuple):
    """All photographs of a folder, and what is said of the scene."""

    root: Path
    frames: dict[str, Frame]
    files: Files
    part: float  # how large pictures are, in parts of what their cameras say
    told: Mapping[str, Any]  # of the first table

    def look(self, name: str, undistort: bool) -> tuple[Path, tuple[int, int], tuple]:
        """File, its width and height, and the lens for these pixels.

        Raises:
            DataError: missing, no picture, of another size than its camera, or distorted.
        """
        frame, file = self.frames[name], self.files[name]
        found = picture_size(file)
        lens, size = frame.lens(found)
        places.check_size(file, size, self.part)
        distortion = frame.distortion()
        if distortion and not undistort:
            told = ", ".join(k if k == "fisheye" else f"{k} = {v:g}" for k, v in distortion.items())
            raise DataError(f"{name}: the lens distorts ({told}); undistort=True takes it out")
        return file, found, places.scaled(lens, found[0] / size[0], found[1] / size[1])

    def sides(self) -> dict[str, str] | None:
        """File name -> split, if the tables say so. Without validation: a tenth of train's."""
        sides = {n: f.split for n, f in self.frames.items() if f.split is not None}
        if not sides:
            return None
        train = [n for n, s in sides.items() if s == "train"]
        if "validation" not in sides.values() and len(train) > 1:
            sides |= dict.fromkeys(train[-max(1, len(train) // 10) :], "validation")
        return sides

    def box(self) -> tuple[np.ndarray, float] | None:
        """Middle and half side of instant-ngp's box, if aabb_scale is told."""
        if self.told.get("aabb_scale") is None:
            return None
        about = Frame(ONE, None, np.eye(4), self.told)
        scale, size = about.number("scale", NGP_SCALE), about.number("aabb_scale")
        try:
            offset = np.broadcast_to(np.asarray(self.told.get("offset", 0.5), float), 3)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"{self.root}: offset: expected three numbers") from None
        if not (scale > 0 and size > 0 and np.isfinite(offset).all()):
            told = f"aabb_scale = {size:g}, scale = {scale:g}, offset = {offset}"
            raise DataError(f"{self.root}: {told}: expected finite numbers > 0")
        return (0.5 - offset) / scale, size / (2 * scale)


def has(root: Path) -> bool:
    """Whether a folder has tables of this kind."""
    return bool(_tables(root))


def _tables(root: Path) -> dict[str, Path]:
    """{split: file} of tables by split, or {"": file} of one for all."""
    found = {s: root / f"transforms_{short}.json" for s, short in SIDES.items()}
    found = {s: file for s, file in found.items() if file.is_file()}
    return found or ({"": root / ONE} if (root / ONE).is_file() else {})


def read(path: str | Path) -> Scene:
    """The photographs of a folder with transforms.json, or transforms_train.json and others.

    Args:
        path: the folder, or one of its tables.

    Raises:
        DataError: no table, or one that is not what it should be.
    """
    root = Path(path).expanduser()
    tables = {"": root} if root.is_file() else _tables(root)
    root = root.parent if root.is_file() else root
    if not tables:
        raise DataError(f"{root}: no {ONE} nor transforms_train.json there")
    frames: dict[str, Frame] = {}
    first = None
    for side, file in tables.items():
        table = read_json(file)
        if not isinstance(table, dict) or not isinstance(table.get("frames"), list):
            raise DataError(f"{file}: a list of frames is needed")
        first = table if first is None else first
        shared = {k: v for k, v in table.items() if k != "frames"}
        for i, row in enumerate(table["frames"]):
            frame = _frame(file, i, row, shared, side)
            if frame.name in frames:
                raise DataError(f"{file}: {frame.name!r:.60} stands twice")
            frames[frame.name] = frame
    if not frames:
        raise DataError(f"{root}: no frames")
    files = Files(root, frames)
    return Scene(root, frames, files, _part(frames, files), first)


def _frame(file: Path, i: int, row: Any, shared: dict, side: str) -> Frame:
    try:
        name = row["file_path"]
        pose = np.eye(4)
        matrix = np.array(row["transform_matrix"], np.float64)
        pose[: len(matrix)] = matrix
        cameras.check_poses(pose, "transform_matrix")
    except (KeyError, TypeError, OverflowError):
        raise DataError(f"{file}: frame {i}: file_path and transform_matrix are needed") from None
    except ValueError as e:
        told = str(e) if str(e).startswith("transform_matrix") else "transform_matrix: not 4 x 4"
        raise DataError(f"{file}: frame {i}: {told}") from None
    if not isinstance(name, str) or not parts(name):
        raise DataError(f"{file}: frame {i}: file_path = {name!r:.60}: expected a name")
    named = {s: shared.get(f"{short}_filenames") for s, short in SIDES.items()}
    lists = {s: names for s, names in named.items() if isinstance(names, list)}
    split = side or next((s for s, names in lists.items() if name in names), None)
    own = {k: v for k, v in row.items() if k != "transform_matrix"}
    return Frame(name, split, pose, shared | own)


def _part(frames: dict[str, Frame], files: Files) -> float:
    """How large the pictures are, in parts of the w and h that the table gives."""
    there, sizes = [], []
    for name, frame in frames.items():
        try:
            size = frame.number("w"), frame.number("h")
            if size[0] and size[1]:
                there.append(files[name])
                sizes.append(size)
        except DataError:
            continue
    return places.share_left(there, sizes)
