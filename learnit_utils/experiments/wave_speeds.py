"""What steps of descent do to waves and to classes of pictures, told by the kernel at an init.

On L = mean (f - y)^2 over N entries, one step of descent turns the error r = f - y into M r with
M = I - 2 lr / N K, as long as the tangent kernel K of the field stays what it is. Errors and waves
have N = side * side * channels entries, ordered as `field(theta, points).ravel()`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from learnit_utils import evaluate, ntk
from learnit_utils.evaluate import SGD
from learnit_utils.fields import Field, Theta
from learnit_utils.metrics import decibel, radial_spectrum
from learnit_utils.signals.transforms import resize
from learnit_utils.tasks import Loss, Tasks


# --- waves ------------------------------------------------------------------------------------
def waves(points: np.ndarray, k: float, channels: int = 1, directions: int = 8) -> np.ndarray:
    """Plane waves of length 1 with k cycles per picture, in directions over half a turn.

    Args:
        points: (n, 2) coordinates in the unit square.
        k: cycles per picture; 0 is the constant, every other wave has mean zero.
        channels: of the picture; a wave is the same in all.

    Returns:
        (directions, n * channels).
    """
    turn = np.pi * (np.arange(directions) + 0.5) / directions
    towards = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    wave = np.cos(2 * np.pi * k * towards @ np.asarray(points, np.float64).T)
    if k:
        wave = wave - wave.mean(axis=1, keepdims=True)
    wave = np.repeat(wave, channels, axis=1)
    return wave / np.linalg.norm(wave, axis=1, keepdims=True)


class WaveSpeeds(NamedTuple):
    """What descent does to waves, mean over directions."""

    cycles: np.ndarray  # (count,) k, cycles per picture
    speed: np.ndarray  # (count,) s(k) = 2 lr / N v.Kv, the part of the height that a step takes off
    left: np.ndarray  # (count,) |M^steps v|^2, the energy that is left


def wave_speeds(
    kernel: np.ndarray, points: np.ndarray, cycles: Sequence[int], lr: float, steps: int = 2
) -> WaveSpeeds:
    """The speed of waves of several frequencies, and what a few steps leave of them.

    Args:
        kernel: (N, N), as from `ntk.gram` at these points.
        points: (n, 2).
        cycles: k of the waves.
        lr: step size of the descent.
        steps: after which the energy is looked at.
    """
    scale, channels = 2 * lr / len(kernel), len(kernel) // len(points)
    wave = np.concatenate([waves(points, k, channels) for k in cycles]).astype(kernel.dtype)
    taken = scale * (wave @ kernel)
    speed, left = (wave * taken).sum(axis=1), wave - taken
    for _ in range(steps - 1):
        left = left - scale * (left @ kernel)
    energy = (left**2).sum(axis=1)
    by_k = (values.reshape(len(cycles), -1).mean(axis=1) for values in (speed, energy))
    return WaveSpeeds(np.asarray(cycles), *by_k)


def ring_power(signals: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Mean power of signals (count, N) at 0, 1, 2, ... cycles per picture; `radial_spectrum`."""
    return np.mean([radial_spectrum(signal.reshape(shape))[1] for signal in signals], axis=0)


def resampled(pictures: np.ndarray, side: int) -> np.ndarray:
    """Square pictures (count, points, channels) on a grid of side * side: (count, N), float64."""
    count, points, channels = pictures.shape
    size = math.isqrt(points)
    if size != side:
        whole = np.asarray(pictures).reshape(count, size, size, channels)
        pictures = np.stack([resize(picture, side) for picture in whole])
    return np.asarray(pictures, np.float64).reshape(count, -1)


# --- a fit in its parts -----------------------------------------------------------------------
class Account(NamedTuple):
    """What pictures of a class owe to an init, and what to its kernel."""

    itself: float  # PSNR in dB of what the init draws
    constant: float  # part of the error's energy at 0 cycles: overall brightness
    fine: float  # part of it above `above` cycles per picture
    captured: float  # dB that the kernel takes off
    predicted: float  # PSNR in dB after the steps: itself + captured


def account(
    errors: np.ndarray, losses: np.ndarray, shape: tuple[int, int, int], above: int = 8
) -> Account:
    """The parts of a prediction, mean over pictures.

    Args:
        errors: (count, N), what the init draws minus the pictures.
        losses: (count, steps + 1), as from `ntk.linearised_curve`.
        shape: (side, side, channels) of a picture.
        above: cycles per picture.
    """
    power, psnr = ring_power(errors, shape), decibel(losses).mean(axis=0)
    part = power / power.sum()
    gained = float(psnr[-1] - psnr[0])
    fine = float(part[above + 1 :].sum())
    return Account(float(psnr[0]), float(part[0]), fine, gained, float(psnr[-1]))


def small_step_gap(
    field: Field,
    loss: Loss,
    theta: Theta,
    kernel: np.ndarray,
    task: Tasks,
    lr: float,
    steps: int,
) -> float:
    """How far the fall of the error is from the kernel's prediction, relative; 0 as lr goes to 0.

    Args:
        field: the network.
        loss: the mean squared error over the points of the task.
        theta: where the descent begins.
        kernel: of the field at theta, at these points.
        task: one image task.
        lr: step size.
        steps: the largest difference after 1 ... steps is returned.
    """
    alone = Tasks(task.each[None], task.shared)
    real = evaluate.curve(loss, theta, alone, SGD, steps, lr=lr)[0]
    error = np.asarray(field(theta, task.shared) - task.each, np.float64).ravel()
    told = ntk.linearised_curve(kernel, error, lr, steps)
    return float(np.abs((real[0] - real[1:]) / (told[0] - told[1:]) - 1).max())


def turning(
    field: Field,
    loss: Loss,
    theta: Theta,
    towards: Mapping[str, Tasks],
    lr: float,
    points: jax.Array,
) -> dict[str, float]:
    """How far the kernel turns in the first step towards a task: name -> `ntk.distance`, 0 to 1.

    Args:
        field: the network.
        loss: that is descended.
        theta: where the step begins.
        towards: name -> one task.
        lr: step size.
        points: (n, 2), where the kernel is looked at.
    """
    before, turned = ntk.gram(field, theta, points), {}
    for name, task in towards.items():
        after = evaluate.fit(loss, theta, task, SGD, 1, lr=lr)
        turned[name] = ntk.distance(before, ntk.gram(field, after, points))
    return turned
