"""transforms.json of several programs: read as one place and as one object.

The pictures show a sky, a smooth function of the direction of rays alone. So whatever becomes of
lenses, cuts and sizes, the colours must be those of the rays that come out.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places_on_disk import picture

from learnit_utils.forward import cameras, photometric
from learnit_utils.signals import colmap, nerf
from learnit_utils.signals.base import SPLITS, DataError, DataWarning

WIDE, HIGH, FOCAL, COUNT = 96, 64, 80.0, 15
ANGLE = 2 * np.arctan(WIDE / 2 / FOCAL)


def sky(direction):
    """(..., 3) directions -> (..., 3) colours in [0, 1]."""
    waves = np.array([[2.0, 1.0, 0.5], [-1.0, 2.0, 1.0], [0.5, -1.0, 2.5]])
    return 0.5 + 0.4 * np.sin(np.asarray(direction) @ waves)


def shot(pose, lens=(FOCAL, FOCAL, WIDE / 2, HIGH / 2), size=(WIDE, HIGH)):
    row, column = (jnp.asarray(u) + 0.5 for u in np.mgrid[: size[1], : size[0]].astype("f4"))
    rays = cameras.pixels_to_rays(jnp.asarray(pose, jnp.float32), lens, row, column)
    return np.uint8(np.round(255 * sky(rays.direction)))


def poses(count=COUNT, distance=4.0):
    rng = np.random.default_rng(0)
    return [
        np.asarray(cameras.orbit(*rng.uniform(-1, 1, 2), distance), float) for _ in range(count)
    ]


def save(path, pixels, alpha=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if alpha is not None:
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], alpha)], -1)
    how = dict(quality=98, subsampling=0) if path.suffix.lower() in (".jpg", ".jpeg") else {}
    Image.fromarray(pixels).save(path, **how)


def written(root, told, name="images/{}.png", file=None, table="transforms.json", **how):
    """A table and its pictures; `told` for all frames, `how["each"](i)` for one."""
    frames, each = [], how.get("each", lambda i: {})
    for i, pose in enumerate(how.get("poses") or poses()):
        own = each(i)
        lens = how.get("lens", lambda i: (FOCAL, FOCAL, WIDE / 2, HIGH / 2))(i)
        size = how.get("size", lambda i: (WIDE, HIGH))(i)
        save(root / (file or name).format(i), shot(pose, lens, size), how.get("alpha"))
        frames.append(dict(file_path=name.format(i), transform_matrix=pose.tolist()) | own)
    (root / table).write_text(json.dumps(told | dict(frames=frames)))


LENS = dict(fl_x=FOCAL, fl_y=FOCAL, cx=WIDE / 2, cy=HIGH / 2, w=WIDE, h=HIGH)
NGP = dict(
    camera_angle_x=ANGLE, camera_angle_y=1.2, k1=0.0, k2=0, p1=0, p2=0, aabb_scale=4, scale=0.33
)
STUDIO = dict(
    camera_model="OPENCV",
    applied_transform=[[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]],
    ply_file_path="sparse_pc.ply",
)


def blender(root):
    for k, short in enumerate(("train", "val", "test")):
        at = poses()[5 * k : 5 * k + 5]
        name, table = f"./{short}/r_{{}}", f"transforms_{short}.json"
        told = dict(camera_angle_x=ANGLE)
        written(root, told, name, f"{short}/r_{{}}.png", table, poses=at, alpha=255)


def zoom(i):
    return FOCAL * (1 + 0.05 * i)


def named(i):
    return f"images/{i}.png"


def of(told, name="images/{}.png", **how):
    return lambda root: written(root, told, name, **how)


LOADS = {
    "Blender": blender,
    "instant-ngp, JPEG": of(LENS | NGP, "images/{}.jpg"),
    "nerfstudio": of(LENS | STUDIO, "images/frame_{}.png"),
    "nerfstudio with splits": of(
        LENS
        | STUDIO
        | {
            f"{s}_filenames": [named(i) for i in range(COUNT) if i % 3 == k]
            for k, s in enumerate(("train", "val", "test"))
        }
    ),
    "one angle alone": of(dict(camera_angle_x=ANGLE)),
    "the other angle": of(dict(camera_angle_y=2 * np.arctan(HIGH / 2 / FOCAL))),
    "lens in every frame": of(
        {},
        each=lambda i: LENS | dict(fl_x=zoom(i), fl_y=1.01 * zoom(i), cx=WIDE / 2 + i / 4),
        lens=lambda i: (zoom(i), 1.01 * zoom(i), WIDE / 2 + i / 4, HIGH / 2),
    ),
    "sizes in every frame": of(
        {},
        each=lambda i: dict(fl_x=FOCAL, w=WIDE - i % 3, h=HIGH + i % 3),
        size=lambda i: (WIDE - i % 3, HIGH + i % 3),
        lens=lambda i: (FOCAL, FOCAL, (WIDE - i % 3) / 2, (HIGH + i % 3) / 2),
    ),
    "upright pictures": of(
        dict(fl_x=FOCAL), size=lambda i: (HIGH, WIDE), lens=lambda i: (FOCAL, FOCAL, 32.0, 48.0)
    ),
    "pictures smaller than told": of({k: 2 * v for k, v in LENS.items()}),
    "absolute paths": of(LENS, "/home/x/fox/images/{}.png", file="images/{}.png"),
    "paths of Windows": of(LENS, "C:\\x\\fox\\images\\{}.png", file="images/{}.png"),
    "back-slashes": of(LENS, ".\\images\\{}", file="images/{}.png"),
    "paths with ..": of(LENS, "../fox/images/{}.png", file="images/{}.png"),
    "no suffix": of(LENS, "images/{}", file="images/{}.png"),
    "no suffix, JPEG": of(LENS, "images/{}", file="images/{}.JPG"),
    "another case": of(LENS, "images/{}.png", file="images/{}.PNG"),
    "transparent pictures": of(LENS, alpha=255),
    "matrices of three rows": of(
        LENS, each=lambda i: dict(transform_matrix=poses()[i][:3].tolist())
    ),
    "other keys": of(LENS, each=lambda i: dict(sharpness=3.0, mask_path="m.png", colmap_im_id=i)),
}


@pytest.mark.parametrize("kind", LOADS)
def test_as_a_place_its_colours_are_those_of_its_rays(tmp_path, kind):
    LOADS[kind](tmp_path)
    data = nerf.place(tmp_path, "all", size=48, scale=1.0)
    assert len(data.names) == COUNT
    by_name = dict(zip(sorted_frames(tmp_path), range(COUNT)))
    for i, name in enumerate(data.names):
        want = poses()[by_name[name]]
        np.testing.assert_allclose(data.views.pose[i], want, atol=1e-6)
        rays = photometric.picture_rays(data.view(i))
        np.testing.assert_allclose(data.picture(i) / 255, sky(rays.direction), atol=0.03)
        assert 0 <= data.views.bounds[i, 0] < 4 < data.views.bounds[i, 1]
    sides = [nerf.place(tmp_path, s, size=48).names for s in SPLITS]
    assert all(sides)
    assert sorted(sum(sides, ())) == sorted(data.names)


def sorted_frames(root):
    """The names of the frames in the order in which they were written."""
    tables = [root / f"transforms_{s}.json" for s in ("train", "val", "test")]
    tables = [t for t in tables if t.exists()] or [root / "transforms.json"]
    return [f["file_path"] for t in tables for f in json.loads(t.read_text())["frames"]]


@pytest.mark.parametrize("kind", LOADS)
def test_as_an_object_its_colours_are_those_of_its_rays(tmp_path, kind):
    LOADS[kind](tmp_path)
    sides = [nerf.single(tmp_path, s, size=32) for s in SPLITS]
    assert sum(d.pictures.shape[1] for d in sides) == COUNT
    for data in sides:
        assert data.names == (tmp_path.name,)
        assert data.pictures.shape[2:] == (32, 32, 3)
        assert data.fov_x == sides[0].fov_x
        cameras.check_poses(data.poses)
        for pixels, pose in zip(data.pictures[0], data.poses[0]):
            rays = cameras.camera_rays(jnp.asarray(pose), (32, 32), data.fov_x)
            np.testing.assert_allclose(pixels / 255, sky(rays.direction), atol=0.03)
            assert np.linalg.norm(pose[:3, 3]) == pytest.approx(4, rel=0.02)
    task = photometric.object_tasks(sides[0])
    assert task.count == 1


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("OPENCV", dict(k1=0.06, k2=-0.02, p1=0.004, p2=-0.003)),
        ("OPENCV", dict(k1=0.06, k2=-0.02, k3=0.01, p1=0.004, p2=-0.003)),
        ("OPENCV_FISHEYE", dict(k1=0.02, k2=0.01, k3=0.0, k4=0.0)),
        ("OPENCV_FISHEYE", {}),
    ],
)
def test_distortion_is_refused_or_taken_out(tmp_path, model, told):
    pycolmap = pytest.importorskip("pycolmap", reason="the extra sfm")
    told = LENS | dict(camera_model=model) | told
    written(tmp_path, told)
    rest = [told.get(k, 0.0) for k in ("k1", "k2", "p1", "p2", "k3")] + [0.0] * 3
    colmaps = "FULL_OPENCV"
    if model == "OPENCV_FISHEYE":
        colmaps, rest = model, [told.get(f"k{i}", 0.0) for i in (1, 2, 3, 4)]
    camera = dict(model=colmaps, width=WIDE, height=HIGH, params=[FOCAL, FOCAL, 48, 32, *rest])
    row, column = np.mgrid[0.5:HIGH, 0.5:WIDE]
    at = np.stack([column.ravel(), row.ravel()], -1)
    x, y = pycolmap.Camera(camera).cam_from_img(at).T.reshape(2, HIGH, WIDE)
    local = np.stack([x, -y, -np.ones_like(x)], -1)
    local /= np.linalg.norm(local, axis=-1, keepdims=True)
    for i, pose in enumerate(poses()):
        save(tmp_path / named(i), np.uint8(np.round(255 * sky(local @ pose[:3, :3].T))))
    says = "k1 = " if told.get("k1") else "fisheye"
    for read in (nerf.place, nerf.single):
        with pytest.raises(DataError, match=rf"distorts \({says}.*undistort=True"):
            read(tmp_path, "all", size=32)
    data = nerf.place(tmp_path, "all", size=512, undistort=True)
    for i in range(COUNT):
        rays = photometric.picture_rays(data.view(i))
        off = np.abs(data.picture(i) / 255 - sky(rays.direction))
        assert off[2:-2, 2:-2].max() < 0.03
    one = nerf.single(tmp_path, "all", size=32, undistort=True)
    for pixels, pose in zip(one.pictures[0], one.poses[0]):
        rays = cameras.camera_rays(jnp.asarray(pose), (32, 32), one.fov_x)
        assert np.abs(pixels / 255 - sky(rays.direction))[1:-1, 1:-1].max() < 0.03


def test_transparency_is_laid_on_white(tmp_path):
    written(tmp_path, LENS, alpha=51)
    rays = cameras.camera_rays(jnp.asarray(poses()[0], jnp.float32), (HIGH, WIDE), ANGLE)
    want = 1 - 0.2 * (1 - sky(rays.direction))
    data = nerf.place(tmp_path, "all", size=WIDE)
    np.testing.assert_allclose(data.picture(0) / 255, want, atol=0.02)
    one = nerf.single(tmp_path, "all", size=HIGH)
    edge = (WIDE - HIGH) // 2
    np.testing.assert_allclose(one.pictures[0, 0] / 255, want[:, edge:-edge], atol=0.02)


@given(st.floats(0.5, 20), st.floats(0.1, 3), st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_what_is_looked_at_is_found_wherever_it_is(distance, scale, middle):
    at = np.stack(poses(6, distance))
    at[:, :3, 3] += middle
    np.testing.assert_allclose(nerf.looked_at(at), middle, atol=0.02 * distance)


def test_rays_reach_the_other_side_of_the_box(tmp_path):
    """instant-ngp's box: half a side of aabb_scale / (2 scale), around (1/2 - offset) / scale."""
    told = dict(aabb_scale=2, scale=0.25, offset=[0.75, 0.5, 0.25])
    written(tmp_path, LENS | told)
    data = nerf.place(tmp_path, "all", size=32, scale=1.0)
    corners = np.array([[-1, 0, 1]]) + 4 * np.stack(np.meshgrid(*[[-1, 1]] * 3), -1).reshape(-1, 3)
    for pose, (near, far) in zip(data.views.pose, data.views.bounds):
        away = np.linalg.norm(corners - pose[:3, 3], axis=1)
        np.testing.assert_allclose(far, away.max(), rtol=1e-5)
        outside = np.maximum(np.abs(pose[:3, 3] - [-1, 0, 1]) - 4, 0)
        np.testing.assert_allclose(near, max(np.linalg.norm(outside), 0.05 * 4), rtol=1e-3)
    one = nerf.single(tmp_path, "all", size=32)
    assert one.radius == pytest.approx(0.9 * 4, rel=0.01)  # never as far as the cameras
    given = nerf.place(tmp_path, "all", size=32, scale=0.5, bounds=(2.0, 6.0))
    np.testing.assert_allclose(given.views.bounds, [[1.0, 3.0]] * COUNT)


