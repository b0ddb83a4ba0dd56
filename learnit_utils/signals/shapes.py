"""Signed distances of the curves of `sdf` as they are: 1/2 on the curve, larger outside.

Pictures of `sdf` are shifted and scaled, each for itself, to fill the range; here a value is 1/2
plus the distance in picture sides, so that the curve is the level 1/2 of every picture.
"""

import numpy as np

from learnit_utils.signals.base import Dataset, drawn_dataset
from learnit_utils.signals.sdf import distances, picture


def load(
    split: str = "train",
    *,
    size: int = 64,
    gray: bool = True,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Signed distances d of random closed curves as 1/2 + d, cut off at 0 and 1.

    Args:
        gray: one channel; three equal ones otherwise.
        split, size, seed, limit: as in `base.drawn_dataset`; pixel i lies at i / size.
    """

    def draw(rng, part):
        return picture(np.clip(0.5 + distances(rng, size), 0, 1), gray)

    return drawn_dataset(draw, split, size, seed, limit, "distances of random curves")
