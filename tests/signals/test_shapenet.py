"""learnit's ShapeNet as users have it unzipped: layouts, names, what is left out, memory."""

import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from learnit_utils.forward import cameras
from learnit_utils.signals import objects
from learnit_utils.signals.base import DataError, DataWarning

IDS = tuple(f"{i:04x}" for i in range(5))
SIDE, VIEWS = 16, 4
MAC = b"\0\5\26\7\0\2\0\0Mac OS X"


def thing(folder, seed=0, name="r_{}", file="r_{}.png", views=VIEWS, side=SIDE, mode="RGBA"):
    """An object with its pictures; `name` is what transforms.json calls them."""
    rng, frames = np.random.default_rng(seed), []
    folder.mkdir(parents=True)
    for i in range(views):
        pixels = rng.integers(0, 256, (side, side, len(mode))).astype(np.uint8)
        path = folder / file.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        pose = np.asarray(cameras.orbit(*rng.uniform(-1, 1, 2), 4.0)).tolist()
        frames.append(dict(file_path=name.format(i), transform_matrix=pose))
    table = dict(camera_angle_x=0.7, frames=frames)
    (folder / "transforms.json").write_text(json.dumps(table))


def lists(root, train=IDS, test=IDS[-1:], where=""):
    (root / where).mkdir(parents=True, exist_ok=True)
    (root / where / "chair_splits.json").write_text(json.dumps(dict(train=train, test=test)))


def made(root, below="chairs", where="", **how):
    lists(root, where=where)
    for i, name in enumerate(IDS):
        thing(root / below / name, i, **how)


LAYOUTS = {
    "chairs/ID": dict(),
    "chair/ID": dict(below="chair"),
    "ID": dict(below=""),
    "chairs/03001627/ID": dict(below="chairs/03001627"),
    "03001627/ID": dict(below="03001627"),
    "lists beside the objects": dict(where="chairs"),
    "names ./": dict(name="./r_{}"),
    "names with suffix": dict(name="r_{}.png"),
    "names with another suffix": dict(name="r_{}.PNG"),
    "names of another place": dict(name="./train/r_{}"),
    "absolute names": dict(name="/abs/03001627/x/r_{}"),
    "names with ..": dict(name="../x/r_{}"),
    "names of Windows": dict(name=".\\train\\r_{}"),
    "drives of Windows": dict(name="D:\\x\\r_{}.png"),
    "a folder below": dict(name="./train/r_{}", file="train/r_{}.png"),
    "files in capitals": dict(file="R_{}.PNG"),
}


@pytest.mark.parametrize("how", LAYOUTS)
def test_a_layout_is_read(tmp_path, how):
    made(tmp_path / "plain")
    made(tmp_path / "other", **LAYOUTS[how])
    plain, other = (objects.shapenet(tmp_path / k, "all", size=8) for k in ("plain", "other"))
    assert other.pictures.shape == (len(IDS) + 1, VIEWS, 8, 8, 3)
    assert other.provenance == plain.provenance


def first(root):
    return root / "chairs" / IDS[1]


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


SKIPS = {
    "empty": (lambda f: emptied(f), "transforms.json: missing"),
    "absent": (shutil.rmtree, r"transforms.json: missing \(nor in chairs"),
    "litter alone": (lambda f: (emptied(f), (f / "._r_0.png").write_bytes(MAC)), "missing"),
    "no picture": (lambda f: (f / "r_1.png").unlink(), "r_1: missing"),
    "cut off": (
        lambda f: (f / "r_1.png").write_bytes((f / "r_1.png").read_bytes()[:400]),
        "r_1.png: .*(truncated|broken)",
    ),
    "opaque": (lambda f: (shutil.rmtree(f), thing(f, mode="RGB")), "no alpha"),
    "no JSON": (lambda f: (f / "transforms.json").write_text("{"), "not JSON"),
    "fewer views": (lambda f: (shutil.rmtree(f), thing(f, views=3)), "3 views, 4 in"),
    "a link out": (
        lambda f: (
            shutil.move(f, f.parent.parent.parent / "x"),
            f.symlink_to(f.parent.parent.parent / "x"),
        ),
        "leads out of",
    ),
}


@pytest.mark.parametrize("how", SKIPS)
def test_an_object_that_cannot_be_used_is_left_out_and_told(tmp_path, how):
    root = tmp_path / "root"
    made(root)
    spoil, why = SKIPS[how]
    spoil(first(root))
    with pytest.raises(DataError, match=why) as e:
        objects.shapenet(root, "train", size=8)
    assert IDS[1] in str(e.value)
    assert "\n" not in str(e.value)
    data = objects.shapenet(root, "train", size=8, on_error="skip")
    assert data.names == (IDS[0], *IDS[2:-1])
    assert list(data.provenance["skipped"]) == [IDS[1]]
    with pytest.warns(DataWarning, match=why):
        again = objects.from_folder(root, "train", size=8)
    assert again.provenance == data.provenance
    for k, name in enumerate(data.names):
        alone = made_alone(tmp_path / name, IDS.index(name))
        np.testing.assert_array_equal(data.pictures[k], alone.pictures[0])
        np.testing.assert_array_equal(data.poses[k], alone.poses[0])


