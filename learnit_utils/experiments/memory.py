"""How much memory an outer step holds, without running it."""

from typing import Any

import jax

from learnit_utils.experiments import flops
from learnit_utils.outer import MetaGradient
from learnit_utils.tasks import Tasks

# What is held is planned before machine code is made, and this code is never run.
QUICKLY = {"xla_backend_optimization_level": 0}


def of_outer_step(grad: MetaGradient, init: Any, tasks: Tasks) -> int:
    """Bytes that one outer step on these tasks holds at once, by XLA's account.

    Args:
        grad: an outer gradient, as from `outer.maml`.
    """
    keys = jax.random.split(jax.random.key(0), tasks.count)
    return flops.peak_bytes(jax.jit(grad.step).lower(init, tasks, keys).compile(QUICKLY))
