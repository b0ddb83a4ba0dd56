"""WAV files: read safely, mixed down, resampled, cut where there is sound."""

import struct
import wave
from math import gcd
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from learnit_utils.signals.base import DataError, hidden

SUFFIXES = (".wav", ".wave")
MAX_BYTES = 512 * 2**20
RATES = (1000, 384_000)  # samples a second that are read
QUIET = 10 ** (-30 / 20)  # a clip this far below the loudest of its file is not taken
SILENT = 1e-4  # a file whose loudest clip has a smaller deviation holds no sound
PEAK = 0.45  # to which a clip is scaled; 1/2 is the most


def read(path: Path) -> tuple[np.ndarray, int]:
    """A WAV file as samples in [-1, 1], channels averaged, and how many there are a second.

    PCM of 8, 16, 24 and 32 bits is read.

    Raises:
        DataError: not such a file, broken, cut off, empty, of more than 512 MiB, or of a rate
            outside 1 to 384 kHz.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: more than {MAX_BYTES // 2**20} MiB")
        with wave.open(str(path), "rb") as file:
            channels, depth, rate, frames, *_ = file.getparams()
            data = file.readframes(frames)
    except (wave.Error, EOFError, OSError, struct.error, MemoryError, RuntimeError) as e:
        why = str(e).splitlines()[0] if str(e) else "cut off"
        raise DataError(f"{path}: not a WAV file of PCM samples ({why})") from None
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{path}: {rate} samples a second, expected {RATES[0]} to {RATES[1]}")
    if depth not in (1, 2, 3, 4) or not frames:
        raise DataError(f"{path}: {frames} samples of {8 * depth} bits, expected 8 to 32 bits")
    if len(data) < frames * channels * depth:
        raise DataError(f"{path}: cut off, {len(data)} bytes of {frames * channels * depth}")
    return _samples(data, depth).reshape(frames, channels).mean(axis=1), rate


def _samples(data: bytes, depth: int) -> np.ndarray:
    """Little-endian integers of so many bytes as numbers in [-1, 1); one byte has no sign."""
    raw = np.frombuffer(data, np.uint8).reshape(-1, depth)
    if depth == 1:
        return raw[:, 0].astype(np.float64) / 128 - 1
    high = np.zeros((len(raw), 4), np.uint8)
    high[:, 4 - depth :] = raw
    return high.view("<i4")[:, 0] / 2.0**31


def resampled(sound: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Samples at another rate, by a polyphase filter that lets nothing alias."""
    common = gcd(rate, to)
    return sound if rate == to else resample_poly(sound, to // common, rate // common)


def loudest(sound: np.ndarray, size: int, most: int) -> list[np.ndarray]:
    """The loudest clips of a sound in their order, each without its mean and with peak 1.

    Clips lie one after the other; those 30 dB below the loudest are not taken.
    """
    rows = sound[: len(sound) // size * size].reshape(-1, size)
    rows = rows - rows.mean(axis=1, keepdims=True)
    strength = rows.std(axis=1)
    if not len(rows) or strength.max() < SILENT:
        return []
    good = [i for i in np.argsort(-strength, kind="stable")[:most]]
    good = sorted(i for i in good if strength[i] >= QUIET * strength.max())
    return [rows[i] / np.abs(rows[i]).max() for i in good]


def cut(path: Path, size: int, most: int, rate: int) -> list[np.ndarray]:
    """The loudest clips of a file, (size,) each in [-1, 1].

    Raises:
        DataError: as `read`; or it is shorter than a clip, or silent.
    """
    found, its_rate = read(path)
    sound = resampled(found, its_rate, rate)
    if len(sound) < size:
        raise DataError(f"{path}: {len(sound) / rate:.3f} s of sound, expected {size / rate:.3f}")
    if not (clips := loudest(sound, size, most)):
        raise DataError(f"{path}: silent")
    return clips


def cut_files(root: Path, size: int, most: int, rate: int, on_error: str):
    """{path: clips} of every WAV file below a folder, and {name: why} of those left out.

    Raises:
        DataError: no folder, no file that can be used, or with on_error "raise" one that cannot.
    """
    if not root.is_dir():
        raise DataError(f"{root}: not a folder")
    paths = [p for p in sorted(root.rglob("*")) if p.suffix.lower() in SUFFIXES]
    paths = [p for p in paths if not hidden(p, root) and p.is_file()]
    found, skipped = {}, {}
    for path in paths:
        try:
            if not path.resolve().is_relative_to(root.resolve()):
                raise DataError(f"{path}: a link that leads out of {root}")
            found[path] = cut(path, size, most, rate)
        except DataError as e:
            if on_error == "raise":
                raise
            skipped[path.relative_to(root).as_posix()] = str(e)
    if not found:
        why = next(iter(skipped.values()), f"no sound in it ({', '.join(SUFFIXES)})")
        raise DataError(why if str(root) in why else f"{root}: {why}")
    return found, skipped
