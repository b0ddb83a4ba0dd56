"""The schema in a parameters cell, and the checks of `learnit run` before a kernel starts."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.book import runner
from learnit_utils.book.cli import main
from learnit_utils.book.parameters import ParameterError, parse_cell, read_schema, resolve

CELL = """seed: int = 0  # PRNG seed, in [0, 100]
rate: float = 0.5  # step size, in (0, 1]
method: str = "maml"  # algorithm, one of maml, fomaml, reptile
widths: list[int] = [8, 16]  # widths, each in [1, 64]
"""


def test_a_line_is_a_type_a_default_a_range_and_help():
    p = parse_cell(CELL)
    assert [(q.name, q.type, q.default) for q in p.values()] == [
        ("seed", "int", 0),
        ("rate", "float", 0.5),
        ("method", "str", "maml"),
        ("widths", "list[int]", [8, 16]),
    ]
    assert p["seed"].help == "PRNG seed"
    assert p["rate"].allowed == "a finite number in (0, 1]"
    assert p["method"].allowed == "one of maml, fomaml, reptile"


def test_each_of_is_each_one_of():
    for form in ("each one of a, b", "each of a, b"):
        p = parse_cell(f'x: list[str] = ["a"]  # letters, {form}\n')["x"]
        assert (p.help, p.choices) == ("letters", ("a", "b"))


PLACES = """weights: str = "book"  # book: what ships; train: learn; or a path
folder: str = ""  # pictures; empty: none; or a folder
name: str = "a"  # not a path at all
table: str = "book"  # book: what ships; run: make them; or a folder
"""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("weights", "book", "book"),
        ("weights", "train", "train"),
        ("weights", "runs/w", "/here/runs/w"),
        ("weights", "/abs/w", "/abs/w"),
        ("folder", "", ""),
        ("folder", "book", "/here/book"),
        ("folder", "~/p", str(Path.home() / "p")),
        ("name", "b", "b"),
        ("table", "run", "run"),
        ("table", "train", "/here/train"),
        ("folder", "empty", "/here/empty"),
    ],
)
def test_a_place_is_relative_to_where_the_command_was_called(name, value, expected):
    assert parse_cell(PLACES)[name].placed(value, Path("/here")) == expected


def test_the_plan_of_a_run_knows_where_it_was_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"weights = .*/mine: no such file or folder"):
        runner.plan(ROOT, "00_two_steps", "book", {"weights": "mine"}, Path("out"))
    (tmp_path / "mine").mkdir()
    job = runner.plan(ROOT, "00_two_steps", "book", {"weights": "mine"}, Path("out"))
    assert job.parameters["weights"] == str(tmp_path / "mine")
    assert runner.plan(ROOT, "00_two_steps", "book", {}, Path("out")).injected == {}


@given(st.integers(-1000, 1000))
def test_whole_numbers_pass_exactly_within_their_range(n):
    seed = parse_cell(CELL)["seed"]
    for given_as in (n, str(n)):
        if 0 <= n <= 100:
            assert seed.check(given_as) == n
        else:
            with pytest.raises(ParameterError, match=r"in \[0, 100\]"):
                seed.check(given_as)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_numbers_pass_exactly_within_their_range(v):
    rate = parse_cell(CELL)["rate"]
    for given_as in (v, repr(v)):
        if 0 < v <= 1:
            assert rate.check(given_as) == v
        else:
            with pytest.raises(ParameterError, match=r"rate = .*in \(0, 1\]"):
                rate.check(given_as)


@settings(max_examples=300)
@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_in_one_line(text):
    for p in parse_cell(CELL).values():
        told = p.name
        try:
            p.check(text)
        except ParameterError as e:
            told = str(e)
        assert "\n" not in told
        assert told.startswith(p.name)


@pytest.mark.parametrize(
    "line",
    [
        "seed = 0  # no type",
        "seed: int  # no default",
        "seed: int = 0",
        "seed: complex = 0  # a type that is not one of ours",
        "seed: int = 101  # its default is out of range, in [0, 100]",
        "rate: float = float('nan')  # not a literal",
        "method: str = 'sgd'  # default not among, one of maml, reptile",
        "import os",
    ],
)
def test_a_cell_that_is_no_schema_is_refused(line):
    with pytest.raises((ParameterError, ValueError)):
        parse_cell(line)


def test_resolve_fills_in_defaults():
    assert resolve(parse_cell(CELL), {"seed": "3"})["seed"] == 3
    assert resolve(parse_cell(CELL), {})["widths"] == [8, 16]


# --- the command, on the small book of conftest.py ----------------------------------------------
BAD = {
    "unknown_parameter": (["--sed", "1"], 'did you mean "seed"'),
    "unknown_far": (["--xyzzy", "1"], "one of seed, rate"),
    "newline_in_name": (["--seed\nimport os", "1"], "no parameter"),
    "code_as_name": (["--__import__('os')", "1"], "no parameter"),
    "traversal_as_name": (["--../../x", "1"], "no parameter"),
    "wrong_type_int": (["--seed", "three"], "seed = three: a whole number in [0, 100]"),
    "float_for_int": (["--seed", "3.5"], "seed = 3.5"),
    "nan_for_int": (["--seed", "nan"], "seed = nan"),
    "empty_for_int": (["--seed", ""], "seed = "),
    "bool_for_int": (["--seed", "true"], "seed = true"),
    "hex_for_int": (["--seed", "0x10"], "seed = 0x10"),
    "negative": (["--seed", "-1"], "seed = -1"),
    "negative_equals": (["--seed=-1"], "seed = -1"),
    "too_large": (["--seed", "101"], "in [0, 100]"),
    "huge": (["--seed", "9" * 400], "in [0, 100]"),
    "nan": (["--rate", "nan"], "rate = nan: a finite number in (0, 1]"),
    "inf": (["--rate", "inf"], "rate = inf"),
    "minus_inf": (["--rate=-inf"], "rate = -inf"),
    "open_end": (["--rate", "0"], "rate = 0"),
    "above": (["--rate", "1.0000001"], "rate = 1.0000001"),
    "text_for_float": (["--rate", "fast"], "rate = fast"),
    "formula": (["--rate", "1/2"], "rate = 1/2"),
    "two_numbers": (["--rate", "0.1,0.2"], "rate = 0.1,0.2"),
    "choice": (["--method", "sgd"], "method = sgd: one of maml, fomaml, reptile"),
    "choice_case": (["--method", "MAML"], "method = MAML"),
    "choice_newline": (["--method", "maml\nprint(1)"], "method = "),
    "list_entry": (["--widths", "8,x"], "widths = 8,x"),
    "list_range": (["--widths", "8,65"], "each in [1, 64]"),
    "list_empty": (["--widths", ""], "widths = "),
    "list_float": (["--widths", "8.5"], "widths = 8.5"),
    "list_nan": (["--noise", "nan"], "noise = nan"),
    "list_open_end": (["--noise", "0.5,1"], "each in [0, 1)"),
    "bool": (["--fast", "perhaps"], "fast = perhaps: true or false"),
    "no_value": (["--seed"], "a value is missing"),
    "twice": (["--seed", "1", "--seed", "2"], "given twice"),
    "stray_word": (["7"], "parameters are given as --NAME VALUE"),
    "bare_dashes": (["--", "seed"], "--NAME VALUE"),
    "single_dash": (["-seed", "1"], "--NAME VALUE"),
    "profile": (["--profile", "smok"], 'did you mean "smoke"'),
    "profile_traversal": (["--profile", "../../etc/passwd"], "no profile"),
    "profile_wrong": (["--profile", "wrong"], 'did you mean "seed"'),
    "profile_torn": (["--profile", "torn"], "torn.yaml"),
    "jobs": (["--jobs", "0"], "expected integers >= 1"),
    "jobs_text": (["--jobs", "many"], "--jobs"),
    "timeout": (["--cell-timeout", "-5"], "expected integers >= 1"),
}


@pytest.fixture
def in_small_book(small_book, monkeypatch):
    monkeypatch.chdir(small_book)
    return small_book


def refused(capsys, words):
    before = sorted(Path.cwd().rglob("*"))
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("learnit: ")
    assert told.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before  # nothing was written
    return told


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused_before_anything_starts(case, in_small_book, capsys):
    words, told = BAD[case]
    assert told in refused(capsys, ["run", "01_tiny", "--out", "new/folder", *words])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "01_tyni"], 'did you mean "01_tiny"'),
        (["run", "../01_tiny"], "no chapter"),
        (["run", "01_tiny.ipynb"], "no chapter"),
        (["run", ""], "no chapter"),
        (["run", "all", "--seed", "1"], "goes to one chapter"),
        (["run"], "chapter"),
        (["params", "tiny"], "one of 01_tiny"),
        (["rum", "01_tiny"], "rum"),
        ([], "COMMAND"),
        (["list", "--all"], "--all"),
    ],
)
def test_bad_commands_are_refused(words, told, in_small_book, capsys):
    assert told in refused(capsys, words)


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/nowhere", "/dev/null/x", "a\0b"])
def test_a_folder_that_cannot_be_written_is_refused(out, in_small_book, capsys):
    (in_small_book / "file").write_text("in the way")
    assert "out = " in refused(capsys, ["run", "01_tiny", "--out", out])


def test_outside_a_book_there_is_nothing_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "PACKAGE", tmp_path / "site-packages" / "learnit_utils")
    assert main(["list"]) == 2
    assert "no book here" in capsys.readouterr().err


def test_a_refusal_takes_less_than_two_seconds():
    """The whole process, in the best of three: interpreter, imports, check, message."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        words = ["-m", "learnit_utils.book.cli", "run", "01_siren", "--steps", "nan"]
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
        times.append(time.perf_counter() - began)
        assert done.returncode == 2
        assert "steps = nan: a whole number in [20, 20000]" in done.stderr
    assert min(times) < 2


