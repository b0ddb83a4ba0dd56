"""Novel views: fields fitted to a few photographs of an object, and what they show from elsewhere.

The inits of such a study, the pictures of a fitted field, and what is asked of them. Tasks are
those of `photometric.object_tasks(support, query)`; what chooses and reports is `protocol.Study`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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


# --- pictures of fields -----------------------------------------------------------------------
@dataclass(frozen=True)
class Studio:
    """How all pictures of fields are taken.

    Attributes:
        camera: of the objects, `shared` of their tasks.
        size: pixels of a side.
        sampling: of the rays.
    """

    camera: Camera
    size: int
    sampling: Sampling


def picture(field: Field, theta: Theta, pose: jax.Array, studio: Studio) -> Rendering:
    """A field seen by a camera at a pose (4, 4): a Rendering with leading axes (size, size)."""
    return _picture(field, theta, pose, studio.camera, studio.size, studio.sampling)


@partial(jax.jit, static_argnums=(0, 4, 5))
def _picture(field, theta, pose, camera, size, sampling):
    rays = photometric.object_rays(pose, camera, (size, size))
    return rendering.render(field, theta, rays, sampling)


def resampled(picture: Rendering, size: int) -> np.ndarray:
    """The colours of a picture at another size, in [0, 1]: (size, size, 3)."""
    return resize(np.asarray(picture.colour), size)


def mixed(a: Any, b: Any, share: float) -> Any:
    """Weights between those of two networks, entry by entry: (1 - share) a + share b."""
    return jax.tree.map(lambda p, q: (1 - share) * p + share * q, a, b)


# --- inits ------------------------------------------------------------------------------------
def matched(
    field: Field,
    key: jax.Array,
    init: Any,
    poses: jax.Array,
    studio: Studio,
    rays: int,
    steps: int,
    lr: float = 1e-3,
) -> Theta:
    """A *matched* init: a random network fitted to pictures that another init shows unfitted.

    Args:
        field: the network.
        key: of its random weights.
        init: that shows the pictures.
        poses: (views, 4, 4) of the pictures.
        studio: how they are taken, and how the network's own rays are sampled.
        rays: pixels of the pictures drawn in each step.
        steps, lr: of Adam.

    Source: Tancik et al. 2021, section 4.1.
    """
    theta, sampling = Init.of(init).theta, studio.sampling
    shown = jnp.stack([picture(field, theta, pose, studio).colour for pose in poses])
    task = Tasks(Views(jnp.round(255 * shown).astype(jnp.uint8), poses), studio.camera)
    forward = photometric.object_pixels(rays, sampling.samples, sampling.density)
    begin = field.init(jax.random.clone(key))
    return evaluate.fit(tasks.regression(field, forward), begin, task, ADAM, steps, lr=lr)


def shuffled(key: jax.Array, init: Any) -> Theta:
    """`baselines.shuffled` that may be called again with the same key, as a `Study` does."""
    return baselines.shuffled(jax.random.clone(key), init)


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
def fitted(study: Study, name: str, choice: Choice, task: Tasks, seed: int = 0) -> Theta:
    """The weights of an init of a study after its chosen steps on one task."""
    theta = study.init(name, seed).theta
    if choice.step == 0:
        return theta
    loss, optimizer = study.contender(name).problem.loss, study.grid[choice.optimizer][0]
    return evaluate.fit(loss, theta, task, optimizer, choice.step, lr=choice.lr)


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
