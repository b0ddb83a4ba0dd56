"""Which frequencies a network learns when: waves, pulls, half times, aliases and supports.

Waves are rows of complex unit vectors over n evenly spaced samples of [0, 1); row k has k cycles.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils import fields, inner, metrics, ntk, tasks
from learnit_utils.evaluate import ADAM
from learnit_utils.fields import Field, Layer, Theta


def waves(n: int) -> np.ndarray:
    """The waves of 0 ... n/2 - 1 cycles over n samples: (n/2, n) complex, each of length 1."""
    cycles, samples = np.arange(n // 2), np.arange(n) / n
    return np.exp(2j * np.pi * np.outer(cycles, samples)) / np.sqrt(n)


def pull(kernel: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rayleigh quotients q* K q of unit vectors (k, n), over the largest eigenvalue: (k,)."""
    K = np.asarray(kernel, np.float64)
    return np.einsum("ki,ij,kj->k", vectors.conj(), K, vectors).real / np.linalg.norm(K, 2)


def reach(field: Field, thetas: Iterable[Theta], x: jax.Array, part: float = 0.01) -> int:
    """The highest frequency on which a kernel pulls with `part` of its largest pull.

    Args:
        field: of one coordinate.
        thetas: weights; their mean kernel counts.
        x: (n, 1) evenly spaced samples of [0, 1).
        part: of the largest pull over frequencies from 1 up.
    """
    kernel = np.mean([ntk.gram(field, theta, x) for theta in thetas], axis=0)
    felt = pull(kernel, waves(len(x))[1:])
    return 1 + int(np.flatnonzero(felt >= part * felt.max())[-1])


def with_biases(field: Field, theta: Theta, key: jax.Array) -> Theta:
    """Weights with biases drawn as PyTorch does, U(-1/sqrt(n), 1/sqrt(n)) for n inputs.

    A ReLU network of one coordinate needs them: without, all its kinks would lie at x = 0.
    """
    keys, biased = jax.random.split(key, len(theta)), []
    for k, (w, b) in zip(keys, theta):
        c = len(w) ** -0.5
        biased.append(Layer(w, jax.random.uniform(k, b.shape, minval=-c, maxval=c)))
    return biased


def init(field: Field, key: jax.Array) -> Theta:
    """A random init; a ReLU network gets biases (`with_biases`)."""
    theta = field.init(key)
    if field.spec is None or field.spec["kind"] != "relu":
        return theta
    return with_biases(field, theta, jax.random.fold_in(jax.random.clone(key), 1))


# --- descent ------------------------------------------------------------------------------------
PLAIN, AS_ADAM = optax.identity(), optax.scale_by_adam()  # rules of descent


@partial(jax.jit, static_argnames=("field", "steps", "rule"))
def descend(
    field: Field,
    theta: Theta,
    x: jax.Array,
    y: jax.Array,
    lr: float,
    steps: int,
    rule: optax.GradientTransformation = PLAIN,
) -> tuple[jax.Array, Theta]:
    """Descend the mean squared error of a field of one channel, and keep every residual.

    Args:
        field: the network.
        theta: its weights.
        x: (n, dims) points.
        y: (n,) values.
        lr: step size.
        steps: how many.
        rule: optax transform in front of the step size: `PLAIN` or `AS_ADAM`.

    Returns:
        What is left, f(x) - y, before every step: (steps, n); and the last weights.
    """
    optimizer = optax.chain(rule, optax.scale(-lr))

    def step(state, _):
        theta, moments = state

        def loss(theta):
            r = field(theta, x).ravel() - y
            return jnp.mean(r**2), r

        grad, r = jax.grad(loss, has_aux=True)(theta)
        update, moments = optimizer.update(grad, moments, theta)
        return (optax.apply_updates(theta, update), moments), r

    (theta, _), left = jax.lax.scan(step, (theta, optimizer.init(theta)), None, length=steps)
    return left, theta


# --- when something is learned ------------------------------------------------------------------
def half_times(left: np.ndarray) -> np.ndarray:
    """The first step at which half of each component is gone: (steps, k) -> (k,); nan if never."""
    gone = np.asarray(left) <= 0.5
    return np.where(gone.any(axis=0), gone.argmax(axis=0), np.nan)


class Order(NamedTuple):
    """Pairs of components that are half learned at different steps of a run."""

    count: int
    low_first: float  # part of the pairs in which the lower component comes first
    as_pull_says: float  # part in which the one with the larger pull comes first


def order(times: np.ndarray, pulls: np.ndarray) -> Order:
    """In which order components are half learned.

    Args:
        times: (runs, k) half times, components from low to high; nan is never.
        pulls: (runs, k).
    """
    late, found = np.nan_to_num(times, nan=np.inf), []
    for t, p in zip(late, pulls):
        pairs = [(high, low) for high in range(len(t)) for low in range(high) if t[high] != t[low]]
        found += [(t[high] > t[low], p[high] < p[low]) for high, low in pairs]
    low_first = np.mean([low for low, _ in found])
    agrees = np.mean([low == pulled for low, pulled in found])
    return Order(len(found), float(low_first), float(agrees))


