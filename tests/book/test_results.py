"""Long measurements: kept piece by piece, shared between runs, refused with other settings."""

import json
import subprocess
import sys

import pytest

from learnit_utils import assets, measured
from learnit_utils.measured import MeasuredError

SETTINGS = dict(steps=3, rates=(0.1, 0.2))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setattr("learnit_utils.chapter.folder", lambda: tmp_path)
    monkeypatch.setattr(assets, "PACKAGE", tmp_path / "package")
    assets.read.cache_clear()
    yield
    assets.read.cache_clear()


def counted(names="abc", fail=None):
    calls = []

    def make(name):
        def piece():
            calls.append(name)
            if name == fail:
                raise RuntimeError(name)
            return [len(calls), name]

        return piece

    return calls, {n: make(n) for n in names}


def test_every_piece_is_made_once(tmp_path):
    calls, make = counted()
    values = measured.obtain("run", "m", SETTINGS, make)
    assert values == dict(a=[1, "a"], b=[2, "b"], c=[3, "c"])
    assert measured.obtain("run", "m", SETTINGS, make) == values
    assert calls == ["a", "b", "c"]
    for place in ("measured/m.json", "measured"):
        assert measured.obtain(str(tmp_path / place), "m", SETTINGS, make) == values


def test_a_run_that_was_stopped_goes_on():
    _, make = counted(fail="b")
    with pytest.raises(RuntimeError):
        measured.obtain("run", "m", SETTINGS, make)
    more, make = counted()
    assert list(measured.obtain("run", "m", SETTINGS, make)) == ["a", "b", "c"]
    assert more == ["b", "c"]


def test_other_settings_are_made_anew_and_refused(tmp_path):
    calls, make = counted()
    measured.obtain("run", "m", SETTINGS, make)
    measured.obtain("run", "m", {**SETTINGS, "steps": 4}, make)
    assert len(calls) == 6
    with pytest.raises(MeasuredError, match="measured with steps = 4, this run has 3"):
        measured.obtain(str(tmp_path / "measured/m.json"), "m", SETTINGS, make)


def test_what_ships_is_checked(tmp_path):
    _, make = counted()
    values = measured.obtain("run", "m", SETTINGS, make)
    measured.ship(tmp_path / "measured/m.json")
    assert measured.obtain("book", "m", SETTINGS, make) == values
    assert measured.obtain("book", "m", SETTINGS, {"b": None}) == dict(b=[2, "b"])
    with pytest.raises(MeasuredError, match="1 pieces are missing, the first is d"):
        measured.obtain("book", "m", SETTINGS, {"d": None})
    path = tmp_path / "package/measurements/m.json"
    path.write_text(path.read_text().replace('"c"', '"x"'))
    assets.read.cache_clear()
    with pytest.raises(assets.AssetError, match="SHA-256"):
        measured.obtain("book", "m", SETTINGS, make)


@pytest.mark.parametrize("text", ["", "[]", '{"settings": {}}', "{"])
def test_a_file_of_something_else_is_named(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(MeasuredError, match=r"x\.json: no measurements there"):
        measured.obtain(str(tmp_path / "x.json"), "m", {}, {})
    with pytest.raises((MeasuredError, json.JSONDecodeError)):
        measured.ship(tmp_path / "x.json")


def test_two_runs_share_the_pieces(tmp_path):
    program = """
import pathlib, sys, time
from learnit_utils import chapter, measured
folder = pathlib.Path(sys.argv[1])
chapter.folder = lambda: folder
(folder / f"ready_{sys.argv[2]}").touch()
while len(list(folder.glob("ready_*"))) < 2:  # both have started
    time.sleep(0.01)
def make(i):
    def piece():
        (folder / f"made_{i}_{sys.argv[2]}").touch()
        time.sleep(0.05)
        return i
    return piece
values = measured.obtain("run", "m", {}, {str(i): make(i) for i in range(20)})
assert list(values.values()) == list(range(20))
"""
    words = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen([*words, who]) for who in "ab"]
    assert [p.wait() for p in both] == [0, 0]
    made = sorted(p.name.split("_")[1:] for p in tmp_path.glob("made_*"))
    assert sorted(int(i) for i, _ in made) == list(range(20))
    assert len({who for _, who in made}) == 2
