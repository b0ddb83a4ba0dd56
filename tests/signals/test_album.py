"""One photograph, by its name or from a file."""

import numpy as np
import pytest
from PIL import Image

from learnit_utils.signals import album, photos
from learnit_utils.signals.base import DataError


def saved(path, high, wide, rng):
    Image.fromarray((255 * rng.random((high, wide, 3))).astype(np.uint8)).save(path)
    return path


def test_a_name_is_the_photograph_that_ships():
    one = album.photograph("owl", 64)
    assert one.names == ("owl",)
    np.testing.assert_array_equal(one.arrays[0], photos.load("all", size=64).get("owl"))
    gray = album.photograph("owl", 32, gray=True, square=True).arrays[0]
    np.testing.assert_array_equal(gray, photos.load("all", size=32, gray=True).get("owl"))


@pytest.mark.parametrize(("high", "wide", "kept"), [(60, 90, (32, 48)), (90, 60, (48, 32))])
def test_a_file_keeps_its_proportions(high, wide, kept, tmp_path, rng):
    path = saved(tmp_path / "mine.png", high, wide, rng)
    one = album.photograph(path, 48)
    assert one.arrays.shape == (1, *kept, 3)
    assert one.names == ("mine.png",)
    assert one.provenance["licence"] == "the owner's"
    assert album.photograph(str(path), 48, square=True, gray=True).arrays.shape == (1, 48, 48, 1)


def test_what_is_no_photograph_is_refused_in_one_line(tmp_path, rng):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png.*not a picture"):
        album.photograph(tmp_path / "text.png", 48)
    with pytest.raises(DataError, match=r"nowhere") as told:
        album.photograph("nowhere", 48)
    assert "\n" not in str(told.value)
    narrow = saved(tmp_path / "narrow.png", 10, 200, rng)
    with pytest.raises(DataError, match="48 x 2 pixels when the longer side has 48"):
        album.photograph(narrow, 48)
    with pytest.raises(DataError, match="size = 0"):
        album.photograph("owl", 0)
