"""Photographs of places: those that ship, and learnit's arrays."""

import re

import numpy as np
import pytest
from PIL import Image

from learnit_utils.forward import cameras
from learnit_utils.signals import landmarks
from learnit_utils.signals.base import DataError, DataWarning

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
        poses, own = others.views.pose, by_split[split].views.pose
        assert (
            others.views.pixels.shape[:2] == poses.shape[:2] == (len(others.names), poses.shape[1])
        )
        for i, n in enumerate(others.names):
            assert sum(p.get("light_of") == n for p in photos.values()) == poses.shape[1]
            assert not any((pose == own[i]).all() for pose in poses[i])
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
            groups += [_nth(more, told["photos"], k) for k in range(more.views.pose.shape[1])]
        for data in groups:
            for i, label in enumerate(data.names):
                (fx, fy, cx, cy), pose = data.views.intrinsics[i], data.views.pose[i].astype(float)
                sighted = told["photos"][label]["sighted"]
                which, row, column = np.array(sighted).reshape(-1, 3).T
                x, y, z = ((corners[which] - pose[:3, 3]) @ pose[:3, :3]).T
                off = np.stack(
                    [
                        cy - fy * y / -z - row - 0.5,
                        cx + fx * x / -z - column - 0.5,
                    ]
                )
                assert (z < 0).all(), label
                assert np.abs(off).max(initial=0) < 1, label
                seen += len(which)
    assert seen > 500


def _nth(others, photos, k):
    """The k-th other view of every light, under its own name."""
    of = {n: [o for o, p in photos.items() if p.get("light_of") == n] for n in others.names}
    views = cameras.View(*(leaf[:, k] for leaf in others.views))
    return others._replace(views=views, names=tuple(of[n][k] for n in others.names))


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
    for label, pose, (near, far) in zip(data.names, data.views.pose, data.views.bounds):
        which = [k for k, _, _ in told["photos"][label]["sighted"]]
        away = np.linalg.norm(corners[which] - pose[:3, 3], axis=1)
        assert 0 < near < away.min(initial=far)
        inside += list(away < far)
    assert np.mean(inside) > 0.95  # the farthest fiftieth of a picture may lie behind


def test_the_same_request_gives_the_same_data_and_smaller_pictures_are_means():
    one, two = (landmarks.load("test", landmark="gate") for _ in range(2))
    assert one.provenance["data_sha256"] == two.provenance["data_sha256"]
    small = landmarks.load("test", landmark="gate", size=30)
    assert small.views.size.max() <= 30
    for i in range(len(one.names)):
        a, b = one.picture(i).mean((0, 1)), small.picture(i).mean((0, 1))
        np.testing.assert_allclose(a, b, atol=2.5)
        part = np.repeat(small.views.size[i] / one.views.size[i], 2)[[2, 0, 3, 1]]  # x, y, x, y
        of = one.views.intrinsics[i] * part
        np.testing.assert_allclose(small.views.intrinsics[i], of, rtol=1e-5)


def test_a_view_is_a_photograph_and_its_camera():
    data = landmarks.load("test", landmark="gate", limit=2)
    view, (high, wide) = data.view(1), data.views.size[1]
    for leaf, all_of_them in zip(view, data.views):
        np.testing.assert_array_equal(leaf, all_of_them[1])
    assert data.picture(1).shape == (high, wide, 3)
    np.testing.assert_array_equal(data.picture(1)[2, 3], view.pixels[2 * wide + 3])
    assert not view.pixels[high * wide :].any()
    others = landmarks.load("test", landmark="gate", limit=2, part="others")
    np.testing.assert_array_equal(others.view((1, 2)).pose, others.views.pose[1, 2])
    assert others.picture((1, 2)).shape == (*others.views.size[1, 2], 3)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (dict(landmark="tower"), "landmark = 'tower': expected one of gate, fountain, basilica"),
        (dict(split="dev"), "split = 'dev': expected one of train"),
        (dict(part="depth"), "part = 'depth': expected one of photographs, others"),
        (dict(part="others"), "photographs to train on have no other views"),
        (dict(limit=0), "limit = 0: expected an integer >= 1"),
        (dict(size=0), "size = 0: expected 1 to 4096 pixels"),
    ],
)
def test_requests_that_cannot_be_met_are_named(request_, says):
    with pytest.raises(DataError, match=re.escape(says)):
        landmarks.load(**request_)


