"""The neural tangent kernel of a field: its matrix, its eigenvectors, and what they predict.

The kernel of f at theta is K(x, x') = J(x) J(x')^T with J = df / dtheta, one entry per pair of
points and channels. Its rows and columns run over points first, channels within a point, as
`f(theta, x).ravel()` does; for one channel it is (n, n).
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from learnit_utils.fields import Field, Theta

DENSE_BELOW = 512  # rows up to which `eigenpairs` never bothers with Lanczos
BLOCK = 256  # points of the first argument that `gram` handles at a time


def _exact(f: Callable) -> Callable:
    """f, with products in float32 also where a GPU or TPU would round their factors."""

    @wraps(f)
    def traced(*args):
        with jax.default_matmul_precision("highest"):
            return f(*args)

    return traced


# --- the kernel -------------------------------------------------------------------------------
def gram(
    field: Field, theta: Theta, x: jax.Array, x2: jax.Array | None = None, *, block: int = BLOCK
) -> jax.Array:
    """The kernel of a field between two sets of points, in closed form and without a Jacobian.

    Layer l maps its input h to g (h W + b). The gradient of an output with respect to W is the
    outer product of h and delta, the gradient with respect to b is delta, so that

        K(x, x') = sum_l (h_l . h_l' + 1) (delta_l . delta_l').

    Args:
        x: (..., dims) coordinates of n points.
        x2: of m points; x itself unless given.
        block: points of x handled at a time. Beside the result, memory is a few times
            block * m * channels^2 numbers and the activations at all points.

    Returns:
        (n * channels, m * channels), rows and columns ordered as `field(theta, x).ravel()`.

    Raises:
        ValueError: coordinates of the wrong shape or not finite, a point that occurs twice in x
            (the kernel would be singular) unless x2 is given, a block below 1.

    Source: Jacot et al. 2018, section 4; the sum over layers is the chain rule.
    """
    if block < 1:
        raise ValueError(f"block = {block}: at least 1")
    dims = field.spec["dims"]
    x = _points("x", x, dims)
    if x2 is None:
        _distinct(x)
        return _gram(field, theta, x, x, min(block, len(x)))
    return _gram(field, theta, x, _points("x2", x2, dims), min(block, len(x)))


def _points(name, x, dims):
    """x as (n, dims)."""
    x = jnp.asarray(x)
    if x.ndim < 1 or x.shape[-1] != dims or x.size == 0:
        raise ValueError(f"{name} of shape {x.shape}: (..., {dims}), at least one point")
    if not np.isfinite(np.asarray(x)).all():
        raise ValueError(f"{name}: coordinates must be finite")
    return x.reshape(-1, dims)


def _distinct(x):
    _, first = np.unique(np.asarray(x), axis=0, return_index=True)
    if len(first) < len(x):
        again = int(np.setdiff1d(np.arange(len(x)), first)[0])
        raise ValueError(f"x: point {again} occurs twice; the kernel would be singular")


@partial(jax.jit, static_argnums=(0, 4))
@_exact
def _gram(field, theta, x, x2, block):
    h2, delta2 = _factors(field, theta, x2)

    def row(factors):
        total = 0.0
        for h, d, hs, ds in zip(*factors, h2, delta2):
            total += (hs @ h + 1)[None, :, None] * jnp.einsum("co,mdo->cmd", d, ds)
        return total

    out = jax.lax.map(row, _factors(field, theta, x), batch_size=block)  # (n, c, m, c)
    return out.reshape(out.shape[0] * out.shape[1], -1)


def _factors(field, theta, x):
    """([h_l (n, in)], [delta_l (n, channels, out)]) of every layer l."""

    def of_biases(biases, point):
        return field([layer._replace(b=b) for layer, b in zip(theta, biases)], point)

    biases = [layer.b for layer in theta]
    delta = jax.vmap(jax.jacrev(of_biases), (None, 0))(biases, x)
    return field.inputs(theta, x), delta


def trace(field: Field, theta: Theta, x: jax.Array, *, block: int = 4096) -> float:
    """The sum of all eigenvalues of `gram(field, theta, x)`, in memory that `block` points need.

    Raises:
        ValueError: coordinates of the wrong shape or not finite, a block below 1.
    """
    if block < 1:
        raise ValueError(f"block = {block}: at least 1")
    x = _points("x", x, field.spec["dims"])
    pieces = (x[i : i + block] for i in range(0, len(x), block))
    return float(sum(np.float64(_trace(field, theta, piece)) for piece in pieces))


@partial(jax.jit, static_argnums=0)
@_exact
def _trace(field, theta, x):
    h, delta = _factors(field, theta, x)
    parts = [((a**2).sum(-1) + 1) * (d**2).sum((-1, -2)) for a, d in zip(h, delta)]
    return sum(part.sum() for part in parts)


class Operator(NamedTuple):
    """A symmetric kernel known by its products with vectors."""

    size: int  # rows
    dtype: Any
    product: Callable[[jax.Array], jax.Array]  # (size,) -> (size,)


def operator(f: Callable, theta: Any, x: Any) -> Operator:
    """v -> J J^T v for any differentiable f: one vector-Jacobian and one Jacobian-vector product.

    Nothing of the kernel's size is ever formed: memory is that of one gradient of f.

    Args:
        f: (theta, x) -> an array of any shape; its entries are the rows of the kernel.
        theta: any pytree.
        x: whatever f takes.

    Source: Novak et al. 2022, "NTK-vector products".
    """
    y = jax.eval_shape(f, theta, x)

    @jax.jit
    @_exact
    def product(theta, x, v):
        out, pull = jax.vjp(lambda t: f(t, x), theta)
        direction = pull(v.reshape(out.shape).astype(out.dtype))
        return jax.jvp(lambda t: f(t, x), (theta,), direction)[1].ravel()

    return Operator(int(np.prod(y.shape)), y.dtype, lambda v: product(theta, x, jnp.asarray(v)))


# --- its eigenvectors -------------------------------------------------------------------------
class Eigenpairs(NamedTuple):
    """The leading eigenvalues and eigenvectors of a kernel."""

    values: np.ndarray  # (k,), largest first
    vectors: np.ndarray  # (n, k), orthonormal columns
    residuals: np.ndarray  # (k,), |K v - value v| / values[0]


def eigenpairs(
    kernel: jax.Array | Operator, k: int, *, tolerance: float = 1e-4, seed: int = 0
) -> Eigenpairs:
    """The k largest eigenvalues of a kernel with their eigenvectors, checked.

    A matrix of which more than a tenth of the pairs is wanted is decomposed whole (LAPACK);
    otherwise, and for an `Operator`, by Lanczos iteration with implicit restarts and full
    reorthogonalisation (ARPACK).

    Args:
        kernel: (n, n) symmetric, or an `Operator`.
        k: from 1 to n; below n for an `Operator`.
        tolerance: residuals above it are an error.
        seed: of the vector that Lanczos begins with.

    Raises:
        ValueError: a kernel that is not square, symmetric and finite, an impossible k, or pairs
            that do not satisfy K v = value v to within the tolerance.
    """
    if isinstance(kernel, Operator):
        n, dtype, product = kernel.size, np.dtype(kernel.dtype), kernel.product
        matrix = None
    else:
        matrix = _square(kernel)
        n, dtype, product = len(matrix), matrix.dtype, lambda v: matrix @ v
    if not 1 <= k <= n - (matrix is None):
        raise ValueError(f"k = {k}: from 1 to {n - (matrix is None)} for a kernel of {n} rows")
    if matrix is not None and (n <= DENSE_BELOW or 10 * k > n):
        values, vectors = scipy.linalg.eigh(matrix, driver="evd")  # faster than a part by "evr"
        values, vectors = values[n - k :], vectors[:, n - k :]
    else:
        start = np.random.default_rng(seed).normal(size=n).astype(dtype)
        linear = LinearOperator((n, n), matvec=lambda v: np.asarray(product(v)), dtype=dtype)
        try:
            values, vectors = eigsh(
                linear, k, which="LA", v0=start, tol=0.1 * tolerance, ncv=min(n, 3 * k // 2 + 20)
            )
        except ArpackError as e:
            raise ValueError(f"Lanczos iteration for {k} of {n} eigenpairs: {e}") from None
    order = np.argsort(values)[::-1]
    values, vectors = values[order], vectors[:, order]
    if matrix is None:
        images = np.stack([np.asarray(product(v)) for v in vectors.T], axis=1)
    else:
        images = matrix @ vectors
    residuals = np.linalg.norm(images - vectors * values, axis=0) / max(abs(values[0]), 1e-300)
    if not (np.isfinite(residuals).all() and residuals.max() <= tolerance):
        raise ValueError(
            f"eigenpairs: residual {residuals.max():.1e} of the largest eigenvalue, "
            f"at most {tolerance:g} allowed"
        )
    return Eigenpairs(values, vectors, residuals)


def _square(kernel):
    matrix = np.asarray(kernel)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"kernel of shape {matrix.shape}: (n, n)")
    if not np.isfinite(matrix).all():
        raise ValueError("kernel: all entries must be finite")
    if np.abs(matrix - matrix.T).max() > 1e-4 * np.abs(matrix).max():
        raise ValueError("kernel: must be symmetric")
    return matrix


def energy(vectors: np.ndarray, signals: np.ndarray) -> np.ndarray:
    """The part of each signal's energy that the first 1, 2, ..., k vectors hold.

    Args:
        vectors: (n, k), orthonormal columns.
        signals: (count, ...) with n entries each; each has its mean taken off first.

    Returns:
        (count, k), rising along the second axis, at most 1.

    Raises:
        ValueError: signals of another size, or one that is constant and has no energy.

    Source: Yuce et al. 2022, figure 4.
    """
    flat = np.asarray(signals, np.float64).reshape(len(signals), -1)
    if flat.shape[1] != len(vectors):
        raise ValueError(f"signals of {flat.shape[1]} entries: {len(vectors)}, as the vectors")
    flat = flat - flat.mean(axis=1, keepdims=True)
    total = (flat**2).sum(axis=1, keepdims=True)
    if not (total > 0).all():
        raise ValueError(f"signal {int(np.argmin(total))} is constant: it has no energy")
    return np.cumsum((flat @ np.asarray(vectors, np.float64)) ** 2, axis=1) / total


def distance(a: jax.Array, b: jax.Array) -> float:
    """One minus the cosine between two kernels: 0 if they are proportional, 1 if orthogonal.

    Raises:
        ValueError: kernels of different shapes.

    Source: Fort et al. 2020, the kernel distance.
    """
    if a.shape != b.shape:
        raise ValueError(f"kernels of shapes {a.shape} and {b.shape}: one shape")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(1 - np.vdot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


# --- what it predicts ---------------------------------------------------------------------------
def linearised_curve(
    kernel: Eigenpairs | np.ndarray,
    residual: np.ndarray,
    lr: float,
    steps: int,
    loss_entries: int | None = None,
) -> np.ndarray:
    """The mean squared error of gradient descent if the kernel stayed as it is.

    With L = mean (f - y)^2 over N entries a step of descent turns f - y into
    (I - 2 lr K / N) (f - y), which multiplies its part along an eigenvector of value v by
    1 - 2 lr v / N. What lies outside the given eigenvectors is taken to stay.

    Args:
        kernel: the matrix at the start, (n, n), or some or all of its eigenpairs. The matrix
            needs `steps` products in float64, the pairs none, however many steps.
        residual: (..., n), f(theta_0) - y, one or several signals.
        lr: step size of the descent.
        steps: how many.
        loss_entries: N, if the mean of the loss is over other than n entries.

    Returns:
        (..., steps + 1) mean squared errors at steps 0 ... steps.

    Raises:
        ValueError: a residual of another size than the kernel, or negative `steps`.

    Source: Lee et al. 2019, section 2, here for discrete steps.
    """
    r = np.asarray(residual, np.float64)
    pairs = kernel if isinstance(kernel, Eigenpairs) else None
    n = len(kernel if pairs is None else pairs.vectors)
    if r.shape[-1] != n:
        raise ValueError(f"residual of {r.shape[-1]} entries: {n}, as the kernel")
    if steps < 0:
        raise ValueError(f"steps = {steps}: 0 or more")
    per = 2 * lr / (loss_entries or n)
    if pairs is None:
        matrix, left = np.asarray(kernel, np.float64), [r]
        for _ in range(steps):
            left.append(left[-1] - per * (left[-1] @ matrix))
        return np.mean(np.square(left), axis=-1).transpose(*range(1, r.ndim), 0)
    along = (r @ np.asarray(pairs.vectors, np.float64)) ** 2  # (..., k)
    rest = np.maximum((r**2).sum(axis=-1) - along.sum(axis=-1), 0)
    shrink = (1 - per * np.asarray(pairs.values, np.float64)) ** 2
    decay = shrink[:, None] ** np.arange(steps + 1)  # (k, steps + 1)
    return (along @ decay + rest[..., None]) / n