def r2_of_logs(predicted: np.ndarray, real: np.ndarray) -> float:
    """1 - mean squared distance of log real from log predicted, over the variance of log real."""
    predicted, real = np.log10(predicted), np.log10(real)
    return float(1 - np.mean((predicted - real) ** 2) / np.var(real))


# --- pictures ---------------------------------------------------------------------------------
def ring_power(pictures: np.ndarray) -> np.ndarray:
    """`metrics.radial_spectrum` of pictures (count, height, width): (count, rings)."""
    return np.stack([metrics.radial_spectrum(u)[1] for u in pictures])


def group_half_times(
    power: np.ndarray, of_picture: np.ndarray, groups: Sequence[np.ndarray]
) -> np.ndarray:
    """When half of a picture's power in groups of rings is gone; see `half_times`.

    Args:
        power: (steps, rings) of what is left.
        of_picture: (rings,).
        groups: of ring numbers.
    """
    left = [power[:, g].sum(axis=1) / of_picture[g].sum() for g in groups]
    return half_times(np.stack(left, axis=1))


def odd_power(picture: np.ndarray) -> float:
    """Power (value^2) at frequencies with an odd number of cycles along either axis."""
    u = np.asarray(picture, np.float64)
    power = np.abs(np.fft.fft2(u)) ** 2 / u.size**2
    power[::2, ::2] = 0
    return float(power.sum())


# --- between the samples ----------------------------------------------------------------------
def heights(outputs: np.ndarray) -> np.ndarray:
    """Mean height of each wave in outputs (starts, n) over evenly spaced samples: (n/2 + 1,)."""
    return (2 * np.abs(np.fft.rfft(outputs)) / outputs.shape[-1]).mean(axis=0)


def second_peak(height: np.ndarray, tone: int) -> int:
    """The frequency of the highest wave beside a tone."""
    return int(np.argmax(height * (np.arange(len(height)) != tone)))


def fit_every_other(
    field: Field, thetas: Sequence[Theta], waves: np.ndarray, steps: int, lr: float
) -> np.ndarray:
    """The output of a network of one coordinate at all samples after Adam on every other one.

    Args:
        field: the network.
        thetas: the starts, fitted at once.
        waves: (count, n) values at n evenly spaced samples of [0, 1).
        steps, lr: of Adam.

    Returns:
        (count, starts, n)

    Source: Yüce et al. 2022, figure 3.
    """
    x = np.arange(waves.shape[1], dtype=np.float32)[:, None] / waves.shape[1]
    adapt = inner.with_optimizer(tasks.regression(field), steps, ADAM, lr=lr, keep_last=0)

    def one(wave, theta):
        end, _ = adapt(theta, tasks.Tasks(wave[::2, None], x[::2]), jax.random.key(0))
        return field(end, x).ravel()

    every = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    return np.asarray(every(jnp.asarray(waves, jnp.float32), stacked(thetas)))


def rule_point(
    field: Field,
    key: jax.Array,
    tones: Sequence[tuple[int, float]],
    n: int,
    steps: int,
    lr: float,
) -> dict[str, Any]:
    """How far the kernel of a fresh network reaches, and what it does between the samples.

    Args:
        field: a network of one coordinate.
        key: of three starts; the first is fitted to every tone.
        tones: (cycles, phase) each.
        n: samples, of which every other one is seen.
        steps, lr: as in `fit_every_other`.

    Returns:
        {"reach", "unseen": `unseen_error` of every tone}, as JSON.
    """
    samples = np.arange(n) / n
    thetas = [field.init(k) for k in jax.random.split(jax.random.clone(key), 3)]
    waves = np.array([np.cos(2 * np.pi * f * samples + phase) for f, phase in tones])
    outputs = fit_every_other(field, thetas[:1], waves, steps, lr)[:, 0]
    left = [unseen_error(output, wave) for output, wave in zip(outputs, waves)]
    x = samples[:, None].astype(np.float32)
    return dict(reach=reach(field, thetas, x), unseen=[float(f"{v:.4g}") for v in left])


def unseen_error(output: np.ndarray, wave: np.ndarray) -> float:
    """Error on every other sample, the unseen ones, as a part of the wave's energy there."""
    missed, there = (np.asarray(u, np.float64)[1::2] for u in (output - wave, wave))
    return float(np.mean(missed**2) / np.mean(there**2))


Networks = dict[str, Field]


def families(width: int, sigmas: Sequence[float], omega0s: Sequence[float]) -> Networks:
    """The networks of one coordinate that are compared: ReLU, Fourier features, SIRENs."""
    line = dict(channels=1, dims=1)
    found = {"ReLU": fields.relu(width, 4, **line)}
    found |= {f"Fourier, σ = {s:g}": fields.fourier(width, 4, s, **line) for s in sigmas}
    return found | {f"SIREN, ω₀ = {w:g}": fields.siren(width, 4, w, **line) for w in omega0s}


def stacked(thetas: Iterable[Theta]) -> Theta:
    """Weights of several starts as one pytree with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas)
