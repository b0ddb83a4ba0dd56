"""The builder of landmarks: its rays, its light, its order; without models, which are not here."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils.forward import cameras

pytest.importorskip("trimesh", reason="the extra scenes")
pytest.importorskip("embreex", reason="no wheel for this machine")
sys.path.insert(0, str(ROOT / "tools"))
import build_landmarks as build
import landmark_shapes as shapes

SEEDS = st.integers(0, 2**31 - 1)


@pytest.fixture(autouse=True)
def no_models(monkeypatch):
    """Primitives alone."""
    monkeypatch.setattr(shapes.Builder, "model", lambda *a, **k: None)
    build._BARE.clear()
    yield
    build._BARE.clear()


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from(list(shapes.LANDMARKS)))
def test_rays_are_those_of_the_package(seed, name):
    shot = build.draw_shot(np.random.default_rng(seed), name)
    wide, high = shot.size
    origins, directions = build.rays(shot, 1)
    rows, columns = np.meshgrid(np.arange(high) + 0.5, np.arange(wide) + 0.5, indexing="ij")
    intrinsics = (shot.focal, shot.focal, wide / 2, high / 2)
    pose, *at = (jnp.float32(a) for a in (shot.pose, rows, columns))
    ours = cameras.pixels_to_rays(pose, intrinsics, *at)
    np.testing.assert_allclose(directions, ours.direction, atol=1e-5)
    np.testing.assert_allclose(origins, ours.origin, rtol=1e-5, atol=1e-5)
    cameras.check_poses(shot.pose)
    assert shot.pose[2, 3] > 1
    assert shot.pose[1, 3] < build.MIDDLE[name][1]  # in front


@pytest.mark.parametrize("name", shapes.LANDMARKS)
def test_a_landmark_stands_on_the_ground_in_view(name):
    s, tracer = build.bare(name)
    assert s.vertices[:, 2].min() >= -2  # rocks are half buried
    assert np.isfinite(s.vertices).all()
    assert np.allclose(np.linalg.norm(s.normals, axis=-1), 1, atol=1e-6)
    for seed in range(3):
        shot = build.draw_shot(np.random.default_rng(seed), name)
        near, far = build.bounds(s, tracer, shot)
        assert 0 < near < far <= 1.05 * build.FARTHEST
        seen = build.depths(s, tracer, shot)
        assert 0.2 < np.isfinite(seen).mean() < 1  # landmark and ground, and sky


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_noise_is_smooth_between_nought_and_one(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-50, 50, (64, 3))
    value = build.noise(points, seed % 1000)
    assert ((value >= 0) & (value <= 1)).all()
    near = build.noise(points + 1e-4, seed % 1000)
    assert np.abs(near - value).max() < 0.01
    assert value.std() > 0.02


def test_light_comes_from_where_it_is():
    """A wall that faces the sun is brighter than its own shadow; at night only lamps count."""
    b = shapes.Builder({})
    b.box((-5, 5), (0, 1), (0, 8), "smooth")
    b.box((-60, 60), (-60, 60), (-1, 0), "smooth")
    s = b.done()
    tracer = build.tracer_of(s)
    pose = np.eye(4)
    pose[:3, 1], pose[:3, 2], pose[:3, 3] = (0, 0, 1), (0, -1, 0), (0, -20, 4)
    shot = build.Shot(pose, 40.0, (24, 24))
    a = build.draw_appearance(np.random.default_rng(0), "gate")
    day = a._replace(clouds=(0, 0), lamps=np.zeros(3), strength=2 * np.ones(3), haze=0.0)
    front, behind = np.array([0, -0.8, 0.6]), np.array([0, 0.8, 0.6])
    bright, dark = (
        build.photograph(s, tracer, day._replace(sun=sun), shot)[8:16, 8:16].mean()
        for sun in (front, behind)
    )
    assert bright > dark + 20
    black = day._replace(strength=np.zeros(3), zenith=np.zeros(3), horizon=np.zeros(3))
    assert build.photograph(s, tracer, black, shot).max() == 0
    lit = build.photograph(s, tracer, black._replace(lamps=np.ones(3)), shot)
    assert lit[8:16, 8:16].mean() > 10
    assert lit[:2].max() == 0  # the sky


def test_haze_hides_what_is_far():
    s, tracer = build.bare("gate")
    shot = build.draw_shot(np.random.default_rng(1), "gate")
    a = build.draw_appearance(np.random.default_rng(0), "gate")._replace(clouds=(0, 0))
    gray = a._replace(horizon=np.full(3, 0.5), zenith=np.full(3, 0.5), strength=np.zeros(3))
    picture = build.photograph(s, tracer, gray._replace(haze=10.0), shot)
    assert np.ptp(picture.reshape(-1, 3), axis=0).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_same_number_gives_the_same_bytes(split):
    one, two = (build.made("gate", split, 3) for _ in range(2))
    assert one == two
    files, entries = one
    others = sum("light_of" in e for e in entries.values())
    assert others == build.OTHERS[split]
    assert len([f for f in files if f.endswith(".webp")]) == 1 + others
    assert build.made("gate", split, 4)[0] != files
