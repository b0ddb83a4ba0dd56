"""Finite differences: what the derivatives of a field are compared with."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def of_pixels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Central differences of a picture whose longer side is one unit.

    Args:
        image: (height, width), one channel.

    Returns:
        Length of the gradient, and Laplacian, (height - 2, width - 2) each: without the border.
    """
    u, size = np.asarray(image), max(np.shape(image))
    middle = u[1:-1, 1:-1]
    up, down, left, right = u[:-2, 1:-1], u[2:, 1:-1], u[1:-1, :-2], u[1:-1, 2:]
    gradient = np.hypot(down - up, right - left) * size / 2
    return gradient, (up + down + left + right - 4 * middle) * size**2


def gradient(f: Callable, points: jax.Array, h: float) -> jax.Array:
    """Central differences (f(x + h e_j) - f(x - h e_j)) / 2h of a field.

    Args:
        f: points (n, dims) -> values (n,).
        points: (n, dims).
        h: half the distance, in units of x.

    Returns:
        (n, dims).
    """
    aside = [h * e[None] for e in jnp.eye(points.shape[-1])]
    return jnp.stack([(f(points + e) - f(points - e)) / (2 * h) for e in aside], axis=-1)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, over all entries; 0 if one of them is constant."""
    a, b = np.ravel(a), np.ravel(b)
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0
