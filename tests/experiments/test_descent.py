"""The rules of chapter 11, as they stand in the page, are those of optax and do what it says."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import fields, tasks
from learnit_utils.experiments import descent
from learnit_utils.forward import pixels


def rules_of_the_page():
    """The functions of the cell `rules`, as readers see them."""
    cells = json.loads((ROOT / "notebooks/11_optimizers.ipynb").read_text("utf8"))["cells"]
    (source,) = ("".join(c["source"]) for c in cells if c["id"] == "rules")
    found = {"jnp": jnp}
    exec(source, found)
    return found


RULES = rules_of_the_page()


def descend(g, m, v, t):
    return g, m, v


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**31),
    steps=st.integers(1, 40),
    beta1=st.floats(0, 0.99),
    beta2=st.floats(0, 0.9999),
    size=st.floats(-4, 3),
)
def test_the_rules_are_those_of_optax(seed, steps, beta1, beta2, size):
    """To 1e-7 of the largest step, in double precision."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        gradients = jnp.asarray(rng.normal(size=(steps, 5)) * 10**size)
        pairs = [
            (lambda *a: RULES["momentum"](*a, beta1=beta1), optax.trace(beta1)),
            (lambda *a: RULES["rmsprop"](*a, beta2=beta2), optax.scale_by_rms(beta2)),
            (
                lambda *a: RULES["adam"](*a, beta1=beta1, beta2=beta2),
                optax.scale_by_adam(beta1, beta2),
            ),
        ]
        for rule, transform in pairs:
            state = transform.init(gradients[0])
            largest = 1.0
            for g in gradients:
                step, state = transform.update(g, state)
                largest = max(largest, float(jnp.abs(step).max()))
            assert descent.gap(rule, transform, gradients) <= 1e-7 * largest


def test_another_rule_is_told_apart():
    gradients = jnp.ones((3, 2))
    assert descent.gap(RULES["adam"], optax.scale_by_adam(0.8), jnp.array([[1.0], [-2.0]])) > 0.01
    assert descent.gap(descend, optax.trace(0.5), gradients) == pytest.approx(0.75)


@given(g=st.floats(1e-3, 1e3), sign=st.sampled_from([-1, 1]))
def test_the_first_step_of_adam_is_the_sign_of_the_gradient(g, sign):
    zero = jnp.zeros(1)
    step, _, _ = RULES["adam"](jnp.array([sign * g]), zero, zero, 1)
    np.testing.assert_allclose(step, [sign], rtol=1e-4)


@given(beta2=st.floats(0.5, 0.9999))
def test_without_correction_it_is_too_long_by_the_ratio_of_the_page(beta2):
    zero = jnp.zeros(1)
    step, _, _ = RULES["adam"](jnp.ones(1), zero, zero, 1, beta2=beta2, correct=False)
    np.testing.assert_allclose(step, [0.1 / np.sqrt(1 - beta2)], rtol=1e-3)


def test_a_walk_of_plain_descent_has_a_closed_form():
    _, grad = descent.ravine(10.0)
    path = descent.walk(descend, grad, jnp.array([1.0, -2.0]), 0.05, 7)
    k = np.arange(8)[:, None]
    np.testing.assert_allclose(path, [1.0, -2.0] * (1 - 0.05 * np.array([1, 10.0])) ** k, rtol=1e-5)


def test_the_best_walk_ends_lowest_and_says_if_it_is_at_an_edge():
    lrs = [0.01, 0.1, 0.3]
    best = descent.best_walk(descend, 10.0, (1.0, 1.0), lrs, 20)
    loss, grad = descent.ravine(10.0)
    ends = [float(loss(descent.walk(descend, grad, jnp.ones(2), lr, 20)[-1])) for lr in lrs]
    assert best.lr == pytest.approx(lrs[int(np.argmin(ends))])
    assert best.lr == pytest.approx(0.1)  # 0.3 diverges
    assert not best.at_edge
    assert descent.best_walk(descend, 10.0, (1.0, 1.0), lrs[:2], 20).at_edge


def test_where_every_walk_diverges_none_is_best():
    with pytest.raises(ValueError, match=r"every step size diverges: 1e\+06, 1e\+07"):
        descent.best_walk(descend, 10.0, (1.0, 1.0), (1e6, 1e7), 40)


def test_momentum_goes_further_through_a_ravine_than_descent():
    lrs = np.geomspace(1e-3, 1, 40)
    ends = {
        name: descent.best_walk(rule, 30.0, (-1.0, 0.8), lrs, 40).loss[-1]
        for name, rule in (("descent", descend), ("momentum", RULES["momentum"]))
    }
    assert ends["momentum"] < ends["descent"]


def test_adam_with_a_short_memory_ends_at_the_worst_point():
    def adam(beta2):
        return lambda *a: RULES["adam"](*a, beta1=0.0, beta2=beta2)

    assert descent.reddi_walk(adam(1 / 5), 4.0, 0.5, 2000)[-1] > 0.9
    long = descent.reddi_walk(adam(0.999), 4.0, 0.5, 2000)
    assert long[-1] < 0
    assert np.abs(long).max() <= 1


FIELD = fields.siren(6, 3, 10.0, 1)
IMAGES = pixels.image_tasks(np.random.default_rng(0).random((2, 6, 6, 1)).astype(np.float32))


def test_adam_moves_every_weight_alike_at_first():
    theta, loss = FIELD.init(jax.random.key(0)), tasks.regression(FIELD)
    seen = descent.watch(RULES["adam"], loss, theta, IMAGES.take(0), 0.01, (1, 3))
    moved = seen[1].gradient > 1e-5
    np.testing.assert_allclose(seen[1].step[moved], 0.01, rtol=1e-2)
    assert sorted(set(seen[1].layer)) == list(range(6))
    gradient, step = descent.spreads(seen)[1]
    assert gradient > step


def test_tuned_curves_take_the_best_step_size_of_validation():
    theta, loss = FIELD.init(jax.random.key(0)), tasks.regression(FIELD)
    adam = RULES["adam"]
    lr, psnr = descent.tuned_curves(
        {"adam": adam}, loss, theta, IMAGES.take(slice(1)), IMAGES, [1e-6, 1e-2], 8
    )["adam"]
    assert lr == pytest.approx(1e-2)
    assert psnr.shape == (9,)
    assert psnr[-1] > psnr[0]
