"""Fits of one signal by one network, many side by side: sweeps over frequencies and step sizes.

Behind its encoding, which nothing trains, every network of `fields` is one formula. So features are
computed once, omega0 is a number that a program takes, and a sweep needs one program for each shape
of network. Activations are (units, points), which CPUs multiply about a third faster than points
first.
"""

from bisect import bisect
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from learnit_utils import fields, metrics
from learnit_utils.experiments.protocol import DIGITS, Pieces
from learnit_utils.fields import Field, Theta

ADAM = optax.scale_by_adam()


class Fit(NamedTuple):
    """A network after a fit."""

    field: Field
    theta: Theta
    losses: np.ndarray  # (steps + 1,) mean squared errors before, between and after the steps

    @property
    def psnr(self) -> float:
        """In dB, after the last step."""
        return float(metrics.decibel(self.losses[-1]))

    def psnr_on(self, x: jax.Array, y: jax.Array) -> float:
        """In dB, at other coordinates x (..., dims) with the values y (..., channels)."""
        return float(metrics.decibel(np.mean((self(x) - np.asarray(y)) ** 2)))

    def __call__(self, x: jax.Array) -> np.ndarray:
        """The fitted network at coordinates (..., dims): (..., channels)."""
        return predict(self.field, self.theta, x)


