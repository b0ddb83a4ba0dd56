"""Pixels: grids, tasks, sampling, rendering."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.forward import pixels
from learnit_utils.signals.base import dataset


def test_corner_grid_is_learnits():
    expected = np.stack(np.meshgrid(*[np.linspace(0, 1, 5, endpoint=False)] * 2, indexing="ij"), -1)
    np.testing.assert_allclose(pixels.grid(5), expected, atol=1e-7)


@pytest.mark.parametrize("factor", [2, 4, 5])
def test_coarse_centres_are_means_of_fine_centres(factor):
    coarse, fine = (np.asarray(pixels.grid(n, align="centre")) for n in (6, 6 * factor))
    blocks = fine.reshape(6, factor, 6, factor, 2).mean((1, 3))
    np.testing.assert_allclose(blocks, coarse, atol=1e-6)


def test_corner_grids_are_nested():
    np.testing.assert_array_equal(pixels.grid(24)[::4, ::4], pixels.grid(6))


def test_rectangles_have_rows_first():
    g = pixels.grid(3, 7)
    assert g.shape == (3, 7, 2)
    assert float(g[2, 0, 0]) == pytest.approx(2 / 3)
    assert float(g[0, 6, 1]) == pytest.approx(6 / 7)


def test_an_array_and_a_dataset_give_the_same_tasks(rng):
    pictures = rng.uniform(size=(3, 4, 5, 2)).astype(np.float32)
    one = pixels.image_tasks(pictures)
    two = pixels.image_tasks(dataset(pictures, "abc"))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.count == 3
    np.testing.assert_array_equal(one.take(1).each, pictures[1].reshape(-1, 2))
    np.testing.assert_array_equal(one.shared, pixels.grid(4, 5).reshape(-1, 2))


def test_the_splits_are_those_of_the_class(rng):
    pictures = {s: rng.uniform(size=(2, 4, 4, 1)) for s in ("train", "validation", "test")}
    asked = []

    def load(split, size):
        asked.append((split, size))
        return dataset(pictures[split], "ab")

    splits = pixels.image_splits(load, size=4)
    assert asked == [("train", 4), ("validation", 4), ("test", 4)]
    for name, its in pictures.items():
        np.testing.assert_allclose(getattr(splits, name).each, its.reshape(2, 16, 1), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_samples_are_pixels_of_the_picture_without_repetition(seed):
    coords = pixels.grid(8)
    image = jnp.arange(64.0).reshape(8, 8, 1)
    x, y = pixels.sample(jax.random.key(seed), coords, image, 40)
    index = np.rint(np.asarray(x) * 8) @ [8, 1]
    np.testing.assert_array_equal(y[:, 0], index)
    assert len(set(index)) == 40


@pytest.mark.parametrize("n", [0, 65])
def test_impossible_samples_are_refused(n):
    with pytest.raises(ValueError, match=f"n = {n}: expected 1 to 64, the number of pixels"):
        pixels.sample(jax.random.key(0), pixels.grid(8), jnp.ones((8, 8, 1)), n)


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_rendering_does_not_depend_on_the_chunk(chunk):
    field = fields.siren(8, 3)
    theta = field.init(jax.random.key(0))
    coords = pixels.grid(2, 5)
    whole = pixels.render(field, theta, coords)
    assert whole.shape == (2, 5, 3)
    np.testing.assert_allclose(pixels.render(field, theta, coords, chunk), whole, atol=1e-5)
    np.testing.assert_allclose(field(theta, coords), whole, atol=1e-5)


def test_unknown_alignment_is_named():
    with pytest.raises(ValueError, match="align = 'center': expected one of corner, centre"):
        pixels.grid(4, align="center")
