"""Where the first step of descent leads, and what the way back through the steps does."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from learnit_utils.fields import Field
from learnit_utils.tasks import Loss, Tasks


class FirstStep(NamedTuple):
    """The first step from an init towards one signal."""

    straightness: float  # cosine of the change of the output with what was missing
    gradient_norm: float  # |grad L(theta_0)|


def first_step(field: Field, loss: Loss, init: Any, task: Tasks, lr: float) -> FirstStep:
    """How straight the first step leads to an image, and how long the gradient is.

    Args:
        field: the network.
        loss: on image tasks.
        init: weights.
        task: one image.
        lr: step size.
    """
    return FirstStep(*map(float, _first_step(field, loss)(init, task, lr)))


@lru_cache
def _first_step(field, loss):
    def run(theta, task, lr):
        grad = jax.grad(loss)(theta, task, jax.random.key(0))
        moved = jax.tree.map(lambda t, g: t - lr * g, theta, grad)
        x, now = task.shared, field(theta, task.shared)
        change, wanted = (field(moved, x) - now).ravel(), (task.each - now).ravel()
        cosine = change @ wanted / (jnp.linalg.norm(change) * jnp.linalg.norm(wanted))
        return cosine, jnp.linalg.norm(ravel_pytree(grad)[0])

    return jax.jit(run)


class WayBack(NamedTuple):
    """One vector of the chain v_K, ..., v_0 that carries MAML's gradient back."""

    norm: float
    cosine: float  # with v_K, FOMAML's direction
    factor: float | None  # 1 - alpha lambda along the vector before; None for v_K


def way_back(chain: np.ndarray) -> list[WayBack]:
    """Length and direction of every vector of a chain (K + 1, parameters), v_K first.

    v_k = (I - alpha H) v_{k+1}, so v_{k+1} . v_k / |v_{k+1}|^2 = 1 - alpha lambda, with lambda the
    curvature of the loss along v_{k+1}.
    """
    chain, found = np.asarray(chain, np.float64), []
    for k, v in enumerate(chain):
        norm = np.linalg.norm(v)
        cosine = float(v @ chain[0] / (norm * np.linalg.norm(chain[0])))
        before = chain[k - 1]
        factor = None if k == 0 else float(v @ before / (before @ before))
        found.append(WayBack(float(norm), cosine, factor))
    return found


def kept_by_fomaml(cosine: float, missing: float) -> tuple[float, float]:
    """What MAML's gradient is made of, from two numbers of `evaluate.agreement`.

    Args:
        cosine: of FOMAML with MAML.
        missing: |MAML - FOMAML| / |MAML|.

    Returns:
        |FOMAML| / |MAML|, and the cosine between FOMAML and MAML - FOMAML.
    """
    length = cosine + np.sqrt(max(0.0, missing**2 - 1 + cosine**2))
    return float(length), float((cosine - length) / missing)
