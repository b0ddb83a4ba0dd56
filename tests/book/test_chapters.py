"""Chapters with a folder of a user's, and their profiles."""

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, check_report
from PIL import Image, ImageDraw

from learnit_utils.book import runner
from learnit_utils.book.cli import main

CHAPTERS = list(runner.chapters(ROOT))
CONSTRAINTS = ROOT / "tests" / "constraints-colab.txt"


@pytest.mark.slow
def test_a_chapter_with_a_folder_of_ones_own(tmp_path, monkeypatch):
    own_pictures(tmp_path / "shapes")
    monkeypatch.chdir(tmp_path)  # a path is relative to where the command is called
    words = ["run", "04_class_priors", "--profile", "smoke", "--out", str(tmp_path)]
    assert main([*words, "--image_folder", "shapes", "--on_error", "skip"]) == 0
    report = check_report(tmp_path, "04_class_priors")
    values = {r["name"]: r for r in report["results"]}
    assert values["own_class/own start"]["scale"].startswith("shapes, 14x16")  # as most
    assert values["own_class/own start"]["value"] > values["own_class/random, Adam"]["value"]
    assert any(name.startswith("folder shapes") for name in report["provenance"]["data_sha256"])


def own_pictures(folder):
    """A folder as users have them: pictures of several sizes and kinds, and what is none."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        w, h = rng.integers(20, 90, 2)
        picture = Image.new("RGB", (w, h), tuple(rng.integers(0, 256, 3)))
        draw = ImageDraw.Draw(picture)
        draw.ellipse([w // 4, h // 4, 3 * w // 4, 3 * h // 4], tuple(rng.integers(0, 256, 3)))
        picture.save(folder / f"{i}.{('png', 'jpg', 'webp')[i % 3]}")
    (folder / "broken.png").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("not one either")


@pytest.mark.slow
def test_a_folder_that_cannot_be_used_stops_a_run_at_once(tmp_path, capsys):
    own_pictures(tmp_path / "shapes")
    words = ["run", "04_class_priors", "--profile", "smoke", "--out", str(tmp_path / "out")]
    assert main([*words, "--image_folder", str(tmp_path / "shapes")]) == 1
    told = capsys.readouterr()
    assert "shapes/broken.png: not a picture of an allowed format" in told.out + told.err
    assert not (tmp_path / "out" / "04_class_priors.ipynb").exists()
    assert not (tmp_path / "out" / "results" / "04_class_priors.json").exists()


def test_the_package_leaves_colabs_jax_alone():
    """What the package asks for is satisfied by Colab's versions, so pip changes nothing there."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text().split() if "==" in line)
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert requirement.name in pinned, f"{requirement.name}: add Colab's version"
        assert Version(pinned[requirement.name]) in requirement.specifier


def test_profiles_name_only_chapters():
    import yaml

    for path in Path(ROOT / "notebooks/profiles").glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text("utf8"))) <= set(CHAPTERS)
