"""What needs no network: the mean picture, the nearest one, a mirrored half, principal components.

Every function takes training pictures (count, points) and pictures of which a part is seen, and
gives reconstructions of the whole: (tasks, points). A mask (points,) is true where one may look.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from learnit_utils.experiments.protocol import tuned_method
from learnit_utils.metrics import decibel


class Components(NamedTuple):
    """Principal components of pictures."""

    mean: np.ndarray  # (points,)
    basis: np.ndarray  # (points, count), orthonormal columns
    spread: np.ndarray  # (count,), the standard deviation of the training pictures along each


def components(pictures: np.ndarray, count: int) -> Components:
    """The first principal components of training pictures (n, points).

    Raises:
        ValueError: a count outside 1 to n - 1.
    """
    pictures = np.asarray(pictures, np.float64)
    if not 1 <= count < len(pictures):
        raise ValueError(f"count = {count}: expected 1 to {len(pictures) - 1}")
    mean = pictures.mean(axis=0)
    _, s, vt = np.linalg.svd(pictures - mean, full_matrices=False)
    return Components(mean, vt[:count].T, s[:count] / np.sqrt(len(pictures) - 1))


def code_of(parts: Components, pictures: np.ndarray, mask: np.ndarray, prior: float) -> np.ndarray:
    """The most probable codes of pictures (tasks, points) of which a part is seen: (tasks, count).

    They minimise |mask (mean + basis z - T)|^2 + prior * sum_i (z_i / spread_i)^2: least squares
    with a Gaussian prior, where `prior` is the variance of the pixels' noise.
    """
    seen = np.asarray(mask, bool)
    b = parts.basis[seen]
    normal = b.T @ b + prior * np.diag(1 / parts.spread**2)
    right = b.T @ (np.asarray(pictures, np.float64)[:, seen] - parts.mean[seen]).T
    return np.linalg.lstsq(normal, right, rcond=None)[0].T


def decoded(parts: Components, codes: np.ndarray) -> np.ndarray:
    """The pictures of codes (tasks, count): (tasks, points)."""
    return parts.mean + codes @ parts.basis.T


# --- methods, as `protocol.tuned_method` takes them ---------------------------------------------
def reconstruct(
    method: str, lessons: np.ndarray, pictures: np.ndarray, mask: np.ndarray, **setting: Any
) -> np.ndarray:
    """Reconstructions by a method's name.

    Args:
        method: "mean" (of the training pictures), "gray" (the seen part's own mean), "nearest" (of
            the training pictures, where it is seen), "mirror" (the seen part and its reflection
            in the vertical axis), "components" (with settings `count` and `prior`).
        lessons: training pictures (count, points).
        pictures: (tasks, points).
        mask: (points,).

    Raises:
        ValueError: another method.
    """
    seen, count = np.asarray(mask, bool), len(pictures)
    if method == "mean":
        return np.repeat(lessons.mean(axis=0)[None], count, axis=0)
    if method == "gray":
        own = pictures[:, seen].mean(axis=1)
        return np.repeat(own[:, None], pictures.shape[1], axis=1)
    if method == "nearest":
        gap = ((pictures[:, None, seen] - lessons[None, :, seen]) ** 2).sum(axis=-1)
        return lessons[gap.argmin(axis=1)]
    if method == "mirror":
        side = round(pictures.shape[1] ** 0.5)
        flipped = pictures.reshape(count, side, side)[:, :, ::-1].reshape(count, -1)
        return np.where(seen, pictures, flipped)
    if method == "components":
        parts = _components(lessons.tobytes(), lessons.dtype.str, lessons.shape, setting["count"])
        return decoded(parts, code_of(parts, pictures, mask, setting["prior"]))
    raise ValueError(f"method = {method!r}: expected mean, gray, nearest, mirror or components")


@lru_cache(maxsize=8)
def _components(data: bytes, dtype: str, shape: tuple, count: int) -> Components:
    return components(np.frombuffer(data, dtype).reshape(shape), count)


def psnr(drawn: np.ndarray, pictures: np.ndarray, where: np.ndarray) -> np.ndarray:
    """PSNR in dB over some of the points: (tasks,).

    Args:
        drawn, pictures: (tasks, points).
        where: (points,), true for the points that count.
    """
    return decibel(((drawn - pictures) ** 2)[:, np.asarray(where, bool)].mean(axis=1))


# --- a table of them ----------------------------------------------------------------------------
METHODS = {"mean face": "mean", "own mean gray": "gray", "nearest face": "nearest"}
METHODS |= {"mirrored half": "mirror"}


class Given(NamedTuple):
    """Pictures of which a part is seen."""

    validation: np.ndarray  # (count, points)
    test: np.ndarray  # (count, points)
    mask: np.ndarray  # (points,), true where one may look; judged is where one may not, if anywhere


def scores(
    lessons: np.ndarray, given: Given, sizes: Sequence[int], priors: Sequence[float]
) -> dict[str, np.ndarray]:
    """PSNR on test pictures of every method; the strength of the prior is chosen on validation.

    Args:
        lessons: training pictures (count, points).
        given: the pictures.
        sizes: numbers of components.
        priors: strengths to try.

    Returns:
        Name -> (tasks,); components by "COUNT components".
    """
    where = given.mask if given.mask.all() else ~given.mask
    found = {}
    for name, method in METHODS.items():
        drawn = reconstruct(method, lessons, given.test, given.mask)
        found[name] = psnr(drawn, given.test, where)
    for count in sizes:

        def score(pictures, setting, count=count):
            how = (lessons, pictures, given.mask)
            return psnr(reconstruct("components", *how, count=count, **setting), pictures, where)

        settings, sides = [dict(prior=p) for p in priors], (given.validation, given.test)
        best = tuned_method(score, settings, *(partial(np.asarray, side) for side in sides))
        found[f"{count} components"] = np.array(best["psnr"])
    return found
