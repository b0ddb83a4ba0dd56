"""The floor of a computation: FLOPs against closed forms and XLA's count."""

import jax
import jax.numpy as jnp
import pytest

from learnit_utils import fields, inner, outer, tasks
from learnit_utils.experiments import flops


def test_flops_count_products_and_loops():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert flops.matmul_flops(lambda a, b: a @ b, a, b) == 2 * 3 * 5 * 7

    def loop(a, b):
        return jax.lax.scan(lambda c, _: (c + (a @ b).sum(), None), 0.0, None, length=11)[0]

    assert flops.matmul_flops(jax.jit(loop), a, b) == 11 * 2 * 3 * 5 * 7


@pytest.mark.slow
def test_the_maml_step_costs_what_xla_counts_without_loops():
    """A gradient is 3 forward passes, a Hessian-vector product 6 more: K = 2 makes 21 in all."""
    field = fields.siren(width=64, depth=5, channels=1)
    loss, x = tasks.regression(field), jnp.ones((256, 2))
    task, theta = tasks.Tasks(jnp.ones((1, 256, 1)), x), field.init(jax.random.key(0))
    keys = jax.random.split(jax.random.key(0), 1)
    maml = outer.maml(loss, inner.sgd(loss, 2, 0.1), "vmap")
    ours = flops.matmul_flops(maml.step, theta, task, keys)
    compiled = jax.jit(maml.step).lower(theta, task, keys).compile()
    xla = compiled.cost_analysis()["flops"]
    assert 0.8 * xla < ours < xla  # XLA counts elementwise work too
    forward = flops.matmul_flops(field.apply, theta, x)
    assert 20 * forward < ours < 21 * forward


def test_a_rate_is_a_plausible_number():
    assert 1e8 < flops.matmul_rate(256, 2) < 1e15
    assert flops.readable(3 * 2**30) == "3.0 GiB"
