"""The core: tasks, inner loops and outer directions obey their closed forms."""

import dataclasses
import re
from functools import cache

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnit_utils import fields, inner, outer, tasks, train
from learnit_utils.experiments import flops
from learnit_utils.forward import pixels
from learnit_utils.inner import Init
from learnit_utils.signals.base import dataset
from learnit_utils.tasks import Tasks

SEEDS = (1, 2, 3)
FIELD = fields.siren(width=11, depth=2, omega0=5.0, channels=2)
LOSS = tasks.regression(FIELD)


def quadratic(theta, task, key):
    """L(theta) = (theta - c)' A (theta - c) / 2, where a task is (A, c)."""
    del key
    a, c = task.each
    return 0.5 * (theta - c) @ a @ (theta - c)


def bowls(seed, count=3, dims=4):
    """Random quadratics with eigenvalues in (0, about 2)."""
    r = np.random.default_rng(seed)
    b = r.normal(size=(count, dims, dims)) / np.sqrt(dims)
    return Tasks((jnp.asarray(b @ b.transpose(0, 2, 1)), jnp.asarray(r.normal(size=(count, dims)))))


def siren_problem(seed, points=37, count=3, dtype=jnp.float32, field=FIELD):
    """Weights of a small SIREN, and random signals."""
    key_x, key_y, key_theta = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.uniform(key_x, (points, 2), dtype)
    y = jax.random.uniform(key_y, (count, points, 2), dtype)
    return jax.tree.map(lambda t: t.astype(dtype), field.init(key_theta)), Tasks(y, x)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def close(a, b, rtol=1e-6):
    """Two pytrees agree, relative to the largest entry of each array."""
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(u, v, rtol=0, atol=rtol * max(float(np.abs(v).max()), 1e-30))


# One program for all seeds.
gradient, loss_of = jax.jit(jax.value_and_grad(LOSS)), jax.jit(LOSS)


@cache
def adapted(steps=3, lr=0.1):
    return jax.jit(inner.sgd(LOSS, steps, lr))


@cache
def direction(method, steps=3, lr=0.1, batching="scan"):
    """`step` of a method on plain descent."""
    return jax.jit(outer.METHODS[method](LOSS, inner.sgd(LOSS, steps, lr), batching).step)


# --- tasks ----------------------------------------------------------------------------------
@given(st.integers(1, 6), st.integers(-9, 9))
def test_an_index_of_no_task_is_refused_and_not_taken_for_the_last(count, index):
    many = Tasks(jnp.arange(count))
    if -count <= index < count:
        assert int(many.take(index).each) == range(count)[index]
        assert many.take(np.array([index])).each.tolist() == [range(count)[index]]
        return
    for wrong in (index, np.array([0, index]), jnp.array([index])):
        with pytest.raises(IndexError, match=f"^task {index}: expected an index below {count}, "):
            many.take(wrong)


def test_tasks_are_taken_by_what_arrays_are_taken_by():
    many = Tasks(jnp.arange(5), "shared")
    assert many.take(slice(1, 9)).each.tolist() == [1, 2, 3, 4]
    assert many.take(np.array([], int)).count == 0
    assert many.take(np.arange(5) > 2).each.tolist() == [3, 4]
    assert jax.jit(lambda i: many.take(i).each)(3) == 3
    assert many.take(2) == (2, "shared")


def test_one_task_is_no_tasks():
    """The leading axis of a picture's pixels is no number of tasks."""
    many = Tasks(jnp.zeros((4, 64, 1)))
    one = many.take(0)
    with pytest.raises(TypeError, match="one task has no count"):
        _ = one.count
    with pytest.raises(TypeError, match="one task has no count"):
        train.run(direction_of_pixels(), jnp.zeros(1), one, optax.sgd(1e-3), 2)
    again = jax.tree.map(lambda leaf: leaf + 1, one)
    assert type(again) is type(one) is tasks.Task
    assert type(one._replace(each=0)) is tasks.Task
    assert many.take(slice(0, 1)).count == 1


def direction_of_pixels():
    """A direction that takes any numbers for a task."""

    def loss(theta, task, key):
        return jnp.sum((theta - task.each) ** 2)

    return outer.maml(loss, inner.sgd(loss, 1, 1e-2))


