"""Pictures of fields: those of all their rays, of which some need no network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.experiments import studio
from learnit_utils.experiments.studio import Studio
from learnit_utils.forward import cameras, rendering
from learnit_utils.forward.photometric import Camera

FIELD = fields.build("posenc", width=8, depth=3, frequencies=2, max_log2=1.0, dims=3, channels=4)
CAMERA = Camera(jnp.float32(0.7), jnp.float32(1.0))
POSE = cameras.orbit(0.8, 0.3, 4.0)


def start(seed=0):
    return FIELD.init(jax.random.key(seed))


@pytest.mark.parametrize("block", [7, 1024])
def test_a_picture_is_the_rendering_of_all_its_rays(block, monkeypatch):
    monkeypatch.setattr(studio, "BLOCK", block)
    shot = Studio(FIELD, CAMERA, 9, 6)
    rays = shot.rays(POSE)
    assert 0 < float((rays.far == rays.near).mean()) < 1  # some miss the ball
    whole = rendering.render(FIELD, start(), rays, rendering.Sampling(6, "relu"))
    seen = shot.picture(start(), POSE, "relu")
    np.testing.assert_allclose(seen.colour, whole.colour, atol=1e-5)
    np.testing.assert_allclose(seen.depth, whole.depth, rtol=1e-5)
    np.testing.assert_allclose(seen.opacity, whole.opacity, atol=1e-5)


def test_the_colours_are_resampled_and_the_depth_is_not():
    seen = Studio(FIELD, CAMERA, 8, 6, shown=4).picture(start(), POSE, "exp")
    assert seen.colour.shape == (4, 4, 3)
    assert seen.depth.shape == seen.opacity.shape == (8, 8)


def test_mixtures_begin_and_end_at_the_networks():
    a, b = start(0), start(1)
    jax.tree.map(np.testing.assert_array_equal, studio.mixed(a, b, 0.0), a)
    jax.tree.map(np.testing.assert_array_equal, studio.mixed(a, b, 1.0), b)
    middle = studio.mixed(a, b, 0.5)
    jax.tree.map(lambda m, p, q: np.testing.assert_allclose(2 * m, p + q, atol=1e-6), middle, a, b)
