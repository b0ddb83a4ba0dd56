"""Pictures from sinograms without a network: FBP, SART and total variation, behind one signature.

Every method is (sinogram (views, n), angles (views,), **settings) -> picture (n, n), with angles in
radians, even or not, in any order.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils.forward._checks import check_sinogram
from learnit_utils.forward.tomography import backproject, project

WINDOWS = ("ramp", "shepp-logan", "cosine", "hamming", "hann")


ALIKE = 1e-5  # radians: angles closer than that count as one
WEDGE = 3.0  # a gap so many times as wide as others is a missing wedge
MOST = 0.8  # of the gaps are such others


def view_weights(angles: np.ndarray) -> np.ndarray:
    """How much of half a turn each view stands for, times views / pi: (views,) float64.

    Views half a turn apart see the same rays, so angles count modulo pi. A view stands for half of
    the gap to either neighbour (the trapezoidal rule on the circle), and views of one angle share.
    A gap more than `WEDGE` times as wide as both beside it and as `MOST` of all is one in which
    nothing was measured; the views at its ends reach into it as far as on their other side.
    Exactly 1 for even angles.

    Args:
        angles: (views,) in radians.
    """
    turns = np.asarray(angles, np.float64) % np.pi
    order = np.argsort(turns)
    begins = np.diff(turns[order], prepend=-1) > ALIKE  # of views of one angle
    if begins.sum() > 1 and turns[order][0] + np.pi - turns[order][-1] <= ALIKE:
        begins[np.flatnonzero(begins)[0]] = False  # the first go with the last, around the circle
    group = np.cumsum(begins) - 1
    at = turns[order][begins]
    gaps = np.diff(np.append(at, at[0] + np.pi))  # behind each
    before, after = np.roll(gaps, 1), np.roll(gaps, -1)
    others = np.maximum(np.maximum(before, after), np.quantile(gaps, MOST, method="lower"))
    wedge = gaps > (WEDGE + ALIKE) * others  # the same, however sums are rounded
    behind, ahead = np.where(wedge, before, gaps), np.roll(np.where(wedge, after, gaps), 1)
    each = (behind + ahead) / 2 / np.bincount(group % len(at))
    weights = np.empty(len(turns))
    weights[order] = each[group % len(at)] * len(turns) / np.pi
    return np.ones(len(turns)) if np.abs(weights - 1).max() < ALIKE else weights


def fbp(sinogram: np.ndarray, angles: np.ndarray, window: str = "ramp") -> np.ndarray:
    """Filtered backprojection (scikit-image), views by their weights: (views, n) -> (n, n).

    Args:
        sinogram: in value x picture side.
        angles: (views,) in radians; uneven and repeated ones count by `view_weights`. What a
            missing wedge would have told is left out.
        window: on the ramp filter, one of ramp, shepp-logan, cosine, hamming, hann.

    Raises:
        ValueError: an unknown window, a sinogram of another geometry or with values that are not
            finite, angles beyond a full turn.

    Source: Kak and Slaney 1988, section 3.3.
    """
    from skimage.transform import iradon

    n = _checked(sinogram, angles)
    if window not in WINDOWS:
        raise ValueError(f"window = {window!r}: expected one of {', '.join(WINDOWS)}")
    turns = np.rad2deg(np.asarray(angles, np.float64))
    weighed = np.asarray(sinogram, np.float64) * view_weights(angles)[:, None]
    return iradon(weighed.T * n, turns, filter_name=window, circle=True)


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
    return sinogram.shape[1]


_forward = jax.jit(project, static_argnames="method")
_adjoint = jax.jit(backproject, static_argnames=("size", "method"))
