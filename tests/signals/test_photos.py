"""The shipped photographs, and every kind of file a user might bring."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from learnit_utils.signals import base, local, photos
from learnit_utils.signals.base import DataError


# --- what ships -------------------------------------------------------------------------------
def test_all_photographs_are_there_with_credits():
    d = photos.load("all")
    assert d.arrays.shape == (205, 178, 178, 3)
    assert d.arrays.dtype == np.float32
    assert d.arrays.min() >= 0
    assert d.arrays.max() <= 1
    assert len(set(d.names)) == 205
    for row in photos.credits():
        assert row["licence"].lower() in ("public domain", "cc0-1.0")
        assert row["author"]
        assert row["source"].startswith("http")


def test_splits_partition_the_photographs():
    names = [set(photos.load(s, size=16).names) for s in base.SPLITS]
    assert [len(n) for n in names] == [149, 33, 23]
    assert len(set.union(*names)) == 205


def test_crops_are_squares_of_their_photograph_and_stay_on_its_side():
    parts = {s: photos.load(s, size=32, crops=3) for s in base.SPLITS}
    assert [len(d.names) for d in parts.values()] == [3 * 149, 3 * 33, 3 * 23]
    for split, d in parts.items():
        whole = photos.load(split, size=32)
        assert d.names == tuple(f"{n}#{i}" for n in whole.names for i in range(3))
        assert len(np.unique(d.arrays.reshape(len(d.names), -1), axis=0)) == len(d.names)
    again = photos.load("test", size=32, crops=3).provenance["data_sha256"]
    assert again == parts["test"].provenance["data_sha256"]
    full = photos.load("validation", crops=2, limit=1)
    picture = photos.load("validation").get(full.names[0][:-2])
    for name in full.names:  # 178 x 178 crops are resampled; the smallest value lies within
        u = full.get(name)
        assert picture.min() - 0.05 <= u.min() <= u.max() <= picture.max() + 0.05


@pytest.mark.parametrize("limit", [1, 10, 149, 500])
def test_a_limit_spreads_over_the_photographs(limit):
    assert len(photos.load("train", size=8, limit=limit).names) == min(limit, 149)


@pytest.mark.parametrize(
    ("given", "message"),
    [(dict(limit=0), "limit = 0: expected an integer >= 1"), (dict(crops=-1), "crops = -1")],
)
def test_impossible_limits_and_crops_are_named(given, message):
    with pytest.raises(DataError, match=message):
        photos.load("test", size=8, **given)


def test_no_photograph_stands_on_both_sides_of_a_split():
    """Correlation of thumbnails across splits; copies of a photograph reach 1."""
    thumbs = []
    for split in base.SPLITS:
        u = photos.load(split, size=24, gray=True).arrays.reshape(-1, 576)
        u = u - u.mean(1, keepdims=True)
        thumbs.append(u / np.linalg.norm(u, axis=1, keepdims=True))
    assert max((thumbs[i] @ thumbs[j].T).max() for i, j in ((0, 1), (0, 2), (1, 2))) < 0.95
    together = np.vstack(thumbs)
    twins = np.argwhere(np.triu(together @ together.T, 1) > 0.999)
    assert len(twins) == 3  # the collection holds three photographs twice


def test_loading_is_deterministic_and_says_where_from():
    a, b = photos.load("test", size=32), photos.load("test", size=32)
    np.testing.assert_array_equal(a.arrays, b.arrays)
    assert a.provenance == b.provenance
    assert {"source", "licence", "split", "count", "data_sha256"} <= set(a.provenance)
    assert a.provenance["data_sha256"] != photos.load("test", size=33).provenance["data_sha256"]


def test_gray_is_bt601_of_the_colours():
    colour, gray = photos.load("test"), photos.load("test", gray=True)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(gray.arrays[..., 0], colour.arrays @ weights, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (dict(split="tset"), "split = 'tset': expected one of train, validation, test, all"),
        (dict(size=0), "size = 0: expected 1 to 4096 pixels"),
        (dict(size=5000), "size = 5000"),
    ],
)
def test_impossible_requests_are_named(words, told):
    with pytest.raises(DataError, match=told):
        photos.load(**words)


def test_an_unknown_photograph_is_named():
    with pytest.raises(DataError, match="no picture 'unicorn'"):
        photos.load("test", size=16).get("unicorn")


# --- files that can be used -------------------------------------------------------------------
@pytest.fixture
def picture():
    """30 x 20 pixels: left half red, right half blue, a white corner at the top left."""
    u = np.zeros((20, 30, 3), np.uint8)
    u[:, :15, 0] = u[:, 15:, 2] = 255
    u[:4, :4] = 255
    return u


def saved(tmp_path, image, name, **how):
    path = tmp_path / name
    image.save(path, **how)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff", "a.bmp", "a.ppm", "a.JPG", "a.jpeg"])
def test_ordinary_formats(tmp_path, picture, name):
    how = dict(lossless=True) if name.endswith("webp") else {}
    u = base.read_picture(saved(tmp_path, Image.fromarray(picture), name, **how))
    assert u.shape == (20, 30, 3)
    tolerance = 0.25 if name.lower().endswith(("jpg", "jpeg")) else 1e-6
    assert np.abs(u - picture / 255)[8:, 2:12].max() < tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path, picture, orientation):
    turn = {
        1: picture, 2: picture[:, ::-1], 3: picture[::-1, ::-1], 4: picture[::-1],
        5: picture.transpose(1, 0, 2), 6: np.rot90(picture, 1),
        7: np.rot90(picture, 2).transpose(1, 0, 2), 8: np.rot90(picture, -1),
    }  # fmt: skip
    stored = Image.fromarray(np.ascontiguousarray(turn[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    u = base.read_picture(saved(tmp_path, stored, "a.png", exif=exif))
    np.testing.assert_allclose(u, picture / 255, atol=1e-6)


def test_transparency_is_laid_on_white(tmp_path, picture):
    alpha = np.full((20, 30, 1), 255, np.uint8)
    alpha[10:] = 0
    rgba = Image.fromarray(np.concatenate([picture, alpha], -1))
    u = base.read_picture(saved(tmp_path, rgba, "a.png"))
    np.testing.assert_allclose(u[:10], picture[:10] / 255, atol=1e-6)
    assert (u[10:] == 1).all()


def test_half_transparency_mixes(tmp_path):
    rgba = Image.new("RGBA", (10, 10), (255, 0, 0, 51))
    u = base.read_picture(saved(tmp_path, rgba, "a.png"))
    np.testing.assert_allclose(u[0, 0], [1, 0.8, 0.8], atol=0.01)


def test_gray_with_alpha_and_palette_with_transparency(tmp_path):
    la = Image.merge("LA", (Image.new("L", (9, 9), 100), Image.new("L", (9, 9), 0)))
    assert (base.read_picture(saved(tmp_path, la, "a.png")) == 1).all()
    palette = Image.new("P", (9, 9), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert (base.read_picture(saved(tmp_path, palette, "b.png", transparency=1)) == 1).all()
    np.testing.assert_allclose(
        base.read_picture(saved(tmp_path, palette, "c.png"))[0, 0], [1, 0, 0]
    )


def test_sixteen_bits_keep_their_scale(tmp_path):
    values = np.array([[0, 65535], [32768, 16384]], np.uint16).repeat(6, 0).repeat(6, 1)
    u = base.read_picture(saved(tmp_path, Image.fromarray(values), "a.png"))
    np.testing.assert_allclose(u[..., 0], values / 65535, atol=1e-4)
    np.testing.assert_allclose(u[..., 2], u[..., 0])


@pytest.mark.parametrize("name", ["a.jpg", "a.tiff"])
def test_cmyk_becomes_rgb(tmp_path, name):
    cmyk = Image.new("RGB", (16, 16), (255, 0, 0)).convert("CMYK")
    u = base.read_picture(saved(tmp_path, cmyk, name))
    assert np.abs(u - [1, 0, 0]).max() < 0.03


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "LAB"])
def test_every_mode_gives_three_channels(tmp_path, mode, picture):
    image = Image.fromarray(picture)
    image = image.convert(mode) if mode != "LAB" else Image.new("LAB", (30, 20))
    u = base.read_picture(saved(tmp_path, image, "a.tiff"))
    assert u.shape == (20, 30, 3)
    assert np.isfinite(u).all()


# --- files that cannot: one line that names the file ------------------------------------------
def png_of(width, height):
    """A PNG that claims a size, with next to nothing in it."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bytes_of(mode, size, kind, **how):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, kind, **how)
    return buffer.getvalue()