@pytest.mark.parametrize("of", [lambda u: dataset(u, ["a", "b"]), lambda u: u])
def test_a_picture_becomes_its_pixels_at_their_coordinates(rng, of):
    pictures = rng.uniform(size=(2, 5, 7, 3)).astype(np.float32)
    made = pixels.image_tasks(of(pictures))
    assert made.count == 2
    assert made.shared.shape == (35, 2)
    row, column = 3, 4
    at = row * 7 + column
    np.testing.assert_allclose(made.shared[at], (row / 5, column / 7), atol=1e-7)
    np.testing.assert_array_equal(made.each[1, at], pictures[1, row, column])
    assert made.take(1).each.shape == (35, 3)
    assert made.take(jnp.array([1, 0, 1])).each.shape == (3, 35, 3)


@pytest.mark.slow
def test_regression_is_the_mean_squared_error_of_what_is_measured():
    theta, many = siren_problem(0)
    one = many.take(0)
    expected = np.mean((np.asarray(FIELD(theta, one.shared)) - np.asarray(one.each)) ** 2)
    np.testing.assert_allclose(LOSS(theta, one, jax.random.key(0)), expected, rtol=1e-6)

    def first_half(f, task, key):
        half = len(task.shared) // 2
        return f(task.shared[:half]), task.each[:half]

    half = tasks.regression(FIELD, first_half)
    got = half(theta, one, jax.random.key(0))
    expected = np.mean((np.asarray(FIELD(theta, one.shared[:18])) - np.asarray(one.each[:18])) ** 2)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_on_support_measures_only_what_is_given(rng):
    """`Split.query` may hold anything, and changes nothing."""
    theta, many = siren_problem(0)
    split = Tasks(tasks.Split(many.each, jnp.full((3, 2), jnp.nan)), many.shared)
    loss = tasks.regression(FIELD, tasks.on_support(tasks.all_points))
    for i in range(3):
        got, expected = (
            f(theta, m.take(i), jax.random.key(0)) for f, m in ((loss, split), (LOSS, many))
        )
        assert got == expected


@pytest.mark.parametrize(
    ("count", "wanted", "index"),
    [
        (19, 10, [0, 1, 3, 5, 7, 9, 11, 13, 15, 17]),
        (20, 10, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (3, 10, [0, 1, 2]),
        (7, 7, [0, 1, 2, 3, 4, 5, 6]),
        (7, 1, [0]),
        (5, 0, []),
    ],
)
def test_a_subset_is_spread_evenly_over_all_tasks(count, wanted, index):
    few = tasks.subset(Tasks(dict(a=jnp.arange(count), b=jnp.ones((count, 2))), "shared"), wanted)
    assert few.each["a"].tolist() == index
    assert few.each["b"].shape == (len(index), 2)
    assert few.shared == "shared"


@pytest.mark.parametrize(("count", "wanted"), [(19, 10), (100, 40), (200, 7), (997, 61)])
def test_gaps_of_a_subset_differ_by_at_most_one(count, wanted):
    index = np.asarray(tasks.subset(Tasks(np.arange(count)), wanted).each)
    gaps = np.diff([*index, count])
    assert len(index) == wanted
    assert index[0] == 0
    assert set(gaps) == {count // wanted, count // wanted + 1}


def pulls(theta, task):
    """The norm of every point's gradient with respect to the last layer, one point at a time."""

    def of_last(last, x, y):
        return jnp.sum((FIELD([*theta[:-1], last], x) - y) ** 2)

    g = jax.vmap(jax.grad(of_last), (None, 0, 0))(theta[-1], task.shared, task.each)
    flat = [np.asarray(leaf).reshape(len(task.shared), -1) for leaf in jax.tree.leaves(g)]
    return np.linalg.norm(np.concatenate(flat, axis=1), axis=1)


@cache
def pruned(fraction):
    return jax.jit(jax.value_and_grad(tasks.context_pruned(FIELD, LOSS, fraction)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.6])
def test_the_hardest_points_are_those_with_the_largest_gradients(seed, fraction):
    theta, many = siren_problem(seed)
    task, key = many.take(0), jax.random.key(1)
    chosen = np.argsort(pulls(theta, task))[::-1][: round(fraction * 37)]
    few = Tasks(task.each[chosen], task.shared[chosen])
    got, ours = pruned(fraction)(theta, task, key)
    expected, theirs = gradient(theta, few, key)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    close(ours, theirs, 1e-5)  # the ranking is not differentiated
    assert got > LOSS(theta, task, key)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_points_are_the_loss_itself(seed):
    theta, many = siren_problem(seed)
    for i in range(many.count):
        args = (theta, many.take(i), jax.random.key(0))
        np.testing.assert_allclose(pruned(1.0)(*args)[0], LOSS(*args), rtol=1e-5)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, float("nan")])
