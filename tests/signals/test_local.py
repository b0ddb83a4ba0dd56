"""A folder of pictures as a class: what is in it, what is refused, and which side it falls on."""

import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from learnit_utils.signals import base, local, transforms
from learnit_utils.signals.base import DataError


@pytest.fixture
def album(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "sub").mkdir()
    for i in range(40):
        u = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(u).save(tmp_path / ("sub" if i % 2 else ".") / f"{i:02}.png")
    (tmp_path / "notes.txt").write_text("not a picture, by its name")
    return tmp_path


def test_a_folder_is_a_class(album):
    d = local.folder(album, size=16)
    assert d.arrays.shape == (40, 16, 16, 3)
    parts = [local.folder(album, s, size=16).names for s in base.SPLITS]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 40


def test_a_recipes_folder_is_that_folder(album):
    one, two = local.from_folder(album, "train", size=8), local.folder(album, "train", size=8)
    assert one.provenance == two.provenance


def test_copies_in_a_folder_stay_together(album):
    for path in list(album.glob("*.png")):
        (album / f"copy_{path.name}").write_bytes(path.read_bytes())
    for split in base.SPLITS:
        names = set(local.folder(album, split, size=16).names)
        assert {f"copy_{n}" for n in names if "/" not in n and "copy" not in n} <= names


