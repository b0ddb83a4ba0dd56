"""Figures of a table of inits and classes hold what they are given; charts are what they were."""

import numpy as np
from PIL import Image

from learnit_utils.book import figures
from learnit_utils.book.plots import charts, transfer
from learnit_utils.evaluate import Interval
from learnit_utils.experiments.wave_speeds import Account, WaveSpeeds

figures.use_style()
CLASSES = ["text", "sdf"]
INITS = ["random", *CLASSES]
PAIRS = [(init, of) for init in INITS for of in CLASSES]


def test_a_random_init_is_gray_and_the_others_differ():
    looks = transfer.styles(INITS)
    assert looks["random"]["color"] == "0.5"
    assert len({look["color"] for look in looks.values()}) == 3


def test_samples_are_spread_over_a_class():
    values = np.arange(6.0)[:, None, None] / 5 * np.ones((6, 4, 1))
    fig = transfer.samples({"text": values, "sdf": values[:1]}, 3)
    shown = [ax.images[0].get_array() for ax in fig.axes if ax.images]
    assert [u[0, 0] for u in shown] == [0, 0.4, 0.8, 0]
    assert shown[0].shape == (2, 2)


def test_first_steps_show_every_pair():
    drawn = {pair: np.zeros((4, 25, 1)) for pair in PAIRS}
    fig = transfer.first_steps(drawn, {kind: np.zeros((25, 1)) for kind in CLASSES}, 2)
    shown = [ax for ax in fig.axes if ax.images]
    assert len(shown) == 2 + 2 * (1 + 2 * 2)  # targets; of each learned init: itself, two steps
    heads = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert heads == ["start", "text, 1", "2", "sdf, 1", "2"]


def test_tiles_stand_where_their_names_say():
    value = {pair: i / len(PAIRS) for i, pair in enumerate(PAIRS)}
    drawn = {pair: np.full((2, 36, 1), v) for pair, v in value.items()}
    whole = transfer.tiles(drawn, CLASSES, 1)
    assert whole.shape == (20, 20)
    assert whole[5, 15] == value["text", "sdf"]
    assert whole[15, 5] == value["sdf", "text"]


def test_slides_are_the_first_steps_the_middle_and_the_end():
    drawn = {pair: np.arange(11.0)[:, None, None] / 10 * np.ones((11, 16, 1)) for pair in PAIRS}
    look = transfer.slides(drawn, CLASSES, 2, 10)
    assert look["labels"] == [f"after {step}" for step in (0, 1, 2, 5, 10)]
    assert look["labels"][look["start"]] == "after 2"
    assert [frame[4, 4] for frame in look["frames"]] == [0, 0.1, 0.2, 0.5, 1]
    assert look["alt"]
    assert look["caption"]


def test_curves_mark_the_own_init():
    longer = {pair: np.ones((3, 5)) * i for i, pair in enumerate(PAIRS)}
    axes = transfer.curves(longer, CLASSES, 2).axes
    assert [ax.get_title() for ax in axes] == ["on text", "on sdf"]
    widths = {line.get_label(): line.get_linewidth() for line in axes[0].lines}
    assert widths["text"] > widths["sdf"] == widths["random"]


def test_spectra_show_power_of_classes_and_speed_of_inits():
    cycles = np.arange(4)
    speeds = {name: WaveSpeeds(cycles, np.full(4, 0.5), np.full(4, 0.1)) for name in INITS}
    fig = transfer.spectra({kind: np.ones(6) for kind in CLASSES}, speeds)
    assert [len(ax.lines) for ax in fig.axes] == [2, 4, 4]


def test_a_prediction_shows_every_cell():
    values = {pair: float(i) for i, pair in enumerate(PAIRS)}
    fig = transfer.prediction(values, values, values, 2)
    table, cells = fig.axes[:2]
    np.testing.assert_array_equal(table.images[0].get_array(), np.arange(6).reshape(3, 2))
    points = [line for line in cells.lines if len(line.get_xdata()) == 1]
    assert len(points) == len(PAIRS)
    assert all(line.get_xdata()[0] == line.get_ydata()[0] for line in points)
    assert "2 steps" in cells.get_ylabel()


def test_bars_stand_at_the_numbers_of_pictures():
    values = {"these": {5: Interval(9.0, 1.0), 20: Interval(8.0, 0.5)}}
    ax = transfer.by_count(values, 3.0, "random", 2).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["5", "20"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [9.0, 8.0])


def test_an_account_has_a_cell_for_every_head():
    account = Account(10.0, 0.056, 0.5, 6.04, 16.04)
    (row,) = transfer.account_rows({("text", "sdf"): account}, {("text", "sdf"): 15.0})
    assert row == ["text on sdf", "10.0", "5.6 %", "50 %", "6.0", "16.0", "15.0"]
    assert len(row) == 1 + len(transfer.ACCOUNT)


def test_charts_are_those_of_the_generator(tmp_path):
    first, again = (
        charts.write(tmp_path / name, np.random.default_rng(0), 3) for name in ("a", "b")
    )
    other = charts.write(tmp_path / "c", np.random.default_rng(1), 3)
    read = [[np.asarray(Image.open(p)) for p in sorted(f.iterdir())] for f in (first, again, other)]
    assert [u.shape[:2] for u in read[0]] == [(64, 64)] * 3
    np.testing.assert_array_equal(read[0], read[1])
    assert (np.array(read[0]) != np.array(read[2])).any()
    charts.write(first, np.random.default_rng(0), 1)
    assert len(list(first.iterdir())) == 1
