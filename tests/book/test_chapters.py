"""Chapters run under the versions that Colab has, and with a folder of a user's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, check_report
from PIL import Image, ImageDraw

from learnit_utils import runner
from learnit_utils.__main__ import main

CHAPTERS = list(runner.chapters(ROOT))
COLAB = ROOT / ".venv-colab"
CONSTRAINTS = ROOT / "tests" / "constraints-colab.txt"


@pytest.fixture(scope="module")
def colab_kernel(tmp_path_factory):
    """A kernel with Colab's versions of everything that matters, in an environment of its own."""
    stamp = COLAB / "ready"
    python = shutil.which("python3.13") or sys.executable
    if subprocess.run([python, "-c", ""], capture_output=True).returncode:
        python = sys.executable
    if not stamp.exists() or stamp.read_text() != CONSTRAINTS.read_text():
        pip = [COLAB / "bin/python", "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
        steps = [
            [python, "-m", "venv", "--clear", COLAB],
            [*pip, "-c", CONSTRAINTS, "ipykernel", "setuptools", ROOT],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True)
            if done.returncode:
                why = done.stderr.strip().splitlines()[-1:]
                pytest.skip(f"no environment with Colab's versions could be made: {why}")
        stamp.write_text(CONSTRAINTS.read_text())
    spec = tmp_path_factory.mktemp("jupyter") / "kernels" / "colab"
    spec.mkdir(parents=True)
    argv = [str(COLAB / "bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    words = dict(argv=argv, display_name="Colab's versions", language="python")
    words["env"] = dict(PYTHONPATH=str(ROOT))  # this checkout, not the installed copy
    (spec / "kernel.json").write_text(json.dumps(words))
    return spec.parent.parent


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_under_colabs_versions(name, colab_kernel, tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", os.pathsep.join([str(colab_kernel)]))
    words = ["run", name, "--profile", "smoke", "--kernel", "colab", "--out", str(tmp_path)]
    if name == "04_class_priors":  # and with a folder of a user's, named from where they are
        own_pictures(tmp_path / "shapes")
        monkeypatch.chdir(tmp_path)
        words += ["--image_folder", "shapes", "--on_error", "skip"]
    assert main(words) == 0
    report = check_report(tmp_path, name)
    if name == "04_class_priors":
        values = {r["name"]: r for r in report["results"]}
        assert values["own_class/own start"]["scale"].startswith("shapes, 16x16")
        assert values["own_class/own start"]["value"] > values["own_class/random, Adam"]["value"]
        assert "folder shapes" in report["provenance"]["data_sha256"]
    pinned = dict(line.split("==") for line in CONSTRAINTS.read_text().split() if "==" in line)
    assert report["provenance"]["jax"] == pinned["jax"]
    assert report["provenance"]["numpy"] == pinned["numpy"]


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


def test_a_folder_that_cannot_be_used_stops_a_run_at_once(tmp_path, capsys):
    own_pictures(tmp_path / "shapes")
    words = ["run", "04_class_priors", "--profile", "smoke", "--out", str(tmp_path / "out")]
    assert main([*words, "--image_folder", str(tmp_path / "shapes")]) == 1
    told = capsys.readouterr()
    assert "DataError: broken.png: not a picture of an allowed format" in told.out + told.err
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


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_explains_its_code(name):
    """Words in its markdown cells per non-empty line in its code cells, hidden ones too."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf8"))["cells"]
    texts = {kind: [] for kind in ("markdown", "code")}
    for cell in cells:
        texts[cell["cell_type"]].append("".join(cell["source"]))
    words = sum(len(text.split()) for text in texts["markdown"])
    lines = sum(bool(line.strip()) for text in texts["code"] for line in text.splitlines())
    assert 5 <= words / lines <= 12, f"{words} words for {lines} lines"


def test_profiles_name_only_chapters():
    import yaml

    for path in Path(ROOT / "notebooks/profiles").glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text("utf8"))) <= set(CHAPTERS)
