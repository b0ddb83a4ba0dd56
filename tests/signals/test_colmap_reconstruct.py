"""Cameras found by COLMAP in a folder of photographs, against those that took them."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from learnit_utils.forward import cameras
from learnit_utils.signals import colmap

pycolmap = pytest.importorskip("pycolmap", reason="the extra sfm")
WIDE, HIGH, FOCAL, COUNT = 400, 300, 380.0, 8


def paper(rng):
    """A sheet full of blobs of all sizes, (512, 512, 3) in [0, 1]."""
    sheets = [gaussian_filter(rng.normal(size=(512, 512, 3)), (s, s, 0)) * s for s in (1.5, 4, 10)]
    sheet = sum(sheets)
    return np.clip(0.5 + 0.25 * sheet / sheet.std(), 0, 1)


def corner(pose, papers):
    """A photograph of three papered walls that meet in a corner: x = -1, y = 1 and z = -1."""
    row, column = np.mgrid[0.5:HIGH, 0.5:WIDE].astype(np.float32)
    rays = cameras.pixels_to_rays(pose, (FOCAL, FOCAL, WIDE / 2, HIGH / 2), row, column)
    origin, direction = np.asarray(rays.origin), np.asarray(rays.direction)
    nearest, shown = np.full((HIGH, WIDE), np.inf), np.zeros((HIGH, WIDE, 3))
    for axis, at in enumerate((-1.0, 1.0, -1.0)):
        far = (at - origin[..., axis]) / direction[..., axis]
        far = np.where(far > 0, far, np.inf)
        place = np.delete(origin + np.minimum(far, 99)[..., None] * direction, axis, axis=-1)
        where = np.moveaxis((place + 2) * 128, -1, 0)
        colour = [
            map_coordinates(papers[axis][..., c], where, order=1, mode="wrap") for c in range(3)
        ]
        nearer = far < nearest
        shown[nearer] = np.stack(colour, -1)[nearer]
        nearest = np.minimum(far, nearest)
    return Image.fromarray(np.uint8(255 * shown))


def similarity(source, target):
    """Source points (n, 3) moved, turned and scaled to lie as near to target as they can."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, v = np.linalg.svd(b.T @ a)
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ v))])
    turn = u @ flip @ v
    return (s * np.diag(flip)).sum() / (a**2).sum() * a @ turn.T + target.mean(0)


@pytest.mark.slow
def test_a_folder_of_photographs_ends_with_the_cameras_that_took_it(tmp_path):
    rng = np.random.default_rng(0)
    papers, folder = [paper(rng) for _ in range(3)], tmp_path / "photos"
    folder.mkdir()
    poses = {}
    for k in range(COUNT):
        azimuth, elevation = -0.8 + 0.35 * np.sin(k * 2.4), 0.3 + 0.3 * k / COUNT
        pose = cameras.orbit(azimuth, elevation, 2.4 + 0.1 * (k % 3))
        poses[f"{k}.png"] = np.asarray(pose, np.float64)
        corner(pose, papers).save(folder / f"{k}.png")
    for name in ("._0.png", "@eaDir/0.png", ".thumbs/1.png"):  # no photographs
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((folder / "0.png").read_bytes())
    out = colmap.reconstruct(folder, tmp_path / "place")
    assert not (tmp_path / "place.part").exists()
    found = colmap.load(out, "all")
    assert sorted(found.names) == sorted(poses)
    true = np.array([poses[n] for n in found.names])
    centres = similarity(found.views.pose[:, :3, 3].astype(np.float64), true[:, :3, 3])
    assert np.abs(centres - true[:, :3, 3]).max() < 0.02  # of 2.4 to 2.6 to the corner
    # And they look the same way, told apart from one another.
    for i in range(1, COUNT):
        ours, theirs = (p[0, :3, :3].T @ p[i, :3, :3] for p in (found.views.pose, true))
        assert np.arccos(np.clip((np.trace(ours.T @ theirs) - 1) / 2, -1, 1)) < np.deg2rad(0.5)