def test_half_of_the_cameras_distance_is_an_object(tmp_path):
    blender(tmp_path)
    assert nerf.single(tmp_path, size=32).radius == pytest.approx(2.0, rel=1e-3)
    assert nerf.single(tmp_path, size=32, radius=1.3).radius == pytest.approx(1.3, rel=1e-3)


def test_views_of_an_object_are_fitted_and_others_judge(tmp_path):
    blender(tmp_path)
    support, query = (nerf.single(tmp_path, s, size=16) for s in ("train", "test"))
    task = photometric.object_tasks(support, query)
    assert task.each.query.pictures.shape == (1, 5, 16, 16, 3)
    assert nerf.single(tmp_path, "train", size=16, views=2).pictures.shape[1] == 2


def test_a_chapters_folder_may_have_a_table(tmp_path):
    written(tmp_path, LENS)
    one = colmap.load_collection(tmp_path, "train", size=32)
    two = nerf.place(tmp_path, "train", size=32)
    assert one.provenance == two.provenance
    (tmp_path / named(3)).unlink()
    with pytest.warns(DataWarning, match=r"3\.png: missing"):
        one = colmap.load_collection(tmp_path, "all", size=32)
    assert len(one.names) == COUNT - 1


def test_a_table_may_be_named(tmp_path):
    blender(tmp_path)
    data = nerf.place(tmp_path / "transforms_test.json", "all", size=32)
    assert data.names == tuple(f"./test/r_{i}" for i in range(5))


