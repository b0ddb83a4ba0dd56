"""Sparse codes: LISTA with ISTA's matrices is ISTA, and learned layers come closer to the code."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import fields
from learnit_utils.experiments import sparse_codes as codes
from learnit_utils.experiments.protocol import Pieces


def problem(seed, points=6, atoms=9, count=4):
    rng = np.random.default_rng(seed)
    D = rng.normal(size=(points, atoms))
    D /= np.linalg.norm(D, axis=0)
    return jnp.asarray(D, jnp.float32), jnp.asarray(rng.normal(size=(count, points)), jnp.float32)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), steps=st.integers(0, 12), penalty=st.floats(1e-3, 1))
def test_lista_with_the_matrices_of_ista_is_ista(seed, steps, penalty):
    D, x = problem(seed)
    ours = codes.lista(codes.as_layers(D, penalty), x, steps)
    np.testing.assert_allclose(ours, codes.ista(D, x, penalty, steps), atol=2e-5)


@given(z=st.floats(-3, 3), threshold=st.floats(0, 2))
def test_soft_thresholding_is_a_minimum(z, threshold):
    u = float(codes.soft(jnp.float32(z), threshold))
    tried = np.linspace(-4, 4, 801)
    values = (tried - z) ** 2 / 2 + threshold * np.abs(tried)
    assert (u - z) ** 2 / 2 + threshold * abs(u) <= values.min() + 1e-5


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), penalty=st.floats(1e-2, 0.5))
def test_ista_descends_and_fista_arrives_where_the_optimality_conditions_hold(seed, penalty):
    D, x = problem(seed)
    values = codes.objective(D, x[None], codes.ista(D, x, penalty, 20), penalty)
    assert (np.diff(np.asarray(values), axis=0) <= 1e-5).all()
    z = codes.fista(D, x, penalty, 2000, every=False)
    pull = np.asarray((x - z @ D.T) @ D)  # D^T (x - D z) = penalty sign(z), or within it at 0
    z = np.asarray(z)
    assert np.abs(pull).max() <= penalty * 1.02 + 1e-4
    used = np.abs(z) > 1e-3
    np.testing.assert_allclose(pull[used], penalty * np.sign(z[used]), atol=0.02 * penalty + 2e-4)


def test_one_step_is_exact_with_orthonormal_atoms():
    rng = np.random.default_rng(0)
    D = jnp.asarray(np.linalg.qr(rng.normal(size=(6, 6)))[0], jnp.float32)
    x = jnp.asarray(rng.normal(size=(3, 6)), jnp.float32)
    one = codes.ista(D, x, 0.3, 1)[1]
    np.testing.assert_allclose(one, codes.soft(x @ D, 0.3), atol=1e-5)
    np.testing.assert_allclose(one, codes.ista(D, x, 0.3, 30)[-1], atol=1e-5)
    assert np.abs(codes.as_layers(D, 0.3).S).max() < 1e-5


def test_the_path_of_fista_ends_at_its_last_code():
    D, x = problem(1)
    np.testing.assert_array_equal(
        codes.fista(D, x, 0.1, 7)[-1], codes.fista(D, x, 0.1, 7, every=False)
    )


def test_without_a_penalty_ista_is_descent_along_eigenvectors():
    """With atoms sqrt(lambda_i) v_i direction i shrinks by 1 - lambda_i / lambda_1 per step."""
    rng = np.random.default_rng(2)
    v = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    share = np.array([1.0, 0.6, 0.3, 0.1, 0.02])
    D = jnp.asarray(v * np.sqrt(share), jnp.float32)
    x = jnp.asarray(rng.normal(size=(1, 5)), jnp.float32)
    left = np.asarray((x - codes.ista(D, x, 0.0, 4)[-1] @ D.T) @ v)
    np.testing.assert_allclose(left, np.asarray(x) @ v * (1 - share) ** 4, atol=1e-5)


PICTURES = np.random.default_rng(0).random((12, 4, 4, 1)).astype(np.float32)
PEOPLE = codes.Faces(PICTURES[:8], PICTURES[8:10], PICTURES[10:])


def test_signals_have_mean_0_and_length_1():
    x = np.asarray(codes.normed(PICTURES), np.float64)
    np.testing.assert_allclose(x.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose((x**2).sum(axis=1), 1, rtol=1e-5)


def test_varied_pictures_are_moved_and_mirrored():
    varied = codes.varied(PICTURES)
    assert varied.shape == (120, 4, 4, 1)
    np.testing.assert_array_equal(varied[:12], PICTURES)
    np.testing.assert_array_equal(varied[60:72], PICTURES[:, :, ::-1])
    np.testing.assert_array_equal(varied[12:24, 1:], PICTURES[:, :-1])  # down by one pixel


def test_atoms_of_a_kernel_are_orthonormal_or_weighted():
    field = fields.siren(6, 3, 10.0, 1)
    theta = field.init(jax.random.key(0))
    D = np.asarray(codes.of_kernel(field, theta, 4, weighted=False))
    np.testing.assert_allclose(D.T @ D, np.eye(16), atol=1e-4)
    weighted = np.asarray(codes.of_kernel(field, theta, 4, weighted=True))
    norms = np.linalg.norm(weighted, axis=0)
    assert norms[0] == pytest.approx(1, abs=1e-4)
    assert (np.diff(norms) <= 1e-5).all()
    assert codes.largest(weighted) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_a_learned_dictionary_holds_more_than_the_signals_it_began_from():
    x, key = codes.normed(codes.varied(PICTURES)), jax.random.key(0)
    found = []
    for rounds in (0, 4):
        D = codes.learned_dictionary(x, atoms=20, share=0.8, rounds=rounds, key=key)
        np.testing.assert_allclose(np.linalg.norm(D, axis=0), 1, rtol=1e-3)
        z = codes.fista(D, x, 0.1, 300, every=False)
        found.append(float(codes.objective(D, x, z, 0.1).mean()))
    assert found[1] < found[0]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_penalty_lets_codes_hold_their_share(share):
    D, x = problem(3, count=8)
    penalty = codes.penalty_for(D, x, share)
    z = codes.fista(D, x, penalty, 400, every=False)
    assert codes.held(D, x, z).mean() == pytest.approx(share, abs=0.02)


def test_lessons_hold_signals_and_codes_together():
    x = jnp.arange(10.0)[:, None] * jnp.ones((1, 3))
    tasks = codes.lessons(x, 2 * x[:, :2], 4, jax.random.key(0))
    assert tasks.count == 2
    signals, known = (np.asarray(v) for v in tasks.each)
    np.testing.assert_array_equal(known, 2 * signals[..., :2])
    assert len(np.unique(signals[..., 0])) == 8


@pytest.mark.slow
def test_learned_layers_come_closer_than_ista_and_than_fista():
    D, x = problem(5, points=12, atoms=20, count=600)
    z = codes.fista(D, x, 0.2, 1500, every=False)
    tasks = codes.lessons(x[:560], z[:560], 40, jax.random.key(0))
    layers = codes.learn(D, tasks, 0.2, 4, 3e-3, 300, jax.random.key(1))
    ends = dict(lista=codes.lista(layers, x[560:], 4)[-1])
    ends |= {m.__name__: m(D, x[560:], 0.2, 4)[-1] for m in (codes.ista, codes.fista)}
    miss = {name: float(((end - z[560:]) ** 2).sum(axis=1).mean()) for name, end in ends.items()}
    assert miss["lista"] < 0.7 * miss["fista"]
    assert miss["lista"] < 0.7 * miss["ista"]


@pytest.mark.slow
def test_a_race_keeps_every_iteration_and_every_number_of_layers():
    maker = partial(codes.learned_dictionary, atoms=20, share=0.8, rounds=1, key=jax.random.key(0))
    how = ((1e-4, 1e-3), 20, 8)
    race = codes.race(Pieces(), {"small": maker}, PEOPLE, 0.8, [1, 3], how, jax.random.key(1))
    plain, learned = race.plain["small"], race.learned["small"]
    assert list(learned) == [1, 3]
    assert all(len(distance) == 7 for distance in learned.values())
    assert plain["ISTA"]["distance"][0] == plain["FISTA"]["distance"][0] == 1.0  # z = 0
    assert learned[1][0] == 1.0
    assert plain["atoms"] == 20
    (lead,) = race.lead().values()
    assert lead[1] == pytest.approx(plain["FISTA"]["distance"][3] / learned[3][3])
