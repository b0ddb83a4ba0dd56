"""What every signal class shares: the Dataset, reading picture files safely, splitting."""

import hashlib
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from learnit_utils.signals.transforms import cropped

SPLITS = ("train", "validation", "test")
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm")
MAX_PIXELS = 64 * 2**20
MIN_SIDE = 8
ORIENTATION = 0x0112  # of EXIF: how a stored picture is to be turned
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = 5  # from here on, height and width change places
# Folders that systems put beside pictures: Synology's thumbnails, a Mac's part of a zip, waste.
NOT_DATA = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN")


class DataError(ValueError):
    """A data file or folder that cannot be used; the message is one line and names it."""


class DataWarning(UserWarning):
    """Data were left out, or one of several was taken, where nobody said which."""


class Dataset(NamedTuple):
    """Pictures and where they come from."""

    arrays: np.ndarray  # (count, height, width, channels) float32 in [0, 1]
    names: tuple[str, ...]
    provenance: dict[str, Any]  # source, licence, split, count, sha256 of the arrays

    def get(self, name: str) -> np.ndarray:
        """The picture of that name, (height, width, channels)."""
        if name not in self.names:
            raise DataError(f"no picture {name!r} in {self.provenance['source']}")
        return self.arrays[self.names.index(name)]


def dataset(pictures, names, **provenance) -> Dataset:
    """Stack pictures into a Dataset and hash them."""
    arrays = np.stack(pictures)
    digest = hashlib.sha256(np.ascontiguousarray(arrays).data).hexdigest()
    return Dataset(
        arrays, tuple(names), {**provenance, "count": len(arrays), "data_sha256": digest}
    )


def split_of(key: str) -> str:
    """70 / 15 / 15 by hash: the same key always falls on the same side, whatever else there is."""
    u = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32
    return SPLITS[(u >= 0.70) + (u >= 0.85)]


def check_request(split: str, size: int) -> None:
    """Raise DataError unless split and size exist."""
    if split not in (*SPLITS, "all"):
        raise DataError(f"split = {split!r}: expected one of {', '.join(SPLITS)}, all")
    if not 1 <= size <= 4096:
        raise DataError(f"size = {size}: expected 1 to 4096 pixels")


# --- files --------------------------------------------------------------------------------------
def hidden(path: Path, root: Path) -> bool:
    """Whether a path is hidden below root: a name begins with a dot, or is one of `NOT_DATA`.

    A Mac leaves `._x.jpg` beside `x.jpg`, a server its thumbnails in `@eaDir`; none is data.
    """
    return any(n.startswith(".") or n in NOT_DATA for n in path.relative_to(root).parts)


def picture_files(root: Path) -> list[Path]:
    """Picture files below a folder that are not hidden, in the order of their paths."""
    found = (p for p in sorted(root.rglob("*")) if p.suffix.lower() in SUFFIXES)
    return [p for p in found if not hidden(p, root) and p.is_file()]


def left_out(root: Path, skipped: dict[str, str]) -> str:
    """One line on what was left out of a folder and why, {name: why}."""
    name, why = next(iter(skipped.items()))
    why = why if name in why else f"{name}: {why}"
    more = (
        f" (and {len(skipped) - 1} more; all in provenance['skipped'])" if len(skipped) > 1 else ""
    )
    return f"{root}: left out {why}{more}"


@cache
def tell(text: str) -> None:
    """Warn of what was done that nobody asked for, once."""
    warnings.warn(text, DataWarning, stacklevel=3)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: missing, or not JSON.
    """
    try:
        return json.loads(path.read_text("utf8"))
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except (ValueError, RecursionError, OSError):
        raise DataError(f"{path}: not JSON") from None


def read_picture(
    file: Path | BinaryIO, name: str | None = None, *, upright: bool = True
) -> np.ndarray:
    """Any ordinary picture file as (height, width, 3) float32 in [0, 1].

    Transparency is laid on white; gray, palette, CMYK and 16-bit files become RGB. Colour profiles
    are ignored.

    Args:
        file: its path, or the open file.
        name: what errors call it; that of the file unless given.
        upright: turn it by its EXIF tag. A picture whose camera is known is taken as it is stored.

    Raises:
        DataError: not a picture of an allowed format, broken or cut off, smaller than 8 x 8,
            of more than 64 Mpixel, or with values that are not pixels (floats outside [0, 1]).
    """
    name = name or getattr(file, "name", str(file))
    turned = _upright if upright else lambda picture: picture
    return _opened(file, name, lambda picture: _values(turned(picture), name))


def _upright(picture: Image.Image) -> Image.Image:
    """A picture turned by its EXIF tag alone, whatever else its EXIF holds."""
    turn = TURNS.get(_turn(picture))
    return picture if turn is None else picture.transpose(turn)


def _turn(picture: Image.Image) -> int | None:
    """The orientation that EXIF tells; none of `TURNS` if it tells none or cannot be read."""
    try:
        found = picture.getexif().get(ORIENTATION)
    except Exception:  # of all kinds
        return None
    return found if isinstance(found, int) else None


def read_layers(file: Path | BinaryIO, name: str, *, opaque: bool = False) -> np.ndarray:
    """A picture with transparency, as stored, as (height, width, 4) uint8, not premultiplied.

    Args:
        file: its path, or the open file.
        name: what errors call it.
        opaque: take a picture without transparency, too.

    Raises:
        DataError: as `read_picture`, or one without transparency.
    """

    def values(picture):
        if not (opaque or picture.has_transparency_data):
            raise DataError(f"{name}: no alpha, the picture is opaque")
        if picture.mode == "F" or picture.mode.startswith("I"):
            gray = np.round(255 * _values(picture, name)).astype(np.uint8)
            return np.concatenate([gray, np.full_like(gray[..., :1], 255)], -1)
        return np.asarray(picture.convert("RGBA"))

    return _opened(file, name, values)


def picture_size(file: Path, *, upright: bool = False) -> tuple[int, int]:
    """Width and height of a picture from its head alone: as it is stored, or as it is turned.

    Raises:
        DataError: as `read_picture`, as far as the head tells.
    """

    def size(picture):
        turned = upright and _turn(picture) in TURNS and _turn(picture) >= SIDEWAYS
        return picture.size[::-1] if turned else picture.size

    return _opened(file, str(file), size, whole=False)


def _opened(file, name, values, whole=True):
    """values(picture) of a file that is a sound picture, as far as its head tells unless whole."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as picture:
                w, h = picture.size
                if w * h > MAX_PIXELS:
                    raise DataError(f"{name}: {w} x {h} pixels, more than the {MAX_PIXELS} allowed")
                if min(w, h) < MIN_SIDE:
                    least = f"at least {MIN_SIDE} x {MIN_SIDE} needed"
                    raise DataError(f"{name}: {w} x {h} pixels, {least}")
                if whole:
                    picture.load()
                return values(picture)
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"{name}: more than the {MAX_PIXELS} pixels allowed") from None
    except Exception as e:  # decoders raise of all kinds: struct.error, ZeroDivisionError, ...
        why = str(e).splitlines()[0] if str(e) else type(e).__name__
        if "cannot identify" in why:
            why = f"not a picture of an allowed format ({', '.join(FORMATS)})"
        raise DataError(f"{name}: {why}") from None


