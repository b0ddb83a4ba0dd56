"""Small classifiers: counts, scores, losses, and what a shift does to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.experiments import classifiers, shifts
from learnit_utils.experiments.classifiers import Network, cross_entropy

SMALL = {
    "conv": Network("conv", (3, 4), 2, 3, 12, 5),
    "conv_mean": Network("conv_mean", (3, 4), 1, 5, 12, 5),
    "dense": Network("dense", (6, 4), size=12, classes=5),
}


@pytest.mark.parametrize("kind", SMALL)
def test_shapes_counts_and_scores_agree(kind):
    net = SMALL[kind]
    theta = net.init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(theta)) == net.weight_count()
    x = np.random.default_rng(0).uniform(size=(7, 12, 12, 1)).astype(np.float32)
    assert net(theta, x).shape == (7, 5)
    assert net.features(theta.body, x).shape == (7, net.shapes()[-1][0])


@pytest.mark.parametrize("kind", SMALL)
def test_a_picture_s_scores_do_not_depend_on_the_others(kind):
    net = SMALL[kind]
    theta = net.init(jax.random.key(0))
    x = np.random.default_rng(0).uniform(size=(5, 12, 12, 1)).astype(np.float32)
    np.testing.assert_allclose(net(theta, x)[2:3], net(theta, x[2:3]), atol=1e-5)


@given(scale=st.floats(0.5, 20), offset=st.floats(-5, 5), seed=st.integers(0, 99))
def test_standardised_activations_forget_scale_and_offset(scale, offset, seed):
    h = np.random.default_rng(seed).normal(size=(3, 4, 5)).astype(np.float32)
    one, other = (
        classifiers.standardised(jnp.asarray(u, jnp.float32)) for u in (h, scale * h + offset)
    )
    np.testing.assert_allclose(one, other, atol=1e-3)
    np.testing.assert_allclose(one.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose((one**2).mean((1, 2)), 1, atol=1e-3)


@settings(max_examples=30)
@given(n=st.integers(2, 9), seed=st.integers(0, 99))
def test_cross_entropy_of_equal_scores_is_log_n_and_its_gradient_p_minus_y(n, seed):
    labels = np.arange(n)
    assert float(cross_entropy(jnp.zeros((n, n)), labels)) == pytest.approx(np.log(n), rel=1e-5)
    z = np.random.default_rng(seed).normal(size=(n, n)).astype(np.float32)
    gradient = jax.grad(cross_entropy)(z, labels)
    np.testing.assert_allclose(gradient, (jax.nn.softmax(z) - np.eye(n)) / n, atol=1e-6)


@given(m=st.integers(1, 5), n=st.integers(1, 5), seed=st.integers(0, 99))
def test_squared_distances_are_squared_distances(m, n, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(m, 4)), rng.normal(size=(n, 4))
    found = classifiers.squared_distances(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, ((a[:, None] - b) ** 2).sum(-1), atol=1e-4)


def test_the_networks_that_see_shifts_have_as_many_weights():
    counts = [net.weight_count() for net in shifts.NETWORKS.values()]
    assert max(counts) < 1.1 * min(counts)


@pytest.mark.parametrize("name", ["strides, mean of cells", "no strides, mean of cells"])
def test_moved_by_its_stride_a_mean_of_cells_stays(name):
    """Exactly where cells that only see black are all alike: up to what the border does."""
    net = shifts.NETWORKS[name]
    step = net.stride ** len(net.widths)
    theta = net.init(jax.random.key(1))
    x = np.zeros((2, net.size, net.size, 1), np.float32)
    x[:, 12:20, 8:16] = np.random.default_rng(0).uniform(size=(2, 8, 8, 1))
    still, gone = net(theta, x), net(theta, shifts.moved(x, step))
    spread = float(np.ptp(still)) + 1e-6
    assert np.abs(gone - still).max() < 1e-3 * spread + 1e-5
    if step > 1:
        assert np.abs(net(theta, shifts.moved(x, step // 2)) - still).max() > 1e-2 * spread


def test_xla_s_convolution_makes_the_same_network():
    ours, theirs = (kind("conv_mean", (3, 4), 2, 3, 12, 5) for kind in (Network, shifts.Large))
    theta = ours.init(jax.random.key(0))
    x = np.random.default_rng(0).uniform(size=(3, 12, 12, 1)).astype(np.float32)
    np.testing.assert_allclose(ours(theta, x), theirs(theta, x), atol=1e-5)


def test_centred_glyphs_have_room_to_move():
    x, labels = shifts.centred()
    assert x.shape[:2] == labels.shape == (shifts.CLASSES, shifts.PER_CLASS)
    assert x[..., -shifts.MARGIN :, :].max() == 0
    for s in (0, 3, shifts.MARGIN):
        there = shifts.moved(x, s)
        assert there.sum() == pytest.approx(x.sum())
        np.testing.assert_array_equal(there[..., s:, :], x[..., : x.shape[-2] - s, :])
