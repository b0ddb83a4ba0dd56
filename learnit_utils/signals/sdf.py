"""Signed distance fields of random smooth closed curves, drawn from a seed."""

import numpy as np
from scipy.spatial import cKDTree

from learnit_utils.signals.base import Dataset, drawn_dataset

HARMONICS, VERTICES = 6, 2048
LEVELS = 2**16 - 1  # values are rounded to 16 bits, so that no processor's last bit shows


class Curve:
    """A closed curve around a centre: radius(phi) = r exp(sum_k a_k cos(k phi + p_k)).

    Positions are (row, column) in picture sides, the picture being [0, 1)^2.
    """

    def __init__(self, rng: np.random.Generator):
        self.centre = rng.uniform(0.35, 0.65, 2)
        self.size = rng.uniform(0.12, 0.3)
        k = np.arange(1, HARMONICS + 1)
        self.heights = rng.normal(0, 0.35, HARMONICS) / k
        self.phases = rng.uniform(0, 2 * np.pi, HARMONICS)

    def radius(self, phi: np.ndarray) -> np.ndarray:
        """The distance of the curve from its centre in direction phi (radians)."""
        k = np.arange(1, HARMONICS + 1)
        waves = self.heights * np.cos(k * np.asarray(phi)[..., None] + self.phases)
        return self.size * np.exp(waves.sum(axis=-1))

    def vertices(self, count: int = VERTICES) -> np.ndarray:
        """(count, 2) points along the curve."""
        phi = 2 * np.pi * np.arange(count) / count
        return self.centre + self.radius(phi)[:, None] * np.stack([np.cos(phi), np.sin(phi)], -1)

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance in picture sides, negative inside: (..., 2) -> (...).

        Exact for the polygon through the vertices, as far as the nearest segment begins or ends at
        the nearest vertex; the polygon is within 1e-5 of the curve.
        """
        corner = self.vertices()
        flat = np.asarray(points, np.float64).reshape(-1, 2)
        _, near = cKDTree(corner).query(flat)
        both = [_to_segment(flat, corner[near], corner[(near + s) % VERTICES]) for s in (-1, 1)]
        away = flat - self.centre
        inside = np.hypot(*away.T) < self.radius(np.arctan2(away[:, 1], away[:, 0]))
        return np.where(inside, -1, 1).reshape(points.shape[:-1]) * np.minimum(*both).reshape(
            points.shape[:-1]
        )


def _to_segment(points, a, b):
    """Distance from each point to the segment from a to b."""
    along = b - a
    t = ((points - a) * along).sum(-1) / (along**2).sum(-1)
    return np.linalg.norm(points - (a + np.clip(t, 0, 1)[:, None] * along), axis=-1)


def distances(rng: np.random.Generator, size: int) -> np.ndarray:
    """Signed distances to a random curve in picture sides: (size, size), pixel i at i / size."""
    rows = np.arange(size) / size
    return Curve(rng).distance(np.stack(np.meshgrid(rows, rows, indexing="ij"), -1))


def picture(values: np.ndarray, gray: bool) -> np.ndarray:
    """Values (size, size) in [0, 1], rounded, as a picture (size, size, 1 or 3), float32."""
    u = (np.rint(LEVELS * values) / LEVELS).astype(np.float32)[..., None]
    return u if gray else np.repeat(u, 3, axis=-1)


def load(
    split: str = "train",
    *,
    size: int = 64,
    gray: bool = True,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Signed distance fields, each shifted and scaled to [0, 1]; the inside is dark.

    Args:
        gray: one channel; three equal ones otherwise.
        split, size, seed, limit: as in `base.drawn_dataset`; pixel i lies at i / size.
    """

    def draw(rng, part):
        d = distances(rng, size)
        spread = d.max() - d.min()
        return picture((d - d.min()) / spread if spread > 0 else np.zeros_like(d), gray)

    return drawn_dataset(draw, split, size, seed, limit, "random curves")
