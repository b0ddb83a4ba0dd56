"""The core: tasks, inner loops and outer directions obey their closed forms."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import cost, fields, inner, outer, tasks
from learnit_utils.signals.base import dataset

SEEDS = (1, 2, 3)


def quadratic(theta, task, key):
    """L(theta) = (theta - c)' A (theta - c) / 2, where a task is (A, c)."""
    del key
    a, c = task.each
    return 0.5 * (theta - c) @ a @ (theta - c)


def bowls(seed, count=3, dims=4):
    """Random quadratics with eigenvalues in (0, about 2)."""
    r = np.random.default_rng(seed)
    b = r.normal(size=(count, dims, dims)) / np.sqrt(dims)
    return tasks.Tasks(
        (jnp.asarray(b @ b.transpose(0, 2, 1)), jnp.asarray(r.normal(size=(count, dims))))
    )


def siren_problem(seed, points=37, count=3, dtype=jnp.float32):
    """A small SIREN on random signals."""
    field = fields.siren(width=11, depth=3, omega0=5.0, channels=2)
    key_x, key_y, key_theta = jax.random.split(jax.random.key(seed), 3)
    x = jax.random.uniform(key_x, (points, 2), dtype)
    y = jax.random.uniform(key_y, (count, points, 2), dtype)
    theta = jax.tree.map(lambda t: t.astype(dtype), field.init(key_theta))
    return tasks.regression(field), theta, tasks.Tasks(y, x)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def close(a, b, rtol=1e-6):
    """Two pytrees agree, relative to the largest entry of each array."""
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(u, v, rtol=0, atol=rtol * max(float(np.abs(v).max()), 1e-30))


# --- tasks ----------------------------------------------------------------------------------
def test_a_picture_becomes_its_pixels_at_their_coordinates(rng):
    pictures = rng.uniform(size=(2, 5, 7, 3)).astype(np.float32)
    made = tasks.images(dataset(pictures, ["a", "b"]))
    assert made.count == 2
    assert made.shared.shape == (35, 2)
    row, column = 3, 4
    at = row * 7 + column
    np.testing.assert_allclose(made.shared[at], (row / 5, column / 7), atol=1e-7)
    np.testing.assert_array_equal(made.each[1, at], pictures[1, row, column])
    assert made.take(1).each.shape == (35, 3)
    assert made.take(jnp.array([1, 0, 1])).each.shape == (3, 35, 3)