def hold_then_fall(lr: float, steps: int) -> np.ndarray:
    """Step sizes (steps,): constant, then falling in equal parts towards 0 over the last fifth."""
    fall = max(1, steps // 5)
    left = np.arange(steps, 0, -1) / fall
    return np.float32(lr) * np.minimum(left, 1).astype(np.float32)


def fit(field: Field, theta: Theta, x: jax.Array, y: jax.Array, lrs: np.ndarray) -> Fit:
    """Adam on the mean squared error of field(theta, x) against y, all points at once.

    Args:
        field: the network, of a kind in `fields.KINDS` and with a linear head.
        theta: where it starts.
        x: coordinates (points, dims).
        y: values (points, channels).
        lrs: the step size of every step, (steps,).

    Raises:
        ValueError: another field.
    """
    act, gains, offset = _form(field)
    features, y = _features(field, theta, x), np.asarray(y).T - np.float32(offset)
    lrs = np.append(lrs, np.float32(0))  # the last step only measures
    theta, losses = _descend(act, theta, features.T, y, lrs, gains)
    return Fit(field, theta, np.asarray(losses))


def predict(field: Field, theta: Theta, x: jax.Array) -> np.ndarray:
    """field(theta, x) at coordinates (..., dims), by a program for all networks of its shape."""
    act, gains, offset = _form(field)
    features = _features(field, theta, x.reshape(-1, x.shape[-1]))
    values = np.asarray(_evaluate(act, theta, features.T, gains)).T + np.float32(offset)
    return values.reshape(*x.shape[:-1], -1)


def sweep(
    networks: Mapping[float, Field],
    lrs: Sequence[float],
    steps: int,
    x: jax.Array,
    y: jax.Array,
    key: jax.Array,
) -> dict[tuple[float, float], Fit]:
    """Every network with every step size: {(knob, step size): fit}.

    Args:
        networks: by the value of the knob in which they differ.
        lrs: step sizes, held and then falling to 0.
        steps: of every fit.
        x, y: as in `fit`.
        key: of the draw that every network starts from.
    """
    pairs = product(networks.items(), lrs)
    return {(knob, lr): fit_anew(f, lr, steps, x, y, key) for (knob, f), lr in pairs}


def fit_anew(
    field: Field, lr: float, steps: int, x: jax.Array, y: jax.Array, key: jax.Array
) -> Fit:
    """One fit of a `sweep`."""
    return fit(field, field.init(jax.random.clone(key)), x, y, hold_then_fall(lr, steps))


def score(
    field: Field, lr: float, steps: int, x: jax.Array, y: jax.Array, key: jax.Array
) -> float | None:
    """The PSNR of one fit of a `sweep` as JSON, None if it is not finite."""
    psnr = fit_anew(field, lr, steps, x, y, key).psnr
    return round(psnr, DIGITS) if np.isfinite(psnr) else None


def kept_sweep(
    pieces: Pieces,
    name: str,
    networks: Mapping[float, Field],
    lrs: Sequence[float],
    steps: int,
    x: jax.Array,
    y: jax.Array,
    key: jax.Array,
) -> dict[tuple[float, float], float]:
    """The PSNR of every fit of a `sweep`, by pieces of the study "contest".

    Args:
        pieces: where they are kept.
        name: of the networks, for people.
        networks, lrs, steps, x, y, key: as in `sweep`.

    Returns:
        (knob, step size) -> PSNR in dB, nan for a fit that diverges.
    """
    found = {}
    for (knob, field), lr in product(networks.items(), lrs):
        about = dict(network=name, knob=knob, lr=lr)
        psnr = pieces.call("contest", about, score, field, lr, steps, x, y, key)
        found[knob, lr] = np.nan if psnr is None else psnr
    return found


def best(psnr: Mapping[Hashable, float]) -> Hashable:
    """The key of the highest PSNR, infinity for a perfect fit.

    Raises:
        ValueError: every fit diverged.
    """
    usable = {key: value for key, value in psnr.items() if value > -np.inf}  # no nan either
    if not usable:
        raise ValueError(f"every fit diverges: {', '.join(map(str, psnr))}")
    return max(usable, key=usable.__getitem__)


def at_edge(value: float, tried: Sequence[float]) -> bool:
    """Whether a value is the first or the last of those tried, so that a better one may lie beyond.

    Of a single one nobody expected that.
    """
    return len(tried) > 1 and value in (tried[0], tried[-1])


# --- one program for many networks --------------------------------------------------------------
_ACTIVATIONS = {"siren": fields.sine, "relu": jax.nn.relu}
_ACTIVATIONS |= {"posenc": jax.nn.relu, "fourier": jax.nn.relu}


def _form(field) -> tuple[Callable, np.ndarray, float]:
    """The activation, the gain of every layer (depth,), and what is added to the output."""
    spec = field.spec or {}
    if spec.get("kind") not in _ACTIVATIONS or spec["head"] != "linear":
        kinds = ", ".join(_ACTIVATIONS)
        raise ValueError(f"field: expected one of {kinds}, with a linear head")
    gains = np.ones(spec["depth"], np.float32)
    if spec["kind"] == "siren" and spec["depth"] > 1:
        gains[0], gains[1:-1] = spec["omega0"], spec["hidden_omega0"]
    return _ACTIVATIONS[spec["kind"]], gains, spec["offset"]


def _features(field, theta, x):
    """What the first layer is given, (points, features)."""
    return x if field.spec["kind"] in ("siren", "relu") else _encode(field, theta, x)


_encode = jax.jit(lambda field, theta, x: field.inputs(theta, x)[0], static_argnums=0)


def _values(act, theta, h, gains):
    """The last layer's values (channels, points) for features h (features, points)."""
    for i, (w, b) in enumerate(theta):
        h = gains[i] * (w.T @ h + b[:, None])
        h = act(h) if i < len(theta) - 1 else h
    return h


_evaluate = jax.jit(_values, static_argnums=0)


@partial(jax.jit, static_argnums=0)
def _descend(act, theta, features, y, lrs, gains):
    """Theta after a step for every entry of lrs, and the losses before each of them."""
    flat, unravel = ravel_pytree(theta)  # Adam works entry by entry: one array will do

    def loss(flat):
        return metrics.mse(_values(act, unravel(flat), features, gains), y)

    def step(state, lr):
        flat, moments = state
        value, grad = jax.value_and_grad(loss)(flat)
        updates, moments = ADAM.update(grad, moments)
        return (flat - lr * updates, moments), value

    (flat, _), losses = jax.lax.scan(step, (flat, ADAM.init(flat)), lrs)
    return unravel(flat), losses


# --- equal sizes --------------------------------------------------------------------------------
def parameters(field: Field) -> int:
    """The number of parameters of a network."""
    return fields.count(jax.eval_shape(field.init, jax.random.key(0)))


def widest(make: Callable[[int], Field], budget: int, largest: int = 512) -> Field:
    """The network with the largest width whose parameters stay within a budget.

    Args:
        make: width -> network, with more parameters for a larger width.
        budget: of parameters.
        largest: width that may come out.

    Raises:
        ValueError: width 1 has more parameters than that.
    """
    width = bisect(range(1, largest + 1), budget, key=lambda w: parameters(make(w)))
    if width == 0:
        raise ValueError(f"budget = {budget}: expected at least {parameters(make(1))}")
    return make(width)
