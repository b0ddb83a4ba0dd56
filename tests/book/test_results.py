"""Kept results: filed by content, shared between runs, shipped, certified, never mistaken."""

import importlib
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learnit_utils import _files, evaluate, shipped
from learnit_utils.book import report, results
from learnit_utils.book.report import LawError
from learnit_utils.book.results import ResultsError
from learnit_utils.evaluate import Problem
from learnit_utils.experiments.protocol import Study, grid
from learnit_utils.tasks import Split, Tasks

seen = types.ModuleType("seen")  # a module counts by its name, so what is noted in it does not


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A run's folder, a package without results, and a page that may report."""
    monkeypatch.setattr(report, "folder", lambda: tmp_path / "run")
    monkeypatch.setattr(report, "_report", {})
    monkeypatch.setattr(shipped, "ROOT", tmp_path / "package")
    monkeypatch.setenv(report.RUN, json.dumps(dict(commit="abc1234")))
    seen.calls, seen.shift = [], 0.0
    shipped.read.cache_clear()
    yield
    shipped.read.cache_clear()


def piece(x, by=1):
    seen.calls.append(x)
    return dict(psnr=[by * float(x) + seen.shift, None], text=f"{x}")


def other_piece(x, by=1):
    return dict(psnr=[by * float(x), None])


def ask(choice, xs=range(3), study="m", function=piece, **more):
    """The values of pieces; and the Results they are of."""
    kept = results.open(str(choice))
    costs = dict(cost=more.pop("cost")) if "cost" in more else {}
    return kept, [kept.call(study, dict(of="x", x=x, **more), function, x, **costs) for x in xs]


VALUES = [dict(psnr=[float(x), None], text=f"{x}") for x in range(3)]


def recached():
    shipped.read.cache_clear()


def pieces_of(folder):
    return sorted(p for p in folder.glob("*.json") if p.name != results.INDEX)


# --- one piece --------------------------------------------------------------------------------
def test_every_piece_is_measured_once_and_kept(tmp_path):
    assert ask("run")[1] == VALUES
    assert seen.calls == [0, 1, 2]
    for choice in ("run", tmp_path / "run/pieces"):
        kept, values = ask(choice)
        assert values == VALUES
        assert ask(choice, [2, 0])[1] == [VALUES[2], VALUES[0]]
        assert kept.call("m", {}, piece, 1) == VALUES[1]  # the description does not identify it
    assert seen.calls == [0, 1, 2]
    assert len(pieces_of(tmp_path / "run/pieces/m")) == 3


def test_a_piece_says_where_it_comes_from(tmp_path):
    ask("run", [7], note="Grüße")
    (path,) = pieces_of(tmp_path / "run/pieces/m")
    told = json.loads(path.read_text("utf8"))
    assert told["key"].startswith(path.stem)
    assert told["about"] == dict(of="x", x=7, note="Grüße")
    assert told["value"] == dict(psnr=[7.0, None], text="7")
    assert told["seconds"] >= 0
    where = told["provenance"]
    assert where["commit"] == "abc1234"
    assert where["versions"]["jax"] == jax.__version__
    assert {"date", "device"} <= where.keys()


@pytest.mark.parametrize(
    "changed",
    [
        partial(piece, by=1),
        partial(piece, by=2),
        other_piece,
        lambda x: dict(psnr=[float(x), None], text=f"{x}"),
    ],
)
def test_another_function_or_setting_is_another_piece(tmp_path, changed):
    ask("run", [1])
    ask("run", [1], function=changed)
    assert len(pieces_of(tmp_path / "run/pieces/m")) == 2
    with pytest.raises(ResultsError, match="no kept result"):
        ask(tmp_path / "run/pieces", [2], function=changed)


