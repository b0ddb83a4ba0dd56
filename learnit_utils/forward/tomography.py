"""Parallel-beam tomography: line integrals of a picture or a field, and pictures back from them.

Geometry. The picture's side is 1 and pixel (row i, column j) of n x n lies at (i / n, j / n), as in
`pixels.grid`. Everything rotates about pixel (n // 2, n // 2). At angle theta (radians) detector
position s and depth t belong to the point

    column = middle + s cos(theta) + t sin(theta),   row = middle - s sin(theta) + t cos(theta),

so theta = 0 adds up the rows. Detectors are as wide as pixels; number d of D lies at
s = (d - D // 2) / n. Line integrals are in value x picture side. This is scikit-image's geometry;
learnit's notebook turns the other way.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from learnit_utils import evaluate, tasks
from learnit_utils.evaluate import SGD, Problem
from learnit_utils.fields import Field
from learnit_utils.forward import Model
from learnit_utils.forward._checks import FULL_TURN, check_angles, check_image, check_sinogram
from learnit_utils.forward.pixels import image_tasks
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Split, Tasks

METHODS = ("area", "bilinear", "nearest")
GPU_BATCH = 8  # views at a time on a GPU


def even_angles(views: int) -> np.ndarray:
    """k pi / views for k = 0 ... views - 1, in radians: (views,) float32.

    Raises:
        ValueError: fewer than one view.
    """
    if views < 1:
        raise ValueError(f"views = {views}: expected an integer >= 1")
    return (np.arange(views) * (np.pi / views)).astype(np.float32)


def from_degrees(degrees: np.ndarray) -> np.ndarray:
    """Angles in degrees as the radians that everything here takes: (views,) float32.

    >>> from_degrees([0, 90])
    array([0.       , 1.5707964], dtype=float32)

    Raises:
        ValueError: no or non-finite angles, or more than a full turn either way.
    """
    turns = np.asarray(degrees, np.float64)
    check_angles(np.zeros_like(turns))
    if not (np.abs(turns) <= np.rad2deg(FULL_TURN)).all():
        raise ValueError("degrees: expected finite numbers in [-360, 360]")
    return np.deg2rad(turns).astype(np.float32)


def diagonal(size: int) -> int:
    """How many detectors all of a picture of `size` pixels falls on, corners too, at any angle."""
    return 2 * math.ceil(size / math.sqrt(2) + 2) + 1


def detector(size: int) -> np.ndarray:
    """Positions s of the detectors for pictures of `size` pixels, in picture sides: (size,)."""
    return (np.arange(size) - size // 2) / size


def project(
    image: jax.Array, angles: jax.Array, method: str = "area", detectors: int | None = None
) -> jax.Array:
    """Line integrals of a picture: (n, n), (views,) -> (views, detectors), linear in the picture.

    What is not finite, and angles beyond a full turn, are refused where they are known, that is,
    not within `jax.jit`.

    Args:
        image: values; zero outside.
        angles: in radians, at most a full turn either way.
        method: how a ray meets the pixels.
            "area"      Each line of pixels along the ray is sheared to the ray's direction and
                        shared out over the detectors by overlap. A detector sees the mean over its
                        width. Of n detectors: mass within n/2 - 2 pixels of the middle is kept at
                        every angle; of a full square, whose corners fall off, up to 9 % is lost.
                        Of `diagonal(n)` detectors: all of the mass of every picture is kept.
            "bilinear"  n points along the ray, interpolated (the rotated picture, summed).
            "nearest"   the same from the nearest pixel (learnit's notebook).
            The last two also miss what lies outside the inscribed circle along the ray; with
            more detectors than n, what lies that far from the middle.
        detectors: how many; n unless given.

    Raises:
        ValueError: a picture that is not square, no detectors, no angles, another method; values
            or angles that are not finite, angles beyond a full turn.

    Source: Radon 1917; for "area", the idea of De Man and Basu 2004 (distance-driven projection).
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r}: expected one of {', '.join(METHODS)}")
    image, angles = jnp.asarray(image), jnp.asarray(angles)
    check_image(image, angles)
    if detectors is not None and detectors < 1:
        raise ValueError(f"detectors = {detectors}: expected an integer >= 1")
    image = image.astype(jnp.promote_types(image.dtype, jnp.float32))  # whole numbers too
    angles, m = angles.astype(image.dtype), detectors or len(image)
    one = _sheared(image, m) if method == "area" else _turned(image, m, METHODS[::-1].index(method))
    size = None if jax.default_backend() == "cpu" else min(GPU_BATCH, len(angles))
    return jax.lax.map(one, angles, batch_size=size)