def test_regression_is_the_mean_squared_error_of_what_is_measured():
    loss, theta, many = siren_problem(0)
    one, field = many.take(0), fields.siren(width=11, depth=3, omega0=5.0, channels=2)
    expected = np.mean((np.asarray(field(theta, one.shared)) - np.asarray(one.each)) ** 2)
    np.testing.assert_allclose(loss(theta, one, jax.random.key(0)), expected, rtol=1e-6)

    def first_half(f, task, key):
        half = len(task.shared) // 2
        return f(task.shared[:half]), task.each[:half]

    half = tasks.regression(field, first_half)
    got = half(theta, one, jax.random.key(0))
    expected = np.mean((np.asarray(field(theta, one.shared[:18])) - np.asarray(one.each[:18])) ** 2)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def pulls(field, theta, task):
    """The norm of every point's gradient with respect to the last layer, one point at a time."""

    def of_last(last, x, y):
        return jnp.sum((field([*theta[:-1], last], x) - y) ** 2)

    g = jax.vmap(jax.grad(of_last), (None, 0, 0))(theta[-1], task.shared, task.each)
    flat = [np.asarray(leaf).reshape(len(task.shared), -1) for leaf in jax.tree.leaves(g)]
    return np.linalg.norm(np.concatenate(flat, axis=1), axis=1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("part", [0.1, 0.25, 0.6])
def test_the_hardest_points_are_those_with_the_largest_gradients(seed, part):
    loss, theta, many = siren_problem(seed)
    field, task, key = fields.siren(11, 3, 5.0, 2), many.take(0), jax.random.key(1)
    chosen = np.argsort(pulls(field, theta, task))[::-1][: round(part * 37)]
    few = tasks.Tasks(task.each[chosen], task.shared[chosen])
    pruned = tasks.hardest(field, loss, part)
    got, ours = jax.value_and_grad(pruned)(theta, task, key)
    expected, theirs = jax.value_and_grad(loss)(theta, few, key)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    close(ours, theirs, 1e-5)  # the ranking is not differentiated
    assert got > loss(theta, task, key)


@pytest.mark.parametrize("seed", SEEDS)
def test_all_points_are_the_loss_itself(seed):
    loss, theta, many = siren_problem(seed)
    whole = tasks.hardest(fields.siren(11, 3, 5.0, 2), loss, 1.0)
    for i in range(many.count):
        args = (theta, many.take(i), jax.random.key(0))
        np.testing.assert_allclose(whole(*args), loss(*args), rtol=1e-5)


@pytest.mark.parametrize("part", [0, -0.5, 1.01, float("nan")])
def test_an_impossible_part_is_named(part):
    with pytest.raises(ValueError, match=rf"part = {part}: in \(0, 1\]"):
        tasks.hardest(fields.siren(11, 3, 5.0, 2), None, part)


@pytest.mark.parametrize("seed", SEEDS)
def test_maml_through_pruned_steps_is_the_derivative(seed):
    """Against a central difference, with the ranking free to move."""
    with jax.enable_x64(True):
        loss, theta, many = siren_problem(seed, dtype=jnp.float64)
        field = fields.siren(11, 3, 5.0, 2)
        adapt = inner.sgd(tasks.hardest(field, loss, 0.3), 3, 1e-2)
        _, direction = outer.maml(loss, adapt)(theta, many, keys(3))
        flat, back = jax.flatten_util.ravel_pytree(theta)
        way = jnp.asarray(np.random.default_rng(seed).normal(size=flat.shape))
        h = 1e-6

        def value(t):
            return outer.maml(loss, adapt).losses(back(t), many, keys(3)).mean()

        slope = (value(flat + h * way) - value(flat - h * way)) / (2 * h)
        g, _ = jax.flatten_util.ravel_pytree(direction)
        np.testing.assert_allclose(g @ way, slope, rtol=1e-6)


# --- inner ----------------------------------------------------------------------------------
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


@pytest.mark.parametrize("build", [inner.sgd, lambda f, k, lr: inner.descend(f, k, optax.sgd(lr))])
def test_no_steps_change_nothing(build):
    loss, theta, many = siren_problem(0)
    end, losses = build(loss, 0, 0.1)(theta, many.take(0), jax.random.key(0))
    close(end, theta, 0)
    assert losses.shape == (0,)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("keep", [None, 0, 1, 3, 9])
def test_recomputing_activations_changes_no_gradient(seed, keep):
    """Rematerialised = kept = unrolled by hand, values and gradients, to 1e-6."""
    loss, theta, many = siren_problem(seed)
    task, key = many.take(0), jax.random.key(0)

    def by_hand(theta):
        for _ in range(5):
            grad = jax.grad(loss)(theta, task, key)
            theta = jax.tree.map(lambda t, g: t - 0.1 * g, theta, grad)
        return loss(theta, task, key)

    adapt = inner.sgd(loss, 5, 0.1, keep=keep)
    value, grad = jax.jit(jax.value_and_grad(lambda t: loss(adapt(t, task, key)[0], task, key)))(
        theta
    )
    expected = jax.jit(jax.value_and_grad(by_hand))(theta)
    close((value, grad), expected, 1e-6)


def test_memory_does_not_grow_with_the_number_of_steps():
    loss, theta, many = siren_problem(0, points=2000)

    def peak(steps, keep):
        adapt = inner.sgd(loss, steps, 0.1, keep=keep)
        grad = outer.maml(loss, adapt, "scan")
        return cost.peak_bytes(jax.jit(grad.step).lower(theta, many, keys(3)).compile())

    assert peak(32, 2) < 1.15 * peak(8, 2)
    assert peak(32, None) > 2.5 * peak(8, None)

    def peak_with_rates(steps):
        grad = outer.maml(loss, inner.meta_sgd(loss, steps), "scan")
        start = inner.with_rates(theta, steps, 0.1, "layer_step")
        return cost.peak_bytes(jax.jit(grad.step).lower(start, many, keys(3)).compile())

    assert peak_with_rates(32) < 1.15 * peak_with_rates(8)


def test_sgd_is_the_optax_transform_of_that_name():
    loss, theta, many = siren_problem(4)
    ours = inner.sgd(loss, 3, 0.1)(theta, many.take(0), jax.random.key(0))
    theirs = inner.descend(loss, 3, optax.sgd(0.1))(theta, many.take(0), jax.random.key(0))
    close(ours, theirs)


def test_an_optimiser_with_memory_starts_fresh_for_every_task():
    loss, theta, many = siren_problem(5)
    adapt = jax.jit(inner.descend(loss, 3, optax.adam(1e-2)))
    end, _ = adapt(theta, many.take(1), jax.random.key(0))
    optimizer = optax.adam(1e-2)
    state, by_hand = optimizer.init(theta), theta
    for _ in range(3):
        grad = jax.grad(loss)(by_hand, many.take(1), jax.random.key(0))
        updates, state = optimizer.update(grad, state, by_hand)
        by_hand = optax.apply_updates(by_hand, updates)
    close(end, by_hand, 1e-5)


@pytest.mark.parametrize("per", inner.PER)
def test_learned_step_sizes_that_are_all_equal_are_plain_descent(per):
    loss, theta, many = siren_problem(6)
    start = inner.with_rates(theta, 3, 0.1, per)
    ours = inner.meta_sgd(loss, 3)(start, many.take(0), jax.random.key(0))
    close(ours, inner.sgd(loss, 3, 0.1)(theta, many.take(0), jax.random.key(0)))


@pytest.mark.parametrize("per", inner.PER)
def test_the_gradient_of_a_step_size_is_minus_the_product_of_two_gradients(per):
    """K = 1: dL(theta - r g)/dr = -g * grad L(theta_1), summed over what shares a step size."""
    loss, theta, many = siren_problem(7)
    key = jax.random.split(jax.random.key(0))[0]
    start = inner.with_rates(theta, 1, 0.1, per)
    grad = outer.maml(loss, inner.meta_sgd(loss, 1)).step(start, many.take(slice(1)), keys(1))[1]
    g = jax.grad(loss)(theta, many.take(0), key)
    end = jax.tree.map(lambda t, g: t - 0.1 * g, theta, g)
    after = jax.grad(loss)(end, many.take(0), key)
    expected = jax.tree.map(lambda a, b: -(a * b)[None], g, after)
    if per == "layer_step":
        expected = jax.tree.map(lambda e: e.sum().reshape((1,) * e.ndim), expected)
    close(grad.rates, expected, 1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inner.sgd(quadratic, -1, 0.1), "steps = -1: 0 or more"),
        (lambda: inner.sgd(quadratic, 1, float("nan")), "lr = nan: a finite number"),
        (lambda: inner.sgd(quadratic, 1, 0.1, keep=-2), "keep = -2: 0 or more, or None for all"),
        (lambda: inner.with_rates([], 0, 0.1), "steps = 0: at least 1"),
        (lambda: inner.with_rates([], 1, 0.1, "task"), "per = 'task': one of layer_step"),
        (lambda: outer.maml(quadratic, None, "pmap"), "batching = 'pmap': one of auto, scan, vmap"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", [outer.fomaml, outer.reptile])
def test_first_order_methods_refuse_learned_step_sizes(method):
    loss, theta, many = siren_problem(0)
    start = inner.with_rates(theta, 2, 0.1)
    with pytest.raises(ValueError, match="learned step sizes need maml"):
        method(loss, inner.meta_sgd(loss, 2))(start, many, keys(3))


# --- outer ----------------------------------------------------------------------------------
@settings(max_examples=25)
@given(
    theta=st.floats(-2, 2),
    curvature=st.floats(0.1, 2),
    lr=st.floats(0.01, 0.4),
    steps=st.integers(0, 5),
)
def test_maml_is_exact_on_a_parabola(theta, curvature, lr, steps):
    """L = c theta^2 / 2: L(theta_K) = c (1 - lr c)^2K theta^2 / 2, and its derivatives."""

    def loss(theta, task, key):
        return 0.5 * task.each * theta**2

    adapt, many = inner.sgd(loss, steps, lr), tasks.Tasks(jnp.array([curvature]))
    shrink = 1 - lr * curvature
    expected = {
        "maml": curvature * shrink ** (2 * steps) * theta,
        "fomaml": curvature * shrink**steps * theta,
        "reptile": (1 - shrink**steps) * theta,
    }
    for name, make in outer.METHODS.items():
        value, direction = make(loss, adapt)(jnp.float32(theta), many, keys(1))
        np.testing.assert_allclose(
            value[0], curvature * (shrink**steps * theta) ** 2 / 2, atol=1e-5
        )
        np.testing.assert_allclose(direction, expected[name], rtol=1e-4, atol=2e-6)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), steps=st.integers(0, 4), lr=st.floats(0.01, 0.4))
