"""Figures of rendered scenes and of studies, from small results."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from learnit_utils.book.plots import protocol, renderings
from learnit_utils.evaluate import Interval
from learnit_utils.forward.rendering import Rendering


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def seen(value, depth=2.0, size=3):
    return Rendering(np.full((size, size, 3), value), np.full((size, size), depth), None, None)


def test_light_along_a_ray_begins_whole():
    weights = np.array([0.25, 0.5, 0.125])
    fig = renderings.along_ray(np.arange(3.0), 1.0, np.ones(3), np.full((3, 3), 0.5), weights, 1.2)
    left = fig.axes[1].lines[0].get_ydata()
    np.testing.assert_allclose(left, [1, 0.75, 0.25])
    assert [bar.get_height() for bar in fig.axes[1].patches] == weights.tolist()


def test_pictures_stand_under_the_truth_with_their_psnr():
    truths = [np.full((3, 3, 3), 0.5)] * 2
    rows, titles = renderings.under_truth(truths, {"a": [seen(0.6)] * 2, "b": [seen(0.4)] * 2})
    assert list(rows) == ["never seen", "a", "b"]
    assert titles == dict(a=["20.0 dB"] * 2, b=["20.0 dB"] * 2)
    rows, titles = renderings.under_truth(truths, {"a": [seen(0.6, depth=3.0)] * 2}, (2.0, 4.0))
    np.testing.assert_allclose(rows["a"][2], 0.5)
    assert titles["a"] == ["20.0 dB", "20.0 dB", "depth, first view"]


def test_changes_are_gray_where_nothing_changes():
    first, second = renderings.signed([np.array([[0.0, -2.0]]), np.array([[1.0, 4.0]])])
    np.testing.assert_allclose(first, [[0.5, 0.0]])
    np.testing.assert_allclose(second, [[0.75, 1.0]])


def test_views_and_steps_share_their_colours():
    intervals = {k: {1: Interval(10, 1), 4: Interval(12, 1)} for k in ("a", "b")}
    courses = {k: (np.arange(3), np.arange(3.0)) for k in ("a", "b")}
    fig = renderings.by_views(intervals, courses, most=4)
    colours = [[line.get_color() for line in ax.lines] for ax in fig.axes]
    assert colours == [["C1", "C0"]] * 2


def test_a_study_is_drawn_with_its_star():
    curves = {"x": {("SGD", 0.1): [1.0, 2.0, 3.0], ("Adam", 1e-3): [2.0, 4.0, 3.0]}}
    fig = protocol.tuning(curves, dict(x=(5, 4.0)), every=5, floors={"all white": 0.5})
    lines = fig.axes[0].lines
    assert [line.get_label() for line in lines[:3]] == ["SGD 0.1", "Adam 0.001", "all white"]
    assert [line.get_linestyle() for line in lines[:2]] == ["-", "--"]
    assert lines[0].get_xdata().tolist() == [0, 5, 10]
    assert lines[3].get_xydata().tolist() == [[5, 4]]
