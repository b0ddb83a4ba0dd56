"""Laws of the fast sine, of the fields and of their initialisation."""

import dataclasses
import json
import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from learnit_utils import fields, ntk

SEEDS = range(4)
MAKERS = {
    "siren": lambda **kw: fields.siren(**kw),
    "relu": lambda **kw: fields.relu(**kw),
    "fourier": lambda **kw: fields.fourier(features=16, **kw),
    "posenc": lambda **kw: fields.posenc(frequencies=5, **kw),
}


FAST_SINE, FAST_COSINE = jax.jit(fields.sine), jax.jit(fields.cosine)


# --- the sine: against float64, on a dense grid, on random points and at the seams ------------
@pytest.mark.parametrize(("f", "exact"), [(fields.sine, np.sin), (fields.cosine, np.cos)])
@pytest.mark.parametrize("jit", [True, False])
def test_sine_error_is_at_most_2e_7_up_to_400(f, exact, jit):
    x = np.linspace(-400, 400, 2_000_001, dtype=np.float32)
    k = np.arange(-254, 255)
    seams = (k * np.pi / 2).astype(np.float32)  # where the range reduction changes branch
    x = np.concatenate([x, seams, np.nextafter(seams, 500), np.nextafter(seams, -500)])
    y = np.asarray((jax.jit(f) if jit else f)(x), np.float64)
    assert np.abs(y - exact(x.astype(np.float64))).max() <= 2e-7


@pytest.mark.parametrize("seed", SEEDS)
def test_derivatives_of_the_sine_up_to_order_three(seed):
    x = np.random.default_rng(seed).uniform(-400, 400, 20_000).astype(np.float32)
    f = fields.sine
    for exact in (np.sin, np.cos, lambda t: -np.sin(t), lambda t: -np.cos(t)):
        values = np.asarray(jax.jit(jax.vmap(f))(x), np.float64)
        assert np.abs(values - exact(x.astype(np.float64))).max() <= 2e-7
        f = jax.grad(f)


@settings(deadline=None, max_examples=50)
@given(st.floats(-400, 400, width=32))
def test_sine_and_cosine_lie_on_the_circle(x):
    s, c = (float(f(jnp.float32(x))) for f in (fields.sine, fields.cosine))
    assert abs(s**2 + c**2 - 1) < 5e-7


@pytest.mark.slow
@pytest.mark.parametrize("f", [fields.sine, fields.cosine])
def test_reverse_and_forward_derivatives_of_the_sine_agree(f):
    x = jnp.linspace(-30.0, 30.0, 101)
    forward = reverse = f
    for _ in range(3):
        forward, reverse = jax.jacfwd(forward), jax.grad(reverse)
        np.testing.assert_array_equal(jax.vmap(forward)(x), jax.vmap(reverse)(x))


def test_sine_of_float64_is_exact():
    with jax.enable_x64(True):
        x = jnp.linspace(-400, 400, 1001, dtype=jnp.float64)
        np.testing.assert_array_equal(fields.sine(x), jnp.sin(x))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sine_of_what_has_no_sine_is_nan(bad):
    assert np.isnan(fields.sine(jnp.float32(bad)))


def test_sine_is_odd_and_bounded(rng):
    x = jnp.asarray(rng.uniform(-1e4, 1e4, 10_000), jnp.float32)
    np.testing.assert_array_equal(fields.sine(-x), -fields.sine(x))
    assert jnp.abs(fields.sine(x)).max() <= 1 + 2e-7


@settings(deadline=None, max_examples=100)
@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_sine_and_cosine_stay_in_their_range_for_every_number(x):
    """However large: no digit may be right there, but no network is blown up."""
    for f in (FAST_SINE, FAST_COSINE):
        assert abs(float(f(jnp.float32(x)))) <= 1 + 2e-7