def _values(picture: Image.Image, name: str) -> np.ndarray:
    """(height, width, 3) float32 in [0, 1] of a decoded picture of any mode."""
    if picture.mode == "F" or picture.mode.startswith("I"):
        scale = 1.0 if picture.mode == "F" else 65535.0
        gray = np.asarray(picture, np.float32) / np.float32(scale)
        if not (np.isfinite(gray).all() and gray.min() >= 0 and gray.max() <= 1):
            raise DataError(
                f"{name}: values outside [0, {scale:g}] in a picture of mode {picture.mode}"
            )
        return np.repeat(gray[..., None], 3, axis=-1)
    if picture.has_transparency_data:
        front = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", front.size, "white"), front)
    return np.asarray(picture.convert("RGB"), np.float32) / 255


def spread(count: int, limit: int | None) -> np.ndarray:
    """Indices of `limit` of `count` pictures, evenly spaced; of all if None or more than there are.

    Raises:
        DataError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit = {limit}: expected an integer >= 1")
    few = count if limit is None else min(limit, count)
    return np.arange(few) * count // max(few, 1)


def read_files(paths, shape, gray, on_error, name=lambda p: p.name):
    """Read, crop and resize files to a shape (height, width).

    Returns pictures, names, {name: why} of those left out, and the names of those cropped by more
    than a pixel of the result.
    """
    if on_error not in ("raise", "skip"):
        raise DataError(f"on_error = {on_error!r}: expected one of raise, skip")
    pictures, names, skipped, cut = [], [], {}, []
    for path in paths:
        try:
            whole = read_picture(path)
            pictures.append(cropped(whole, shape, gray))
            names.append(name(path))
            ratios = whole.shape[0] / shape[0], whole.shape[1] / shape[1]
            if (max(ratios) / min(ratios) - 1) * max(shape) > 1:
                cut.append(name(path))
        except DataError as e:
            if on_error == "raise":
                raise
            skipped[name(path)] = str(e)
    return pictures, names, skipped, cut


def files_dataset(root, paths, shape, gray, on_error, name, **provenance) -> Dataset:
    """Picture files as a Dataset, and in its provenance what was left out and what was cropped.

    "skipped" says why files were left out, "cropped" how many have other proportions.

    Args:
        root: the folder, named if nothing in it can be used.
        paths, shape, gray, on_error, name: as in `read_files`.
        provenance: source, licence and split.

    Raises:
        DataError: a file that cannot be used, or none that can.
    """
    pictures, names, skipped, cut = read_files(paths, shape, gray, on_error, name)
    if not pictures:
        raise DataError(f"{root}: no usable picture in split {provenance['split']!r}")
    return dataset(pictures, names, skipped=skipped, cropped=len(cut), **provenance)


DRAWN = {"train": 320, "validation": 40, "test": 80}  # pictures of a class drawn from a seed


def drawn_dataset(draw, split, size, seed, limit, source) -> Dataset:
    """Pictures drawn from a seed, each from (seed, split, its number) alone.

    So more pictures leave the first as they are, and no picture stands on two sides.

    Args:
        draw: (random generator, split) -> (size, size, channels) float32 in [0, 1].
        split: "train" (320), "validation" (40), "test" (80) or "all" (440).
        size: pixels of a side.
        seed: of the collection.
        limit: so many pictures per split instead of those numbers, fewer or more.
        source: what they are, for the provenance.

    Raises:
        DataError: a split, size, seed or limit that is not possible.
    """
    check_request(split, size)
    if seed < 0 or (limit is not None and limit < 1):
        raise DataError(f"seed = {seed}, limit = {limit}: expected a seed >= 0 and a limit >= 1")
    pictures, names = [], []
    for number, part in enumerate(SPLITS):
        for i in range(limit or DRAWN[part]) if split in (part, "all") else ():
            pictures.append(draw(np.random.default_rng([seed, number, i]), part))
            names.append(f"{part}/{i}")
    source = f"{source}, seed {seed}"
    return dataset(pictures, names, source=source, licence="generated", split=split)
