"""Photographs whose cameras COLMAP found: Phototourism as it is handed out, or your own folder.

Needs pycolmap (the extra `sfm`), and only here. A photograph is looked up by its image's id; that
of its camera is another number, and may be shared.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from learnit_utils.signals import _names, _sparse, landmarks, nerf, places
from learnit_utils.signals.base import (
    DataError,
    check_request,
    left_out,
    picture_files,
    read_picture,
    tell,
)
from learnit_utils.signals.places import FLIP, SCALE, Photographs, View

# Where focal lengths and the middle stand among a camera's parameters; all others distort.
MODELS = {
    "SIMPLE_PINHOLE": (0, 0, 1, 2),
    "PINHOLE": (0, 1, 2, 3),
    "SIMPLE_RADIAL": (0, 0, 1, 2),
    "RADIAL": (0, 0, 1, 2),
    "OPENCV": (0, 1, 2, 3),
    "FULL_OPENCV": (0, 1, 2, 3),
}
FEATURES = (".jpg", ".jpeg", ".png")  # of pictures that cameras are found for
CENTRED = 0.75  # nine tenths of the points lie within this of the origin, if the scale is found
BEHIND = 0.1  # at most this part of the points that a photograph sees may lie behind its camera


def _intrinsics(camera, name: str) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) of a camera without distortion."""
    model, values = camera.model.name, np.asarray(camera.params, np.float64)
    ask = "undistort=True takes it out, and so does COLMAP's image_undistorter"
    if model not in MODELS:
        raise DataError(f"{name}: {model} is no pinhole camera; {ask}")
    where = MODELS[model]
    distortion = np.delete(values, sorted(set(where)))
    if np.any(distortion != 0):
        raise DataError(f"{name}: {model} distorts; {ask}")
    return tuple(values[list(where)])


def _check_camera(camera, name: str) -> None:
    values = np.asarray(camera.params, np.float64)
    focal = values[list(camera.focal_length_idxs())]
    sound = (np.abs(values) < places.LARGE).all() and (focal > 0).all()
    if not sound or min(camera.width, camera.height) < 1:
        told = ", ".join(f"{v:g}" for v in values)
        raise DataError(f"{name}: its camera: {told}: expected finite, focal lengths > 0")


def _pose(image) -> np.ndarray:
    """Camera to world (4, 4) in the axes of `cameras`."""
    back = image.cam_from_world().inverse()
    pose = np.eye(4)
    pose[:3] = back.matrix()
    pose[:3, :3] = pose[:3, :3] @ FLIP
    return pose


def _bounds(model, image, name: str) -> tuple[float, float]:
    """Distances along rays to the nearest and farthest points it sees, but for one in a thousand.

    Not depths: a wall that is seen straight ahead is farther in the corners of the picture.
    """
    seen = [p.point3D_id for p in image.points2D if p.has_point3D()]
    if len(seen) < 2:
        raise DataError(f"{name}: sees {len(seen)} points of the scene, too few for its bounds")
    try:
        points = np.array([model.points3D[k].xyz for k in seen])
    except (KeyError, IndexError) as e:
        raise DataError(f"{name}: sees point {e}, which the model does not have") from None
    local = image.cam_from_world() * points
    ahead = local[local[:, 2] > 0]
    if len(ahead) < max(2, (1 - BEHIND) * len(seen)):
        behind = len(seen) - len(ahead)
        raise DataError(f"{name}: {behind} of the {len(seen)} points it sees lie behind its camera")
    with np.errstate(all="ignore"):  # of coordinates that are no numbers; `places.check` finds them
        near, far = np.quantile(np.linalg.norm(ahead, axis=1), [0.001, 0.999])
    return float(0.9 * near), float(1.1 * far)


def _name(image) -> str:
    try:
        return image.name
    except UnicodeDecodeError:
        return f"image {image.image_id}, whose name is not UTF-8"


