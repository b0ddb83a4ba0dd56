"""Running chapters: what is written, what is kept, what is told when a cell fails."""

import json
import os
import shutil

import pytest
from conftest import write_notebook
from hypothesis import given
from hypothesis import strategies as st

from learnit_utils._files import content
from learnit_utils.book import _workers, runner
from learnit_utils.book.cli import main


@pytest.fixture
def in_small_book(small_book, monkeypatch):
    monkeypatch.chdir(small_book)
    return small_book


@pytest.mark.slow
def test_a_run_writes_notebook_and_results(in_small_book, tmp_path, capsys):
    words = ["run", "01_tiny", "--profile", "smoke", "--rate", "0.25", "--out", str(tmp_path)]
    assert main(words) == 0
    assert str(tmp_path / "01_tiny.ipynb") in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["01_tiny.ipynb", "results"]
    report = json.loads((tmp_path / "results/01_tiny.json").read_text())
    assert report["chapter"] == "01_tiny"
    assert report["profile"] == "smoke"
    assert report["parameters"] == dict(
        seed=7, rate=0.25, method="maml", widths=[4], noise=[0.1], fast=False, label="run"
    )
    assert report["results"][0]["value"] == 7
    assert report["claims"] == [dict(id="held", statement="A claim", holds=True, kind="finding")]
    nb = json.loads((tmp_path / "01_tiny.ipynb").read_text())
    printed = "".join(nb["cells"][-1]["outputs"][-1]["text"])
    assert printed == "7 0.25 maml [4] False\n"
    assert str(tmp_path) not in json.dumps(nb["metadata"].get("papermill", {}))


def test_defaults_inject_nothing(in_small_book, tmp_path):
    job = runner.plan(in_small_book, "01_tiny", "book", {}, tmp_path)
    assert job.injected == {}
    assert job.parameters["widths"] == [8, 16]


