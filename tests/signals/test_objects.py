"""Objects: what ships, and learnit's layout read strictly."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from learnit_utils.forward import cameras, photometric
from learnit_utils.signals import objects
from learnit_utils.signals.base import DataError

CLASSES = ("chairs", "lamps", "cars")


# --- what ships --------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSES)
def test_models_are_split_and_every_one_is_credited(kind):
    names = {}
    for split in ("train", "validation", "test"):
        names[split] = {n.split("~")[0] for n in objects.load(split, kind=kind, size=8).names}
    assert len(set.union(*names.values())) == sum(map(len, names.values()))
    rows = objects.credits(kind)
    assert {r["name"] for r in rows} == set.union(*names.values())
    for row in rows:
        assert row["licence"] in ("CC0-1.0", "CC-BY-3.0", "CC-BY-3.0-US")
        assert all(row.values())


@pytest.mark.parametrize("kind", objects.KINDS)
def test_both_halves_are_different_views_of_the_same_models(kind):
    support, query = (objects.load("test", kind=kind, part=p) for p in ("support", "query"))
    assert support.names == query.names
    assert support.pictures.shape == query.pictures.shape == (len(support.names), 25, 128, 128, 3)
    apart = np.abs(support.poses[:, :, None] - query.poses[:, None]).max(axis=(-1, -2))
    assert apart.min() > 1e-3
    cameras.check_poses(query.poses)
    both = objects.load("test", kind=kind, part="both")
    np.testing.assert_array_equal(both.pictures[:, :25], support.pictures)
    np.testing.assert_array_equal(both.pictures[:, 25:], query.pictures)
    np.testing.assert_array_equal(both.poses[:, 25:], query.poses)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLASSES)
def test_objects_fill_the_middle_of_a_white_picture(kind):
    data = objects.load("train", kind=kind)
    ink = (data.pictures < 250).any(axis=-1)
    assert not ink[:, :, [0, -1]].any()
    assert not ink[:, :, :, [0, -1]].any()
    share = ink.mean(axis=(2, 3))
    assert share.max() < 0.66  # the disc of the ball
    assert (share.mean(axis=1) > 0.005).all()
    # The ball projects to a disc; nothing lies outside it.
    rays = cameras.camera_rays(jnp.asarray(data.poses[0, 0]), (128, 128), data.fov_x)
    rays = cameras.clip_to_ball(rays, data.radius * 1.03)
    assert not ink[..., np.asarray(rays.near == rays.far)].any()


def test_what_is_seen_from_many_sides_lies_where_the_rays_meet():
    """Silhouettes and poses belong together: carve the ball by all views, and see it again."""
    data = objects.load("test", kind="chairs", limit=1)
    line = jnp.linspace(-1.25, 1.25, 48)
    x = jnp.stack(jnp.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    inside = np.ones(len(x), bool)
    focal = 64 / np.tan(data.fov_x / 2)
    ink = (data.pictures[0] < 250).any(axis=-1)
    falls = []
    for pose in data.poses[0]:
        local = (np.asarray(x) - pose[:3, 3]) @ pose[:3, :3]
        place = 64 + focal * local[:, :2] / -local[:, 2:] * [1, -1]
        falls.append(np.clip(np.floor(place).astype(int), 0, 127))
    for view, place in zip(ink[:15], falls[:15]):
        inside &= view[place[:, 1], place[:, 0]]
    assert inside.sum() > 500

    def covered(views):  # of those that did not carve
        return [v[p[inside, 1], p[inside, 0]].mean() for v, p in zip(views[15:], falls[15:])]

    assert np.mean(covered(ink)) > 0.95
    assert np.mean(covered(ink[:, :, ::-1])) < 0.85
    assert np.mean(covered(ink[:, ::-1])) < 0.85


def test_variants_are_more_to_learn_from_and_only_that():
    plain = objects.load("train", variants=False, size=8)
    more = objects.load("train", size=8)
    assert set(plain.names) < set(more.names)
    assert all("~" in n for n in set(more.names) - set(plain.names))
    for split in ("validation", "test"):
        assert not any("~" in n for n in objects.load(split, size=8).names)


def test_the_same_request_gives_the_same_data():
    a, b = (objects.load("validation", size=32, views=3) for _ in range(2))
    assert a.provenance == b.provenance
    assert a.provenance["count"] == len(a.names) == 6
    whole = objects.load("validation", size=32)
    np.testing.assert_array_equal(a.pictures, whole.pictures[:, :3])
    assert whole.provenance["data_sha256"] != a.provenance["data_sha256"]


def test_no_two_requests_have_one_name():
    """A report notes a hash for every source, split and count; another hash has another name."""
    asked = [dict(part=p, views=v) for p in objects.PARTS for v in (None, 1, 2, 30)]
    found = [objects.load("test", size=8, limit=2, **how).provenance for how in asked]
    by_hash = {}
    for a in found:
        by_hash.setdefault((a["source"], a["split"], a["count"]), set()).add(a["data_sha256"])
    assert all(len(hashes) == 1 for hashes in by_hash.values())


def test_smaller_pictures_are_means():
    large, small = (objects.load("validation", size=s, limit=1).pictures[0] for s in (128, 32))
    means = large.reshape(25, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    assert np.abs(small - means).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (dict(kind="boats"), "kind = 'boats': expected one of chairs, lamps"),
        (dict(part="back"), "part = 'back': expected one of support, query, both"),
        (dict(views=0), "views = 0: expected an integer >= 1"),
        (dict(size=100), "size = 100: expected 128 or a divisor of it"),
        (dict(size=256), "size = 256: expected 128 or a divisor of it"),
        (dict(part="query"), "models to train on have no held-out views"),
        (dict(kind="sofas"), "no sofas in split 'train'"),
        (dict(limit=0), "limit = 0: expected an integer >= 1"),
        (dict(split="tests"), "split = 'tests': expected one of train"),
    ],
)
def test_requests_that_cannot_be_met_are_named(request_, says):
    with pytest.raises(DataError, match=says):
        objects.load(**request_)


# --- learnit's layout --------------------------------------------------------------------------
def write(root, name, views=50, side=16, seed=0):
    """An object as learnit's data have it, RGBA."""
    rng, folder = np.random.default_rng(seed), root / "chairs" / name
    folder.mkdir(parents=True)
    frames = []
    for i in range(views):
        pixels = rng.integers(0, 256, (side, side, 4)).astype(np.uint8)
        pixels[0, 0, 3] = 0
        Image.fromarray(pixels).save(folder / f"r_{i}.png")
        pose = np.asarray(cameras.orbit(*rng.uniform(-1, 1, 2), 4.0))
        frames.append(dict(file_path=f"./r_{i}", transform_matrix=pose.tolist()))
    told = dict(camera_angle_x=0.69, frames=frames)
    (folder / "transforms.json").write_text(json.dumps(told))
    return folder