def test_without_validation_it_is_the_last_of_train(tmp_path):
    blender(tmp_path)
    (tmp_path / "transforms_val.json").unlink()
    assert nerf.place(tmp_path, "validation", size=32).names == ("./train/r_4",)
    assert len(nerf.place(tmp_path, "train", size=32).names) == 4


# --- what is left out, and what is refused ------------------------------------------------------
def changed(**values):
    def change(root):
        path = root / "transforms.json"
        table = json.loads(path.read_text())
        table["frames"][3] |= values
        path.write_text(json.dumps(table))

    return change


def shared(**values):
    def change(root):
        path = root / "transforms.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def replaced(text):
    return lambda root: (root / "transforms.json").write_text(text)


THIRD = "images/3.png"
SKIPS = {
    "missing": (lambda r: (r / THIRD).unlink(), "missing"),
    "cut off": (
        lambda r: (r / THIRD).write_bytes((r / THIRD).read_bytes()[:900]),
        "truncated|broken",
    ),
    "not a picture": (lambda r: (r / THIRD).write_text("x"), "not a picture"),
    "resized": (lambda r: picture(r / THIRD, size=(48, 32)), "48 x 32 pixels, its camera 96 x 64"),
    "hidden alone": (lambda r: (r / THIRD).rename(r / "images/.3.png"), "missing"),
    "led out": (changed(file_path="../../y/33.png"), "leads out of its folder"),
    "twice": (changed(file_path="x/images/4.png"), "one file"),
    "distorted": (changed(k1=0.1), "distorts"),
    "round": (changed(camera_model="EQUIRECTANGULAR"), "no perspective camera"),
    "a lens of NaN": (changed(fl_x=float("nan")), "fl_x = nan: expected a finite number"),
    "a lens of words": (changed(fl_x="long"), "fl_x = 'long': expected a finite number"),
    "a lens of 0": (changed(fl_x=0), "focal lengths > 0"),
}