def test_huge_angles_stay_in_range_with_their_derivatives():
    x = np.float32(10) ** np.arange(0, 38, 0.25, dtype=np.float32)
    x = jnp.asarray(np.concatenate([x, -x, [np.finfo(np.float32).max]]))
    for f in (fields.sine, fields.cosine):
        for g in (f, jax.vmap(jax.grad(f)), jax.vmap(jax.grad(jax.grad(f)))):
            assert np.abs(np.asarray(jax.jit(g)(x))).max() <= 1 + 2e-7


@pytest.mark.parametrize(("x", "tolerance"), [(1e4, 1e-5), (1e5, 1e-4)])
def test_the_error_of_the_sine_grows_slowly(x, tolerance):
    x = np.linspace(x / 2, x, 20_001, dtype=np.float32)
    assert np.abs(FAST_SINE(x) - np.sin(np.float64(x))).max() < tolerance


def test_sine_vmaps_and_scans(rng):
    x = jnp.asarray(rng.uniform(-9, 9, (5, 7)), jnp.float32)
    np.testing.assert_array_equal(jax.vmap(fields.sine)(x), fields.sine(x))
    _, scanned = jax.lax.scan(lambda c, row: (c, fields.sine(row)), 0, x)
    np.testing.assert_allclose(scanned, fields.sine(x), atol=2e-7)


# --- initialisation ---------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "omega0", "scheme"),
    [
        (256, 5.0, "learnit"),
        (64, 30.0, "learnit"),
        (256, 30.0, "learnit"),
        (256, 200.0, "learnit"),
        (256, 30.0, "code"),
        (256, 30.0, "paper"),
    ],
)
def test_spread_of_pre_activations_follows_the_recursion(width, omega0, scheme):
    """In wide layers S²(x) ← 1 - exp(-2 S²(x)) + ω₀² Var b at every point x; 6 sines deep.

    Behind the first layer, with w and b uniform, E sin² ω₀(w·x + b) is a product of sincs.
    """
    field = fields.siren(width, 7, omega0, scheme=scheme)
    first = (6 / 2) ** 0.5 if scheme == "paper" else 1 / 2
    bias = 0.0 if scheme == "learnit" else 1.0
    shift = omega0**2 * bias / 3
    x = np.random.default_rng(0).uniform(-1, 1, (4096, 2))
    cosine = np.sinc(2 * omega0 * np.c_[first * x, np.full(4096, bias / 2**0.5)] / np.pi).prod(-1)
    at_x = [1 - cosine + shift / width]
    for _ in range(4):
        at_x.append(1 - np.exp(-2 * at_x[-1]) + shift / width)
    expected = [omega0**2 * 2 * first**2 / 9 + shift / 2, *(s.mean() for s in at_x)]

    def spread(key):
        key, key_x = jax.random.split(key)
        x = jax.random.uniform(key_x, (128, 2), minval=-1.0, maxval=1.0)
        return jnp.stack([jnp.mean(z**2) for z in field.preactivations(field.init(key), x)[:-1]])

    measured = jnp.mean(jax.jit(jax.vmap(spread))(jax.random.split(jax.random.key(0), 48)), axis=0)
    error = np.abs(np.asarray(measured) / expected - 1)
    assert error[0] < 0.1  # two inputs: few weights, more noise
    assert error[1:].max() < (0.06 if width == 64 else 0.03)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("scheme", "first", "bias"), [("learnit", 1 / 2, 0), ("code", 1 / 2, 1), ("paper", 3**0.5, 1)]
)
def test_siren_weights_fill_their_intervals(seed, scheme, first, bias):
    theta = fields.siren(128, 4, 30.0, scheme=scheme).init(jax.random.key(seed))
    for i, (w, b) in enumerate(theta):
        n = w.shape[0]
        bound = first if i == 0 else (6 / n) ** 0.5 / 30
        assert 0.9 * bound < float(jnp.abs(w).max()) <= bound
        assert abs(float(jnp.var(w)) / (bound**2 / 3) - 1) < 0.2
        assert float(jnp.abs(b).max()) <= bias / n**0.5


