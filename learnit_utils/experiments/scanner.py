"""A scanner as a matrix: what it tells of a picture, what it cannot, and fits in its own basis.

For fixed angles the projector is linear, A = U S W^T, with a row for every ray and a column for
every pixel. A picture u splits into W W^T u, which the sinogram tells, and the rest in the null
space of A, which leaves no trace in it. In the basis of U the loss of all rays is

    |A u - p|^2 = |S W^T u - U^T p|^2 + const,

at most as many numbers as there are pixels, with the same gradient.
"""

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils.fields import Field, Theta
from learnit_utils.forward import pixels, tomography
from learnit_utils.signals import phantoms
from learnit_utils.tasks import Split, Tasks

CUTOFF = 1e-4  # singular values below this part of the largest one count as none
VIEWS_AT_ONCE = 16  # rows of A that are held at a time where A^T A is summed up


@partial(jax.jit, static_argnums=0)
def _rows(size: int, angles: jax.Array) -> jax.Array:
    """The matrix of a scanner: every ray's row is the backprojection of a 1 on its detector."""
    rays = jnp.eye(len(angles) * size).reshape(-1, len(angles), size)
    return jax.lax.map(lambda p: tomography.backproject(p, angles).ravel(), rays)


@jax.jit
def _backprojections(sinograms: jax.Array, angles: jax.Array) -> jax.Array:
    return jax.lax.map(lambda p: tomography.backproject(p, angles), sinograms)


def matrix(size: int, views: int) -> np.ndarray:
    """A of `views` even angles, so that A @ u.ravel() is the sinogram of u, ravelled.

    Returns:
        (views * size, size * size) float64, rays by pixels, in picture sides.
    """
    return np.asarray(_rows(size, tomography.even_angles(views)), np.float64)


class Told(NamedTuple):
    """What a scanner tells: the singular values of A above `CUTOFF`, and their pictures."""

    singular: np.ndarray  # (rank,)
    pictures: np.ndarray  # (rank, pixels), orthonormal rows: W^T


