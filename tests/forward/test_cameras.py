"""Cameras: poses, rays through pixels, and the ball that bounds them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from learnit_utils.forward import cameras

SEEDS = st.integers(0, 2**31 - 1)
POSE = st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(0.5, 20))
ANGLE = 0.6911


def double(*arrays):
    return (np.asarray(a, np.float64) for a in arrays)


# --- poses -------------------------------------------------------------------------------------
@settings(max_examples=20)
@given(POSE)
def test_an_orbiting_camera_looks_at_the_origin(pose):
    p = np.asarray(cameras.orbit(*pose), np.float64)
    cameras.check_poses(p)
    np.testing.assert_allclose(np.linalg.norm(p[:3, 3]), pose[2], rtol=1e-6)
    np.testing.assert_allclose(p[:3, 3], pose[2] * p[:3, 2], rtol=1e-5, atol=1e-6)
    assert abs(p[2, 0]) < 1e-6  # its right is level
    assert p[2, 1] > 0  # and its up is up


@settings(max_examples=20)
@given(st.floats(-3, 3), st.floats(-1, 1), st.floats(-3, 3))
def test_a_rotated_camera_has_gone_on_along_its_orbit(azimuth, elevation, angle):
    one = cameras.rotate_z(cameras.orbit(azimuth, elevation, 3.0), angle)
    two = cameras.orbit(azimuth + angle, elevation, 3.0)
    np.testing.assert_allclose(one, two, atol=3e-6)


# --- rays --------------------------------------------------------------------------------------
@settings(max_examples=30)
@given(POSE, SEEDS)
def test_a_ray_goes_through_the_point_that_its_place_shows(pose, seed):
    """Project points by K [R | t], as textbooks do, and look back through where they fall."""
    p = np.asarray(cameras.orbit(*pose), np.float64)
    shape, rng = (90, 120), np.random.default_rng(seed)
    focal = 0.5 * shape[1] / math.tan(ANGLE / 2)
    points = rng.uniform(-0.2, 0.2, (20, 3)) * pose[2]
    local = (points - p[:3, 3]) @ p[:3, :3]
    u = shape[1] / 2 + focal * local[:, 0] / -local[:, 2]
    v = shape[0] / 2 - focal * local[:, 1] / -local[:, 2]
    intrinsics = cameras.intrinsics_from_fov(shape, ANGLE)
    rays = cameras.pixels_to_rays(jnp.float32(p), intrinsics, jnp.asarray(v), jnp.asarray(u))
    o, d = double(rays.origin, rays.direction)
    np.testing.assert_allclose(np.linalg.norm(d, axis=-1), 1, atol=1e-6)
    off = np.linalg.norm(np.cross(points - o, d), axis=-1)  # distance of the point from the ray
    pixel = np.linalg.norm(points - o, axis=-1) / focal
    assert (off < 0.01 * pixel).all()


@settings(max_examples=20)
@given(SEEDS)
def test_a_ray_through_the_projection_of_a_point_meets_it(seed):
    """For other focal lengths to the right and down, and an axis off the middle."""
    rng = np.random.default_rng(seed)
    point = rng.uniform(-0.5, 0.5, 3)
    pose = np.asarray(cameras.orbit(*rng.uniform((-1, 0), (1, 0.5)), rng.uniform(2, 3)), np.float64)
    intrinsics = (*rng.uniform(12, 20, 2), *rng.uniform(5, 9, 2))
    x, y, z = np.linalg.inv(pose) @ [*point, 1] @ np.eye(4)[:, :3]
    fx, fy, cx, cy = intrinsics
    position = jnp.float32([cy - fy * y / -z, cx + fx * x / -z])
    ray = cameras.pixels_to_rays(jnp.float32(pose), intrinsics, *position)
    off = point - np.asarray(ray.origin)
    along = off @ np.asarray(ray.direction)
    assert along > 0
    np.testing.assert_allclose(off - along * np.asarray(ray.direction), 0, atol=1e-5)
    np.testing.assert_allclose(ray.at(jnp.float32(along)), point, atol=1e-5)


@settings(max_examples=20)
@given(SEEDS, st.floats(0.3, 1.5))
def test_an_angle_of_view_is_a_focal_length(seed, angle):
    rng = np.random.default_rng(seed)
    pose = cameras.orbit(*rng.uniform((-3, -1), (3, 1)), 3.0)
    row, column = jnp.asarray(rng.uniform(0, (10, 14), (7, 2)).T, jnp.float32)
    focal = 14 / (2 * np.tan(angle / 2))
    one = cameras.pixels_to_rays(pose, cameras.intrinsics_from_fov((10, 14), angle), row, column)
    two = cameras.pixels_to_rays(pose, (focal, focal, 7.0, 5.0), row, column)
    np.testing.assert_allclose(one.direction, two.direction, atol=1e-6)


@settings(max_examples=20)
@given(POSE, st.floats(0.05, 3.0), st.integers(1, 9), st.integers(1, 9))
def test_the_angle_of_view_lies_between_the_left_and_the_right_edge(pose, fov_x, high, wide):
    intrinsics = cameras.intrinsics_from_fov((high, wide), fov_x)
    row, column = jnp.full(2, high / 2), jnp.array([0.0, wide])
    rays = cameras.pixels_to_rays(cameras.orbit(*pose), intrinsics, row, column)
    left, right = double(*rays.direction)
    between = 2 * np.arctan2(np.linalg.norm(left - right), np.linalg.norm(left + right))
    assert between == pytest.approx(fov_x, rel=1e-4)
    middle = (left + right) / np.linalg.norm(left + right)  # the optical axis
    np.testing.assert_allclose(middle, -np.asarray(cameras.orbit(*pose))[:3, 2], atol=1e-5)


@settings(max_examples=15)
@given(POSE, st.floats(0.1, 2.5), st.sampled_from([(1, 1), (4, 7), (6, 3)]))
def test_the_rays_of_a_camera_project_to_the_centres_of_its_pixels(pose, fov_x, shape):
    (high, wide), p = shape, cameras.orbit(*pose)
    rays = cameras.camera_rays(p, (high, wide), fov_x)
    assert rays.direction.shape == rays.origin.shape == (high, wide, 3)
    assert rays.near.shape == rays.far.shape == (high, wide)
    fx, fy, cx, cy = (float(k) for k in cameras.intrinsics_from_fov((high, wide), fov_x))
    x, y, z = np.moveaxis(np.asarray(rays.direction, np.float64) @ np.asarray(p)[:3, :3], -1, 0)
    i, j = np.meshgrid(np.arange(high) + 0.5, np.arange(wide) + 0.5, indexing="ij")
    np.testing.assert_allclose(cy - fy * y / -z, i, atol=2e-4)
    np.testing.assert_allclose(cx + fx * x / -z, j, atol=2e-4)


def test_the_angle_of_view_may_be_traced():
    pose = cameras.orbit(0.3, 0.4, 2.0)
    traced = jax.jit(lambda fov_x: cameras.camera_rays(pose, (3, 4), fov_x))(jnp.float32(0.7))
    for a, b in zip(traced, cameras.camera_rays(pose, (3, 4), 0.7)):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_picture_is_the_right_way_up():
    shape = (4, 6)
    pose = cameras.orbit(0.0, 0.0, 3.0)  # from +x, y to the right
    d = np.asarray(cameras.camera_rays(pose, shape, ANGLE).direction)
    assert (d[0, :, 2] > 0).all()
    assert (d[-1, :, 2] < 0).all()
    assert (d[:, 0, 1] < 0).all()
    assert (d[:, -1, 1] > 0).all()
    np.testing.assert_allclose(d[:2], d[3:1:-1] * [1, 1, -1], atol=1e-6)


def test_many_cameras_are_one_after_the_other(rng):
    poses = jnp.stack([cameras.orbit(a, 0.2, 3.0) for a in rng.uniform(-3, 3, 5)])
    row, column = jnp.asarray(rng.uniform(0, 9, (2, 5)), jnp.float32)
    intrinsics = tuple(jnp.asarray(k, jnp.float32) for k in rng.uniform(4, 8, (4, 5)))
    near, far = jnp.arange(5.0), jnp.arange(5.0) + 2
    many = cameras.pixels_to_rays(poses, intrinsics, row, column, near, far)
    for i in range(5):
        its = [k[i] for k in intrinsics]
        one = cameras.pixels_to_rays(poses[i], its, row[i], column[i], near[i], far[i])
        for a, b in zip(many, one):
            np.testing.assert_allclose(a[i], b, atol=1e-6)


def test_the_rays_of_a_view_keep_its_camera_and_bounds():
    view = cameras.View(
        pixels=jnp.zeros((12, 3), jnp.uint8),
        size=jnp.array([3, 4]),
        intrinsics=jnp.array([5.0, 6.0, 1.7, 1.4]),
        pose=cameras.orbit(0.2, 0.1, 2.0),
        bounds=jnp.array([0.5, 3.5]),
    )
    row, column = cameras.pixel_centres((3, 4))
    rays = cameras.view_rays(view, row, column)
    plain = cameras.pixels_to_rays(view.pose, view.intrinsics, row, column)
    np.testing.assert_array_equal(rays.direction, plain.direction)
    assert (np.asarray(rays.near) == 0.5).all()
    assert (np.asarray(rays.far) == 3.5).all()
    assert (np.asarray(plain.near) == 0).all()
    assert np.isinf(plain.far).all()


# --- the ball ----------------------------------------------------------------------------------
@settings(max_examples=30)
@given(POSE, st.floats(0.03, 3))
def test_the_ball_is_entered_and_left_on_its_surface(pose, share):
    radius = share * pose[2]
    rays = cameras.clip_to_ball(cameras.camera_rays(cameras.orbit(*pose), (9, 9), ANGLE), radius)
    o, d, near, far = double(*rays)
    closest = np.linalg.norm(np.cross(o, d), axis=-1)
    clear = np.abs(closest - radius) > 1e-3 * radius
    meets = (closest < radius) & clear
    for t in (far, near) if pose[2] > 1.01 * radius else (far,):
        at = o + t[..., None] * d
        np.testing.assert_allclose(np.linalg.norm(at, axis=-1)[meets], radius, rtol=2e-3)
    misses = (closest > radius) & clear
    assert (near[misses] == far[misses]).all()


@settings(max_examples=20)
@given(SEEDS, st.floats(0.1, 5))
def test_what_lies_between_the_bounds_is_what_lies_in_the_ball(seed, radius):
    """From outside, from inside, and with the ball behind: only ahead of the camera counts."""
    rng = np.random.default_rng(seed)
    origin, direction = rng.normal(size=(2, 64, 3)) * [[[3]], [[1]]]
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    given_ = cameras.Rays(*map(jnp.float32, (origin, direction)), jnp.ones(64), jnp.ones(64))
    rays = cameras.clip_to_ball(given_, radius)
    np.testing.assert_array_equal(rays.origin, given_.origin)
    np.testing.assert_array_equal(rays.direction, given_.direction)
    o, d, near, far = double(*rays)
    assert (near >= 0).all()
    assert (far >= near).all()
    t = np.linspace(1e-3, 25, 400)[None] * np.ones((64, 1))
    away = np.linalg.norm(o[:, None] + t[..., None] * d[:, None], axis=-1)
    slack = 0.01 * radius + 0.01
    between = (t > near[:, None]) & (t < far[:, None])
    assert (away[between] < radius + slack).all()
    assert (away[~between] > radius - slack).all()
    inside = np.linalg.norm(o, axis=-1) < radius - slack
    assert (near[inside] == 0).all()
    behind = (np.linalg.norm(o, axis=-1) > radius + slack) & ((o * d).sum(-1) > 0)
    assert (far[behind] == 0).all()


def test_a_ray_that_misses_the_ball_ends_at_its_closest_point():
    direction = jnp.array([[1.0, 0.0, 0.0]])
    rays = cameras.Rays(jnp.array([[-3.0, 2.0, 0.0]]), direction, jnp.zeros(1), jnp.ones(1))
    clipped = cameras.clip_to_ball(rays, 1.0)
    assert clipped.near.tolist() == clipped.far.tolist() == [3.0]
    np.testing.assert_array_equal(clipped.at(clipped.near), [[0.0, 2.0, 0.0]])


def test_the_edge_of_the_ball_has_finite_gradients():
    def length(origin):
        rays = cameras.Rays(origin, jnp.array([1.0, 0.0, 0.0]), 0.0, jnp.inf)
        clipped = cameras.clip_to_ball(rays, 1.0)
        return clipped.far - clipped.near

    for height in (0.0, 1.0, 2.0):
        assert np.isfinite(jax.grad(length)(jnp.array([-3.0, height, 0.0]))).all()


# --- squares -----------------------------------------------------------------------------------
@settings(max_examples=20)
@given(st.integers(2, 30), st.integers(2, 30), st.sampled_from([1, 2, 7, 16, 29]))
@example(16, 16, 16)
def test_the_square_in_the_middle(high, wide, side):
    row, column = double(*cameras.centred_square((high, wide), side))
    assert len(row) == len(column) == side**2
    for at, whole in ((row, high), (column, wide)):
        assert at.min() > 0
        assert at.max() < whole
    np.testing.assert_allclose((row.mean(), column.mean()), (high / 2, wide / 2), rtol=1e-5)
    if high == wide == side:  # all of the picture, pixel by pixel
        np.testing.assert_array_equal(row * 2, np.repeat(np.arange(side) * 2 + 1, side))
    least = min(high, wide)
    np.testing.assert_allclose(np.diff(column.reshape(side, side)), least / side, rtol=1e-4)


# --- bad input ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cameras.orbit(math.nan, 0, 1), "azimuth = nan"),
        (lambda: cameras.orbit(0, math.pi / 2, 1), "elevation between -pi/2 and pi/2"),
        (lambda: cameras.orbit(0, 0, 0), "distance > 0"),
        (lambda: cameras.check_poses(np.eye(3)), r"\(3, 3\): expected \(..., 4, 4\)"),
        (lambda: cameras.check_poses(np.full((4, 4), np.nan)), "expected finite numbers"),
        (lambda: cameras.check_poses(2 * np.eye(4)), "expected a rotation and a translation"),
        (lambda: cameras.check_poses(np.diag([1, 1, 1, 2.0])), "a rotation and a translation"),
        (lambda: cameras.camera_rays(jnp.eye(4), (4, 4), 0.0), "fov_x = 0.0.*an angle in"),
        (lambda: cameras.intrinsics_from_fov((4, 4), math.pi), r"expected an angle in \(0, pi\)"),
        (lambda: cameras.camera_rays(jnp.eye(4), (0, 4), 1.0), "at least 1 pixel"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
