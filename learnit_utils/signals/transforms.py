"""Pictures made into other pictures: cropped, resampled, sent through a file format."""

import io

import numpy as np
from PIL import Image


def unit(picture: np.ndarray) -> np.ndarray:
    """Bytes 0 ... 255 as float32 in [0, 1]."""
    return np.asarray(picture, np.float32) / 255


def shrunk(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width in pixels, in the same proportions, when the longer one is `size`.

    >>> shrunk(3000, 4000, 64)
    (48, 64)
    """
    longer = max(height, width)
    return max(1, round(size * height / longer)), max(1, round(size * width / longer))


def square(picture: np.ndarray, size: int, gray: bool = False) -> np.ndarray:
    """Centre crop to a square and resample to (size, size, 3 or 1); see `cropped`."""
    return cropped(picture, (size, size), gray)


def cropped(picture: np.ndarray, shape: tuple[int, int], gray: bool = False) -> np.ndarray:
    """The largest central part of a shape's proportions, resampled (bicubic, antialiased) to it.

    Gray is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Args:
        picture: (h, w, 3) in [0, 1].
        shape: height and width of the result, in pixels.

    Returns:
        (height, width, 3), or 1 channel if gray.
    """
    h, w = picture.shape[:2]
    scale = min(h / shape[0], w / shape[1])  # pixels of the picture for one of the result
    high, wide = (min(side, round(scale * n)) for side, n in zip((h, w), shape))
    top, left = (h - high) // 2, (w - wide) // 2
    picture = picture[top : top + high, left : left + wide]
    if gray:
        # Not a matrix product: its last bits depend on the processor, and the hash of the data too.
        red, green, blue = np.moveaxis(picture, -1, 0)
        luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
        picture = luma[..., None]
    return picture if (high, wide) == tuple(shape) else resize(picture, *shape)


def resize(picture: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """(h, w, channels) resampled to (height, width, channels): bicubic, antialiased.

    Without a width, to a square.

    Pixel centres are aligned, as in `pixels.grid(..., align="centre")`; clipped to [0, 1].
    """
    planes = [Image.fromarray(np.ascontiguousarray(p)) for p in np.moveaxis(picture, -1, 0)]
    resized = [
        np.asarray(p.resize((width or height, height), Image.Resampling.BICUBIC)) for p in planes
    ]
    return np.clip(np.stack(resized, -1), 0, 1).astype(np.float32)


def block_mean(pictures: np.ndarray, size: int) -> np.ndarray:
    """(views, side, side, 3) uint8 averaged over blocks to (views, size, size, 3) uint8.

    Raises:
        ValueError: a size that does not divide the side.
    """
    side = pictures.shape[1]
    if size == side:
        return pictures
    if size > side or side % size:
        raise ValueError(f"size = {size}: expected {side} or a divisor of it")
    k = side // size
    blocks = pictures.reshape(len(pictures), size, k, size, k, 3)
    return np.round(blocks.mean(axis=(2, 4))).astype(np.uint8)


def encoded(image: np.ndarray, kind: str, quality: int) -> tuple[float, np.ndarray]:
    """An image file format as a code: its rate, and the image after one round trip.

    Args:
        image: (height, width, 3) in [0, 1].
        kind: "JPEG" (baseline, optimised Huffman tables) or "WEBP" (lossy, slowest method).
        quality: 1 to 100.

    Returns:
        Bits per pixel of the whole file, headers included, and the decoded (height, width, 3).

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in ("JPEG", "WEBP"):
        raise ValueError(f"kind = {kind!r}: expected one of JPEG, WEBP")
    pixels = np.rint(255 * np.clip(np.asarray(image), 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=quality, optimize=True, method=6)
    decoded = np.asarray(Image.open(buffer).convert("RGB"), np.float32) / 255
    return 8 * len(buffer.getvalue()) / (pixels.shape[0] * pixels.shape[1]), decoded
