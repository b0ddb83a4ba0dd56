"""Figures of optimizers and unrolled iterations hold what they are given."""

import numpy as np
import pytest

from learnit_utils.book import figures, report
from learnit_utils.book.plots import chapters
from learnit_utils.book.plots import optimizers as plots
from learnit_utils.experiments.descent import Walk, Watched
from learnit_utils.experiments.optimizer_contest import MAML, RULE, Method, Table
from learnit_utils.experiments.sparse_codes import Race

figures.use_style()
TABLE = Table((2, 20), {MAML: np.full((2, 2, 3), 20.0), RULE: np.arange(12.0).reshape(2, 2, 3)})


def lines_of(ax):
    return {line.get_label(): line.get_xydata() for line in ax.get_lines()}


def test_a_race_has_a_line_per_method_and_class():
    fig = plots.race({"faces": TABLE, "photos": TABLE}, 10)
    for ax in fig.axes:
        lines = lines_of(ax)
        np.testing.assert_array_equal(lines[MAML], [[2, 20], [20, 20]])
        np.testing.assert_allclose(lines[RULE][:, 1], [4.0, 7.0])
    assert fig.get_label()


def test_walks_and_steps_are_drawn_as_they_are():
    path = np.array([[-1.0, 0.5], [0.2, 0.1]])
    fig = plots.walks({name: Walk(0.1, False, path, path[:, 0]) for name in "abcd"}, 5.0)
    assert len(fig.axes) == 4
    np.testing.assert_array_equal(fig.axes[2].get_lines()[0].get_xydata(), path)
    seen = Watched(np.array([1.0, 2.0, 4.0]), np.full(3, 0.5), np.array([0, 0, 1]))
    fig = plots.steps_by_layer({1: seen}, ["$W_1$", "$b_1$"])
    medians = [
        line.get_ydata()[0] for line in fig.axes[0].get_lines() if len(line.get_ydata()) == 1
    ]
    assert medians == [1.5, 4.0]


def test_memories_and_distances_have_every_value():
    fig = plots.memories({"a": {0.5: 20.0, 0.9: 25.0}}, {"b": np.array([0.0, 1.0])})
    np.testing.assert_array_equal(lines_of(fig.axes[0])["a"][:, 1], [20, 25])
    fig = plots.distance({"RNN": np.array([1.0, 0.1])}, {"RNN": {5: [0.5, 1.0], 20: [0.5, 0.5]}})
    means = fig.axes[1].get_lines()[0].get_xydata()
    np.testing.assert_array_equal(means, [[5, 0.75], [20, 0.5]])


def test_answers_are_medians_of_bins_of_gradients():
    g = np.geomspace(1e-4, 1, 40)
    fig = plots.answers_to_gradients({"a": {1: (g, 2 * g)}}, bins=4)
    (line,) = fig.axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), 2 * line.get_xdata(), rtol=1e-6)
    assert len(line.get_xdata()) == 4


def test_convergence_shows_the_code_after_its_own_layers():
    plain = {
        "ISTA": {"distance": [1, 0.5, 0.4, 0.3, 0.2]},
        "FISTA": {"distance": [1, 0.5, 0.3, 0.2, 0.1]},
    }
    learned = {1: [1, 0.2, 0.9, 2.0, 3.0], 2: [1, 0.4, 0.05, 0.5, 1.0]}
    fig = plots.convergence(Race({"d": plain}, {"d": learned}), 2)
    lines = lines_of(fig.axes[0])
    np.testing.assert_allclose(lines["LISTA, learned for K layers"], [[1, 0.2], [2, 0.05]])
    np.testing.assert_allclose(lines["ISTA"][:, 1], [0.5, 0.4, 0.3, 0.2])


@pytest.mark.parametrize("draw", [plots.unrolled_network, plots.three_loops])
def test_diagrams_fit_and_say_what_they_show(draw):
    assert draw().get_label()


def test_the_map_has_the_background():
    texts = [t.get_text() for t in chapters.map_of_chapters().findobj() if hasattr(t, "get_text")]
    assert any("Optimizers" in text for text in texts)


def test_a_table_of_scores_reports_its_numbers():
    report.open("11_optimizers")
    text = plots.scores(TABLE, "faces", "tiny", "Note.", leads={"ahead": (MAML, RULE)}).data
    assert "| *ahead* | 16.00 ± " in text
    assert "Note." in text
    text = plots.costs(
        {"a": Method([], dict(count=3, seconds=1.0, bytes=2**21), ONE)}, dict(maml=2**20), ""
    ).data
    assert "| a | 3 | 7 | 2 MiB | 1 |" in text
    assert "an outer step would hold 1 MiB for MAML." in text
    assert "faces: MAML: 2" in report.summary().data


class ONE:
    steps = 7


def test_the_worked_example_is_written_out():
    eye = np.eye(2)
    text = plots.backward_numbers(eye[0], eye, [eye, 2 * eye], [eye, eye], eye, 1e-9).data
    assert "(1.0000, 0.0000; 0.0000, 1.0000)" in text
    assert "50%" in text
    text = plots.forward_numbers(eye, eye, eye, eye, (eye[0], eye[1]), eye[0], eye[0], 0.5).data
    assert "| J | (0.5000) |" in text
