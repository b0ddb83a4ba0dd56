"""Photographs of places with COLMAP's models; `test_landmarks` has what needs no pycolmap."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image
from synthetic_place import build

from learnit_utils.experiments import registry, run
from learnit_utils.signals import colmap, landmarks
from learnit_utils.signals.base import DataError

pycolmap = pytest.importorskip("pycolmap", reason="the extra sfm")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A reconstruction with known poses, its photographs, and the same as learnit's arrays."""
    root = tmp_path_factory.mktemp("place")
    return build(root), root


@pytest.mark.parametrize("split", ["train", "validation", "test", "all"])
def test_both_readers_agree(scene, split):
    _made, root = scene
    one = colmap.load(root, split)
    two = landmarks.arrays(root, split, images="dense/images")
    assert one.names == two.names
    assert len(one.names) == dict(train=21, validation=3, test=6, all=30)[split]
    for a, b in zip(one.views[:-1], two.views[:-1]):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    # Bounds: of distances here, of depths there, with the notebook's factors and for the corner.
    assert (two.views.bounds[:, 0] < one.views.bounds[:, 0]).all()
    assert (two.views.bounds[:, 1] > one.views.bounds[:, 1]).all()
    assert not np.allclose(one.views.pose[0], one.views.pose[1])


def test_points_land_where_colmap_saw_them(scene):
    made, root = scene
    data = colmap.load(root, "all", scale=1.0)
    by_name = {im.name: im for im in made.images.values()}
    for i, name in enumerate(data.names):
        (fx, fy, cx, cy), pose = data.views.intrinsics[i], data.views.pose[i].astype(float)
        seen = [p for p in by_name[name].points2D if p.has_point3D()]
        points = np.array([made.points3D[p.point3D_id].xyz for p in seen])
        x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
        at = np.stack([cx + fx * x / -z, cy - fy * y / -z], -1)
        np.testing.assert_allclose(at, [p.xy for p in seen], atol=0.02)


def test_a_scale_is_found(scene):
    made, root = scene
    data = colmap.load(root, "all", scale=None)
    points = np.array([p.xyz for p in made.points3D.values()])
    middle = np.median(points, axis=0)
    scale = 0.75 / np.quantile(np.linalg.norm(points - middle, axis=1), 0.9)
    plain = colmap.load(root, "all", scale=1.0)
    moved = (plain.views.pose[:, :3, 3] - middle) * scale
    np.testing.assert_allclose(data.views.pose[:, :3, 3], moved, atol=1e-5)
    np.testing.assert_allclose(data.views.bounds, plain.views.bounds * scale, rtol=1e-5)


def test_a_table_of_splits_is_followed(scene):
    _, root = scene
    names = [p.name for p in sorted((root / "dense/images").iterdir())]
    rows = [f"{n}\t{i}\t{'test' if i % 10 == 3 else 'train'}\tplace" for i, n in enumerate(names)]
    table = root / "place.tsv"
    table.write_text("\n".join(["filename\tid\tsplit\tdataset", *rows]) + "\n")
    try:
        for read in (colmap.load, lambda *a: landmarks.arrays(*a, images="dense/images")):
            assert read(root, "test").names == tuple(names[3::10])
            train, held = read(root, "train").names, read(root, "validation").names
            assert len(held) == 5
            assert not set(held) & set(train)
            assert len(train) + 5 + 3 == 30
    finally:
        table.unlink()


@pytest.mark.parametrize(
    ("model", "params", "says"),
    [
        ("SIMPLE_RADIAL", (90.0, 32.0, 24.0, 0.05), "SIMPLE_RADIAL distorts; undistort=True"),
        ("OPENCV", (90.0, 90.0, 32.0, 24.0, 0.0, 0.01, 0, 0), "OPENCV distorts; undistort=True"),
        (
            "OPENCV_FISHEYE",
            (90.0, 90.0, 32.0, 24.0, 0, 0, 0, 0),
            "OPENCV_FISHEYE is no pinhole camera; undistort=True",
        ),
    ],
)
def test_distortion_is_refused(tmp_path, model, params, says):
    build(tmp_path, model, params, images=4)
    with pytest.raises(DataError, match=re.escape(says)):
        colmap.load(tmp_path, "all")


