"""Convolution by hand: how large its output is, how many weights it has, which matrix it is.

What networks call a convolution slides a small array of weights, the kernel, over the input without
turning it round (a cross-correlation). Pictures are (..., height, width, channels), kernels
(kernel height, kernel width, channels in, channels out), as `jax.lax.conv_general_dilated` takes
them with dimension numbers NHWC, HWIO, NHWC.

Source: Dumoulin and Visin 2016, A guide to convolution arithmetic, sections 2 and 3.
"""

import jax
import jax.numpy as jnp
import numpy as np


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Cells along one axis of the output: floor((I - K + 2 P) / S) + 1.

    Args:
        size: I, cells of the input along this axis.
        kernel: K, cells of the kernel.
        stride: S, cells from one place of the kernel to the next.
        padding: P, zeros added on either side.

    Raises:
        ValueError: a kernel that does not fit, or a stride below 1 or a padding below 0.

    >>> output_size(5, 3), output_size(5, 3, stride=2), output_size(28, 3, stride=2, padding=1)
    (3, 2, 14)
    """
    if kernel < 1 or stride < 1 or padding < 0 or size + 2 * padding < kernel:
        raise ValueError(
            f"size = {size}, kernel = {kernel}, stride = {stride}, padding = {padding}: "
            "expected a stride of 1 or more and a kernel that fits into the padded input"
        )
    return (size - kernel + 2 * padding) // stride + 1


def weight_count(
    kernel: tuple[int, int], channels_in: int, channels_out: int, bias: bool = True
) -> int:
    """Numbers that a layer learns: K_h K_w C_i C_o, and C_o more with a bias.

    >>> weight_count((3, 3), 1, 16), weight_count((3, 3), 16, 16, bias=False)
    (160, 2304)
    """
    return kernel[0] * kernel[1] * channels_in * channels_out + bias * channels_out


def patches(x: jax.Array, kernel: tuple[int, int], stride: int = 1, padding: int = 0) -> jax.Array:
    """What the kernel sees at every place, a vector each: (..., h, w, C) -> (..., h', w', K K C).

    Entries are ordered by kernel row, kernel column, channel.
    """
    *_, h, w, _ = x.shape
    rows = output_size(h, kernel[0], stride, padding)
    columns = output_size(w, kernel[1], stride, padding)
    around = [(0, 0)] * (x.ndim - 3) + [(padding, padding)] * 2 + [(0, 0)]
    x = jnp.pad(x, around)

    def seen(i, j):  # by cell (i, j) of the kernel, at all places
        down, across = i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1
        return x[..., i:down:stride, j:across:stride, :]

    cells = [seen(i, j) for i in range(kernel[0]) for j in range(kernel[1])]
    return jnp.concatenate(cells, axis=-1)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
) -> jax.Array:
    """One matrix product: what the kernel sees, times the kernel.

    Args:
        x: (..., h, w, channels in).
        kernel: (K_h, K_w, channels in, channels out).
        bias: (channels out,), added everywhere.
        stride, padding: the same along both axes.

    Returns:
        (..., h', w', channels out), with h' and w' from `output_size`.
    """
    size, flat = kernel.shape[:2], kernel.reshape(-1, kernel.shape[-1])
    y = patches(x, size, stride, padding) @ flat
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


def max_pool(x: jax.Array, size: int) -> jax.Array:
    """The largest of every block of size x size cells: (..., h, w, C) -> (..., h // n, w // n, C).

    Rows and columns that do not fill a block are dropped: stride n, no padding.
    """
    *lead, h, w, c = x.shape
    x = x[..., : h // size * size, : w // size * size, :]
    return x.reshape(*lead, h // size, size, w // size, size, c).max(axis=(-4, -2))


def as_matrix(
    kernel: np.ndarray, shape: tuple[int, int], *, stride: int = 1, padding: int = 0
) -> np.ndarray:
    """The matrix of a convolution: (outputs, inputs), both in the order of their arrays.

    A convolution is linear, so its matrix has the outputs of unit vectors as columns.

    Args:
        kernel: (K_h, K_w, channels in, channels out).
        shape: (height, width) of the input.
    """
    n = shape[0] * shape[1] * kernel.shape[2]
    units = jnp.eye(n).reshape(n, *shape, kernel.shape[2])
    columns = convolve(units, jnp.asarray(kernel, jnp.float32), stride=stride, padding=padding)
    return np.asarray(columns).reshape(n, -1).T
