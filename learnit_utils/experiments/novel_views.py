"""Novel views: fields fitted to a few photographs of an object, and what they show from elsewhere.

The inits of such a study, the pictures of a fitted field, and what is asked of them. Tasks are
those of `photometric.object_tasks(support, query)`; what chooses and reports is `protocol.Study`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils import baselines, evaluate, tasks
from learnit_utils.evaluate import ADAM
from learnit_utils.experiments.protocol import Choice, Study
from learnit_utils.fields import Field, Theta
from learnit_utils.forward import photometric, rendering
from learnit_utils.forward.photometric import Camera, Views
from learnit_utils.forward.rendering import Rendering, Sampling
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel
from learnit_utils.signals.transforms import resize, unit
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


# --- pictures of fields -----------------------------------------------------------------------
@dataclass(frozen=True)
class Studio:
    """How pictures of fields are taken.

    Attributes:
        field: the network.
        camera: of the objects, `shared` of their tasks.
        size: pixels of a side that are rendered.
        samples: per ray.
        shown: pixels of a side of the colours, resampled if given.
    """

    field: Field
    camera: Camera
    size: int
    samples: int
    shown: int | None = None

    def picture(
        self, theta: Theta, pose: jax.Array, density: str, samples: int | None = None
    ) -> Rendering:
        """A field seen by the camera at a pose (4, 4).

        Args:
            density: as in `rendering.density_and_colour`.
            samples: per ray; the studio's unless given.

        Returns:
            Leading axes (size, size); those of the colour (shown, shown) if that is given.
        """
        sampling = Sampling(samples or self.samples, density)
        seen = _picture(self.field, theta, pose, self.camera, self.size, sampling)
        if self.shown is None:
            return seen
        return seen._replace(colour=resize(np.asarray(seen.colour), self.shown))


@partial(jax.jit, static_argnums=(0, 4, 5))
def _picture(field, theta, pose, camera, size, sampling):
    rays = photometric.object_rays(pose, camera, (size, size))
    return rendering.render(field, theta, rays, sampling)


def mixed(a: Any, b: Any, share: float) -> Any:
    """Weights between those of two networks, entry by entry: (1 - share) a + share b."""
    return jax.tree.map(lambda p, q: (1 - share) * p + share * q, a, b)


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
    shown = jnp.stack([studio.picture(theta, pose, density).colour for pose in poses])
    task = Tasks(Views(jnp.round(255 * shown).astype(jnp.uint8), poses), studio.camera)
    forward = photometric.object_pixels(rays, studio.samples, density)
    loss = tasks.regression(studio.field, forward)
    return evaluate.fit(loss, begin, task, ADAM, steps, lr=lr)


def shuffled(key: jax.Array, init: Any) -> Theta:
    """`baselines.shuffled` that may be called again with the same key, as a `Study` does."""
    return baselines.shuffled(jax.random.clone(key), init)


def derived(
    learned: Sequence[Any],
    seeds: int,
    key_matched: jax.Array,
    key_shuffled: jax.Array,
    match: Callable[[jax.Array, Any], Theta],
) -> dict[str, list[Callable]]:
    """Seeds of the matched and the shuffled init, made of learned ones when they are needed.

    Args:
        learned: seeds of the learned init; the last serves all further ones.
        seeds: how many are made of each.
        key_matched, key_shuffled: every seed has a key that is folded from these.
        match: (key, init) -> weights, as `matched` with its other arguments given.

    Returns:
        "matched", "shuffled" -> functions of no arguments, as a `Study` takes them.
    """
    made: dict[str, list[Callable]] = dict(matched=[], shuffled=[])
    for seed in range(seeds):
        init = learned[min(seed, len(learned) - 1)]
        for name, key, make in (
            ("matched", key_matched, match),
            ("shuffled", key_shuffled, shuffled),
        ):
            own = jax.random.fold_in(jax.random.clone(key), seed)
            made[name].append(partial(make, own, init))
    return made


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
def fitted(study: Study, name: str, choice: Choice, tasks: Tasks, index: int) -> Theta:
    """The weights of an init's first seed after its chosen steps on one of some tasks.

    On test tasks of the study this is the very fit whose score is in its table (`Study.at`): it
    draws the same.
    """
    problem = study.contender(name).problem
    optimizer, _ = study.grid[choice.optimizer]
    key = evaluate.task_keys(tasks, study.key)[index]
    run = _fit(problem.loss, problem.resample, optimizer)
    theta, task = study.init(name).theta, tasks.take(index)
    return run(theta, task, key, jnp.float32(choice.lr), choice.step)


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
