"""Pinhole cameras, and the rays they look along.

World coordinates have z upwards; a camera looks along its own -z with x to the right and y upwards,
and its pose (4, 4) takes its coordinates to the world's (NeRF's convention, Blender's). Pixel
(row i, column j) is looked through at its middle, (i + 1/2, j + 1/2).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rays(NamedTuple):
    """Half lines."""

    origin: jax.Array  # (..., 3)
    direction: jax.Array  # (..., 3), of length 1


def orbit(azimuth: float, elevation: float, distance: float) -> jax.Array:
    """The pose of a camera that looks at the origin, z upwards: (4, 4).

    Args:
        azimuth: radians from x towards y.
        elevation: radians above the horizon, between -pi/2 and pi/2.
        distance: from the origin.

    Raises:
        ValueError: not finite, straight above or below, or no distance.
    """
    ok = all(map(math.isfinite, (azimuth, elevation, distance)))
    if not ok or abs(elevation) >= math.pi / 2 or distance <= 0:
        raise ValueError(
            f"azimuth = {azimuth}, elevation = {elevation}, distance = {distance}: finite, "
            "elevation between -pi/2 and pi/2, distance above 0"
        )
    c, s, up = math.cos(azimuth), math.sin(azimuth), math.sin(elevation)
    back = np.array([math.cos(elevation) * c, math.cos(elevation) * s, up])
    right = np.array([-s, c, 0.0])
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, distance * back], -1)
    return jnp.asarray(pose, jnp.float32)


def turned(pose: jax.Array, angle: float) -> jax.Array:
    """A camera (..., 4, 4) carried around the z axis by an angle in radians, looking as it did."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.eye(4).at[:2, :2].set(jnp.array([[cos, -sin], [sin, cos]]))
    return turn @ pose


def check_poses(poses: np.ndarray, name: str = "poses") -> None:
    """Refuse what are not poses of cameras.

    Raises:
        ValueError: shapes other than (..., 4, 4), numbers that are not finite, or a matrix that
            does more than turn and shift.
    """
    poses = np.asarray(poses)
    if poses.shape[-2:] != (4, 4):
        raise ValueError(f"{name} of shape {poses.shape}: (..., 4, 4) is needed")
    if not np.isfinite(poses).all():
        raise ValueError(f"{name}: numbers that are not finite")
    turn = poses[..., :3, :3]
    off = np.abs(np.swapaxes(turn, -1, -2) @ turn - np.eye(3)).max()
    if off > 1e-3 or not np.allclose(poses[..., 3, :], [0, 0, 0, 1]):
        raise ValueError(f"{name}: not a rotation and a shift (R^T R is off by {off:.1g})")


def through(pose: jax.Array, row: jax.Array, column: jax.Array, shape, angle: float) -> Rays:
    """The rays of a camera through places of its picture.

    Args:
        pose: (..., 4, 4).
        row, column: places in pixels, (...,) in all; pixel i reaches from i to i + 1.
        shape: (height, width) of the picture, in pixels.
        angle: of view from left to right, in radians; pixels are square.

    Source: Mildenhall et al. 2020, its code; with the middles of pixels.
    """
    high, wide = shape
    focal = wide / (2 * jnp.tan(jnp.asarray(angle) / 2))
    return by_lens(pose, row, column, (focal, focal, wide / 2, high / 2))


def by_lens(pose: jax.Array, row: jax.Array, column: jax.Array, lens) -> Rays:
    """The rays of a camera with a lens of its own; pose and places as in `through`.

    Args:
        lens: focal lengths to the right and down, and the column and row that the camera looks
            straight at, in pixels: numbers, or arrays (...,).
    """
    right, down, middle, level = lens
    x, y = (column - middle) / right, (level - row) / down
    away = jnp.stack([x, y, jnp.full_like(x, -1.0)], -1)
    away = away / jnp.linalg.norm(away, axis=-1, keepdims=True)
    direction = jnp.einsum("...ij,...j->...i", pose[..., :3, :3], away)
    return Rays(jnp.broadcast_to(pose[..., :3, 3], direction.shape), direction)


def of_picture(pose: jax.Array, shape, angle: float) -> Rays:
    """The rays of all pixels: (height, width, 3) each. Arguments as in `through`, one pose.

    Raises:
        ValueError: an angle outside (0, pi), or no pixels.
    """
    high, wide = shape
    if not 0 < angle < math.pi or high < 1 or wide < 1:
        raise ValueError(f"angle = {angle}, shape = {shape}: angle in (0, pi), at least 1 pixel")
    rows, columns = jnp.arange(high) + 0.5, jnp.arange(wide) + 0.5
    return through(pose, *jnp.meshgrid(rows, columns, indexing="ij"), shape, angle)


def in_sphere(rays: Rays, radius: float) -> tuple[jax.Array, jax.Array]:
    """Where rays enter and leave a ball around the origin: near, far (...,) each.

    A ray that misses it has near = far, at its closest point: nothing to see, the background alone.
    In float32 to three digits for balls down to a thirtieth of their distance.
    """
    middle = -(rays.origin * rays.direction).sum(-1)
    half2 = radius**2 - (rays.origin**2).sum(-1) + middle**2
    half = jnp.where(half2 > 0, jnp.sqrt(jnp.where(half2 > 0, half2, 1.0)), 0.0)
    return jnp.maximum(middle - half, 0), jnp.maximum(middle + half, 0)
