"""Curves as level sets: extracted from a grid of values, and compared.

Values lie on the pixels of the unit square, pixel i of n at i / n; the curve is where they are 1/2,
and the inside is where they are smaller. Positions are (row, column) in picture sides.
"""

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import find_contours

LEVEL = 0.5


def level_set(values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Points of the level set of a grid (side, side), all its closed and open parts: (count, 2).

    Along every part they are about half a pixel apart. Empty if no value lies beyond the level.
    """
    parts = [_dense(part) for part in find_contours(np.asarray(values, np.float64), level)]
    return np.concatenate(parts) / len(values) if parts else np.zeros((0, 2))


def _dense(line: np.ndarray) -> np.ndarray:
    """Points half a pixel apart along a line of vertices (count, 2)."""
    lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
    at = np.linspace(0, lengths[-1], max(2, round(2 * lengths[-1])))
    return np.stack([np.interp(at, lengths, line[:, axis]) for axis in (0, 1)], -1)


def chamfer(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance from the points of a to the nearest of b, and back, averaged; inf if one is
    empty. In picture sides.

    Args:
        a, b: (count, 2).
    """
    if not len(a) or not len(b):
        return float("inf")
    there, _ = cKDTree(b).query(a)
    back, _ = cKDTree(a).query(b)
    return float((there.mean() + back.mean()) / 2)


def overlap(a: np.ndarray, b: np.ndarray, level: float = LEVEL) -> float:
    """Intersection over union of the insides of two grids of values; 1 if both are empty."""
    inside = [np.asarray(values) < level for values in (a, b)]
    union = np.logical_or(*inside).sum()
    return float(np.logical_and(*inside).sum() / union) if union else 1.0


def compared(drawn: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How alike the curves of two grids (side, side) are.

    Returns:
        {"chamfer": in pixels, infinite if a curve is missing, "iou": of the insides}.
    """
    distance = chamfer(level_set(drawn), level_set(truth))
    return dict(chamfer=distance * len(truth), iou=overlap(drawn, truth))
