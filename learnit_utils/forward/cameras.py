"""Pinhole cameras, and the rays of their pixels.

World coordinates have z upwards; a camera looks along its own -z with x to the right and y upwards,
and its pose (4, 4) maps its coordinates to the world's (NeRF's convention, Blender's). Pixel
(row i, column j) has its centre at (i + 1/2, j + 1/2). Intrinsics are (fx, fy, cx, cy), in pixels:
the focal lengths to the right and down, and the column and row on the optical axis.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Rays(NamedTuple):
    """Segments of half lines, from `near` to `far`."""

    origin: jax.Array  # (..., 3)
    direction: jax.Array  # (..., 3), of length 1
    near: jax.Array  # (...,) distance at which the ray enters what is rendered
    far: jax.Array  # (...,) distance at which it leaves

    def at(self, t: jax.Array) -> jax.Array:
        """Points (..., 3) at distances t (...,)."""
        return self.origin + t[..., None] * self.direction


class View(NamedTuple):
    """A photograph and the camera that took it."""

    pixels: jax.Array  # (..., most, 3) uint8: row after row, then 0 up to the largest photograph
    size: jax.Array  # (..., 2) int32: height, width
    intrinsics: jax.Array  # (..., 4) float32, in pixels
    pose: jax.Array  # (..., 4, 4) float32
    bounds: jax.Array  # (..., 2) float32: near and far of its rays


# --- poses ------------------------------------------------------------------------------------
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
            f"azimuth = {azimuth}, elevation = {elevation}, distance = {distance}: expected finite "
            "numbers, elevation between -pi/2 and pi/2, distance > 0"
        )
    c, s, up = math.cos(azimuth), math.sin(azimuth), math.sin(elevation)
    back = np.array([math.cos(elevation) * c, math.cos(elevation) * s, up])
    right = np.array([-s, c, 0.0])
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, distance * back], -1)
    return jnp.asarray(pose, jnp.float32)


def rotate_z(pose: jax.Array, angle: float) -> jax.Array:
    """A pose (..., 4, 4) rotated about the world's z axis by an angle in radians."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    turn = jnp.eye(4).at[:2, :2].set(jnp.array([[cos, -sin], [sin, cos]]))
    return turn @ pose


def check_poses(poses: np.ndarray, name: str = "poses") -> None:
    """Raise unless `poses` are rigid camera-to-world matrices.

    Raises:
        ValueError: shapes other than (..., 4, 4), numbers that are not finite, or a matrix that
            is not a rotation and a translation.
    """
    poses = np.asarray(poses)
    if poses.shape[-2:] != (4, 4):
        raise ValueError(f"{name} of shape {poses.shape}: expected (..., 4, 4)")
    if not np.isfinite(poses).all():
        raise ValueError(f"{name}: expected finite numbers")
    turn = poses[..., :3, :3]
    off = np.abs(np.swapaxes(turn, -1, -2) @ turn - np.eye(3)).max()
    if off > 1e-3 or not np.allclose(poses[..., 3, :], [0, 0, 0, 1]):
        raise ValueError(
            f"{name}: expected a rotation and a translation (R^T R - I has an entry of {off:.1g})"
        )


# --- rays -------------------------------------------------------------------------------------
def intrinsics_from_fov(shape, fov_x) -> tuple:
    """Intrinsics of a camera with square pixels that looks at the middle of its picture.

    Args:
        shape: (height, width) of the picture, in pixels.
        fov_x: angle of view from left to right, in radians.

    Raises:
        ValueError: a known angle outside (0, pi), or no pixels.
    """
    high, wide = shape
    if (isinstance(fov_x, float | int) and not 0 < fov_x < math.pi) or min(high, wide) < 1:
        raise ValueError(
            f"fov_x = {fov_x}, shape = {shape}: expected an angle in (0, pi) and at least 1 pixel"
        )
    focal = wide / (2 * jnp.tan(jnp.asarray(fov_x) / 2))
    return focal, focal, wide / 2, high / 2


def pixels_to_rays(
    pose: jax.Array, intrinsics, row: jax.Array, column: jax.Array, near=0.0, far=jnp.inf
) -> Rays:
    """The rays of a camera through positions in its picture.

    Args:
        pose: (..., 4, 4).
        intrinsics: (fx, fy, cx, cy), numbers or arrays (...,).
        row, column: positions in pixels, (...,) in all; pixel i reaches from i to i + 1.
        near, far: bounds of the rays, numbers or arrays (...,).

    Source: Mildenhall et al. 2020, its code; with the centres of pixels.
    """
    fx, fy, cx, cy = intrinsics
    x, y = (column - cx) / fx, (cy - row) / fy
    local = jnp.stack([x, y, jnp.full_like(x, -1.0)], -1)
    local = local / jnp.linalg.norm(local, axis=-1, keepdims=True)
    direction = jnp.einsum("...ij,...j->...i", pose[..., :3, :3], local)
    origin = jnp.broadcast_to(pose[..., :3, 3], direction.shape)
    bounds = (jnp.broadcast_to(b, direction.shape[:-1]) for b in (near, far))
    return Rays(origin, direction, *bounds)


def pixel_centres(shape) -> tuple[jax.Array, jax.Array]:
    """Row and column of every pixel's centre: (height, width) each."""
    rows, columns = (jnp.arange(n) + 0.5 for n in shape)
    return tuple(jnp.meshgrid(rows, columns, indexing="ij"))


def camera_rays(pose: jax.Array, shape, fov_x) -> Rays:
    """The rays of all pixels, leaves (height, width, ...); see `intrinsics_from_fov`."""
    return pixels_to_rays(pose, intrinsics_from_fov(shape, fov_x), *pixel_centres(shape))


def clip_to_ball(rays: Rays, radius) -> Rays:
    """Rays bounded by where they enter and leave a ball around the origin.

    A ray that misses the ball has near = far, at its closest point, and sees the background alone.
    In float32 to three digits for balls down to a thirtieth of their distance.
    """
    middle = -(rays.origin * rays.direction).sum(-1)
    half2 = radius**2 - (rays.origin**2).sum(-1) + middle**2
    half = jnp.where(half2 > 0, jnp.sqrt(jnp.where(half2 > 0, half2, 1.0)), 0.0)
    return rays._replace(near=jnp.maximum(middle - half, 0), far=jnp.maximum(middle + half, 0))


def view_rays(view: View, row: jax.Array, column: jax.Array) -> Rays:
    """The rays of a photograph through positions in it, in pixels, between its bounds."""
    return pixels_to_rays(view.pose, view.intrinsics, row, column, *view.bounds)


def centred_square(size, side: int) -> tuple[jax.Array, jax.Array]:
    """Row and column (side * side,) each of a grid over the central square of a picture, in pixels.

    Args:
        size: (2,) height and width of the picture.
        side: points of the grid along a side.
    """
    least = jnp.min(jnp.asarray(size))
    at = (jnp.arange(side) + 0.5) * (least / side)
    row, column = ((n - least) / 2 + at for n in size)
    return tuple(i.ravel() for i in jnp.meshgrid(row, column, indexing="ij"))