def text_bomb():
    """A PNG whose compressed comment expands to 200 MB."""
    body = b"zTXt" + b"Comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    good = bytes_of("RGB", (16, 16), "PNG")
    return good[:33] + chunk + good[33:]


BROKEN = {
    "empty": (b"", "not a picture"),
    "text": (b"hello, world", "not a picture"),
    "truncated_png": (bytes_of("RGB", (64, 64), "PNG")[:5000], ""),
    "truncated_jpeg": (bytes_of("RGB", (64, 64), "JPEG")[:1500], "truncated"),
    "truncated_webp": (bytes_of("RGB", (64, 64), "WEBP")[:1500], ""),
    "truncated_tiff": (bytes_of("RGB", (64, 64), "TIFF")[:2000], ""),
    "header_only": (bytes_of("RGB", (64, 64), "PNG")[:20], ""),
    "no_pixels_inside": (png_of(64, 64), ""),
    "one_pixel": (bytes_of("RGB", (1, 1), "PNG"), "1 x 1 pixels, at least 8 x 8"),
    "one_row": (bytes_of("RGB", (500, 1), "PNG"), "500 x 1 pixels"),
    "bomb": (png_of(20_000, 20_000), "more than"),
    "huge_bomb": (png_of(2**31 - 1, 2**31 - 1), "more than"),
    "just_too_large": (png_of(8193, 8192), "8193 x 8192 pixels"),
    "text_bomb": (text_bomb(), ""),
    "gif": (bytes_of("L", (16, 16), "GIF"), "not a picture of an allowed format"),
    "ico": (bytes_of("RGB", (16, 16), "ICO"), "not a picture of an allowed format"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00", "not a picture"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_files_are_named_in_one_line(tmp_path, name):
    data, told = BROKEN[name]
    path = tmp_path / f"{name}.png"
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        base.read_picture(path)
    message = str(error.value)
    assert name in message
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize("name", BROKEN)
def test_unusable_files_are_left_out_of_a_folder_and_told(tmp_path, name):
    data, told = BROKEN[name]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/bad.jpg").write_bytes(data)
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(bytes_of("RGB", (8, 8 + i), "PNG"))
    found = local.folder(tmp_path, size=8, on_error="skip")
    assert found.names == ("0.png", "1.png", "2.png")
    assert list(found.provenance["skipped"]) == ["sub/bad.jpg"]
    why = found.provenance["skipped"]["sub/bad.jpg"]
    assert told in why
    assert "\n" not in why
    with pytest.raises(DataError, match=r"bad\.jpg"):
        local.folder(tmp_path, size=8)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.5])
def test_float_pictures_must_be_pixels(tmp_path, value):
    u = np.full((16, 16), 0.5, np.float32)
    path = saved(tmp_path, Image.fromarray(u), "ok.tiff")
    np.testing.assert_allclose(base.read_picture(path), 0.5)
    u[3, 3] = value
    with pytest.raises(DataError, match="outside"):
        base.read_picture(saved(tmp_path, Image.fromarray(u), "bad.tiff"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.png"):
        base.read_picture(tmp_path / "nothing.png")