@pytest.fixture
def shapenet(tmp_path):
    names = [f"o{i}" for i in range(4)]
    for i, name in enumerate(names):
        write(tmp_path, name, seed=i)
    (tmp_path / "chair_splits.json").write_text(json.dumps(dict(train=names[:3], test=names[3:])))
    return tmp_path


@pytest.mark.slow
def test_learnits_layout_is_read(shapenet):
    train = objects.shapenet(shapenet, "train", size=16)
    assert train.names == ("o0", "o1")
    assert objects.shapenet(shapenet, "validation", size=16).names == ("o2",)
    held = objects.shapenet(shapenet, "test", size=16, part="query")
    assert held.pictures.shape == (1, 25, 16, 16, 3)
    assert held.fov_x == 0.69
    file = shapenet / "chairs" / "o3" / "r_25.png"
    layers = np.asarray(Image.open(file), np.float64) / 255
    white = layers[..., :3] * layers[..., 3:] + 1 - layers[..., 3:]
    np.testing.assert_allclose(held.pictures[0, 0] / 255, white, atol=0.51 / 255)
    assert (held.pictures[0, 0, 0, 0] == 255).all()
    many = photometric.object_tasks(train)
    assert many.count == 2
    forward = photometric.object_pixels(7, 3)
    got, truth = forward(lambda x: jnp.zeros((*x.shape[:-1], 4)), many.take(0), jax.random.key(0))
    assert got.shape == truth.shape == (7, 3)
    by_recipe = objects.from_folder(shapenet, "train", size=16)
    assert by_recipe.provenance == train.provenance


