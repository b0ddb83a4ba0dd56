"""Sung vowels, drawn from a seed: a voice as a source and a filter. Recordings of one's own.

The source is a periodic pulse of the glottis, given by its harmonics; the filter is the vocal
tract, a resonance at every formant. Formants of men, women and children are published means.
Nothing is sampled from a recording, and no harmonic lies above the band, so nothing is aliased.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from learnit_utils.signals import _wav, local
from learnit_utils.signals.base import (
    DataError,
    Dataset,
    check_request,
    dataset,
    drawn_dataset,
    spread,
)

RATE = 8000  # samples per second
PITCH = 200.0  # Hz, of a voice of middle height
BAND = (3400.0, 3800.0)  # Hz: harmonics fade out between them
LEVELS = 2**16  # a sample has 16 bits, as in a WAV file; the middle one is silence
VOWELS = ("i", "ɪ", "ɛ", "æ", "ɑ", "ɔ", "ʊ", "u", "ʌ", "ɝ")
# Mean pitch and first three formants in Hz, a column per vowel. Source: Peterson and Barney 1952,
# "Control methods used in a study of the vowels", J. Acoust. Soc. Am. 24, table II.
SPEAKERS = {
    "man": (
        (136, 135, 130, 127, 124, 129, 137, 141, 130, 133),
        (270, 390, 530, 660, 730, 570, 440, 300, 640, 490),
        (2290, 1990, 1840, 1720, 1090, 840, 1020, 870, 1190, 1350),
        (3010, 2550, 2480, 2410, 2440, 2410, 2240, 2240, 2390, 1690),
    ),
    "woman": (
        (235, 232, 223, 210, 212, 216, 232, 231, 221, 218),
        (310, 430, 610, 860, 850, 590, 470, 370, 760, 500),
        (2790, 2480, 2330, 2050, 1220, 920, 1160, 950, 1400, 1640),
        (3310, 3070, 2990, 2850, 2810, 2710, 2680, 2670, 2780, 1960),
    ),
    "child": (
        (272, 269, 260, 251, 256, 263, 276, 274, 261, 261),
        (370, 530, 690, 1010, 1030, 680, 560, 430, 850, 560),
        (3200, 2730, 2610, 2320, 1370, 1060, 1410, 1170, 1590, 1820),
        (3730, 3600, 3570, 3320, 3170, 3180, 3310, 3260, 3360, 2160),
    ),
}
BANDWIDTHS = (60.0, 90.0, 150.0)  # Hz, as in formant synthesizers (Klatt 1980)


class Note(NamedTuple):
    """One sung vowel: who sings what, and how."""

    speaker: str  # of `SPEAKERS`
    vowel: str  # of `VOWELS`
    pitch: float  # Hz
    formants: tuple[float, ...]  # Hz
    glide: float = 0.0  # of the pitch over the clip, as a part of it
    vibrato: tuple[float, float, float] = (0.0, 5.0, 0.0)  # depth as a part of the pitch, Hz, phase
    jitter: float = 0.0  # deviation of the pitch, as a part of it
    breath: float = 0.0  # noise beside the voice, as a part of its deviation
    attack: float = 0.02  # seconds in which it begins
    release: float = 0.05  # seconds in which it ends
    loudness: float = 0.45  # of its peak, 1/2 at most


def draw_note(rng: np.random.Generator) -> Note:
    """A note of a random speaker, up to half an octave above or below where that speaker talks."""
    speaker = str(rng.choice(list(SPEAKERS)))
    number = int(rng.integers(len(VOWELS)))
    pitch, *formants = (row[number] for row in SPEAKERS[speaker])
    tract = rng.normal(1, 0.03)  # a longer tract lowers all of them
    return Note(
        speaker,
        VOWELS[number],
        pitch * 2 ** rng.uniform(-0.5, 0.5),
        tuple(float(f * tract * rng.normal(1, 0.02)) for f in formants),
        rng.uniform(-0.04, 0.04),
        (rng.uniform(0.0, 0.02), rng.uniform(4.5, 6.5), rng.uniform(0, 2 * np.pi)),
        rng.uniform(0.002, 0.01),
        rng.uniform(0.0, 0.03),
        rng.uniform(0.015, 0.06),
        rng.uniform(0.03, 0.08),
        rng.uniform(0.3, 0.48),
    )


def transfer(formants: tuple[float, ...], hertz: np.ndarray) -> np.ndarray:
    """The vocal tract at some frequencies, complex: a product of resonances, 1 at 0 Hz.

    Source: Fant 1960, "Acoustic theory of speech production", the all-pole model.
    """
    s = 2j * np.pi * np.asarray(hertz)
    out = np.ones_like(s)
    for formant, width in zip(formants, BANDWIDTHS, strict=True):
        pole = np.pi * (-width + 2j * formant)
        out *= abs(pole) ** 2 / ((s - pole) * (s - pole.conjugate()))
    return out


def pitch_track(rng: np.random.Generator, note: Note, size: int) -> np.ndarray:
    """The pitch in Hz at every sample, (size,): a glide, vibrato, jitter from pulse to pulse."""
    t = np.arange(size) / RATE
    depth, hertz, phase = note.vibrato
    pulses = int(2 * note.pitch * size / RATE) + 2
    wander = np.interp(t * note.pitch, np.arange(pulses), rng.normal(0, note.jitter, pulses))
    bend = note.glide * (t * RATE / size - 0.5) + depth * np.sin(2 * np.pi * hertz * t + phase)
    return note.pitch * (1 + bend + wander)


def voiced(note: Note, pitch: np.ndarray, phase: float = 0.0) -> np.ndarray:
    """The steady voice, (size,): the pulse's harmonics through the formants.

    The flow through the glottis falls by 12 dB an octave; radiation at the lips gives 6 back. The
    filter is taken at the frequency that a harmonic has at the time.
    """
    turns = 2 * np.pi * np.cumsum(pitch) / RATE + phase
    out = np.zeros(len(pitch))
    for k in range(1, int(BAND[1] / pitch.min()) + 1):
        height = transfer(note.formants, k * pitch) * _fade(k * pitch) / k
        out += (height * np.exp(1j * k * turns)).real
    return out


def _fade(hertz: np.ndarray) -> np.ndarray:
    """1 up to the band's edge, 0 above it."""
    low, high = BAND
    return np.cos(np.pi / 2 * np.clip((hertz - low) / (high - low), 0, 1)) ** 2