@lru_cache
def told(size: int, views: int) -> Told:
    """Singular values and pictures of a scanner without its null space, float64.

    With few rays by the singular value decomposition of A, otherwise by the eigenvectors of A^T A,
    which needs not hold A.
    """
    if views * size < size * size // 2:
        _, s, pictures = np.linalg.svd(matrix(size, views), full_matrices=False)
        return Told(s[s > CUTOFF * s[0]], pictures[s > CUTOFF * s[0]])
    gram = np.zeros((size * size, size * size))
    for part in np.array_split(tomography.even_angles(views), -(-views // VIEWS_AT_ONCE)):
        rows = np.asarray(_rows(size, part), np.float64)
        gram += rows.T @ rows
    squares, vectors = np.linalg.eigh(gram)
    kept = squares > CUTOFF**2 * squares[-1]
    return Told(np.sqrt(squares[kept]), vectors[:, kept].T)


def split(u: np.ndarray, views: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture (n, n) as what even views tell of it, W W^T u, and the rest in the null space."""
    flat, pictures = np.ravel(u).astype(np.float64), told(len(u), views).pictures
    seen = pictures.T @ (pictures @ flat)
    return seen.reshape(u.shape), (flat - seen).reshape(u.shape)


def halves(pictures: Sequence[np.ndarray], views: int) -> list[tuple[np.ndarray, ...]]:
    """The told parts of pictures, and their rests; see `split`."""
    return [*zip(*(split(u, views) for u in pictures))]


def residual(u: np.ndarray, scan: Tasks) -> float:
    """Root mean square distance of a picture's sinogram to a scan's, in value x picture side.

    Args:
        u: (n, n).
        scan: one, as from `tomography.scan_tasks`.
    """
    miss = _project(jnp.asarray(u), scan.shared[1], "area") - scan.each.support
    return float(jnp.sqrt(jnp.mean(miss**2)))


def recovered(pictures: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    """The share of the truths' energy that is right, 1 - |u - t|^2 / |t|^2, mean over pictures.

    An empty picture gets 0, the truth 1.
    """
    pairs = zip(pictures, truths, strict=True)
    return float(np.mean([1 - np.sum((u - t) ** 2) / np.sum(t**2) for u, t in pairs]))


def exactness(size: int, method: str, views: int = 30) -> tuple[float, float]:
    """How far a projector is from the exact line integrals of a phantom.

    Args:
        size: pixels of a side.
        method: one of `tomography.METHODS`.

    Returns:
        The relative error of the sinogram; and the largest difference, over the angles, of what
        arrives at the detector from what the picture holds, as a share of the latter.
    """
    angles, shapes = tomography.even_angles(views), phantoms.ellipses("test", limit=1)[0]
    u = phantoms.picture(shapes, size, samples=4, clip=False)[..., 0]
    exact = phantoms.sinogram(shapes, angles, tomography.detector(size))
    ours = np.asarray(_project(u, angles, method))
    mass = ours.sum(axis=1) / u.sum() * size
    return np.linalg.norm(ours - exact) / np.linalg.norm(exact), np.abs(mass - 1).max()


_project = jax.jit(tomography.project, static_argnums=2)


def two_ways(field: Field, theta: Theta, size: int, views: int = 6) -> float:
    """How far a network's sinogram through its pixels is from the one along rays through itself.

    Args:
        size: pixels of a side, and detectors.

    Returns:
        The relative difference.
    """
    angles = tomography.even_angles(views)
    by_pixels, by_rays = _both_ways(field, size, theta, angles)
    return float(jnp.linalg.norm(by_pixels - by_rays) / jnp.linalg.norm(by_rays))


@partial(jax.jit, static_argnums=(0, 1))
def _both_ways(field, size, theta, angles):
    def f(x):
        return field(theta, x)

    picture = f(pixels.grid(size).reshape(-1, 2)).reshape(size, size)
    along_rays = tomography.project_field(f, angles, size, 4 * size)
    return tomography.project(picture, angles), along_rays


# --- scans ------------------------------------------------------------------------------------
def noisy_scans(
    images: Tasks, views: int, noise: float, key: jax.Array | None, keep: range
) -> Tasks:
    """Some of the scans of `tomography.scan_tasks`; noise is drawn for all images, then `keep`."""
    key = None if key is None else jax.random.clone(key)  # every number of views has its draw
    scans = tomography.scan_tasks(images, views, noise=noise, key=key)
    return scans.take(np.array(keep))


def in_basis(scans: Tasks) -> Tasks:
    """Scans in the scanner's own basis, scaled so that mean squared errors stay comparable.

    Args:
        scans: of even angles, from `tomography.scan_tasks`.

    Returns:
        each = Split(U^T p (count, rank), picture), shared = (coordinates, S W^T (rank, pixels)),
        both times sqrt(rank / rays): the mean over ranks of (S W^T u - U^T p)^2 is then the mean
        over rays of (A u - p)^2, up to a constant.

    Raises:
        ValueError: scans of other angles.
    """
    coords, angles = scans.shared
    if not np.allclose(angles, tomography.even_angles(len(angles)), atol=1e-5):
        raise ValueError(
            "scans: expected even angles over half a turn, as of tomography.scan_tasks"
        )
    size = math.isqrt(len(coords))
    s, pictures = told(size, len(angles))
    part = np.sqrt(len(s) / (len(angles) * size))
    back = _backprojections(scans.each.support, angles)
    coefficients = np.asarray(back, np.float64).reshape(len(back), -1) @ (pictures.T / s)
    rows = jnp.asarray(part * s[:, None] * pictures, jnp.float32)
    each = Split(jnp.asarray(part * coefficients, jnp.float32), scans.each.query)
    return Tasks(each, (coords, rows))


def basis_scans(
    images: Tasks, views: int, noise: float, key: jax.Array | None, keep: range
) -> Tasks:
    """`noisy_scans` in the scanner's own basis."""
    return in_basis(noisy_scans(images, views, noise, key, keep))