def test_maml_is_exact_on_quadratics(seed, steps, lr):
    """grad = mean over tasks of M' A M (theta - c), with M = (I - lr A)^K."""
    with jax.enable_x64(True):
        many, theta = bowls(seed), jnp.linspace(-1.0, 1.0, 4)
        _, grad = outer.maml(quadratic, inner.sgd(quadratic, steps, lr))(theta, many, keys(3))
        terms = []
        for a, c in zip(*(np.asarray(leaf) for leaf in many.each)):
            m = np.linalg.matrix_power(np.eye(4) - lr * a, steps)
            terms.append(m.T @ a @ m @ (np.asarray(theta) - c))
        np.testing.assert_allclose(grad, np.mean(terms, axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rates", [False, True])
def test_maml_agrees_with_finite_differences(seed, rates):
    """Central differences in float64 along random directions: relative error <= 1e-5."""
    with jax.enable_x64(True):
        loss, theta, many = siren_problem(seed, dtype=jnp.float64)
        adapt, start = inner.sgd(loss, 3, 0.2), theta
        if rates:
            adapt, start = inner.meta_sgd(loss, 3), inner.with_rates(theta, 3, 0.2)
        maml = outer.maml(loss, adapt)
        flat, back = jax.flatten_util.ravel_pytree(start)
        value = jax.jit(lambda v: maml.losses(back(v), many, keys(3)).mean())
        grad = jax.flatten_util.ravel_pytree(maml.step(start, many, keys(3))[1])[0]
        r = np.random.default_rng(seed)
        for _ in range(5):
            d = r.normal(size=flat.shape)
            d /= np.linalg.norm(d)
            h = 1e-5
            slope = (value(flat + h * d) - value(flat - h * d)) / (2 * h)
            assert abs(slope - grad @ d) <= 1e-5 * np.linalg.norm(grad)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_step_of_reptile_is_a_step_of_sgd_on_the_mean_loss(seed):
    loss, theta, many = siren_problem(seed)
    _, direction = outer.reptile(loss, inner.sgd(loss, 1, 0.1))(theta, many, keys(3))

    def mean_loss(theta):
        key = jax.random.key(0)
        return sum(loss(theta, many.take(i), key) for i in range(3)) / 3

    close(direction, jax.tree.map(lambda g: 0.1 * g, jax.grad(mean_loss)(theta)), 1e-5)


def test_maml_without_inner_steps_is_the_ordinary_gradient():
    loss, theta, many = siren_problem(8)
    adapt = inner.sgd(loss, 0, 0.1)
    close(
        outer.maml(loss, adapt)(theta, many, keys(3)),
        outer.fomaml(loss, adapt)(theta, many, keys(3)),
    )


def test_fomaml_is_maml_that_does_not_look_into_the_inner_gradients():
    loss, theta, many = siren_problem(9)
    blind = optax.chain(optax.stateless(lambda u, p: jax.lax.stop_gradient(u)), optax.sgd(0.1))
    first = outer.fomaml(loss, inner.sgd(loss, 3, 0.1))(theta, many, keys(3))
    second = outer.maml(loss, inner.descend(loss, 3, blind))(theta, many, keys(3))
    close(first, second, 1e-5)


def test_to_second_order_in_the_step_size_maml_lacks_k_hessians():
    """MAML - FOMAML = -K lr H grad L + O(lr^2): what Nichol et al. 2018, section 5.1, expand."""
    with jax.enable_x64(True):
        loss, theta, many = siren_problem(3, count=1, dtype=jnp.float64)
        lr, steps, task = 1e-6, 3, many.take(0)
        adapt = inner.sgd(loss, steps, lr)
        maml = outer.maml(loss, adapt)(theta, many, keys(1))[1]
        fomaml = outer.fomaml(loss, adapt)(theta, many, keys(1))[1]
        grad = jax.grad(lambda t: loss(t, task, jax.random.key(0)))
        _, hg = jax.jvp(grad, (theta,), (grad(theta),))
        expected = jax.tree.map(lambda h: -steps * lr * h, hg)
        close(jax.tree.map(jnp.subtract, maml, fomaml), expected, 2e-3)


@pytest.mark.parametrize("method", outer.METHODS)
def test_tasks_in_turn_and_at_once_agree(method):
    loss, theta, many = siren_problem(10)
    adapt = inner.sgd(loss, 3, 0.1)
    one, other = (outer.METHODS[method](loss, adapt, b) for b in ("scan", "vmap"))
    close(one(theta, many, keys(3)), other(theta, many, keys(3)), 1e-6)
    close(one.losses(theta, many, keys(3)), one(theta, many, keys(3))[0])


@pytest.mark.parametrize("method", outer.METHODS)
def test_every_method_reports_the_loss_after_adaptation(method):
    loss, theta, many = siren_problem(11)
    adapt = inner.sgd(loss, 3, 0.1)
    values, _ = outer.METHODS[method](loss, adapt)(theta, many, keys(3))
    ends = [adapt(theta, many.take(i), jax.random.key(0))[0] for i in range(3)]
    expected = [loss(t, many.take(i), jax.random.key(0)) for i, t in enumerate(ends)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_losses_that_draw_at_random_get_a_fresh_key_for_every_step_and_task():
    seen = []

    def loss(theta, task, key):
        jax.debug.callback(lambda k: seen.append(k.tobytes()), jax.random.key_data(key))
        return 0.5 * jnp.sum((theta - task.each) ** 2)

    adapt = inner.sgd(loss, 3, 0.1, keep=None)
    outer.reptile(loss, adapt, "scan").step(jnp.zeros(2), tasks.Tasks(jnp.ones((4, 2))), keys(4))
    jax.effects_barrier()
    assert len(set(seen)) == 4 * (3 + 1)


# --- cost -----------------------------------------------------------------------------------
def test_flops_count_products_and_loops():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert cost.matmul_flops(lambda a, b: a @ b, a, b) == 2 * 3 * 5 * 7

    def loop(a, b):
        return jax.lax.scan(lambda c, _: (c + (a @ b).sum(), None), 0.0, None, length=11)[0]

    assert cost.matmul_flops(jax.jit(loop), a, b) == 11 * 2 * 3 * 5 * 7


def test_the_maml_step_costs_what_xla_counts_without_loops():
    """A gradient is 3 forward passes, a Hessian-vector product 6 more: K = 2 makes 21 in all."""
    field = fields.siren(width=64, depth=5, channels=1)
    loss, x = tasks.regression(field), jnp.ones((256, 2))
    task, theta = tasks.Tasks(jnp.ones((1, 256, 1)), x), field.init(jax.random.key(0))
    maml = outer.maml(loss, inner.sgd(loss, 2, 0.1), "vmap")
    ours = cost.matmul_flops(maml.step, theta, task, keys(1))
    compiled = jax.jit(maml.step).lower(theta, task, keys(1)).compile()
    xla = compiled.cost_analysis()["flops"]
    assert 0.8 * xla < ours < xla  # XLA counts elementwise work too
    forward = cost.matmul_flops(field.apply, theta, x)
    assert 20 * forward < ours < 21 * forward


def test_a_rate_is_a_plausible_number():
    assert 1e8 < cost.matmul_rate(256, 2) < 1e15
    assert cost.readable(3 * 2**30) == "3.0 GiB"