def _breath(rng: np.random.Generator, note: Note, size: int) -> np.ndarray:
    """Noise through the same formants, of deviation 1."""
    spectrum = np.fft.rfft(rng.normal(size=size))
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    noise = np.fft.irfft(spectrum * transfer(note.formants, hertz) * _fade(hertz), size)
    return noise / max(noise.std(), 1e-12)


def envelope(note: Note, size: int) -> np.ndarray:
    """How loud the note is over the clip, (size,) in [0, 1]: it begins and ends in silence."""
    t = np.arange(size) / RATE
    up = np.clip(t / min(note.attack, t[-1] / 2 or 1), 0, 1)
    down = np.clip((t[-1] - t) / min(note.release, t[-1] / 2 or 1), 0, 1)
    return np.sin(np.pi / 2 * up) ** 2 * np.sin(np.pi / 2 * down) ** 2


def sing(rng: np.random.Generator, note: Note, size: int) -> np.ndarray:
    """A note as samples, (size,) in [-1/2, 1/2]."""
    voice = voiced(note, pitch_track(rng, note, size), rng.uniform(0, 2 * np.pi))
    voice = voice / max(voice.std(), 1e-12) + note.breath * _breath(rng, note, size)
    sound = voice * envelope(note, size)
    return note.loudness * sound / max(np.abs(sound).max(), 1e-12)


def clip(sound: np.ndarray) -> np.ndarray:
    """Samples (size,) in [-1/2, 1/2] as a signal (size, 1) in [0, 1] of 16 bits; 1/2 is silence."""
    levels = np.clip(np.rint(LEVELS * (sound + 0.5)), 0, LEVELS - 1)
    return (levels / LEVELS).astype(np.float32)[:, None]


def _check(size: int, gray: bool) -> None:
    if size < 2:
        raise DataError(f"size = {size}: expected 2 to 4096 samples")
    if not gray:
        raise DataError("gray = False: a sound has no colours, expected gray=True")


def load(
    split: str = "train",
    *,
    size: int = 2048,
    gray: bool = True,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Sung vowels as signals (count, size, 1) in [0, 1], with 1/2 for silence.

    Args:
        size: samples, 8000 a second.
        gray: one channel; there is no other.
        split, seed, limit: as in `base.drawn_dataset`.

    Raises:
        DataError: a request that is not possible.
    """
    check_request(split, size)
    _check(size, gray)

    def draw(rng, part):
        return clip(sing(rng, draw_note(rng), size))

    return drawn_dataset(draw, split, size, seed, limit, f"sung vowels, {RATE} samples a second")


def from_folder(
    path: str | Path,
    split: str = "all",
    *,
    size: int = 2048,
    gray: bool = True,
    limit: int | None = None,
    clips: int = 4,
    on_error: str = "raise",
) -> Dataset:
    """The loudest clips of every WAV file below a folder, as signals (count, size, 1) in [0, 1].

    A file is mixed down, resampled to 8000 samples a second and cut into clips one after the other;
    of those that are at most 30 dB below its loudest, the loudest are taken, each scaled to the
    same peak. All clips of a file are on its side of a split.

    Args:
        path: the folder; as in `local.folder`, sub-folders count, hidden files do not.
        split: "all", or 70 / 15 / 15 by a hash of the file's content; at least one file a side.
        size: samples of a clip.
        gray: one channel; there is no other.
        limit: so many clips, spread over the split.
        clips: at most so many of a file.
        on_error: "raise" stops at the first file that cannot be used; "skip" leaves it out and
            notes it in provenance["skipped"].

    Raises:
        DataError: a folder or a file that cannot be used; see `_wav.read`.
    """
    check_request(split, size)
    _check(size, gray)
    if clips < 1 or on_error not in ("raise", "skip"):
        raise DataError(
            f"clips = {clips}, on_error = {on_error!r}: expected clips >= 1, and raise or skip"
        )
    root = Path(path).expanduser()
    cut, skipped = _wav.cut_files(root, size, clips, RATE, on_error)
    if split != "all":
        sides = local.sides(list(cut), root, "sounds")
        cut = {p: found for p, found in cut.items() if sides[p] == split}
    name = {p: p.relative_to(root).as_posix() for p in cut}
    every = [(f"{name[p]}#{k}", sound) for p, found in cut.items() for k, sound in enumerate(found)]
    every = [every[i] for i in spread(len(every), limit)]
    where = dict(source=f"folder {root.name}", licence="the owner's", split=split)
    signals = [clip(_wav.PEAK * sound) for _, sound in every]
    return dataset(signals, [n for n, _ in every], skipped=skipped, **where)
