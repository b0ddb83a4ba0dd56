"""Commands with a file or folder of one's own: each as a page prints it, into the cells it is for.

Of the chapter those cells run that lead there. A place of one's own goes through the whole of
chapter 8 in test_own_place.
"""

import json
import re
import shlex

import numpy as np
import pytest
from conftest import ROOT
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from traitlets.config import Config

from learnit_utils import metrics
from learnit_utils.book import _workers, cli
from learnit_utils.forward import tomography
from learnit_utils.signals import phantoms

pytestmark = pytest.mark.slow


def printed(command):
    """A command that stands so in the README, the book or a chapter."""
    chapters = [p.read_text("utf8") for p in (ROOT / "notebooks").glob("*.ipynb")]
    pages = [p.read_text("utf8") for p in (ROOT / "README.md", *(ROOT / "book").glob("*.md"))]
    assert any(re.search(rf"{re.escape(command)}(?![\w./])", text) for text in chapters + pages)
    return command


def page(command, place, cells, monkeypatch, tmp_path):
    """What the cells of a chapter leave when it is run by a command; DIR and FILE are the place."""
    jobs = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(_workers, "execute_all", lambda given, *_: jobs.extend(given) or True)
    words = [w.replace("DIR", str(place)).replace("FILE", str(place)) for w in shlex.split(command)]
    assert cli.main([*words[1:], "--out", str(tmp_path / "out")]) == 0
    monkeypatch.chdir(tmp_path)  # where a live session keeps what it makes
    shell = InteractiveShell(config=Config(HistoryManager=dict(enabled=False)))
    chapter = json.loads((ROOT / f"notebooks/{words[2]}.ipynb").read_text("utf8"))
    sources = {c["id"]: "".join(c["source"]) for c in chapter["cells"]}
    for cell in ("setup", "parameters", None, *cells):
        if cell is None:
            shell.push(jobs[0].injected)
        else:
            shell.run_cell(sources[cell]).raise_error()
    return shell.user_ns


def photograph(path, high, wide, seed=0):
    """Soft waves in three colours, as a file."""
    y, x = np.mgrid[:high, :wide] / max(high, wide)
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    waves = [np.sin(9 * x + p) * np.cos(7 * y - p) for p in phase]
    Image.fromarray((127 + 120 * np.stack(waves, -1)).astype(np.uint8)).save(path)


def test_a_photograph_in_chapter_1(monkeypatch, tmp_path):
    photograph(tmp_path / "mine.jpg", 300, 450)
    command = printed("learnit run 01_siren --photo FILE")
    cells = ["data", "descend", "watch"]
    left = page(command, tmp_path / "mine.jpg", cells, monkeypatch, tmp_path)
    assert left["picture"].shape == (43, 64, 3)  # two thirds, not cropped
    relu, siren = left["psnr"][-1]
    assert siren > relu
    assert left["scale"].startswith("photograph mine.jpg, 43x64")


def test_a_class_in_chapter_4(monkeypatch, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for i in range(26):
        shape = (60, 90) if i % 5 else (80, 80)
        photograph(tmp_path / f"mine/{i}.png", *shape, seed=i)
    (tmp_path / "mine/._0.png").write_bytes(b"no picture")
    command = printed("learnit run 04_class_priors --image_folder DIR")
    cells = [
        "my-folder",
        "load",
        "data",
        "table",
        "own-folder",
        "own-train",
        "own-test",
        "own-pictures",
    ]
    left = page(command, tmp_path / "mine", [*cells, "own-figure"], monkeypatch, tmp_path)
    assert sum(len(side.names) for side in left["sides"].values()) == 26
    assert {side.arrays.shape[1:3] for side in left["sides"].values()} == {(21, 32)}
    assert left["ahead"] > 0
    assert "cropped to the proportions of 32 x 21 pixels" in capsys.readouterr().out


def test_a_scan_in_chapter_6(monkeypatch, tmp_path):
    truth = phantoms.load("test", size=48, limit=1).arrays[0, ..., 0]
    degrees = np.sort(np.random.default_rng(0).uniform(0, 180, 40))
    sinogram = tomography.project(truth, tomography.from_degrees(degrees))
    np.savez(tmp_path / "scan.npz", sinogram=3 * np.asarray(sinogram), degrees=degrees)
    command = printed("learnit run 06_ct --scan_file FILE")
    cells = ["starts", "teaser", "own", "own-figure"]
    left = page(command, tmp_path / "scan.npz", cells, monkeypatch, tmp_path)
    shown = {n: u * left["own"].unit / 3 for n, u in left["found"].items()}
    psnr = {n: float(metrics.psnr(u, truth)) for n, u in shown.items()}
    assert set(psnr) == {"FBP", "random", "learned"}
    assert psnr["learned"] > 28, psnr
    assert psnr["learned"] > psnr["FBP"]
