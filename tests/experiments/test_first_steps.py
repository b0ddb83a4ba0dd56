"""The first step and the way back: exact on linear fields and quadratic losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import fields, inner, tasks
from learnit_utils.experiments import first_steps, memory
from learnit_utils.fields import Field
from learnit_utils.forward import pixels


def test_a_linear_field_with_orthonormal_features_steps_straight(rng):
    """f = theta . h(x) with h the unit vectors: the step is along what is missing."""
    line = Field(lambda k: jnp.zeros(4), lambda t, x: t[x[:, 0].astype(int), None], None, None)
    x, y = jnp.arange(4.0)[:, None], jnp.asarray(rng.normal(size=(4, 1)), jnp.float32)
    loss = tasks.regression(line)
    found = first_steps.first_step(line, loss, jnp.zeros(4), tasks.Tasks(y, x), 0.1)
    np.testing.assert_allclose(found.straightness, 1, rtol=1e-5)
    np.testing.assert_allclose(found.gradient_norm, 2 / 4 * np.linalg.norm(y), rtol=1e-5)


def test_the_way_back_shows_the_curvature():
    alpha, curvature = 0.1, np.array([2.0, 5.0])
    v2 = np.array([1.0, 0.0])
    v1 = (1 - alpha * curvature) * v2
    v0 = (1 - alpha * curvature) * v1
    last, middle, first = first_steps.way_back(np.stack([v2, v1, v0]))
    assert last.factor is None
    np.testing.assert_allclose([middle.factor, first.factor], 0.8)
    np.testing.assert_allclose([last.norm, middle.norm, first.norm], [1, 0.8, 0.64])
    np.testing.assert_allclose([middle.cosine, first.cosine], 1)


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.0])
def test_parts_of_the_gradient_from_cosine_and_length(angle):
    maml, fomaml = np.array([1.0, 0.0]), 1.7 * np.array([np.cos(angle), np.sin(angle)])
    rest = maml - fomaml
    missing = np.linalg.norm(rest)
    length, opposed = first_steps.kept_by_fomaml(np.cos(angle), missing)
    if np.cos(angle) > 0:  # of the two lengths that fit, the larger one is taken
        np.testing.assert_allclose(length, 1.7)
        np.testing.assert_allclose(opposed, fomaml @ rest / (1.7 * missing))


@pytest.mark.slow
def test_memory_of_maml_grows_with_steps_only_if_all_are_kept():
    field = fields.siren(32, 3, 20.0, 1)
    loss, theta = tasks.regression(field), field.init(jax.random.key(0))
    images = pixels.image_tasks(np.zeros((1, 24, 24, 1), np.float32))

    def compiled(steps, keep):
        return memory.of_maml(loss, theta, images, steps, 1e-2, keep).compiled

    assert compiled(16, None) > 2 * compiled(4, None)
    assert compiled(16, inner.KEEP_LAST) < 1.3 * compiled(4, inner.KEEP_LAST)


def test_a_process_sees_what_a_call_holds():
    grown = memory.peak_while(lambda: np.ones(2**25))  # 256 MiB of float64
    if np.isnan(grown):
        pytest.skip("the kernel does not tell the peak of a process")
    assert grown > 2**27