def test_no_distances_of_training_photographs():
    with pytest.raises(DataError, match="no distances of this photograph"):
        landmarks.depth("gate", "train_000")


# --- learnit's arrays --------------------------------------------------------------------------
WIDE, HIGH = 64, 48
FLIP = np.diag([1.0, -1.0, -1.0])  # from x right, y down, z ahead to x right, y up, z back


@pytest.fixture
def place(tmp_path):
    """Photographs of noise and the four arrays beside them; thirty, each by its own camera."""
    return written(tmp_path)


def written(root, count=30):
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    told = {name: [] for name in landmarks.ARRAYS}
    for i in range(count):
        picture = rng.integers(0, 256, (HIGH, WIDE, 3)).astype(np.uint8)
        Image.fromarray(picture).save(root / f"images/{i:02}.png")
        pose = np.asarray(cameras.orbit(*rng.uniform(-1, 1, 2), rng.uniform(20, 60)), np.float64)
        fx, fy = rng.uniform(60, 90, 2)
        cx, cy = np.array([WIDE, HIGH]) / 2 + rng.uniform(-2, 2, 2)
        told["kinv_mats"].append(np.linalg.inv([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))
        told["c2w_mats"].append(np.concatenate([pose[:3, :3] @ FLIP, pose[:3, 3:]], axis=1))
        told["res_mats"].append([WIDE, HIGH])
        told["bds"].append(np.sort(rng.uniform(5, 80, 2)))
    for name, values in told.items():
        np.save(root / f"{name}.npy", np.array(values))
    return root


def corners():
    """The corners of a picture, homogeneous."""
    return np.array([[x, y, 1] for x in (0, WIDE) for y in (0, HIGH)])


def test_the_arrays_are_the_cameras(place):
    data = landmarks.arrays(place, "all")
    assert data.names == tuple(f"{i:02}.png" for i in range(30))
    kinv, c2w = (np.load(place / f"{k}_mats.npy") for k in ("kinv", "c2w"))
    scale, bounds = landmarks.SCALE, np.load(place / "bds.npy")
    corner = [np.linalg.norm(corners() @ k.T, axis=-1).max() for k in kinv]  # its depth is 1
    its = scale * bounds * [0.9, 1.2] * np.stack([np.ones(30), corner], -1)
    np.testing.assert_allclose(data.views.bounds, its, rtol=1e-5)
    np.testing.assert_allclose(data.views.pose[:, :3, 3], scale * c2w[..., 3], rtol=1e-5)
    for i in range(30):
        cameras.check_poses(data.views.pose[i])
        lens = np.linalg.inv(kinv[i])
        its = data.views.intrinsics[i]
        np.testing.assert_allclose(its, lens[[0, 1, 0, 1], [0, 1, 2, 2]], rtol=1e-5)
        picture = np.asarray(Image.open(place / "images" / data.names[i]))
        np.testing.assert_array_equal(data.picture(i), picture)


def test_rays_of_learnits_notebook_are_ours(place):
    """Its rays: R kinv (x, y, 1); ours through the same position in the picture."""
    data = landmarks.arrays(place, "all")
    kinv, c2w = (np.load(place / f"{k}_mats.npy") for k in ("kinv", "c2w"))
    for i in range(0, 30, 7):
        row, column = np.float32([3.5, 40.25]), np.float32([60.5, 2.0])
        its = np.stack([column, row, np.ones(2)], -1) @ kinv[i].T @ c2w[i][:, :3].T
        its /= np.linalg.norm(its, axis=-1, keepdims=True)
        ours = cameras.pixels_to_rays(data.views.pose[i], data.views.intrinsics[i], row, column)
        np.testing.assert_allclose(ours.direction, its, atol=1e-5)
    np.save(place / "kinv_mats.npy", FLIP @ kinv)  # the other convention: y up, z back
    np.save(place / "c2w_mats.npy", c2w @ np.diag([1.0, -1.0, -1.0, 1.0]))
    again = landmarks.arrays(place, "all")
    np.testing.assert_allclose(again.views.pose, data.views.pose, atol=1e-6)
    np.testing.assert_allclose(again.views.intrinsics, data.views.intrinsics, rtol=1e-6)


@pytest.mark.parametrize(("split", "count"), [("test", 20), ("validation", 5), ("train", 35)])
def test_learnits_split_goes_by_name(tmp_path, split, count):
    place = written(tmp_path, 60)
    first = dict(test=0, validation=20, train=25)[split]
    names = tuple(f"{i:02}.png" for i in range(first, first + count))
    assert landmarks.arrays(place, split).names == names
    assert len(landmarks.arrays(place, split, limit=3).names) == 3


def test_a_table_of_splits_is_followed(place):
    table(place)
    names = tuple(f"{i:02}.png" for i in range(30))
    assert landmarks.arrays(place, "test").names == names[3::10]
    train, held = (landmarks.arrays(place, s).names for s in ("train", "validation"))
    assert len(held) == 5
    assert not set(held) & set(train)
    assert len(train) + 5 + 3 == 30
    (place / "other.tsv").write_text("x")
    with pytest.raises(DataError, match=r"several tables, other\.tsv and place\.tsv"):
        landmarks.arrays(place)
    (place / "other.tsv").unlink()
    (place / "place.tsv").write_text("name\tside\nx\ttest\n")
    with pytest.raises(DataError, match="columns filename and split are needed"):
        landmarks.arrays(place)


def table(root, images="images"):
    """NeRF-W's table: every tenth photograph for the test."""
    names = [p.name for p in sorted((root / images).iterdir())]
    rows = [f"{n}\t{i}\t{'test' if i % 10 == 3 else 'train'}\tplace" for i, n in enumerate(names)]
    (root / "place.tsv").write_text("\n".join(["filename\tid\tsplit\tdataset", *rows]) + "\n")


def test_a_recipes_folder_with_arrays_is_read_by_them(place):
    one, two = landmarks.from_folder(place, "test", size=32), landmarks.arrays(place, size=32)
    assert one.provenance["data_sha256"] != two.provenance["data_sha256"]
    two = landmarks.arrays(place, "test", size=32)
    assert one.provenance == two.provenance
    others = landmarks.from_folder(place, "test", size=32, part="others")
    for leaf, its in zip(others.views, two.views):  # each stands for itself
        np.testing.assert_array_equal(leaf, its[:, None])
    with pytest.raises(DataError, match="part = 'depth': expected one of photographs, others"):
        landmarks.from_folder(place, part="depth")


def test_broken_arrays_are_named(place):
    first = place / "images/00.png"
    picture = Image.open(first).copy()
    picture.resize((32, 24)).save(first)
    with pytest.raises(DataError, match="32 x 24 pixels, its camera 64 x 48"):
        landmarks.arrays(place, "test")
    first.unlink()
    with pytest.raises(DataError, match="for 29 photographs"):
        landmarks.arrays(place)
    picture.save(first)
    bounds = np.load(place / "bds.npy")
    for broken, says in (
        (bounds[:, ::-1], "expected 0 <= near < far"),
        (bounds * np.nan, "numbers that are not finite"),
        (bounds[:, :1], r"bds\.npy: \(30, 1\)"),
    ):
        np.save(place / "bds.npy", broken)
        with pytest.raises(DataError, match=says):
            landmarks.arrays(place)
    np.save(place / "bds.npy", bounds)
    poses = np.load(place / "c2w_mats.npy")
    np.save(place / "c2w_mats.npy", 2 * poses)
    with pytest.raises(DataError, match=r"\.png: its pose: expected a rotation and a translation"):
        landmarks.arrays(place)
    np.save(place / "c2w_mats.npy", poses)
    kinv = np.load(place / "kinv_mats.npy")
    np.save(place / "kinv_mats.npy", kinv + 0.1 * np.eye(3)[:, [1, 2, 0]])
    with pytest.raises(DataError, match="is not the inverse of a camera matrix"):
        landmarks.arrays(place)
    np.save(place / "kinv_mats.npy", kinv)
    assert len(landmarks.arrays(place, "all").names) == 30
    (place / "bds.npy").unlink()
    with pytest.raises(DataError, match=r"bds\.npy: missing"):
        landmarks.arrays(place)
    np.save(place / "bds.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"bds\.npy"):
        landmarks.arrays(place)


# --- folders of arrays as users have them -------------------------------------------------------
def litter(root):
    for name in ("._00.png", ".x/00.png", "@eaDir/00.png"):
        path = root / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0\5\26\7Mac OS X")


def in_dense(root):
    (root / "dense").mkdir()
    (root / "images").rename(root / "dense/images")


def other_suffix(suffix):
    def change(root):
        for path in list((root / "images").iterdir()):
            how = dict(quality=95) if suffix == ".jpeg" else {}
            Image.open(path).save(path.with_suffix(suffix), **how)
            path.unlink()

    return change


def exif(root):
    tag = Image.Exif()
    tag[0x0112] = 3
    for path in (root / "images").iterdir():
        Image.open(path).copy().save(path, exif=tag)


def halved(root):
    for path in (root / "images").iterdir():
        Image.open(path).resize((WIDE // 2, HIGH // 2)).save(path)


LAYOUTS = {
    "litter": litter,
    "dense/images": in_dense,
    ".jpeg": other_suffix(".jpeg"),
    ".PNG": lambda r: [p.rename(p.with_suffix(".PNG")) for p in list((r / "images").iterdir())],
    ".tiff": other_suffix(".tiff"),
    "turned by EXIF": exif,
    "half as large": halved,
}


@pytest.mark.parametrize("how", LAYOUTS)
def test_a_folder_of_arrays_is_read(place, how):
    before = landmarks.arrays(place, "all")
    LAYOUTS[how](place)
    data = landmarks.arrays(place, "all")
    np.testing.assert_array_equal(data.views.pose, before.views.pose)
    part = 0.5 if how.startswith("half") else 1
    np.testing.assert_allclose(data.views.intrinsics, part * before.views.intrinsics)
    np.testing.assert_array_equal(data.views.bounds, before.views.bounds)
    if part == 1 and how != ".jpeg":
        np.testing.assert_array_equal(data.views.pixels, before.views.pixels)


def first(root):
    return root / "images/00.png"


def spoiled(name, i, value):
    def spoil(root):
        a = np.load(root / f"{name}.npy")
        a[i] = value
        np.save(root / f"{name}.npy", a)

    return spoil


SKIPS = {
    "cut off": (lambda r: first(r).write_bytes(first(r).read_bytes()[:3000]), "truncated"),
    "no picture": (lambda r: first(r).write_bytes(b"x"), "not a picture"),
    "resized": (
        lambda r: Image.open(first(r)).resize((32, 24)).save(first(r)),
        "32 x 24 pixels, its camera 64 x 48",
    ),
    "turned": (
        lambda r: Image.open(first(r)).transpose(Image.Transpose.ROTATE_90).save(first(r)),
        "48 x 64 pixels",
    ),
    "a flat pose": (spoiled("c2w_mats", 0, 0.0), "expected a rotation and a translation"),
    "no lens": (spoiled("kinv_mats", 0, 0.0), "is not the inverse of a camera matrix"),
    "bounds the wrong way": (spoiled("bds", 0, [5, 1]), "expected 0 <= near < far"),
}


@pytest.mark.parametrize("how", SKIPS)
def test_a_photograph_with_arrays_is_left_out_and_told(place, how):
    spoil, why = SKIPS[how]
    spoil(place)
    with pytest.raises(DataError, match=why) as e:
        landmarks.arrays(place, "all")
    assert "\n" not in str(e.value)
    data = landmarks.arrays(place, "all", on_error="skip")
    assert data.names == tuple(f"{i:02}.png" for i in range(1, 30))
    assert why in data.provenance["skipped"]["00.png"]
    with pytest.warns(DataWarning, match=why):
        assert landmarks.from_folder(place, "all").provenance == data.provenance
