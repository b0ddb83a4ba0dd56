"""Parallel-beam tomography: line integrals of a picture or a field, and pictures back from them.

Geometry. The picture's side is 1 and pixel (row i, column j) of n x n lies at (i / n, j / n), as in
`pixels.grid`. Everything turns around pixel (n // 2, n // 2). At angle theta (radians) detector
position s and depth t belong to the point

    column = middle + s cos(theta) + t sin(theta),   row = middle - s sin(theta) + t cos(theta),

so theta = 0 adds up the rows. Detector d lies at s = (d - n // 2) / n. Line integrals are in value
x picture side. This is scikit-image's geometry; learnit's notebook turns the other way.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

METHODS = ("area", "bilinear", "nearest")
WINDOWS = ("ramp", "shepp-logan", "cosine", "hamming", "hann")
AT_ONCE = 8  # views at a time on a GPU


def even_angles(views: int) -> np.ndarray:
    """k pi / views for k = 0 ... views - 1, in radians: (views,) float32.

    Raises:
        ValueError: fewer than one view.
    """
    if views < 1:
        raise ValueError(f"views = {views}: at least 1")
    return (np.arange(views) * (np.pi / views)).astype(np.float32)


def detector(size: int) -> np.ndarray:
    """Positions s of the detectors for pictures of `size` pixels, in picture sides: (size,)."""
    return (np.arange(size) - size // 2) / size


def _known(values) -> bool:
    return not isinstance(values, jax.core.Tracer)


def _check(image, angles) -> None:
    """Refuse what has no line integrals."""
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.shape[0] < 2:
        raise ValueError(f"a picture of shape {image.shape}: (n, n), n at least 2, is needed")
    _check_angles(angles)


def _check_angles(angles) -> None:
    if angles.ndim != 1 or len(angles) < 1:
        raise ValueError(f"angles of shape {angles.shape}: (views,), at least 1 view, are needed")
    if _known(angles) and not np.isfinite(angles).all():
        raise ValueError("angles: not all finite")


def project(image: jax.Array, angles: jax.Array, method: str = "area") -> jax.Array:
    """Line integrals of a picture: (n, n), (views,) -> (views, n), linear in the picture.

    Args:
        image: values; zero outside.
        angles: in radians.
        method: how a ray meets the pixels.
            "area"      Each line of pixels along the ray is sheared to the ray's direction and
                        shared out over the detectors by overlap. A detector sees the mean over its
                        width; what the picture holds arrives in full, at every angle.
            "bilinear"  n points along the ray, interpolated (the turned picture, summed).
            "nearest"   the same from the nearest pixel (learnit's notebook).
            The last two miss what lies outside the inscribed circle.

    Raises:
        ValueError: a picture that is not square, no or non-finite angles, another method.

    Source: Radon 1917; for "area", the idea of De Man and Basu 2004 (distance-driven projection).
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: one of {', '.join(METHODS)}")
    image, angles = jnp.asarray(image), jnp.asarray(angles)
    _check(image, angles)
    image = image.astype(jnp.promote_types(image.dtype, jnp.float32))  # whole numbers too
    angles = angles.astype(image.dtype)
    one = _sheared(image) if method == "area" else _turned(image, METHODS[::-1].index(method))
    size = None if jax.default_backend() == "cpu" else min(AT_ONCE, len(angles))
    return jax.lax.map(one, angles, batch_size=size)


def _turned(image, order) -> Callable:
    """angle -> sums of the turned picture's columns."""
    n = len(image)
    r = jnp.arange(n, dtype=image.dtype) - n // 2
    s, t = r[None, :], r[:, None]

    def one(angle):
        c, sn = jnp.cos(angle), jnp.sin(angle)
        at = [n // 2 - s * sn + t * c, n // 2 + s * c + t * sn]
        return map_coordinates(image, at, order, mode="constant").sum(axis=0) / n

    return one


def _sheared(image) -> Callable:
    """angle -> sums along rays, line of pixels by line of pixels.

    With rays that run mostly along the rows' axis, the ray of detector s meets line y (from the
    middle) at x = s / cos + y tan; otherwise rows and columns change places. So shift line y by
    y tan, add the lines up, and share the sums out over detectors of width 1 / cos.
    """
    n, dtype = len(image), image.dtype
    width = math.ceil(n * math.sqrt(2)) + 3  # of the shadow, in pixels
    half, pad = width // 2, width // 2 + 2
    both = jnp.pad(jnp.stack([image, image.T]), ((0, 0), (0, 0), (pad, pad + 1)))
    r = jnp.arange(n, dtype=dtype) - n // 2
    x = jnp.arange(width, dtype=dtype)[None] - half

    def one(angle):
        c, s = jnp.cos(angle), jnp.sin(angle)
        steep = jnp.abs(c) < jnp.abs(s)
        slope = jnp.where(steep, c, s) / jnp.where(steep, s, c)
        stretch = 1 / jnp.where(steep, -s, c)
        lines = both[steep.astype(int)]
        whole = jnp.floor(r * slope)
        part = (r * slope - whole)[:, None]
        begin = pad + n // 2 - half + whole.astype(int)
        cut = jax.vmap(lambda line, b: jax.lax.dynamic_slice(line, (b,), (width + 1,)))
        shifted = cut(lines, begin)
        shadow = ((1 - part) * shifted[:, :-1] + part * shifted[:, 1:]).sum(axis=0)
        edges = jnp.stack([r - 0.5, r + 0.5]) * stretch
        low, high = edges.min(axis=0)[:, None], edges.max(axis=0)[:, None]
        share = jnp.clip(jnp.minimum(high, x + 0.5) - jnp.maximum(low, x - 0.5), 0, 1)
        return share @ shadow / n

    return one


def backproject(
    sinogram: jax.Array, angles: jax.Array, size: int | None = None, method: str = "area"
) -> jax.Array:
    """The exact adjoint of `project`: (views, n), (views,) -> (n, n).

    <project(u), p> = <u, backproject(p)> for plain sums over views and detectors, and pixels.

    Raises:
        ValueError: a sinogram of another geometry, or as `project`.
    """
    sinogram, angles = jnp.asarray(sinogram), jnp.asarray(angles)
    _check_sinogram(sinogram, angles, size)
    n = sinogram.shape[1]
    # Not `jax.linear_transpose`, which in JAX 0.7 cannot go through a loop.
    _, pull = jax.vjp(lambda u: project(u, angles, method), jnp.zeros((n, n), sinogram.dtype))
    return pull(sinogram)[0]


def _check_sinogram(sinogram, angles, size=None) -> None:
    _check_angles(angles)
    shape = (len(angles), size or (sinogram.shape[1] if sinogram.ndim == 2 else "detectors"))
    if sinogram.shape != shape:
        raise ValueError(f"a sinogram of shape {sinogram.shape}, these angles need {shape}")


def project_field(
    f: Callable, angles: jax.Array, size: int, samples: int | None = None
) -> jax.Array:
    """Line integrals of a field itself, no picture in between: (views, size).

    Args:
        f: (..., 2) -> (..., 1), rows first, on the unit square; nothing lies outside it.
        angles: (views,) in radians.
        size: detectors.
        samples: midpoints per ray, spread over its way through the square; 2 size unless given.

    Raises:
        ValueError: no or non-finite angles, fewer than 2 detectors or 1 sample.
    """
    angles, samples = jnp.asarray(angles, jnp.float32), 2 * size if samples is None else samples
    _check_angles(angles)
    if size < 2 or samples < 1:
        raise ValueError(f"size = {size}, samples = {samples}: at least 2 and 1")
    middle, s = (size // 2) / size, jnp.asarray(detector(size), jnp.float32)
    steps = (jnp.arange(samples, dtype=jnp.float32)[:, None] + 0.5) / samples

    def one(angle):
        c, sn = jnp.cos(angle), jnp.sin(angle)
        foot = jnp.stack([middle - s * sn, middle + s * c])  # (2, size)
        along = jnp.stack([c, sn])[:, None]  # the ray's direction: row, column
        to_walls = jnp.stack([-foot, 1 - foot])  # (2 walls, 2 axes, size), along each axis
        inside = (foot >= 0) & (foot < 1)
        never = jnp.where(inside, 1, -1)[None] * jnp.array([-jnp.inf, jnp.inf])[:, None, None]
        level = along[None] == 0
        walls = jnp.where(level, never, to_walls / jnp.where(level, 1, along[None]))
        enter, leave = walls.min(axis=0).max(axis=0), walls.max(axis=0).min(axis=0)
        length = jnp.maximum(leave - enter, 0)
        t = enter[None] + length[None] * steps  # (samples, size)
        points = jnp.moveaxis(foot[:, None] + along[:, None] * t[None], 0, -1)
        values = f(jnp.clip(points, 0, 1))[..., 0]
        return values.mean(axis=0) * length

    return jax.lax.map(one, angles)


# --- measurements of tasks ---------------------------------------------------------------------
def views(count: int, method: str = "area") -> Callable:
    """The measurement of meta-training: an image task seen from random angles in [0, pi).

    The key draws the angles. To see a task from the same angles in every inner step, as the paper
    does, the inner loop has to keep its key: `inner.sgd(..., fresh=False)`.

    Returns:
        measure(f, task, key) for `tasks.regression`, on tasks as from `tasks.images`.

    Raises:
        ValueError: fewer than one view.

    Source: Tancik et al. 2021, section 4.2; its notebook 2d_ct.
    """
    if count < 1:
        raise ValueError(f"views = {count}: at least 1")

    def measure(f, task, key):
        angles = jax.random.uniform(key, (count,), maxval=jnp.pi)
        n = math.isqrt(len(task.shared))
        both = (f(task.shared), task.each)
        return tuple(project(u.reshape(n, n), angles, method) for u in both)

    return measure


class Scan(NamedTuple):
    """What is different from one scan to the next: `each` of a task."""

    sinogram: jax.Array  # (..., views, n), in value x picture side
    truth: jax.Array  # (..., n * n, 1), to judge by; no method may look at it


def scan(
    images: jax.Array,
    angles: jax.Array,
    *,
    noise: float = 0.0,
    key: jax.Array | None = None,
    method: str = "area",
) -> jax.Array:
    """Sinograms of pictures as a scanner records them: (count, n, n) -> (count, views, n).

    Args:
        images: what is absorbed per picture side, 0 or more.
        noise: standard deviation of Gaussian noise, in value x picture side.
        key: draws the noise.

    Raises:
        ValueError: negative or non-finite pictures or noise, noise without a key; or as `project`.
    """
    images, angles = jnp.asarray(images), jnp.asarray(angles)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"pictures of shape {images.shape}: (count, n, n) is needed")
    if not (np.isfinite(images).all() and images.min() >= 0):
        raise ValueError("pictures: values that are negative or not finite")
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise = {noise}: a finite number, 0 or more")
    if noise and key is None:
        raise ValueError("noise: a key is needed to draw it")
    seen = _scan(images, angles, method)
    return seen + noise * jax.random.normal(key, seen.shape) if noise else seen


_scan = jax.jit(
    lambda images, angles, method: jax.lax.map(lambda u: project(u, angles, method), images),
    static_argnums=2,
)


def scanned(method: str = "area") -> Callable:
    """The measurement of a task with each = Scan, shared = (coordinates, angles): its sinogram."""

    def measure(f, task, key):
        del key
        coords, angles = task.shared
        n = math.isqrt(len(coords))
        return project(f(coords).reshape(n, n), angles, method), task.each.sinogram

    return measure


def judged(f: Callable, task, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The field and the truth of such a task: what a reconstruction is judged by."""
    del key
    return f(task.shared[0]), task.each.truth


# --- reconstructions without a network ---------------------------------------------------------
def fbp(sinogram: np.ndarray, angles: np.ndarray, window: str = "ramp") -> np.ndarray:
    """Filtered backprojection (scikit-image): (views, n) -> (n, n).

    Args:
        window: on the ramp filter, one of ramp, shepp-logan, cosine, hamming, hann.

    Raises:
        ValueError: another window, or a sinogram of another geometry.
    """
    from skimage.transform import iradon

    n = _ready(sinogram, angles)
    if window not in WINDOWS:
        raise ValueError(f"window = {window!r}: one of {', '.join(WINDOWS)}")
    turns = np.rad2deg(np.asarray(angles, np.float64))
    return iradon(np.asarray(sinogram, np.float64).T * n, turns, filter_name=window, circle=True)


def sart(
    sinogram: np.ndarray, angles: np.ndarray, rounds: int = 4, relaxation: float = 0.15
) -> np.ndarray:
    """Simultaneous algebraic reconstruction (scikit-image), values kept in [0, 1].

    Args:
        rounds: passes over all views.
        relaxation: step size, in (0, 1].

    Raises:
        ValueError: no rounds, another relaxation, or a sinogram of another geometry.

    Source: Andersen and Kak 1984.
    """
    from skimage.transform import iradon_sart

    n = _ready(sinogram, angles)
    if rounds < 1:
        raise ValueError(f"rounds = {rounds}: at least 1")
    if not 0 < relaxation <= 1:
        raise ValueError(f"relaxation = {relaxation}: in (0, 1]")
    turns, image = np.rad2deg(np.asarray(angles, np.float64)), None
    for _ in range(rounds):
        image = iradon_sart(
            np.asarray(sinogram, np.float64).T * n,
            turns,
            image=image,
            clip=(0, 1),
            relaxation=relaxation,
        )
    return image


def tv(
    sinogram: np.ndarray, angles: np.ndarray, weight: float = 1e-3, rounds: int = 200
) -> np.ndarray:
    """Least squares with total variation, values in [0, 1], by accelerated proximal gradient.

    Minimises ||A u - p||^2 / 2 + weight TV(u) over pictures u; the proximal step is scikit-image's
    `denoise_tv_chambolle`.

    Args:
        weight: of the total variation.
        rounds: iterations.

    Raises:
        ValueError: a weight or rounds that cannot be, or a sinogram of another geometry.

    Source: Beck and Teboulle 2009 (FISTA, and its use for total variation).
    """
    from skimage.restoration import denoise_tv_chambolle

    n = _ready(sinogram, angles)
    if not (math.isfinite(weight) and weight > 0) or rounds < 1:
        raise ValueError(f"weight = {weight}, rounds = {rounds}: above 0, at least 1")
    p, angles = jnp.asarray(sinogram, jnp.float32), jnp.asarray(angles)
    u = np.random.default_rng(0).random((n, n)).astype(np.float32)
    for _ in range(20):  # power iteration: the largest eigenvalue of A^T A
        u = np.asarray(_adjoint(_forward(u / np.linalg.norm(u), angles), angles))
    step = 0.95 / float(np.linalg.norm(u))
    u = ahead = np.zeros((n, n), np.float32)
    momentum = 1.0
    for _ in range(rounds):
        slope = np.asarray(_adjoint(_forward(ahead, angles) - p, angles))
        new = denoise_tv_chambolle(ahead - step * slope, weight=step * weight, max_num_iter=30)
        new = np.clip(new, 0, 1).astype(np.float32)
        after = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        u, ahead, momentum = new, new + (momentum - 1) / after * (new - u), after
    return u


RECONSTRUCTIONS = {"fbp": fbp, "sart": sart, "tv": tv}  # (sinogram, angles, **settings) -> (n, n)


def _ready(sinogram, angles) -> int:
    """The number of detectors, all checked."""
    sinogram, angles = np.asarray(sinogram), np.asarray(angles)
    _check_sinogram(sinogram, angles)
    if not np.isfinite(sinogram).all():
        raise ValueError("sinogram: values that are not finite")
    return sinogram.shape[1]


_forward = jax.jit(project, static_argnames="method")
_adjoint = jax.jit(backproject, static_argnames=("size", "method"))
