"""Figures and tables of networks that many signals share."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from learnit_utils.book.plots import sharing as plots

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_gallery_shows_every_picture_under_its_name():
    pictures = {name: RNG.random((16, 1)) for name in ("given", "auto-decoder", "random")}
    fig = plots.gallery({"a face": pictures, "words": pictures | {"random": None}}, note="none")
    shown = np.array(fig.axes).reshape(2, 3)
    assert [ax.get_title() for ax in shown[0]] == ["given", "auto-\ndecoder", "random"]
    for ax, picture in zip(shown[0], pictures.values()):
        np.testing.assert_array_equal(ax.images[0].get_array().ravel(), picture.ravel())
    assert not shown[1, 2].images
    assert shown[1, 2].texts[0].get_text() == "none"


def test_curves_stand_at_their_steps():
    fig = plots.by_step({"MAML": np.arange(4.0), "random": np.ones(4)}, 2, {"mean face": 0.5})
    lines = {line.get_label(): line for line in fig.axes[0].lines}
    np.testing.assert_array_equal(lines["MAML"].get_xdata(), [0, 2, 4, 6])
    assert lines["random"].get_color() == plots.GRAY


def test_no_prior_stands_at_the_left_edge():
    fig = plots.by_prior({"one": {0.0: 3.0, 0.1: 5.0, 0.01: 4.0}}, 2.0)
    line = fig.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [1e-3, 0.01, 0.1])
    np.testing.assert_array_equal(line.get_ydata(), [3, 4, 5])
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["0", "0.01", "0.1"]


def test_rows_say_what_was_measured():
    ones = np.ones((2, 4))
    reach = {("MAML", kind): {2: 20 * ones, 50: 30 * ones} for kind in ("faces", "text")}
    owners = dict(faces=["a", "a", "b", "b"], text=list("abcd"), half=list("abcd"))
    (row,) = plots.table_rows(reach, {"MAML": 15 * ones}, {"MAML": (33537, 33537)}, owners, 50)
    assert row == [
        "MAML",
        "33,537",
        "33,537",
        "20.0 ± 0.0",
        "30.0 ± 0.0",
        "30.0 ± 0.0",
        "15.0 ± 0.0",
    ]
    scores = {kind: {"64 components": 22 * ones[0], "own mean gray": ones[0]} for kind in owners}
    rows = plots.plain_rows(scores, owners, 2)
    assert [row[:6] for row in rows] == [
        ["64 components", "", "64", "", "", "22.0 ± 0.0"],
        ["own mean gray", "", "1", "", "", "1.0 ± 0.0"],
    ]


def test_diverged_fits_are_counted_and_not_averaged():
    values = np.array([[20.0, 30, np.nan, 10], [22.0, 32, 5, 10]])
    assert plots.in_words(values, list("aabb")).endswith("(1 diverged)")
    assert plots.in_words(values, list("aabb")).startswith("16.8 ")  # mean of 26 and 7.5
    assert plots.in_words(np.full((2, 4), np.nan), list("aabb")) == "8 diverged"


def test_lost_curves_are_counted_and_not_averaged():
    measures = dict(chamfer=np.array([[1.0, np.nan], [3.0, np.nan]]), iou=np.full((2, 2), 0.5))
    all_lost = dict(chamfer=np.full((1, 2), np.nan), iou=np.zeros((1, 2)))
    rows = plots.shape_rows({"near": {"a": measures, "b": all_lost}})
    assert rows == [["a", "2.00 (2 lost)", "0.500"], ["b", "nan (2 lost)", "0.000"]]


def test_level_sets_and_ways_between_are_drawn():
    rows = np.arange(16) / 16
    at = np.stack(np.meshgrid(rows, rows, indexing="ij"), -1)
    disc = (0.5 + np.linalg.norm(at - 0.5, axis=-1) - 0.25).reshape(-1, 1)
    fig = plots.level_sets([disc, disc], {"one": [disc, np.ones_like(disc)]}, np.ones((2, 256)))
    assert len(fig.axes) == 2
    assert len(fig.axes[0].collections) == 2  # the true curve and the drawn one
    assert len(fig.axes[1].collections) == 1  # no level set
    fig = plots.between({"pixels": [disc, disc], "code": [disc, disc]}, [0.0, 1.0])
    assert [ax.get_title() for ax in fig.axes[:2]] == ["0", "1"]
    assert plots.places().axes


def test_pictures_abreast_have_white_gaps_between_them():
    pictures = [RNG.random((16, 1)) for _ in range(3)]
    row = plots.abreast([*pictures, 2 + pictures[0]], gap=3)
    assert row.shape == (4, 4 * 4 + 3 * 3)
    for n, picture in enumerate(pictures):
        np.testing.assert_array_equal(row[:, 7 * n : 7 * n + 4], picture.reshape(4, 4))
        assert (row[:, 7 * n + 4 : 7 * n + 7] == 1).all()
    assert (row[:, -4:] == 1).all()  # cut off
