"""The inits of a chapter: from the book, a run or a path; and the command that trains them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from learnit_utils import train
from learnit_utils.book import _training, inits
from learnit_utils.book.cli import main
from learnit_utils.experiments import flops, shared_training, store
from learnit_utils.experiments.recipe import Recipe, with_changes
from learnit_utils.experiments.registry import RECIPES, SHARED
from learnit_utils.experiments.shared_training import SharedRecipe
from learnit_utils.experiments.store import StoreError
from learnit_utils.signals import base
from learnit_utils.train import TrainError

NET = dict(kind="siren", width=8, depth=2, omega0=10.0, channels=1)
TINY = Recipe(size=12, field=NET, steps=6, agreement=False)


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path):
    """A recipe of that name, and a place of its own; the machine's rate is not measured."""
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    monkeypatch.setattr(flops, "matmul_rate", lambda: 1e11)
    monkeypatch.chdir(tmp_path)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(np.asarray(u), np.asarray(v))


# --- in a chapter -----------------------------------------------------------------------------
@pytest.mark.slow
def test_a_chapter_obtains_weights_from_the_book_a_run_or_a_path(tmp_path):
    trained = inits.load_or_train("train", "tiny", steps=2)
    assert trained.info["steps"] == 2
    (folder,) = (tmp_path / "runs/training").iterdir()
    for choice in (folder, folder / "tiny", folder / "tiny/tiny.safetensors"):
        same(inits.load_or_train(str(choice), "tiny").init, trained.init)
    with pytest.raises(StoreError):
        inits.load_or_train(str(tmp_path), "tiny")
    with pytest.raises(StoreError, match="imported weights have no recipe"):
        trained._replace(recipe=None, info={"method": "imported"}).trained_by()
    with pytest.raises(StoreError, match="weights 'tiny': shipped are"):
        inits.load_or_train("book", "tiny")
    same(inits.load_or_train("book", "text64_of_5").init, store.load("text64_of_5").init)


@pytest.mark.parametrize("choice", ["book", "a/folder", "a/file.safetensors"])
def test_weights_that_were_learned_before_do_not_ignore_data(choice):
    """Also in a live session, where no command checks the parameters."""
    for obtain, name in ((inits.load_or_train, "faces64_maml"), (inits.shared, "faces64_codes")):
        with pytest.raises(StoreError, match="learned from other data than /my/faces"):
            obtain(choice, name, folder="/my/faces")
    same(inits.load_or_train("book", "text64_of_5", folder="").init, store.load("text64_of_5").init)


@pytest.mark.slow
def test_a_chapter_obtains_the_inits_on_the_way_too(tmp_path):
    trained = inits.snapshots("train", "tiny", snapshots=[2, 3], steps=4)
    assert list(trained) == [2, 3, 4]
    assert [w.info["steps"] for w in trained.values()] == [2, 3, 4]
    (folder,) = (tmp_path / "runs/training").iterdir()
    for choice in (folder, folder / "tiny"):
        again = inits.snapshots(str(choice), "tiny")
        assert list(again) == [2, 3, 4]
        same([w.init for w in again.values()], [w.init for w in trained.values()])
    whole = inits.load_or_train("train", "tiny", snapshots=[2, 3], steps=4)
    same(trained[4].init, whole.init)


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if r.snapshots])
def test_the_inits_on_the_way_ship(name):
    way = inits.snapshots("book", name)
    assert list(way) == [*RECIPES[name].snapshots, RECIPES[name].steps]
    for step, w in way.items():
        assert w.info["steps"] == step
        assert w.trained_by() == RECIPES[name]


# --- what changed since an earlier training -------------------------------------------------------
@pytest.fixture
def of_pictures(tmp_path, rng, monkeypatch):
    """A recipe that learns from a folder, and a function that adds pictures to that."""
    monkeypatch.setitem(RECIPES, "tiny", with_changes(TINY, signals="local", batch=1, steps=2))
    place = tmp_path / "pictures"
    place.mkdir()

    def add(*names):
        for name in names:
            u = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(u).save(place / f"{name}.png")

    add(*range(12))
    return place, add


