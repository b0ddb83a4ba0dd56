"""The paper's other inits: what each of them draws, and what it does not share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learnit_utils import baselines, fields, inner, metrics, tasks
from learnit_utils.forward import pixels
from learnit_utils.inner import Init

FIELD = fields.siren(width=16, depth=3, omega0=10.0, channels=1)
LOSS = tasks.regression(FIELD)
ADAM = optax.adam(1e-2)


@pytest.fixture(scope="module")
def many():
    r = np.random.default_rng(0)
    waves = np.sin(3 * r.uniform(size=(4, 1, 1, 1)) + np.linspace(0, 6, 8)[None, :, None, None])
    return pixels.image_tasks((0.5 + 0.3 * np.broadcast_to(waves, (4, 8, 8, 1))).astype("f4"))


@pytest.fixture(scope="module")
def theta():
    return FIELD.init(jax.random.key(1))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_init_outputs_the_mean_signal(many, seed):
    init = baselines.mean(FIELD, jax.random.key(seed), LOSS, many, ADAM, 300)
    assert metrics.psnr(FIELD(init, many.shared), many.each.mean(0)) > 35


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("of", [lambda theta: theta, Init], ids=["weights", "Init"])
def test_the_matched_init_outputs_the_same_with_other_weights(many, theta, seed, of):
    x = many.shared
    init = baselines.matched(FIELD, jax.random.key(seed), LOSS, of(theta), x, ADAM, 300)
    assert metrics.psnr(FIELD(init, x), FIELD(theta, x)) > 35
    assert np.abs(init[1].w - theta[1].w).max() > 0.01


def test_the_shuffled_init_has_the_same_weights_elsewhere(theta):
    shuffled = baselines.shuffled(jax.random.key(0), theta)
    for a, b in zip(jax.tree.leaves(theta), jax.tree.leaves(shuffled), strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))
    assert not np.array_equal(theta[1].w, shuffled[1].w)
    other = baselines.shuffled(jax.random.key(1), theta)
    assert not np.array_equal(other[1].w, shuffled[1].w)
    rated = inner.with_step_sizes(theta, 2, 0.1, "layer_step")
    again = baselines.shuffled(jax.random.key(0), rated)  # step sizes have no places to swap
    assert jax.tree.structure(again) == jax.tree.structure(theta)
    np.testing.assert_array_equal(again[1].w, shuffled[1].w)


def test_white_is_the_error_of_a_white_picture(rng):
    pictures = jnp.asarray(rng.uniform(size=(2, 3, 5, 4, 3)), jnp.float32)
    errors = baselines.white(pictures)
    assert errors.shape == (2, 3)
    expected = metrics.mse(pictures[1, 2], jnp.ones((5, 4, 3)))
    assert float(errors[1, 2]) == pytest.approx(float(expected), rel=1e-6)
    assert baselines.white(jnp.ones((5, 4, 3))) == 0
