"""Figures of the chapter on few-shot learning hold what they are given."""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from learnit_utils.book import figures
from learnit_utils.book.plots import convolution, few_shot
from learnit_utils.evaluate import Interval
from learnit_utils.experiments.few_shot import WAYS
from learnit_utils.tasks import Split, Tasks

figures.use_style()


def test_every_number_stands_in_its_cell_and_the_window_frames_what_is_added():
    x, k = np.arange(25).reshape(5, 5), np.arange(9).reshape(3, 3)
    fig = convolution.by_hand(x, k, {2: np.zeros((2, 2)), 1: np.ones((3, 3))}, (1, 0))
    written = {(*t.get_position(),): t.get_text() for t in fig.axes[0].texts}
    assert written == {(j, i): f"{x[i, j]}" for i in range(5) for j in range(5)}
    frame = fig.axes[0].patches[0]
    assert (frame.get_x(), frame.get_y()) == (-0.5, 1.5)  # stride 2: rows 2 to 4
    assert (frame.get_width(), frame.get_height()) == (3, 3)


def test_zeros_of_a_matrix_stay_blank():
    m = np.array([[0.0, 2.0], [-1.0, 0.0]])
    image = convolution.matrices({"a": m}).axes[0].images[0]
    np.testing.assert_array_equal(image.get_array().mask, m == 0)
    assert image.get_clim() == (-2, 2)


def test_accuracies_are_per_cent_with_their_intervals():
    found = {
        (s, w, k): Interval(50.0 + k, 1.0)
        for s in ("glyphs", "faces")
        for w in ("maml", "head")
        for k in (1, 5)
    }
    fig = few_shot.accuracies(found, 0.2)
    assert [ax.get_title() for ax in fig.axes[:2]] == ["glyphs", "faces"]
    line, _, (bars,) = fig.axes[0].containers[1].lines
    np.testing.assert_allclose(line.get_xdata(), 55)
    np.testing.assert_allclose(np.ptp([s[:, 0] for s in bars.get_segments()], axis=1), 2)
    labels = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert labels == ["MAML", "transfer: new head"]


def test_every_way_of_the_page_has_a_name():
    assert set(WAYS) - {"maml_same"} == set(few_shot.NAMES)
    assert len(set(few_shot.NAMES.values())) == len(few_shot.NAMES)


def test_an_episode_shows_support_above_query():
    pictures = np.ones((12, 2, 2, 1), np.float32) * np.arange(12)[:, None, None, None] / 12
    numbers = jnp.arange(12).reshape(3, 4)
    fig = few_shot.episode(Tasks(Split(numbers[:, :1], numbers[:, 1:]), jnp.asarray(pictures)), 2)
    shown = [
        [float(ax.images[0].get_array()[0, 0]) for ax in row if ax.images] for row in rows_of(fig)
    ]
    np.testing.assert_allclose(
        np.array([r for r in shown if r]) * 12, [[0, 4, 8], [1, 5, 9], [2, 6, 10]]
    )


def rows_of(fig):
    rows = {}
    for ax in fig.axes:
        rows.setdefault(ax.get_subplotspec().rowspan.start, []).append(ax)
    return [rows[i] for i in sorted(rows)]


def test_curves_are_the_numbers_given():
    fig = few_shot.directions({"a": {"x": [0.5, 0.25]}, "b": {"x": [1.0, 0.0]}}, [1, 3])
    line = fig.axes[0].lines[0]
    np.testing.assert_array_equal(
        np.transpose([line.get_xdata(), line.get_ydata()]), [[1, 0.5], [3, 0.25]]
    )
    fig = convolution.by_shift([0, 2], {"n": np.array([[1.0, 0.0], [0.5, 0.5]])}, 0.05)
    np.testing.assert_allclose(fig.axes[0].lines[0].get_ydata(), [75, 25])
    fig = few_shot.progress(np.full((30, 4), 2.0), 1.6)
    np.testing.assert_allclose(fig.axes[0].lines[0].get_ydata(), 2.0)
    plt.close("all")
