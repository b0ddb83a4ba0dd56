"""A recurrent network by hand is what jax.grad says; the LSTM is its six equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.experiments import recurrent
from learnit_utils.experiments.protocol import Pieces


def random_net(rng, units, words, answers):
    return recurrent.Plain(
        *(rng.normal(size=s) for s in ((units, words), (units, units), (answers, units)))
    )


def gaps(net, x, label):
    """The largest differences between hand and jax.grad, by matrix, over the largest entry."""
    by_hand = recurrent.terms(net, x, label)
    exact = recurrent.Plain(*(jnp.asarray(m, jnp.float64) for m in net))
    auto = jax.grad(recurrent.loss)(exact, jnp.asarray(x, jnp.float64), label)
    pairs = [(by_hand.U.sum(0), auto.U), (by_hand.W.sum(0), auto.W), (by_hand.V, auto.V)]
    return [np.abs(a - b).max() / max(1, np.abs(a).max()) for a, b in pairs]


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), steps=st.integers(1, 6), bits=st.sampled_from([32, 64]))
def test_back_propagation_through_time_by_hand_is_jax_grad(seed, steps, bits):
    """In float64 to 1e-12; in float32 to its rounding, against the gradient in float64.

    An error of rounding that enters at the end passes V, and W once a step, on its way back.
    """
    rng = np.random.default_rng(seed)
    kind = np.float32 if bits == 32 else np.float64
    net = recurrent.Plain(*(m.astype(kind) for m in random_net(rng, 3, 4, 5)))
    x = rng.normal(size=(steps, 4)).astype(kind)
    way = np.linalg.norm(net.V, 2) * max(1, np.linalg.norm(net.W, 2)) ** (steps - 1)
    with jax.enable_x64(True):
        assert max(gaps(net, x, 2)) < (1e-12 if bits == 64 else 5e-7 * max(1, way))


def test_the_example_is_that_of_the_notes():
    net, x = recurrent.example()
    h1, h2 = recurrent.states(net, x)[1:]
    np.testing.assert_allclose(h1, [0.094, 0.135], atol=1e-3)
    np.testing.assert_allclose(net.V @ h2, [-0.022, 0.010, -0.022], atol=1e-12)
    np.testing.assert_allclose(recurrent.softmax(net.V @ h2), [0.330, 0.341, 0.330], atol=1e-3)
    with jax.enable_x64(True):
        assert max(gaps(net, x, 0)) < 1e-12
    assert recurrent.terms(net, x, 0).W[0].any() == np.False_  # h_0 is 0


@given(seed=st.integers(0, 2**31), more=st.floats(-2, 2))
def test_the_output_matrix_is_the_one_of_least_norm(seed, more):
    rng = np.random.default_rng(seed)
    h, scores = rng.normal(size=2), rng.normal(size=3)
    V = recurrent.least_norm_output(scores, h)
    np.testing.assert_allclose(V @ h, scores, atol=1e-9)
    other = V + more * np.outer(rng.normal(size=3), [-h[1], h[0]])  # it gives the same scores
    np.testing.assert_allclose(other @ h, scores, atol=1e-8)
    assert np.linalg.norm(V) <= np.linalg.norm(other) + 1e-12


def test_no_output_matrix_makes_scores_of_nothing():
    with pytest.raises(ValueError, match="h = 0"):
        recurrent.least_norm_output([1.0], [0.0, 0.0])


@given(seed=st.integers(0, 2**31), rows=st.integers(1, 4))
def test_the_lstm_is_its_six_equations_row_by_row(seed, rows):
    rng = np.random.default_rng(seed)
    n, units = 3, 2
    cell = recurrent.Cell(
        jnp.asarray(rng.normal(size=(n + units, 4 * units)), jnp.float32),
        jnp.asarray(rng.normal(size=4 * units), jnp.float32),
    )
    x = rng.normal(size=(rows, n)).astype(np.float32)
    h, c = (rng.normal(size=(rows, units)).astype(np.float32) for _ in range(2))
    W = dict(zip(recurrent.GATES, np.split(np.asarray(cell.w), 4, axis=1)))
    b = dict(zip(recurrent.GATES, np.split(np.asarray(cell.b), 4)))

    def affine(gate, row):
        return np.concatenate([x[row], h[row]]) @ W[gate] + b[gate]

    def sigma(a):
        return 1 / (1 + np.exp(-a))

    end = recurrent.lstm(cell, recurrent.Memory(jnp.asarray(h), jnp.asarray(c)), jnp.asarray(x))
    for row in range(rows):
        f, i, o = (sigma(affine(gate, row)) for gate in ("forget", "input", "output"))
        kept = f * c[row] + i * np.tanh(affine("new", row))
        np.testing.assert_allclose(end.c[row], kept, atol=1e-5)
        np.testing.assert_allclose(end.h[row], o * np.tanh(kept), atol=1e-5)


def test_an_open_forget_gate_keeps_what_is_there():
    cell = recurrent.lstm_cell(jax.random.key(0), 2, 3, forget_bias=50.0)
    cell = cell._replace(w=0 * cell.w, b=cell.b.at[3:6].set(-50.0))  # nothing new comes in
    memory = recurrent.Memory(jnp.zeros(3), jnp.array([1.0, -2.0, 0.5]))
    for _ in range(100):
        memory = recurrent.lstm(cell, memory, jnp.ones(2))
    np.testing.assert_allclose(memory.c, [1.0, -2.0, 0.5], rtol=1e-5)


@given(seed=st.integers(0, 2**31), distance=st.integers(1, 6))
def test_the_first_word_alone_decides(seed, distance):
    x, labels = recurrent.sentences(jax.random.key(seed), 12, distance)
    assert x.shape == (12, distance + 1, len(recurrent.WORDS))
    for sentence, label in zip(x, labels):
        first, *between, last = recurrent.spelled(sentence).split()
        assert last == "bat"
        assert (first in recurrent.ANIMALS) == bool(label)
        assert all(word in recurrent.FILLERS for word in between)


def test_a_sentence_has_two_words_at_least():
    with pytest.raises(ValueError, match="distance = 0"):
        recurrent.sentences(jax.random.key(0), 3, 0)


@pytest.mark.parametrize(("kind", "begin"), [("RNN", 0.8), ("LSTM", 1.0)])
def test_what_fades_is_the_gradient_at_each_word(kind, begin):
    key = jax.random.key(1)
    norms = recurrent.fading(kind, begin, 3, 4, 1, key)
    (one,) = jax.random.split(jax.random.clone(key), 1)
    key_net, key_words = jax.random.split(one)
    net = recurrent.draw(kind, key_net, 4, begin)
    x, labels = recurrent.sentences(key_words, 1, 3)
    g = jax.grad(recurrent.cross_entropy, argnums=1)(net, x[0], labels[0])
    np.testing.assert_allclose(norms, np.linalg.norm(g, axis=1)[::-1], rtol=1e-4)


def test_the_scan_reads_what_the_loop_reads():
    net = recurrent.draw("RNN", jax.random.key(0), 4, 0.9)
    x, _ = recurrent.sentences(jax.random.key(1), 1, 4)
    np.testing.assert_allclose(
        recurrent.answer(net, x[0]), net.V @ recurrent.states(net, x[0])[-1], atol=1e-6
    )
    p = recurrent.reading(net, x[0])
    assert p.shape == (5,)
    assert p[-1] == pytest.approx(float(jax.nn.softmax(recurrent.answer(net, x[0]))[1]), abs=1e-6)


@pytest.mark.slow
def test_both_networks_learn_what_a_bat_is():
    for kind, begin in (("RNN", 1.0), ("LSTM", 1.0)):
        found = recurrent.reach(kind, begin, 2, [1e-5, 2e-2], 8, 150, 2, jax.random.key(3))
        assert found["lr"] == 2e-2
        assert min(found["accuracy"]) > 0.95


@pytest.mark.slow
def test_distances_are_kept_by_network():
    pieces, how = Pieces(), ([2e-2], 4, 2, 2, jax.random.key(0))
    found = recurrent.reaches(pieces, {"a": ("RNN", 1.0), "b": ("LSTM", 1.0)}, [1, 2], *how)
    assert {name: list(by) for name, by in found.items()} == {"a": [1, 2], "b": [1, 2]}
    assert all(len(seeds) == 2 for by in found.values() for seeds in by.values())
