"""Novel views: fields fitted to a few photographs of an object, and what they show from elsewhere.

The inits of such a study, its fits, and what is asked of them. Tasks are those of
`photometric.object_tasks(support, query)`; what chooses and reports is `protocol.Study`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils import baselines, evaluate, tasks
from learnit_utils.evaluate import ADAM
from learnit_utils.experiments.protocol import Choice, Contender, Study, made
from learnit_utils.experiments.scores import Scores
from learnit_utils.experiments.seeds import anew
from learnit_utils.experiments.studio import Studio
from learnit_utils.fields import Layer, Theta
from learnit_utils.forward import photometric
from learnit_utils.forward.photometric import Views
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel
from learnit_utils.signals.transforms import unit
from learnit_utils.tasks import Split, Tasks

# Held-out PSNR in dB from one view, on ShapeNet: Tancik et al. 2021, Table 4. Only the last row is
# widely quoted; the others are from memory, unchecked.
PUBLISHED = {
    "standard": dict(chairs=12.49, cars=11.45, lamps=15.47),
    "matched": dict(chairs=16.40, cars=22.39, lamps=20.79),
    "shuffled": dict(chairs=10.76, cars=11.30, lamps=13.88),
    "sv": dict(chairs=16.54, cars=22.10, lamps=20.93),
    "mv": dict(chairs=18.85, cars=22.80, lamps=22.35),
}


def published(name: str, kind: str) -> dict[str, Any]:
    """The published value of an init for a class, and its source, as `report.record` takes them."""
    sure = "widely quoted" if name == "mv" else "quoted from memory, unchecked"
    source = f"Tancik 2021, Table 4, ShapeNet; {sure}"
    return dict(paper=PUBLISHED[name][kind], source=source)


# --- inits ------------------------------------------------------------------------------------
def matched(
    studio: Studio,
    key: jax.Array,
    init: Any,
    density: str,
    poses: jax.Array,
    rays: int,
    steps: int,
    lr: float = 1e-3,
) -> Theta:
    """A *matched* init: a random network fitted to pictures that another init shows unfitted.

    Args:
        studio: its network, and how the pictures are taken and the rays of the fit sampled.
        key: of the random weights.
        init: that shows the pictures.
        density: as in `rendering.density_and_colour`, for both.
        poses: (views, 4, 4) of the pictures.
        rays: pixels of the pictures drawn in each step.
        steps, lr: of Adam.

    Source: Tancik et al. 2021, section 4.1.
    """
    theta, begin = Init.of(init).theta, studio.field.init(jax.random.clone(key))
    shown = np.stack([studio.picture(theta, pose, density).colour for pose in poses])
    task = Tasks(Views(jnp.asarray(np.uint8(np.round(255 * shown))), poses), studio.camera)
    forward = photometric.object_pixels(rays, studio.samples, density)
    loss = tasks.regression(studio.field, forward)
    return evaluate.fit(loss, begin, task, ADAM, steps, lr=lr)


def derived(
    learned: Sequence[Any],
    seeds: int,
    key_matched: jax.Array,
    key_shuffled: jax.Array,
    match: Callable[[jax.Array, Any], Theta],
    cost: float,
) -> dict[str, Contender]:
    """Seeds of the matched and the shuffled init, made of learned ones when they are needed.

    Args:
        learned: seeds of the learned init; the last serves all further ones.
        seeds: how many are made of each.
        key_matched, key_shuffled: every seed has a key that is folded from these.
        match: (key, init) -> weights, as `matched` with its other arguments given.
        cost: of making a matched init, in steps.

    Returns:
        "matched", "shuffled" -> contenders of a `Study`.
    """

    def seeds_by(make, key):
        keys = (jax.random.fold_in(jax.random.clone(key), seed) for seed in range(seeds))
        likes = (learned[min(seed, len(learned) - 1)] for seed in range(seeds))
        return [partial(make, own, like) for own, like in zip(keys, likes)]

    shuffle = partial(anew, baselines.shuffled)
    matched = Contender(seeds_by(match, key_matched), cost=cost)
    return dict(matched=matched, shuffled=Contender(seeds_by(shuffle, key_shuffled)))


def best_choices(study: Study, variants: Mapping[str, Any]) -> dict[str, Choice]:
    """`study.choose()` with the best on validation of some variants of an init alone.

    Args:
        study: its inits are the variants and others.
        variants: names of inits that differ in something that validation chooses too.
    """
    choice = study.choose()
    best = max((name for name in choice if name in variants), key=lambda name: choice[name].value)
    return {name: c for name, c in choice.items() if name == best or name not in variants}


# --- fits and what they are asked -------------------------------------------------------------
def fitted(
    study: Study, name: str, choice: Choice, tasks: Tasks, index: int, keep: bool = False
) -> Theta:
    """The weights of an init's first seed after its chosen steps on one of some tasks.

    On test tasks of the study this is the very fit whose score is in its table (`Study.at`): it
    draws the same.

    Args:
        keep: keep them among the pieces of the study, to three digits, for fits that take long.
    """
    (seed, *_), problem, cost = study.contender(name)
    key = evaluate.task_keys(tasks, study.key)[index]
    optimizer, _ = study.grid[choice.optimizer]
    args = (seed, problem, optimizer, choice.lr, choice.step, tasks.take(index), key)
    if not keep:
        return _fitted(*args)
    about = dict(init=name, task=index, optimizer=choice.optimizer, lr=choice.lr)
    about |= dict(step=choice.step, of="network")
    cost += choice.step
    layers = study.pieces.call(study.name, about, _digits_of_fitted, *args, cost=cost)
    return [Layer(**{k: jnp.array(v, jnp.float32) for k, v in layer.items()}) for layer in layers]


def _fitted(seed, problem, optimizer, lr, steps, task, key):
    theta = made(seed).theta
    run = _fit(problem.loss, problem.resample, optimizer)
    return run(theta, task, key, jnp.float32(lr), steps)


def _digits_of_fitted(*args):
    """The weights as JSON: a mapping for every layer."""
    rounded = np.vectorize(lambda value: float(f"{value:.3g}"))
    layers = [layer._asdict() for layer in _fitted(*args)]
    return [{k: rounded(np.asarray(v)).tolist() for k, v in layer.items()} for layer in layers]


@lru_cache(maxsize=32)
def _fit(loss, resample, optimizer):
    """(theta, task, key, lr, steps) -> theta, compiled once for any number of steps."""

    def step(i, carry, task, key, lr):
        theta, state = carry
        drawn = jax.random.clone(key)
        grad = jax.grad(loss)(theta, task, jax.random.fold_in(drawn, i) if resample else drawn)
        updates, state = optimizer.update(grad, state, theta)
        return optax.apply_updates(theta, jax.tree.map(lambda u: lr * u, updates)), state

    def run(theta, task, key, lr, steps):
        carry = theta, optimizer.init(theta)
        body = partial(step, task=task, key=key, lr=lr)
        return jax.lax.fori_loop(0, steps, body, carry)[0]

    return jax.jit(run)


def endings(study: Study) -> dict[tuple[str, str, float], np.ndarray]:
    """(init, optimizer, step size) -> the first metric at the cap, mean over tasks: (seeds,).

    For every init and the whole grid: nothing is chosen.
    """
    found = {}
    for how in study.tried():
        choice = Choice(*how, study.cap, at_edge=False, value=np.nan)
        scores = study.score(dict.fromkeys(study.inits, choice))
        found |= {(name, *how): scores.by_seed(name) for name in study.inits}
    return found


def renamed(scores: Scores, names: Mapping[str, str]) -> Scores:
    """The same scores under other names of the inits."""
    return Scores([row._replace(init=names[row.init]) for row in scores.rows])


def white_psnr(objects: Tasks) -> np.ndarray:
    """PSNR in dB of an all-white picture on held-out views, mean over views: (objects,)."""
    errors = [baselines.white(unit(pictures)) for pictures in objects.each.query.pictures]
    return decibel(np.asarray(errors)).mean(axis=-1)


def opposite(views: Split) -> int:
    """Which held-out view is most opposite to the first given one, by the azimuth of its camera.

    Args:
        views: `each` of one task: `Views` with poses (views, 4, 4).
    """
    given, others = (np.asarray(v.poses)[:, :2, 3] for v in views)
    return int(np.argmin(others @ given[0]))


def lowest(opacity: np.ndarray) -> tuple[int, int]:
    """Row and column of the most opaque pixel in the lowest row that has an opaque one.

    Opaque is more than half of the largest opacity; (height, width).
    """
    row = int(np.flatnonzero(opacity.max(axis=1) > 0.5 * opacity.max()).max())
    return row, int(opacity[row].argmax())
