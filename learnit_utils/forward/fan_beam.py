"""Fan-beam tomography: line integrals from a point source, and re-sorting into parallel beams.

Coordinates and units are those of `tomography`: the picture's side is 1, everything turns about
pixel (n // 2, n // 2). At turn beta (radians) the source lies `source` picture sides from there,
where the parallel rays at angle beta come from. The ray at fan angle gamma to the central one is a
ray of a parallel beam, at

    theta = beta + gamma,   s = source sin(gamma).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils.forward._checks import check_angles, check_image, check_sinogram
from learnit_utils.forward.tomography import GPU_BATCH, detector

NEAREST = math.sqrt(2) / 2  # picture sides: a source closer than that would lie in the picture
ALIKE = 1e-6  # radians: rounding of angles
WRAPPED = 4  # views beyond either end of a full turn, for the interpolation


class Fan(NamedTuple):
    """A point source and its rays."""

    source: float  # distance from the middle, in picture sides
    rays: np.ndarray  # (detectors,) angles to the central ray in radians, rising


def arc(detectors: int, source: float) -> Fan:
    """Rays at equal angles, to detectors on an arc about the source, over the inscribed circle.

    Raises:
        ValueError: fewer than 2 detectors, or a source that is not outside the picture.
    """
    return _fan(detectors, source, lambda t: math.asin(0.5 / source) * t)


def flat(detectors: int, source: float) -> Fan:
    """Rays to evenly spaced detectors on a line, over the inscribed circle; as `arc`."""
    return _fan(detectors, source, lambda t: np.arctan(math.tan(math.asin(0.5 / source)) * t))


def _fan(detectors, source, rays) -> Fan:
    if detectors < 2:
        raise ValueError(f"detectors = {detectors}: expected an integer >= 2")
    _check_source(source)
    return Fan(float(source), rays(np.linspace(-1, 1, detectors)))


def _check_source(source) -> None:
    if not (math.isfinite(source) and source > NEAREST):
        raise ValueError(f"source = {source}: expected a number of picture sides > {NEAREST:.4g}")


def _check(fan: Fan, turns) -> None:
    """Raise ValueError unless fan and turns can be."""
    _check_source(fan.source)
    rays = np.asarray(fan.rays)
    good = rays.ndim == 1 and len(rays) >= 2 and (np.diff(rays) > 0).all()
    if not (good and np.abs(rays).max() < math.pi / 2):
        raise ValueError("rays: expected at least 2 angles in (-pi/2, pi/2) that rise")
    check_angles(turns)


# --- measured -----------------------------------------------------------------------------------
def project(image: jax.Array, turns: jax.Array, fan: Fan) -> jax.Array:
    """Line integrals along the rays of a fan: (n, n), (views,) -> (views, detectors).

    A ray is followed line of pixels by line of pixels, across which it is interpolated.

    Args:
        image: values; zero outside.
        turns: of the source, in radians, at most a full turn either way.
        fan: the source and its rays.

    Raises:
        ValueError: a picture that is not square, a fan or turns that cannot be; values that are not
            finite, where they are known.

    Source: Joseph 1982; Kak and Slaney 1988, section 3.4, for the geometry.
    """
    image, turns = jnp.asarray(image), jnp.asarray(turns)
    check_image(image, turns)
    _check(fan, turns)
    image = image.astype(jnp.promote_types(image.dtype, jnp.float32))
    rays = jnp.asarray(fan.rays, image.dtype)
    offsets = fan.source * jnp.sin(rays)
    size = None if jax.default_backend() == "cpu" else min(GPU_BATCH, len(turns))
    along = _along(image)

    def one(turn):
        return along(turn + rays, offsets)

    return jax.lax.map(one, turns.astype(image.dtype), batch_size=size)


def _along(image):
    """(angles (k,), offsets (k,)) -> line integrals (k,) at these angles and detector positions."""
    n, dtype = len(image), image.dtype
    both = jnp.pad(jnp.stack([image, image.T]), ((0, 0), (0, 0), (1, 2)))
    r = jnp.arange(n, dtype=dtype) - n // 2

    def integrals(angles, offsets):
        c, s = jnp.cos(angles), jnp.sin(angles)
        steep = jnp.abs(c) < jnp.abs(s)
        slope = jnp.where(steep, c, s) / jnp.where(steep, s, c)
        stretch = 1 / jnp.where(steep, -s, c)
        at = n * (offsets * stretch)[:, None] + r[None] * slope[:, None] + n // 2
        at = jnp.clip(at, -1, n)  # the pixels beyond either end are 0
        whole = jnp.floor(at)
        part, index = at - whole, whole.astype(int) + 1
        lines = steep.astype(int)[:, None], jnp.arange(n)[None]
        values = (1 - part) * both[(*lines, index)] + part * both[(*lines, index + 1)]
        return values.sum(axis=1) * jnp.abs(stretch) / n

    return integrals


def backproject(sinogram: jax.Array, turns: jax.Array, fan: Fan, size: int) -> jax.Array:
    """The exact adjoint of `project`: (views, detectors), (views,) -> (size, size).

    Raises:
        ValueError: a sinogram of another geometry, or as `project`.
    """
    sinogram, turns = jnp.asarray(sinogram), jnp.asarray(turns)
    check_sinogram(sinogram, turns, len(fan.rays))
    zero = jnp.zeros((size, size), sinogram.dtype)
    _, pull = jax.vjp(lambda u: project(u, turns, fan), zero)
    return pull(sinogram)[0]


# --- re-sorted ----------------------------------------------------------------------------------
def to_parallel(
    sinogram: np.ndarray, turns: np.ndarray, fan: Fan, angles: np.ndarray, size: int
) -> np.ndarray:
    """The sinogram of parallel beams with the same rays: (views, detectors) -> (angles, size).

    Every parallel ray lies between measured ones, among which it is interpolated by cubic splines;
    where both of its directions were measured, the mean is taken. The result is what
    `tomography.project` measures, for `reconstruct` and for a network.

    Args:
        sinogram: (views, detectors) as from `project`.
        turns: (views,) of the source, all different, over a full turn or an arc of it.
        fan: the source and its rays.
        angles: of the parallel beams, in radians.
        size: detectors of a parallel beam, at `tomography.detector(size)`.

    Raises:
        ValueError: a sinogram of another geometry, turns that are equal; rays that the fan did not
            measure, named by their angle or position.

    Source: Kak and Slaney 1988, section 3.4.3.
    """
    from scipy.ndimage import map_coordinates

    sinogram, turns = np.asarray(sinogram, np.float64), np.asarray(turns, np.float64)
    angles = np.asarray(angles, np.float64)
    check_sinogram(sinogram, turns, len(fan.rays))
    _check(fan, turns)
    check_angles(angles)
    s = detector(size)
    far = np.abs(s) / fan.source
    gamma = np.arcsin(np.minimum(far, 1)) * np.sign(s)
    outer = min(-fan.rays[0], fan.rays[-1])
    if (np.abs(gamma) > outer + ALIKE).any() or (far > 1).any():
        seen = fan.source * math.sin(outer)
        raise ValueError(f"fan: sees positions up to {seen:.4g}, expected {np.abs(s).max():.4g}")
    rows, at, closed = _in_order(turns)
    sinogram, total, count = sinogram[rows], 0.0, 0
    for sign in (1, -1):  # the ray, and the same one from its other end
        turn = angles[:, None] - sign * gamma + (0 if sign == 1 else np.pi)
        turn = at[0] - ALIKE + (turn - at[0] + ALIKE) % (2 * np.pi)
        seen = np.full(turn.shape, True) if closed else turn <= at[-1] + ALIKE
        ray = np.broadcast_to(
            np.interp(sign * gamma, fan.rays, np.arange(len(fan.rays))), turn.shape
        )
        where = [np.interp(turn, at, np.arange(len(at))), ray]
        values = map_coordinates(sinogram, where, order=3, mode="nearest")
        total, count = total + np.where(seen, values, 0), count + seen
    if (count == 0).any():
        missing = angles[np.flatnonzero((count == 0).any(axis=1))[0]]
        least = np.pi + 2 * np.abs(gamma).max()
        raise ValueError(
            f"turns: do not see all rays at angle {missing:.4g}; for every angle an arc of "
            f"{least:.4g} or more is needed"
        )
    return total / count


def _in_order(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Which views in which order, their turns, rising, and whether they go all the way round.

    All the way round there are `WRAPPED` more at either end.
    """
    order = np.argsort(turns % (2 * np.pi))
    at = (turns % (2 * np.pi))[order]
    gaps = np.diff(np.append(at, at[0] + 2 * np.pi))
    if (gaps < ALIKE).any():
        raise ValueError("turns: expected all different, two are equal")
    begin = (int(np.argmax(gaps)) + 1) % len(at)  # behind the widest gap
    order = np.roll(order, -begin)
    at = np.roll(at, -begin)
    at = at + 2 * np.pi * (at < at[0])
    if gaps.max() > 1.5 * np.median(gaps):
        return order, at, False
    more = min(WRAPPED, len(at))
    rows = np.concatenate([order[-more:], order, order[:more]])
    return rows, np.concatenate([at[-more:] - 2 * np.pi, at, at[:more] + 2 * np.pi]), True
