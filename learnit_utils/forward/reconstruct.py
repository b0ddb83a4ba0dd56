"""Pictures from sinograms without a network: FBP, SART and total variation, behind one signature.

Every method is (sinogram (views, n), angles (views,), **settings) -> picture (n, n).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils.forward.tomography import backproject, check_sinogram, project

WINDOWS = ("ramp", "shepp-logan", "cosine", "hamming", "hann")


def fbp(sinogram: np.ndarray, angles: np.ndarray, window: str = "ramp") -> np.ndarray:
    """Filtered backprojection (scikit-image): (views, n) -> (n, n).

    Args:
        window: on the ramp filter, one of ramp, shepp-logan, cosine, hamming, hann.

    Raises:
        ValueError: an unknown window, or a sinogram of another geometry.
    """
    from skimage.transform import iradon

    n = _checked(sinogram, angles)
    if window not in WINDOWS:
        raise ValueError(f"window = {window!r}: expected one of {', '.join(WINDOWS)}")
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

    n = _checked(sinogram, angles)
    if rounds < 1:
        raise ValueError(f"rounds = {rounds}: expected an integer >= 1")
    if not 0 < relaxation <= 1:
        raise ValueError(f"relaxation = {relaxation}: expected a number in (0, 1]")
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

    n = _checked(sinogram, angles)
    if not (math.isfinite(weight) and weight > 0) or rounds < 1:
        raise ValueError(f"weight = {weight}, rounds = {rounds}: expected weight > 0, rounds >= 1")
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


def _checked(sinogram, angles) -> int:
    """The number of detectors, after a check of sinogram and angles."""
    sinogram, angles = np.asarray(sinogram), np.asarray(angles)
    check_sinogram(sinogram, angles)
    if not np.isfinite(sinogram).all():
        raise ValueError("sinogram: expected finite values")
    return sinogram.shape[1]


_forward = jax.jit(project, static_argnames="method")
_adjoint = jax.jit(backproject, static_argnames=("size", "method"))
