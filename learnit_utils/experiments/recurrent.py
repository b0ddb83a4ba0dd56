"""Recurrent networks: a plain one with its gradients through time by hand, and the LSTM cell.

The plain network reads words x_1, x_2, ... one after the other,

    h_t = tanh(U x_t + W h_{t-1}),   o_T = V h_T,   p = softmax(o_T),   J = -log p[label],

and answers after the last. The LSTM is written row-wise, so that one call moves any number of
independent memories: one per sentence of a batch, or one per weight of a network.

Sources: Elman 1990; Werbos 1990 (back-propagation through time); Hochreiter and Schmidhuber 1997
(LSTM); Gers et al. 2000 (the forget gate).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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
