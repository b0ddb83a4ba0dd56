"""Photographs of places as users have them: layouts, names, lenses, bounds, what is left out."""

import contextlib
import shutil
import struct
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places_on_disk import HIGH, WIDE, facade, picture

from learnit_utils.forward import cameras
from learnit_utils.signals import _names, colmap, places
from learnit_utils.signals.base import SPLITS, DataError, DataWarning

pycolmap = pytest.importorskip("pycolmap", reason="the extra sfm")
COUNT = 12
MAC = b"\0\5\26\7\0\2\0\0Mac OS X"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("facade")
    return facade(root, count=COUNT), root


@pytest.fixture
def place(made, tmp_path):
    """A copy of the facade that a test may change."""
    root = tmp_path / "place"
    shutil.copytree(made[1], root)
    return root


def stored(root, name):
    return np.asarray(Image.open(root / "images" / name))


# --- laws --------------------------------------------------------------------------------------
@pytest.mark.parametrize("focal", [90.0, 62.7, 43.0, 30.0])  # half-diagonals of 24 to 53 degrees
def test_rays_reach_every_point_that_is_seen(tmp_path, focal):
    """A flat wall: in the corners it is up to 1.7 times as far as it is deep."""
    points, seen = facade(tmp_path, focal, count=4)
    data, beyond, nearer = colmap.load(tmp_path, "all", scale=1.0), [], []
    for name, pose, (near, far) in zip(data.names, data.views.pose, data.views.bounds):
        at, sees = seen[name]
        np.testing.assert_allclose(pose[:3, 3], at, atol=1e-6)
        away = np.linalg.norm(points[sees] - at, axis=1)
        beyond.append(np.mean(away > far))
        nearer.append(np.mean(away < near))
        rays = cameras.camera_rays(pose, (HIGH, WIDE), 2 * np.arctan(WIDE / 2 / focal))
        wall = (5 - at[2]) / np.asarray(rays.direction)[..., 2]
        assert (wall < far).all()  # and the wall itself, in every pixel
    assert np.mean(beyond) <= 1e-3
    assert np.mean(nearer) <= 1e-3


@given(st.integers(1, 400))
def test_a_split_is_a_partition_and_no_side_is_empty(count):
    names = [f"{i:03}" for i in range(count)]
    sides = {s: places.of_split(names, s, None) for s in SPLITS}
    assert sides["test"] + sides["validation"] + sides["train"] == names
    if count >= 3:
        assert all(sides.values())
    if count >= places.FEW:
        assert (len(sides["test"]), len(sides["validation"])) == (20, 5)  # learnit's
    elif count >= 10:
        assert len(sides["train"]) > count / 2


