"""Figures of networks that are fitted to one picture, and the map of the chapters."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from learnit_utils.book import figures
from learnit_utils.book.plots import chapters, networks


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        figures.use_style()
        yield
        plt.close("all")


def test_spreads_are_lines_with_dots_on_them(rng):
    predicted = {"a": np.array([1.0, 0.9]), "b": np.array([2.0, 3.0])}
    measured = {name: 1.1 * line for name, line in predicted.items()}
    left, right = networks.spreads(predicted, measured, "a", rng.normal(size=(20, 4))).axes
    np.testing.assert_allclose([line.get_ydata()[0] for line in left.lines], [1, 1.1, 2, 2.2])
    assert right.lines[0].get_ydata().max() == pytest.approx(1 / (0.9 * (2 * np.pi) ** 0.5), 1e-3)
    assert "layer 2" in right.get_xlabel()


def test_a_sweep_has_a_line_per_step_size():
    psnr = {"bare": {(0, 1e-3): 12.0}, "sine": {(10, 1e-3): 20.0, (20, 1e-3): 30.0, (10, 1): 9.0}}
    (ax,) = networks.sweeps(psnr, {"sine": "ω₀"}).axes
    assert [list(line.get_ydata()) for line in ax.lines] == [[20.0, 30.0], [9.0]]
    assert (ax.get_title(), ax.get_xlabel()) == ("sine", "ω₀")


def test_rings_are_drawn_from_the_first_on():
    spectra = {"a": np.arange(9.0), "the picture": np.arange(9.0) + 1}
    _, right = networks.residuals({"a": np.array([1.0, 2.0])}, spectra, 4).axes
    assert [list(line.get_ydata()) for line in right.lines] == [[1, 2, 3], [2, 3, 4]]


def test_correlations_stand_in_the_titles():
    maps = {"pixels": [np.eye(3), np.eye(3)], "net": [np.eye(3), -np.eye(3)]}
    axes = networks.derivatives(maps, {"net": [0.5, -0.25]}, 1.0, 2.0).axes
    assert [ax.get_title() for ax in axes] == ["pixels", "net, r = 0.50 / -0.25", "", ""]


def test_the_map_names_every_chapter_once():
    drawn = [t.get_text() for t in chapters.map_of_chapters().findobj(plt.Text)]
    for i in range(9):
        assert sum(text.startswith(f"{i}  ") for text in drawn) == 1
