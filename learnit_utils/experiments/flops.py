"""The floor of a computation: its matrix-product FLOPs, and the rate this machine makes them at."""

import math
import os
import time
from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp


def matmul_flops(f: Callable, *args) -> float:
    """FLOPs of the matrix products of f(*args), loops of known length counted in full.

    2 m n k for a product of (m, k) and (k, n). XLA's own count takes the body of a loop once; on
    programs without loops the two agree but for elementwise work.
    """
    return _count(jax.make_jaxpr(f)(*args).jaxpr)


def _count(jaxpr) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            depth = math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
            total += 2.0 * depth * eqn.outvars[0].aval.size
        elif eqn.primitive.name == "cond":
            total += max(_count(b.jaxpr) for b in eqn.params["branches"])
        else:
            times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
            total += times * sum(map(_count, _bodies(eqn.params)))
    return total


def _bodies(params):
    """The programs inside an equation's parameters."""
    for name, value in params.items():
        if name in ("jaxpr", "call_jaxpr", "body_jaxpr"):
            yield getattr(value, "jaxpr", value)


@lru_cache
def matmul_rate(side: int = 2048, repeat: int = 5) -> float:
    """FLOP/s of a float32 product of two square matrices, the best of a few."""
    a = jnp.ones((side, side))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        product(a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times)


def cores() -> int:
    """CPU cores this process may use."""
    can_tell = hasattr(os, "sched_getaffinity")  # Linux
    return len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1


def peak_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes a compiled program holds at once: arguments, results and scratch, by XLA's analysis."""
    m = compiled.memory_analysis()
    held = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
    return held - m.alias_size_in_bytes


def readable(bytes: float) -> str:
    """Bytes for people: 1.9 GiB, 240 MiB."""
    return f"{bytes / 2**30:.1f} GiB" if bytes >= 2**30 else f"{bytes / 2**20:.0f} MiB"
