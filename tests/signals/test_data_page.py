"""The lines of code of the data page, run as printed on folders that are made here."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from places_on_disk import facade, picture

from learnit_utils.forward import cameras
from learnit_utils.signals import landmarks

PAGE = (ROOT / "book/data.md").read_text("utf8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def pictures(root):
    for i in range(20):
        picture(root / f"{i}.png", i)


def imagenette(root):
    for part in ("train", "val"):
        for i in range(12):
            picture(root / part / "n01440764" / f"{part}_{i}.jpg", i)


def celeba(root):
    rows = []
    for i in range(6):
        picture(root / f"img_align_celeba/{i:06}.jpg", i, (178, 218))
        rows.append(f"{i:06}.jpg {i % 3}\n")
    (root / "list_eval_partition.txt").write_text("".join(rows))


def my_place(root):
    facade(root)
    (root / "images_2").mkdir()
    for path in (root / "images").iterdir():
        Image.open(path).resize((32, 24)).save(root / "images_2" / path.name)


def bent_place(root):
    facade(root, model="SIMPLE_RADIAL", lens="60 32 24 0.05")


def sacre(root, count=30):
    for i in range(count):
        picture(root / f"images/{i:02}.jpg", i)
    eye = np.eye(4)[None].repeat(count, 0)
    lens = np.linalg.inv([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])
    arrays = (np.array([[1.0, 9]] * count), lens[None].repeat(count, 0), eye[:, :3], [[64, 48]])
    for name, a in zip(landmarks.ARRAYS, (*arrays[:3], np.array(arrays[3] * count))):
        np.save(root / f"{name}.npy", a)


def frames(root, names):
    found = []
    for i, name in enumerate(names):
        pose = np.asarray(cameras.orbit(0.5 * i, 0.3, 4.0)).tolist()
        found.append(dict(file_path=name, transform_matrix=pose))
        picture(root / f"{name}.png", i, mode="RGBA")
    return dict(camera_angle_x=0.7, frames=found)


def fox(root):
    table = frames(root, [f"images/{i:04}" for i in range(12)]) | dict(aabb_scale=4, k1=0.0)
    (root / "transforms.json").write_text(json.dumps(table))


def lego(root):
    for split in ("train", "val", "test"):
        table = frames(root, [f"./{split}/r_{i}" for i in range(5)])
        (root / f"transforms_{split}.json").write_text(json.dumps(table))


def shapenet(root):
    root.mkdir()
    ids = ["a", "b", "c"]
    (root / "chair_splits.json").write_text(json.dumps(dict(train=ids, test=ids)))
    for name in ids:
        table = frames(root / "chairs/03001627" / name, [f"r_{i}" for i in range(2)])
        for path in (root / "chairs/03001627" / name).glob("*.png"):
            picture(path, size=(32, 32), mode="RGBA")
        (root / "chairs/03001627" / name / "transforms.json").write_text(json.dumps(table))


MADE = {
    "~/pictures": pictures,
    "imagenette2-160": imagenette,
    "~/celeba": celeba,
    "my_place": my_place,
    "bent_place": bent_place,
    "sacre": sacre,
    "fox": fox,
    "lego": lego,
    "shapenet": shapenet,
}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_pages_code_runs_as_printed(tmp_path, monkeypatch, block):
    if "colmap" in block:
        pytest.importorskip("pycolmap", reason="the extra sfm")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    asked = [name for name in MADE if f'"{name}"' in block]
    assert asked or "solids" in block  # which ship
    for name in asked:
        MADE[name](tmp_path / name.removeprefix("~/"))
    found = {}
    exec(compile(block, "book/data.md", "exec"), found)
    data = [v for v in found.values() if hasattr(v, "provenance")]
    assert len(data) >= max(1, len(asked))
    assert all(d.provenance["count"] and not d.provenance.get("skipped") for d in data)
    shutil.rmtree(tmp_path)
