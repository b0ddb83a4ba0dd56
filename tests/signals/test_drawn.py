"""The signal classes that are drawn from a seed: words, distance fields, phantoms, glyphs."""

import numpy as np
import pytest

from learnit_utils.signals import _fonts, base, glyphs, phantoms, sdf, shapes, text
from learnit_utils.signals.base import DataError

DRAWN = {"sdf": sdf, "text": text, "phantoms": phantoms, "shapes": shapes, "glyphs": glyphs}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("gray", [True, False])
def test_pictures_fill_the_range_and_have_their_shape(name, gray):
    d = DRAWN[name].load("validation", size=24, gray=gray)
    assert d.arrays.shape == (40, 24, 24, 1 if gray else 3)
    assert d.arrays.dtype == np.float32
    assert d.arrays.min() >= 0
    assert d.arrays.max() <= 1
    assert d.arrays.std() > 0.1
    assert len(np.unique(d.arrays.reshape(40, -1), axis=0)) == 40


@pytest.mark.parametrize("name", DRAWN)
def test_the_seed_decides_every_bit(name):
    load = DRAWN[name].load
    a, b = (load("test", size=16, limit=5).provenance["data_sha256"] for _ in range(2))
    assert a == b
    assert load("test", size=16, limit=5, seed=1).provenance["data_sha256"] != a
    more = load("test", size=16, limit=9)
    np.testing.assert_array_equal(more.arrays[:5], load("test", size=16, limit=5).arrays)


@pytest.mark.parametrize("name", DRAWN)
def test_no_picture_stands_on_two_sides(name):
    parts = {s: DRAWN[name].load(s, size=16, limit=20).arrays for s in base.SPLITS}
    every = np.concatenate(list(parts.values())).reshape(60, -1)
    assert len(np.unique(every, axis=0)) == 60
    whole = DRAWN[name].load("all", size=16, limit=20)
    np.testing.assert_array_equal(whole.arrays.reshape(60, -1), every)


def test_no_word_stands_on_two_sides():
    sides = [set(text.vocabulary(s)) for s in base.SPLITS]
    assert all(len(side) > 100 for side in sides)
    assert len(set.union(*sides)) == sum(map(len, sides))


def test_every_font_is_there_and_draws():
    seen = set()
    for i in range(60):
        rng = np.random.default_rng(i)
        u = text.page(rng, text.vocabulary("test"), 32, True)
        assert 0.02 < (1 - u).mean() < 0.6
        seen.add(u.tobytes())
    assert len(seen) == 60
    for font in text.FONTS:
        assert _fonts.font(font, 20).getlength("word") > 20


def test_no_character_stands_on_two_sides():
    sides = {s: set(glyphs.alphabet(s)) for s in base.SPLITS}
    assert {s: len(side) for s, side in sides.items()} == glyphs.SHARES
    assert set.union(*sides.values()) == set(glyphs.CHARACTERS) == set(glyphs.alphabet("all"))
    assert len(set(glyphs.CHARACTERS)) == len(glyphs.CHARACTERS) == sum(map(len, sides.values()))


def test_every_glyph_is_its_character_and_nothing_is_cut_off():
    count = len(glyphs.alphabet("all"))
    for split in base.SPLITS:
        known = glyphs.alphabet(split)
        d = glyphs.load(split, size=32, limit=3 * len(known))
        assert d.names == tuple(f"{c}/{i}" for i in range(3) for c in known)
        edge = [d.arrays[:, [0, -1]].max(), d.arrays[:, :, [0, -1]].max()]
        assert max(edge) < 0.5
        count -= len(known)
    assert count == 0


def test_every_font_has_every_character():
    """A font draws what it lacks as the same empty box."""
    for name in glyphs.FONTS:
        font = _fonts.font(name, 40)
        lacking = bytes(font.getmask("\uffff"))
        drawn = {c: bytes(font.getmask(c)) for c in glyphs.CHARACTERS}
        assert lacking not in drawn.values()
        assert len(set(drawn.values())) == len(drawn), name


@pytest.mark.parametrize("seed", range(3))
def test_a_glyph_that_is_not_moved_stands_in_the_middle(seed):
    """To within a tenth of the side: a sheared box is not that of the sheared glyph."""
    for character in "AΩ8":
        u = glyphs.glyph(np.random.default_rng(seed), character, 40, 0.0)[..., 0]
        for axis in (0, 1):
            inked = np.flatnonzero(u.max(axis=axis) > 0.05)
            assert abs((inked[0] + inked[-1]) / 2 - 19.5) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_distance_is_that_of_brute_force(seed):
    """Against the nearest of 100,000 points of the curve, and the sign of the winding number."""
    rng = np.random.default_rng(seed)
    curve = sdf.Curve(rng)
    points = rng.uniform(-0.2, 1.2, (300, 2))
    dense = curve.vertices(100_000)
    nearest = [np.sqrt(((dense - p) ** 2).sum(-1).min()) for p in points]
    away = dense[None, ::20] - points[:, None]
    turn = np.unwrap(np.arctan2(away[..., 1], away[..., 0]), axis=1)
    inside = np.abs(turn[:, -1] - turn[:, 0]) > np.pi
    found = curve.distance(points)
    np.testing.assert_allclose(np.abs(found), nearest, atol=1e-5)
    np.testing.assert_array_equal(found < 0, inside)


@pytest.mark.parametrize("seed", range(3))
def test_a_distance_changes_by_one_per_unit_of_length(seed):
    curve = sdf.Curve(np.random.default_rng(seed))
    points, step = np.random.default_rng(seed).uniform(0, 1, (400, 2)), 1e-4
    slope = [
        (curve.distance(points + e) - curve.distance(points - e)) / (2 * step)
        for e in step * np.eye(2)
    ]
    size = np.hypot(*slope)
    assert np.median(np.abs(size - 1)) < 1e-3
    assert size.max() < 1 + 1e-3


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(split="tset"), "split = 'tset': expected one of train, validation, test, all"),
        (dict(size=0), "size = 0: expected 1 to 4096 pixels"),
        (dict(limit=0), "seed = 0, limit = 0: expected a seed >= 0 and a limit >= 1"),
        (dict(seed=-1), "seed = -1, limit = None: expected a seed >= 0"),
    ],
)
def test_bad_requests_are_refused_in_one_line(name, given, message):
    with pytest.raises(DataError, match=message) as e:
        DRAWN[name].load(**given)
    assert "\n" not in str(e.value)
