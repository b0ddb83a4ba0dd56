"""Episodes have no leakage: classes, pictures and labels."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.experiments import episodes, few_shot
from learnit_utils.signals.base import SPLITS, dataset


def numbered(kinds, each):
    """A data set whose pictures hold their class and their number in it."""
    pairs = [(k, i) for i in range(each) for k in range(kinds)]
    pictures = [np.array([k, i], np.float32).reshape(1, 2, 1) for k, i in pairs]
    return dataset(pictures, [f"class {k}/{i}" for k, i in pairs], split="train")


@pytest.mark.slow
@settings(max_examples=60)
@given(
    ways=st.integers(1, 6),
    shots=st.integers(1, 4),
    queries=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_support_and_query_share_classes_and_no_picture(ways, shots, queries, seed):
    tasks = episodes.draw(numbered(7, 9), ways, shots, queries, 5, np.random.default_rng(seed))
    assert tasks.count == 5
    for i in range(5):
        task = tasks.take(i)
        parts = [episodes.pictures(task, part) for part in ("support", "query")]
        seen = [{tuple(u.ravel().tolist()) for u in np.asarray(x)} for x, _ in parts]
        assert len(seen[0]) == ways * shots
        assert len(seen[1]) == ways * queries
        assert not seen[0] & seen[1]
        kinds = [dict(zip(y.tolist(), np.asarray(x)[:, 0, 0, 0].tolist())) for x, y in parts]
        for (x, y), kind in zip(parts, kinds):  # a label is a class, the same in both parts
            assert kind == kinds[0]
            assert len(set(kind.values())) == ways
            assert [kind[n] for n in y.tolist()] == np.asarray(x)[:, 0, 0, 0].tolist()
        both, labels = episodes.pictures(task, "all")
        assert {tuple(u.ravel().tolist()) for u in np.asarray(both)} == seen[0] | seen[1]
        assert [kinds[0][n] for n in labels.tolist()] == np.asarray(both)[:, 0, 0, 0].tolist()


def test_labels_are_dealt_out_anew_in_every_episode():
    """Each class gets each label equally often: within five standard errors."""
    count, ways = 3000, 3
    tasks = episodes.draw(numbered(ways, 4), ways, 1, 1, count, np.random.default_rng(0))
    kinds = np.asarray(tasks.shared)[np.asarray(tasks.each.support)[..., 0], 0, 0, 0]
    for label in range(ways):
        shares = np.bincount(kinds[:, label].astype(int), minlength=ways) / count
        assert np.abs(shares - 1 / ways).max() < 5 * (2 / 9 / count) ** 0.5


@pytest.mark.parametrize("signals", ["glyphs", "faces"])
def test_no_class_and_no_picture_is_on_two_sides(signals):
    sides = few_shot.pictures_of(few_shot.Setting(signals=signals, size=12))
    kinds = [set(episodes.classes_of(sides[s].names)) for s in SPLITS]
    assert all(len(k) >= 5 for k in kinds)
    assert len(set.union(*kinds)) == sum(map(len, kinds))
    every = np.concatenate([sides[s].arrays for s in SPLITS]).reshape(-1, 12 * 12)
    same = len(every) - len(np.unique(every, axis=0))
    assert same < 1e-3 * len(every)  # a thin stroke may come out the same twice within a class


def test_the_test_persons_are_those_of_the_book():
    from learnit_utils.signals import faces

    assert set(few_shot.PEOPLE["test"]) == set(faces.PEOPLE["test"])
    everybody = [p for part in few_shot.PEOPLE.values() for p in part]
    assert sorted(everybody) == list(range(1, 41))


def test_the_seed_decides_and_episodes_of_a_split_are_the_same_for_all():
    setting = few_shot.Setting(size=12)
    a, b = (few_shot.episodes_of(setting, "test", 1, 6) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, a, b)
    c = few_shot.episodes_of(setting, "test", 1, 6, seed=1)
    assert (np.asarray(a.each.query) != np.asarray(c.each.query)).any()


@pytest.mark.parametrize("wrong", [dict(ways=8), dict(shots=9), dict(queries=0), dict(count=0)])
def test_episodes_that_cannot_be_are_refused(wrong):
    given = dict(ways=5, shots=1, queries=2, count=1) | wrong
    with pytest.raises(ValueError, match="expected 1 or more of each, and"):
        episodes.draw(numbered(7, 9), **given, rng=np.random.default_rng(0))
