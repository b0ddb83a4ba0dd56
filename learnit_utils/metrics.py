"""How far an image is from another: MSE, PSNR, SSIM, and where in the spectrum the error sits."""

import jax
import jax.numpy as jnp
import numpy as np

SMALLEST = np.finfo(np.float32).tiny  # an error, so that the PSNR of a perfect fit is finite


def _pair(a, b) -> None:
    """Raise ValueError unless a and b are of one shape and of floating-point numbers."""
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    for u in (a, b):
        if not jnp.issubdtype(u.dtype, jnp.floating):
            raise ValueError(f"values of type {u.dtype}: expected floating point, as of u / 255")


def mse(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean squared error over all entries.

    Args:
        a, b: arrays of one shape, any number of axes.

    Returns:
        A scalar, in squared units of the values.

    Raises:
        ValueError: if the shapes differ, or values that are not floating point: whole numbers of
            8 bits, as in picture files, would wrap around.
    """
    _pair(a, b)
    return jnp.mean((a - b) ** 2)


def decibel(mse: float | jax.Array | np.ndarray, peak: float = 1.0) -> np.ndarray:
    """PSNR in dB of mean squared errors: 10 log10(peak^2 / MSE), entry by entry, float64.

    Infinite for 0; nan for nan, so a diverged fit stays visible.

    >>> float(decibel(0.01))
    20.0
    """
    with np.errstate(divide="ignore"):
        return 10 * np.log10(peak**2 / np.asarray(mse, np.float64))


def psnr(a: jax.Array, b: jax.Array, peak: float = 1.0) -> jax.Array:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / MSE).

    Args:
        a, b: arrays of one shape, any number of axes.
        peak: the range of the values.

    Returns:
        A scalar in dB; infinite if a equals b.

    Raises:
        ValueError: as `mse`.
    """
    return 10 * jnp.log10(peak**2 / mse(a, b))


def ssim(a: jax.Array, b: jax.Array, peak: float = 1.0) -> jax.Array:
    """Structural similarity, mean over the interior and over channels; 1 for equal images.

    Gaussian window of standard deviation 1.5 cut at 11 x 11, population covariance.

    Args:
        a, b: (height, width) or (height, width, channels), both sides at least 11.
        peak: the range of the values.

    Raises:
        ValueError: shapes that differ, other numbers of axes, a side under 11 pixels, or values
            that are not floating point.

    Source: Wang et al. 2004, equation 13; equals scikit-image's `structural_similarity` with
    gaussian_weights=True, sigma=1.5, use_sample_covariance=False.
    """
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise ValueError(f"shapes {a.shape} and {b.shape}: two equal (height, width[, channels])")
    _pair(a, b)
    if min(a.shape[:2]) < 11:
        raise ValueError(f"shape {a.shape}: both sides at least 11 pixels")
    window = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = jnp.asarray(window / window.sum(), a.dtype)

    def blur(u):
        """Separable convolution of (height, width) where the window fits."""
        rows = jax.vmap(lambda r: jnp.convolve(r, window, mode="valid"))(u)
        return jax.vmap(lambda c: jnp.convolve(c, window, mode="valid"))(rows.T).T

    def one(u, v):
        mu, mv = blur(u), blur(v)
        uu, vv, uv = blur(u * u) - mu**2, blur(v * v) - mv**2, blur(u * v) - mu * mv
        c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
        top = (2 * mu * mv + c1) * (2 * uv + c2)
        return jnp.mean(top / ((mu**2 + mv**2 + c1) * (uu + vv + c2)))

    if a.ndim == 2:
        return one(a, b)
    return jnp.mean(jax.vmap(one, in_axes=-1)(a, b))


def radial_spectrum(image: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Power per ring of spatial frequency.

    Args:
        image: (height, width) or (height, width, channels); channels are averaged.

    Returns:
        frequency: 0, 1, 2, ... cycles per longer side, up to the corner of the spectrum.
        power: sum over the ring of |FFT|^2 / pixels^2. All rings add up to the mean square of the
        image (Parseval); without ring 0, to its variance.
    """
    u = np.asarray(image, np.float64)
    u = u[..., None] if u.ndim == 2 else u
    h, w = u.shape[:2]
    power = np.mean(np.abs(np.fft.fft2(u, axes=(0, 1)) / (h * w)) ** 2, axis=-1)
    n = max(h, w)
    radius = np.hypot(np.fft.fftfreq(h, 1 / n)[:, None], np.fft.fftfreq(w, 1 / n)[None, :])
    ring = np.rint(radius).astype(int)
    return np.arange(ring.max() + 1), np.bincount(ring.ravel(), weights=power.ravel())
