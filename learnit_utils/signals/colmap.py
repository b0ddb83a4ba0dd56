"""Photographs whose cameras COLMAP found: Phototourism as it is handed out, or your own folder.

Needs pycolmap (the extra `sfm`), and only here. A photograph is looked up by its image's id; that
of its camera is another number, and may be shared.
"""

import shutil
from pathlib import Path

import numpy as np

from learnit_utils.signals import landmarks
from learnit_utils.signals.base import DataError, check_request, read_picture, spread
from learnit_utils.signals.landmarks import FLIP, SCALE, Photographs, View

# Where focal lengths and the middle stand among a camera's parameters; all others distort.
MODELS = {
    "SIMPLE_PINHOLE": (0, 0, 1, 2),
    "PINHOLE": (0, 1, 2, 3),
    "SIMPLE_RADIAL": (0, 0, 1, 2),
    "RADIAL": (0, 0, 1, 2),
    "OPENCV": (0, 1, 2, 3),
}
CENTRED = 0.75  # nine tenths of the points lie within this of the origin, if the scale is found
SPARSE = ("dense/sparse", "sparse/0", "sparse", ".")
IMAGES = ("dense/images", "images", ".")


def _pycolmap():
    try:
        import pycolmap
    except ImportError:
        raise DataError("pycolmap is missing: pip install 'learnit-utils[sfm]'") from None
    return pycolmap


def _files(folder: Path) -> list[Path]:
    """Photographs in a folder, also below it."""
    return [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]


def _model(root: Path):
    """The reconstruction in a folder."""
    for place in SPARSE:
        folder = root / place
        if any((folder / f"images{end}").is_file() for end in (".bin", ".txt")):
            try:
                return _pycolmap().Reconstruction(str(folder))
            except (ValueError, RuntimeError, IndexError) as e:
                raise DataError(f"{folder}: {str(e).splitlines()[0]}") from None
    raise DataError(f"{root}: no reconstruction there (images.bin in {', '.join(SPARSE)})")


def _intrinsics(camera, name: str):
    """(fx, fy, cx, cy) of a camera without distortion."""
    model, values = camera.model.name, np.asarray(camera.params, np.float64)
    if model not in MODELS:
        raise DataError(f"{name}: camera model {model}, one of {', '.join(MODELS)} is needed")
    where = MODELS[model]
    distortion = np.delete(values, sorted(set(where)))
    if np.any(distortion != 0):
        raise DataError(
            f"{name}: {model} distorts; undistort first (signals.colmap.reconstruct does)"
        )
    return tuple(values[list(where)])


def _pose(image) -> np.ndarray:
    """Camera to world (4, 4) in the axes of `cameras`."""
    back = image.cam_from_world().inverse()
    pose = np.eye(4)
    pose[:3] = back.matrix()
    pose[:3, :3] = pose[:3, :3] @ FLIP
    return pose


def _bounds(model, image, name: str) -> tuple[float, float]:
    """Distances ahead of the nearest and farthest points it sees, but for one in a thousand."""
    seen = [p.point3D_id for p in image.points2D if p.has_point3D()]
    if len(seen) < 2:
        raise DataError(f"{name}: sees {len(seen)} points of the scene, too few for its bounds")
    points = np.array([model.points3D[k].xyz for k in seen])
    ahead = (image.cam_from_world() * points)[:, 2]
    near, far = np.quantile(ahead, [0.001, 0.999])
    return float(0.9 * near), float(1.1 * far)