class _Place:
    """A COLMAP model with the files of its photographs."""

    def __init__(self, root: Path, images: str | None, undistort: bool):
        self.root, self.undistort = root, undistort
        self.found = _sparse.find(root, images)
        self.model = _sparse.read(self.found.model)
        self.images = {_name(im): im for im in self.model.images.values() if im.has_pose}
        self.files = _names.Files(self.found.images, sorted(self.images))
        self.middle, self.scale = np.zeros(3), 1.0
        there, sizes = [], []
        for name in sorted(self.images):
            with contextlib.suppress(DataError):
                there.append(self.files[name])
                sizes.append(self._size(name))
        self.part = places.share_left(there, sizes)
        self.unregistered = len(self.files.all) - len(there)

    def _camera(self, name: str):
        return self.model.cameras[self.images[name].camera_id]

    def _size(self, name: str) -> tuple[int, int]:
        return self._camera(name).width, self._camera(name).height

    def rescale(self, scale: float | None) -> None:
        """Take the scale, or find one and the middle of the points."""
        self.scale = scale
        if scale is None:
            points = np.array([p.xyz for p in self.model.points3D.values()])
            if len(points) < 10:
                raise DataError(f"{self.root}: {len(points)} points of the scene, too few")
            with np.errstate(all="ignore"):
                self.middle = np.median(points, axis=0)
                away = np.linalg.norm(points - self.middle, axis=1)
                self.scale = CENTRED / np.quantile(away, 0.9)
            if not (np.isfinite(self.middle).all() and 0 < self.scale < np.inf):
                raise DataError(f"{self.root}: points of the scene without a middle or an extent")

    def look(self, name: str) -> tuple:
        """File, size, pose and bounds of a photograph: what is seen without reading it."""
        image, camera = self.images[name], self._camera(name)
        _check_camera(camera, name)
        if not self.undistort:
            _intrinsics(camera, name)
        pose, bounds = _pose(image), _bounds(self.model, image, name)
        file = self.files[name]
        size = places.check_size(file, self._size(name), self.part)
        pose[:3, 3] = (pose[:3, 3] - self.middle) * self.scale
        bounds = tuple(b * self.scale for b in bounds)
        places.check(pose, bounds, name)
        return file, size, pose, bounds

    def read(self, name: str, seen: tuple, most: int) -> tuple:
        """(picture, intrinsics, pose, bounds) of a photograph."""
        file, (wide, high), pose, bounds = seen
        picture, camera = read_picture(file, str(file), upright=False), self._camera(name)
        if self.undistort and not _is_pinhole(camera):
            plain = np.round(255 * picture).astype(np.uint8)
            plain, intrinsics = _sparse.undistorted(plain, camera.todict(), name)
            picture = plain.astype(np.float32) / 255
        else:
            sx, sy = wide / camera.width, high / camera.height
            intrinsics = places.scaled(_intrinsics(camera, name), sx, sy)
        return *places.smaller(picture, intrinsics, most), pose, bounds

    def about(self) -> dict[str, Any]:
        """What the provenance says of the model."""
        found, root = self.found, self.root
        model = "." if found.model == root else found.model.relative_to(root).as_posix()
        if found.others:
            model += f", the largest of {len(found.others) + 1}: {len(self.images)} photographs"
        about = dict(model=model, others=found.others, images=found.images.name, scale=self.scale)
        bent = sum(self.undistort and not _is_pinhole(self._camera(n)) for n in self.images)
        return about | (dict(undistorted=bent) if bent else {})


def _is_pinhole(camera) -> bool:
    try:
        _intrinsics(camera, "")
    except DataError:
        return False
    return True


def load(
    path: str | Path,
    split: str = "train",
    *,
    size: int = 128,
    scale: float | None = SCALE,
    limit: int | None = None,
    images: str | None = None,
    undistort: bool = False,
    on_error: str = "raise",
) -> Photographs:
    """A COLMAP model and its photographs.

    An undistorted model (dense/, dense/0) comes before one of the mapper (sparse/0, sparse/1, or
    the folder itself), of several the largest; provenance["model"] says which. Pictures are read as
    they are stored, since poses belong to them so. Photographs that COLMAP could not place are left
    out; provenance["unregistered"] says how many. Bounds are distances along rays.

    Args:
        path: the folder.
        split: see `places.of_split`; of NeRF-W's table (.tsv) if there is one.
        size: pixels of the longer side, at most; averaged down.
        scale: of positions and bounds; None finds one and moves the middle of the points to the
            origin.
        limit: at most so many, spread over the split.
        images: the folder of photographs, for example "images_4"; where they all are smaller than
            their cameras, the lenses are scaled.
        undistort: take the distortion of lenses out.
        on_error: "raise" stops at the first photograph that cannot be used; "skip" leaves it out
            and notes it in provenance["skipped"].

    Raises:
        DataError: no reconstruction, or one that is broken; an image that is missing, distorted, of
            another size than its camera, or that sees no points.
    """
    check_request(split, size)
    root = Path(path).expanduser()
    place = _Place(root, images, undistort)
    place.rescale(scale)
    about = dict(source=f"COLMAP model {root.name}", licence="of the photographs")
    about |= dict(unregistered=place.unregistered) | place.about()
    return places.collected(
        root,
        sorted(place.images),
        places.Asked(split, limit, on_error),
        place.look,
        lambda name, seen: place.read(name, seen, size),
        places.lists(root),
        **about,
    )