def test_an_impossible_fraction_is_named(fraction):
    with pytest.raises(ValueError, match=rf"fraction = {fraction}: expected a number in \(0, 1\]"):
        tasks.context_pruned(FIELD, None, fraction)


@pytest.mark.parametrize("spec", [None, FIELD.spec | dict(head="sigmoid")])
def test_pruning_is_refused_where_its_ranking_would_not_hold(spec):
    """The gradient of a sigmoid's last layer has its slope in it."""
    field = dataclasses.replace(FIELD, spec=spec)
    with pytest.raises(ValueError, match="of the field: expected linear, which the ranking is of"):
        tasks.context_pruned(field, LOSS, 0.5)


@cache
def through_pruned_steps():
    """MAML's direction, and its value as a function of flat weights."""
    adapt = inner.sgd(tasks.context_pruned(FIELD, LOSS, 0.3), 2, 1e-2)
    maml = outer.maml(LOSS, adapt)
    back = jax.flatten_util.ravel_pytree(siren_problem(1, dtype=jnp.float64)[0])[1]
    return jax.jit(maml.step), jax.jit(lambda v, many: maml.losses(back(v), many, keys(3)).mean())


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_maml_through_pruned_steps_is_the_derivative(seed):
    """Against a central difference, with the ranking free to move."""
    with jax.enable_x64(True):
        theta, many = siren_problem(seed, dtype=jnp.float64)
        step, value = through_pruned_steps()
        flat = jax.flatten_util.ravel_pytree(theta)[0]
        way = jnp.asarray(np.random.default_rng(seed).normal(size=flat.shape))
        h = 1e-6
        slope = (value(flat + h * way, many) - value(flat - h * way, many)) / (2 * h)
        g, _ = jax.flatten_util.ravel_pytree(step(theta, many, keys(3))[1])
        np.testing.assert_allclose(g @ way, slope, rtol=1e-6)


# --- inner ----------------------------------------------------------------------------------
def test_an_init_is_one_and_bare_weights_are_one_without_step_sizes():
    theta, _ = siren_problem(0)
    rated = inner.with_step_sizes(theta, 2, 0.1)
    assert Init.of(rated) is rated
    bare = Init.of(theta)
    assert bare.theta is theta
    assert bare.step_sizes is None
    assert Init.of(bare) is bare


@pytest.mark.parametrize("seed", SEEDS)
def test_descent_on_a_quadratic_has_its_closed_form(seed):
    """theta_K - c = (I - lr A)^K (theta_0 - c)."""
    with jax.enable_x64(True):
        many, lr, steps = bowls(seed), 0.3, 5
        theta = jnp.arange(4.0)
        end, losses = inner.sgd(quadratic, steps, lr)(theta, many.take(0), jax.random.key(0))
        a, c = many.take(0).each
        shrink = np.eye(4) - lr * np.asarray(a)
        d = np.asarray(theta - c)
        for k in range(steps):
            np.testing.assert_allclose(losses[k], 0.5 * d @ np.asarray(a) @ d, rtol=1e-12)
            d = shrink @ d
        np.testing.assert_allclose(end - c, d, rtol=1e-12)


@pytest.mark.parametrize(
    "build", [inner.sgd, lambda f, k, lr: inner.with_optimizer(f, k, optax.sgd(lr))]
)
def test_no_steps_change_nothing(build):
    theta, many = siren_problem(0)
    end, losses = build(LOSS, 0, 0.1)(theta, many.take(0), jax.random.key(0))
    close(end, theta, 0)
    assert losses.shape == (0,)


def by_hand(theta, task, key):
    for _ in range(5):
        grad = jax.grad(LOSS)(theta, task, key)
        theta = jax.tree.map(lambda t, g: t - 0.1 * g, theta, grad)
    return LOSS(theta, task, key)


