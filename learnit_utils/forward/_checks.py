"""What pictures, angles and sinograms have to be; values are looked at where they are known."""

import math

import jax
import numpy as np

FULL_TURN = 2 * math.pi + 1e-3  # radians, with room for rounding


def _known(values) -> bool:
    return not isinstance(values, jax.core.Tracer)


def check_image(image, angles) -> None:
    """Validate image and angles."""
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.shape[0] < 2:
        raise ValueError(f"image of shape {image.shape}: expected (n, n) with n >= 2")
    check_finite("image", image, ("row", "column"))
    check_angles(angles)


def check_finite(name, values, axes) -> None:
    """Raise ValueError, naming the first, if known values are not all finite."""
    if not _known(values):
        return
    bad = np.argwhere(~np.isfinite(np.asarray(values)))
    if len(bad):
        where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, bad[0]))
        raise ValueError(
            f"{name}: expected finite values, {len(bad)} are not, the first at {where}"
        )


def check_angles(angles) -> None:
    if angles.ndim != 1 or len(angles) < 1:
        raise ValueError(f"angles of shape {angles.shape}: expected (views,) with at least 1 view")
    if not _known(angles):
        return
    if not np.isfinite(angles).all():
        raise ValueError("angles: expected finite numbers")
    if (most := np.abs(np.asarray(angles, np.float64)).max()) > FULL_TURN:
        raise ValueError(
            f"angles: {most:.4g} is more than a full turn, expected radians in [-2 pi, 2 pi]; "
            "tomography.from_degrees converts degrees"
        )


def check_sinogram(sinogram, angles, size=None) -> None:
    """Raise ValueError unless a sinogram (views, detectors) is finite and fits its angles (views,).

    Args:
        size: how many detectors there have to be.
    """
    check_angles(angles)
    shape = (len(angles), size or (sinogram.shape[1] if sinogram.ndim == 2 else "detectors"))
    if sinogram.shape != shape:
        raise ValueError(f"sinogram of shape {sinogram.shape}: expected {shape} for these angles")
    check_finite("sinogram", sinogram, ("view", "detector"))
