"""How much memory an outer step holds: all steps kept grow with K, recomputed ones hardly."""

import jax
import pytest

from learnit_utils import fields, inner, outer, tasks
from learnit_utils.experiments import memory
from learnit_utils.forward import pixels


@pytest.mark.slow
def test_steps_that_are_kept_cost_memory_and_recomputed_ones_do_not():
    net = fields.siren(width=32, depth=3, channels=1)
    loss, theta = tasks.regression(net), net.init(jax.random.key(0))
    one = pixels.image_tasks(jax.numpy.ones((1, 32, 32, 1)))

    def held(direction, steps, keep):
        grad = direction(loss, inner.sgd(loss, steps, 1e-2, keep_last=keep))
        return memory.of_outer_step(grad, theta, one)

    kept = [held(outer.maml, k, None) for k in (2, 8)]
    again = [held(outer.maml, k, 1) for k in (2, 8)]
    assert kept[1] > 2 * kept[0]
    assert again[1] < min(1.3 * again[0], kept[1] / 2)
    assert held(outer.reptile, 2, 1) < again[0]
