"""What first-order MAML keeps of MAML's direction, by the number of inner steps.

In episodes of few-shot classification and on fields that fit a picture. Kept in "few_shot".
"""

from collections.abc import Sequence
from typing import Any

import jax.flatten_util
import jax.numpy as jnp

from learnit_utils import evaluate, inner, outer
from learnit_utils.experiments import few_shot
from learnit_utils.experiments.few_shot import How, Setting
from learnit_utils.experiments.protocol import DIGITS, Pieces, made
from learnit_utils.tasks import Loss, Tasks

STUDY = "few_shot"


def cosine(loss: Loss, inside: Loss, init: Any, tasks: Tasks, steps: int, lr: float) -> float:
    """The cosine between FOMAML's and MAML's direction.

    Args:
        loss: the outer loss.
        inside: the loss that the inner steps descend.
        init: where.
        tasks: over which both are averaged.
        steps, lr: K and alpha.
    """
    adapt, flat = inner.sgd(inside, steps, lr), {}
    for name in ("maml", "fomaml"):
        step = jax.jit(outer.METHODS[name](loss, adapt, "scan").step)
        _, direction = step(made(init).theta, tasks, evaluate.task_keys(tasks))
        flat[name] = jax.flatten_util.ravel_pytree(direction)[0]
    a, b = flat["maml"], flat["fomaml"]
    return float(a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))


def in_episodes(
    pieces: Pieces, setting: Setting, how: How, starts: Sequence[str], steps: Sequence[int]
) -> dict[str, list[float]]:
    """Start -> cosine for every K, on 40 validation episodes with the alpha of the training.

    Args:
        how: how MAML's initialization was learned.
        starts: of "random" and "maml".
        steps: K.
    """
    args = (setting, how, tuple(starts), tuple(steps))
    about = dict(of="directions in episodes", signals=setting.signals)
    found = pieces.call(STUDY, about, _in_episodes, *args, cost=setting.steps)
    return {start: found[start] for start in starts}


def _in_episodes(setting, how, starts, steps):
    tasks = few_shot.episodes_of(setting, "validation", setting.shots, 40)
    query, support = (few_shot.loss_on(setting.network(), part) for part in ("query", "support"))
    keys, found = evaluate.task_keys(tasks), {start: [] for start in starts}
    for k in steps:
        adapt = inner.sgd(support, k, how.inner_lr)

        @jax.jit
        def both(theta, adapt=adapt):
            ways = (outer.maml(query, adapt, "scan"), outer.fomaml(query, adapt, "scan"))
            towards = [way(theta, tasks, jax.random.clone(keys))[1] for way in ways]
            a, b = (jax.flatten_util.ravel_pytree(d)[0] for d in towards)
            return a @ b / (jnp.linalg.norm(a) * jnp.linalg.norm(b))

        for start in starts:
            theta = few_shot.learned(setting, start, how, 0)
            found[start].append(round(float(both(theta)), DIGITS))
    return found


def on_fields(
    pieces: Pieces,
    loss: Loss,
    starts: dict[str, Any],
    tasks: Tasks,
    steps: Sequence[int],
    lr: float,
) -> dict[str, list[float]]:
    """Start -> cosine for every K, where the outer loss is the inner one: a picture is fitted.

    Args:
        starts: name -> init, or a function that makes one.
        tasks: pictures.
    """
    found = {}
    for name, init in starts.items():
        about = dict(of="directions on fields", start=name)
        args = (loss, init, tasks, tuple(steps), lr)
        found[name] = pieces.call(STUDY, about, _on_fields, *args, cost=1e4)
    return found


def _on_fields(loss, init, tasks, steps, lr):
    return [round(cosine(loss, loss, init, tasks, k, lr), DIGITS) for k in steps]
