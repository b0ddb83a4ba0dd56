"""The plainest measurement: the values of a picture at pixel positions."""

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils.fields import Field, Theta


def grid(height: int, width: int | None = None, *, align: str = "corner") -> jax.Array:
    """Coordinates of the pixels of the unit square, (height, width, 2), rows first.

    Args:
        height, width: pixels; a square unless width is given.
        align: "corner" puts pixel i of n at i / n, in [0, 1), as learnit does; "centre" puts it at
            (i + 1/2) / n, so that a coarse and a fine grid of the same picture share their centre.

    Raises:
        ValueError: another alignment.
    """
    if align not in ("corner", "centre"):
        raise ValueError(f"align = {align!r}: one of corner, centre")
    shift = 0.5 if align == "centre" else 0.0
    sides = [np.arange(n) + shift for n in (height, width or height)]
    rows, cols = (side / len(side) for side in sides)
    return jnp.asarray(np.stack(np.meshgrid(rows, cols, indexing="ij"), -1), jnp.float32)


def sample(key: jax.Array, coords: jax.Array, image: jax.Array, n: int):
    """n pixels drawn without replacement.

    Args:
        coords: (height, width, 2), as from `grid`.
        image: (height, width, channels).

    Returns:
        Coordinates (n, 2) and values (n, channels).

    Raises:
        ValueError: if n is not between 1 and the number of pixels.
    """
    pixels = coords.shape[0] * coords.shape[1]
    if not 1 <= n <= pixels:
        raise ValueError(f"n = {n}: between 1 and the {pixels} pixels of the picture")
    index = jax.random.choice(key, pixels, (n,), replace=False)
    return coords.reshape(pixels, -1)[index], image.reshape(pixels, -1)[index]


def render(field: Field, theta: Theta, coords: jax.Array, chunk: int = 2**15) -> jax.Array:
    """The field at every coordinate, (..., 2) -> (..., channels), `chunk` points at a time.

    Memory is set by `chunk`, so a field can be drawn at any resolution.
    """
    flat = coords.reshape(-1, coords.shape[-1])
    if len(flat) <= chunk:
        return _apply(field, theta, flat).reshape(*coords.shape[:-1], -1)
    pieces = [_apply(field, theta, flat[i : i + chunk]) for i in range(0, len(flat), chunk)]
    return jnp.concatenate(pieces).reshape(*coords.shape[:-1], -1)


_apply = jax.jit(lambda field, theta, x: field.apply(theta, x), static_argnums=0)
