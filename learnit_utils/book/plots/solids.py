"""Solids: the level set of values in a cube, lit and seen from far away."""

import numpy as np
from scipy import ndimage

FROM = (-50.0, 20.0)  # degrees: azimuth and height of the eye; fronts look towards -y
SUN = (-0.5, -0.6, 0.9)  # in the eye's frame: right, away, up
COLOUR = (0.45, 0.62, 0.82)
LEVEL, STEPS, HALVINGS = 0.5, 160, 6  # along a ray
WIDE = 1.05  # of what is shown, in sides of the cube


def lit(values: np.ndarray, pixels: int = 220, towards: tuple[float, float] = FROM) -> np.ndarray:
    """The surface of a solid, seen from far away: (pixels, pixels, 4) RGBA, clear beside it.

    Args:
        values: (n, n, n) at the centres of a cube's cells, x first, z upwards; inside below 1/2.
        pixels: of a side of the picture, which shows a square `WIDE` sides of the cube wide.
        towards: azimuth and height of the eye, in degrees.
    """
    right, away, up = _frame(*np.deg2rad(towards))
    at = WIDE * ((np.arange(pixels) + 0.5) / pixels - 0.5)
    start = 0.5 + at[None, :, None] * right - at[:, None, None] * up
    t = np.linspace(-0.87, 0.87, STEPS)
    along = np.stack([_at(values, start + s * away) for s in t])
    inside = along < LEVEL
    hit, first = inside.any(axis=0), inside.argmax(axis=0)
    low, high = t[np.maximum(first - 1, 0)], t[first]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        within = _at(values, start + middle[..., None] * away) < LEVEL
        low, high = np.where(within, low, middle), np.where(within, middle, high)
    normal = _slope(values, start + high[..., None] * away)
    sun = np.stack([right, away, up], -1) @ (np.array(SUN) / np.linalg.norm(SUN))
    shade = 0.35 + 0.2 * normal[..., 2] + 0.6 * np.clip(normal @ sun, 0, 1)
    picture = np.zeros((pixels, pixels, 4))
    picture[..., :3] = np.clip(shade[..., None] * COLOUR, 0, 1)
    picture[..., 3] = hit
    return picture


def _frame(azimuth, height):
    """Right, away from the eye, up: unit vectors."""
    flat = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    eye = np.cos(height) * flat + np.sin(height) * np.array([0.0, 0, 1])
    right = np.array([-flat[1], flat[0], 0.0])
    return right, -eye, np.cross(eye, right)


def _at(values, points):
    """Values at points (..., 3) of the cube, far outside where there are none."""
    where = np.moveaxis(points * len(values) - 0.5, -1, 0)
    return ndimage.map_coordinates(values, where, order=1, mode="constant", cval=1.0)


def _slope(values, points):
    """Unit vectors towards larger values at points (..., 3)."""
    h = 0.75 / len(values)
    ways = h * np.eye(3)
    slope = np.stack([_at(values, points + w) - _at(values, points - w) for w in ways], -1)
    return slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-9)