def test_list_and_params_show_the_book(in_small_book, capsys):
    assert main(["list"]) == 0
    assert "01_tiny" in capsys.readouterr().out
    assert main(["params", "01_tiny"]) == 0
    shown = capsys.readouterr().out
    assert "--rate" in shown
    assert "(a finite number in (0, 1])" in shown


def test_verify_reports_every_file(capsys):
    assert main(["verify"]) == 0
    assert "0 not" in capsys.readouterr().out


# --- the real chapters --------------------------------------------------------------------------
@pytest.mark.parametrize("name", runner.chapters(ROOT))
def test_profiles_of_a_chapter_fit_its_schema(name):
    schema = read_schema(runner.find(ROOT, name))
    assert "seed" in schema
    reserved = {"profile", "out", "jobs", "cell_timeout", "kernel", "cached", "help"}
    assert not reserved & set(schema)
    every = ("smoke", "paper", *(["colab"] if name >= "10" else []))  # of background chapters
    for profile in every:
        values = runner.profile_values(ROOT, profile, name)
        assert values
        resolve(schema, values)


def test_a_list_of_choices_may_take_several_lines():
    cell = 'starts: list[str] = [\n    "a",\n    "b",\n]  # runs, each one of a, b, c\n'
    starts = parse_cell(cell)["starts"]
    assert starts.default == ["a", "b"]
    assert starts.check("c, a") == ["c", "a"]
    assert starts.check("[b]") == ["b"]
    for wrong in ("d", "a,,b", [], ["a", 1], "a b"):
        with pytest.raises(ParameterError, match="texts separated by commas, each one of a, b, c"):
            starts.check(wrong)
