"""Coordinate networks: f(theta, x) maps a coordinate to a value.

Every field here is one formula with four choices,

    h_0 = encode(x),   z_l = g_l (h_{l-1} W_l + b_l),   h_l = act(z_l),   f = head(z_L) + offset,

so `theta` is a list of `Layer(w, b)` and a field is a pair of plain functions `init`, `apply`.
The gain g_l is omega0 in the sine layers of a SIREN and 1 everywhere else.
"""

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils._sine import cosine, sine

__all__ = [
    "KINDS",
    "Common",
    "Field",
    "Layer",
    "Theta",
    "build",
    "cosine",
    "count",
    "fourier",
    "posenc",
    "relu",
    "sine",
    "siren",
]


class Layer(NamedTuple):
    """Affine map h -> h @ w + b."""

    w: jax.Array  # (in, out)
    b: jax.Array  # (out,)


Theta = list[Layer]


@dataclass(frozen=True, eq=False)
class Field:
    """A coordinate network. `field(theta, x)` is `field.apply(theta, x)`.

    Two fields of one spec are equal, so a jitted function that takes a field as a static argument
    compiles once for both. A field of your own needs no spec; it is equal to itself alone.

    Attributes:
        init: key -> theta, a list of `Layer`.
        apply: (theta, x) -> y, where x is (..., dims) and y is (..., channels).
        preactivations: (theta, x) -> [z_1, ..., z_L], one per layer, (..., width) each.
        inputs: (theta, x) -> [h_0, ..., h_{L-1}], the input of every layer, (..., in) each.
        spec: kind and settings, enough to build the same field again: `fields.build(**spec)`;
            None if there is no such description.
    """

    init: Callable[[jax.Array], Theta]
    apply: Callable[[Theta, jax.Array], jax.Array]
    preactivations: Callable[[Theta, jax.Array], list[jax.Array]] | None
    inputs: Callable[[Theta, jax.Array], list[jax.Array]] | None
    spec: Mapping[str, Any] | None = None

    def __call__(self, theta: Theta, x: jax.Array) -> jax.Array:
        """The field at x."""
        return self.apply(theta, x)

    def __eq__(self, other) -> bool:
        if not isinstance(other, Field) or self.spec is None:
            return self is other
        return self.spec == other.spec

    def __hash__(self) -> int:
        return id(self) if self.spec is None else hash(frozenset(self.spec.items()))


# --- the common form ------------------------------------------------------------------------
_HEADS = {"linear": lambda y: y, "sigmoid": jax.nn.sigmoid}


class Common(TypedDict, total=False):
    """Settings that every kind of field takes as keywords.

    dims: coordinates per point (2).
    scheme: how the initial weights are drawn; the kinds say which there are.
    head: "linear" (the default) or "sigmoid", after the last affine layer.
    offset: added to the output (0.5, the middle of the value range, as in learnit).
    """

    dims: int
    scheme: str
    head: str
    offset: float


def _common(given: Common, scheme: str) -> dict[str, Any]:
    """The common settings in the order of a spec, with their defaults."""
    settings = dict(dims=2, scheme=scheme, head="linear", offset=0.5)
    if unknown := given.keys() - settings:
        raise ValueError(f"{min(unknown)}: expected one of {', '.join(settings)}")
    return settings | given


def count(theta: Theta) -> int:
    """The number of parameters in theta."""
    return sum(leaf.size for leaf in jax.tree.leaves(theta))


def _network(encode, act, draw, spec, gain=lambda i: 1.0) -> Field:
    """Assemble a field from its choices.

    Args:
        encode: (..., dims) -> (..., features).
        act: the activation, elementwise.
        draw: (key, i, n_in, n_out) -> Layer, the initial weights of layer i = 0, 1, ...
        spec: width, depth, channels, dims, head, offset and every other setting of this field.
        gain: i -> g_i, the factor in front of layer i's affine map.
    """
    if spec["head"] not in _HEADS:
        raise ValueError(f"head = {spec['head']!r}: expected one of {', '.join(_HEADS)}")
    _whole(1, **{name: spec[name] for name in ("width", "depth", "channels", "dims")})
    _finite(offset=spec["offset"])
    spec = {k: v.item() if isinstance(v, np.generic) else v for k, v in spec.items()}
    head, offset = _HEADS[spec["head"]], spec["offset"]
    n_features = jax.eval_shape(encode, jax.ShapeDtypeStruct((spec["dims"],), jnp.float32)).shape[0]
    sizes = (n_features, *[spec["width"]] * (spec["depth"] - 1), spec["channels"])

    def init(key):
        keys = jax.random.split(key, len(sizes) - 1)
        return [draw(k, i, n, m) for i, (k, n, m) in enumerate(zip(keys, sizes, sizes[1:]))]

    def layers(theta, x):
        h, inside, pre = encode(x), [], []
        for i, (w, b) in enumerate(theta):
            inside.append(h)
            # Of the first layer exactly, where a GPU would round phases to 10 bits, a TPU to 8.
            z = h @ w if i else jnp.matmul(h, w, precision="highest")
            pre.append(gain(i) * (z + b.reshape((1,) * (z.ndim - 1) + b.shape)))
            h = act(pre[-1])
        return inside, pre

    def inputs(theta, x):
        return layers(theta, x)[0]

    def preactivations(theta, x):
        return layers(theta, x)[1]

    def apply(theta, x):
        return head(preactivations(theta, x)[-1]) + offset

    return Field(init, apply, preactivations, inputs, spec)


