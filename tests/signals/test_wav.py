"""WAV files of a user: every depth of PCM, any rate, and files that are none."""

import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.signals import _wav, base, voices
from learnit_utils.signals.base import DataError

DEPTHS = (1, 2, 3, 4)


def encoded(sound, depth):
    """Samples (frames, channels) in [-1, 1] as PCM of so many bytes, and as they are then."""
    full = 2.0 ** (8 * depth - 1)
    levels = np.clip(np.rint(sound * full), -full, full - 1).astype(np.int64)
    if depth == 1:
        return (levels + 128).astype(np.uint8).tobytes(), levels / full
    raw = levels.astype("<i8").reshape(-1, 1).view(np.uint8)[:, :depth]
    return raw.tobytes(), levels / full


def write(path, sound, rate=8000, depth=2):
    """A WAV file of samples (frames,) or (frames, channels); what it then holds."""
    sound = np.atleast_2d(np.asarray(sound, float).T).T
    data, kept = encoded(sound, depth)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(sound.shape[1])
        file.setsampwidth(depth)
        file.setframerate(rate)
        file.writeframes(data)
    return kept


def tone(hertz=440.0, seconds=0.5, rate=8000, height=0.5):
    return height * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def folder(root, count=8):
    for i in range(count):
        write(root / f"{i}.wav", tone(200.0 + 40 * i))
    return root


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_every_depth_comes_back_as_it_was_written(tmp_path, depth, channels):
    sound = np.random.default_rng(depth).uniform(-1, 1, (300, channels))
    kept = write(tmp_path / "a.wav", sound, 11025, depth)
    found, rate = _wav.read(tmp_path / "a.wav")
    assert rate == 11025
    np.testing.assert_allclose(found, kept.mean(axis=1), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    depth=st.sampled_from(DEPTHS),
    levels=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40),
)
def test_the_ends_of_the_range_come_back(tmp_path_factory, depth, levels):
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    kept = write(path, np.array(levels) / 2.0**31, depth=depth)
    np.testing.assert_allclose(_wav.read(path)[0], kept[:, 0], atol=1e-12)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_a_tone_keeps_its_pitch_and_its_height_at_any_rate(tmp_path, rate):
    write(tmp_path / "a.wav", tone(500.0, 1.0, rate), rate, 4)
    sound = _wav.resampled(*_wav.read(tmp_path / "a.wav"), 8000)
    assert abs(len(sound) - 8000) <= 1
    middle = sound[2000:6000]
    energy = np.abs(np.fft.rfft(middle * np.hanning(4000)))
    assert energy.argmax() * 2 == 500
    assert np.abs(middle).max() == pytest.approx(0.5, rel=0.02)


def test_what_lies_above_the_new_band_does_not_come_back_as_another_tone(tmp_path):
    write(tmp_path / "a.wav", tone(7000.0, 1.0, 44100), 44100)
    sound = _wav.resampled(*_wav.read(tmp_path / "a.wav"), 8000)
    assert np.abs(sound[1000:-1000]).max() < 0.01


def test_clips_are_cut_where_there_is_sound(tmp_path):
    loud, quiet, none = tone(height=0.8), tone(height=0.2), np.zeros(4000)
    write(tmp_path / "a.wav", np.concatenate([none, quiet, none, loud, none]))
    d = voices.from_folder(tmp_path, size=2000)
    assert d.names == ("a.wav#0", "a.wav#1", "a.wav#2", "a.wav#3")
    one = voices.from_folder(tmp_path, size=4000, clips=1)
    expected = voices.clip(_wav.PEAK * loud / 0.8)
    np.testing.assert_allclose(one.arrays[0], expected, atol=1e-3)
    assert len(voices.from_folder(tmp_path, size=4000).names) == 2
    faint = np.concatenate([tone(height=0.01), loud])
    write(tmp_path / "a.wav", faint)
    assert len(voices.from_folder(tmp_path, size=4000).names) == 1


def test_a_folder_is_split_by_file_and_no_side_is_empty(tmp_path):
    folder(tmp_path)
    write(tmp_path / "copies" / "b.wav", tone(200.0))
    parts = {s: voices.from_folder(tmp_path, s, size=1000) for s in base.SPLITS}
    names = {s: {n.partition("#")[0] for n in d.names} for s, d in parts.items()}
    assert all(names.values())
    assert sum(map(len, names.values())) == 9
    assert any({"0.wav", "copies/b.wav"} <= side for side in names.values())
    whole = voices.from_folder(tmp_path, "all", size=1000)
    assert len(whole.names) == sum(len(d.names) for d in parts.values()) == 9 * 4
    assert whole.arrays.shape == (36, 1000, 1)
    assert np.abs(whole.arrays - 0.5).max() <= _wav.PEAK + 1e-4
    assert len(voices.from_folder(tmp_path, "train", size=1000, limit=3).names) == 3


def test_hidden_files_are_no_data(tmp_path):
    folder(tmp_path, 3)
    (tmp_path / "._0.wav").write_bytes(b"no sound")
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "@eaDir" / "x.wav").write_bytes(b"no sound")
    (tmp_path / "notes.txt").write_text("not asked for")
    assert len({n.partition("#")[0] for n in voices.from_folder(tmp_path, size=500).names}) == 3


