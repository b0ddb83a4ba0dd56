"""Phantoms: the published picture, exact integrals, the seed, and the authors' file."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.data import shepp_logan_phantom

from learnit_utils.signals import base, phantoms
from learnit_utils.signals.base import DataError


def test_without_perturbation_it_is_the_modified_shepp_logan_phantom():
    """scikit-image ships it as a picture, the right way up."""
    theirs = shepp_logan_phantom()
    ours = phantoms.picture(phantoms.MODIFIED, 400)[::-1, :, 0]
    assert np.abs(ours - theirs).mean() < 0.01
    assert np.mean(np.abs(ours - theirs) > 0.05) < 0.02  # edges, a pixel off


def test_the_integral_over_the_detector_is_the_mass():
    shapes = phantoms.ellipses("train", limit=3)
    s = (np.arange(4000) + 0.5) / 2000 - 1  # twice as wide as the picture
    angles = np.linspace(0, np.pi, 7)
    for one in shapes:
        mass = (one[:, 0] * np.pi * np.abs(one[:, 1] * one[:, 2])).sum() / 4
        found = phantoms.sinogram(one, angles, s).sum(axis=1) / 2000
        np.testing.assert_allclose(found, mass, rtol=1e-3)


@given(st.floats(0.05, 0.4), st.floats(0.05, 0.4), st.floats(-3, 3), st.floats(-3, 3))
def test_the_chord_of_an_ellipse_is_the_one_counted_on_its_points(a, b, phi, theta):
    one = np.array([[1.0, 2 * a, 2 * b, 0.1, -0.2, phi]])
    s, t = 0.03, np.linspace(-1, 1, 20001)
    x, y = s * np.cos(theta) + t * np.sin(theta), -s * np.sin(theta) + t * np.cos(theta)
    along = (2 * x - 0.1) * np.cos(phi) + (2 * y + 0.2) * np.sin(phi)
    across = (2 * y + 0.2) * np.cos(phi) - (2 * x - 0.1) * np.sin(phi)
    inside = (along / (2 * a)) ** 2 + (across / (2 * b)) ** 2 <= 1
    exact = phantoms.sinogram(one, [theta], [s])[0, 0]
    assert exact == pytest.approx(inside.mean() * 2, abs=5e-4)


def test_a_phantom_is_drawn_from_its_ellipses():
    for split in base.SPLITS:
        d = phantoms.load(split, size=24, limit=3, seed=5)
        for u, shapes in zip(d.arrays, phantoms.ellipses(split, limit=3, seed=5)):
            np.testing.assert_array_equal(u, phantoms.picture(shapes, 24))


def test_finer_points_average_to_the_same_picture():
    shapes = phantoms.ellipses("test", limit=1)[0]
    hard, soft, softer = (phantoms.picture(shapes, 32, samples=k) for k in (1, 4, 16))
    assert len(np.unique(hard)) < len(np.unique(soft))
    assert np.abs(soft - softer).mean() < np.abs(hard - softer).mean() / 2


# --- the authors' file ------------------------------------------------------------------------
def written(path, **changes):
    rng = np.random.default_rng(0)
    tree = dict(data_train=rng.random((20, 12, 12)), data_test=rng.random((4, 12, 12)))
    path.write_bytes(pickle.dumps({**tree, **changes}))
    return tree


def test_the_published_file_becomes_the_splits(tmp_path):
    tree = written(tmp_path / "ct_256.pkl")
    parts = {s: phantoms.published(tmp_path / "ct_256.pkl", s, size=12) for s in base.SPLITS}
    assert [len(d.arrays) for d in parts.values()] == [18, 2, 4]
    np.testing.assert_allclose(parts["train"].arrays[3, ..., 0], tree["data_train"][3])
    np.testing.assert_allclose(parts["validation"].arrays[1, ..., 0], tree["data_train"][19])
    np.testing.assert_allclose(parts["test"].arrays[0, ..., 0], tree["data_test"][0])
    few = phantoms.published(tmp_path / "ct_256.pkl", "train", size=8, gray=False, limit=5)
    assert few.arrays.shape == (5, 8, 8, 3)
    assert len(phantoms.published(tmp_path / "ct_256.pkl", "all", size=12).arrays) == 24
    by_recipe = phantoms.from_folder(tmp_path / "ct_256.pkl", "test", size=12)
    assert by_recipe.provenance == parts["test"].provenance


BAD = {
    "one array": (dict(data_test=np.zeros(3)), r"data_test is \(3,\)"),
    "not square": (dict(data_test=np.zeros((1, 3, 4))), r"\(1, 3, 4\), needed are"),
    "too bright": (dict(data_train=np.full((3, 4, 4), 2.0)), "data_train has values outside"),
    "not finite": (dict(data_train=np.full((3, 4, 4), np.nan)), "data_train has values outside"),
    "empty": (dict(data_train=np.zeros((0, 4, 4))), "data_train is"),
    "a program": (dict(data_test=print), "refused, it asks for builtins.print"),
    "text": (dict(data_test="x"), "refused, it holds a str"),
}


@pytest.mark.parametrize("case", BAD)
def test_another_file_is_refused_in_one_line(tmp_path, case):
    changes, told = BAD[case]
    written(tmp_path / "ct_256.pkl", **changes)
    with pytest.raises(DataError, match=told) as error:
        phantoms.published(tmp_path / "ct_256.pkl")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("ct_256.pkl: ")


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(dict(weights=np.zeros(3))))
    with pytest.raises(DataError, match=r"a.pkl: arrays data_train and data_test are needed"):
        phantoms.published(tmp_path / "a.pkl")
    with pytest.raises(DataError, match=r"b.pkl: no such file"):
        phantoms.published(tmp_path / "b.pkl")