@cache
def through_steps(keep_last):
    """Value and gradient of the loss after 5 steps; "by hand" is the loop written out."""
    if keep_last == "by hand":
        return jax.jit(jax.value_and_grad(by_hand))
    adapt = inner.sgd(LOSS, 5, 0.1, keep_last=keep_last)
    return jax.jit(jax.value_and_grad(lambda t, task, key: LOSS(adapt(t, task, key)[0], task, key)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("keep_last", [None, 0, 1, 3, 9])
def test_recomputing_activations_changes_no_gradient(seed, keep_last):
    """Rematerialised = kept = unrolled by hand, values and gradients, to 1e-6."""
    theta, many = siren_problem(seed)
    args = (theta, many.take(0), jax.random.key(0))
    close(through_steps(keep_last)(*args), through_steps("by hand")(*args), 1e-6)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_steps():
    def loss(theta, task, key):
        return jnp.mean((jnp.tanh(task.shared @ theta) - task.each) ** 2)

    theta, many = jnp.ones((2, 11)), Tasks(jnp.ones((3, 2000, 11)), jnp.ones((2000, 2)))

    def peak(adapt, init):
        step = outer.maml(loss, adapt, "scan").step
        return flops.peak_bytes(jax.jit(step).lower(init, many, keys(3)).compile())

    def plain(steps, keep_last):
        return peak(inner.sgd(loss, steps, 0.1, keep_last=keep_last), theta)

    assert plain(32, 2) < 1.15 * plain(8, 2)
    assert plain(32, None) > 2.5 * plain(8, None)

    def with_step_sizes(steps):
        init = inner.with_step_sizes(theta, steps, 0.1, "layer_step")
        return peak(inner.meta_sgd(loss, steps), init)

    assert with_step_sizes(32) < 1.15 * with_step_sizes(8)


def test_sgd_is_the_optax_transform_of_that_name():
    theta, many = siren_problem(4)
    ours = adapted()(theta, many.take(0), jax.random.key(0))
    theirs = jax.jit(inner.with_optimizer(LOSS, 3, optax.sgd(0.1)))
    close(ours, theirs(theta, many.take(0), jax.random.key(0)))


def adam_by_hand(theta, task, lr):
    optimizer = optax.adam(lr)
    state = optimizer.init(theta)
    for _ in range(3):
        _, grad = gradient(theta, task, jax.random.key(0))
        updates, state = optimizer.update(grad, state, theta)
        theta = optax.apply_updates(theta, updates)
    return theta


def test_an_optimizer_with_memory_starts_fresh_for_every_task():
    theta, many = siren_problem(5)
    adapt = jax.jit(inner.with_optimizer(LOSS, 3, optax.adam(1e-2)))
    for i in (1, 2):
        end, _ = adapt(theta, many.take(i), jax.random.key(0))
        close(end, adam_by_hand(theta, many.take(i), 1e-2), 1e-5)


def test_the_factor_on_updates_is_a_step_size_and_one_program_serves_all():
    theta, many = siren_problem(5)
    traced = []

    @jax.jit
    def scaled(theta, task, key, lr):
        traced.append(lr)
        return inner.with_optimizer(LOSS, 3, optax.adam(1.0), lr=lr)(theta, task, key)

    for lr in (1e-4, 1e-3, 1e-2):
        end, _ = scaled(theta, many.take(0), jax.random.key(0), lr)
        close(end, adam_by_hand(theta, many.take(0), lr), 1e-5)
    assert len(traced) == 1
    end, losses = scaled(theta, many.take(0), jax.random.key(0), 0.0)
    close(end, theta, 0)
    assert len(set(losses.tolist())) == 1


@pytest.mark.parametrize("per", inner.PER)
def test_learned_step_sizes_that_are_all_equal_are_plain_descent(per):
    theta, many = siren_problem(6)
    init = inner.with_step_sizes(theta, 3, 0.1, per)
    ours = jax.jit(inner.meta_sgd(LOSS, 3))(init, many.take(0), jax.random.key(0))
    close(ours, adapted()(theta, many.take(0), jax.random.key(0)))


def test_the_last_learned_step_sizes_are_used_again():
    theta, many = siren_problem(6)
    init = inner.with_step_sizes(theta, 2, 0.1, "layer_step")
    sizes = jax.tree.map(
        lambda r: r * jnp.array([1.0, 3.0]).reshape(-1, *[1] * (r.ndim - 1)), init.step_sizes
    )
    longer = jax.tree.map(lambda r: r[jnp.array([0, 1, 1, 1])], sizes)
    adapt = jax.jit(inner.meta_sgd(LOSS, 4))
    one, other = (adapt(Init(theta, r), many.take(0), jax.random.key(0)) for r in (sizes, longer))
    close(one, other)


@pytest.mark.parametrize("per", inner.PER)
def test_the_gradient_of_a_step_size_is_minus_the_product_of_two_gradients(per):
    """K = 1: dL(theta - r g)/dr = -g * grad L(theta_1), summed over what shares a step size."""
    theta, many = siren_problem(7)
    key = jax.random.split(jax.random.key(0))[0]
    init = inner.with_step_sizes(theta, 1, 0.1, per)
    step = jax.jit(outer.maml(LOSS, inner.meta_sgd(LOSS, 1)).step)
    grad = step(init, many.take(slice(1)), keys(1))[1]
    _, g = gradient(theta, many.take(0), key)
    end = jax.tree.map(lambda t, g: t - 0.1 * g, theta, g)
    _, after = gradient(end, many.take(0), key)
    expected = jax.tree.map(lambda a, b: -(a * b)[None], g, after)
    if per == "layer_step":
        expected = jax.tree.map(lambda e: e.sum().reshape((1,) * e.ndim), expected)
    close(grad.step_sizes, expected, 1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inner.sgd(quadratic, -1, 0.1), "steps = -1: expected an integer >= 0"),
        (lambda: inner.sgd(quadratic, 1, float("nan")), "lr = nan: expected a finite number"),
        (
            lambda: inner.sgd(quadratic, 1, 0.1, keep_last=-2),
            "keep_last = -2: expected an integer >= 0, or None for all",
        ),
        (lambda: inner.with_step_sizes([], 0, 0.1), "steps = 0: expected an integer >= 1"),
        (
            lambda: inner.with_step_sizes([], 1, 0.1, "task"),
            "per = 'task': expected one of layer_step, parameter, parameter_step",
        ),
        (
            lambda: inner.meta_sgd(quadratic, 1)(jnp.zeros(4), None, jax.random.key(0)),
            "meta_sgd: expected an Init with step sizes (inner.with_step_sizes)",
        ),
        (
            lambda: outer.maml(quadratic, None, "pmap"),
            "batching = 'pmap': expected one of auto, scan, vmap",
        ),
    ],
)
def test_impossible_settings_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize("method", ["fomaml", "reptile"])
def test_first_order_methods_refuse_learned_step_sizes(method):
    theta, many = siren_problem(0)
    init = inner.with_step_sizes(theta, 2, 0.1)
    make = outer.METHODS[method]
    with pytest.raises(ValueError, match=f"{method}: learned step sizes need maml"):
        jax.eval_shape(make(LOSS, inner.meta_sgd(LOSS, 2)).step, init, many, keys(3))
    with pytest.raises(ValueError, match=f"{method}: learned step sizes need maml"):
        jax.eval_shape(make(LOSS, inner.sgd(LOSS, 2, 0.1)).step, init, many, keys(3))


