"""The forward model of a sound: its samples at their times.

A clip fills the interval [0, 1), sample i of n at i / n, so the waves of a SIREN's first layer, of
weights up to 1, have angular frequencies up to omega0 per clip. `reach` says which omega0 lets them
go up to a pitch in hertz.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import tasks
from learnit_utils.fields import Field, Theta
from learnit_utils.forward import pixels
from learnit_utils.tasks import Tasks


def times(size: int) -> jax.Array:
    """The times of the samples of a clip, (size, 1) in [0, 1).

    Raises:
        ValueError: no sample.
    """
    if size < 1:
        raise ValueError(f"size = {size}: expected at least one sample")
    return jnp.asarray(np.arange(size)[:, None] / size, jnp.float32)


def reach(hertz: float, seconds: float) -> float:
    """The omega0 by which a SIREN's first layer has waves up to so many hertz.

    A first weight is at most 1 in size (schemes "code" and "learnit", one coordinate), and a clip
    of `seconds` is 1 long; so omega0 = 2 pi hertz seconds. Further layers multiply frequencies.

    Sitzmann et al. 2020 reach the same by stretching time: their clips of 7 s lie in [-100, 100],
    and omega0 stays 30.
    """
    if not (hertz > 0 and seconds > 0):
        raise ValueError(f"hertz = {hertz}, seconds = {seconds}: expected numbers > 0")
    return 2 * np.pi * hertz * seconds


def sound_tasks(data) -> Tasks:
    """Every sound as a task: `each` its samples (count, size, channels), `shared` their times.

    Args:
        data: a `signals.base.Dataset` of sounds, or an array (count, size, channels).

    Raises:
        ValueError: arrays that are not sounds.
    """
    arrays = getattr(data, "arrays", data)
    if np.ndim(arrays) != 3:
        raise ValueError(f"shape {np.shape(arrays)}: expected sounds, (count, samples, channels)")
    return Tasks(jnp.asarray(arrays), times(arrays.shape[1]))


def play(field: Field, theta: Theta, size: int) -> jax.Array:
    """The field as a sound of any number of samples a clip, (size, channels)."""
    return _apply(field, theta, times(size))


_apply = jax.jit(lambda field, theta, x: field.apply(theta, x), static_argnums=0)


# --- as a recipe's forward model ----------------------------------------------------------------
def _forward(settings) -> Callable:
    """All samples; the network must take time alone."""
    dims = settings.field.get("dims", 2)
    if dims != 1:
        raise ValueError(f"field.dims = {dims}: expected 1, a sound depends on time alone")
    return tasks.all_points


sound_problem = pixels.image_problem  # at all samples, as a picture at all pixels
MODELS = {
    "waveform": pixels.MODELS["pixels"]._replace(
        forward=_forward, tasks=lambda load, split: sound_tasks(load(split))
    )
}
