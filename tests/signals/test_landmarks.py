"""Photographs of places: those that ship, learnit's arrays, COLMAP's models."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

from learnit_utils import cameras, recipes
from learnit_utils.signals import colmap, landmarks
from learnit_utils.signals.base import DataError

NAMES = landmarks.LANDMARKS


# --- what ships --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMES)
def test_light_is_split_and_others_share_it(name):
    photos = landmarks.table(name)["photos"]
    by_split = {s: landmarks.load(s, landmark=name) for s in ("train", "validation", "test")}
    sets = {s: set(d.names) for s, d in by_split.items()}
    assert not sets["train"] & sets["test"]
    assert not sets["train"] & sets["validation"]
    assert len(sets["test"]) >= 10
    assert len(sets["train"]) >= 80
    for split in ("validation", "test"):
        others = landmarks.load(split, landmark=name, part="others")
        assert others.names == by_split[split].names
        assert others.pixels.shape[:2] == (len(others.names), others.poses.shape[1])
        for i, n in enumerate(others.names):
            assert sum(p.get("light_of") == n for p in photos.values()) == others.poses.shape[1]
            assert not any((pose == by_split[split].poses[i]).all() for pose in others.poses[i])
    weathers = {p["weather"] for p in photos.values()}
    assert weathers == {"clear", "overcast", "sunset", "night"}
    assert any(p.get("passers_by") for p in photos.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_model_in_the_scenes_is_credited(name):
    rows = landmarks.credits(name)
    assert rows
    assert all(r["author"] and re.match("CC0|CC-BY", r["licence"]) for r in rows)


@pytest.mark.parametrize("name", NAMES)
def test_vertices_of_the_landmark_hit_their_pixels_in_every_photograph(name):
    """The renderer noted, without projecting, in which pixel each vertex was seen."""
    told = landmarks.table(name)
    corners, seen = np.array(told["corners"]), 0
    for split in ("train", "validation", "test"):
        groups = [landmarks.load(split, landmark=name)]
        if split != "train":
            more = landmarks.load(split, landmark=name, part="others")
            groups += [_nth(more, told["photos"], k) for k in range(more.poses.shape[1])]
        for data in groups:
            for label, lens, pose in zip(data.names, data.lenses, data.poses.astype(float)):
                sighted = told["photos"][label]["sighted"]
                which, row, column = np.array(sighted).reshape(-1, 3).T
                x, y, z = ((corners[which] - pose[:3, 3]) @ pose[:3, :3]).T
                off = np.stack(
                    [
                        lens[3] - lens[1] * y / -z - row - 0.5,
                        lens[2] + lens[0] * x / -z - column - 0.5,
                    ]
                )
                assert (z < 0).all(), label
                assert np.abs(off).max(initial=0) < 1, label
                seen += len(which)
    assert seen > 500


def _nth(others, photos, k):
    """The k-th other view of every light, under its own name."""
    of = {n: [o for o, p in photos.items() if p.get("light_of") == n] for n in others.names}
    fields = {f: getattr(others, f)[:, k] for f in others._fields[:5]}
    return others._replace(**fields, names=tuple(of[n][k] for n in others.names))


@pytest.mark.parametrize("name", NAMES)
def test_distances_are_those_of_the_vertices(name):
    """A vertex that is seen is as far as one of the few distances told around its pixel.

    Not every one: those of a statue may fall between the pixels of the grid.
    """
    told, off = landmarks.table(name), []
    corners = np.array(told["corners"])
    for label, photo in told["photos"].items():
        if photo["split"] == "train":
            continue
        places, distance = landmarks.depth(name, label)
        assert (distance > 0).all()
        assert np.isfinite(distance).mean() > 0.2
        for which, row, column in photo["sighted"]:
            near = np.abs(places - [row, column]).max(axis=1) <= told["every"]
            away = np.linalg.norm(corners[which] - np.array(photo["pose"])[:, 3])
            off.append(np.abs(away - distance[near]).min())
    assert len(off) > 100
    assert np.quantile(off, 0.75) < 0.03  # 60 cm


@pytest.mark.parametrize("name", NAMES)
def test_bounds_hold_the_landmark(name):
    data, told, inside = landmarks.load("train", landmark=name), landmarks.table(name), []
    corners = np.array(told["corners"])
    for label, pose, (near, far) in zip(data.names, data.poses, data.bounds):
        which = [k for k, _, _ in told["photos"][label]["sighted"]]
        away = np.linalg.norm(corners[which] - pose[:3, 3], axis=1)
        assert 0 < near < away.min(initial=far)
        inside += list(away < far)
    assert np.mean(inside) > 0.95  # the farthest fiftieth of a picture may lie behind


def test_the_same_request_gives_the_same_data_and_smaller_pictures_are_means():
    one, two = (landmarks.load("test", landmark="gate") for _ in range(2))
    assert one.provenance["data_sha256"] == two.provenance["data_sha256"]
    small = landmarks.load("test", landmark="gate", size=30)
    assert small.sizes.max() <= 30
    for i in range(len(one.names)):
        a, b = one.picture(i).mean((0, 1)), small.picture(i).mean((0, 1))
        np.testing.assert_allclose(a, b, atol=2.5)
        part = small.sizes[i] / one.sizes[i]
        np.testing.assert_allclose(small.lenses[i, [1, 0]], one.lenses[i, [1, 0]] * part, rtol=1e-5)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (dict(landmark="tower"), "landmark = 'tower': one of gate, fountain, basilica"),
        (dict(split="dev"), "split = 'dev'"),
        (dict(part="depth"), "part = 'depth': one of photographs, others"),
        (dict(part="others"), "photographs to train on have no other views"),
        (dict(limit=0), "limit = 0"),
        (dict(size=0), "size = 0"),
    ],
)
def test_requests_that_cannot_be_met_are_named(request_, says):
    with pytest.raises(DataError, match=re.escape(says)):
        landmarks.load(**request_)


def test_no_distances_of_training_photographs():
    with pytest.raises(DataError, match="no distances of this photograph"):
        landmarks.depth("gate", "train_000")


# --- folders -----------------------------------------------------------------------------------
pycolmap = pytest.importorskip("pycolmap", reason="the extra sfm")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A reconstruction with known poses, its photographs, and the same as learnit's arrays."""
    root = tmp_path_factory.mktemp("place")
    return build(root), root