def test_auto_measures_what_does_not_ship(tmp_path):
    ask("run", [0, 1])
    results.ship(tmp_path / "run/pieces/m")
    recached()
    seen.calls.clear()
    kept, values = ask("auto", [0, 1])
    assert (values, seen.calls, kept.measured_now("m")) == (VALUES[:2], [], False)
    assert kept.origin("m")["commit"] == "abc1234"
    shutil.rmtree(tmp_path / "run")
    for _ in range(2):  # once measured, it is kept in the run's folder
        kept, values = ask("auto", [0, 1, 2])
        assert (values, seen.calls, kept.measured_now("m")) == (VALUES, [2], False)
    kept, _ = ask("auto", [3, 4, 0])
    assert kept.measured_now("m")
    assert kept.origin("m") is None


def test_another_study_is_another_folder(tmp_path):
    ask("run", [1], study="m")
    ask("run", [1], study="n")
    assert seen.calls == [1, 1]
    assert {p.name for p in (tmp_path / "run/pieces").iterdir()} == {"m", "n"}


@pytest.mark.parametrize("choice", ["book", "folder"])
def test_a_missing_piece_gives_one_clear_line(tmp_path, choice):
    folder = tmp_path / "left"
    folder.mkdir()
    told = "m: no kept result for of x, x 5 with these settings, data, inits and code; "
    with pytest.raises(ResultsError) as error:
        ask(folder if choice == "folder" else "book", [5])
    assert str(error.value) == told + "measure it with --table run"
    assert seen.calls == []
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("choice", ["", "books", "run ", "no/such/folder", "RUN"])
def test_another_choice_is_refused(choice):
    if choice == "":
        choice = "nothing"
    with pytest.raises(ResultsError) as error:
        results.open(choice)
    message = f"table = {choice!r}: expected book, auto, run, recertify or a folder"
    assert str(error.value) == message


DAMAGES = ["", "{", "[]", "3", '{"key": "x"}', "null", "another"]


@pytest.mark.parametrize("text", DAMAGES)
@pytest.mark.parametrize("choice", ["run", "folder", "recertify", "ship"])
def test_something_else_in_the_place_of_a_piece_is_named(tmp_path, choice, text):
    folder = tmp_path / "run/pieces"
    ask("run", [0, 1])
    paths = pieces_of(folder / "m")
    text = paths[1].read_text() if text == "another" else text
    paths[0].write_text(text)
    again = partial(ask, folder if choice == "folder" else choice, [0, 1])
    with pytest.raises(ResultsError) as error:
        results.ship(folder / "m") if choice == "ship" else again()
    assert str(error.value) == f"{paths[0]}: not the piece that belongs there; remove it"
    assert seen.calls == [0, 1]


# --- runs that stop, and runs side by side ------------------------------------------------------
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["measuring", "writing"])
def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch, error, where):
    def stopped(*_):
        raise error

    ask("run", [0])
    with monkeypatch.context() as patch:
        if where == "measuring":
            patch.setattr(seen, "shift", property(stopped))  # cannot be added to a number
            error = TypeError
        else:
            patch.setattr(os, "replace", stopped)
        with pytest.raises(error):
            ask("run", [0, 1])
    folder = tmp_path / "run/pieces/m"
    assert len(pieces_of(folder)) == 1
    assert not list(folder.glob("*.part"))
    seen.calls.clear()
    assert ask("run")[1] == VALUES
    assert seen.calls == [1, 2]


