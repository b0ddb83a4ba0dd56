"""Test time: how fast signals that were never seen are fitted from a start."""

from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp

from learnit_utils import outer
from learnit_utils.tasks import Tasks


def _keys(tasks: Tasks, seed: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), tasks.count)


def decibel(loss: jax.Array) -> jax.Array:
    """PSNR in dB of a mean squared error, peak 1."""
    return -10 * jnp.log10(loss)


def psnr_after(loss: Callable, adapt: Callable, start: Any, tasks: Tasks, seed: int = 0) -> float:
    """Mean over tasks of the PSNR in dB after adaptation, as training reports it."""
    after = jax.jit(outer.maml(loss, adapt).losses)
    return float(decibel(after(start, tasks, _keys(tasks, seed))).mean())


def agreement(loss: Callable, adapt: Callable) -> Callable[[Any, Tasks], dict[str, float]]:
    """How FOMAML's and Reptile's directions agree with MAML's.

    Returns:
        (start, tasks) -> {"cosine_fomaml", "cosine_reptile", "missing"}, with missing the norm of
        MAML - FOMAML over the norm of MAML: the part of the gradient that is second order.
    """
    methods = {name: jax.jit(make(loss, adapt).step) for name, make in outer.METHODS.items()}

    def measure(start, tasks):
        keys = _keys(tasks, 0)
        flat = {
            n: jax.flatten_util.ravel_pytree(f(start, tasks, keys)[1])[0]
            for n, f in methods.items()
        }
        g = flat["maml"]

        def cosine(name):
            a = flat[name]
            return float(a @ g / (jnp.linalg.norm(a) * jnp.linalg.norm(g)))

        missing = float(jnp.linalg.norm(g - flat["fomaml"]) / jnp.linalg.norm(g))
        cosines = dict(cosine_fomaml=cosine("fomaml"), cosine_reptile=cosine("reptile"))
        return dict(**cosines, missing=missing)

    return measure
