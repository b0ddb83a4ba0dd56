"""Recurrent networks: a plain one with its gradients through time by hand, and the LSTM cell.

The plain network reads words x_1, x_2, ... one after the other,

    h_t = tanh(U x_t + W h_{t-1}),   o_T = V h_T,   p = softmax(o_T),   J = -log p[label],

and answers after the last. The LSTM is written row-wise, so that one call moves any number of
independent memories: one per sentence of a batch, or one per weight of a network.

Sources: Elman 1990; Werbos 1990 (back-propagation through time); Hochreiter and Schmidhuber 1997
(LSTM); Gers et al. 2000 (the forget gate).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils.experiments.protocol import Pieces

GATES = ("forget", "input", "output", "new")  # the order of the columns of `Cell.w`


# --- the plain network ------------------------------------------------------------------------
class Plain(NamedTuple):
    """A recurrent network of `units` hidden units."""

    U: Any  # (units, words)
    W: Any  # (units, units)
    V: Any  # (answers, units)


# The example of the chapter: three words, two units, three answers. V follows from the wanted
# scores, see `least_norm_output`.
U_EXAMPLE = ((0.094, -0.02, 0.135), (0.135, -0.069, -0.009))
W_EXAMPLE = ((-0.011, 0.13), (-0.123, 0.014))
SCORES_EXAMPLE = (-0.022, 0.01, -0.022)


def states(net: Plain, x: Any) -> list:
    """h_0 = 0, h_1, ..., h_T of a sentence x (T, words), (units,) each. NumPy or JAX."""
    tanh = jnp.tanh if isinstance(x, jax.Array) else np.tanh
    h = [0 * net.U[:, 0]]
    for word in x:
        h.append(tanh(net.U @ word + net.W @ h[-1]))
    return h


def least_norm_output(scores: Any, h: Any) -> np.ndarray:
    """V (answers, units) with V h = scores, the one of least norm: scores h^T / |h|^2.

    Any other V with V h = scores is this one plus a matrix of which every row is orthogonal to h.

    Raises:
        ValueError: h is 0.
    """
    scores, h = np.asarray(scores, np.float64), np.asarray(h, np.float64)
    if not h @ h:
        raise ValueError("h = 0: no V gives it other scores than 0")
    return np.outer(scores, h) / (h @ h)


def example() -> tuple[Plain, np.ndarray]:
    """The network of the worked example, and its sentence x (2, 3): word 1, then word 2."""
    x = np.eye(3)[:2]
    blank = Plain(np.array(U_EXAMPLE), np.array(W_EXAMPLE), np.zeros((3, 2)))
    V = least_norm_output(SCORES_EXAMPLE, states(blank, x)[-1])
    return blank._replace(V=V), x


def loss(net: Plain, x: jax.Array, label: int) -> jax.Array:
    """J = -log softmax(V h_T)[label], a scalar."""
    return -jax.nn.log_softmax(net.V @ states(net, jnp.asarray(x))[-1])[label]


def softmax(o: np.ndarray) -> np.ndarray:
    """exp(o) / sum exp(o), with the largest score taken off first, so that nothing overflows."""
    e = np.exp(o - np.max(o))
    return e / e.sum()


class Terms(NamedTuple):
    """The gradient of J, time step by time step; its sums over the first axis are the gradient."""

    scores: np.ndarray  # dJ/do_T = p - y, (answers,)
    V: np.ndarray  # dJ/dV, (answers, units); V acts once, so there is one term
    U: np.ndarray  # (T, units, words): what the use of U at step t contributes
    W: np.ndarray  # (T, units, units); the first is 0, as h_0 is
    at: np.ndarray  # (T, units) dJ/da_t, with a_t = U x_t + W h_{t-1} what tanh is given


def terms(net: Plain, x: np.ndarray, label: int) -> Terms:
    """The gradient of J by hand, in NumPy: back-propagation through time.

    dJ/da_T = (V^T (p - y)) (1 - h_T^2), then dJ/da_t = (W^T dJ/da_{t+1}) (1 - h_t^2), and step t
    adds dJ/da_t x_t^T to dJ/dU and dJ/da_t h_{t-1}^T to dJ/dW.

    Args:
        x: (T, words), T >= 1.
        label: the right answer.
    """
    h = states(net, x)
    back = softmax(net.V @ h[-1])
    back[label] -= 1
    scores, at = back, []
    back = net.V.T @ back
    for now in reversed(h[1:]):
        at.append(back * (1 - now**2))
        back = net.W.T @ at[-1]
    at = np.stack(at[::-1])
    U = np.stack([np.outer(a, word) for a, word in zip(at, x)])
    W = np.stack([np.outer(a, before) for a, before in zip(at, h)])
    return Terms(scores, np.outer(scores, h[-1]), U, W, at)


# --- long short-term memory -------------------------------------------------------------------
class Cell(NamedTuple):
    """The weights of the four gates, side by side in the order of `GATES`."""

    w: jax.Array  # (inputs + units, 4 units)
    b: jax.Array  # (4 units,)


class Memory(NamedTuple):
    """What an LSTM carries from step to step."""

    h: jax.Array  # (..., units) what it says
    c: jax.Array  # (..., units) what it keeps


def blank(cell: Cell, *shape: int) -> Memory:
    """A memory of zeros, (*shape, units)."""
    empty = jnp.zeros((*shape, cell.b.shape[0] // 4))
    return Memory(empty, empty)


def lstm(cell: Cell, memory: Memory, x: jax.Array) -> Memory:
    """One step for inputs x (..., inputs), row by row.

    f, i, o = sigmoid of affine maps of [x, h];  g = tanh of one;  c <- f c + i g;  h <- o tanh(c).
    """
    z = jnp.concatenate([x, memory.h], axis=-1) @ cell.w
    z = z + jnp.broadcast_to(cell.b, z.shape)
    f, i, o, g = jnp.split(z, 4, axis=-1)
    c = jax.nn.sigmoid(f) * memory.c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return Memory(jax.nn.sigmoid(o) * jnp.tanh(c), c)


def lstm_cell(key: jax.Array, inputs: int, units: int, forget_bias: float = 1.0) -> Cell:
    """A cell to begin from: normal weights of variance 1 / (inputs + units), biases 0.

    Args:
        forget_bias: the bias of the forget gate; the larger, the more of c is kept at first.
    """
    rows = inputs + units
    w = jax.random.normal(key, (rows, 4 * units)) / jnp.sqrt(rows)
    return Cell(w, jnp.zeros(4 * units).at[:units].set(forget_bias))


# --- sentences whose last word needs the first --------------------------------------------------
CLUBS, ANIMALS = ("baseball", "cricket"), ("vampire", "cave")
FILLERS, LAST = ("old", "small", "brown", "dusty"), "bat"
WORDS = (*CLUBS, *ANIMALS, *FILLERS, LAST)
ANSWERS = ("club", "animal")


def sentences(key: jax.Array, count: int, distance: int) -> tuple[jax.Array, jax.Array]:
    """Sentences like "baseball old brown bat", and what the bat is.

    Args:
        distance: steps from the first word to the last, at least 1.

    Returns:
        One-hot words (count, distance + 1, words), and labels (count,): 0 club, 1 animal.

    Raises:
        ValueError: a distance below 1.
    """
    if distance < 1:
        raise ValueError(f"distance = {distance}: expected an integer >= 1")
    key_first, key_between = jax.random.split(key)
    kinds = len(CLUBS) + len(ANIMALS)
    first = jax.random.randint(key_first, (count, 1), 0, kinds)
    fillers = (count, distance - 1)
    between = jax.random.randint(key_between, fillers, kinds, kinds + len(FILLERS))
    last = jnp.full((count, 1), WORDS.index(LAST))
    words = jnp.concatenate([first, between, last], axis=1)
    return jax.nn.one_hot(words, len(WORDS)), (first[:, 0] >= len(CLUBS)).astype(jnp.int32)


def spelled(x: jax.Array) -> str:
    """One-hot words (T, words) as text."""
    return " ".join(WORDS[i] for i in np.asarray(x).argmax(axis=-1))


class Gated(NamedTuple):
    """An LSTM that answers after the last word."""

    cell: Cell
    V: jax.Array  # (answers, units)


def draw(kind: str, key: jax.Array, units: int, begin: float) -> Plain | Gated:
    """A network for the sentences.

    Args:
        kind: "RNN" or "LSTM".
        begin: of an RNN, W is a random rotation times this; of an LSTM, the forget gate's bias.
    """
    key_in, key_own, key_out = jax.random.split(key, 3)
    V = jax.random.normal(key_out, (len(ANSWERS), units)) / jnp.sqrt(units)
    if kind == "LSTM":
        return Gated(lstm_cell(key_in, len(WORDS), units, begin), V)
    U = jax.random.normal(key_in, (units, len(WORDS))) / jnp.sqrt(len(WORDS))
    return Plain(U, begin * jax.random.orthogonal(key_own, units), V)


def answer(net: Plain | Gated, x: jax.Array) -> jax.Array:
    """Scores (answers,) after the last word of x (T, words)."""
    if isinstance(net, Gated):
        end, _ = jax.lax.scan(lambda m, word: (lstm(net.cell, m, word), None), blank(net.cell), x)
        return net.V @ end.h
    start = jnp.zeros(net.W.shape[0])
    return net.V @ jax.lax.scan(lambda h, w: (jnp.tanh(net.U @ w + net.W @ h), None), start, x)[0]


def reading(net: Plain | Gated, x: jax.Array) -> np.ndarray:
    """The probability of "animal" if a sentence x (T, words) ended after each word: (T,)."""
    seen = [jax.nn.softmax(answer(net, x[: t + 1]))[1] for t in range(len(x))]
    return np.array(seen)


def cross_entropy(net: Plain | Gated, x: jax.Array, label: jax.Array) -> jax.Array:
    """J of one sentence."""
    return -jax.nn.log_softmax(answer(net, x))[label]


def mean_loss(net: Plain | Gated, x: jax.Array, labels: jax.Array) -> jax.Array:
    """J, mean over sentences x (count, T, words)."""
    return jax.vmap(cross_entropy, (None, 0, 0))(net, x, labels).mean()


def accuracy(net: Plain | Gated, x: jax.Array, labels: jax.Array) -> jax.Array:
    """The part of the sentences that is understood."""
    return (jax.vmap(answer, (None, 0))(net, x).argmax(axis=-1) == labels).mean()


def taught(
    net: Plain | Gated, key: jax.Array, distance: int, lr: jax.Array, steps: int, batch: int = 32
) -> tuple[Any, jax.Array]:
    """The network after steps of Adam on sentences drawn anew, and the losses (steps,)."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1.0))

    def step(carry, key):
        net, state = carry
        value, grad = jax.value_and_grad(mean_loss)(net, *sentences(key, batch, distance))
        updates, state = optimizer.update(grad, state)
        net = optax.apply_updates(net, jax.tree.map(lambda u: lr * u, updates))
        return (net, state), value

    (net, _), losses = jax.lax.scan(step, (net, optimizer.init(net)), jax.random.split(key, steps))
    return net, losses