def build(root, model="PINHOLE", params=(90.0, 95.0, 33.0, 23.0), images=30):
    """COLMAP's model below dense/, learnit's arrays beside it, computed from the same poses."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 1, images // 2
    options.camera_width, options.camera_height = 64, 48
    options.camera_model_id = getattr(pycolmap.CameraModelId, model)
    options.camera_params = list(params)
    pycolmap.set_random_seed(0)
    made = pycolmap.synthesize_dataset(options)
    (root / "dense/sparse").mkdir(parents=True)
    (root / "dense/images").mkdir()
    made.write(str(root / "dense/sparse"))
    rng = np.random.default_rng(0)
    told = {k: [] for k in landmarks.ARRAYS}
    for im in sorted(made.images.values(), key=lambda i: i.name):
        picture = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
        Image.fromarray(picture).save(root / "dense/images" / im.name)
        world = np.eye(4)
        world[:3] = im.cam_from_world().matrix()
        camera = made.cameras[im.camera_id]
        seen = [made.points3D[p.point3D_id].xyz for p in im.points2D if p.has_point3D()]
        ahead = np.array([(world @ [*x, 1])[2] for x in seen])
        lens = np.array(camera.calibration_matrix())
        told["kinv_mats"].append(np.linalg.inv(lens))
        told["c2w_mats"].append(np.linalg.inv(world)[:3])
        told["res_mats"].append([64, 48])
        told["bds"].append([0.9 * np.quantile(ahead, 0.001), 1.1 * np.quantile(ahead, 0.999)])
    for name, values in told.items():
        np.save(root / f"{name}.npy", np.array(values))
    return made


@pytest.mark.parametrize("split", ["train", "validation", "test", "all"])
def test_both_readers_agree(scene, split):
    _made, root = scene
    one = colmap.load(root, split)
    two = landmarks.arrays(root, split, images="dense/images")
    assert one.names == two.names
    assert len(one.names) == dict(train=5, validation=5, test=20, all=30)[split]
    for a, b in zip(one[:5], two[:5]):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert not np.allclose(one.poses[0], one.poses[1])


def test_points_land_where_colmap_saw_them(scene):
    made, root = scene
    data = colmap.load(root, "all", scale=1.0)
    by_name = {im.name: im for im in made.images.values()}
    for name, lens, pose in zip(data.names, data.lenses, data.poses.astype(float)):
        seen = [p for p in by_name[name].points2D if p.has_point3D()]
        points = np.array([made.points3D[p.point3D_id].xyz for p in seen])
        x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
        at = np.stack([lens[2] + lens[0] * x / -z, lens[3] - lens[1] * y / -z], -1)
        np.testing.assert_allclose(at, [p.xy for p in seen], atol=0.02)


def test_rays_of_learnits_notebook_are_ours(scene):
    """Its rays: R kinv (x, y, 1); ours through the same place of the picture."""
    _, root = scene
    data = landmarks.arrays(root, "all", images="dense/images")
    kinv, c2w = (np.load(root / f"{k}_mats.npy") for k in ("kinv", "c2w"))
    flip = np.diag([1.0, -1.0, -1.0])
    for i in range(0, 30, 7):
        row, column = np.float32([3.5, 40.25]), np.float32([60.5, 2.0])
        its = np.stack([column, row, np.ones(2)], -1) @ kinv[i].T @ c2w[i][:, :3].T
        its /= np.linalg.norm(its, axis=-1, keepdims=True)
        ours = cameras.by_lens(data.poses[i], row, column, data.lenses[i])
        np.testing.assert_allclose(ours.direction, its, atol=1e-5)
    np.save(root / "kinv_mats.npy", flip @ kinv)  # the other convention: y up, z back
    np.save(root / "c2w_mats.npy", c2w @ np.diag([1.0, -1.0, -1.0, 1.0]))
    try:
        again = landmarks.arrays(root, "all", images="dense/images")
    finally:
        np.save(root / "kinv_mats.npy", kinv)
        np.save(root / "c2w_mats.npy", c2w)
    np.testing.assert_allclose(again.poses, data.poses, atol=1e-6)
    np.testing.assert_allclose(again.lenses, data.lenses, rtol=1e-6)


def test_a_scale_is_found(scene):
    made, root = scene
    data = colmap.load(root, "all", scale=None)
    points = np.array([p.xyz for p in made.points3D.values()])
    middle = np.median(points, axis=0)
    scale = 0.75 / np.quantile(np.linalg.norm(points - middle, axis=1), 0.9)
    plain = colmap.load(root, "all", scale=1.0)
    moved = (plain.poses[:, :3, 3] - middle) * scale
    np.testing.assert_allclose(data.poses[:, :3, 3], moved, atol=1e-5)
    np.testing.assert_allclose(data.bounds, plain.bounds * scale, rtol=1e-5)


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
        ("SIMPLE_RADIAL", (90.0, 32.0, 24.0, 0.05), "SIMPLE_RADIAL distorts; undistort first"),
        ("OPENCV", (90.0, 90.0, 32.0, 24.0, 0.0, 0.01, 0, 0), "OPENCV distorts; undistort first"),
        (
            "OPENCV_FISHEYE",
            (90.0, 90.0, 32.0, 24.0, 0, 0, 0, 0),
            "camera model OPENCV_FISHEYE, one of",
        ),
    ],
)
def test_distortion_is_refused(tmp_path, model, params, says):
    build(tmp_path, model, params, images=4)
    with pytest.raises(DataError, match=re.escape(says)):
        colmap.load(tmp_path, "all")


def test_undistorted_ones_are_read(tmp_path):
    build(tmp_path, "SIMPLE_RADIAL", (90.0, 32.0, 24.0, 0.0), images=4)
    assert colmap.load(tmp_path, "all").lenses[0].tolist() == [90, 90, 32, 24]


def test_a_shared_camera_is_not_an_image(tmp_path):
    """Images are looked up by their own id: two cameras, thirty images."""
    made = build(tmp_path)
    assert len(made.cameras) == 2
    data = colmap.load(tmp_path, "all")
    by_name = {im.name: im for im in made.images.values()}
    centres = [by_name[n].projection_center() for n in data.names]
    np.testing.assert_allclose(data.poses[:, :3, 3], landmarks.SCALE * np.array(centres), atol=1e-6)


@pytest.mark.parametrize("arrays", [True, False])
def test_a_start_is_learned_from_a_folder(tmp_path, arrays):
    """Without other views in their light, photographs are judged by themselves."""
    build(tmp_path)
    if not arrays:
        (tmp_path / "bds.npy").unlink()
    else:
        (tmp_path / "dense/images").rename(tmp_path / "images")
    net = dict(kind="posenc", width=8, depth=3, frequencies=2, channels=4, dims=3, offset=0.0)
    small = dict(size=16, rays=8, samples=4, inner_steps=2, field=net, folder=str(tmp_path))
    recipe = dataclasses.replace(recipes.RECIPES["gate_reptile64"], **small)
    parts = recipes.build(recipe)
    assert parts.data.train.count == 5
    held = parts.data.test.each
    np.testing.assert_array_equal(held.others.pixels[:, 0], held.given.pixels)
    assert np.isfinite(recipes.score(parts, recipe, parts.start, parts.data.validation))
    with pytest.raises(DataError, match="part = 'depth'"):
        recipe.load("test", part="depth")


def test_broken_folders_are_named(tmp_path):
    with pytest.raises(DataError, match="no reconstruction there"):
        colmap.load(tmp_path)
    made = build(tmp_path, images=26)
    first = sorted((tmp_path / "dense/images").iterdir())[0]
    picture = Image.open(first).copy()
    picture.resize((32, 24)).save(first)
    says = "32 x 24 pixels, its camera 64 x 48"
    with pytest.raises(DataError, match=says):
        colmap.load(tmp_path, "test")
    with pytest.raises(DataError, match="32 x 24 pixels, its lens is for 64 x 48"):
        landmarks.arrays(tmp_path, "test", images="dense/images")
    first.unlink()
    with pytest.raises(DataError, match=re.escape(f"{first}: missing")):
        colmap.load(tmp_path, "test")
    with pytest.raises(DataError, match="for 25 photographs"):
        landmarks.arrays(tmp_path, images="dense/images")
    picture.save(first)
    bounds = np.load(tmp_path / "bds.npy")
    for broken, says in (
        (bounds[:, ::-1], "0 <= near < far is needed"),
        (bounds * np.nan, "numbers that are not finite"),
    ):
        np.save(tmp_path / "bds.npy", broken)
        with pytest.raises(DataError, match=says):
            landmarks.arrays(tmp_path, images="dense/images")
    (tmp_path / "bds.npy").unlink()
    with pytest.raises(DataError, match=r"bds\.npy: missing"):
        landmarks.arrays(tmp_path, images="dense/images")
    np.save(tmp_path / "bds.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"bds\.npy"):
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
