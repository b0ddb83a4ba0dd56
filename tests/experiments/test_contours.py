"""Level sets and how alike they are, against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.experiments import contours


def disc(radius, centre=(0.5, 0.5), side=64):
    rows = np.arange(side) / side
    at = np.stack(np.meshgrid(rows, rows, indexing="ij"), -1)
    return 0.5 + np.linalg.norm(at - centre, axis=-1) - radius


@given(st.floats(0.1, 0.4), st.floats(0.45, 0.55), st.floats(0.45, 0.55))
@settings(max_examples=25, deadline=None)
def test_the_level_set_of_a_disc_is_its_circle(radius, row, column):
    points = contours.level_set(disc(radius, (row, column)))
    away = np.linalg.norm(points - (row, column), axis=1)
    np.testing.assert_allclose(away, radius, atol=2e-3)
    gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert gaps.max() < 0.6 / 64


@given(st.floats(0.1, 0.3), st.floats(0.01, 0.1))
@settings(max_examples=25, deadline=None)
def test_two_circles_of_one_centre_are_their_difference_of_radius_apart(radius, more):
    told = contours.compared(disc(radius + more, side=256), disc(radius, side=256))
    assert told["chamfer"] == pytest.approx(256 * more, rel=0.05, abs=0.1)
    assert told["iou"] == pytest.approx((radius / (radius + more)) ** 2, abs=0.03)


def test_a_curve_compared_with_itself():
    told = contours.compared(disc(0.2), disc(0.2))
    assert told == dict(chamfer=0, iou=1)


def test_a_missing_curve_is_infinitely_far():
    empty = np.ones((64, 64))
    assert len(contours.level_set(empty)) == 0
    assert contours.compared(empty, disc(0.2)) == dict(chamfer=np.inf, iou=0)
    assert contours.overlap(empty, empty) == 1