def reach(
    kind: str,
    begin: float,
    distance: int,
    lrs: Sequence[float],
    units: int,
    steps: int,
    seeds: int,
    key: jax.Array,
) -> dict[str, Any]:
    """How well a network learns a dependency over a distance, by its best step size.

    The step size is chosen by the mean accuracy over the seeds on validation sentences.

    Args:
        kind, begin, units: as in `draw`.
        distance: as in `sentences`.

    Returns:
        {"lr", "accuracy": of every seed on test sentences}, as JSON.
    """
    key_data, key_nets, key_steps = jax.random.split(jax.random.clone(key), 3)
    validation, test = (sentences(k, 256, distance) for k in jax.random.split(key_data))
    keys = list(zip(jax.random.split(key_nets, seeds), jax.random.split(key_steps, seeds)))

    @jax.jit
    def seen(lr, key_net, key_step):
        net = draw(kind, key_net, units, begin)
        net, _ = taught(net, key_step, distance, lr, steps)
        return jnp.stack([accuracy(net, *validation), accuracy(net, *test)])

    def of_seeds(lr):
        return [np.asarray(seen(lr, *map(jax.random.clone, pair))) for pair in keys]

    found = [np.transpose(of_seeds(lr)) for lr in lrs]
    best = int(np.argmax([validated.mean() for validated, _ in found]))
    return dict(lr=lrs[best], accuracy=[round(float(a), 4) for a in found[best][1]])


