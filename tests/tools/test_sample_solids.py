"""The sampler of the shipped solids, on solids that are known."""

import io
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("trimesh", reason="the extra scenes")
pytest.importorskip("embreex", reason="no wheel for this machine")
sys.path.insert(0, str(ROOT / "tools"))
import sample_solids as sampler
import trimesh


def cells_of(mesh, n=32):
    return sampler.filled(sampler.crossed(np.asarray(mesh.vertices), np.asarray(mesh.faces), n))


def centres(n):
    line = (np.arange(n) + 0.5) / n
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)


def test_a_closed_ball_is_filled_and_at_most_a_cell_too_large():
    n, ball = 32, trimesh.creation.icosphere(4, radius=0.3)
    ball.apply_translation([0.5, 0.5, 0.5])
    away = np.linalg.norm(centres(n) - 0.5, axis=-1)
    cells = cells_of(ball, n)
    assert cells[away < 0.3 - 0.01].all()
    assert not cells[away > 0.3 + np.sqrt(3) / 2 / n].any()


def test_a_gap_of_more_than_a_cell_lets_the_outside_in():
    box = trimesh.creation.box(extents=[0.5] * 3)
    box.apply_translation([0.5, 0.5, 0.5])
    top = box.face_normals[:, 2] > 0.5
    inside = np.abs(centres(32) - 0.5).max(axis=-1) < 0.2
    assert cells_of(box)[inside].all()
    opened = trimesh.Trimesh(box.vertices, box.faces[~top], process=False)
    assert not cells_of(opened)[inside].any()
    assert cells_of(opened)[16, 16, 8]  # its floor is there, one cell thick


@pytest.mark.parametrize("seed", range(3))
def test_no_surface_leaks_however_it_is_turned(seed):
    box = trimesh.creation.box(extents=[0.4, 0.5, 0.3])
    turn = trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))
    box.apply_transform(turn)
    inside = (np.abs((centres(48) - 0.5) @ turn[:3, :3]) < np.array([0.4, 0.5, 0.3]) / 2).all(-1)
    box.apply_translation([0.5, 0.5, 0.5])
    assert cells_of(box, 48)[inside].all()


def test_a_model_is_put_into_the_middle_at_its_longest():
    v = np.random.default_rng(0).normal(size=(50, 3)) * [3, 1, 2] + 7
    placed = sampler.placed(v)
    low, high = placed.min(axis=0), placed.max(axis=0)
    np.testing.assert_allclose((low + high) / 2, 0.5)
    np.testing.assert_allclose((high - low).max(), sampler.EXTENT)
    sides, longest = np.ptp(v, axis=0), np.ptp(v, axis=0).max()
    np.testing.assert_allclose(np.ptp(placed, axis=0), sides * sampler.EXTENT / longest)


def test_the_same_solids_make_the_same_bytes_and_can_be_read():
    models = sampler.models
    entry = dict(name="A chair", creator="A. Author", model="/a/chair.obj")
    one = models.Model("chairs", "Scopia", "chair", "train", entry)
    cells = np.random.default_rng(0).random((sampler.CELLS,) * 3) < 0.1
    data = sampler.archive({one.name: cells}, [one])
    assert data == sampler.archive({one.name: cells}, [one])
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.namelist() == ["ATTRIBUTION.csv", "solids.json", f"{one.name}.xz"]
    assert b"A. Author,CC-BY-3.0," in archive.read("ATTRIBUTION.csv")