@pytest.fixture(scope="module")
def ran(small_book, tmp_path_factory):
    """A book, a package and the outcome of a chapter run with them."""
    root = tmp_path_factory.mktemp("ran")
    (root / "book/notebooks").mkdir(parents=True)
    notebook = root / "book/notebooks/01_tiny.ipynb"
    notebook.write_bytes((small_book / "notebooks/01_tiny.ipynb").read_bytes())
    (root / "package/room").mkdir(parents=True)
    (root / "package/room/module.py").write_text("x = 1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "PACKAGE", root / "package")
        runner.execute(runner.plan(root / "book", "01_tiny", "book", {}, root / "out"))
    return root


@pytest.mark.parametrize(
    "change", ["none", "parameter", "notebook", "package", "added", "environment", "lost", "report"]
)
def test_only_what_changed_is_run_again(ran, tmp_path, monkeypatch, change):
    root = shutil.copytree(ran, tmp_path / "ran")
    book, package, out = (root / part for part in ("book", "package", "out"))
    notebook = book / "notebooks/01_tiny.ipynb"
    monkeypatch.setattr(runner, "PACKAGE", package)
    job = runner.plan(book, "01_tiny", "book", {}, out)
    assert job.is_current()
    if change == "parameter":
        job = runner.plan(book, "01_tiny", "book", {"seed": 1}, out)
    elif change == "notebook":
        notebook.write_text(notebook.read_text().replace("A chapter", "Another"))
    elif change == "package":
        (package / "room/module.py").write_text("x = 2\n")
    elif change == "added":
        (package / "room/other.py").write_text("")
    elif change == "environment":
        monkeypatch.setattr(runner, "distributions", lambda: [])
    elif change == "lost":
        (out / "01_tiny.ipynb").unlink()
    elif change == "report":
        (out / "results/01_tiny.json").unlink()
    assert job.is_current() == (change == "none")


# --- data behind parameters ----------------------------------------------------------------------
DATA = 'folder: str = ""  # pictures; empty: none; or a folder\n'


@pytest.fixture
def of_a_folder(tmp_path):
    """The folder that a chapter is given, and the plan of its run, which has an outcome."""
    book, place, out = tmp_path / "book", tmp_path / "data", tmp_path / "out"
    (book / "notebooks").mkdir(parents=True)
    write_notebook(book / "notebooks/01_own.ipynb", DATA, "print(folder)")
    (place / "below").mkdir(parents=True)
    (place / "a.png").write_bytes(b"a picture")
    (place / "below/b.png").write_bytes(b"another")

    def job():
        return runner.plan(book, "01_own", "book", {"folder": str(place)}, out)

    (out / "results").mkdir(parents=True)
    (out / "results/01_own.json").write_text("{}")
    done = dict(metadata=dict(learnit=dict(fingerprint=job().fingerprint())))
    (out / "01_own.ipynb").write_text(json.dumps(done))
    return place, job


CHANGES = {
    "nothing": lambda place: None,
    "hidden": lambda place: (place / ".DS_Store").write_bytes(b"x"),
    "thumbnails": lambda place: (place / "@eaDir").mkdir(),
    "touched": lambda place: os.utime(place / "a.png", (1, 1)),
    "added": lambda place: (place / "c.png").write_bytes(b"c"),
    "removed": lambda place: (place / "below/b.png").unlink(),
    "renamed": lambda place: (place / "a.png").rename(place / "z.png"),
    "edited": lambda place: (place / "a.png").write_bytes(b"A picture"),
    "gone": lambda place: shutil.rmtree(place / "below"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_cached_runs_see_the_files_behind_their_parameters(of_a_folder, change):
    place, job = of_a_folder
    assert job().is_current()
    CHANGES[change](place)
    same = change in ("nothing", "hidden", "thumbnails", "touched")
    assert job().is_current() == same


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.binary(max_size=5), max_size=4))
def test_content_is_that_of_names_and_bytes(tmp_path_factory, files):
    folders = [tmp_path_factory.mktemp("content") for _ in range(2)]
    for folder, names in zip(folders, (list(files), list(files)[::-1])):
        for name in names:
            (folder / name).write_bytes(files[name])
    first, second = map(content, folders)
    assert first == second
    for name, data in files.items():
        (folders[1] / name).write_bytes(data + b"!")
        assert content(folders[1]) != first
        (folders[1] / name).write_bytes(data)
    (folders[1] / "abcd").write_bytes(b"")
    assert content(folders[1]) != first


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--seed", "3"]])
def test_a_failing_cell_is_told_and_earlier_results_stay(in_small_book, tmp_path, capfd, words):
    (tmp_path / "results").mkdir()
    (tmp_path / "02_broken.ipynb").write_text("earlier")
    (tmp_path / "results/02_broken.json").write_text("earlier")
    assert main(["run", "02_broken", *words, "--out", str(tmp_path)]) == 1
    told = capfd.readouterr().out
    assert "02_broken, cell 4 of 4 (# this cell fails) failed: IndexError" in told
    assert "values[seed + 5]" in told
    assert "Traceback" in told or "IndexError: list index out of range" in told
    assert (tmp_path / "02_broken.ipynb").read_text() == "earlier"
    assert (tmp_path / "results/02_broken.json").read_text() == "earlier"
    assert (tmp_path / "02_broken.failed.ipynb").exists()
    assert not list(tmp_path.rglob("*running*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("import time\ntime.sleep(60)", "over its limit of 2 s"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "DeadKernelError"),
    ],
)
def test_a_hung_or_dead_kernel_is_told(small_book, tmp_path, body, told):
    notebook = tmp_path / "03_hangs.ipynb"
    write_notebook(notebook, "seed: int = 0  # PRNG seed\n", "x = 1", body)
    job = runner.Job(notebook, {}, {}, "book", tmp_path / "out", "", dict(cell_timeout=2))
    with pytest.raises(runner.ChapterFailed, match=told) as error:
        runner.execute(job)
    assert "03_hangs, cell 4 of 4" in str(error.value)


def test_reasons_name_what_ended_a_run(tmp_path):
    from nbclient.exceptions import CellTimeoutError
    from nbformat.v4 import new_code_cell

    job = runner.Job(tmp_path / "x.ipynb", {}, {}, "book", tmp_path, "", dict(cell_timeout=7))
    cell = new_code_cell("print(1)")
    for text, told in (
        ("Timeout waiting for IOPub output", "prints more than can be read"),
        ("A cell timed out while it was being executed", "over its limit of 7 s (--cell-timeout)"),
    ):
        error = CellTimeoutError.error_from_timeout_and_cell(text, 4, cell)
        assert told in runner._reason(error, job)
    assert runner._reason(TimeoutError("of the network"), job) == "TimeoutError: of the network"


@pytest.mark.parametrize(
    ("profile", "injected", "asked", "seconds"),
    [
        ("book", {}, None, 600),
        ("book", dict(weights="train"), None, 86400),
        ("book", dict(table="recertify"), None, 86400),
        ("book", dict(weights="a/folder"), None, 600),
        ("smoke", dict(weights="train"), None, 600),
        ("paper", {}, None, 86400),
        ("paper", {}, 30, 30),
        ("book", dict(table="run"), 30, 30),
    ],
)
def test_training_has_time(tmp_path, profile, injected, asked, seconds):
    options = dict(cell_timeout=asked)
    job = runner.Job(tmp_path / "x.ipynb", {}, injected, profile, tmp_path, "", options)
    assert job.cell_timeout == seconds


@pytest.mark.slow
def test_a_killed_process_is_a_line_and_the_others_go_on(small_book, tmp_path, capfd):
    """The process that runs a chapter is ended from outside, as when memory runs out."""
    kill = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"
    for number, body in enumerate([kill, "x = 1", kill, "x = 2"]):
        write_notebook(tmp_path / f"{number:02}_c.ipynb", "seed: int = 0  # seed\n", body)
    jobs = [
        runner.Job(p, {}, {}, "book", tmp_path / "out", "", dict(cell_timeout=60))
        for p in sorted(tmp_path.glob("*.ipynb"))
    ]
    assert not _workers.execute_all(jobs, 2)
    lines = [x for x in capfd.readouterr().out.splitlines() if x and not x.startswith("    ")]
    why = "its process was ended by SIGKILL; when memory runs out, the system does that"
    told = {x.split()[0].rstrip(":"): x for x in lines}
    assert told["00_c"] == f"00_c failed: {why}"
    assert told["02_c"] == f"02_c failed: {why}"
    assert sorted(told) == ["00_c", "01_c", "02_c", "03_c"]
    assert (tmp_path / "out/01_c.ipynb").exists()
    assert not list((tmp_path / "out").rglob("*running*"))


@pytest.mark.slow
def test_what_a_kernel_writes_beside_its_output_is_told_if_it_died(tmp_path, capfd):
    """Libraries write to standard error when a kernel is ended, too."""
    note = "import os, signal\nos.write(2, b'a note of a library\\n')\n"
    write_notebook(tmp_path / "01_quiet.ipynb", "seed: int = 0  # seed\n", note)
    kill = note + "os.kill(os.getpid(), signal.SIGKILL)"
    write_notebook(tmp_path / "02_dead.ipynb", "seed: int = 0  # seed\n", kill)
    jobs = [
        runner.Job(p, {}, {}, "book", tmp_path / "out", "", dict(cell_timeout=60))
        for p in sorted(tmp_path.glob("*.ipynb"))
    ]
    assert not _workers.execute_all(jobs, 1)
    out, err = capfd.readouterr()
    assert "a note" not in err
    quiet, dead = out.split("02_dead", 1)
    assert "a note" not in quiet
    assert "DeadKernelError" in dead
    assert "    a note of a library" in dead
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "01_quiet.ipynb",
        "02_dead.failed.ipynb",
        "results",
    ]


@pytest.mark.slow
def test_several_chapters_run_side_by_side(in_small_book, tmp_path, capfd):
    assert main(["run", "all", "--out", str(tmp_path), "--jobs", "2"]) == 1  # one of them fails
    told = capfd.readouterr().out
    assert "01_tiny: " in told
    assert "02_broken, cell 4" in told
    assert (tmp_path / "01_tiny.ipynb").exists()
    assert main(["run", "01_tiny", "--out", str(tmp_path), "--cached"]) == 0
    assert "unchanged" in capfd.readouterr().out
