"""Pictures of solids, from solids that are known."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from learnit_utils.book.plots import sharing, solids
from learnit_utils.evaluate import Interval


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def box(n, low, high):
    """Distances to a box, cut off as those of the book's solids."""
    line = (np.arange(n) + 0.5) / n
    x = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)
    beyond = np.maximum(np.array(low) - x, x - np.array(high)).max(axis=-1)
    return np.clip(0.5 + beyond / 0.2, 0, 1)


def test_a_solid_is_seen_where_it_stands():
    picture = solids.lit(box(40, [0.4, 0.4, 0.7], [0.6, 0.6, 0.9]), 60, towards=(-90, 0))
    rows, columns = np.nonzero(picture[..., 3])
    at = solids.WIDE * ((np.arange(60) + 0.5) / 60 - 0.5)
    assert at[columns.min()] == pytest.approx(-0.1, abs=0.03)
    assert at[columns.max()] == pytest.approx(0.1, abs=0.03)
    assert -at[rows.max()] == pytest.approx(0.2, abs=0.03)  # z upwards
    assert -at[rows.min()] == pytest.approx(0.4, abs=0.03)


def test_right_is_right_from_the_front():
    picture = solids.lit(box(40, [0.7, 0.4, 0.4], [0.9, 0.6, 0.6]), 60, towards=(-90, 0))
    assert np.nonzero(picture[..., 3])[1].mean() > 40  # x grows to the right, seen from -y


def test_a_top_is_brighter_than_a_front_and_nothing_is_clear():
    picture = solids.lit(box(40, [0.2] * 3, [0.8] * 3), 60, towards=(-90, 45))
    seen = picture[..., 3] > 0
    middle = np.nonzero(seen[:, 30])[0]
    top, front = picture[middle[5], 30, :3], picture[middle[-5], 30, :3]
    assert (top > front).all()
    assert not seen[0].any()
    assert not solids.lit(np.ones((8, 8, 8)), 20)[..., 3].any()


def test_every_solid_has_its_row():
    both = [box(10, [0.2] * 3, [0.8] * 3)] * 2
    fig = sharing.solids({"given": both, "random, 5 steps": both, "c": [np.ones((10,) * 3)] * 2})
    assert len(fig.axes) == 6
    assert [ax.get_title() for ax in fig.axes[:3]] == ["given", "random\n5 steps", "c"]


def test_the_table_has_intervals_over_solids_and_counts_what_is_lost():
    of = dict(psnr=np.array([[20.0, 22, 24]]), iou=np.array([[0.5, 0.6, 0.7]]))
    of["chamfer"] = np.array([[0.01, 0.02, np.nan]])
    lead = dict(psnr=Interval(3, 1, 0.95), chamfer=Interval(-0.01, 0.002, 0.95))
    lead |= dict(iou=Interval(0.2, 0.05, 0.95))
    taken = dict(field=35_000, mesh=120_000)
    head, (row,), note = sharing.solid_table({("learned", 5): of}, {5: lead}, taken)
    assert len(head) == len(row)
    assert row[:3] == ["learned", "5", "22.0 ± 5.0"]
    assert row[3].startswith("1.50 ± 6.35")
    assert row[3].endswith("(1 lost)")
    assert row[4] == "0.600 ± 0.248"
    assert "after 5 steps +3.0 ± 1.0 dB, -1.00 ± 0.20 % of a side, +0.200 ± 0.050" in note
    assert "35 kB" in note
    assert "120 kB" in note