def _is_finite(value):
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    return real and math.isfinite(value)


def _finite(**settings):
    for name, value in settings.items():
        if not _is_finite(value):
            raise ValueError(f"{name} = {value!r}: expected a finite number")


def _positive(**settings):
    for name, value in settings.items():
        if not (_is_finite(value) and value > 0):
            raise ValueError(f"{name} = {value!r}: expected a finite number > 0")


def _whole(least, **settings):
    for name, value in settings.items():
        integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not (integer and value >= least):
            raise ValueError(f"{name} = {value!r}: expected an integer >= {least}")


def _one_of(name, value, allowed):
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}: expected one of {', '.join(allowed)}")


# --- SIREN ----------------------------------------------------------------------------------
def siren(
    width: int = 256,
    depth: int = 5,
    omega0: float = 30.0,
    channels: int = 3,
    *,
    hidden_omega0: float | None = None,
    **common: Unpack[Common],
) -> Field:
    """The sine network: h_l = sin(omega0 (h_{l-1} W_l + b_l)), last layer affine.

    Args:
        width: units of a hidden layer.
        depth: affine layers, the last one included (depth 5 has four sines).
        omega0: gain of the first layer; the largest angular frequency is about omega0 * |W_1|.
        channels: values per coordinate.
        hidden_omega0: gain of the hidden layers; `omega0` unless given.
        common: see `Common`. `scheme` gives the half-widths of the uniform draws, with n the
            number of inputs of the layer:
            "code"    W_1: 1/n, W_l: sqrt(6/n)/omega0, b: 1/sqrt(n) (the authors' implementation);
            "paper"   as "code" but W_1: sqrt(6/n), the text's rule, which its authors withdrew;
            "learnit" as "code" but b = 0 (Tancik et al. 2021, Yuce et al. 2022), the default.

    Raises:
        ValueError: a setting outside its range, with the allowed values.

    Source: Sitzmann et al. 2020, section 3.2 and supplement 1.5; the authors on the difference
    between text and code: github vsitzmann/siren, issue 4.
    """
    hidden = omega0 if hidden_omega0 is None else hidden_omega0
    _positive(omega0=omega0, hidden_omega0=hidden)
    settings = _common(common, "learnit")
    scheme = settings["scheme"]
    _one_of("scheme", scheme, ("code", "paper", "learnit"))

    def draw(key, i, n_in, n_out):
        first = (6 / n_in) ** 0.5 if scheme == "paper" else 1 / n_in
        w_max = first if i == 0 else (6 / n_in) ** 0.5 / hidden
        b_max = 0.0 if scheme == "learnit" else n_in**-0.5
        key_w, key_b = jax.random.split(key)
        w = jax.random.uniform(key_w, (n_in, n_out), minval=-w_max, maxval=w_max)
        return Layer(w, jax.random.uniform(key_b, (n_out,), minval=-b_max, maxval=b_max))

    def gain(i):
        return omega0 if i == 0 and depth > 1 else hidden if i < depth - 1 else 1.0

    spec = dict(kind="siren", width=width, depth=depth, omega0=omega0, channels=channels)
    return _network(lambda x: x, sine, draw, spec | dict(hidden_omega0=hidden) | settings, gain)


# --- ReLU networks, on the bare coordinate or on features of it -------------------------------
_NORMAL_GAIN = {"he": 2.0, "lecun": 1.0}


