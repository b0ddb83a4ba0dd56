"""Solids: distances of cells against closed forms, and what ships."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.signals import objects, solids
from learnit_utils.signals.base import DataError


def centres(n):
    line = (np.arange(n) + 0.5) / n
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)


# --- laws of distances --------------------------------------------------------------------------
@settings(deadline=None, max_examples=10)
@given(st.integers(24, 40), st.floats(0.2, 0.35), st.floats(0.45, 0.55))
def test_the_distance_of_a_ball_is_that_of_its_radius(n, radius, middle):
    true = np.linalg.norm(centres(n) - [middle, 0.5, 0.5], axis=-1) - radius
    found = solids.signed_distance(true < 0, (1 / n,) * 3)
    assert np.abs(found - true).max() < 1 / n
    assert np.abs(found - true).mean() < 0.35 / n
    assert ((found < 0) == (true < 0)).all()


def test_the_distance_of_a_box_of_cells_is_exact_beside_its_faces():
    n = 20
    cells = np.zeros((n,) * 3, bool)
    cells[5:15, 6:14, 8:12] = True
    found = solids.signed_distance(cells, (1 / n,) * 3)
    beyond = np.abs(centres(n) - 0.5) - [0.25, 0.2, 0.1]
    true = np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(axis=-1), 0)
    beside = ((beyond > 0).sum(axis=-1) <= 1) & (beyond.max(axis=-1) > 0)
    np.testing.assert_allclose(found[beside], true[beside], atol=1e-12)
    np.testing.assert_allclose(found[cells], true[cells], atol=1e-12)
    assert np.abs(found - true).max() < 0.5 / n


def test_a_distance_grows_by_one_per_length_almost_everywhere():
    n = 40
    cells = np.linalg.norm((centres(n) - 0.5) / [0.3, 0.2, 0.35], axis=-1) < 1
    d = solids.signed_distance(cells, (1 / n,) * 3)
    slope = np.linalg.norm(np.stack(np.gradient(d, 1 / n)), axis=0)
    assert abs(np.median(slope) - 1) < 0.01
    assert (np.abs(slope - 1) < 0.1).mean() > 0.8
    step = np.abs(np.diff(d, axis=0)).max()
    assert step <= 1 / n * (1 + 1e-9)  # never faster


@settings(deadline=None, max_examples=10)
@given(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0.5, 2))
def test_stretched_cells_have_the_distance_of_the_stretched_solid(a, b, c):
    cells = np.zeros((9, 9, 9), bool)
    cells[4, 4, 4] = True
    found = solids.signed_distance(cells, (a, b, c))
    at = np.stack(np.meshgrid(*[np.arange(9) - 4.0] * 3, indexing="ij"), -1) * [a, b, c]
    true = np.linalg.norm(at, axis=-1) - (a + b + c) / 6
    np.testing.assert_allclose(found[~cells], true[~cells], atol=1e-9)


def test_solid_and_empty_change_sides():
    cells = np.random.default_rng(0).random((8, 8, 8)) < 0.3
    d = solids.signed_distance(cells)
    np.testing.assert_array_equal(d, -solids.signed_distance(~cells))
    for all_of in (np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)):
        with pytest.raises(DataError, match="all full or all empty"):
            solids.signed_distance(all_of)


# --- what ships --------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", solids.KINDS)
def test_models_are_those_of_the_renders_with_their_splits_and_credits(kind):
    rows = solids.credits(kind)
    assert rows == objects.credits(kind)
    named = {split: set(solids.names(kind, split)) for split in ("train", "validation", "test")}
    assert set.union(*named.values()) == {r["name"] for r in rows} == set(solids.names(kind, "all"))
    assert sum(map(len, named.values())) == len(rows)
    rendered = objects._cameras(kind)["models"]
    for split, those in named.items():
        assert those == {n for n, m in rendered.items() if m["split"] == split and "~" not in n}


@pytest.mark.parametrize("kind", solids.KINDS)
def test_every_solid_stands_in_the_middle_of_its_cube(kind):
    for name in solids.names(kind, "all"):
        cells = solids.cells(name)
        full = np.argwhere(cells)
        low, high = full.min(axis=0), full.max(axis=0) + 1
        assert 75 <= (high - low).max() <= 79  # 0.8 of 96 cells
        np.testing.assert_allclose((low + high) / 2, 48, atol=1.5)
        assert 0.0003 < cells.mean() < 0.5


@pytest.mark.slow
def test_distances_are_where_they_are_said_to_be():
    name = solids.names("chairs", "test")[0]
    cells = solids.cells(name)
    true = 0.5 + solids.signed_distance(cells, (1 / 96,) * 3) / 0.2
    data = solids.load("test", size=32, limit=1)
    assert data.names == (name,)
    assert data.arrays.shape == (1, 32, 32, 32, 1)
    assert data.arrays.dtype == np.float32
    fine = np.clip(true, 0, 1)[1::3, 1::3, 1::3]  # the centres of 32 are every third of 96
    np.testing.assert_allclose(data.arrays[0, ..., 0], fine, atol=1e-4)
    query = solids.load("test", size=48, limit=1, part="query").arrays[0, ..., 0]
    between = np.clip(true, 0, 1)
    expected = sum(
        np.roll(between, (i, j, k), (0, 1, 2)) for i in (0, 1) for j in (0, 1) for k in (0, 1)
    )
    np.testing.assert_allclose(query[1:, 1:, 1:], expected[2::2, 2::2, 2::2] / 8, atol=1e-4)


@pytest.mark.slow
def test_copies_are_other_solids_for_training_alone():
    plain = solids.load("train", size=16, limit=2)
    more = solids.load("train", size=16, limit=2, variants=2)
    assert more.names == tuple(n + v for n in plain.names for v in ("", "~1", "~2"))
    np.testing.assert_array_equal(more.arrays[::3], plain.arrays)
    assert (np.abs(more.arrays[1::3] - plain.arrays).max(axis=(1, 2, 3, 4)) > 0.05).all()
    np.testing.assert_array_equal(
        solids.load("train", size=16, limit=2, variants=2).arrays, more.arrays
    )
    assert solids.load("test", size=8, limit=2, variants=3).provenance["count"] == 2
    for values in more.arrays[..., 0]:  # nothing reaches the walls of the cube
        edge = np.concatenate([values[[0, -1]].ravel(), values[:, [0, -1]].ravel()])
        assert edge.min() > 0.5


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (dict(kind="cars"), "kind = 'cars': expected one of chairs, lamps"),
        (dict(part="both"), "part = 'both': expected one of support, query"),
        (dict(gray=False), "gray = False: a distance is one number"),
        (dict(reach=0.0), r"reach = 0.0, variants = 0: expected a reach in \(0, 1\]"),
        (dict(variants=-1), "variants = -1: expected a reach"),
        (dict(limit=0), "limit = 0"),
        (dict(size=0), "size = 0"),
    ],
)
def test_requests_that_cannot_be_met_are_told(asked, told):
    with pytest.raises(DataError, match=told):
        solids.load("test", **asked)
    with pytest.raises(DataError, match="no solid 'x'"):
        solids.cells("x")


def test_points_on_the_surface_are_rounded_one_way():
    """Halfway between two of the 16-bit values, where the last bit of a processor would decide."""
    values = np.rint(solids.load("test", size=48, limit=2).arrays * solids.LEVELS).astype(int)
    assert (values == solids.LEVELS // 2 + 1).sum() > 100
    assert not (values == solids.LEVELS // 2).any()
