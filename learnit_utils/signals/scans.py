"""A sinogram of one's own: line integrals and their angles, from a file.

    NAME.npz   `sinogram`, with `angles` in radians or `degrees`, and `axis` if wanted
    NAME.npy   the sinogram alone
    NAME.tif   (.tiff) the sinogram as a picture of one page; of several pages, each is a view

A sinogram has the shape (views, detectors). One of three axes, or of several pages, is
(views, rows, detectors), of which a row is taken. Beside a file without angles they may stand in
NAME.angles.txt, in degrees, one a line; otherwise the views are taken to be even over half a turn,
and `provenance` says so. Values are line integrals of absorption, the logarithm of what went in
over what arrived, in any unit. Geometry as in `forward.tomography`: angle 0 adds up the rows, and
the axis of rotation falls on detector D // 2 of D.
"""

import hashlib
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageSequence

from learnit_utils.signals.base import DataError

SUFFIXES = (".npz", ".npy", ".tif", ".tiff")
MAGIC = b"\x93NUMPY"
MOST = 2**28  # values of a file
LEAST = 8  # detectors
FULL_TURN = 2 * math.pi + 1e-3


class Scan(NamedTuple):
    """A sinogram of one slice."""

    sinogram: np.ndarray  # (views, detectors) float32
    angles: np.ndarray  # (views,) float32, radians
    provenance: dict[str, Any]  # source, licence, views, detectors, angles, sha256 of both


def read(file: str | Path, *, row: int | None = None, axis: float | None = None) -> Scan:
    """A scan from a file; the formats are those at the head of this module.

    Args:
        row: of a sinogram with three axes; the middle one unless given.
        axis: the detector, counted from 0, on which the axis of rotation falls, if it is not D // 2
            and the file does not say; the sinogram is shifted, by linear interpolation.

    Raises:
        DataError: no such file, another format, a broken file; a sinogram of another shape, with
            values that are not finite or all equal; angles that do not fit, or that are degrees
            where radians stand.
    """
    path = Path(file).expanduser()
    name = path.name
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{name}: expected a sinogram, one of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    arrays = _arrays(path)
    sinogram = _slice(arrays.pop("sinogram"), row, name)
    angles, how = _angles(arrays, path, len(sinogram))
    axis = arrays.get("axis", axis) if axis is None else axis
    if axis is not None:
        sinogram = _centred(sinogram, axis, name)
    about = dict(source=name, licence="as the file's owner says", angles=how)
    about |= dict(views=len(sinogram), detectors=sinogram.shape[1])
    digest = hashlib.sha256(sinogram.tobytes() + angles.tobytes()).hexdigest()
    return Scan(sinogram, angles, about | dict(data_sha256=digest))


# --- files --------------------------------------------------------------------------------------
def _arrays(path: Path) -> dict[str, np.ndarray]:
    """What a file holds; "sinogram" is among it."""
    read = dict(zip(SUFFIXES, (_npz, _npy, _tiff, _tiff)))[path.suffix.lower()]
    try:
        found = read(path)
    except DataError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        SyntaxError,
        MemoryError,
        zipfile.BadZipFile,
    ) as e:
        why = str(e).splitlines()[0] if str(e) else type(e).__name__
        why = "holds Python objects, expected numbers" if "allow_pickle" in why else why
        raise DataError(f"{path.name}: {why}") from None
    if "sinogram" not in found:
        held = ", ".join(found) or "nothing"
        raise DataError(f"{path.name}: an array `sinogram` is needed, it holds {held:.80}")
    return found


def _allowed(values: int, path: Path) -> None:
    if values > MOST:
        raise DataError(f"{path.name}: {values} values, more than the {MOST} allowed")


