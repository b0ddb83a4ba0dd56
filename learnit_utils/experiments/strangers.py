"""Bodies that are no phantoms of the class, to see what a learned init makes of them."""

import gzip

import numpy as np

from learnit_utils.signals import phantoms
from learnit_utils.signals.transforms import resize

LESION = np.array([[0.4, 0.11, 0.11, 0.1, -0.32, 0.0]])  # an ellipse; columns as phantoms.MODIFIED
TURN = 0.6  # radians


def turned(shapes: np.ndarray, angle: float) -> np.ndarray:
    """Ellipses (count, 6) turned about the middle of the picture, from x to y, by radians."""
    c, s = np.cos(angle), np.sin(angle)
    found = shapes.copy()
    found[:, 3:5] = shapes[:, 3:5] @ np.array([[c, s], [-s, c]])
    found[:, 5] += angle
    return found


def head_slice() -> np.ndarray:
    """A slice of a real head, by magnetic resonance, as it comes with matplotlib: (256, 256).

    Values are divided by their 99.5 % quantile and clipped to [0, 1].
    """
    from matplotlib.cbook import get_sample_data

    with gzip.open(get_sample_data("s1045.ima.gz", asfileobj=False)) as f:
        u = np.frombuffer(f.read(), np.uint16).reshape(256, 256).astype(np.float32)
    return np.clip(u / np.quantile(u, 0.995), 0, 1)


def bodies(size: int) -> dict[str, np.ndarray]:
    """A test phantom, three variations on what a body can be, each (size, size, 1) in [0, 1]."""
    shapes = phantoms.ellipses("test", limit=1)[0]
    return {
        "of the class": phantoms.picture(shapes, size),
        "with a lesion": phantoms.picture(np.vstack([shapes, LESION]), size),
        "turned": phantoms.picture(turned(shapes, TURN), size),
        "real slice": resize(head_slice()[..., None], size),
    }
