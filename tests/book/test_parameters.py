"""The schema in a parameters cell, and the checks of `learnit run` before a kernel starts."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.book import cli, results, runner
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
    "list_entry": (["--widths", "8,x"], "widths = 8,x: entry 2, 'x': whole numbers"),
    "list_comma": (["--widths", "8,16,"], "widths = 8,16,: entry 3, '': whole numbers"),
    "list_json_entry": (["--widths", '[8, "x"]'], "entry 2, 'x': whole numbers"),
    "list_of_lists": (["--widths", "[[8]]"], "widths = [[8]]: whole numbers"),
    "list_spaces": (["--widths", "8 16"], "widths = 8 16: whole numbers separated by commas"),
    "list_range": (["--widths", "8,65"], "each in [1, 64]"),
    "list_empty": (["--widths", ""], "widths = "),
    "list_float": (["--widths", "8.5"], "widths = 8.5"),
    "list_nan": (["--noise", "nan"], "noise = nan"),
    "list_open_end": (["--noise", "0.5,1"], "each in [0, 1)"),
    "bool": (["--fast", "perhaps"], "fast = perhaps: true or false"),
    "no_value": (["--seed"], "a value is missing"),
    "twice": (["--seed", "1", "--seed", "2"], "given twice"),
    "stray_word": (["7"], "parameters are given as --NAME VALUE"),
    "kernel": (["--kernel", "pyton3"], "installed are"),
    "timeout_zero": (["--cell-timeout", "0"], "expected integers >= 1"),
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
        (["run", "--seed", "1"], "a chapter's name is missing"),
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


# --- lists, as a command line, JSON and YAML write them -------------------------------------------
@pytest.mark.parametrize(
    "text", ["a,b", "[a, b]", '["a", "b"]', "['a', 'b']", " a , b ", '[\n"a",\n"b"]']
)
def test_a_list_of_texts_may_be_json(text):
    kept = parse_cell('x: list[str] = ["a"]  # letters, each of a, b\n')["x"]
    assert kept.check(text) == ["a", "b"]


@given(st.lists(st.floats(1e-30, 1, exclude_min=True), min_size=1, max_size=6))
def test_a_list_of_numbers_is_read_in_every_spelling(numbers):
    rates = parse_cell("rates: list[float] = [0.1]  # tried, each in (0, 1]\n")["rates"]
    for spelling in (
        ",".join(map(repr, numbers)),
        json.dumps(numbers),
        numbers,
        [f"{v!r}" for v in numbers],
    ):
        assert rates.check(spelling) == numbers


def test_a_profile_may_write_numbers_as_yaml_does(small_book, tmp_path):
    """YAML takes 1e-3 for a text."""
    values = "01_tiny: {noise: [1e-3, 0.5], rate: 1e-2, widths: [4, 8]}\n"
    (small_book / "notebooks/profiles/yaml.yaml").write_text(values)
    try:
        told = runner.plan(small_book, "01_tiny", "yaml", {}, tmp_path).parameters
        assert (told["noise"], told["rate"], told["widths"]) == ([1e-3, 0.5], 1e-2, [4, 8])
    finally:
        (small_book / "notebooks/profiles/yaml.yaml").unlink()
    texts = parse_cell('x: list[str] = ["1"]  # texts\n')["x"]
    with pytest.raises(ParameterError, match="entry 1, 1"):
        texts.check([1, "2"])


@pytest.mark.parametrize(
    "words", [["--rate", "0.25", "01_tiny"], ["01_tiny", "--rate=0.25"], ["--rate=0.25", "01_tiny"]]
)
def test_parameters_may_stand_before_the_chapter(words):
    assert cli._overrides(words) == ("01_tiny", {"rate": "0.25"})


# --- what would be ignored ------------------------------------------------------------------------
NEEDS = """weights: str = "book"  # book: ours; train: learn it, implies table = run; or a folder
table: str = "book"  # book: kept; run: measure; recertify: sample; or a folder
folder: str = ""  # pictures, if weights is train; empty: what ships; or a folder
width: int = 64  # units if weights is train, in [8, 512]
depth: int = 5  # layers if weights is train, and of your own class, in [2, 10]
size: int = 64  # pixels of a side unless weights is book, in [8, 178]
colour: bool = False  # three channels if weights is train
"""


@pytest.mark.parametrize(
    ("asked", "set_too"),
    [
        ({}, {}),
        (dict(folder="x"), dict(weights="train", table="run")),
        (dict(folder="x", width=32), dict(weights="train", table="run")),
        (dict(folder="x", table="recertify"), dict(weights="train")),
        (dict(folder="x", table="pieces"), dict(weights="train")),
        (dict(weights="train"), dict(table="run")),
        (dict(weights="train", size=32, colour="true"), dict(table="run")),
        (dict(weights="mine"), {}),
        (dict(weights="mine", size=32), {}),
        (dict(depth=3), {}),
        (dict(width=64, colour=False, folder=""), {}),
    ],
)
def test_data_of_ones_own_set_what_they_need(asked, set_too):
    schema = parse_cell(NEEDS)
    told = resolve(schema, asked)
    expected = {n: schema[n].check(v) for n, v in {**asked, **set_too}.items()}
    assert told == {n: p.default for n, p in schema.items()} | expected


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            dict(width=32),
            "width = 32: ignored unless weights is train, and weights = book; add --w",
        ),
        (dict(weights="mine", width=32), "ignored unless weights is train, and weights = mine"),
        (dict(colour=True), "colour = True: ignored unless weights is train"),
        (dict(size=32), "size = 32: ignored if weights is book, and weights = book"),
        (dict(folder="x", weights="book"), "weights = book: folder = x needs weights = train"),
        (dict(folder="x", weights="mine"), "folder = x: ignored unless weights is train"),
        (dict(weights="train", table="book"), "table = book: weights = train needs table = run"),
        (dict(folder="x", table="book"), "table = book: weights = train needs table = run"),
    ],
)
def test_what_would_be_ignored_is_refused(asked, told):
    with pytest.raises(ParameterError) as error:
        resolve(parse_cell(NEEDS), asked)
    assert str(error.value).startswith(told) or told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_profile_is_no_wish():
    """What it sets for training does not stop a run of what ships; it may set what is needed."""
    schema, profile = parse_cell(NEEDS), dict(weights="train", table="run", width=8)
    assert resolve(schema, dict(weights="book"), profile)["width"] == 8
    assert resolve(schema, dict(folder="x", width=16), profile)["weights"] == "train"
    with pytest.raises(ParameterError, match="ignored unless weights is train"):
        resolve(schema, dict(weights="book", width=16), profile)


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


DATA = {
    "03_maml_vs_reptile": ["celeba"],
    "04_class_priors": ["celeba", "imagenette"],
    "06_ct": ["phantom_file"],
    "07_simple_nerf": ["object_folder"],
    "08_phototourism": ["photo_folder"],
    "09_shared_networks": ["celeba"],
}

FITTED = {"06_ct": ["scan_file"]}  # with what ships, too
FITTED |= {"01_siren": ["photo"], "02_spectral_bias": ["photo"]}


@pytest.mark.parametrize("name", runner.chapters(ROOT))
def test_data_of_ones_own_are_never_ignored(name, tmp_path):
    """Every parameter that names data sets what it needs, and what ships is refused beside it."""
    schema = read_schema(runner.find(ROOT, name))
    own = [n for n, p in schema.items() if p.is_place and n not in ("weights", "table")]
    known = {*DATA.get(name, []), *FITTED.get(name, [])}
    assert set(own) == known | ({"image_folder"} & {*own})
    for data in DATA.get(name, ()):
        job = runner.plan(ROOT, name, "book", {data: str(tmp_path)}, tmp_path)
        assert job.parameters["weights"] == "train"
        assert job.cell_timeout > 3600
        assert f"{data} implies" in job.implied([data])
        for weights in ("book", str(tmp_path)):
            with pytest.raises(ParameterError, match=r"weights is train|needs weights = train"):
                runner.plan(ROOT, name, "book", {data: str(tmp_path), "weights": weights}, tmp_path)
        with pytest.raises(ParameterError, match=f"{data} = .*: no such file or folder"):
            runner.plan(ROOT, name, "book", {data: "nowhere"}, tmp_path)


@pytest.mark.parametrize(
    "name", ["06_ct", "07_simple_nerf", "08_phototourism", "09_shared_networks"]
)
def test_what_is_trained_now_is_measured_now(name):
    """Kept results are of the weights that ship, and would be asked for after hours of training."""
    schema = read_schema(runner.find(ROOT, name))
    assert schema["table"].default == "book"
    assert resolve(schema, dict(weights="train"))["table"] == "run"
    assert resolve(schema, {})["table"] == "book"


@pytest.mark.parametrize("name", runner.chapters(ROOT))
def test_kept_results_can_be_measured_and_certified_in_every_chapter(name):
    table = read_schema(runner.find(ROOT, name)).get("table")
    if table is not None:
        assert {"book", "run", "recertify"} <= table.words
        assert table.default in results.CHOICES


@pytest.mark.parametrize(
    ("value", "expected"), [("owl", "owl"), ("mine.png", "/here/mine.png"), ("", "")]
)
def test_a_file_may_stand_beside_names(value, expected):
    photo = parse_cell('photo: str = "panda"  # one of panda, owl; or a file\n')["photo"]
    assert photo.words == {"", "panda", "owl"}
    assert photo.placed(value, Path("/here")) == expected


def test_a_place_that_is_not_there_is_told_with_the_words_that_are(tmp_path):
    told = "table = .*nowhere: no such file or folder, nor one of book, recertify, run$"
    with pytest.raises(ParameterError, match=told):
        runner.plan(ROOT, "06_ct", "book", {"table": "nowhere"}, tmp_path)


@pytest.mark.parametrize("name", runner.chapters(ROOT))
def test_what_a_help_asks_for_is_there(name):
    """Every phrase "if X is V", "implies X = V" names a parameter and a value that it may have."""
    schema = read_schema(runner.find(ROOT, name))
    for parameter in schema.values():
        if parameter.read_when:
            schema[parameter.read_when[1]].check(parameter.read_when[2])
        for value in (*parameter.words, "/a/path") if parameter.is_place else ():
            for other, text in parameter.implied(value).items():
                assert text in schema[other].words