# --- outer ----------------------------------------------------------------------------------
STEPS_AND_LR = [(0, 0.1), (1, 0.4), (2, 0.25), (3, 0.01), (4, 0.3), (5, 0.17)]


def parabola(theta, task, key):
    """L = c theta^2 / 2."""
    return 0.5 * task.each * theta**2


@pytest.mark.parametrize(("steps", "lr"), STEPS_AND_LR)
def test_maml_is_exact_on_a_parabola(rng, steps, lr):
    """L(theta_K) = c (1 - lr c)^2K theta^2 / 2, and its derivatives."""
    theta, curvature = rng.uniform(-2, 2, 100), rng.uniform(0.1, 2, 100)
    theta[:5], curvature[:5] = (0, 2, -2, 2, -2), (1, 0.1, 2, 2, 0.1)
    shrink = 1 - lr * curvature
    expected = {
        "maml": curvature * shrink ** (2 * steps) * theta,
        "fomaml": curvature * shrink**steps * theta,
        "reptile": (1 - shrink**steps) * theta,
    }
    for name, make in outer.METHODS.items():
        grad = make(parabola, inner.sgd(parabola, steps, lr))
        one = jax.jit(jax.vmap(lambda t, c, grad=grad: grad(t, Tasks(c[None]), keys(1))))
        value, towards = one(jnp.float32(theta), jnp.float32(curvature))
        after = curvature * (shrink**steps * theta) ** 2 / 2
        np.testing.assert_allclose(value[:, 0], after, atol=1e-5)
        np.testing.assert_allclose(towards, expected[name], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(("steps", "lr"), STEPS_AND_LR)
def test_maml_is_exact_on_quadratics(steps, lr):
    """grad = mean over tasks of M' A M (theta - c), with M = (I - lr A)^K."""
    with jax.enable_x64(True):
        step = jax.jit(outer.maml(quadratic, inner.sgd(quadratic, steps, lr)).step)
        theta = jnp.linspace(-1.0, 1.0, 4)
        for seed in range(20):
            many = bowls(seed)
            terms = []
            for a, c in zip(*(np.asarray(leaf) for leaf in many.each)):
                m = np.linalg.matrix_power(np.eye(4) - lr * a, steps)
                terms.append(m.T @ a @ m @ (np.asarray(theta) - c))
            _, grad = step(theta, many, keys(3))
            np.testing.assert_allclose(grad, np.mean(terms, axis=0), rtol=1e-9, atol=1e-12)


@cache
def in_float64(with_step_sizes):
    """An init's flat weights, MAML's direction and its value as functions of them."""
    adapt = inner.meta_sgd(LOSS, 3) if with_step_sizes else inner.sgd(LOSS, 3, 0.2)
    maml = outer.maml(LOSS, adapt)

    def init(theta):
        return inner.with_step_sizes(theta, 3, 0.2) if with_step_sizes else theta

    back = jax.flatten_util.ravel_pytree(init(siren_problem(1, dtype=jnp.float64)[0]))[1]
    value = jax.jit(lambda v, many: maml.losses(back(v), many, keys(3)).mean())
    return init, jax.jit(maml.step), value


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("with_step_sizes", [False, True])
def test_maml_agrees_with_finite_differences(seed, with_step_sizes):
    """Central differences in float64 along random directions: relative error <= 1e-5."""
    with jax.enable_x64(True):
        theta, many = siren_problem(seed, dtype=jnp.float64)
        init, step, value = in_float64(with_step_sizes)
        start = init(theta)
        flat = jax.flatten_util.ravel_pytree(start)[0]
        grad = jax.flatten_util.ravel_pytree(step(start, many, keys(3))[1])[0]
        r = np.random.default_rng(seed)
        for _ in range(5):
            d = r.normal(size=flat.shape)
            d /= np.linalg.norm(d)
            h = 1e-5
            slope = (value(flat + h * d, many) - value(flat - h * d, many)) / (2 * h)
            assert abs(slope - grad @ d) <= 1e-5 * np.linalg.norm(grad)


def test_maml_through_adam_agrees_with_finite_differences():
    """With an `eps_root`; without one its square root has no derivative at a gradient of 0."""
    with jax.enable_x64(True):
        theta, many = siren_problem(0, dtype=jnp.float64)
        adam = optax.adam(1e-2, eps_root=1e-8)
        maml = outer.maml(LOSS, inner.with_optimizer(LOSS, 2, adam))
        flat, back = jax.flatten_util.ravel_pytree(theta)
        value = jax.jit(lambda v: maml.losses(back(v), many, keys(3)).mean())
        grad = jax.flatten_util.ravel_pytree(jax.jit(maml.step)(theta, many, keys(3))[1])[0]
        d = np.random.default_rng(0).normal(size=flat.shape)
        d /= np.linalg.norm(d)
        slope = (value(flat + 1e-6 * d) - value(flat - 1e-6 * d)) / 2e-6
        assert abs(slope - grad @ d) <= 1e-5 * np.linalg.norm(grad)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_step_of_reptile_is_a_step_of_sgd_on_the_mean_loss(seed):
    theta, many = siren_problem(seed)
    _, towards = direction("reptile", 1)(theta, many, keys(3))
    key = jax.random.key(0)
    grads = [gradient(theta, many.take(i), jax.random.clone(key))[1] for i in range(3)]
    close(towards, jax.tree.map(lambda *g: 0.1 * sum(g) / 3, *grads), 1e-5)


def test_maml_without_inner_steps_is_the_ordinary_gradient():
    theta, many = siren_problem(8)
    losses, towards = direction("maml", 0)(theta, many, keys(3))
    close((losses, towards), direction("fomaml", 0)(theta, many, keys(3)))
    each = [gradient(theta, many.take(i), jax.random.key(0)) for i in range(3)]
    close(losses, np.stack([value for value, _ in each]))
    close(towards, jax.tree.map(lambda *g: sum(g) / 3, *[g for _, g in each]))


def test_fomaml_is_maml_that_does_not_look_into_the_inner_gradients():
    theta, many = siren_problem(9)
    blind = optax.chain(optax.stateless(lambda u, p: jax.lax.stop_gradient(u)), optax.sgd(0.1))
    first = direction("fomaml")(theta, many, keys(3))
    second = jax.jit(outer.maml(LOSS, inner.with_optimizer(LOSS, 3, blind)).step)
    close(first, second(theta, many, keys(3)), 1e-5)


@pytest.mark.slow
def test_to_second_order_in_the_step_size_maml_lacks_k_hessians():
    """MAML - FOMAML = -K lr H grad L + O(lr^2): what Nichol et al. 2018, section 5.1, expand."""
    with jax.enable_x64(True):
        theta, many = siren_problem(3, count=1, dtype=jnp.float64)
        lr, steps, task = 1e-6, 3, many.take(0)
        maml = direction("maml", steps, lr)(theta, many, keys(1))[1]
        fomaml = direction("fomaml", steps, lr)(theta, many, keys(1))[1]

        def grad(t):
            return jax.grad(LOSS)(t, task, jax.random.key(0))

        hg = jax.jit(lambda t: jax.jvp(grad, (t,), (grad(t),))[1])(theta)
        expected = jax.tree.map(lambda h: -steps * lr * h, hg)
        close(jax.tree.map(jnp.subtract, maml, fomaml), expected, 2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("method", outer.METHODS)
def test_tasks_in_turn_and_at_once_agree(method):
    theta, many = siren_problem(10)
    one, other = (direction(method, batching=b)(theta, many, keys(3)) for b in ("scan", "vmap"))
    close(one, other, 1e-6)
    grad = outer.METHODS[method](LOSS, inner.sgd(LOSS, 3, 0.1))
    close(jax.jit(grad.losses)(theta, many, keys(3)), one[0])


@pytest.mark.slow
@pytest.mark.parametrize("method", outer.METHODS)
def test_an_init_without_step_sizes_is_its_bare_weights(method):
    """The same numbers, of the same structure as what was given."""
    theta, many = siren_problem(12)
    losses, towards = direction(method, 1)(theta, many, keys(3))
    theirs, wrapped = direction(method, 1)(Init(theta), many, keys(3))
    assert isinstance(wrapped, Init)
    assert wrapped.step_sizes is None
    assert jax.tree.structure(towards) == jax.tree.structure(theta)
    close((losses, towards), (theirs, wrapped.theta), 0)


@pytest.mark.parametrize(
    "build", [inner.sgd, lambda f, k, lr: inner.with_optimizer(f, k, optax.sgd(lr))]
)
def test_inner_loops_take_an_init_as_its_weights(build):
    """Learned step sizes are those of `meta_sgd` alone."""
    theta, many = siren_problem(12)
    adapt = jax.jit(build(LOSS, 2, 0.1))
    ours = adapt(theta, many.take(0), jax.random.key(0))
    for init in (Init(theta), inner.with_step_sizes(theta, 2, 0.3)):
        close(adapt(init, many.take(0), jax.random.key(0)), ours, 0)


@pytest.mark.parametrize("method", outer.METHODS)
def test_every_method_reports_the_loss_after_adaptation(method):
    theta, many = siren_problem(11)
    values, _ = direction(method)(theta, many, keys(3))
    ends = [adapted()(theta, many.take(i), jax.random.key(0))[0] for i in range(3)]
    expected = [LOSS(t, many.take(i), jax.random.key(0)) for i, t in enumerate(ends)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize(("resample", "draws"), [(True, 3), (False, 1)])
def test_losses_that_draw_at_random_get_a_fresh_key_for_every_step_and_task(resample, draws):
    """With `resample`; without, the steps of a task share one."""
    seen = []

    def loss(theta, task, key):
        jax.debug.callback(lambda k: seen.append(k.tobytes()), jax.random.key_data(key))
        return 0.5 * jnp.sum((theta - task.each) ** 2)

    adapt = inner.sgd(loss, 3, 0.1, keep_last=None, resample=resample)
    outer.reptile(loss, adapt, "scan").step(jnp.zeros(2), Tasks(jnp.ones((4, 2))), keys(4))
    jax.effects_barrier()
    assert len(seen) == 4 * (3 + 1)
    assert len(set(seen)) == 4 * (draws + 1)