PROGRAM = """
import os, pathlib, sys, time
from learnit_utils import _files
from learnit_utils.book import report, results


def piece(i):
    folder = pathlib.Path(os.environ["FOLDER"])
    (folder / f"made_{i}_{os.environ['WHO']}").touch()
    time.sleep(0.03)
    return dict(values=[i] * 1000)


def main(count, stop=None):
    folder = pathlib.Path(os.environ["FOLDER"])
    report.folder = lambda: folder
    (folder / f"ready_{os.environ['WHO']}").touch()
    while len(list(folder.glob("ready_*"))) < int(os.environ["PROCESSES"]):
        time.sleep(0.01)
    kept, replace = results.open("run"), os.replace

    def slowly(part, path):
        if pathlib.Path(path).name != "index.json":
            (folder / "writing").touch()
            time.sleep(60)
        replace(part, path)

    for i in range(count)[:: -1 if os.environ["WHO"] == "there" else 1]:
        if i == stop:
            _files.os.replace = slowly
        assert kept.call("m", dict(i=i), piece, i) == dict(values=[i] * 1000)


if __name__ == "__main__":
    import measuring

    measuring.main(*map(int, sys.argv[1:]))
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Start a process that measures pieces; what measures them is a module here, too."""
    (tmp_path / "program").mkdir()
    (tmp_path / "program/measuring.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path / "program")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("WHO", "here")
    monkeypatch.setenv("PROCESSES", "1")

    def start(who, processes, *words):
        env = os.environ | dict(WHO=who, PROCESSES=str(processes))
        words = [sys.executable, tmp_path / "program/measuring.py", *map(str, words)]
        return subprocess.Popen(words, env=env)

    yield start
    sys.modules.pop("measuring", None)


def made(folder):
    return sorted(p.name.split("_")[1:] for p in folder.glob("made_*"))


def test_two_processes_share_a_folder(tmp_path, started, monkeypatch):
    monkeypatch.setenv("PROCESSES", "2")
    other = started("there", 2, 12)
    importlib.import_module("measuring").main(12)
    assert other.wait() == 0
    assert sorted(int(i) for i, _ in made(tmp_path)) == list(range(12))  # none of them twice
    assert len({who for _, who in made(tmp_path)}) == 2
    folder = tmp_path / "pieces/m"
    assert len(json.loads((folder / results.INDEX).read_text())) == 12
    assert len(pieces_of(folder)) == 12
    assert not list(folder.glob("*.part"))


def test_a_process_killed_in_the_middle_leaves_nothing_half_written(tmp_path, started, monkeypatch):
    process = started("a", 1, 6, 3)
    while not (tmp_path / "writing").exists():
        assert process.poll() is None
        time.sleep(0.02)
    folder = tmp_path / "pieces/m"
    assert len(list(folder.glob(".*.part"))) == 1  # written, but without its name
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(pieces_of(folder)) == 3
    assert len(json.loads((folder / results.INDEX).read_text())) == 3
    monkeypatch.setattr(report, "folder", lambda: tmp_path)
    importlib.import_module("measuring").main(6)
    assert [i for i, who in made(tmp_path) if who == "here"] == ["3", "4", "5"]
    assert len(pieces_of(folder)) == 6
    assert not list(folder.glob(".*.part"))


# --- what ships -------------------------------------------------------------------------------
def test_pieces_of_a_run_ship_and_are_found_by_content(tmp_path):
    ask("run")
    path = results.ship(tmp_path / "run/pieces/m")
    assert path == tmp_path / "package/results/m.json.xz"
    entry = shipped.manifest("results")["m.json.xz"]
    assert (entry["pieces"], entry["sha256"]) == (3, _files.sha256(path))
    seen.calls.clear()
    for choice in ("book", tmp_path):  # of a folder without pieces, those that ship
        assert ask(choice)[1] == VALUES
    assert seen.calls == []
    assert shipped.verify() == [("results/m.json.xz", None)]
    with pytest.raises(ResultsError, match="m: no kept result for of x, x 3 with"):
        ask("book", [3])
    with pytest.raises(ResultsError, match="n: no kept result"):
        ask("book", [0], study="n")


def test_only_what_the_last_run_asked_for_ships(tmp_path):
    ask("run", range(5))
    ask("run", [1, 4])
    path = results.ship(tmp_path / "run/pieces/m")
    told = json.loads(lzma.decompress(path.read_bytes()))
    assert sorted(p["value"]["text"] for p in told["pieces"].values()) == ["1", "4"]
    assert len(told["provenance"]) == 1  # written once for all of them
    assert ask("book", [4, 1])[1] == [dict(psnr=[float(x), None], text=f"{x}") for x in (4, 1)]


@pytest.mark.parametrize("index", ['["0123"]', "[3]", "[null]", "[[]]"])
def test_a_piece_that_is_lost_is_named(tmp_path, index):
    ask("run", [0])
    (tmp_path / "run/pieces/m" / results.INDEX).write_text(index)
    with pytest.raises(ResultsError, match=r"\.json: not the piece that belongs there; remove it$"):
        results.ship(tmp_path / "run/pieces/m")
    assert not (tmp_path / "package").exists()


def test_ship_may_take_another_folder(tmp_path):
    ask("run", [0])
    assert results.ship(str(tmp_path / "run/pieces/m"), tmp_path / "x") == tmp_path / "x/m.json.xz"
    assert not (tmp_path / "package").exists()


def test_a_shipped_file_that_was_changed_is_refused(tmp_path):
    ask("run")
    path = results.ship(tmp_path / "run/pieces/m")
    text = lzma.decompress(path.read_bytes())
    assert b'"text":"2"' in text
    path.write_bytes(lzma.compress(text.replace(b'"text":"2"', b'"text":"7"')))
    recached()
    for choice in ("book", "recertify"):
        with pytest.raises(_files.FileError, match="SHA-256"):
            ask(choice, [9])
    path.unlink()
    with pytest.raises(_files.FileError, match=r"m\.json\.xz: missing"):
        ask("book")


@pytest.mark.parametrize("text", [None, "", "3", "{", "{}", "[]", '{"a": 1}', "null"])
def test_a_folder_without_pieces_of_a_run_is_named(tmp_path, text):
    folder = tmp_path / "m"
    folder.mkdir()
    if text is not None:
        (folder / results.INDEX).write_text(text)
    with pytest.raises(ResultsError, match=r"m: no pieces of a run there") as error:
        results.ship(folder)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "package").exists()