def _turned(image, detectors, order) -> Callable:
    """angle -> sums of the turned picture's columns."""
    n = len(image)
    s = (jnp.arange(detectors, dtype=image.dtype) - detectors // 2)[None, :]
    deep = max(n, detectors)
    t = (jnp.arange(deep, dtype=image.dtype) - deep // 2)[:, None]

    def one(angle):
        c, sn = jnp.cos(angle), jnp.sin(angle)
        at = [n // 2 - s * sn + t * c, n // 2 + s * c + t * sn]
        return map_coordinates(image, at, order, mode="constant").sum(axis=0) / n

    return one


def _sheared(image, detectors) -> Callable:
    """angle -> sums along rays, line of pixels by line of pixels.

    With rays that run mostly along the rows' axis, the ray of detector s meets line y (from the
    middle) at x = s / cos + y tan; otherwise rows and columns change places. So shift line y by
    y tan, add the lines up, and share the sums out over detectors of width 1 / cos.
    """
    n, dtype = len(image), image.dtype
    width = math.ceil(detectors * math.sqrt(2)) + 3  # of the shadow that they see, in pixels
    half, pad = width // 2, width // 2 + 2
    both = jnp.pad(jnp.stack([image, image.T]), ((0, 0), (0, 0), (pad, pad + 1)))
    r = jnp.arange(n, dtype=dtype) - n // 2
    d = jnp.arange(detectors, dtype=dtype) - detectors // 2
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
        edges = jnp.stack([d - 0.5, d + 0.5]) * stretch
        low, high = edges.min(axis=0)[:, None], edges.max(axis=0)[:, None]
        share = jnp.clip(jnp.minimum(high, x + 0.5) - jnp.maximum(low, x - 0.5), 0, 1)
        return share @ shadow / n

    return one


def backproject(
    sinogram: jax.Array,
    angles: jax.Array,
    size: int | None = None,
    method: str = "area",
    detectors: int | None = None,
) -> jax.Array:
    """The exact adjoint of `project`: (views, detectors), (views,) -> (n, n).

    <project(u), p> = <u, backproject(p)> for plain sums over views and detectors, and pixels.

    Args:
        size: n, the pixels of a side; as many as detectors unless given.
        method: as in `project`.
        detectors: how many; n unless given.

    Raises:
        ValueError: a sinogram of another geometry, or as `project`.
    """
    sinogram, angles = jnp.asarray(sinogram), jnp.asarray(angles)
    check_sinogram(sinogram, angles, detectors or size)
    n = size or sinogram.shape[1]
    # Not `jax.linear_transpose`, which in JAX 0.7 cannot go through a loop.
    zero = jnp.zeros((n, n), sinogram.dtype)
    _, pull = jax.vjp(lambda u: project(u, angles, method, detectors), zero)
    return pull(sinogram)[0]


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
        ValueError: angles as in `project`, fewer than 2 detectors or 1 sample.
    """
    angles, samples = jnp.asarray(angles, jnp.float32), 2 * size if samples is None else samples
    check_angles(angles)
    if size < 2 or samples < 1:
        raise ValueError(f"size = {size}, samples = {samples}: expected size >= 2, samples >= 1")
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


# --- forward models of tasks --------------------------------------------------------------------
def random_views(count: int, method: str = "area") -> Callable:
    """The forward model of meta-training: an image task projected at random angles in [0, pi).

    The key draws the angles. To measure a task at the same angles in every inner step, as the paper
    does, the inner loop keeps its key: `inner.sgd(..., resample=False)`. The outer loss draws its
    own angles.

    Returns:
        forward(f, task, key) for `tasks.regression`, on tasks as from `pixels.image_tasks`.

    Raises:
        ValueError: fewer than one view.

    Source: Tancik et al. 2021, section 4.2; its notebook 2d_ct.
    """
    if count < 1:
        raise ValueError(f"views = {count}: expected an integer >= 1")

    def forward(f, task, key):
        angles = jax.random.uniform(key, (count,), maxval=jnp.pi)
        n = math.isqrt(len(task.shared))
        both = (f(task.shared), task.each)
        return tuple(project(u.reshape(n, n), angles, method) for u in both)

    return forward


def simulate_scan(
    images: jax.Array,
    angles: jax.Array,
    *,
    noise: float = 0.0,
    key: jax.Array | None = None,
    method: str = "area",
) -> jax.Array:
    """Sinograms of pictures as a scanner records them: (count, n, n) -> (count, views, n).

    Args:
        images: absorption per picture side, 0 or more.
        angles: (views,) in radians.
        noise: standard deviation of Gaussian noise, in value x picture side.
        key: draws the noise.
        method: as in `project`.

    Raises:
        ValueError: negative or non-finite pictures or noise, noise without a key, angles that are
            not finite or beyond a full turn; or as `project`.
    """
    images, angles = jnp.asarray(images), jnp.asarray(angles)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"images of shape {images.shape}: expected (count, n, n)")
    check_angles(angles)
    if not (np.isfinite(images).all() and images.min() >= 0):
        raise ValueError("images: expected finite values >= 0")
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise = {noise}: expected a finite number >= 0")
    if noise and key is None:
        raise ValueError("noise: a key is needed to draw it")
    exact = _simulate(images, angles, method)
    return exact + noise * jax.random.normal(key, exact.shape) if noise else exact


_simulate = jax.jit(
    lambda images, angles, method: jax.lax.map(lambda u: project(u, angles, method), images),
    static_argnums=2,
)


def scan_tasks(
    images: Tasks, views: int | np.ndarray, *, noise: float = 0.0, key: jax.Array | None = None
) -> Tasks:
    """Image tasks as scans.

    Args:
        images: from `pixels.image_tasks`, square pictures of one channel.
        views: number of even angles, k pi / views; or the angles, (views,) in radians.
        noise, key: as in `simulate_scan`.

    Returns:
        each = Split(sinogram (count, views, n), picture (count, n * n, 1)), shared = (coordinates,
        angles).
    """
    n = math.isqrt(len(images.shared))
    angles = jnp.asarray(views if np.ndim(views) else even_angles(views), jnp.float32)
    sinograms = simulate_scan(images.each.reshape(-1, n, n), angles, noise=noise, key=key)
    return Tasks(Split(sinograms, images.each), (images.shared, angles))


def sinogram_of(method: str = "area") -> Callable:
    """The forward model of a scan (`scan_tasks`): the field's sinogram, and the measured one."""

    def forward(f, task, key):
        del key
        coords, angles = task.shared
        n = math.isqrt(len(coords))
        return project(f(coords).reshape(n, n), angles, method), task.each.support

    return forward


def image_of(f: Callable, task: Tasks, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The field and the true picture of a scan, by which a reconstruction is judged."""
    del key
    return f(task.shared[0]), task.each.query


# --- as a recipe's forward model ----------------------------------------------------------------
SCORED_VIEWS = 4  # even angles from which an init is scored


@lru_cache
def scan_problem(field: Field) -> Problem:
    """Fit a sinogram; judge the picture."""
    return Problem(*(tasks.regression(field, m) for m in (sinogram_of(), image_of)))


def _score(learned, settings, init, data) -> float:
    """Mean PSNR in dB of pictures after the inner steps on sinograms of `SCORED_VIEWS` angles."""
    scans, steps = scan_tasks(data, SCORED_VIEWS), settings.inner_steps
    problem, lr = scan_problem(learned.field), settings.inner_lr
    done = evaluate.progress(problem, init, scans, SGD, lr, steps, steps)
    return float(decibel(done.held_out[:, -1]).mean())


MODELS = {
    "tomography": Model(
        forward=lambda s: random_views(s.views),
        tasks=lambda load, split: image_tasks(load(split)),
        problem=lambda field, s: scan_problem(field),
        score=_score,
        resample=False,  # a scanner's angles are those of the task in all its steps
    )
}