def load_collection(
    path: str | Path,
    split: str = "train",
    *,
    landmark: str = "",
    part: str = "photographs",
    on_error: str | None = None,
    undistort: bool | None = None,
    **options,
) -> Photographs:
    """Photographs of a folder: by learnit's arrays, by COLMAP's model, or by a transforms.json.

    The first of these that it has; arrays and models tell where the scene begins and ends.

    Args:
        path: the folder.
        split: as in `load`.
        landmark: ignored; a folder has one place.
        part: "photographs"; or "others", which real light does not have: then every photograph
            stands for itself, with the axis that others have.
        on_error: as in `load`; unless given, what cannot be used is left out with a warning.
        undistort: as in `load`; unless given, distortion is taken out with a warning.
        options: as in `load`, `landmarks.arrays` and `nerf.place`.

    Raises:
        DataError: another part, or as the readers.
    """
    del landmark
    if part not in landmarks.PARTS:
        raise DataError(f"part = {part!r:.60}: expected one of {', '.join(landmarks.PARTS)}")
    root, options = Path(path).expanduser(), options | dict(on_error=on_error or "skip")
    lens = dict(undistort=undistort is None or undistort)
    if (root / "bds.npy").exists():
        data = landmarks.arrays(path, split, **options)
    elif nerf.has(root) and not _sparse.exists(root):
        data = nerf.place(path, split, **lens | options)
    else:
        data = load(path, split, **dict(scale=None) | lens | options)
    about = data.provenance
    if on_error is None:
        _warn(root, about)
    if undistort is None and about.get("undistorted"):
        tell(f"{root}: distortion taken out of {about['undistorted']} photographs")
    if part == "others":
        source = f"{data.provenance['source']}, each for itself"
        views = View(*(leaf[:, None] for leaf in data.views))
        data = data._replace(views=views, provenance=data.provenance | dict(source=source))
    return data


def _warn(root: Path, about: dict[str, Any]) -> None:
    """Say what was left out, and which of several models was taken, where nobody asked for it."""
    if about["skipped"]:
        tell(left_out(root, about["skipped"]))
    if about.get("others"):
        tell(f"{root}: model {about['model']}")


def reconstruct(photographs: str | Path, out: str | Path) -> Path:
    """Find the cameras of a folder of photographs with COLMAP, and undistort them.

    Args:
        photographs: .jpg or .png of one place, from many sides; hidden ones are passed over.
        out: folder of the result; `load(out)` reads it.

    Returns:
        out. Photographs that do not fit to most are left out, with a warning.

    Raises:
        DataError: fewer than three photographs, an `out` that exists, or no two that fit together.
    """
    colmap, source, out = _sparse.pycolmap(), Path(photographs).expanduser(), Path(out).expanduser()
    found = [p for p in picture_files(source) if p.suffix.lower() in FEATURES]
    if len(found) < 3:
        raise DataError(f"{source}: {len(found)} photographs (.jpg or .png), at least 3 are needed")
    if out.exists():
        raise DataError(f"{out}: exists already")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        data = part / "database.db"
        names = [p.relative_to(source).as_posix() for p in found]  # thumbnails are none
        colmap.extract_features(data, source, image_names=names)
        colmap.match_exhaustive(data)
        models = colmap.incremental_mapping(data, source, part / "models")
        if not models:
            raise DataError(f"{source}: COLMAP found no two photographs that fit together")
        largest = max(models, key=lambda k: models[k].num_reg_images())
        colmap.undistort_images(part / "dense", part / "models" / str(largest), source)
        part.rename(out)
        _tell(source, len(found), [m.num_reg_images() for m in models.values()])
    except RuntimeError as e:
        raise DataError(f"{source}: {str(e).splitlines()[0]}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def _tell(source: Path, count: int, models: list[int]) -> None:
    """Say so if photographs are left out of the largest model."""
    if (most := max(models)) < count:
        several = f", the largest of {len(models)} models" if len(models) > 1 else ""
        tell(f"{source}: cameras of {most} of {count} photographs found{several}")
