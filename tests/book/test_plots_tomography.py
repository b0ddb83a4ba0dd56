"""Figures of the chapter on tomography, from small results."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from learnit_utils.book.plots import tomography as plots
from learnit_utils.evaluate import Interval
from learnit_utils.experiments.protocol import Choice


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_the_frames_of_a_scanner_show_the_rows_so_far():
    picture, sinogram = np.zeros((8, 8)), np.ones((4, 8))
    angles = np.arange(4) * np.pi / 4
    frames, labels = plots.scanner_frames(picture, sinogram, angles)
    assert labels == ["0°", "45°", "90°", "135°"]
    assert all(f.shape == (32, 72) and 0 <= f.min() <= f.max() <= 1 for f in frames)
    shown = [frame[:, 40:].mean() for frame in frames]
    assert shown == sorted(shown)
    assert shown[-1] == pytest.approx(1)
    assert frames[0][:, 16].min() == 1  # at angle 0 the rays run along the rows' axis


def test_exactness_has_a_line_for_every_projector():
    fig = plots.exactness([16, 32], {"area": [0.2, 0.1], "nearest": [0.3, 0.2]})
    ax = fig.axes[0]
    assert [line.get_label() for line in ax.lines] == ["area", "nearest"]
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_scales_are_marked_as_they_were_asked_for():
    fig = plots.by_sigma([1.25, 2.5], {"random": [18.0, 20.0]}, "4 views")
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["1.25", "2.5"]
    assert "4 views" in fig.axes[0].get_ylabel()


def test_parts_are_brightened_and_gray_is_nothing():
    picture, told, rest = np.full((2, 2), 0.5), np.full((2, 2), 0.2), np.zeros((2, 2))
    row = plots.parts({"truth": (picture, told, rest)})["truth"]
    assert [part[0, 0] for part in row] == [0.5, 0.4, 0.5]


def test_a_sweep_has_a_panel_a_noise_and_a_band_for_the_largest_budget():
    values = {
        (name, v, level, b): Interval(20 + v, 1.0)
        for name in ("learned", "random")
        for v in (1, 2, 4)
        for level in (0.0, 0.01)
        for b in (100, 500, 1500)
    }
    fbp = {(v, level): 10.0 for v in (1, 2, 4) for level in (0.0, 0.01)}
    fig = plots.sweep(values, fbp)
    assert [ax.get_title() for ax in fig.axes] == ["exact sinograms", "noise 0.01"]
    for ax in fig.axes:
        names = [line.get_label() for line in ax.lines]
        assert names == [
            "learned, 100 steps",
            "learned, 1500 steps",
            "random, 100 steps",
            "random, 1500 steps",
            "FBP",
        ]
        assert len(ax.collections) == 2
    one = {point: value for point, value in values.items() if point[3] == 100}
    assert len(plots.sweep(one, fbp).axes[0].lines) == 3


def test_strangers_have_their_psnr_and_errors_around_gray():
    truths = [np.full((2, 2), 0.5)] * 2
    rows, titles = plots.strangers(["a", "b"], truths, [t + 0.1 for t in truths], truths[:1] * 2)
    assert list(rows) == ["truth", "random", "learned", "error of learned"]
    assert titles == dict(truth=["a", "b"], random=["20.0 dB"] * 2, learned=["inf dB"] * 2)
    np.testing.assert_array_equal(rows["error of learned"][0], 0.5)


def test_choices_are_a_row_an_init_and_a_column_a_number_of_views():
    specs = {"a": dict(sigma=1 / (2 * np.pi)), "b": dict(sigma=5.0)}
    chosen = {(n, v): Choice("SGD", 10.0**-v, 25 * v, False, 1.0) for n in specs for v in (1, 2)}
    rows = plots.choices(specs, chosen, [2, 1])
    assert rows[0] == ["a", "1", "SGD 0.01, 50", "SGD 0.1, 25"]
    assert [row[:2] for row in rows] == [["a", "1"], ["b", "31.4"]]


def test_crossings_are_named_where_an_interval_reaches_zero():
    points = [(level, b, v) for level in (0.0, 0.01) for b in (100, 500) for v in (8, 2)]
    gaps = {point: Interval(float(i), 0.5) for i, point in enumerate(points)}
    rows = plots.crossings(gaps, {(0.0, 500, 8), (0.0, 500, 2), (0.01, 100, 2)})
    assert [row[:2] for row in rows] == [["0", 100], ["0", 500], ["0.01", 100], ["0.01", 500]]
    assert [row[-1] for row in rows] == ["none", "8, 2", "2", "none"]
    assert [gap.mean for gap in rows[1][2:-1]] == [2, 3]