def test_a_bad_file_stops_or_is_noted(album):
    whole = (album / "00.png").read_bytes()
    (album / "torn.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"torn\.png"):
        local.folder(album, size=16)
    d = local.folder(album, size=16, on_error="skip")
    assert len(d.names) == 40
    assert list(d.provenance["skipped"]) == ["torn.png"]


@pytest.mark.parametrize("case", ["absent", "empty", "file", "all_bad", "on_error"])
def test_folders_that_cannot_be_used_are_named(tmp_path, album, case):
    if case == "absent":
        call, told = (lambda: local.folder(tmp_path / "no")), "not a folder"
    elif case == "file":
        call, told = (lambda: local.folder(album / "notes.txt")), "not a folder"
    elif case == "on_error":
        call, told = (lambda: local.folder(album, on_error="warn")), "one of raise, skip"
    else:
        folder = tmp_path / "f"
        folder.mkdir()
        if case == "all_bad":
            (folder / "a.png").write_bytes(b"x")
        call = lambda: local.folder(folder, on_error="skip")  # noqa: E731
        told = "no usable picture" if case == "all_bad" else "no picture in it"
    with pytest.raises(DataError, match=told):
        call()


def test_imagenette_from_its_folder(tmp_path):
    rng = np.random.default_rng(1)
    for part, count in (("train", 60), ("val", 12)):
        for synset in ("n01440764", "n03888257"):
            (tmp_path / part / synset).mkdir(parents=True)
            for i in range(count // 2):
                u = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(u).save(tmp_path / part / synset / f"{synset}_{i}.JPEG")
    train, held, test = (local.imagenette(tmp_path, s, size=16) for s in base.SPLITS)
    assert len(test.names) == 12
    assert len(train.names) + len(held.names) == 60
    assert len(held.names) > 0
    assert not set(train.names) & set(held.names)
    few = local.imagenette(tmp_path, "train", size=16, limit=8)
    assert {n.split("/")[1] for n in few.names} == {"n01440764", "n03888257"}
    with pytest.raises(DataError, match="not Imagenette"):
        local.imagenette(tmp_path / "train")
    (tmp_path / "val/n01440764/n01440764_0.JPEG").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"n01440764_0\.JPEG: not a picture"):
        local.imagenette(tmp_path, "test", size=16)
    left = local.imagenette(tmp_path, "test", size=16, on_error="skip")
    assert len(left.names) == 11
    assert list(left.provenance["skipped"]) == ["val/n01440764/n01440764_0.JPEG"]


# --- what a user's folder may hold ------------------------------------------------------------
def picture(path, size=(24, 20), seed=0):
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def test_sizes_may_differ(tmp_path):
    for i, size in enumerate([(8, 8), (300, 20), (21, 33), (64, 64), (9, 500)]):
        picture(tmp_path / f"{i}.png", size, seed=i)
    assert local.folder(tmp_path, size=16).arrays.shape == (5, 16, 16, 3)
    assert local.folder(tmp_path, size=16, gray=True).arrays.shape == (5, 16, 16, 1)


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_a_few_pictures_go_to_all_sides(tmp_path, count):
    for trial in range(4):
        home = tmp_path / f"{trial}"
        home.mkdir()
        for i in range(count):
            picture(home / f"{i}.png", seed=100 * trial + i)
        sides = [local.folder(home, s, size=8).names for s in base.SPLITS]
        assert all(sides)
        assert sorted(sum(sides, ())) == [f"{i}.png" for i in range(count)]


def test_a_picture_stays_on_its_side_when_others_come(album):
    before = {s: set(local.folder(album, s, size=8).names) for s in base.SPLITS}
    for i in range(30):
        picture(album / f"new{i}.png", seed=1000 + i)
    for split, names in before.items():
        assert names <= set(local.folder(album, split, size=8).names)


@pytest.mark.parametrize("copies", [1, 7])
def test_one_picture_is_not_enough(tmp_path, copies):
    for i in range(copies):
        picture(tmp_path / f"{i}.png", seed=0)
    assert len(local.folder(tmp_path, size=8).names) == copies
    with pytest.raises(DataError, match="different pictures: 1; at least 3 for train, validation"):
        local.folder(tmp_path, "train", size=8)


def bomb(side):
    """A PNG that says it is side x side, in a few dozen bytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


HOSTILE = {
    "not_a_picture": (lambda p: p.write_text("hello"), "not a picture of an allowed format"),
    "bomb": (lambda p: p.write_bytes(bomb(60_000)), "more than the 67108864"),
    "tiny": (lambda p: picture(p, (4, 4)), "at least 8 x 8 needed"),
    "link_out": (lambda p: p.symlink_to(__file__), "a link that leads out of"),
    "link_to_a_picture": (
        lambda p: p.symlink_to(p.parent.parent / "x.png"),
        "a link that leads out",
    ),
}


@pytest.mark.parametrize("split", ["all", *base.SPLITS])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_used_is_one_line_or_left_out(tmp_path, name, split):
    home = tmp_path / "home"
    home.mkdir()
    picture(tmp_path / "x.png", seed=99)
    for i in range(20):
        picture(home / f"{i}.png", seed=i)
    make, told = HOSTILE[name]
    make(home / "bad.png")
    for part in base.SPLITS if split == "all" else ():
        assert "bad.png" not in local.folder(home, part, size=8, on_error="skip").names
    if split == "all" or name.startswith("link"):
        with pytest.raises(DataError, match=told) as e:
            local.folder(home, split, size=8)
        assert "bad.png" in str(e.value)
        assert "\n" not in str(e.value)
    left = local.folder(home, split, size=8, on_error="skip")
    assert "bad.png" not in left.names
    if split == "all":
        assert list(left.provenance["skipped"]) == ["bad.png"]
        assert told in left.provenance["skipped"]["bad.png"]


def test_a_link_within_the_folder_is_a_copy(album):
    (album / "again.png").symlink_to(album / "00.png")
    for split in base.SPLITS:
        names = local.folder(album, split, size=8).names
        assert ("again.png" in names) == ("00.png" in names)


def test_a_pipe_is_never_opened(album):
    os.mkfifo(album / "pipe.png")
    assert len(local.folder(album, size=8).names) == 40


@pytest.mark.parametrize("limit", [1, 7, 40, 99])
def test_a_limit_spreads_over_the_folder(album, limit):
    names = local.folder(album, size=8, limit=limit).names
    assert len(names) == min(limit, 40)
    assert names[0] == "00.png"


@given(st.integers(1, 3000), st.integers(1, 4000))
def test_a_spread_is_even(count, limit):
    picked = base.spread(count, limit)
    assert len(picked) == min(count, limit)
    assert picked[0] == 0
    gaps = np.diff([*picked, count])
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_an_impossible_limit_is_named(album):
    with pytest.raises(DataError, match="limit = 0: expected an integer >= 1"):
        local.folder(album, limit=0)


# --- what systems leave beside pictures ---------------------------------------------------------
LITTER = (
    "._00.png",
    ".DS_Store",
    ".thumbnails/00.png",
    "@eaDir/00.png/SYNOPHOTO_THUMB_M.jpg",
    "__MACOSX/sub/._01.png",
    "__MACOSX/01.png",
    "#recycle/old.png",
    "$RECYCLE.BIN/old.png",
    "sub/.hidden/00.png",
    "sub/._01.png",
    "Thumbs.db",
)


@pytest.mark.parametrize("name", LITTER)
@pytest.mark.parametrize("sound", [True, False])
def test_hidden_files_are_no_data(album, name, sound):
    before = [local.folder(album, s, size=8).provenance for s in (*base.SPLITS, "all")]
    path = album / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((album / "00.png").read_bytes() if sound else b"\0\5\26\7Mac OS X")
    assert [local.folder(album, s, size=8).provenance for s in (*base.SPLITS, "all")] == before


def test_hidden_is_what_is_below_the_folder(album):
    """A folder that lies in a hidden one is read."""
    home = album / ".cache/photos"
    home.mkdir(parents=True)
    for i in range(3):
        picture(home / f"{i}.png", seed=i)
    assert len(local.folder(home, size=8).names) == 3
    (home / "only").mkdir()
    picture(home / "only/.x.png")
    with pytest.raises(DataError, match=r"no picture in it .*hidden"):
        local.folder(home / "only", size=8)


@pytest.mark.parametrize("limit", [0, -1])
def test_imagenettes_limit_is_checked(tmp_path, limit):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        picture(tmp_path / part / "a.png")
    with pytest.raises(DataError, match=f"limit = {limit}: expected an integer >= 1"):
        local.imagenette(tmp_path, "all", size=8, limit=limit)


# --- proportions --------------------------------------------------------------------------------
SHAPES = [(40, 60), (80, 120), (64, 64), (20, 30), (22, 33), (120, 40)]  # most are 2 : 3


@pytest.fixture
def of_shapes(tmp_path, rng):
    for i, (high, wide) in enumerate(SHAPES):
        save(tmp_path / f"{i}.png", rng.random((high, wide, 3)))
    return tmp_path


def save(path, picture, **more):
    Image.fromarray((255 * picture).astype(np.uint8)).save(path, **more)


def test_a_folder_keeps_its_common_proportions(of_shapes):
    data = local.folder(of_shapes, size=30, proportions="common")
    assert data.arrays.shape == (6, 20, 30, 3)
    assert data.provenance["cropped"] == 2  # the square one, and the upright one
    square = local.folder(of_shapes, size=30)
    assert square.arrays.shape == (6, 30, 30, 3)
    assert square.provenance["cropped"] == 5
    for split in base.SPLITS:  # a side has the shape of all
        side = local.folder(of_shapes, split, size=30, proportions="common")
        assert side.arrays.shape[1:3] == (20, 30)


def test_proportions_are_those_of_pictures_as_they_are_turned(tmp_path, rng):
    exif = Image.Exif()
    exif[base.ORIENTATION] = 6  # stored lying, shown upright
    for i in range(3):
        save(tmp_path / f"{i}.jpg", rng.random((40, 60, 3)), exif=exif)
    data = local.folder(tmp_path, size=30, proportions="common")
    assert data.arrays.shape[1:3] == (30, 20)
    assert data.provenance["cropped"] == 0


def test_unknown_proportions_are_refused(of_shapes):
    with pytest.raises(DataError, match="proportions = 'wide': one of square, common"):
        local.folder(of_shapes, proportions="wide")


@given(st.integers(8, 200), st.integers(8, 200), st.integers(16, 64))
def test_what_is_kept_is_central_and_as_large_as_can_be(high, wide, size):
    shape = transforms.shrunk(high, wide, size)
    assert max(shape) == size
    ramp = np.linspace(0, 1, high * wide, dtype=np.float32).reshape(high, wide, 1)
    kept = transforms.cropped(np.repeat(ramp, 3, axis=2), shape)
    assert kept.shape == (*shape, 3)
    scale = min(high / shape[0], wide / shape[1])
    lost = [side - round(n * scale) for side, n in zip((high, wide), shape)]
    assert min(lost) <= 0  # one side is kept whole
    if not any(cut % 2 for cut in lost):  # as much on either side
        turned = transforms.cropped(np.repeat(ramp[::-1, ::-1], 3, axis=2), shape)
        np.testing.assert_allclose(turned, kept[::-1, ::-1], atol=2e-3)
