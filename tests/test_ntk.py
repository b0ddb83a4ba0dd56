"""Laws of the tangent kernel: against explicit Jacobians, its spectrum, and what it predicts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from learnit_utils import fields, ntk

SEEDS = range(3)
FIELDS = {
    "siren": lambda **kw: fields.siren(width=12, depth=3, omega0=20.0, **kw),
    "relu": lambda **kw: fields.relu(width=12, depth=4, **kw),
    "fourier": lambda **kw: fields.fourier(width=12, depth=3, features=7, sigma=2.0, **kw),
    "posenc": lambda **kw: fields.posenc(width=12, depth=3, frequencies=4, head="sigmoid", **kw),
}


def drawn(name, seed=0, **kw):
    """A field, a theta with biases that are not 0, and a function to draw points."""
    field = FIELDS[name](**kw)
    theta = field.init(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    theta = [layer._replace(b=layer.b + rng.normal(0, 0.1, layer.b.shape)) for layer in theta]
    return field, theta, lambda n: jnp.asarray(rng.uniform(0, 1, (n, field.spec["dims"])))


@partial(jax.jit, static_argnums=0)
def jacobian(f, theta, x):
    flat, back = ravel_pytree(theta)
    return jax.jacrev(lambda t: f(back(t), x).ravel())(flat)


def explicit(f, theta, x, x2=None):
    """J J^T with J written out."""
    return np.asarray(jacobian(f, theta, x) @ jacobian(f, theta, x if x2 is None else x2).T)


def close(a, b, tolerance):
    assert a.shape == b.shape
    assert np.abs(np.asarray(a) - b).max() <= tolerance * np.abs(b).max()


# --- the kernel -------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_the_order_of_hidden_units_means_nothing(name):
    """Neither to the field nor to its kernel."""
    field, theta, points = drawn(name)
    x, first, second = points(9), *theta[:2]
    order = np.random.default_rng(1).permutation(len(first.b))
    first = first._replace(w=first.w[:, order], b=first.b[order])
    mixed = [first, second._replace(w=second.w[order]), *theta[2:]]
    np.testing.assert_allclose(field(mixed, x), field(theta, x), atol=1e-5)
    close(ntk.gram(field, mixed, x), np.asarray(ntk.gram(field, theta, x)), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels", "dims"),
    [
        *((name, *shape) for name in FIELDS for shape in ((1, 2), (3, 2), (2, 1))),
        ("siren", 2, 3),
        ("posenc", 2, 3),
    ],
)
@pytest.mark.parametrize("bits", [64, 32])
def test_the_gram_matrix_is_that_of_the_jacobian(name, channels, dims, bits):
    with jax.enable_x64(bits == 64):
        for seed in SEEDS:
            field, theta, points = drawn(name, seed, channels=channels, dims=dims)
            x, x2 = points(7), points(5)
            tolerance = 1e-9 if bits == 64 else 1e-5
            close(ntk.gram(field, theta, x), explicit(field, theta, x), tolerance)
            close(ntk.gram(field, theta, x, x2), explicit(field, theta, x, x2), tolerance)


def test_grids_are_points():
    field, theta, points = drawn("siren")
    x = points(12)
    close(ntk.gram(field, theta, x.reshape(3, 4, 2)), np.asarray(ntk.gram(field, theta, x)), 0)


@pytest.mark.parametrize("block", [1, 4, 5, 11, 100])
def test_blocks_change_nothing(block):
    field, theta, points = drawn("fourier", channels=2)
    x = points(11)
    close(ntk.gram(field, theta, x, block=block), np.asarray(ntk.gram(field, theta, x)), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_trace_is_that_of_the_gram_matrix(name, channels):
    field, theta, points = drawn(name, channels=channels)
    x = points(9)
    whole = np.trace(np.asarray(ntk.gram(field, theta, x), np.float64))
    for block in (1, 4, 100):
        assert ntk.trace(field, theta, x, block=block) == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("name", FIELDS)
def test_a_kernel_is_symmetric_and_positive_semi_definite(name):
    field, theta, points = drawn(name)
    x, x2 = points(60), points(60)
    K = np.asarray(ntk.gram(field, theta, x), np.float64)
    values = np.linalg.eigvalsh((K + K.T) / 2)
    assert values.min() >= -1e-6 * values.max()
    close(K, K.T, 1e-6)
    across = np.asarray(ntk.gram(field, theta, x, x2))
    close(ntk.gram(field, theta, x2, x), across.T, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_operator_is_the_gram_matrix(name, channels, rng):
    field, theta, points = drawn(name, channels=channels)
    x = points(7)
    product = ntk.operator(field.apply, theta, x)
    K = np.asarray(ntk.gram(field, theta, x))
    assert product.size == len(K)
    for _ in range(3):
        v = rng.normal(size=len(K)).astype(np.float32)
        close(product.product(v), K @ v, 1e-5)


def test_the_operator_takes_any_function(rng):
    theta = {"a": jnp.asarray(rng.normal(size=3)), "b": [jnp.asarray(rng.normal(size=(3, 2)))]}
    x = jnp.asarray(rng.normal(size=(5, 3)))

    def f(t, x):
        return jnp.tanh(x * t["a"][None]) @ t["b"][0]

    v = rng.normal(size=10).astype(np.float32)
    close(ntk.operator(f, theta, x).product(v), explicit(f, theta, x) @ v, 1e-5)


# --- its spectrum -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def large():
    """A kernel that is decomposed by Lanczos, and the field it belongs to."""
    field = fields.siren(width=32, depth=3, omega0=30.0, channels=1)
    theta = field.init(jax.random.key(1))
    x = jnp.asarray(np.random.default_rng(1).uniform(0, 1, (700, 2)), jnp.float32)
    return field, theta, x, np.asarray(ntk.gram(field, theta, x))


@pytest.mark.parametrize("free", [False, True])
def test_lanczos_finds_the_dense_spectrum(large, free):
    field, theta, x, K = large
    found = ntk.eigenpairs(ntk.operator(field.apply, theta, x) if free else K, 20)
    exact = np.linalg.eigvalsh(K.astype(np.float64))[::-1][:20]
    assert np.abs(found.values - exact).max() <= 1e-5 * exact[0]
    assert found.residuals.max() <= 1e-5
    assert np.abs(found.vectors.T @ found.vectors - np.eye(20)).max() <= 1e-5


def test_all_pairs_give_the_kernel_back(large):
    K = large[3][:100, :100]
    values, vectors, _ = ntk.eigenpairs(K, 100)
    assert (np.diff(values) <= 0).all()
    close(vectors * values @ vectors.T, K, 1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_energy_adds_up_to_one_and_belongs_to_the_first_vectors(large, seed):
    rng = np.random.default_rng(seed)
    vectors = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    signals = rng.normal(size=(4, 5, 6)) + 3
    part = ntk.energy(vectors, signals)
    assert part.shape == (4, 30)
    assert (np.diff(part, axis=1) >= -1e-12).all()
    assert np.allclose(part[:, -1], 1)
    assert np.allclose(ntk.energy(vectors, 7 * signals - 2), part)  # scale and mean do not matter
    flat = vectors[:, 3] - vectors[:, 3].mean()
    only = ntk.energy(flat[:, None] / np.linalg.norm(flat), vectors[:, 3][None])
    assert np.allclose(only, 1)


def test_the_distance_of_kernels_does_not_see_their_scale(large, rng):
    K = large[3]
    assert abs(ntk.distance(K, 5 * K)) < 1e-12
    a, b = np.diag([1.0, 0.0]), np.diag([0.0, 1.0])
    assert ntk.distance(a, b) == pytest.approx(1)
    noise = rng.normal(size=K.shape)
    assert 0 < ntk.distance(K, K + noise) == pytest.approx(ntk.distance(K + noise, K))


# --- what it predicts ---------------------------------------------------------------------------
@partial(jax.jit, static_argnums=(0, 5))
def descended(field, theta, x, y, lr, steps):
    """Real losses of gradient descent."""

    def loss(t):
        return jnp.mean((field(t, x) - y) ** 2)

    def step(theta, _):
        value, grad = jax.value_and_grad(loss)(theta)
        return jax.tree.map(lambda t, g: t - lr * g, theta, grad), value

    return jax.lax.scan(step, theta, length=steps + 1)[1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_linearised_descent_is_exact_for_a_field_that_is_linear(seed, channels):
    with jax.enable_x64(True):
        field = fields.relu(width=4, depth=1, channels=channels)
        theta = field.init(jax.random.key(seed))
        rng = np.random.default_rng(seed)
        x, y = jnp.asarray(rng.uniform(size=(9, 2))), jnp.asarray(rng.normal(size=(9, channels)))
        pairs = ntk.eigenpairs(ntk.gram(field, theta, x), 9 * channels)
        residual = np.asarray(field(theta, x) - y).ravel()
        told = ntk.linearised_curve(pairs, residual, 0.3, 20)
        assert np.allclose(told, descended(field, theta, x, y, 0.3, 20), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_linearised_descent_is_exact_in_the_limit_of_small_steps(name):
    """Over a fixed number of steps the error falls with the square of the step size."""
    with jax.enable_x64(True):
        field, theta, points = drawn(name, channels=1)
        x = points(15)
        y = jnp.sin(7 * x[:, :1])
        pairs = ntk.eigenpairs(ntk.gram(field, theta, x), 15)
        residual = np.asarray(field(theta, x) - y).ravel()
        errors = []
        for lr in (1e-4, 1e-5):
            told = ntk.linearised_curve(pairs, residual, lr / pairs.values[0], 5)
            real = np.asarray(descended(field, theta, x, y, lr / pairs.values[0], 5))
            assert told[0] == pytest.approx(real[0], rel=1e-12)
            errors.append(abs(told[-1] - real[-1]) / real[0])
        assert errors[1] <= errors[0] / 50 + 1e-13


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(12,), (3, 12), (2, 3, 12)])
def test_the_kernel_itself_tells_what_all_its_eigenpairs_tell(seed, shape):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(12, 12))
    kernel, residual = factor @ factor.T, rng.normal(size=shape)
    pairs = ntk.eigenpairs(kernel, 12)
    lr = 5 / pairs.values[0]
    for entries in (None, 7):
        told = ntk.linearised_curve(kernel, residual, lr, 4, entries)
        assert told.shape == (*shape[:-1], 5)
        assert np.allclose(told, ntk.linearised_curve(pairs, residual, lr, 4, entries), rtol=1e-6)


def test_what_lies_outside_the_given_pairs_stays(rng):
    vectors = np.eye(4)[:, :1]
    pairs = ntk.Eigenpairs(np.array([2.0]), vectors, np.zeros(1))
    told = ntk.linearised_curve(pairs, np.array([[3.0, 1.0, 0.0, 1.0]]), 0.5, 2)
    shrink = 1 - 2 * 0.5 * 2 / 4
    assert np.allclose(told, [[(9 * shrink ** (2 * t) + 2) / 4 for t in range(3)]])
    masked = ntk.linearised_curve(pairs, np.array([3.0, 1.0, 0.0, 1.0]), 0.5, 1, loss_entries=2)
    assert masked[1] == pytest.approx((9 * (1 - 2 * 0.5 * 2 / 2) ** 2 + 2) / 4)


# --- bad input ----------------------------------------------------------------------------------
SIREN = fields.siren(width=4, depth=2, channels=1)
THETA = SIREN.init(jax.random.key(0))
X = np.random.default_rng(0).uniform(size=(5, 2)).astype(np.float32)
TWICE, HOLE = X[[0, 1, 2, 1]], np.where(np.arange(5)[:, None] == 2, np.nan, X)
LOST = np.full((3, 3), np.inf)
PAIRS = ntk.Eigenpairs(np.ones(2), np.eye(5)[:, :2], np.zeros(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ntk.gram(SIREN, THETA, X[:, :1]), r"x of shape \(5, 1\): \(\.\.\., 2\), at least"),
        (lambda: ntk.gram(SIREN, THETA, X[:0]), r"x of shape \(0, 2\)"),
        (lambda: ntk.gram(SIREN, THETA, X, X[0, :1]), r"x2 of shape \(1,\)"),
        (lambda: ntk.gram(SIREN, THETA, HOLE), "x: coordinates must be finite"),
        (lambda: ntk.gram(SIREN, THETA, TWICE), "x: point 3 occurs twice"),
        (lambda: ntk.gram(SIREN, THETA, X, block=0), "block = 0: at least 1"),
        (lambda: ntk.eigenpairs(np.eye(3), 4), "k = 4: from 1 to 3 for a kernel of 3 rows"),
        (lambda: ntk.eigenpairs(np.eye(3), 0), "k = 0: from 1 to 3"),
        (lambda: ntk.eigenpairs(ntk.operator(SIREN.apply, THETA, X), 5), "k = 5: from 1 to 4"),
        (lambda: ntk.eigenpairs(np.eye(3)[:2], 1), r"kernel of shape \(2, 3\): \(n, n\)"),
        (lambda: ntk.eigenpairs(LOST, 1), "kernel: all entries must be finite"),
        (lambda: ntk.eigenpairs(np.triu(np.ones((3, 3))), 1), "kernel: must be symmetric"),
        (lambda: ntk.eigenpairs(np.eye(3), 2, tolerance=-1), "eigenpairs: residual"),
        (lambda: ntk.energy(np.eye(3), np.ones((2, 4))), "signals of 4 entries: 3"),
        (lambda: ntk.energy(np.eye(3), np.ones((2, 3))), "signal 0 is constant"),
        (lambda: ntk.distance(np.eye(3), np.eye(2)), "one shape"),
        (
            lambda: ntk.linearised_curve(PAIRS, np.ones(4), 1.0, 2),
            "residual of 4 entries: 5, as the kernel",
        ),
        (lambda: ntk.linearised_curve(PAIRS, np.ones(5), 1.0, -1), "steps = -1: 0 or more"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as e:
        call()
    assert "\n" not in str(e.value)


def test_a_function_that_is_not_finite_is_refused():
    lost = [layer._replace(w=layer.w * np.nan) for layer in THETA]
    with pytest.raises(ValueError, match=r"eigenpairs|Lanczos"):
        ntk.eigenpairs(ntk.operator(SIREN.apply, lost, X), 2)