@pytest.mark.parametrize("read", [nerf.place, nerf.single])
@pytest.mark.parametrize("how", SKIPS)
def test_a_frame_that_cannot_be_used_is_left_out_and_told(tmp_path, how, read):
    written(tmp_path, LENS)
    spoil, why = SKIPS[how]
    spoil(tmp_path)
    with pytest.raises(DataError, match=why) as e:
        read(tmp_path, "all", size=32)
    assert "\n" not in str(e.value)
    data = read(tmp_path, "all", size=32, on_error="skip")
    assert data.provenance["count"] == (COUNT - 1 if read is nerf.place else 1)
    assert len(data.provenance["skipped"]) == 1
    for split in SPLITS:
        read(tmp_path, split, size=32, on_error="skip")


REFUSED = {
    "no table": (lambda r: (r / "transforms.json").unlink(), "no transforms.json nor"),
    "no JSON": (replaced("{"), "transforms.json: not JSON"),
    "no frames": (replaced("{}"), "a list of frames is needed"),
    "a list": (replaced("[]"), "a list of frames is needed"),
    "empty frames": (shared(frames=[]), "no frames"),
    "frames of numbers": (shared(frames=[1, 2]), "frame 0: file_path and transform_matrix"),
    "no pose": (shared(frames=[dict(file_path="x")]), "file_path and transform_matrix"),
    "a flat pose": (changed(transform_matrix=np.zeros((4, 4)).tolist()), "frame 3: transform_m"),
    "a pose of text": (changed(transform_matrix="none"), "frame 3: transform_matrix"),
    "a pose of 5 rows": (changed(transform_matrix=np.eye(5).tolist()), "frame 3: transform_mat"),
    "a ragged pose": (changed(transform_matrix=[[1, 2], [3]]), "frame 3: transform_matrix"),
    "a name of None": (changed(file_path=None), "file_path = None: expected a name"),
    "a name of nothing": (changed(file_path="./"), "expected a name"),
    "a name twice": (changed(file_path="images/4.png"), "stands twice"),
    "no lens": (
        replaced(
            json.dumps(
                dict(frames=[dict(file_path="images/0.png", transform_matrix=np.eye(4).tolist())])
            )
        ),
        "fl_x or camera_angle_x|at one point",
    ),
    "an angle of 4": (shared(fl_x=None, fl_y=None, camera_angle_x=4.0), r"\(0, pi\)"),
    "no pixels": (shared(w=0, h=0, cx=1, cy=1), "expected 1 or more|pixels, its camera"),
    "a box of words": (shared(aabb_scale="big"), "aabb_scale = 'big'"),
    "a box of nothing": (shared(aabb_scale=0), "aabb_scale = 0"),
    "an offset of words": (shared(aabb_scale=1, offset="x"), "offset"),
    "cameras at one point": (
        lambda r: shared(
            frames=[
                f | dict(transform_matrix=np.eye(4).tolist())
                for f in json.loads((r / "transforms.json").read_text())["frames"]
            ]
        )(r),
        "all cameras are at one point",
    ),
}


