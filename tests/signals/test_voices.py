"""Sung vowels: what is drawn has the pitch, the formants and the band that it was drawn with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.signals import base, voices
from learnit_utils.signals.base import DataError

SECOND = voices.RATE


def steady(speaker="man", vowel="ɑ", pitch=100.0):
    """A note without glide, vibrato, jitter and breath."""
    formants = [row[voices.VOWELS.index(vowel)] for row in voices.SPEAKERS[speaker][1:]]
    return voices.Note(speaker, vowel, pitch, tuple(map(float, formants)))


def spectrum(sound):
    """Energy at 0, 1, 2, ... Hz of a second of sound."""
    return np.abs(np.fft.rfft(sound, SECOND)) ** 2


def test_sounds_have_their_shape_and_their_range():
    d = voices.load("validation", size=512)
    assert d.arrays.shape == (40, 512, 1)
    assert d.arrays.dtype == np.float32
    assert d.arrays.min() >= 0
    assert d.arrays.max() < 1
    assert np.abs(d.arrays.mean(axis=1) - 0.5).max() < 0.05
    assert (d.arrays.std(axis=1) > 0.05).all()
    np.testing.assert_array_equal(d.arrays * voices.LEVELS, np.rint(d.arrays * voices.LEVELS))


def test_a_note_begins_and_ends_in_silence():
    d = voices.load("test", size=1024, limit=10)
    assert np.abs(d.arrays[:, [0, -1]] - 0.5).max() <= 1 / voices.LEVELS
    peak = np.abs(d.arrays - 0.5).max(axis=(1, 2))
    assert (peak > 0.29).all()
    assert (peak <= 0.5).all()


def test_the_seed_decides_every_bit_and_more_leave_the_first_as_they_are():
    load = voices.load
    a, b = (load("test", size=256, limit=5).provenance["data_sha256"] for _ in range(2))
    assert a == b
    assert load("test", size=256, limit=5, seed=1).provenance["data_sha256"] != a
    more = load("test", size=256, limit=9)
    np.testing.assert_array_equal(more.arrays[:5], load("test", size=256, limit=5).arrays)


def test_no_sound_stands_on_two_sides():
    parts = {s: voices.load(s, size=128, limit=20).arrays for s in base.SPLITS}
    every = np.concatenate(list(parts.values())).reshape(60, -1)
    assert len(np.unique(every, axis=0)) == 60
    whole = voices.load("all", size=128, limit=20)
    np.testing.assert_array_equal(whole.arrays.reshape(60, -1), every)
    assert {n.partition("/")[0] for n in whole.names} == set(base.SPLITS)


@settings(max_examples=15, deadline=None)
@given(pitch=st.integers(80, 400), speaker=st.sampled_from(list(voices.SPEAKERS)))
def test_a_steady_voice_has_energy_at_multiples_of_its_pitch_alone(pitch, speaker):
    sound = voices.voiced(steady(speaker, pitch=float(pitch)), np.full(SECOND, float(pitch)))
    energy = spectrum(sound)
    harmonics = np.arange(pitch, int(voices.BAND[1]), pitch)
    assert energy[harmonics].sum() > (1 - 1e-9) * energy.sum()
    assert energy[int(voices.BAND[1]) + 1 :].sum() < 1e-12 * energy.sum()


@pytest.mark.parametrize("speaker", voices.SPEAKERS)
@pytest.mark.parametrize("vowel", voices.VOWELS)
def test_the_transfer_has_its_peaks_at_the_published_formants(speaker, vowel):
    note, hertz = steady(speaker, vowel), np.arange(100, 4000)
    height = np.abs(voices.transfer(note.formants, hertz))
    peaks = hertz[1:-1][(height[1:-1] > height[:-2]) & (height[1:-1] > height[2:])]
    assert len(peaks) == len(note.formants)
    assert (np.abs(peaks - note.formants) < np.array(voices.BANDWIDTHS) / 4).all()
    assert abs(voices.transfer(note.formants, np.zeros(1))[0]) == pytest.approx(1)


def test_the_spectrum_of_a_sung_vowel_peaks_near_its_first_formant():
    for vowel, first in zip(voices.VOWELS, voices.SPEAKERS["man"][1]):
        note = steady("man", vowel, pitch=20.0)  # a creak, whose harmonics are close
        energy = spectrum(voices.voiced(note, np.full(SECOND, 20.0)))
        octave = np.arange(int(first / 1.3), int(first * 1.3))
        assert abs(octave[energy[octave].argmax()] - first) <= 20


def test_drawn_notes_are_people_who_sing():
    notes = [voices.draw_note(np.random.default_rng(i)) for i in range(300)]
    assert {n.speaker for n in notes} == set(voices.SPEAKERS)
    assert {n.vowel for n in notes} == set(voices.VOWELS)
    for n in notes:
        column = voices.VOWELS.index(n.vowel)
        pitch, *formants = (row[column] for row in voices.SPEAKERS[n.speaker])
        assert abs(np.log2(n.pitch / pitch)) <= 0.5
        assert np.abs(np.array(n.formants) / formants - 1).max() < 0.2
        track = voices.pitch_track(np.random.default_rng(0), n, 2048)
        assert np.abs(track / n.pitch - 1).max() < 0.1


@settings(max_examples=20, deadline=None)
@given(size=st.integers(2, 3000), number=st.integers(0, 10**6))
def test_any_clip_is_finite_and_in_range(size, number):
    rng = np.random.default_rng(number)
    sound = voices.clip(voices.sing(rng, voices.draw_note(rng), size))
    assert sound.shape == (size, 1)
    assert np.isfinite(sound).all()
    assert sound.min() >= 0
    assert sound.max() < 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(split="tset"), "split = 'tset': expected one of train, validation, test, all"),
        (dict(size=1), "size = 1: expected 2 to 4096 samples"),
        (dict(size=0), "size = 0: expected"),
        (dict(limit=0), "seed = 0, limit = 0: expected a seed >= 0 and a limit >= 1"),
        (dict(seed=-1), "seed = -1, limit = None: expected a seed >= 0"),
        (dict(gray=False), "gray = False: a sound has no colours, expected gray=True"),
    ],
)
def test_bad_requests_are_refused_in_one_line(given, message):
    with pytest.raises(DataError, match=message) as e:
        voices.load(**given)
    assert "\n" not in str(e.value)