@given(st.text("aB1 /\\.:", min_size=1, max_size=20))
def test_no_name_leads_anywhere_but_into_the_folder(name):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        picture(root / "a.png")
        picture(Path(folder) / "B.png")
        files = _names.Files(root, [name])
        with contextlib.suppress(DataError):
            assert files[name] == root / "a.png"


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_of_known_cameras_are_not_turned(place, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    for path in (place / "images").iterdir():
        image = Image.open(path).copy()
        image.save(path, exif=exif)
    data = colmap.load(place, "all")
    for i, name in enumerate(data.names):
        np.testing.assert_array_equal(data.picture(i), stored(place, name))


# --- models ------------------------------------------------------------------------------------
def without(root, names, out):
    """The model without some photographs, written elsewhere."""
    model = pycolmap.Reconstruction(str(root / "sparse/0"))
    for image in list(model.images.values()):
        if image.name in names:
            model.deregister_frame(image.frame_id)
    out.mkdir(parents=True)
    model.write(str(out))


def gui(root):
    """A project of COLMAP's window: what the mapper left, and the undistorted beside it."""
    (root / "dense/0").mkdir(parents=True)
    shutil.copytree(root / "sparse/0", root / "dense/0/sparse")
    shutil.copytree(root / "images", root / "dense/0/images")
    camera = root / "sparse/0/cameras.txt"
    camera.write_text(f"1 SIMPLE_RADIAL {WIDE} {HIGH} 60 32 24 0.05\n")


def small_first(root):
    (root / "sparse/0").rename(root / "sparse/1")
    keep = [f"{i:03}.png" for i in range(3)]
    names = [p.name for p in (root / "images").iterdir() if p.name not in keep]
    whole = root / "sparse/1"
    shutil.copytree(whole, root / "sparse/0")
    without(root, names, root / "small")
    shutil.rmtree(root / "sparse/0")
    (root / "small").rename(root / "sparse/0")


def moved(*pairs):
    def change(root):
        for old, new in pairs:
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            (root / old).rename(root / new)

    return change


def smaller(k):
    """images_2, images_4 or images_8 alone, beside a model of the whole pictures."""

    def change(root):
        (root / f"images_{k}").mkdir()
        for path in (root / "images").iterdir():
            small = Image.open(path).resize((WIDE // k, HIGH // k), Image.Resampling.BOX)
            small.save(root / f"images_{k}" / path.name)
        shutil.rmtree(root / "images")

    return change


def renamed(pattern, folder="", file=None):
    """Names of the model, and of files, by a pattern of their stems."""

    def change(root):
        table = root / "sparse/0/images.txt"
        text = table.read_text()
        for path in list((root / "images").iterdir()):
            text = text.replace(path.name, pattern.format(path.stem))
            new = root / "images" / folder / (file or pattern).format(path.stem)
            new.parent.mkdir(exist_ok=True)
            if new.suffix.lower() in (".jpg", ".jpeg"):
                Image.open(path).save(new, "JPEG")
                path.unlink()
            else:
                path.rename(new)
        table.write_text(text)

    return change


def litter(root):
    for name in ("._000.png", ".DS_Store", ".thumbs/000.png", "@eaDir/000.png", "__MACOSX/x.png"):
        path = root / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(MAC)


LOADS = {
    "sparse/0": lambda root: None,
    "the model in the folder itself": moved(
        *((f"sparse/0/{n}.txt", f"{n}.txt") for n in ("cameras", "images", "points3D"))
    ),
    "pictures and model in one folder": lambda root: [
        shutil.move(p, root) for part in ("sparse/0", "images") for p in (root / part).iterdir()
    ],
    "sparse": moved(("sparse/0", "x"), ("x", "sparse/x"), ("sparse/x", "sparse/0")),
    "dense": moved(("sparse/0", "dense/sparse"), ("images", "dense/images")),
    "dense/0": moved(("sparse/0", "dense/0/sparse"), ("images", "dense/0/images")),
    "dense/0 beside a distorted model": gui,
    "colmap/sparse/0": moved(("sparse/0", "colmap/sparse/0")),
    "sparse/0 smaller than sparse/1": small_first,
    "images_2": smaller(2),
    "images_4": smaller(4),
    "names with the folder in front": renamed("images/{}.png", file="{}.png"),
    "names with back-slashes": renamed("cam1\\{}.png", "cam1", "{}.png"),
    "names of Windows": renamed("C:\\shots\\{}.png", file="{}.png"),
    "absolute names": renamed("/home/x/shots/{}.png", file="{}.png"),
    "names with ./": renamed("./{}.png", file="{}.png"),
    "names with ../": renamed("../shots/{}.png", file="{}.png"),
    "sub-folders": renamed("cam1/{}.png", "cam1", "{}.png"),
    "another case": renamed("{}.png", file="{}.PNG"),
    "another suffix": renamed("{}.png", file="{}.jpeg"),
    "litter beside the pictures": litter,
}


@pytest.mark.parametrize("layout", LOADS)
def test_a_layout_is_read(place, layout):
    before = colmap.load(place, "all")
    LOADS[layout](place)
    data = colmap.load(place, "all")
    assert len(data.names) == COUNT
    assert data.provenance["unregistered"] == 0
    np.testing.assert_array_equal(data.views.pose, before.views.pose)
    np.testing.assert_allclose(data.views.bounds, before.views.bounds, rtol=1e-6)
    part = data.views.size[:, :1] / before.views.size[:, :1]
    np.testing.assert_allclose(data.views.intrinsics, before.views.intrinsics * part, rtol=1e-6)
    if "suffix" not in layout and "_" not in layout:
        np.testing.assert_array_equal(data.views.pixels, before.views.pixels)


def test_of_several_models_it_says_which(place):
    small_first(place)
    with pytest.warns(DataWarning, match=r"model sparse/1, the largest of 2: 12 photographs"):
        data = colmap.load_collection(place, "all")
    assert data.provenance["others"] == {"sparse/0": 3}


def test_a_folder_of_smaller_pictures_can_be_asked_for(place):
    whole = colmap.load(place, "all")
    (place / "images").rename(place / "kept")
    shutil.copytree(place / "kept", place / "images")
    smaller(2)(place)
    (place / "kept").rename(place / "images")
    assert colmap.load(place, "all").provenance == whole.provenance
    half = colmap.load(place, "all", images="images_2")
    np.testing.assert_array_equal(half.views.size * 2, whole.views.size)
    np.testing.assert_allclose(half.views.intrinsics * 2, whole.views.intrinsics)
    with pytest.raises(DataError, match="no folder 'images_3' beside the model"):
        colmap.load(place, "all", images="images_3")


# --- lenses ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("SIMPLE_RADIAL", "32 24 0.08"),
        ("OPENCV", "60 32 24 0.05 0.01 0.002 0.001"),
        ("OPENCV_FISHEYE", "60 32 24 0.01 0 0 0"),
    ],
)
@pytest.mark.parametrize("part", [1, 2])
def test_distorted_photographs_are_undistorted_when_asked(tmp_path, model, more, part):
    """A pattern drawn through the distorted camera: after undistortion it is where rays say."""
    facade(tmp_path, model=model, lens=f"60 {more}", count=4)
    lens = pycolmap.Reconstruction(str(tmp_path / "sparse/0")).cameras[1]
    lens.rescale(WIDE * 4 // part, HIGH * 4 // part)
    high, wide = lens.height, lens.width
    row, column = np.mgrid[0.5:high, 0.5:wide]
    at = lens.cam_from_img(np.stack([column.ravel(), row.ravel()], -1))
    shown = np.stack([wave(*at.T)] * 3, -1).reshape(high, wide, 3)
    table = tmp_path / "sparse/0/cameras.txt"
    big = pycolmap.Reconstruction(str(tmp_path / "sparse/0")).cameras[1]
    big.rescale(WIDE * 4, HIGH * 4)
    table.write_text(f"1 {model} {big.width} {big.height} {' '.join(map(str, big.params))}\n")
    for path in (tmp_path / "images").iterdir():
        Image.fromarray(np.uint8(np.round(255 * shown))).save(path)
    with pytest.raises(DataError, match="undistort=True"):
        colmap.load(tmp_path, "all")
    data = colmap.load(tmp_path, "all", undistort=True, size=4096)
    fx, fy, cx, cy = data.views.intrinsics[0]
    got = data.picture(0)[..., 0] / 255
    row, column = np.mgrid[0.5 : got.shape[0], 0.5 : got.shape[1]]
    want = wave((column - cx) / fx, (row - cy) / fy)
    assert np.abs(got - want)[2:-2, 2:-2].max() < 0.05


def test_a_chapters_folder_is_undistorted_and_told(place):
    camera = place / "sparse/0/cameras.txt"
    camera.write_text(f"1 SIMPLE_RADIAL {WIDE} {HIGH} 60 32 24 0.05\n")
    with pytest.warns(DataWarning, match="distortion taken out of 12 photographs"):
        data = colmap.load_collection(place, "all")
    asked = colmap.load(place, "all", undistort=True, scale=None)
    assert data.provenance == asked.provenance
    assert asked.provenance["undistorted"] == COUNT
    with pytest.raises(DataError, match="SIMPLE_RADIAL distorts; undistort=True takes it out"):
        colmap.load_collection(place, "all", undistort=False)


def wave(x, y):
    return 0.5 + 0.2 * np.sin(9 * x) + 0.2 * np.cos(8 * y)


# --- what is left out, and what is refused ------------------------------------------------------
def first(root):
    return root / "images/000.png"


def edited(name, old, new):
    def change(root):
        path = root / "sparse/0" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def lone(root):
    """The first photograph sees one point alone."""
    path = root / "sparse/0/images.txt"
    rows = path.read_text().splitlines()
    rows[1] = " ".join(rows[1].split()[:3])
    path.write_text("\n".join(rows) + "\n")
    tracks = root / "sparse/0/points3D.txt"
    own = rows[1].split()[2]
    kept = []
    for row in tracks.read_text().splitlines():
        words = row.split()
        pairs = [words[k : k + 2] for k in range(8, len(words), 2)]
        pairs = [p for p in pairs if p[0] != "1" or (words[0] == own and p[1] == "0")]
        if pairs:
            kept.append(" ".join([*words[:8], *(w for p in pairs for w in p)]))
    tracks.write_text("\n".join(kept) + "\n")


def georegistered(root):
    """Coordinates of a map: half a metre is all that float32 tells apart."""
    model = pycolmap.Reconstruction(str(root / "sparse/0"))
    model.transform(pycolmap.Sim3d(1.0, pycolmap.Rotation3d(), np.array([4e5, 5e6, 100.0])))
    model.write_text(str(root / "sparse/0"))


def test_what_is_too_far_from_the_origin_is_refused_or_moved(place):
    near = colmap.load(place, "all", scale=None)
    georegistered(place)
    with pytest.raises(DataError, match="too much for single precision"):
        colmap.load(place, "all")
    moved = colmap.load(place, "all", scale=None)
    np.testing.assert_allclose(moved.views.pose, near.views.pose, atol=1e-4)
    np.testing.assert_allclose(moved.views.bounds, near.views.bounds, rtol=1e-4)


SKIPS = {
    "missing": (lambda root: first(root).unlink(), "missing"),
    "cut off": (
        lambda root: first(root).write_bytes(first(root).read_bytes()[:2000]),
        "truncated",
    ),
    "not a picture": (lambda root: first(root).write_bytes(b"hello"), "not a picture"),
    "empty": (lambda root: first(root).write_bytes(b""), "not a picture"),
    "resized": (lambda root: picture(first(root), size=(32, 24)), "32 x 24 pixels, its camera"),
    "cut": (lambda root: picture(first(root), size=(64, 40)), "64 x 40 pixels, its camera"),
    "turned": (lambda root: picture(first(root), size=(48, 64)), "48 x 64 pixels, its camera"),
    "seeing one point": (lone, "sees 1 points"),
    "turned round": (edited("images.txt", "1 1 0 0 0", "1 0 0 1 0"), "lie behind its camera"),
    "a link out": (
        lambda root: (first(root).unlink(), first(root).symlink_to(__file__)),
        "leads out of its folder",
    ),
    "a name with ..": (edited("images.txt", " 000.png", " x/../../y.png"), "leads out of"),
    "one file for two": (edited("images.txt", " 000.png", " other/001.png"), "one file"),
}


@pytest.mark.parametrize("how", SKIPS)
def test_a_photograph_that_cannot_be_used_is_left_out_and_told(place, how):
    spoil, why = SKIPS[how]
    spoil(place)
    with pytest.raises(DataError, match=why) as e:
        colmap.load(place, "all")
    assert "\n" not in str(e.value)
    data = colmap.load(place, "all", on_error="skip")
    assert len(data.names) == COUNT - 1
    assert len(data.provenance["skipped"]) == 1
    assert why in next(iter(data.provenance["skipped"].values()))
    with pytest.warns(DataWarning, match=why):
        assert colmap.load_collection(place, "all").names == data.names
    sides = [colmap.load(place, s, on_error="skip").names for s in ("test", "validation", "train")]
    assert all(sides)


def test_it_is_told_once(place):
    first(place).unlink()
    with pytest.warns(DataWarning, match="left out") as told:
        _ = [colmap.load_collection(place, "all") for _ in range(3)]
    assert len(told) == 1


def test_what_was_not_asked_for_is_told_and_else_nothing(place):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colmap.load_collection(place, "all")
        first(place).unlink()
        colmap.load_collection(place, "all", on_error="skip")
    with pytest.raises(DataError, match="missing"):
        colmap.load_collection(place, "all", on_error="raise")
    with pytest.raises(DataError, match="on_error = 'warn': expected one of raise, skip"):
        colmap.load(place, on_error="warn")


def test_a_place_without_any_usable_photograph_is_refused(place):
    for path in (place / "images").iterdir():
        path.write_bytes(b"hello")
    with pytest.raises(DataError, match=r"0 in all.*left out .*000\.png: not a picture"):
        colmap.load(place, "all", on_error="skip")


def put(name, change):
    def spoil(folder):
        path = folder / f"{name}.bin"
        path.write_bytes(change(path.read_bytes()))

    return spoil


BROKEN = {
    f"{name} {how}": put(name, change)
    for name in ("cameras", "images", "points3D", "rigs", "frames")
    for how, change in {
        "empty": lambda data: b"",
        "cut to a tenth": lambda data: data[: len(data) // 10],
        "cut to 60 %": lambda data: data[: len(data) * 6 // 10],
        "cut by two bytes": lambda data: data[:-2],
        "with two bytes more": lambda data: data + b"\0\0",
        "of 0xff": lambda data: b"\xff" * 4000,
        "with a huge count": lambda data: struct.pack("<Q", 2**60) + data[8:],
    }.items()
}
BROKEN |= {
    "cameras missing": lambda f: (f / "cameras.bin").unlink(),
    "points3D missing": lambda f: (f / "points3D.bin").unlink(),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_binary_model_that_is_broken_is_one_line(place, how):
    model, folder = pycolmap.Reconstruction(str(place / "sparse/0")), place / "sparse/0"
    for path in folder.iterdir():
        path.unlink()
    model.write(str(folder))
    assert len(colmap.load(place, "all").names) == COUNT
    BROKEN[how](folder)
    with pytest.raises(DataError) as e:
        colmap.load(place, "all", on_error="skip")
    assert str(folder) in str(e.value)
    assert "\n" not in str(e.value)


def test_a_name_of_another_encoding_is_left_out(binary):
    root, files = binary
    for path, content in files.items():
        path.write_bytes(content.replace(b"000.png\0", b"\xe4\xf6\xfc.png\0"))
    data = colmap.load(root, "all", on_error="skip")
    assert data.names == ("001.png", "002.png", "003.png")
    assert "not UTF-8" in next(iter(data.provenance["skipped"]))


TEXTS = {
    "focal length 0": edited("cameras.txt", "60.0 60.0", "0 0"),
    "focal length below 0": edited("cameras.txt", "60.0 60.0", "-60 60"),
    "focal length NaN": edited("cameras.txt", "60.0 60.0", "nan 60"),
    "unknown model": edited("cameras.txt", "PINHOLE", "NONSENSE"),
    "camera of one word": lambda root: (root / "sparse/0/cameras.txt").write_text("1\n"),
    "points empty": lambda root: (root / "sparse/0/points3D.txt").write_text(""),
    "letters": edited("images.txt", "1 1 0 0 0", "1 a b c d"),
    "camera of another number": edited("images.txt", " 1 000.png", " 99 000.png"),
    "points missing": lambda root: (root / "sparse/0/points3D.txt").unlink(),
    "no model": lambda root: shutil.rmtree(root / "sparse"),
    "no pictures": lambda root: shutil.rmtree(root / "images"),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("how", TEXTS)
def test_a_text_model_that_is_broken_is_one_line(place, how):
    TEXTS[how](place)
    for on_error in ("raise", "skip"):
        with pytest.raises(DataError) as e:
            colmap.load(place, "all", on_error=on_error)
        assert "\n" not in str(e.value)
        assert "place" in str(e.value) or ".png" in str(e.value)


def test_what_colmap_leaves_out_is_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        colmap._tell(Path("x"), 8, [8])
    with pytest.warns(
        DataWarning, match="x: cameras of 5 of 8 photographs found, the largest of 2"
    ):
        colmap._tell(Path("x"), 8, [3, 5])


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """A small model in binary files, and their contents."""
    root = tmp_path_factory.mktemp("binary")
    facade(root, count=4, points=200)
    folder = root / "sparse/0"
    model = pycolmap.Reconstruction(str(folder))
    for path in folder.iterdir():
        path.unlink()
    model.write(str(folder))
    return root, {path: path.read_bytes() for path in folder.iterdir()}


CHANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4)


@given(st.integers(0, 4), CHANGES, st.sampled_from([0.05, None]))
@settings(max_examples=60)
def test_a_model_with_other_bytes_is_data_or_one_line(binary, which, changes, scale):
    root, files = binary
    for path, content in files.items():
        path.write_bytes(content)
    path = sorted(files)[which]
    content = bytearray(files[path])
    for at, value in changes:
        content[at % len(content)] = value
    path.write_bytes(bytes(content))
    try:
        data = colmap.load(root, "all", on_error="skip", scale=scale)
    except DataError as e:
        one_line = "\n" not in str(e)
        assert one_line, repr(e)  # noqa: PT017
    else:
        assert all(np.isfinite(v).all() for v in data.views)