def _npz(path):
    with zipfile.ZipFile(path) as packed:
        _allowed(sum(info.file_size for info in packed.infolist()) // 8, path)
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def _npy(path):
    with path.open("rb") as f:
        if f.read(len(MAGIC)) != MAGIC:  # NumPy would take a zip file or a pickle, too
            raise DataError(f"{path.name}: not a file of NumPy's format .npy")
    values = np.load(path, mmap_mode="r", allow_pickle=False)  # so that its size is checked
    _allowed(values.size, path)
    return dict(sinogram=np.array(values))


def _tiff(path):
    with Image.open(path, formats=("TIFF",)) as picture:
        _allowed(picture.size[0] * picture.size[1] * getattr(picture, "n_frames", 1), path)
        pages = []
        for page in ImageSequence.Iterator(picture):
            if len(page.getbands()) != 1 or page.mode == "P":
                raise DataError(f"{path.name}: a page of mode {page.mode}, expected one channel")
            pages.append(np.asarray(page, np.float32))
    if len({page.shape for page in pages}) > 1:
        raise DataError(f"{path.name}: pages of several sizes")
    return dict(sinogram=pages[0] if len(pages) == 1 else np.stack(pages))


# --- what they hold -----------------------------------------------------------------------------
def _numbers(values, what, name) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind not in "iuf":
        raise DataError(f"{name}: {what} of type {values.dtype}, expected real numbers")
    return values


def _slice(values, row, name) -> np.ndarray:
    """The sinogram (views, detectors) float32 of one row."""
    values = _numbers(values, "a sinogram", name)
    if values.ndim == 3:
        row = values.shape[1] // 2 if row is None else row
        if not 0 <= row < values.shape[1]:
            raise DataError(f"{name}: row = {row}, expected 0 to {values.shape[1] - 1}")
        values = values[:, row]
    if values.ndim != 2 or not len(values) or values.shape[1] < LEAST:
        shape = f"(views, detectors), with at least {LEAST} detectors"
        raise DataError(f"{name}: a sinogram of shape {values.shape}, expected {shape}")
    values = values.astype(np.float32)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        where = f"the first in view {bad[0][0]} at detector {bad[0][1]}"
        raise DataError(f"{name}: {len(bad)} values that are not finite, {where}")
    if values.min() == values.max():
        raise DataError(f"{name}: all values are {values.min():g}, there is nothing to see")
    return values


def _angles(arrays, path, views) -> tuple[np.ndarray, str]:
    """The angles in radians, and where they are from."""
    beside = path.with_suffix(".angles.txt")
    if "angles" in arrays and "degrees" in arrays:
        raise DataError(f"{path.name}: both angles and degrees, expected one")
    if "angles" in arrays:
        turns, name, most, how = arrays["angles"], path.name, FULL_TURN, "of the file, in radians"
    elif "degrees" in arrays:
        turns, name, most, how = arrays["degrees"], path.name, 360.1, "of the file, in degrees"
    elif beside.exists():
        turns, name, most, how = _text(beside), beside.name, 360.1, f"of {beside.name}, in degrees"
    else:
        even = (np.arange(views) * (np.pi / views)).astype(np.float32)
        return even, "even over half a turn, as none are given"
    turns = _numbers(turns, "angles", name).astype(np.float64)
    if turns.shape != (views,):
        raise DataError(f"{name}: angles of shape {turns.shape} for {views} views")
    if not np.isfinite(turns).all():
        raise DataError(f"{name}: angles that are not finite")
    if np.abs(turns).max() > most:
        what = "radians; degrees go by the name `degrees`" if most == FULL_TURN else "degrees"
        raise DataError(f"{name}: angles up to {np.abs(turns).max():.4g}, expected {what}")
    turns = turns if most == FULL_TURN else np.deg2rad(turns)
    return turns.astype(np.float32), how


def _text(path: Path) -> np.ndarray:
    try:
        return np.array([float(line) for line in path.read_text("utf8").split()])
    except (OSError, ValueError):
        raise DataError(f"{path.name}: expected angles in degrees, one a line") from None


def _centred(sinogram, axis, name) -> np.ndarray:
    """The sinogram shifted so that the axis of rotation falls on detector D // 2."""
    many, at = sinogram.shape[1], np.ravel(_numbers(axis, "axis", name))
    if len(at) != 1 or not 0 <= at[0] <= many - 1:
        raise DataError(f"{name}: axis = {axis}, expected a detector in 0 to {many - 1}")
    places = np.arange(many) + float(at[0]) - many // 2
    shifted = [np.interp(places, np.arange(many), view, 0, 0) for view in sinogram]
    return np.array(shifted, np.float32)


# --- another resolution -------------------------------------------------------------------------
def binned(scan: Scan, size: int) -> Scan:
    """The scan by at most `size` detectors, each the mean over what it covers of the finer ones.

    Args:
        size: detectors; a scan that has no more is returned as it is.

    Raises:
        DataError: fewer than 8.
    """
    many = scan.sinogram.shape[1]
    if size < LEAST:
        raise DataError(f"size = {size}: expected at least {LEAST} detectors")
    if many <= size:
        return scan
    fine, coarse = ((np.arange(n) - n // 2) / n for n in (many, size))
    low = np.maximum(coarse[:, None] - 0.5 / size, fine[None] - 0.5 / many)
    high = np.minimum(coarse[:, None] + 0.5 / size, fine[None] + 0.5 / many)
    share = np.maximum(high - low, 0) * size
    sinogram = (scan.sinogram @ share.T).astype(np.float32)
    return scan._replace(sinogram=sinogram, provenance=scan.provenance | dict(detectors=size))