def reaches(
    pieces: Pieces, networks: Mapping[str, tuple[str, float]], distances: Sequence[int], *args: Any
) -> dict[str, dict[int, list[float]]]:
    """Accuracy of every seed, network -> distance -> seeds, kept in the study "distances".

    Args:
        networks: name -> (kind, begin), as in `draw`.
        args: of `reach`, from `lrs` on.
    """
    found: dict[str, dict[int, list[float]]] = {name: {} for name in networks}
    for name, (kind, begin) in networks.items():
        for distance in distances:
            about = dict(by=name, distance=distance)
            kept = pieces.call(
                "distances", about, reach, kind, begin, distance, *args, cost=distance
            )
            found[name][distance] = kept["accuracy"]
    return found


def fading(
    kind: str, begin: float, longest: int, units: int, draws: int, key: jax.Array
) -> np.ndarray:
    """Norm of dJ/dx_t, what reaches a word, by its distance to the last: (longest + 1,).

    The geometric mean over random networks, each with a sentence of its own.
    """

    def norms(key):
        key_net, key_words = jax.random.split(key)
        net = draw(kind, key_net, units, begin)
        x, labels = sentences(key_words, 1, longest)
        back = jax.grad(cross_entropy, argnums=1)(net, x[0], labels[0])
        return jnp.linalg.norm(back, axis=-1)[::-1]

    each = jax.jit(jax.vmap(norms))(jax.random.split(jax.random.clone(key), draws))
    return np.exp(np.log(np.maximum(np.asarray(each, np.float64), 1e-45)).mean(axis=0))