def _transforms(folder, **change):
    path = folder / "transforms.json"
    told = json.loads(path.read_text())
    told |= change.pop("told", {})
    for k, v in change.items():
        told["frames"][3][k] = v
    path.write_text(json.dumps(told))


def _picture(folder, pixels, name="r_3.png"):
    Image.fromarray(pixels).save(folder / name)


SQUARE = np.zeros((16, 16, 4), np.uint8)
BROKEN = {
    "no transforms": (lambda f: (f / "transforms.json").unlink(), "transforms.json: missing"),
    "not JSON": (lambda f: (f / "transforms.json").write_text("{"), "transforms.json: not JSON"),
    "no frames": (lambda f: _transforms(f, told=dict(frames=None)), "frames are needed"),
    "empty": (lambda f: _transforms(f, told=dict(frames=[])), "transforms.json: "),
    "angle": (lambda f: _transforms(f, told=dict(camera_angle_x=4.0)), "camera_angle_x = 4.0"),
    "nan pose": (
        lambda f: _transforms(f, transform_matrix=np.full((4, 4), np.nan).tolist()),
        "transform_matrix: expected finite numbers",
    ),
    "flat pose": (
        lambda f: _transforms(f, transform_matrix=np.zeros((4, 4)).tolist()),
        "transform_matrix: expected a rotation and a translation",
    ),
    "short pose": (lambda f: _transforms(f, transform_matrix=[[1, 2]]), "transform_matrix"),
    "no picture": (lambda f: (f / "r_3.png").unlink(), "r_3: missing"),
    "no alpha": (lambda f: _picture(f, SQUARE[..., :3]), "r_3.png: no alpha"),
    "other size": (lambda f: _picture(f, SQUARE[:12, :12]), "r_3.png: 12 pixels a side, 16"),
    "not square": (lambda f: _picture(f, SQUARE[:12]), "r_3.png: 16 x 12 pixels, not square"),
    "outside": (lambda f: _transforms(f, file_path="../../../x"), "leads out of its folder"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_object_is_named(shapenet, how):
    spoil, says = BROKEN[how]
    spoil(shapenet / "chairs" / "o1")
    with pytest.raises(DataError, match=says) as caught:
        objects.shapenet(shapenet, "train", size=16)
    assert "o1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_collection_is_named(shapenet):
    write(shapenet, "few", views=12, seed=10)
    table = shapenet / "chair_splits.json"

    def lists(**told):
        table.write_text(json.dumps(dict(train=["o0", "o1"], test=["o2"]) | told))

    for told, says in (
        (dict(test=["gone"]), "gone.transforms.json: missing"),
        (dict(test=["few"]), "few: 12 views of an object, 50 are needed"),
        (dict(test=[]), "no chairs in split 'test'"),
        (dict(test="o2"), "lists train and test are needed"),
    ):
        lists(**told)
        with pytest.raises(DataError, match=says):
            objects.shapenet(shapenet, "test", size=8, part="query")
    table.unlink()
    with pytest.raises(DataError, match=r"chair_splits\.json: missing"):
        objects.shapenet(shapenet)


def test_views_of_other_objects_do_not_judge():
    a = objects.load("validation", size=8, limit=2)
    b = objects.load("test", size=8, limit=2, part="query")
    with pytest.raises(ValueError, match="other objects"):
        photometric.object_tasks(a, b)
