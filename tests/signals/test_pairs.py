"""Pairs of pictures of one person."""

import numpy as np
import pytest

from learnit_utils.signals import faces
from learnit_utils.signals.base import DataError

ORL = [f"s{p}/{i}" for p in range(33, 41) for i in range(1, 11)]


def test_the_first_pairs_are_the_first_and_sixth_picture_of_each_person():
    found = faces.pairs(ORL, 8)
    np.testing.assert_array_equal(found, [[10 * p, 10 * p + 5] for p in range(8)])


@pytest.mark.parametrize("count", [5, 50, 200])
@pytest.mark.parametrize("names", [ORL, [f"{i:06}.jpg" for i in range(200)], ["a", "b", "c"]])
def test_pairs_are_two_pictures_that_exist(names, count):
    for a, b in faces.pairs(names, count):
        assert a != b
        assert 0 <= a < len(names)
        assert 0 <= b < len(names)


def test_a_pair_is_of_one_person_where_persons_have_several_pictures():
    for a, b in faces.pairs(ORL, 40):
        assert ORL[a].split("/")[0] == ORL[b].split("/")[0]
    assert len({tuple(p) for p in faces.pairs(ORL, 40)}) == 40


def test_one_picture_has_no_pair():
    with pytest.raises(DataError, match="expected at least 2"):
        faces.pairs(["a"], 1)