@pytest.mark.slow
def test_a_folder_whose_content_changed_is_learned_anew_in_a_line(of_pictures, capsys):
    place, add = of_pictures
    first = inits.load_or_train("train", "tiny", folder=str(place))
    inits.load_or_train("train", "tiny", folder=str(place))
    (place / ".DS_Store").write_bytes(b"hidden")
    same(inits.load_or_train("train", "tiny", folder=str(place)).init, first.init)
    assert "anew" not in capsys.readouterr().out
    add("more", "and more")
    second = inits.load_or_train("train", "tiny", folder=str(place))
    (told,) = [x for x in capsys.readouterr().out.splitlines() if "anew" in x]
    assert told == f"tiny: what lies in {place} has changed, so it is learned anew"
    counts = [sum(w.info["data"][s]["count"] for s in base.SPLITS) for w in (first, second)]
    assert counts == [12, 14]
    for name in ("more", "and more"):
        (place / f"{name}.png").unlink()
    same(inits.load_or_train("train", "tiny", folder=str(place)).init, first.init)
    assert "anew" not in capsys.readouterr().out  # both trainings are kept


@pytest.mark.slow
def test_another_jax_learns_anew_in_a_line(monkeypatch, capsys):
    first = inits.load_or_train("train", "tiny", steps=2)
    monkeypatch.setattr(_training, "version", lambda _: "99.0")
    monkeypatch.setattr(train, "version", lambda _: "99.0")
    same(inits.load_or_train("train", "tiny", steps=2).init, first.init)
    told = capsys.readouterr().out
    assert "tiny: JAX or the devices have changed, so it is learned anew\n" in told


@pytest.mark.slow
@pytest.mark.parametrize("change", ["program", "damage"])
def test_a_state_that_cannot_be_continued_is_replaced_in_a_line(monkeypatch, capsys, change):
    """No message asks for an option that a chapter does not have."""
    first = inits.load_or_train("train", "tiny", steps=2)
    (state,) = Path("runs/training").rglob(train.STATE)
    if change == "damage":
        state.write_bytes(state.read_bytes()[:-9])
    else:
        known = train._state.tree_digest
        monkeypatch.setattr(train._state, "tree_digest", lambda tree: known(tree) + change)
    same(inits.load_or_train("train", "tiny", steps=2).init, first.init)
    told = capsys.readouterr().out
    assert "tiny: its earlier state cannot be continued, so it is learned anew\n" in told
    assert "--anew" not in told


def test_what_fails_otherwise_is_not_tried_again(monkeypatch):
    calls = []

    def execute(name, recipe, place, **monitor):
        calls.append(monitor)
        raise TrainError("non-finite loss")

    with pytest.raises(TrainError, match="non-finite"):
        _training.trained(execute, "tiny", TINY)
    assert len(calls) == 1