def load(
    path: str | Path,
    split: str = "train",
    *,
    size: int = 128,
    scale: float | None = SCALE,
    limit: int | None = None,
) -> Photographs:
    """A COLMAP model and its photographs, from `dense/`, `sparse/0` or the folder itself.

    Photographs that COLMAP could not place are left out; provenance says how many.

    Args:
        path: the folder.
        split: of NeRF-W's table (.tsv) if there is one; else learnit's, 0-19 test, 20-24
            validation, the rest to train, by name.
        size: pixels of the longer side, at most; averaged down.
        scale: of positions and bounds; None finds one and moves the middle of the points to the
            origin.
        limit: at most so many, spread over the split.

    Raises:
        DataError: no reconstruction, an image that is missing, distorted, of another size than
            its camera, or that sees no points.
    """
    check_request(split, size)
    root = Path(path).expanduser()
    model = _model(root)
    images = next((root / p for p in IMAGES if (root / p).is_dir()), root)
    by_name = {im.name: im for im in model.images.values() if im.has_pose}
    names = sorted(by_name)
    lost = sum(p.relative_to(images).as_posix() not in by_name for p in _files(images))
    chosen = landmarks.of_split(names, split, landmarks.lists(root))
    if not chosen:
        raise DataError(f"{root}: no photographs in split {split!r} ({len(names)} in all)")
    chosen = [chosen[i] for i in spread(len(chosen), limit)]
    middle = np.zeros(3)
    if scale is None:
        points = np.array([p.xyz for p in model.points3D.values()])
        if len(points) < 10:
            raise DataError(f"{root}: {len(points)} points of the scene, too few for a scale")
        middle = np.median(points, axis=0)
        scale = CENTRED / np.quantile(np.linalg.norm(points - middle, axis=1), 0.9)
    parts = []
    for name in chosen:
        image, file = by_name[name], images / name
        camera = model.cameras[image.camera_id]
        pose, bounds = _pose(image), _bounds(model, image, name)
        intrinsics = _intrinsics(camera, name)
        if not file.resolve().is_relative_to(images.resolve()):
            raise DataError(f"{root}: {name!r:.60} leads out of its folder")
        if not file.is_file():
            raise DataError(f"{file}: missing")
        picture = read_picture(file)
        if picture.shape[:2] != (camera.height, camera.width):
            have = f"{picture.shape[1]} x {picture.shape[0]} pixels"
            raise DataError(f"{file}: {have}, its camera {camera.width} x {camera.height}")
        pose[:3, 3] = (pose[:3, 3] - middle) * scale
        bounds = tuple(b * scale for b in bounds)
        landmarks.check(pose, bounds, name)
        picture, intrinsics = landmarks.smaller(picture, intrinsics, size)
        parts.append((picture, intrinsics, pose, bounds))
    about = dict(source=f"COLMAP model {root.name}", licence="of the photographs", split=split)
    about |= dict(unregistered=lost)
    return landmarks.gathered(parts, chosen, **about)


def load_collection(
    path: str | Path,
    split: str = "train",
    *,
    landmark: str = "",
    part: str = "photographs",
    **options,
) -> Photographs:
    """Photographs of a folder, by learnit's arrays if it has them, else by COLMAP's model.

    Args:
        landmark: ignored; a folder has one place.
        part: "photographs"; or "others", which real light does not have: then every photograph
            stands for itself, with the axis that others have.
        options: as in `load` and `landmarks.arrays`.

    Raises:
        DataError: another part, or as `load` and `landmarks.arrays`.
    """
    del landmark
    if part not in landmarks.PARTS:
        raise DataError(f"part = {part!r:.60}: expected one of {', '.join(landmarks.PARTS)}")
    if (Path(path).expanduser() / "bds.npy").exists():
        data = landmarks.arrays(path, split, **options)
    else:
        data = load(path, split, **dict(scale=None) | options)
    if part == "others":
        data = data._replace(views=View(*(leaf[:, None] for leaf in data.views)))
    return data


def reconstruct(photographs: str | Path, out: str | Path) -> Path:
    """Find the cameras of a folder of photographs with COLMAP, and undistort them.

    Args:
        photographs: .jpg or .png of one place, from many sides.
        out: folder of the result; `load(out)` reads it.

    Returns:
        out.

    Raises:
        DataError: fewer than three photographs, an `out` that exists, or no two that fit together.
    """
    colmap, source, out = _pycolmap(), Path(photographs).expanduser(), Path(out).expanduser()
    found = _files(source)
    if len(found) < 3:
        raise DataError(f"{source}: {len(found)} photographs (.jpg or .png), at least 3 are needed")
    if out.exists():
        raise DataError(f"{out}: exists already")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        data = part / "database.db"
        colmap.extract_features(data, source)
        colmap.match_exhaustive(data)
        models = colmap.incremental_mapping(data, source, part / "models")
        if not models:
            raise DataError(f"{source}: COLMAP found no two photographs that fit together")
        largest = max(models, key=lambda k: models[k].num_reg_images())
        colmap.undistort_images(part / "dense", part / "models" / str(largest), source)
        part.rename(out)
    except RuntimeError as e:
        raise DataError(f"{source}: {str(e).splitlines()[0]}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out
