"""The commands of the README, and of every page, do what is said, as printed."""

import json
import pickle
import re
import shlex

import numpy as np
import pytest
from conftest import ROOT

from learnit_utils.book import _workers, cli
from learnit_utils.experiments import exchange, run, store
from learnit_utils.experiments.registry import RECIPES

TEXT = (ROOT / "README.md").read_text("utf8")
LINES = [x for x in TEXT.splitlines() if x.startswith("learnit ")]
VERBS = ("run", "train", "list", "params", "verify", "export-weights", "import-weights")


def texts():
    """The prose of the pages, of CONTRIBUTING and of the chapters."""
    for path in sorted([*(ROOT / "book").glob("*.md"), ROOT / "CONTRIBUTING.md"]):
        yield path.read_text("utf8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text("utf8"))["cells"]
        yield from ("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def within(text):
    """Commands with their words, `learnit VERB ...`, in a text."""
    for command in re.findall(r"`(learnit [^`]+)`", text):
        if command.split()[1] in VERBS and len(command.split()) > 2:
            yield " ".join(command.split())


README = [re.split(r" {2,}", line)[0] for line in LINES]
PAGES = [command for text in texts() for command in within(text)]
COMMANDS = list(dict.fromkeys(README + PAGES))
RUNS = [c for c in COMMANDS if c.startswith("learnit run")]
TRAININGS = [c for c in COMMANDS if c.startswith("learnit train")]
QUICK = [c for c in COMMANDS if c.split()[1] in ("list", "params", "verify")]
WEIGHTS = [c for c in COMMANDS if c.split()[1] in ("export-weights", "import-weights")]
STAND_FOR = dict(NAME="faces64_maml", NN_name="06_ct")  # in prose


def words(command, place):
    """The words of a command, with its placeholders filled in."""
    fill = STAND_FOR | dict(DIR=str(place), FILE=f"{place}/FILE.npz")
    found = []
    for word in shlex.split(command)[1:]:
        name, equals, value = word.partition("=")
        if equals and value in (*fill, "NAME"):
            word = f"{name}={'text' if name == 'signals' else fill[value]}"
        found.append(fill.get(word, word))
    return found


def test_every_command_is_one_of_these():
    assert len(README) >= 10
    assert len(COMMANDS) >= len(README) + 10
    assert sorted(COMMANDS) == sorted(RUNS + TRAININGS + QUICK + WEIGHTS)


@pytest.mark.parametrize("command", QUICK)
def test_what_is_shown_is_there(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(words(command, "")) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", RUNS)
def test_runs_start_as_printed(command, tmp_path, monkeypatch):
    """With a folder of one's own, what it needs is set, and cells have the time that takes."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "FILE.npz").touch()
    started = []
    monkeypatch.setattr(_workers, "execute_all", lambda jobs, *_: started.extend(jobs) or True)
    assert cli.main([*words(command, tmp_path), "--out", str(tmp_path / "out")]) == 0
    (job,) = started
    if "--photo_folder" in command:
        expected = dict(weights="train", table="run", photo_folder=str(tmp_path))
        assert job.injected == expected
        assert job.cell_timeout == 24 * 3600


@pytest.mark.parametrize("command", TRAININGS)
def test_trainings_start_as_printed(command, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(run, "execute", lambda name, recipe, *_, **__: started.append(recipe))
    assert cli.main([*words(command, tmp_path), "--out", str(tmp_path / "out")]) == 0
    (recipe,) = started
    assert recipe.folder == (str(tmp_path) if "DIR" in command else "")
    asked = dict(re.findall(r"--set (\w+)=(\d+)", command))
    steps = RECIPES[words(command, tmp_path)[1]].steps
    assert recipe.steps == int(asked.get("steps", steps))


@pytest.mark.parametrize("command", WEIGHTS)
def test_weights_come_and_go_as_printed(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [f"siren/siren_layer{n}/linear" for n in ("", "_1")]
    layers = [dict(w=np.ones(s, "f4"), b=np.ones(s[1], "f4")) for s in ((2, 3), (3, 1))]
    (tmp_path / "A.pickle").write_bytes(pickle.dumps(dict(zip(names, layers))))
    exchange.export(store.load("faces64_maml"), "npz", tmp_path / "FILE.npz")
    assert cli.main(words(command, tmp_path)) == 0
    made = [tmp_path / line for line in capsys.readouterr().out.split()]
    assert all(path.exists() for path in made)
    if "import" in command:
        assert store.load(made[0]).field.spec["omega0"] == 30