@pytest.mark.parametrize("read", [nerf.place, nerf.single])
@pytest.mark.parametrize("how", REFUSED)
def test_a_table_that_is_not_sound_is_one_line(tmp_path, how, read):
    written(tmp_path, LENS)
    spoil, why = REFUSED[how]
    spoil(tmp_path)
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError, match=why) as e:
            read(tmp_path, "all", size=32, on_error=on_error)
        assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("read", "ask", "says"),
    [
        (nerf.place, dict(scale=-1.0), "scale = -1.0: expected a number > 0"),
        (nerf.place, dict(bounds=(3.0, 1.0)), "expected 0 <= near < far"),
        (nerf.place, dict(on_error="warn"), "expected one of raise, skip"),
        (nerf.place, dict(limit=0), "limit = 0: expected an integer >= 1"),
        (nerf.place, dict(split="dev"), "split = 'dev': expected one of train"),
        (nerf.single, dict(radius=0.0), "radius = 0.0: expected a number > 0"),
        (nerf.single, dict(size=128), "size = 128: the square that all see has 64 pixels"),
        (nerf.single, dict(on_error="warn"), "expected one of raise, skip"),
        (nerf.single, dict(views=0), "limit = 0: expected an integer >= 1"),
    ],
)
def test_requests_that_cannot_be_met_are_named(tmp_path, read, ask, says):
    written(tmp_path, LENS)
    with pytest.raises(DataError, match=says):
        read(tmp_path, **dict(size=32) | ask)


# --- any JSON at all ----------------------------------------------------------------------------
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../x", "\ud800", "\0", "a" * 300, "images/0.png", "OPENCV", "C:\\x"])
)
JSON = st.recursive(SCALARS, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(), x))
KEYS = ["frames", "camera_angle_x", "aabb_scale", "scale", "offset", "train_filenames", *LENS]
OWN = ["file_path", "transform_matrix", "fl_x", "w", "k1", "p2", "camera_model", "is_fisheye"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    root = tmp_path_factory.mktemp("scene")
    written(root, LENS, poses=poses(5))
    return root, json.loads((root / "transforms.json").read_text())


@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.dictionaries(st.sampled_from(OWN), JSON))
@settings(max_examples=60)
def test_any_json_is_data_or_one_line(scene, shared, own):
    root, table = scene
    table = json.loads(json.dumps(table)) | shared
    if isinstance(table["frames"], list) and table["frames"] and "frames" not in shared:
        table["frames"][1] |= own
    (root / "transforms.json").write_text(json.dumps(table))
    for read in (nerf.place, nerf.single):
        for on_error in ("raise", "skip"):
            try:
                data = read(root, "all", size=32, on_error=on_error)
            except DataError as e:
                one_line = "\n" not in str(e)
                assert one_line, repr(e)  # noqa: PT017
            else:
                values = data.views if read is nerf.place else (data.poses, data.fov_x, data.radius)
                assert all(np.isfinite(v).all() for v in values)