def test_two_that_learn_the_same_init_wait_for_each_other(tmp_path, capfd):
    """The second finds what the first has made."""
    code = f"""
import os, time
from pathlib import Path
from learnit_utils.book import _training
from learnit_utils.experiments.recipe import Recipe

here = Path({str(tmp_path)!r})

def execute(name, recipe, place, **monitor):
    log = here / "log"
    with open(log, "a") as file:
        file.write("begin ")
    while len([*here.glob("*.here")]) < 2:  # until the other one is about to ask, too
        time.sleep(0.05)
    time.sleep(2)
    with open(log, "a") as file:
        file.write("end ")
    return place

_training.folder(Recipe())
(here / f"{{os.getpid()}}.here").touch()
_training.trained(execute, "tiny", Recipe())
"""
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(2)]
    assert [p.wait(timeout=60) for p in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "begin end begin end "
    told = capfd.readouterr().out
    assert told == "tiny: another chapter is learning it, waiting for that\n"


# --- the command ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "'nothing': expected one of faces64_maml, "),
        (["faces64_maml", "--steps", "0"], "--steps = 0: expected an integer >= 1"),
        (["faces64_maml", "--steps", "many"], "invalid int value: 'many'"),
        (
            ["faces64_maml", "--set", "outer_lr"],
            "'outer_lr': expected NAME=VALUE, with NAME one of signals, ",
        ),
        (["faces64_maml", "--set", "field=1"], "'field=1': expected NAME=VALUE"),
        (["faces64_maml", "--set", "batch=two"], "batch = 'two': Input should be a valid integer"),
        (["faces64_maml", "--set", "outer_lr=nan"], "outer_lr = 'nan': Input should be a finite"),
        (
            ["faces64_maml", "--set", "method=sgd"],
            "method = 'sgd': Input should be 'maml', 'fomaml'",
        ),
        (["faces64_maml", "--rate", "1"], "unknown argument '--rate'"),
        ([], "the following arguments are required: name"),
    ],
)
def test_the_command_refuses_what_it_cannot_train(arguments, message, capsys):
    assert main(["train", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.slow
def test_the_command_trains_and_continues(tmp_path, capsys):
    words = ["train", "tiny", "--out", str(tmp_path / "runs"), "--into", str(tmp_path / "weights")]
    assert main([*words, "--steps", "3"]) == 0
    path = capsys.readouterr().out.splitlines()[-1]
    assert store.load(path).info["steps"] == 3
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("3 outer steps, 3 tasks each")
    assert store.load(path).info["steps"] == 6
    state = tmp_path / "runs/tiny" / train.STATE
    state.write_bytes(state.read_bytes()[:-1])
    assert main(words) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("learnit: ")
    assert main([*words, "--anew"]) == 0
    assert main([*words, "--steps", "2"]) == 1
    assert "holds 6 outer steps, more than the 2 wanted" in capsys.readouterr().err
    other = ["--set", "method=reptile", "--set", "outer_lr=0.001", "--set", "steps=2"]
    assert main([*words, *other]) == 1
    assert "belongs to another run: method is" in capsys.readouterr().err
    assert main([*words, "--anew", *other, "--set", "field.width=6"]) == 0
    settings = store.load(path).info["settings"]
    assert (settings["method"], settings["outer_lr"], settings["steps"]) == ("reptile", 1e-3, 2)
    assert settings["field"] == NET | dict(width=6)
    (tmp_path / "file").touch()
    assert main(["train", "tiny", "--out", str(tmp_path / "file")]) == 2


@pytest.mark.slow
def test_an_init_is_learned_from_a_folder(tmp_path, rng, monkeypatch, capsys):
    """And a folder that cannot be used costs one line."""
    monkeypatch.setitem(RECIPES, "tiny", with_changes(TINY, signals="local"))
    for i in range(20):
        u = rng.integers(0, 256, (12, 12 + i, 3), dtype=np.uint8)
        Image.fromarray(u).save(tmp_path / f"{i}.png")
    words = ["train", "tiny", "--out", str(tmp_path / "runs")]
    assert main([*words, "--set", f"folder={tmp_path}"]) == 0
    w = store.load(capsys.readouterr().out.splitlines()[-1])
    assert sum(w.info["data"][s]["count"] for s in ("train", "validation", "test")) == 20
    assert w.trained_by().folder == str(tmp_path)
    (tmp_path / "link.png").symlink_to(__file__)
    for told, extra in (
        ("link that leads out", [f"folder={tmp_path}"]),
        ("expected a folder", []),
    ):
        assert main([*words, *(x for e in extra for x in ("--set", e))]) == 1
        error = capsys.readouterr().err.splitlines()
        assert error[-1].startswith("learnit: ")
        assert told in error[-1]


@pytest.mark.slow
def test_a_chapter_obtains_shared_networks_and_their_other_seeds(tmp_path, monkeypatch):
    net = dict(kind="codes", width=128, depth=2, code=2)
    recipe = SharedRecipe(network=net, size=64, steps=100, batch=2, limit=4)
    monkeypatch.setitem(SHARED, "tiny", recipe)
    makes = inits.shared_trainings("train", "tiny", 2, (12, 8, 0.03), limit=3)
    first, second = (make() for make in makes)
    assert first.recipe == replace(
        recipe, network=net | dict(width=8), size=12, steps=3, limit=3, seed=0
    )
    assert second.recipe == replace(first.recipe, seed=1)
    assert makes[1]() is second  # trained once
    assert not np.array_equal(first.parts.shared.net[0].w, second.parts.shared.net[0].w)
    folders = [path.parent for path in (tmp_path / "runs/training").rglob("tiny.safetensors")]
    (folder,) = (f for f in folders if same_start(f, first))
    for choice in (folder, folder.parent, folder / "tiny.safetensors"):
        same(inits.shared(str(choice), "tiny").parts, first.parts)
    with pytest.raises(StoreError, match="shipped are"):
        inits.shared(str(tmp_path), "tiny")


def same_start(folder, trained):
    return shared_training.load(folder / "tiny.safetensors").recipe == trained.recipe


@pytest.mark.slow
def test_the_command_trains_a_shared_network(tmp_path, monkeypatch, capsys):
    net = dict(kind="codes", width=8, depth=2, code=2)
    monkeypatch.setitem(SHARED, "tiny", SharedRecipe(network=net, size=12, steps=9, limit=20))
    assert main(["train", "tiny", "--steps", "2", "--set", "network.width=6"]) == 0
    trained = shared_training.load(tmp_path / "runs/tiny/tiny.safetensors")
    assert (trained.recipe.steps, trained.network.spec["width"]) == (2, 6)
    capsys.readouterr()
    assert main(["train", "tiny", "--set", "colour=1"]) == 2
    assert "expected NAME=VALUE, with NAME one of network.KEY, training" in capsys.readouterr().err
