"""The tangent kernel as a dictionary of signals: its atoms, what they hold, how it moves.

Source: Yuce et al. 2022, sections 5 and 6.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from learnit_utils import evaluate, ntk
from learnit_utils.evaluate import SGD
from learnit_utils.experiments.protocol import DIGITS, made
from learnit_utils.fields import Field, Theta
from learnit_utils.forward import pixels
from learnit_utils.metrics import decibel
from learnit_utils.ntk import Eigenpairs
from learnit_utils.tasks import Tasks, regression


class Held(NamedTuple):
    """What the leading eigenvectors of a kernel hold of signals."""

    count: int  # eigenvalues of at least a tenth of the largest, among those given
    inside: np.ndarray  # (signals,) energy in these
    in_10: np.ndarray  # (signals,) energy in the first 10
    in_100: np.ndarray  # (signals,)


def held(pairs: Eigenpairs, signals: np.ndarray) -> Held:
    """Energy of signals (count, ...) in the leading eigenvectors; see `ntk.energy`."""
    count = int((pairs.values >= 0.1 * pairs.values[0]).sum())
    energy = ntk.energy(pairs.vectors, signals)
    return Held(count, *(energy[:, min(k, energy.shape[1]) - 1] for k in (count, 10, 100)))


def held_means(
    field: Field, init: Any, points: jax.Array, signals: np.ndarray, atoms: int
) -> list[float]:
    """`held` by leading eigenvectors of the kernel at an init, means over signals, as JSON.

    Args:
        field: the network.
        init: its weights, or a function that makes them; see `protocol.Contender`.
        points: (n, dims).
        signals: (count, n).
        atoms: how many eigenvectors.
    """
    pairs = ntk.eigenpairs(ntk.gram(field, made(init).theta, points), atoms)
    return [float(np.mean(part)) for part in held(pairs, signals)]


def speeds(pairs: Eigenpairs, lr: float) -> np.ndarray:
    """s_i = 2 lr lambda_i / N: what one step of descent takes off along each eigenvector."""
    return 2 * lr * pairs.values / len(pairs.vectors)


class Missing(NamedTuple):
    """Where the energy of residuals lies on the axis of s."""

    speeds: np.ndarray  # (n,) s of every eigenvector, largest first
    share: np.ndarray  # (n,) mean part of a residual's energy along it
    median: float  # half of the energy lies at this s or above
    near_one: float  # part of it at s between 0.5 and 1.5


def missing(pairs: Eigenpairs, residuals: np.ndarray, lr: float) -> Missing:
    """Where residuals f - T (count, n) lie on the axis of s; the parts of each add up to one.

    Args:
        pairs: all eigenpairs of the kernel.
        residuals: (count, n).
        lr: step size of the descent.
    """
    s, along = speeds(pairs, lr), (residuals @ pairs.vectors) ** 2
    share = (along / along.sum(axis=1, keepdims=True)).mean(axis=0)
    half = int(np.argmax(np.cumsum(share) >= 0.5))
    return Missing(s, share, float(s[half]), float(share[(s >= 0.5) & (s <= 1.5)].sum()))


class Stage(NamedTuple):
    """The kernel at one init, beside the first and the last of a run."""

    from_first: float  # kernel distance, `ntk.distance`
    from_last: float
    trace: float  # over that of the first
    flat: float  # trace over the largest eigenvalue: directions of full height
    largest: float  # s of the largest eigenvalue
    mean: float  # mean s over what is missing
    real: float  # PSNR in dB after two steps
    predicted: float  # the same from the kernel alone


def stages(field: Field, inits: dict[int, Theta], targets: Tasks, lr: float) -> dict[int, Stage]:
    """How the kernel moves while an init is learned.

    Args:
        field: the network.
        inits: outer step -> weights, from the first to the last.
        targets: image tasks whose residuals are looked at.
        lr: step size of the two steps.
    """
    points = targets.shared
    kernels = {step: np.asarray(ntk.gram(field, theta, points)) for step, theta in inits.items()}
    first, last = kernels[min(kernels)], kernels[max(kernels)]
    loss, found = regression(field), {}
    for step, theta in inits.items():
        kernel = kernels[step]
        r = np.asarray(field(theta, points)[None] - targets.each).reshape(targets.count, -1)
        largest = ntk.eigenpairs(kernel, 1).values[0]
        rayleigh = np.mean(((r @ kernel) * r).sum(axis=1) / (r**2).sum(axis=1))
        real = evaluate.curve(loss, theta, targets, SGD, 2, lr=lr)[:, -1]
        found[step] = Stage(
            from_first=ntk.distance(first, kernel),
            from_last=ntk.distance(kernel, last),
            trace=float(np.trace(kernel) / np.trace(first)),
            flat=float(np.trace(kernel) / largest),
            largest=float(2 * lr * largest / len(kernel)),
            mean=float(2 * lr * rayleigh / len(kernel)),
            real=float(decibel(real).mean()),
            predicted=float(decibel(ntk.linearised_curve(kernel, r, lr, 2)[:, -1]).mean()),
        )
    return found


def stages_json(
    field: Field, inits: dict[int, Any], targets: Tasks, lr: float
) -> list[list[float]]:
    """`stages` as JSON; inits may be functions that make them, as in `protocol.Contender`."""
    weights = {step: made(init).theta for step, init in inits.items()}
    return [list(stage) for stage in stages(field, weights, targets, lr).values()]


def real_fits(
    field: Field, init: Any, targets: Tasks, lr: float, steps: int, lrs: Sequence[float]
) -> dict[str, Any]:
    """What descent on images really does, to hold beside the kernel's prediction.

    Args:
        field: the network.
        init: its weights, or a function that makes them; see `protocol.Contender`.
        targets: image tasks.
        lr, steps: of the long fits.
        lrs: step sizes of two steps.

    Returns:
        {"along": PSNR in dB (tasks, steps + 1), "tried": PSNR after two steps by lrs, mean over
        tasks, "turned": how far the kernel turns in the long fit of the first task}, as JSON.
    """
    theta, loss = made(init).theta, regression(field)
    along = decibel(evaluate.curve(loss, theta, targets, SGD, steps, lr=lr))
    tried = decibel(evaluate.tune(loss, theta, targets, SGD, lrs, 2).losses[:, :, -1])
    end = evaluate.fit(loss, theta, targets.take(0), SGD, steps, lr=lr)
    turned = ntk.distance(*(ntk.gram(field, t, targets.shared) for t in (theta, end)))
    rounded = (np.round(np.asarray(v, np.float64), DIGITS) for v in (along, tried.mean(axis=1)))
    return dict(zip(("along", "tried"), (v.tolist() for v in rounded)), turned=float(turned))


def spectrum(field: Field, init: Any, side: int, leading: int, seed: int) -> dict[str, Any]:
    """Leading eigenvalues and trace of the kernel on a grid, both over N; nothing of size N^2.

    Args:
        field: the network.
        init: its weights, or a function that makes them; see `protocol.Contender`.
        side: pixels of a side of the grid.
        leading: number of eigenvalues, to a hundredth of the largest.
        seed: of Lanczos' first vector.

    Returns:
        {"values": [...], "trace": ...}, as JSON.
    """
    theta, points = made(init).theta, pixels.grid(side).reshape(-1, 2)
    product = ntk.operator(field.apply, theta, points)
    pairs = ntk.eigenpairs(product, leading, tolerance=1e-2, seed=seed)
    values = np.asarray(pairs.values / product.size, np.float64).tolist()
    return dict(values=values, trace=ntk.trace(field, theta, points) / product.size)
