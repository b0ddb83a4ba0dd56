"""EXIF turns pictures, and does nothing else: broken entries never stop one."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from learnit_utils.signals import base, local
from learnit_utils.signals.base import DataError

SHORT, LONG, RATIONAL, SSHORT, TEXT = 3, 4, 5, 8, 2
TURN = (0x0112, SHORT, 1, struct.pack("<HH", 6, 0))


def exif(*entries, turn=TURN):
    """EXIF's bytes from (tag, type, count, four bytes)."""
    rows = sorted((*entries, turn)) if turn else sorted(entries)
    body = b"".join(struct.pack("<HHI", *row[:3]) + row[3] for row in rows)
    head = b"II*\0" + struct.pack("<IH", 8, len(rows))
    return b"Exif\0\0" + head + body + struct.pack("<I", 0) + struct.pack("<II", 0, 0)


def at_end(entries):
    """Where eight bytes of zeros lie behind so many entries, from the head of TIFF."""
    return struct.pack("<I", 8 + 2 + 12 * (entries + 1) + 4)


BROKEN = {
    "a resolution of 0/0": [(0x011A, RATIONAL, 1, at_end(1))],
    "both of 0/0": [(0x011A, RATIONAL, 1, at_end(2)), (0x011B, RATIONAL, 1, at_end(2))],
    "a unit of -1": [(0x0128, SSHORT, 1, struct.pack("<hh", -1, 0))],
    "a width of text": [(0x0100, TEXT, 4, b"abc\0")],
    "a model as a rational": [(0x0111, RATIONAL, 1, at_end(1))],
    "a type that does not exist": [(0x0132, 99, 1, b"\0\0\0\0")],
    "an offset beyond the end": [(0x010F, TEXT, 400, struct.pack("<I", 10**6))],
    "a huge count": [(0x010F, TEXT, 2**32 - 1, struct.pack("<I", 8))],
    "another IFD beyond the end": [(0x8769, LONG, 1, struct.pack("<I", 10**6))],
    "GPS in itself": [(0x8825, LONG, 1, struct.pack("<I", 8))],
    "a maker's note of nothing": [(0x927C, 7, 4, b"\0\0\0\0")],
}
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)


def save(path, data, pixels=PIXELS):
    how = dict(quality=95) if path.suffix == ".jpg" else {}
    Image.fromarray(pixels).save(path, exif=data, **how)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("how", BROKEN)
def test_broken_entries_do_not_stop_a_picture_nor_its_turn(tmp_path, how, suffix):
    path = save(tmp_path / f"a{suffix}", exif(*BROKEN[how]))
    plain = base.read_picture(save(tmp_path / f"b{suffix}", exif(turn=None)))
    assert plain.shape == (20, 30, 3)
    turned = base.read_picture(path)
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))
    np.testing.assert_array_equal(base.read_picture(path, upright=False), plain)


@pytest.mark.parametrize("value", [0, 1, 9, 255, 65535])
def test_a_turn_that_does_not_exist_is_none(tmp_path, value):
    turn = (*TURN[:3], struct.pack("<HH", value, 0))
    u = base.read_picture(save(tmp_path / "a.png", exif(turn=turn)))
    np.testing.assert_allclose(u, PIXELS / 255, atol=1e-6)


@given(data=st.binary(max_size=200), keep=st.integers(0, 60))
def test_any_bytes_as_exif_leave_a_picture(tmp_path_factory, data, keep):
    """Nothing but a picture or one line comes of them."""
    path = tmp_path_factory.mktemp("exif") / "a.jpg"
    save(path, b"Exif\0\0" + exif()[6 : 6 + keep] + data)
    try:
        u = base.read_picture(path)
    except DataError as e:
        pytest.fail(str(e))
    assert u.shape in ((20, 30, 3), (30, 20, 3))


def test_a_folder_with_broken_exif_is_a_class(tmp_path):
    for i, how in enumerate(BROKEN):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        save(tmp_path / f"{i}.jpg", exif(*BROKEN[how]), pixels)
    assert len(local.folder(tmp_path, size=16).names) == len(BROKEN)
