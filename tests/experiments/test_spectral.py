"""Waves, pulls and half times: exact on kernels and signals whose answers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import fields, ntk
from learnit_utils.experiments import spectral

N = 32


def circulant(eigenvalues):
    """The real kernel whose eigenvectors are waves: eigenvalue k for k and n - k cycles."""
    k = np.minimum(np.arange(N), N - np.arange(N))
    column = np.fft.ifft(np.asarray(eigenvalues)[k]).real
    return np.stack([np.roll(column, i) for i in range(N)], axis=1)


def test_waves_are_orthonormal():
    q = spectral.waves(N)
    np.testing.assert_allclose(q @ q.conj().T, np.eye(N // 2), atol=1e-12)


def test_the_pull_on_an_eigenvector_is_its_eigenvalue(rng):
    values = np.sort(rng.uniform(0.1, 1, N // 2 + 1))[::-1]
    found = spectral.pull(circulant(values), spectral.waves(N))
    np.testing.assert_allclose(found, values[: N // 2] / values[0], rtol=1e-9)


def test_reach_is_where_the_kernel_ends(monkeypatch):
    values = np.where(np.arange(N // 2 + 1) <= 5, 1.0, 1e-4)
    monkeypatch.setattr(ntk, "gram", lambda field, theta, x: circulant(values))
    x = jnp.arange(N)[:, None] / N
    assert spectral.reach(None, [None], x) == 5


def test_a_larger_omega0_reaches_further():
    x = jnp.arange(64, dtype=jnp.float32)[:, None] / 64

    def reach(omega0):
        field = fields.siren(32, 3, omega0, 1, dims=1)
        return spectral.reach(field, [field.init(jax.random.key(0))], x)

    assert reach(5.0) < reach(60.0)


@pytest.mark.slow
def test_descent_keeps_residuals_and_ends_where_they_say():
    field = fields.siren(8, 3, 10.0, 1, dims=1)
    theta, x = field.init(jax.random.key(0)), jnp.linspace(0, 1, 16)[:, None]
    y = jnp.sin(6 * x[:, 0])
    left, end = spectral.descend(field, theta, x, y, 1e-3, 5)
    np.testing.assert_allclose(left[0], field(theta, x)[:, 0] - y, atol=1e-6)
    again, _ = spectral.descend(field, end, x, y, 1e-3, 1)
    longer, _ = spectral.descend(field, theta, x, y, 1e-3, 6)
    np.testing.assert_allclose(again[0], longer[5], atol=1e-6)
    assert np.mean(longer[5] ** 2) < np.mean(left[0] ** 2)


def test_half_times():
    left = np.array([[1, 1, 1], [0.4, 0.9, 1], [0.3, 0.5, 0.9]])
    np.testing.assert_array_equal(spectral.half_times(left), [1, 2, np.nan])


def test_order_counts_pairs_of_different_steps():
    found = spectral.order(np.array([[1, 3, 2, np.nan]]), np.array([[4.0, 3, 2, 1]]))
    assert found.count == 6
    np.testing.assert_allclose(found.low_first, 5 / 6)
    np.testing.assert_allclose(found.as_pull_says, 5 / 6)


def test_r2_is_one_for_a_perfect_forecast_and_zero_for_the_mean():
    real = np.array([1.0, 10.0, 100.0])
    np.testing.assert_allclose(spectral.r2_of_logs(real, real), 1)
    np.testing.assert_allclose(spectral.r2_of_logs(np.full(3, 10.0), real), 0, atol=1e-12)


def test_odd_power_is_what_shifted_copies_lose(rng):
    """Averaging four copies shifted by half a picture removes the odd frequencies, no others."""
    u = rng.random((N, N))
    copies = [
        np.roll(u, shift, (0, 1))
        for shift in np.ndindex(2, 2)
        for shift in [np.array(shift) * N // 2]
    ]
    even = np.mean(copies, axis=0)
    assert spectral.odd_power(even) < 1e-25
    np.testing.assert_allclose(spectral.odd_power(u), np.mean((u - even) ** 2))


def test_heights_and_second_peak():
    t = np.arange(N) / N
    u = np.cos(2 * np.pi * 3 * t) + 0.5 * np.cos(2 * np.pi * 7 * t + 1)
    height = spectral.heights(u[None])
    np.testing.assert_allclose(height[[3, 7]], [1, 0.5])
    assert spectral.second_peak(height, 3) == 7


def test_an_alias_is_exact_on_seen_and_wrong_on_unseen_samples():
    t, tone = np.arange(N) / N, 3
    wave = np.cos(2 * np.pi * tone * t)
    alias = np.cos(2 * np.pi * (N // 2 - tone) * t)
    np.testing.assert_allclose(alias[::2], wave[::2], atol=1e-12)
    np.testing.assert_allclose(spectral.unseen_error(alias, wave), 4)
    assert spectral.unseen_error(wave, wave) == 0
    np.testing.assert_allclose(spectral.unseen_error(0 * wave, wave), 1)


@pytest.mark.parametrize("kind", ["relu", "siren"])
def test_only_relu_networks_get_biases(kind):
    field = fields.build(kind, width=8, depth=3, channels=1, dims=1)
    theta = spectral.init(field, jax.random.key(0))
    assert (kind == "relu") == any(np.any(layer.b != 0) for layer in theta)
    plain = field.init(jax.random.key(0))
    for layer, other in zip(theta, plain):
        np.testing.assert_array_equal(layer.w, other.w)


def test_groups_of_rings():
    power = np.array([[1.0, 1, 1, 1], [0.2, 0.2, 1, 1]])
    found = spectral.group_half_times(power, np.ones(4), [np.array([0, 1]), np.array([2, 3])])
    np.testing.assert_array_equal(found, [1, np.nan])


@pytest.mark.slow
def test_a_fit_of_every_other_sample_comes_closer_on_what_it_sees():
    t = np.arange(N) / N
    waves = np.cos(2 * np.pi * np.outer([1, 2], t))
    field = fields.siren(16, 3, 20.0, 1, dims=1, offset=0.0)
    thetas = [field.init(key) for key in jax.random.split(jax.random.key(0), 2)]
    begin = spectral.fit_every_other(field, thetas, waves, 0, 1e-3)
    end = spectral.fit_every_other(field, thetas, waves, 200, 1e-3)
    assert begin.shape == end.shape == (2, 2, N)
    x = jnp.asarray(t, jnp.float32)[:, None]
    np.testing.assert_allclose(begin[1, 0], field(thetas[0], x).ravel(), atol=1e-5)
    missed = [np.mean((u - waves[:, None])[..., ::2] ** 2) for u in (begin, end)]
    assert missed[1] < 0.01 * missed[0]


@pytest.mark.slow
def test_a_point_of_the_rule_is_reach_and_what_is_left():
    field = fields.fourier(16, 3, 2.0, 1, dims=1, offset=0.0)
    key, tones = jax.random.key(3), [(2, 0.5), (5, 1.0)]
    found = spectral.rule_point(field, key, tones, N, 50, 1e-2)
    assert found == spectral.rule_point(field, key, tones, N, 50, 1e-2)  # the key is not used up
    thetas = [field.init(k) for k in jax.random.split(jax.random.clone(key), 3)]
    x = jnp.arange(N, dtype=jnp.float32)[:, None] / N
    assert found["reach"] == spectral.reach(field, thetas, x)
    t = np.arange(N) / N
    waves = np.array([np.cos(2 * np.pi * f * t + phase) for f, phase in tones])
    outputs = spectral.fit_every_other(field, thetas[:1], waves, 50, 1e-2)[:, 0]
    left = [spectral.unseen_error(*pair) for pair in zip(outputs, waves)]
    np.testing.assert_allclose(found["unseen"], left, rtol=1e-3)
