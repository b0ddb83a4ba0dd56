"""A folder of one's own, from COLMAP's model to the grid of light and pose."""

import json

import pytest
from conftest import ROOT
from synthetic_place import build

from learnit_utils.book import cli

pytest.importorskip("pycolmap", reason="the extra sfm")


@pytest.mark.slow
def test_chapter_8_goes_from_a_colmap_folder_to_the_grid(tmp_path, monkeypatch):
    place = tmp_path / "place"
    place.mkdir()
    build(place)
    for arrays in place.glob("*.npy"):  # the same place, as learnit has it
        arrays.unlink()
    monkeypatch.chdir(ROOT)
    ask = ["run", "08_phototourism", "--profile", "smoke", "--photo_folder", str(place)]
    assert cli.main([*ask, "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out/results/08_phototourism.json").read_text("utf8"))
    names = {r["name"] for r in told["results"]}
    assert any(n.startswith("own place/half/many") for n in names)
    assert not any("gate" in n or n.startswith("depth") for n in names)
    page = json.loads((tmp_path / "out/08_phototourism.ipynb").read_text("utf8"))
    cells = {c["id"]: c for c in page["cells"]}
    shown = [o for o in cells["grid-figure"]["outputs"] if "text/html" in o.get("data", {})]
    assert shown
    assert not cells["depths"]["outputs"]
