"""The memory of a computation: by the compiled program's account, and what the process held."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from learnit_utils import inner, outer
from learnit_utils.experiments import flops
from learnit_utils.tasks import Loss, Tasks

# What is held is planned before machine code is made, and code that is never run need not be good.
QUICKLY = {"xla_backend_optimization_level": 0}


class Peak(NamedTuple):
    """Bytes at the largest."""

    compiled: int  # by XLA's analysis of the program
    held: float  # by which the process grew; nan where it cannot be told


def _resident(which: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its largest (Linux)."""
    lines = Path("/proc/self/status").read_text()
    return int(lines.split(which + ":")[1].split()[0]) * 1024


def peak_while(call: Callable[[], Any]) -> float:
    """Bytes by which the process grew at its largest during a call; nan where it cannot be told."""
    if jax.default_backend() != "cpu":
        return float("nan")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _resident("VmRSS")
        jax.block_until_ready(call())
        return float(_resident("VmHWM") - before)
    except (OSError, IndexError):
        return float("nan")


def of_maml(
    loss: Loss, theta: Any, tasks: Tasks, steps: int, lr: float, keep_last: int | None
) -> Peak:
    """The memory of MAML's gradient, task by task.

    Args:
        loss: (theta, task, key) -> scalar.
        theta: weights.
        tasks: a batch.
        steps: K inner steps.
        lr: inner step size.
        keep_last: as in `inner.sgd`.
    """
    meta = outer.maml(loss, inner.sgd(loss, steps, lr, keep_last=keep_last), "scan")
    arguments = (theta, tasks, jax.random.split(jax.random.key(0), tasks.count))
    program = jax.jit(meta.step).lower(*arguments).compile()
    return Peak(flops.peak_bytes(program), peak_while(lambda: program(*arguments)))


def of_outer_step(grad: outer.MetaGradient, init: Any, tasks: Tasks) -> int:
    """Bytes that one outer step on these tasks holds at once, by XLA's account; it is not run."""
    keys = jax.random.split(jax.random.key(0), tasks.count)
    return flops.peak_bytes(jax.jit(grad.step).lower(init, tasks, keys).compile(QUICKLY))