def test_hidden_gain_and_weights_cancel():
    """ω₀ outside or absorbed into the hidden weights: one function; gradients differ by ω₀."""
    outside, inside = fields.siren(32, 4, 30.0), fields.siren(32, 4, 30.0, hidden_omega0=1.0)
    theta = outside.init(jax.random.key(0))
    absorbed = [theta[0], *[fields.Layer(30 * w, 30 * b) for w, b in theta[1:-1]], theta[-1]]
    x = jax.random.uniform(jax.random.key(1), (64, 2))
    np.testing.assert_allclose(at(outside, theta, x), at(inside, absorbed, x), atol=1e-5)
    a = jax.jit(jax.grad(lambda t: jnp.sum(outside(t, x) ** 2)))(theta)
    b = jax.jit(jax.grad(lambda t: jnp.sum(inside(t, x) ** 2)))(absorbed)
    for i, factor in enumerate((1, 30, 30, 1)):
        np.testing.assert_allclose(a[i].w, factor * b[i].w, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("scheme", ["he", "lecun"])
def test_normal_schemes_have_their_variance(scheme):
    w = fields.relu(256, 3, scheme=scheme).init(jax.random.key(0))[1].w
    assert abs(float(jnp.var(w)) * 256 / {"he": 2, "lecun": 1}[scheme] - 1) < 0.03


# --- every field ------------------------------------------------------------------------------
@cache
def drawn(kind):
    field = MAKERS[kind](width=16, depth=3, channels=3)
    return field, jax.jit(field.init)(jax.random.key(0))


@partial(jax.jit, static_argnums=0)
def at(field, theta, x):
    return field(theta, x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("shape", [(2,), (5, 2), (3, 4, 2)])
def test_a_field_acts_on_points_and_on_any_grid_of_them(kind, shape):
    field, theta = drawn(kind)
    x = jax.random.uniform(jax.random.key(1), shape)
    y = at(field, theta, x)
    assert y.shape == (*shape[:-1], 3)
    one_by_one = [at(field, theta, p) for p in x.reshape(-1, 2)]
    np.testing.assert_allclose(y.reshape(-1, 3), one_by_one, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_spec_builds_the_same_field(kind):
    field = MAKERS[kind](width=16, depth=3, channels=1, offset=0.0)
    again = fields.build(**field.spec)
    assert again == field
    assert hash(again) == hash(field)
    x = jax.random.uniform(jax.random.key(1), (9, 2))
    theta, same = (jax.jit(f.init)(jax.random.key(0)) for f in (field, again))
    np.testing.assert_array_equal(at(field, theta, x), jax.jit(again.apply)(same, x))


def with_spec(field, spec):
    return dataclasses.replace(field, spec=spec)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_order_of_a_spec_does_not_count(kind):
    """Equal fields hash equally, so that a function with a static field compiles once for both."""
    field = MAKERS[kind](width=16, depth=3, channels=1)
    again = with_spec(field, dict(reversed(field.spec.items())))
    assert list(again.spec) != list(field.spec)
    assert again == field
    assert hash(again) == hash(field)
    assert with_spec(field, field.spec | dict(width=17)) != field


def test_a_field_without_a_spec_is_equal_to_itself_alone():
    """Two of one form may hold other functions, so nothing that is compiled may be shared."""
    field, traced = fields.siren(4, 2, channels=1), []
    doubled = with_spec(field, None)
    doubled = dataclasses.replace(doubled, apply=lambda theta, x: 2 * field.apply(theta, x))
    plain = with_spec(field, None)
    assert plain != doubled
    assert plain != with_spec(field, None)
    assert plain != field
    assert field != plain
    assert {plain, doubled, plain, field} == {plain, doubled, field}
    assert len({plain, doubled, field}) == 3

    @partial(jax.jit, static_argnums=0)
    def noted(field, theta, x):
        traced.append(field)
        return field(theta, x)

    theta, x = field.init(jax.random.key(0)), jnp.ones((3, 2))
    for _ in range(2):
        twice = 2 * noted(plain, theta, x)
        np.testing.assert_allclose(noted(doubled, theta, x), twice, rtol=1e-6)
    assert len(traced) == 2


def test_a_field_equals_no_other_thing():
    assert fields.siren(16, 3) != fields.siren(16, 3).spec
    assert with_spec(fields.siren(16, 3), None) != "siren"


def test_fields_of_other_settings_differ():
    assert fields.siren(16, 3) != fields.siren(16, 4)
    assert fields.siren(16, 3) != fields.relu(16, 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKERS)
def test_gradients_with_respect_to_weights(kind):
    with jax.enable_x64(True):
        field = MAKERS[kind](width=8, depth=3, channels=1)
        theta = jax.tree.map(lambda a: a.astype(jnp.float64), field.init(jax.random.key(0)))
        x = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 2)))
        squares = jax.jit(lambda t: jnp.sum(field(t, x) ** 2))
        check_grads(squares, (theta,), order=1, modes=("rev",), eps=1e-6)