def test_the_command_ships(tmp_path, capsys):
    from learnit_utils.book.cli import main

    ask("run")
    assert main(["ship-results", str(tmp_path / "run/pieces/m")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'package/results/m.json.xz'}\n"
    assert main(["ship-results", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"learnit: {tmp_path}: no pieces of a run there\n"


# --- certified --------------------------------------------------------------------------------
def shipped_pieces(tmp_path, xs=range(3), commit="old0000"):
    """Ship pieces as another commit measured them; the run's folder is empty again."""
    run = tmp_path / "before"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "folder", lambda: run)
        patch.setenv(report.RUN, json.dumps(dict(commit=commit)))
        ask("run", xs)
    path = results.ship(run / "pieces/m")
    recached()
    seen.calls.clear()
    return path


def test_the_origin_of_a_number_is_that_of_most_pieces(tmp_path):
    shipped_pieces(tmp_path)
    kept, _ = ask("book")
    origin = kept.origin("m")
    assert (origin["study"], origin["commit"]) == ("m", "old0000")
    assert {"date", "device"} < origin.keys()
    report.open("05_x")
    report.record("a", 1.0, "dB", scale="", kept=origin)
    assert report._report["results"][0]["kept"] == origin
    assert kept.origin("never asked for") is None
    assert kept.sources("never asked for") == []
    measured, _ = ask("run")
    assert measured.origin("m") is None  # it was measured here
    assert measured.measured_now("m")
    assert not kept.measured_now("m")


def test_pieces_of_several_commits_are_told_most_frequent_first(tmp_path, monkeypatch):
    ask("run", [0])
    monkeypatch.setenv(report.RUN, json.dumps(dict(commit="def5678")))
    ask("run", [1, 2])
    kept, _ = ask(tmp_path / "run/pieces")
    assert [s["commit"] for s in kept.sources("m")] == ["def5678", "abc1234"]
    assert kept.origin("m")["commit"] == "def5678"


def asked_with_costs(choice):
    kept = results.open(choice)
    for x, cost in enumerate((30, 10, 20)):
        kept.call("m", dict(of="x", x=x), piece, x, cost=cost)
    return kept


@pytest.mark.parametrize("choice", ["book", "run"])
def test_the_cheapest_piece_is_measured_again(tmp_path, choice):
    shipped_pieces(tmp_path)
    kept = asked_with_costs(choice)
    seen.calls.clear()
    found = kept.sample("m")
    assert seen.calls == [1]
    assert found == (dict(of="x", x=1), VALUES[1], VALUES[1], 0.0)
    report.open("05_x")
    table = kept.certify("m").data
    assert seen.calls == [1, 1]
    where = dict(book="shipped", run="this run")[choice]
    commit = dict(book="old0000", run="abc1234")[choice]
    assert f"| m | 3 | {where}: " in table
    assert f"commit {commit} | of x, x 1 | 0 |" in table
    (claim,) = report._report["claims"]
    assert (claim["id"], claim["holds"], claim["kind"]) == ("reproduced/m", True, "law")


def test_a_folder_says_that_it_is_one(tmp_path):
    ask("run")
    kept, _ = ask(tmp_path / "run/pieces")
    report.open("05_x")
    assert "| a folder: " in kept.certify("m").data


@pytest.mark.parametrize(
    ("shift", "agrees"), [(0.0, True), (0.09, True), (0.11, False), (-5, False)]
)
def test_a_kept_value_that_disagrees_breaks_a_law(tmp_path, shift, agrees):
    shipped_pieces(tmp_path)
    kept = asked_with_costs("book")
    seen.shift = shift
    report.open("05_x")
    if agrees:
        kept.certify("m")
    else:
        with pytest.raises(LawError, match=r"reproduced/m: The cheapest kept piece of m, .*agrees"):
            kept.certify("m")
    assert [c["holds"] for c in report._report["claims"]] == [agrees]


def test_several_studies_are_certified_at_once(tmp_path):
    kept = results.open("run")
    for study in ("m", "n"):
        kept.call(study, dict(of="x"), piece, 1)
    report.open("05_x")
    assert len(kept.certify("m", "n").data.splitlines()) == 4
    assert [c["id"] for c in report._report["claims"]] == ["reproduced/m", "reproduced/n"]
    with pytest.raises(ResultsError, match="o: no piece was asked for"):
        kept.certify("o")


# --- certified anew, after code has changed -----------------------------------------------------
def piece_rewritten(x, by=1):
    """As `piece`, in other words."""
    seen.calls.append(x)
    values = [seen.shift + float(x) * by, None]
    return dict(psnr=values, text=str(x))


def recertified(xs, **more):
    return ask("recertify", xs, function=piece_rewritten, **more)


def test_code_that_changes_no_results_is_certified_by_a_sample(tmp_path):
    xs = range(results.EVERY + 1)
    shipped_pieces(tmp_path, xs)
    with pytest.raises(ResultsError, match="no kept result"):
        ask("book", xs, function=piece_rewritten)
    kept, values = recertified(xs)
    assert values == [dict(psnr=[float(x), None], text=f"{x}") for x in xs]
    assert seen.calls == [0, results.EVERY]
    assert len(kept.sources("m")) == 1
    assert kept.origin("m")["commit"] == "old0000"  # where it was measured
    found = [json.loads(p.read_text()) for p in pieces_of(tmp_path / "run/pieces/m")]
    notes = [p["provenance"]["certified"] for p in found]
    assert {n["commit"] for n in notes} == {"abc1234"}
    assert [n["difference"] for n in notes if n["sampled"]] == [0.0] * 2
    results.ship(tmp_path / "run/pieces/m")
    recached()
    seen.calls.clear()
    assert ask("book", xs, function=piece_rewritten)[1] == values
    assert seen.calls == []
    assert recertified(xs)[1] == values  # all under their content now
    assert seen.calls == []


@pytest.mark.parametrize("shift", [0.2, -0.2, float("nan")])
def test_a_sample_that_differs_is_refused(tmp_path, shift):
    shipped_pieces(tmp_path)
    seen.shift = shift
    with pytest.raises(
        ResultsError, match=r"^m: .*x.*differs by (0\.2|inf) from the kept result; "
    ):
        recertified(range(3))
    assert not pieces_of(tmp_path / "run/pieces/m")


def test_a_study_in_doubt_is_measured_anew(tmp_path):
    """Also what had been certified before the sample that differs; samples that agree stay."""
    xs = range(results.EVERY + 2)
    shipped_pieces(tmp_path, xs)
    recertified(xs[:-2])
    seen.calls.clear()
    seen.shift = 0.2
    with pytest.raises(ResultsError, match="all of the study is measured anew"):
        recertified(xs)
    assert seen.calls == [xs[-2]]
    assert len(pieces_of(tmp_path / "run/pieces/m")) == 1  # the first, a sample
    seen.calls.clear()
    _, values = recertified(xs)
    assert seen.calls == [*xs[1:]]
    assert values[1] == dict(psnr=[1.2, None], text="1")
    results.ship(tmp_path / "run/pieces/m")
    recached()
    assert ask("book", xs, function=piece_rewritten)[1] == values


def test_pieces_that_nothing_describes_are_measured(tmp_path):
    shipped_pieces(tmp_path)
    _, values = recertified([0, 1, 5])
    assert seen.calls == [0, 5]  # the sample, and what never was measured
    assert values[2] == dict(psnr=[5.0, None], text="5")
    seen.calls.clear()
    recertified([2], note="another description")
    assert seen.calls == [2]


def test_a_description_of_two_pieces_is_of_neither(tmp_path):
    kept = results.open("run")
    for x in (1, 2):
        kept.call("m", dict(of="same"), piece, x)
    results.ship(tmp_path / "run/pieces/m")
    for path in pieces_of(tmp_path / "run/pieces/m"):
        path.unlink()
    recached()
    seen.calls.clear()
    assert results.open("recertify").call("m", dict(of="same"), piece_rewritten, 1) == VALUES[1]
    assert seen.calls == [1]


def test_samples_are_taken_from_what_is_filed_anew(tmp_path):
    """However many pieces before them have not changed."""
    count = results.EVERY + 2
    shipped_pieces(tmp_path, range(count))
    kept = results.open("recertify")
    for x in range(count):
        function = piece if x in (0, results.EVERY) else piece_rewritten
        kept.call("m", dict(of="x", x=x), function, x)
    assert seen.calls == [1]


def test_what_was_filed_anew_is_told(tmp_path):
    shipped_pieces(tmp_path, range(3))
    assert results.filed_anew() == [("m", 3, 0, [])]
    recertified(range(3))
    results.ship(tmp_path / "run/pieces/m")
    recached()
    assert results.filed_anew() == [("m", 3, 3, [(dict(of="x", x=0), 0.0, "")])]


def test_too_much_work_is_no_sample(tmp_path):
    shipped_pieces(tmp_path)
    recertified(range(3), cost=2 * results.SAMPLED)
    assert seen.calls == []
    found = [json.loads(p.read_text()) for p in pieces_of(tmp_path / "run/pieces/m")]
    assert {p["provenance"]["certified"]["why"] for p in found} == {"too much work for a sample"}


def test_what_has_not_changed_keeps_its_provenance(tmp_path):
    shipped_pieces(tmp_path)
    kept, values = ask("recertify")
    assert values == VALUES
    assert seen.calls == []
    assert all("certified" not in source for source in kept.sources("m"))


# --- how far apart ----------------------------------------------------------------------------
NUMBERS = st.none() | st.floats(-100, 100)
JSON = st.recursive(
    NUMBERS | st.text(max_size=3) | st.booleans(),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_a_value_does_not_differ_from_itself(value):
    again = json.loads(json.dumps(value))
    assert results.difference(value, again) == 0


@given(JSON, JSON)
def test_differences_are_symmetric_and_never_fail(one, other):
    gap = results.difference(one, other)
    assert gap >= 0
    assert gap == results.difference(other, one)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=9), st.floats(-10, 10))
def test_a_shift_is_the_difference(values, shift):
    shifted = [v + shift for v in values]
    assert results.difference(values, shifted) == pytest.approx(abs(shift), abs=1e-9)
    assert results.difference(dict(a=0.0, b=[values]), dict(a=0.0, b=[shifted])) == pytest.approx(
        abs(shift), abs=1e-9
    )


@pytest.mark.parametrize(
    ("kept", "now", "gap"),
    [
        ([1.0, 2.0], [2.0, 1.0], 1.0),  # the mean agrees, the tasks do not
        ([1.0] * 9 + [5.0], [1.0] * 9 + [4.5], 0.05),  # one fit in ten
        ([1.0, None], [1.0, None], 0.0),
        ([1.0, None, None], [1.3, None, None], 0.3),  # means are of what there is
        ([None], [None], 0.0),
        ([1.0, None], [1.0, 2.0], np.inf),
        ([1.0, 2.0], [1.0, None], np.inf),
        (None, 1.0, np.inf),
        (1.0, None, np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([[1.0], [1.0, 2.0]], [[1.0], [1.0, 2.5]], 0.25),  # of several lengths
        (dict(a=1), dict(b=1), np.inf),
        (dict(a=1), [1], np.inf),
        ("a", "a", 0.0),
        ("a", "b", np.inf),
        ("1", 1, np.inf),
        (["SGD", 0.1], ["SGD", 0.2], 0.1),
        (["SGD", 0.1], ["Adam", 0.1], np.inf),
        ([dict(lr=0.1)], [dict(lr=0.3)], 0.2),
        ([], [], 0.0),
        ({}, {}, 0.0),
    ],
)
def test_differences_of_means(kept, now, gap):
    assert results.difference(kept, now) == pytest.approx(gap)


# --- a study ----------------------------------------------------------------------------------
def squared(w, task, key):
    return (w - task.each.support) ** 2


def judged(w, task, key):
    return (w - task.each.query) ** 2


def small_study(pieces, w=3.0):
    numbers = [Tasks(Split(jnp.float32([1, 2]) + i, jnp.float32([1.3, 2.2]) + i)) for i in (0, 0.5)]
    inits = dict(w=[jnp.float32(w)], v=[jnp.float32(-w)])
    made = dict(grid=grid(sgd=(0.05, 0.1)), validation=numbers[0], test=numbers[1])
    return Study("small", Problem(squared, judged), inits, **made, cap=6, every=2, pieces=pieces)


def test_a_study_is_measured_kept_shipped_and_certified(tmp_path, monkeypatch):
    def told(choice, w=3.0):
        s = small_study(results.open(choice), w)
        chosen = s.choose()
        return s, chosen, s.score(chosen).rows

    _, *measured = told("run")
    assert told(str(tmp_path / "run/pieces"))[1:] == tuple(measured)
    results.ship(tmp_path / "run/pieces/small")
    monkeypatch.setattr(evaluate, "progress", None)  # nothing is measured now
    s, *kept = told("book")
    assert kept == measured
    with pytest.raises(ResultsError, match="small: no kept result for init w, optimizer SGD, lr 0"):
        told("book", w=3.1)
    monkeypatch.undo()
    monkeypatch.setattr(report, "_report", {})
    report.open("05_x")
    row = s.pieces.certify("small").data.splitlines()[-1]
    assert row.startswith("| small | 6 | shipped: ")
    assert ", of test | 0 |" in row or "of validation | 0 |" in row
