"""Pictures of fields that hold an object, by the camera that photographed the objects."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from learnit_utils.fields import Field, Theta
from learnit_utils.forward import photometric, rendering
from learnit_utils.forward.cameras import Rays
from learnit_utils.forward.photometric import Camera
from learnit_utils.forward.rendering import Rendering, Sampling
from learnit_utils.signals.transforms import resize

BLOCK = 1024  # rays are rendered in multiples of this, so that few programs are compiled


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

    def rays(self, pose: jax.Array) -> Rays:
        """The rays of a picture from a pose (4, 4): leaves (size, size, ...), arrays of NumPy."""
        return jax.tree.map(np.asarray, _rays(pose, self.camera, (self.size, self.size)))

    def picture(self, theta: Theta, pose: jax.Array, density: str = "softplus") -> Rendering:
        """A field seen by the camera at a pose (4, 4).

        Rays that miss the ball of the objects see the background, and are not rendered.

        Args:
            density: as in `rendering.density_and_colour`.

        Returns:
            Arrays of NumPy with leading axes (size, size); those of the colour (shown, shown) if
            that is given.
        """
        rays = self.rays(pose)
        index = np.flatnonzero(rays.far > rays.near)
        padded = np.resize(index, -(-len(index) // BLOCK) * BLOCK)
        few = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[padded], rays)
        seen = rendering.render(self.field, theta, few, Sampling(self.samples, density))
        whole = np.ones((*rays.near.shape, 3), np.float32), rays.far.copy(), 0 * rays.near
        for full, part in zip(whole, seen):
            flat = full.reshape(-1, *full.shape[2:])
            flat[index] = np.asarray(part)[: len(index)]
        colour = whole[0] if self.shown is None else resize(whole[0], self.shown)
        return Rendering(colour, *whole[1:], None)


_rays = jax.jit(photometric.object_rays, static_argnums=2)


def mixed(a: Any, b: Any, share: float) -> Any:
    """Weights between those of two networks, entry by entry: (1 - share) a + share b."""
    return jax.tree.map(lambda p, q: (1 - share) * p + share * q, a, b)