def test_undistorted_ones_are_read(tmp_path):
    build(tmp_path, "SIMPLE_RADIAL", (90.0, 32.0, 24.0, 0.0), images=4)
    assert colmap.load(tmp_path, "all").views.intrinsics[0].tolist() == [90, 90, 32, 24]


def test_a_shared_camera_is_not_an_image(tmp_path):
    """Images are looked up by their own id: two cameras, thirty images."""
    made = build(tmp_path)
    assert len(made.cameras) == 2
    data = colmap.load(tmp_path, "all")
    by_name = {im.name: im for im in made.images.values()}
    centres = [by_name[n].projection_center() for n in data.names]
    at = data.views.pose[:, :3, 3]
    np.testing.assert_allclose(at, landmarks.SCALE * np.array(centres), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("arrays", [True, False])
def test_an_init_is_learned_from_a_folder(tmp_path, arrays):
    """Without other views in their light, photographs are judged by themselves."""
    build(tmp_path)
    if not arrays:
        (tmp_path / "bds.npy").unlink()
    else:
        (tmp_path / "dense/images").rename(tmp_path / "images")
    net = dict(kind="posenc", width=8, depth=3, frequencies=2, channels=4, dims=3, offset=0.0)
    small = dict(size=16, rays=8, samples=4, inner_steps=2, field=net, folder=str(tmp_path))
    recipe = dataclasses.replace(registry.RECIPES["gate_reptile64"], **small)
    setup = run.build(recipe)
    assert setup.data.train.count == 21
    held = setup.data.test.each
    np.testing.assert_array_equal(held.query.pixels[:, 0], held.support.pixels)
    few = setup.data.validation.take(slice(0, 2))
    assert np.isfinite(run.score(setup, recipe, setup.init, few))
    with pytest.raises(DataError, match="part = 'depth'"):
        recipe.load("test", part="depth")


def test_broken_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="no reconstruction there"):
        colmap.load(tmp_path)
    made = build(tmp_path, images=26)
    first = sorted((tmp_path / "dense/images").iterdir())[0]
    picture = Image.open(first).copy()
    picture.resize((32, 24)).save(first)
    with pytest.raises(DataError, match="32 x 24 pixels, its camera 64 x 48"):
        colmap.load(tmp_path, "test")
    with pytest.raises(DataError, match="32 x 24 pixels, its camera 64 x 48"):
        landmarks.arrays(tmp_path, "test", images="dense/images")
    first.unlink()
    with pytest.raises(DataError, match=re.escape(f"{first}: missing")):
        colmap.load(tmp_path, "test")
    with pytest.raises(DataError, match="for 25 photographs"):
        landmarks.arrays(tmp_path, images="dense/images")
    assert len(made.images) == 26


def test_an_image_without_a_pose_is_left_out_and_counted(tmp_path):
    made = build(tmp_path, images=6)
    image = next(iter(made.images.values()))
    made.deregister_frame(image.frame_id)
    made.write(str(tmp_path / "dense/sparse"))
    data = colmap.load(tmp_path, "all")
    assert image.name not in data.names
    assert len(data.names) == 5
    assert data.provenance["unregistered"] == 1


def test_reconstruction_asks_for_photographs(tmp_path):
    with pytest.raises(DataError, match="0 photographs"):
        colmap.reconstruct(tmp_path, tmp_path / "out")
    for k in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{k}.png")
    with pytest.raises(DataError, match="exists already"):
        colmap.reconstruct(tmp_path, tmp_path)
    with pytest.raises(DataError):
        colmap.reconstruct(tmp_path, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
