"""Convolution: sizes, counts, values and gradients are those of JAX; its matrix is it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from learnit_utils.experiments import convolution
from learnit_utils.experiments.convolution import convolve, max_pool, output_size, weight_count


def of_jax(x, w, stride, padding):
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision="highest",
    )


shapes = st.fixed_dictionaries(
    dict(
        size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
        kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        stride=st.integers(1, 4),
        padding=st.integers(0, 3),
        channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    )
)


def fits(shape):
    return all(n + 2 * shape["padding"] >= k for n, k in zip(shape["size"], shape["kernel"]))


@settings(max_examples=400)
@given(shape=shapes)
def test_sizes_and_counts_are_those_of_jax(shape):
    """Shapes alone, so hundreds of them."""
    assume(fits(shape))
    x = jax.ShapeDtypeStruct((2, *shape["size"], shape["channels"][0]), np.float32)
    w = jax.ShapeDtypeStruct((*shape["kernel"], *shape["channels"]), np.float32)
    stride, padding = shape["stride"], shape["padding"]
    y = jax.eval_shape(lambda x, w: of_jax(x, w, stride, padding), x, w)
    pairs = zip(shape["size"], shape["kernel"])
    assert y.shape[1:3] == tuple(output_size(n, k, stride, padding) for n, k in pairs)
    assert w.size == weight_count(shape["kernel"], *shape["channels"], bias=False)
    ours = jax.eval_shape(lambda x, w: convolve(x, w, stride=stride, padding=padding), x, w)
    assert ours.shape == y.shape


@pytest.mark.slow
@settings(max_examples=60)
@given(shape=shapes, seed=st.integers(0, 2**31))
def test_values_and_gradients_are_those_of_jax(shape, seed):
    assume(fits(shape))
    rng, how = np.random.default_rng(seed), (shape["stride"], shape["padding"])
    x = rng.normal(size=(2, *shape["size"], shape["channels"][0])).astype(np.float32)
    w = rng.normal(size=(*shape["kernel"], *shape["channels"])).astype(np.float32)
    theirs, pull = jax.vjp(lambda x, w: of_jax(x, w, *how), x, w)
    ours, pull_ours = jax.vjp(lambda x, w: convolve(x, w, stride=how[0], padding=how[1]), x, w)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    back = rng.normal(size=theirs.shape).astype(np.float32)
    for a, b in zip(pull_ours(back), pull(back)):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.slow
@settings(max_examples=15)
@given(shape=shapes, seed=st.integers(0, 2**31))
def test_the_matrix_is_the_convolution_and_its_transpose_the_way_back(shape, seed):
    assume(fits(shape))
    rng, how = np.random.default_rng(seed), dict(stride=shape["stride"], padding=shape["padding"])
    x = rng.normal(size=(*shape["size"], shape["channels"][0])).astype(np.float32)
    w = rng.normal(size=(*shape["kernel"], *shape["channels"])).astype(np.float32)
    m = convolution.as_matrix(w, shape["size"], **how)
    y, pull = jax.vjp(lambda x: convolve(x, w, **how), x)
    np.testing.assert_allclose(m @ x.ravel(), np.ravel(y), atol=1e-4)
    back = rng.normal(size=y.shape).astype(np.float32)
    np.testing.assert_allclose(m.T @ back.ravel(), np.ravel(pull(back)[0]), atol=1e-4)


def test_a_matrix_has_only_the_kernel_s_numbers_and_zeros():
    w = np.arange(1, 10, dtype=np.float32).reshape(3, 3, 1, 1)
    m = convolution.as_matrix(w, (6, 7), stride=2)
    assert m.shape == (2 * 3, 42)
    assert ((m != 0).sum(axis=1) == 9).all()
    assert all(sorted(row[row != 0]) == list(range(1, 10)) for row in m)


def test_a_bias_is_added_everywhere():
    x, w = jnp.zeros((4, 4, 1)), jnp.ones((3, 3, 1, 2))
    y = convolve(x, w, jnp.array([1.0, -2.0]), padding=1)
    np.testing.assert_array_equal(y, np.broadcast_to([1.0, -2.0], (4, 4, 2)))


@given(h=st.integers(2, 9), w=st.integers(2, 9), size=st.integers(1, 2), seed=st.integers(0, 99))
def test_pooling_takes_the_largest_of_every_block(h, w, size, seed):
    x = np.random.default_rng(seed).normal(size=(h, w, 3)).astype(np.float32)
    y = max_pool(x, size)
    assert y.shape == (output_size(h, size, size), output_size(w, size, size), 3)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            block = x[i * size : (i + 1) * size, j * size : (j + 1) * size]
            np.testing.assert_array_equal(y[i, j], block.max(axis=(0, 1)))


@pytest.mark.parametrize("wrong", [(2, 3, 1, 0), (5, 3, 0, 0), (5, 3, 1, -1), (5, 0, 1, 0)])
def test_a_kernel_that_does_not_fit_is_refused(wrong):
    with pytest.raises(ValueError, match="expected a stride of 1 or more and a kernel that fits"):
        output_size(*wrong)
