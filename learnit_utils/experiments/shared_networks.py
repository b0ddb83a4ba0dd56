"""Networks that many signals share: what they share, and what each signal has of its own.

Every one is one formula, f(x) = decode(shared, own, x, picture): `shared` is learned from a class
of signals and then kept, `own` is fitted to one signal, and `picture` is what an encoder looks at
(the others ignore it). They differ in where the own part enters:

    codes          a vector z that shifts the biases, b_l + z V_l
    encoder        the same, from the z that a convolutional network reads off the picture
    hypernetwork   all weights: those that a network writes when it sees the picture, plus own ones
    heads          the last layer
    weights        all weights: an initialization plus a displacement

and in how the shared part is learned, which `shared_losses` says.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learnit_utils import fields
from learnit_utils.fields import Layer

CHANNELS = (8, 16, 16, 8)  # of the encoder's convolutions, each of stride 2


class Parts(NamedTuple):
    """The parameters of a shared network."""

    shared: Any
    own: Any  # of one signal; while the joint training runs, of all of them, (count, ...)


@dataclass(frozen=True, eq=False)
class Shared:
    """A network that many signals share.

    Attributes:
        init: key -> shared.
        start: (shared, key) -> own, of a signal that nothing is known of.
        decode: (shared, own, x (points, 2), picture (points, channels)) -> (points, channels).
        spec: kind and settings; `build(**spec)` builds it again.
    """

    init: Callable[[jax.Array], Any]
    start: Callable[[Any, jax.Array], Any]
    decode: Callable[[Any, Any, jax.Array, jax.Array], jax.Array]
    spec: Mapping[str, Any]


# --- a code -----------------------------------------------------------------------------------
class Codes(NamedTuple):
    """The shared part of `codes`."""

    net: list[Layer]
    maps: list[jax.Array]  # V_l, (code, width), for the first layer or for all hidden ones
    log_scale: jax.Array  # (code,): z is exp(log_scale) times the own part


def shifted(net: list[Layer], maps: list[jax.Array], z: jax.Array) -> list[Layer]:
    """A network with the biases b_l + z V_l.

    In the first layer that is a code concatenated to the input: [x, z] [W; V] = x W + z V.
    """
    moved = [Layer(w, b + z @ v) for (w, b), v in zip(net, maps)]
    return [*moved, *net[len(maps) :]]


def codes(
    width: int,
    depth: int,
    code: int,
    *,
    layers: int = 1,
    scale: float = 1.0,
    omega0: float = 30.0,
    channels: int = 1,
) -> Shared:
    """A SIREN whose biases a code shifts; the own part is the code, in units of `scale`.

    Args:
        width, depth, omega0, channels: as in `fields.siren`.
        code: numbers in z.
        layers: how many layers it shifts, the first one first: 1 is concatenation to the input
            (Park et al. 2019, DeepSDF), depth - 1 are the modulations of functa.
        scale: where exp(log_scale) begins. A step of descent of length 1 on the own part moves z by
            scale^2 times the gradient, so that learning the scale is learning a step size.

    Raises:
        ValueError: more layers than have a sine, or a setting outside its range.

    Source: Park et al. 2019, section 4; Dupont et al. 2022 (functa), section 3.
    """
    if not 1 <= layers < depth:
        raise ValueError(f"layers = {layers}: expected 1 to {depth - 1}, the layers with a sine")
    if code < 1 or not scale > 0:
        raise ValueError(f"code = {code}, scale = {scale}: expected an integer >= 1, a number > 0")
    base = fields.siren(width=width, depth=depth, omega0=omega0, channels=channels)

    def init(key):
        key_net, key_maps = jax.random.split(key)
        std = 1 / (omega0 * scale * math.sqrt(code))  # a code of unit size shifts phases by about 1
        drawn = [
            std * jax.random.normal(k, (code, width)) for k in jax.random.split(key_maps, layers)
        ]
        return Codes(base.init(key_net), drawn, jnp.full(code, math.log(scale), jnp.float32))

    def start(shared, key):
        del key
        return jnp.zeros_like(shared.log_scale)

    def decode(shared, own, x, picture):
        del picture
        z = jnp.exp(shared.log_scale) * own
        return base.apply(shifted(shared.net, shared.maps, z), x)

    spec = dict(kind="codes", width=width, depth=depth, code=code, layers=layers, scale=scale)
    return Shared(init, start, decode, spec | dict(omega0=omega0, channels=channels))


# --- an encoder ---------------------------------------------------------------------------------
class Encoder(NamedTuple):
    """Convolutions of stride 2, then one affine layer."""

    kernels: list[Layer]  # w (3, 3, in, out), b (out,)
    last: Layer


def _encoder(side: int, code: int, channels: int) -> tuple[Callable, Callable]:
    """(key -> Encoder, (Encoder, picture) -> code (code,)) for pictures of a side."""
    sizes = (channels, *CHANNELS)
    left = math.ceil(side / 2 ** len(CHANNELS)) ** 2 * CHANNELS[-1]  # values that remain

    def init(key):
        *keys, key_last = jax.random.split(key, len(CHANNELS) + 1)
        kernels = []
        for k, n, m in zip(keys, sizes, sizes[1:]):
            w = jax.random.normal(k, (3, 3, n, m)) * math.sqrt(2 / (9 * n))
            kernels.append(Layer(w, jnp.zeros(m)))
        last = jax.random.normal(key_last, (left, code)) / math.sqrt(left)
        return Encoder(kernels, Layer(last, jnp.zeros(code)))

    def read(encoder, picture):
        h = picture.reshape(1, side, side, channels) - 0.5
        for w, b in encoder.kernels:
            axes = ("NHWC", "HWIO", "NHWC")
            h = jax.lax.conv_general_dilated(h, w, (2, 2), "SAME", dimension_numbers=axes)
            h = jax.nn.relu(h + b.reshape(1, 1, 1, -1))
        return h.reshape(-1) @ encoder.last.w + encoder.last.b

    return init, read


def encoder(
    width: int,
    depth: int,
    code: int,
    side: int,
    *,
    layers: int = 1,
    omega0: float = 30.0,
    channels: int = 1,
) -> Shared:
    """`codes`, with the code that a convolutional network reads off the picture.

    The own part is what is added to that code, 0 at the start.

    Args:
        side: of the pictures, in pixels.
        others: as in `codes`.
    """
    coded = codes(width, depth, code, layers=layers, omega0=omega0, channels=channels)
    draw, read = _encoder(side, code, channels)

    def init(key):
        key_encoder, key_coded = jax.random.split(key)
        return dict(encoder=draw(key_encoder), coded=coded.init(key_coded))

    def start(shared, key):
        return coded.start(shared["coded"], key)

    def decode(shared, own, x, picture):
        z = read(shared["encoder"], picture)
        return coded.decode(shared["coded"], z + own, x, picture)

    spec = dict(kind="encoder", width=width, depth=depth, code=code, side=side, layers=layers)
    return Shared(init, start, decode, spec | dict(omega0=omega0, channels=channels))


# --- a hypernetwork -----------------------------------------------------------------------------
class Head(NamedTuple):
    """Writes the change of one layer, a number per weight."""

    w: jax.Array  # (code, in, out)
    b: jax.Array  # (code, out)


class LowRankHead(NamedTuple):
    """Writes the change of a weight matrix as a product u v."""

    u: jax.Array  # (code, in, rank)
    v: jax.Array  # (code, rank, out)
    b: jax.Array  # (code, out)


def written(base: list[Layer], heads: list[Head | LowRankHead], z: jax.Array) -> list[Layer]:
    """The weights that a hypernetwork writes: those of the base plus a change linear in z.

    Those of a `LowRankHead` change by a product of two matrices that are linear in z.
    """
    made = []
    for (w, b), head in zip(base, heads):
        if isinstance(head, Head):
            change = jnp.tensordot(z, head.w, 1)
        else:
            change = jnp.tensordot(z, head.u, 1) @ jnp.tensordot(z, head.v, 1)
        made.append(Layer(w + change, b + z @ head.b))
    return made


def hypernetwork(
    width: int,
    depth: int,
    code: int,
    side: int,
    *,
    rank: int | None = None,
    omega0: float = 30.0,
    channels: int = 1,
) -> Shared:
    """A network that looks at a picture and writes the weights of a small SIREN.

    The own part is what is added to the written weights, 0 at the start.

    Args:
        width, depth, omega0, channels: of the SIREN.
        code: units between the convolutions and the heads.
        side: of the pictures, in pixels.
        rank: of the written change of a weight matrix; None writes all of its entries.

    Source: Ha et al. 2017; Sitzmann et al. 2020 (SIREN), section 4.4, for coordinate networks.
    """
    if rank is not None and rank < 1:
        raise ValueError(f"rank = {rank}: expected an integer >= 1, or None")
    base = fields.siren(width=width, depth=depth, omega0=omega0, channels=channels)
    draw, read = _encoder(side, code, channels)

    def head(key, layer):
        (n, m), (key_a, key_b) = layer.w.shape, jax.random.split(key)
        std = 0.3 * layer.w.std() / math.sqrt(code)
        b = jnp.zeros((code, m))
        if rank is None:
            return Head(std * jax.random.normal(key_a, (code, n, m)), b)
        side_of = jnp.sqrt(std / math.sqrt(rank * code))
        u = side_of * jax.random.normal(key_a, (code, n, rank))
        return LowRankHead(u, side_of * jax.random.normal(key_b, (code, rank, m)), b)

    def init(key):
        key_encoder, key_base, key_heads = jax.random.split(key, 3)
        net = base.init(key_base)
        heads = [head(k, la) for k, la in zip(jax.random.split(key_heads, depth), net)]
        return dict(encoder=draw(key_encoder), base=net, heads=heads)

    def start(shared, key):
        del key
        return jax.tree.map(jnp.zeros_like, shared["base"])

    def decode(shared, own, x, picture):
        z = read(shared["encoder"], picture)
        theta = written(shared["base"], shared["heads"], z)
        return base.apply(jax.tree.map(jnp.add, theta, own), x)

    spec = dict(kind="hypernetwork", width=width, depth=depth, code=code, side=side, rank=rank)
    return Shared(init, start, decode, spec | dict(omega0=omega0, channels=channels))


# --- layers and weights -------------------------------------------------------------------------
def heads(width: int, depth: int, *, omega0: float = 30.0, channels: int = 1) -> Shared:
    """A SIREN of which the last layer is a signal's own (STRAINER's training).

    Source: Vyas et al. 2024 (STRAINER), section 3.1.
    """
    base = fields.siren(width=width, depth=depth, omega0=omega0, channels=channels)

    def decode(shared, own, x, picture):
        del picture
        return base.apply([*shared, own], x)

    def start(shared, key):
        return base.init(key)[-1]

    def init(key):
        return base.init(key)[:-1]

    spec = dict(kind="heads", width=width, depth=depth, omega0=omega0, channels=channels)
    return Shared(init, start, decode, spec)


def weights(width: int, depth: int, *, omega0: float = 30.0, channels: int = 1) -> Shared:
    """A SIREN of which every weight is a signal's own: an initialization plus a displacement."""
    base = fields.siren(width=width, depth=depth, omega0=omega0, channels=channels)

    def decode(shared, own, x, picture):
        del picture
        return base.apply(jax.tree.map(jnp.add, shared, own), x)

    def start(shared, key):
        del key
        return jax.tree.map(jnp.zeros_like, shared)

    spec = dict(kind="weights", width=width, depth=depth, omega0=omega0, channels=channels)
    return Shared(base.init, start, decode, spec)


KINDS = dict(codes=codes, encoder=encoder, hypernetwork=hypernetwork, heads=heads, weights=weights)


def build(kind: str, **settings) -> Shared:
    """The shared network of that kind and settings.

    Raises:
        ValueError: another kind, or settings that it does not have.
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: expected one of {', '.join(KINDS)}")
    return _built(kind, tuple(settings.items()))


@lru_cache(maxsize=64)
def _built(kind, settings):
    try:
        return KINDS[kind](**dict(settings))
    except TypeError as e:
        raise ValueError(f"{kind}: {str(e).partition('() ')[2]}") from None