def made_alone(root, seed):
    lists(root, [IDS[seed], "x"], [])
    thing(root / IDS[seed], seed)
    return objects.shapenet(root, "train", size=8)


@pytest.mark.parametrize("name", ["../../outside", "..", ".", "", "a/b", "a\\b", "/etc", "x\0y"])
def test_an_id_that_leads_out_is_refused(tmp_path, name):
    root = tmp_path / "root"
    made(root)
    thing(tmp_path / "outside")
    lists(root, [name, *IDS])
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError, match="leads out of its folder"):
            objects.shapenet(root, "train", size=8, on_error=on_error)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"train": 1, "test": []}', '{"train": []}'])
def test_lists_that_are_not_sound_are_one_line(tmp_path, text):
    made(tmp_path)
    (tmp_path / "chair_splits.json").write_text(text)
    with pytest.raises(DataError, match=r"chair_splits\.json"):
        objects.shapenet(tmp_path, size=8)


def test_nothing_usable_is_refused(tmp_path):
    lists(tmp_path)
    with pytest.raises(DataError, match=r"no usable object in split 'train': .*missing"):
        objects.shapenet(tmp_path, size=8, on_error="skip")
    with pytest.raises(DataError, match="on_error = 'warn'"):
        objects.shapenet(tmp_path, size=8, on_error="warn")


def test_only_the_views_asked_for_are_opened(tmp_path):
    made(tmp_path, views=50)
    for path in (tmp_path / "chairs").rglob("r_*.png"):
        if path.name not in ("r_0.png", "r_25.png"):
            path.write_bytes(b"")
    for part, k in (("support", 0), ("query", 25)):
        data = objects.shapenet(tmp_path, "test", part=part, views=1, size=SIDE)
        layers = np.asarray(Image.open(tmp_path / "chairs" / IDS[-1] / f"r_{k}.png"))
        np.testing.assert_array_equal(data.pictures[0, 0], objects.on_white(layers))


@pytest.mark.slow
def test_the_memory_is_that_of_what_is_asked_for(tmp_path):
    """Of 1080 objects, one view each of 16 pixels: what is returned, and a fifth more."""
    thing(tmp_path / "one", views=25, side=32)
    ids = [f"{i:032x}" for i in range(1200)]
    for name in ids:
        folder = tmp_path / "chairs" / name
        folder.mkdir(parents=True)
        for file in ("transforms.json", "r_0.png"):
            os.link(tmp_path / "one" / file, folder / file)
    lists(tmp_path, ids, ids[:1])
    objects.shapenet(tmp_path, "test", views=1, size=16)
    tracemalloc.start()
    try:
        data = objects.shapenet(tmp_path, "train", views=1, size=16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    asked = data.pictures.nbytes + data.poses.nbytes
    assert data.pictures.shape == (1080, 1, 16, 16, 3)
    assert peak < 1.2 * asked + listed(ids), (peak, asked)


def listed(ids):
    """Memory of the names, as JSON's reader has it."""
    tracemalloc.start()
    text = json.dumps(dict(train=ids, test=ids[:1]))
    kept = json.loads(text), tuple(ids)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return size


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["../x", "\ud800", "\0", "a" * 300, "r_1", "./r_0.png", "/etc/passwd"])
)
JSON = st.recursive(SCALARS, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(), x))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapenet")
    made(root)
    return root, json.loads((first(root) / "transforms.json").read_text())


@given(
    st.dictionaries(st.sampled_from(["camera_angle_x", "frames"]), JSON),
    st.dictionaries(st.sampled_from(["file_path", "transform_matrix"]), JSON),
    st.dictionaries(st.sampled_from(["train", "test", "val"]), JSON),
)
@settings(max_examples=60)
def test_any_json_is_data_or_one_line(collection, shared, own, sides):
    root, table = collection
    table = json.loads(json.dumps(table))
    table["frames"][1] |= own
    (first(root) / "transforms.json").write_text(json.dumps(table | shared))
    text = json.dumps(dict(train=IDS, test=IDS[-1:]) | sides)
    (root / "chair_splits.json").write_text(text)
    for on_error in ("raise", "skip"):
        try:
            data = objects.shapenet(root, "all", size=8, on_error=on_error)
        except DataError as e:
            one_line = "\n" not in str(e)
            assert one_line, repr(e)  # noqa: PT017
        else:
            assert np.isfinite(data.poses).all()