def _normal(scheme):
    """Draw W ~ N(0, gain / n_in) and b = 0."""
    _one_of("scheme", scheme, tuple(_NORMAL_GAIN))

    def draw(key, i, n_in, n_out):
        std = (_NORMAL_GAIN[scheme] / n_in) ** 0.5
        return Layer(std * jax.random.normal(key, (n_in, n_out)), jnp.zeros(n_out))

    return draw


def _waves(x, frequencies):
    """[sin(x F), cos(x F)] for angular frequencies F of shape (dims, n)."""
    z = jnp.matmul(x, jnp.asarray(frequencies, x.dtype), precision="highest")
    return jnp.concatenate([sine(z), cosine(z)], axis=-1)


def relu(
    width: int = 256,
    depth: int = 5,
    channels: int = 3,
    **common: Unpack[Common],
) -> Field:
    """The ReLU network on the bare coordinate; arguments as in `siren`.

    Args:
        common: see `Common`. `scheme` draws W ~ N(0, 2/n) for "he" (He et al. 2015), the default,
            and W ~ N(0, 1/n) for "lecun"; b = 0.

    Raises:
        ValueError: a setting outside its range, with the allowed values.
    """
    spec = dict(kind="relu", width=width, depth=depth, channels=channels) | _common(common, "he")
    return _network(lambda x: x, jax.nn.relu, _normal(spec["scheme"]), spec)


def fourier(
    width: int = 256,
    depth: int = 5,
    sigma: float = 10.0,
    channels: int = 3,
    *,
    features: int = 256,
    feature_seed: int = 0,
    **common: Unpack[Common],
) -> Field:
    """A ReLU network on random Fourier features [sin(2 pi B x), cos(2 pi B x)], B ~ N(0, sigma^2).

    Args:
        sigma: standard deviation of the frequencies, in cycles per unit length. learnit's CT
            notebook leaves out the 2 pi; its 30 is sigma = 30 / (2 pi) here.
        features: number of frequencies; the network sees twice as many values.
        feature_seed: draws B, which is fixed and not part of theta.

    Raises:
        ValueError: a setting outside its range, with the allowed values.

    Source: Tancik et al. 2020, equation 5. Other arguments as in `relu`.
    """
    _positive(sigma=sigma)
    _whole(1, features=features)
    _whole(0, feature_seed=feature_seed)
    settings = _common(common, "he")
    _whole(1, dims=settings["dims"])
    B = np.random.default_rng(feature_seed).normal(0, sigma, (settings["dims"], features))
    angular = (2 * np.pi * B).astype(np.float32)
    spec = dict(kind="fourier", width=width, depth=depth, sigma=sigma, channels=channels)
    spec |= dict(features=features, feature_seed=feature_seed) | settings
    return _network(lambda x: _waves(x, angular), jax.nn.relu, _normal(spec["scheme"]), spec)


def posenc(
    width: int = 256,
    depth: int = 5,
    frequencies: int = 8,
    channels: int = 3,
    *,
    max_log2: float | None = None,
    scale: float = np.pi,
    **common: Unpack[Common],
) -> Field:
    """A ReLU network on sin and cos of 2^k * scale * x_j, for every coordinate x_j by itself.

    Args:
        frequencies: L, how many k are spaced evenly over [0, max_log2].
        max_log2: the largest k; L - 1 unless given, so that frequencies double (NeRF).
        scale: pi in the paper of NeRF; learnit uses 1, with L = 20 and max_log2 = 8.

    Raises:
        ValueError: a setting outside its range, with the allowed values.

    Source: Mildenhall et al. 2020, equation 4. Other arguments as in `relu`.
    """
    _whole(1, frequencies=frequencies)
    _positive(scale=scale)
    top = frequencies - 1 if max_log2 is None else max_log2
    _finite(max_log2=top)
    angular = scale * 2 ** np.linspace(0, top, frequencies, dtype=np.float32)
    settings = _common(common, "he")
    _whole(1, dims=settings["dims"])
    axes = np.kron(np.eye(settings["dims"], dtype=np.float32), angular[None]).astype(np.float32)
    spec = dict(kind="posenc", width=width, depth=depth, frequencies=frequencies)
    spec |= dict(channels=channels, max_log2=top, scale=float(scale)) | settings
    return _network(lambda x: _waves(x, axes), jax.nn.relu, _normal(spec["scheme"]), spec)


KINDS = {"siren": siren, "relu": relu, "fourier": fourier, "posenc": posenc}


def build(kind: str, **settings) -> Field:
    """The field of that kind and settings; `build(**f.spec)` builds f again."""
    _one_of("kind", kind, tuple(KINDS))
    return KINDS[kind](**settings)
