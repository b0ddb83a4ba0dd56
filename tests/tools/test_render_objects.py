"""The renderer of the shipped objects, and the book's cameras looking at what it made."""

import csv
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from learnit_utils.forward import cameras, rendering
from learnit_utils.signals import objects

pytest.importorskip("trimesh", reason="the extra scenes")
pytest.importorskip("embreex", reason="no wheel for this machine")
sys.path.insert(0, str(ROOT / "tools"))
import render_objects as renderer

GRAY = renderer.Material(np.full(3, 0.5), 1.0, None)
NOON = renderer.Light(np.array([0.0, 0, 1]), np.ones(3) * 0.6, np.ones(3) * 0.4, np.ones(3) * 0.2)


def cube(middle, half, material=GRAY):
    """A solid cube of side 2 half."""
    import trimesh

    box = trimesh.creation.box(extents=[2 * half] * 3)
    faces = np.asarray(box.faces)
    normals = np.repeat(np.asarray(box.face_normals)[:, None], 3, axis=1)
    uv, which = np.zeros((len(faces), 3, 2)), np.zeros(len(faces), int)
    v = np.asarray(box.vertices) + middle
    return renderer.Solid(v, faces, normals, uv, which, [material])


@pytest.mark.parametrize("seed", range(4))
def test_a_ray_of_the_book_meets_the_vertex_that_the_renderer_drew(seed):
    """A small cube around a known vertex: where it shows, the book's ray passes it."""
    rng = np.random.default_rng(seed)
    vertex = rng.uniform(-0.7, 0.7, 3)
    pose = np.asarray(cameras.orbit(*rng.uniform(-1, 1, 2), 4.0), np.float64)
    alpha = renderer.picture(cube(vertex, 0.03), NOON, pose)[..., 3]
    i, j = np.meshgrid(*(np.arange(128) + 0.5,) * 2, indexing="ij")
    row, column = ((alpha * k).sum() / alpha.sum() for k in (i, j))
    intrinsics = cameras.intrinsics_from_fov((128, 128), renderer.FOV)
    ray = cameras.pixels_to_rays(jnp.float32(pose), intrinsics, *jnp.float32([row, column]))
    o, d = (np.asarray(a, np.float64) for a in (ray.origin, ray.direction))
    off = np.linalg.norm(np.cross(vertex - o, d))
    pixel = np.linalg.norm(vertex - o) * 2 * np.tan(renderer.FOV / 2) / 128
    assert off < 0.5 * pixel


def test_both_render_the_same_ball():
    """The renderer's mesh and the book's integral agree on where a ball ends."""
    import trimesh

    ball = trimesh.creation.icosphere(4, radius=0.8)
    faces, normals = np.asarray(ball.faces), np.asarray(ball.vertex_normals)[ball.faces]
    uv, which = np.zeros((len(faces), 3, 2)), np.zeros(len(faces), int)
    s = renderer.Solid(np.asarray(ball.vertices), faces, normals, uv, which, [GRAY])
    pose = cameras.orbit(0.4, 0.5, 4.0)
    alpha = renderer.picture(s, NOON, np.asarray(pose, np.float64))[..., 3]
    rays = cameras.clip_to_ball(cameras.camera_rays(pose, (128, 128), renderer.FOV), 1.25)

    def solid(x):
        return jnp.where((x**2).sum(-1) < 0.64, 1e3, 0.0), x

    ours = np.asarray(rendering.render_rays(solid, rays, 400).opacity)
    assert np.abs(alpha - ours).mean() < 0.005
    assert (np.abs(alpha - ours) > 0.5).mean() < 0.01


def test_light_falls_on_top_and_shadow_below():
    both = cube([0, 0, 0.6], 0.3), cube([0, 0, -0.5], 0.5)
    v = np.concatenate([b.vertices for b in both])
    f = np.concatenate([both[0].faces, both[1].faces + len(both[0].vertices)])
    rest = (np.concatenate([getattr(b, k) for b in both]) for k in ("normals", "uv", "which"))
    s = renderer.Solid(v, f, *rest, [GRAY])
    pose = np.asarray(cameras.orbit(0.0, 0.9, 4.0), np.float64)
    picture = renderer.picture(s, NOON, pose)

    def shown(point):  # the value where a point of the surface is seen
        local = (np.array(point) - pose[:3, 3]) @ pose[:3, :3]
        at = 64 + 64 / np.tan(renderer.FOV / 2) * local[:2] / -local[2] * [1, -1]
        return picture[int(at[1]), int(at[0]), 0]

    lit, side = shown([0.2, 0.0, 0.9]), shown([0.5, 0.0, -0.3])
    np.testing.assert_allclose(lit, renderer.displayed(0.5 * (0.6 + 0.4)), atol=0.01)
    np.testing.assert_allclose(side, renderer.displayed(0.5 * 0.3), atol=0.01)
    np.testing.assert_allclose(shown([0.4, 0.4, 0.0]), lit, atol=0.01)  # lower cube, in the sun
    slanted = NOON._replace(sun=np.array([-1, 0, 1]) / np.sqrt(2))
    picture = renderer.picture(s, slanted, pose)
    np.testing.assert_allclose(shown([0.42, 0.0, 0.0]), renderer.displayed(0.5 * 0.4), atol=0.01)


def test_glass_lets_through_what_its_material_says():
    pane = cube([0, 0, 0], 0.4, GRAY._replace(opacity=0.3))
    alpha = renderer.picture(pane, NOON, np.asarray(cameras.orbit(0.0, 0.1, 4.0), np.float64))[
        ..., 3
    ]
    np.testing.assert_allclose(alpha[64, 64], 1 - 0.7**2, atol=1e-6)  # front and back
    assert alpha[2, 2] == 0


def test_normals_follow_a_stretched_solid():
    s = renderer.scaled(cube([0, 0, 0], 0.5), (1.0, 2.0, 0.5))
    np.testing.assert_allclose(np.linalg.norm(s.vertices, axis=1).max(), renderer.RADIUS)
    a, b, c = np.moveaxis(s.vertices[s.faces], 1, 0)
    flat = renderer.unit(np.cross(b - a, c - a))
    np.testing.assert_allclose((flat[:, None] * s.normals).sum(-1), 1, atol=1e-9)


def test_viewpoints_cover_the_zone_evenly():
    views = np.deg2rad(renderer.viewpoints(np.random.default_rng(0), 4000))
    heights = np.sin(views[:, 1])
    assert renderer.HEIGHT[0] - 1e-3 < heights.min() < heights.max() < renderer.HEIGHT[1] + 1e-3
    counts = np.histogram(heights, 8, renderer.HEIGHT)[0]
    assert counts.min() > 400
    assert np.histogram(views[:, 0], 8, (-np.pi, np.pi))[0].min() > 400


def test_what_ships_is_the_list():
    with open(renderer.LIST, newline="") as table:
        rows = list(csv.DictReader(table))
    for kind in objects.KINDS:
        named = {f"{r['collection']}-{r['model']}" for r in rows if r["kind"] == kind}
        assert named == {c["name"] for c in objects.credits(kind)}