def test_a_seed_is_a_field():
    field = fields.siren(16, 3)
    a, b, c = (field.init(jax.random.key(s)) for s in (0, 0, 1))
    assert all(np.array_equal(p, q) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
    assert not np.array_equal(a[0].w, c[0].w)


def test_published_sizes():
    """Parameter counts of learnit's four networks."""
    count = {
        198915: fields.siren(256, 5, 200.0, channels=3),
        328961: fields.fourier(256, 5, 30 / (2 * np.pi), channels=1, features=256),
        295172: fields.posenc(256, 6, 20, channels=4, max_log2=8, scale=1.0, dims=3),
    }
    for parameters, field in count.items():
        assert fields.count(jax.eval_shape(field.init, jax.random.key(0))) == parameters


def test_fourier_features_are_those_of_the_equation():
    """First layer of ones on [sin(2πBx), cos(2πBx)], by hand in float64."""
    field = fields.fourier(4, 1, sigma=3.0, channels=1, features=8, feature_seed=5, offset=0.0)
    B = np.random.default_rng(5).normal(0, 3.0, (2, 8))
    x = np.random.default_rng(1).uniform(size=(10, 2))
    waves = 2 * np.pi * x @ B
    theta = [fields.Layer(jnp.ones((16, 1)), jnp.zeros(1))]
    expected = (np.sin(waves) + np.cos(waves)).sum(-1)
    np.testing.assert_allclose(field(theta, jnp.asarray(x, jnp.float32))[:, 0], expected, atol=1e-4)


def test_positional_encoding_is_that_of_the_equation():
    field = fields.posenc(4, 1, 3, channels=1, dims=2, offset=0.0)
    x = np.array([0.3, 0.8])
    by_hand = sum(np.sin(2**k * np.pi * x) + np.cos(2**k * np.pi * x) for k in range(3)).sum()
    theta = [fields.Layer(jnp.ones((12, 1)), jnp.zeros(1))]
    np.testing.assert_allclose(field(theta, jnp.asarray(x, jnp.float32))[0], by_hand, atol=1e-4)


def test_sigmoid_head_stays_in_range():
    field = fields.siren(16, 3, head="sigmoid", offset=0.0)
    theta = jax.tree.map(lambda a: 50 * a, field.init(jax.random.key(0)))
    y = field(theta, jax.random.uniform(jax.random.key(1), (100, 2)))
    assert y.min() >= 0
    assert y.max() <= 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: fields.siren(omega0=0.0), "omega0 = 0.0: expected a finite number > 0"),
        (lambda: fields.siren(omega0=np.nan), "omega0 = nan: expected a finite number > 0"),
        (
            lambda: fields.siren(hidden_omega0=-1.0),
            "hidden_omega0 = -1.0: expected a finite number > 0",
        ),
        (lambda: fields.siren(width=0), "width = 0: expected an integer >= 1"),
        (lambda: fields.siren(depth=2.5), "depth = 2.5: expected an integer >= 1"),
        (
            lambda: fields.siren(scheme="xavier"),
            "scheme = 'xavier': expected one of code, paper, learnit",
        ),
        (lambda: fields.siren(head="tanh"), "head = 'tanh': expected one of linear, sigmoid"),
        (lambda: fields.relu(scheme="glorot"), "scheme = 'glorot': expected one of he, lecun"),
        (lambda: fields.fourier(sigma=np.inf), "sigma = inf: expected a finite number > 0"),
        (lambda: fields.posenc(frequencies=0), "frequencies = 0: expected an integer >= 1"),
        (lambda: fields.posenc(frequencies=2.5), "frequencies = 2.5: expected an integer >= 1"),
        (lambda: fields.posenc(max_log2=np.nan), "max_log2 = nan: expected a finite number"),
        (lambda: fields.posenc(dims=0), "dims = 0: expected an integer >= 1"),
        (lambda: fields.fourier(features=2.5), "features = 2.5: expected an integer >= 1"),
        (lambda: fields.fourier(features=True), "features = True: expected an integer >= 1"),
        (lambda: fields.fourier(feature_seed=-1), "feature_seed = -1: expected an integer >= 0"),
        (lambda: fields.fourier(dims="2"), "dims = '2': expected an integer >= 1"),
        (lambda: fields.siren(width=True), "width = True: expected an integer >= 1"),
        (lambda: fields.siren(omega0="30"), "omega0 = '30': expected a finite number > 0"),
        (lambda: fields.siren(omega0=True), "omega0 = True: expected a finite number > 0"),
        (lambda: fields.siren(offset=None), "offset = None: expected a finite number"),
        (lambda: fields.siren(offset=np.inf), "offset = inf: expected a finite number"),
        (lambda: fields.build("mlp"), "kind = 'mlp': expected one of siren, relu, fourier, posenc"),
    ],
)
def test_bad_settings_are_named(call, told):
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        call()


