"""Sounds as tasks: time, and which pitch a network can reach."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import fields, tasks
from learnit_utils.experiments.recipe import Recipe, functions
from learnit_utils.fields import Layer
from learnit_utils.forward import waveform
from learnit_utils.signals import voices

SIZE, RATE = 1024, 8000
SECONDS = SIZE / RATE


def net(hertz, width=32, depth=2, **more):
    omega0 = waveform.reach(hertz, SECONDS)
    return fields.siren(width, depth, omega0, 1, dims=1, hidden_omega0=30.0, **more)


def energy(sound):
    """Of a sound (SIZE, 1) per frequency in Hz, without its mean, through a window."""
    u = np.asarray(sound, np.float64)[:, 0]
    hertz = np.fft.rfftfreq(len(u), SECONDS / len(u))
    return hertz, np.abs(np.fft.rfft((u - u.mean()) * np.hanning(len(u)))) ** 2


def test_samples_stand_at_their_times():
    t = np.asarray(waveform.times(8))
    assert t.shape == (8, 1)
    np.testing.assert_allclose(t[:, 0], np.arange(8) / 8)
    with pytest.raises(ValueError, match="size = 0"):
        waveform.times(0)


def test_sounds_are_tasks_of_one_coordinate():
    data = voices.load("test", size=64, limit=3)
    t = waveform.sound_tasks(data)
    assert t.count == 3
    assert t.each.shape == (3, 64, 1)
    assert t.shared.shape == (64, 1)
    np.testing.assert_array_equal(t.each, data.arrays)
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8, 1\): expected sounds"):
        waveform.sound_tasks(np.zeros((3, 8, 8, 1)))


@settings(max_examples=20, deadline=None)
@given(hertz=st.floats(20.0, 1000.0), height=st.floats(0.01, 0.5), phase=st.floats(-1, 1))
def test_a_tone_up_to_the_reach_is_represented_by_one_unit(hertz, height, phase):
    """sin(omega0 (W t + b)) with W = pitch / reach is that tone, of whatever phase."""
    field = net(1000.0, width=1)
    omega0 = field.spec["omega0"]
    w = 2 * math.pi * hertz * SECONDS / omega0
    assert w <= 1 + 1e-12
    first = Layer(jnp.full((1, 1), w), jnp.full((1,), phase / omega0))
    theta = [first, Layer(jnp.full((1, 1), height), jnp.zeros(1))]
    t = np.arange(SIZE) / RATE
    tone = 0.5 + height * np.sin(2 * np.pi * hertz * t + phase)
    np.testing.assert_allclose(waveform.play(field, theta, SIZE)[:, 0], tone, atol=2e-4)


@settings(max_examples=10, deadline=None)
@given(shift=st.floats(-0.5, 0.5), seed=st.integers(0, 99))
def test_a_later_sound_is_a_shift_of_the_first_bias(shift, seed):
    field = net(300.0, depth=3)
    theta = field.init(jax.random.key(seed))
    t = waveform.times(SIZE)
    moved = [theta[0]._replace(b=theta[0].b + shift * theta[0].w[0]), *theta[1:]]
    np.testing.assert_allclose(field(moved, t), field(theta, t + shift), atol=2e-3)


@pytest.mark.parametrize("scheme", ["learnit", "code"])
@pytest.mark.parametrize("hertz", [200.0, 800.0])
def test_a_random_first_layer_fills_the_band_and_ends_at_its_edge(hertz, scheme):
    total = 0
    for seed in range(8):
        field = net(hertz, width=256, scheme=scheme)
        theta = field.init(jax.random.key(seed))
        f, e = energy(waveform.play(field, theta, SIZE))
        total = total + e
    assert total[f > hertz + 3 / SECONDS].sum() < 1e-3 * total.sum()
    assert total[(f > hertz / 2) & (f <= hertz)].sum() > 0.15 * total.sum()


def test_stretching_time_and_raising_omega0_are_the_same():
    """Sitzmann's clips lie in [-100, 100] with omega0 = 30; ours in [0, 1] with a larger one."""
    near = fields.siren(16, 3, 30.0, 1, dims=1)
    far = fields.siren(16, 3, 3000.0, 1, dims=1, hidden_omega0=30.0)
    theta, t = near.init(jax.random.key(0)), waveform.times(200)
    np.testing.assert_allclose(near(theta, 100 * t), far(theta, t), atol=5e-3)


def test_the_same_field_is_a_sound_of_any_number_of_samples():
    field = net(200.0)
    theta = field.init(jax.random.key(1))
    fine, coarse = (waveform.play(field, theta, n) for n in (4 * SIZE, SIZE))
    np.testing.assert_allclose(fine[::4], coarse, atol=1e-5)


def test_the_loss_is_the_mean_squared_error_of_the_samples():
    field = net(200.0)
    theta = field.init(jax.random.key(2))
    t = waveform.sound_tasks(voices.load("test", size=SIZE, limit=2))
    problem = waveform.sound_problem(field)
    expected = np.mean((np.asarray(field(theta, t.shared)) - np.asarray(t.each[1])) ** 2)
    for loss in (problem.loss, problem.held_out):
        found = loss(theta, t.take(1), jax.random.key(0))
        assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("hertz", "seconds"), [(0, 1), (-5, 1), (5, 0), (math.nan, 1)])
def test_a_reach_that_is_none_is_refused(hertz, seconds):
    with pytest.raises(ValueError, match="expected numbers > 0"):
        waveform.reach(hertz, seconds)


def test_a_network_of_pictures_is_refused_by_name():
    recipe = Recipe(signals="voices", forward="waveform", size=64)
    with pytest.raises(ValueError, match=r"field\.dims = 2: expected 1"):
        functions(recipe)
    one = Recipe(signals="voices", forward="waveform", field=dict(recipe.field, dims=1, width=8))
    assert functions(one).field.spec["dims"] == 1


def test_a_step_towards_a_sound_lowers_its_loss():
    field = net(300.0, width=64, depth=3)
    theta = field.init(jax.random.key(3))
    task = waveform.sound_tasks(voices.load("test", size=SIZE, limit=1)).take(0)
    loss = tasks.regression(field)
    value, slope = jax.value_and_grad(loss)(theta, task, jax.random.key(0))
    after = loss(jax.tree.map(lambda a, g: a - 1e-4 * g, theta, slope), task, jax.random.key(0))
    assert after < value
