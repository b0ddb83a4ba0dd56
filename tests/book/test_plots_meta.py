"""Tables and pictures about meta-learning and its kernel hold what they are given."""

import numpy as np
import pytest
from conftest import ROOT

from learnit_utils.book import figures
from learnit_utils.book.plots import kernel, meta, spectral
from learnit_utils.evaluate import Interval
from learnit_utils.experiments.dictionary import Missing
from learnit_utils.experiments.first_steps import FirstStep, WayBack
from learnit_utils.experiments.protocol import Choice
from learnit_utils.ntk import Eigenpairs

figures.use_style()


def test_a_way_back_is_a_row_of_norms_cosines_and_factors():
    way = [WayBack(2.0, 1.0, None), WayBack(0.5, -0.25, 0.125)]
    assert meta.way_back_rows({"maml": way}) == [["`maml`", "2, 1.00", "0.5, -0.25, 0.12"]]


def test_a_contest_stars_what_was_chosen_at_an_edge():
    score = {o: {"a": Interval(20.0 + k, 0.5)} for k, o in enumerate(("SGD", "Adam"))}
    choice = {o: {"a": Choice(o, 0.1, 2, at_edge=o == "Adam", value=0.0)} for o in ("SGD", "Adam")}
    (row,) = meta.contest_rows(score, choice, {"a": "9"}, {"a": FirstStep(0.5, 0.25)})
    assert row == ["a", "20.00 ± 0.50 (α = 0.1)", "21.00 ± 0.50 (α = 0.1*)", "9", "0.50", "0.25"]


def test_every_concept_has_its_place():
    for _, name, where in meta.concept_rows():
        path, line = where.removeprefix("`").split("`, line ")
        source = (ROOT / "learnit_utils" / path).read_text("utf8").splitlines()[int(line) - 1 :]
        defined = next(text for text in source if text.startswith(("def ", "class ")))
        assert name.strip("`").rpartition(".")[2] in defined


def test_pictures_stand_side_by_side_with_white_between():
    row = meta.side_by_side([np.full((16, 16, 1), v) for v in (0.0, 0.5, 7.0)])
    assert row.shape == (16, 3 * 16 + 2, 3)
    assert row[0, :, 0].tolist() == [0.0] * 16 + [1.0] + [0.5] * 16 + [1.0] + [1.0] * 16


def test_atoms_are_gray_where_they_are_zero_and_reach_an_end():
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 12)))[0]
    vectors[3] = 0
    drawn = kernel.atoms(vectors, (4, 4, 1))
    assert len(drawn) == 12
    for u, v in zip(drawn, vectors.T):
        assert u.ravel()[3] == 0.5
        assert np.abs(u - 0.5).max() == pytest.approx(0.5)
        np.testing.assert_allclose((u.ravel() - 0.5) * 2 * np.abs(v).max(), v, atol=1e-12)
    tiles = kernel.mosaic(vectors, (4, 4, 1))
    assert tiles.shape == (3 * 8, 4 * 8)
    np.testing.assert_array_equal(tiles[10:14, 18:22], drawn[6])  # row 1, column 2


def test_all_that_is_missing_is_in_the_bars():
    """Also what moves faster than the axis shows, or slower."""
    found = Missing(np.array([50.0, 1.0, 0.0]), np.array([0.5, 0.25, 0.25]), 1.0, 0.25)
    outline = kernel.speeds({"a": found}).axes[0].patches[0].get_xy()[:, 1]
    assert sorted({round(h, 9) for h in outline}) == [0.0, 0.25, 0.5]
    assert np.isclose(outline, 0.25).sum() == 4  # two bars of two corners


def test_tones_that_are_never_halved_are_triangles():
    measured = np.array([[[5.0, np.nan]], [[7.0, 30.0]]])  # (networks, starts, tones)
    ax = spectral.half_times(measured, ["a", "b"], [1, 20], 100).axes[0]
    dots, triangles = zip(*(ax.lines[2 * j : 2 * j + 2] for j in range(2)))
    assert [line.get_ydata().tolist() for line in dots] == [[5.0, 7.0], [np.inf, 30.0]]
    assert np.isnan(triangles[0].get_ydata()).all()
    np.testing.assert_array_equal(triangles[1].get_ydata(), [160.0, np.nan])


def test_energy_is_drawn_over_eigenvalues_that_are_not_rounding():
    pairs = Eigenpairs(np.array([4.0, 1.0, 1e-9]), np.eye(3), np.zeros(3))
    held = np.array([[0.5, 0.75, 1.0], [0.7, 0.85, 1.0]])
    by_value, by_number = kernel.energy({"a": pairs}, {"a": held}).axes
    x, y = by_value.lines[0].get_data()
    assert (x.tolist(), y.tolist()) == ([1.0, 0.25], pytest.approx([0.6, 0.8]))
    assert by_number.lines[0].get_ydata() == pytest.approx([0.6, 0.8, 1.0])