def test_numbers_of_numpy_are_numbers():
    """A spec holds Python's, whatever was given, so that it can be written down."""
    given = fields.fourier(np.int64(8), np.int32(3), np.float32(2.5), features=np.int16(4))
    assert given == fields.fourier(8, 3, 2.5, features=4)
    assert json.loads(json.dumps(dict(given.spec))) == given.spec
    assert fields.siren(np.int64(8), 3) == fields.siren(8, 3)


# --- precision on other devices ---------------------------------------------------------------
def precisions(f, *args):
    """That of every product in a function's program, in order."""
    text = str(jax.make_jaxpr(f)(*args))
    return [("HIGHEST" in part[:400]) for part in text.split("dot_general[")[1:]]


@pytest.mark.parametrize("kind", MAKERS)
def test_phases_are_computed_exactly_on_every_device(kind):
    """The products of coordinates, that a GPU would round to 10 bits; their gradients, too."""
    field, theta = drawn(kind)
    encoded = kind in ("fourier", "posenc")
    x = jnp.ones((5, 2))
    assert precisions(field, theta, x) == [True, *([True] if encoded else []), False, False]
    slope = precisions(jax.grad(lambda x: field(theta, x).sum()), x)
    assert slope.count(True) == (4 if encoded else 2)


def test_kernels_are_computed_exactly_on_every_device():
    field, theta = drawn("siren")
    x = jax.random.uniform(jax.random.key(0), (6, 2))
    product = ntk.operator(field.apply, theta, x).product
    for f, args in (
        (lambda t: ntk._gram(field, t, x, x, 6), (theta,)),
        (lambda t: ntk._trace(field, t, x), (theta,)),
        (product, (jnp.ones(18),)),
    ):
        found = precisions(f, *args)
        assert len(found) > 2
        assert all(found)