def good(root):
    write(root / "x.wav", tone())
    return (root / "x.wav").read_bytes()


def without_data(root):
    write(root / "x.wav", np.zeros((0, 1)))
    return (root / "x.wav").read_bytes()


def other_format(number):
    def make(root):
        data = good(root)
        return data[:20] + struct.pack("<H", number) + data[22:]

    return make


def rate_of(hertz):
    def make(root):
        data = good(root)
        return data[:24] + struct.pack("<I", hertz) + data[28:]

    return make


HOSTILE = {
    "empty": lambda root: b"",
    "text": lambda root: b"not a sound at all, but long enough to look at twice",
    "a picture": lambda root: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "its head alone": lambda root: good(root)[:12],
    "half of its head": lambda root: good(root)[:30],
    "cut off": lambda root: good(root)[:-1001],
    "no samples": without_data,
    "floats": other_format(3),
    "a-law": other_format(6),
    "mp3 inside": other_format(85),
    "big-endian": lambda root: b"RIFX" + good(root)[4:],
    "another kind of RIFF": lambda root: good(root)[:8] + b"AVI " + good(root)[12:],
    "no channel": lambda root: good(root)[:22] + b"\0\0" + good(root)[24:],
    "no bits": lambda root: good(root)[:34] + b"\0\0" + good(root)[36:],
    "64 bits": lambda root: good(root)[:34] + b"\x40\0" + good(root)[36:],
    "rate 0": rate_of(0),
    "rate 1": rate_of(1),
    "rate of gigahertz": rate_of(4_000_000_000),
    "zeros": lambda root: bytes(1000),
    "a chunk that is longer than the file": lambda root: good(root)[:16] + b"\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_no_sound_is_refused_in_one_line_or_left_out_and_told(tmp_path, kind):
    made = HOSTILE[kind](tmp_path / "made")
    folder(tmp_path / "in", 3)
    (tmp_path / "in" / "bad.wav").write_bytes(made)
    with pytest.raises(DataError, match=r"bad\.wav") as e:
        voices.from_folder(tmp_path / "in", size=500)
    assert "\n" not in str(e.value)
    d = voices.from_folder(tmp_path / "in", size=500, on_error="skip")
    assert list(d.provenance["skipped"]) == ["bad.wav"]
    assert len(d.names) == 12


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 43), value=st.integers(0, 255), keep=st.integers(0, 400))
def test_a_spoiled_file_is_read_or_refused_in_one_line(tmp_path_factory, position, value, keep):
    root = tmp_path_factory.mktemp("wav")
    write(root / "a.wav", tone(seconds=0.02))
    data = bytearray((root / "a.wav").read_bytes())
    data[position] = value
    (root / "a.wav").write_bytes(bytes(data[:keep]))
    refused, sound, rate = "", np.ones(1), 1
    try:
        sound, rate = _wav.read(root / "a.wav")
    except DataError as e:
        refused = str(e)
    assert "\n" not in refused
    assert "a.wav" in refused or not refused
    assert np.isfinite(sound).all()
    assert rate > 0


def test_silence_and_short_sounds_are_refused(tmp_path):
    write(tmp_path / "a.wav", np.zeros(4000))
    with pytest.raises(DataError, match=r"a\.wav: silent"):
        voices.from_folder(tmp_path, size=1000)
    write(tmp_path / "a.wav", tone(seconds=0.1))
    with pytest.raises(DataError, match=r"a\.wav: 0\.100 s of sound, expected 0\.125"):
        voices.from_folder(tmp_path, size=1000)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(clips=0), "clips = 0"),
        (dict(on_error="ignore"), "on_error = 'ignore'"),
        (dict(gray=False), "gray = False"),
        (dict(split="tset"), "split = 'tset'"),
        (dict(size=5000), "size = 5000"),
        (dict(limit=0), "limit = 0"),
    ],
)
def test_bad_requests_are_refused_in_one_line(tmp_path, asked, message):
    with pytest.raises(DataError, match=message) as e:
        voices.from_folder(folder(tmp_path, 3), **dict(size=500) | asked)
    assert "\n" not in str(e.value)


def test_folders_without_sounds_are_told(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        voices.from_folder(tmp_path / "none")
    with pytest.raises(DataError, match="no sound in it"):
        voices.from_folder(tmp_path)
    folder(tmp_path, 2)
    with pytest.raises(DataError, match="different sounds: 2; at least 3"):
        voices.from_folder(tmp_path, "train", size=500)


def test_a_link_that_leads_out_is_refused(tmp_path):
    write(tmp_path / "out.wav", tone())
    folder(tmp_path / "in", 3)
    (tmp_path / "in" / "link.wav").symlink_to(tmp_path / "out.wav")
    with pytest.raises(DataError, match="a link that leads out of"):
        voices.from_folder(tmp_path / "in", size=500)
    d = voices.from_folder(tmp_path / "in", size=500, on_error="skip")
    assert list(d.provenance["skipped"]) == ["link.wav"]
