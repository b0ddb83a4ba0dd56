"""A fit is Adam on the squared error, whatever shares its program; sizes and choices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learnit_utils import fields, metrics
from learnit_utils.experiments import fitting
from learnit_utils.experiments.protocol import Pieces
from learnit_utils.forward import pixels

GRID = pixels.grid(6)
X = GRID.reshape(-1, 2)
NETWORKS = [
    fields.siren(8, 4, 45.0),
    fields.siren(8, 3, 30.0, hidden_omega0=10.0, scheme="code"),
    fields.relu(8, 4),
    fields.fourier(8, 3, sigma=3.0, features=5),
    fields.posenc(8, 3, frequencies=3, offset=0.25),
]


def names(field):
    return field.spec["kind"]


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(0).uniform(size=(6, 6, 3)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("field", NETWORKS, ids=names)
def test_predictions_are_those_of_the_field(field):
    theta = field.init(jax.random.key(1))
    found = fitting.predict(field, theta, GRID)
    np.testing.assert_allclose(found, field(theta, GRID), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("field", [NETWORKS[1], NETWORKS[3]], ids=names)
def test_a_fit_is_adam_on_the_squared_error(field, picture):
    y, lrs = jnp.asarray(picture.reshape(-1, 3)), fitting.hold_then_fall(1e-3, 7)
    theta, adam = field.init(jax.random.key(1)), optax.adam(1.0)
    fit = fitting.fit(field, theta, X, y, lrs)

    @jax.jit
    def step(theta, state, lr):
        loss, grad = jax.value_and_grad(lambda t: metrics.mse(field(t, X), y))(theta)
        updates, state = adam.update(grad, state)
        return optax.apply_updates(theta, jax.tree.map(lambda u: u * lr, updates)), state, loss

    state, losses = adam.init(theta), []
    for lr in (*lrs, 0.0):
        theta, state, loss = step(theta, state, lr)
        losses.append(loss)
    np.testing.assert_allclose(fit.losses, losses, rtol=1e-4)
    np.testing.assert_allclose(fit(GRID), field(theta, GRID), atol=1e-4)


def test_psnr_is_that_of_the_last_weights(picture):
    field, y = NETWORKS[0], picture.reshape(-1, 3)
    fit = fitting.fit(field, field.init(jax.random.key(1)), X, y, fitting.hold_then_fall(1e-3, 5))
    assert fit.psnr == pytest.approx(fit.psnr_on(GRID, picture), abs=1e-4)
    assert fit.psnr == pytest.approx(metrics.decibel(fit.losses[-1]))


def test_no_step_leaves_the_weights(picture):
    field, y = NETWORKS[2], picture.reshape(-1, 3)
    theta = field.init(jax.random.key(1))
    fit = fitting.fit(field, theta, X, y, np.zeros(0, np.float32))
    jax.tree.map(np.testing.assert_array_equal, fit.theta, theta)
    assert fit.losses.shape == (1,)


@pytest.mark.parametrize("field", [fields.siren(8, 3, head="sigmoid"), None], ids=["head", "kind"])
def test_other_fields_are_refused(field):
    field = field or fields.Field(lambda key: [], lambda theta, x: x, None, None)
    with pytest.raises(ValueError, match="expected one of siren"):
        fitting.fit(field, [], X, X, fitting.hold_then_fall(1.0, 5))


def test_omega0_needs_no_program_of_its_own(picture):
    y, lrs = picture.reshape(-1, 3), fitting.hold_then_fall(1e-3, 5)
    before = fitting._descend._cache_size()
    for omega0 in (11.0, 12.0, 13.0):
        field = fields.siren(7, 3, omega0)
        fitting.fit(field, field.init(jax.random.key(1)), X, y, lrs)
    assert fitting._descend._cache_size() == before + 1


def test_step_sizes_hold_and_then_fall():
    found = fitting.hold_then_fall(0.5, 10)
    np.testing.assert_allclose(found, [0.5] * 9 + [0.25])
    schedule = optax.linear_schedule(0.3, 0.0, 50, 200)(jnp.arange(250))
    np.testing.assert_allclose(fitting.hold_then_fall(0.3, 250), schedule, rtol=1e-5)
    np.testing.assert_allclose(fitting.hold_then_fall(0.3, 2), [0.3, 0.3], rtol=1e-6)


def test_a_sweep_is_every_pair_from_one_draw(picture):
    networks = {w: fields.siren(8, 3, w) for w in (10.0, 20.0)}
    y = picture.reshape(-1, 3)
    found = fitting.sweep(networks, [1e-3, 1e-2], 5, X, y, jax.random.key(2))
    assert list(found) == [(10.0, 1e-3), (10.0, 1e-2), (20.0, 1e-3), (20.0, 1e-2)]
    first = {knob: fit.losses[0] for (knob, _), fit in found.items()}
    theta = networks[10.0].init(jax.random.key(2))
    error = np.asarray(networks[10.0](theta, X)) - y
    assert first[10.0] == pytest.approx(np.mean(error**2), 1e-5)
    assert found[10.0, 1e-3].losses[0] == found[10.0, 1e-2].losses[0]


def test_a_kept_sweep_is_the_psnr_of_a_sweep(picture):
    networks = {w: fields.siren(8, 3, w) for w in (10.0, 20.0)}
    how = ([1e-3, 1e30], 5, X, picture.reshape(-1, 3), jax.random.key(2))
    found = fitting.kept_sweep(Pieces(), "SIREN", networks, *how)
    for pair, fit in fitting.sweep(networks, *how).items():
        np.testing.assert_allclose(found[pair], fit.psnr, atol=1e-4)
    assert np.isnan(found[10.0, 1e30])


def test_a_diverged_fit_is_not_the_best():
    assert fitting.best({"a": 10.0, "b": np.nan, "c": 20.0}) == "c"
    assert fitting.best({"a": np.nan, "b": -300.0, "c": -np.inf}) == "b"
    assert fitting.best({"a": 10.0, "b": np.inf}) == "b"  # a perfect fit
    with pytest.raises(ValueError, match="every fit diverges: a, b"):
        fitting.best({"a": np.nan, "b": -np.inf})


def test_the_edge_of_what_was_tried():
    assert fitting.at_edge(1, [1, 2, 3])
    assert fitting.at_edge(3, [1, 2, 3])
    assert not fitting.at_edge(2, [1, 2, 3])
    assert not fitting.at_edge(1, [1])


@pytest.mark.parametrize("field", NETWORKS, ids=names)
def test_parameters_are_counted_without_drawing_them(field):
    assert fitting.parameters(field) == fields.count(field.init(jax.random.key(0)))


def test_the_widest_network_within_a_budget():
    def make(width):
        return fields.relu(width, 4)

    budget = fitting.parameters(make(9))
    assert fitting.widest(make, budget).spec["width"] == 9
    assert fitting.widest(make, budget - 1).spec["width"] == 8
    assert fitting.widest(make, 10**6, largest=20).spec["width"] == 20
    with pytest.raises(ValueError, match="budget = 3: expected at least"):
        fitting.widest(make, 3)
