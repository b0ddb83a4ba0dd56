"""Cameras and volume rendering: the laws that they obey."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import cameras, fields, metrics, tasks
from learnit_utils.observe import volume

SEEDS = st.integers(0, 2**31 - 1)
ANGLE = 0.6911


def some(seed, shape=(6, 20)):
    """Density, colour, places, width and far of rays at random."""
    keys = jax.random.split(jax.random.key(seed), 4)
    near = jax.random.uniform(keys[0], shape[:1], minval=1.0, maxval=3.0)
    far = near + jax.random.uniform(keys[1], shape[:1], minval=0.5, maxval=3.0)
    density = 20 * jax.random.uniform(keys[2], shape) ** 4
    colour_key, place_key = jax.random.split(keys[3])
    colour = jax.random.uniform(colour_key, (*shape, 3))
    t, width = volume.places(near, far, shape[1], place_key)
    return density, colour, t, width, far


# --- along a ray -------------------------------------------------------------------------------
@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_weights_sum_to_what_does_not_come_through(seed):
    density, colour, t, width, far = some(seed)
    seen = volume.composite(density, colour, t, width, far)
    through = np.exp(-np.asarray(density * width, np.float64).sum(-1))
    np.testing.assert_allclose(seen.weights.sum(-1), 1 - through, atol=2e-6)
    np.testing.assert_allclose(seen.opacity, 1 - through, atol=2e-6)
    assert (np.asarray(seen.weights) >= 0).all()
    assert ((np.asarray(seen.colour) > -1e-6) & (np.asarray(seen.colour) < 1 + 1e-6)).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_composite_is_the_loop_it_stands_for(seed):
    density, colour, t, width, far = some(seed)
    seen = volume.composite(density, colour, t, width, far, jnp.array([0.1, 0.5, 0.9]))
    s, c, p, w = (np.asarray(a, np.float64) for a in (density, colour, t, width))
    for ray in range(len(s)):
        through, light, depth = 1.0, np.zeros(3), 0.0
        for i in range(s.shape[1]):
            alpha = 1 - math.exp(-s[ray, i] * w[ray, 0])
            light += through * alpha * c[ray, i]
            depth += through * alpha * p[ray, i]
            through *= 1 - alpha
        light += through * np.array([0.1, 0.5, 0.9])
        np.testing.assert_allclose(seen.colour[ray], light, atol=5e-6)
        np.testing.assert_allclose(seen.depth[ray], depth + through * float(far[ray]), rtol=1e-5)


@pytest.mark.parametrize("samples", [1, 7, 64])
@pytest.mark.parametrize("jitter", [None, 0, 1])
def test_uniform_density_obeys_beer_and_lambert(samples, jitter):
    near, far = jnp.array([2.0, 0.5]), jnp.array([3.5, 4.0])
    key = None if jitter is None else jax.random.key(jitter)
    t, width = volume.places(near, far, samples, key)
    for sigma in (0.0, 0.3, 2.0, 30.0):
        colour = jnp.full((2, samples, 1), 0.25)
        seen = volume.composite(jnp.full((2, samples), sigma), colour, t, width, far, 1.0)
        through = np.exp(-sigma * np.array([1.5, 3.5]))
        np.testing.assert_allclose(seen.colour[:, 0], 0.25 + 0.75 * through, atol=1e-5)


def test_the_last_sample_counts_like_every_other():
    t, width = volume.places(jnp.zeros(1), jnp.ones(1), 10)
    only_last = jnp.zeros((1, 10)).at[0, -1].set(3.0)
    only_first = jnp.zeros((1, 10)).at[0, 0].set(3.0)
    colour = jnp.zeros((1, 10, 1))
    ends = [
        float(volume.composite(d, colour, t, width, jnp.ones(1)).opacity[0])
        for d in (only_first, only_last)
    ]
    np.testing.assert_allclose(ends, 1 - math.exp(-0.3), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(0, 19))
def test_an_opaque_plane_gives_its_depth_and_colour(seed, at):
    _, colour, t, width, far = some(seed)
    density = jnp.zeros(t.shape).at[:, at:].set(1e6)
    seen = volume.composite(density, colour, t, width, far)
    np.testing.assert_allclose(seen.depth, t[:, at], rtol=1e-5)
    np.testing.assert_allclose(seen.colour, colour[:, at], atol=1e-6)
    np.testing.assert_allclose(seen.opacity, 1, atol=1e-6)


@pytest.mark.parametrize("background", [1.0, 0.3])
def test_an_empty_field_gives_the_background_exactly(background):
    _, colour, t, width, far = some(0)
    seen = volume.composite(jnp.zeros(t.shape), colour, t, width, far, background)
    assert (np.asarray(seen.colour) == np.float32(background)).all()
    assert (np.asarray(seen.depth) == np.asarray(far)).all()
    assert (np.asarray(seen.opacity) == 0).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 1e-20, 1.0, 1e4, 1e20]))
def test_gradients_are_finite(seed, scale):
    density, colour, t, width, far = some(seed)

    def loss(density, colour, t, width):
        seen = volume.composite(scale * density, colour, t, width, far)
        return (seen.colour**2).sum() + seen.depth.sum() + (seen.weights**2).sum()

    for g in jax.grad(loss, argnums=(0, 1, 2, 3))(density, colour, t, width):
        assert np.isfinite(np.asarray(g)).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_every_bin_has_its_sample(seed):
    near, far = jnp.array([1.0, 2.0]), jnp.array([1.5, 6.0])
    t, width = volume.places(near, far, 12, jax.random.key(seed))
    bins = (np.asarray(t) - np.asarray(near)[:, None]) / np.asarray(width)
    assert (np.abs(bins - (np.arange(12) + 0.5)) <= 0.5 + 1e-4).all()
    np.testing.assert_allclose(12 * width[:, 0], far - near, rtol=1e-6)


# --- cameras -----------------------------------------------------------------------------------
POSE = st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(0.5, 20))


@settings(max_examples=30, deadline=None)
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
    rays = cameras.through(
        jnp.asarray(p, jnp.float32), jnp.asarray(v), jnp.asarray(u), shape, ANGLE
    )
    o, d = (np.asarray(a, np.float64) for a in rays)
    np.testing.assert_allclose(np.linalg.norm(d, axis=-1), 1, atol=1e-6)
    off = np.linalg.norm(np.cross(points - o, d), axis=-1)  # distance of the point from the ray
    pixel = np.linalg.norm(points - o, axis=-1) / focal
    assert (off < 0.01 * pixel).all()


def test_the_picture_is_the_right_way_up():
    shape = (4, 6)
    rays = cameras.of_picture(cameras.orbit(0.0, 0.0, 3.0), shape, ANGLE)  # from +x, y to the right
    d = np.asarray(rays.direction)
    assert (d[0, :, 2] > 0).all()
    assert (d[-1, :, 2] < 0).all()
    assert (d[:, 0, 1] < 0).all()
    assert (d[:, -1, 1] > 0).all()
    np.testing.assert_allclose(d[:2], d[3:1:-1] * [1, 1, -1], atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(POSE, st.floats(0.03, 3))
def test_the_ball_is_entered_and_left_on_its_surface(pose, share):
    radius = share * pose[2]
    rays = cameras.of_picture(cameras.orbit(*pose), (9, 9), ANGLE)
    near, far = cameras.in_sphere(rays, radius)
    o, d = (np.asarray(a, np.float64) for a in rays)
    closest = np.linalg.norm(np.cross(o, d), axis=-1)
    clear = np.abs(closest - radius) > 1e-3 * radius
    meets = (closest < radius) & clear
    for t in (far, near) if pose[2] > 1.01 * radius else (far,):
        at = o + np.asarray(t)[..., None] * d
        np.testing.assert_allclose(np.linalg.norm(at, axis=-1)[meets], radius, rtol=2e-3)
    misses = (closest > radius) & clear
    assert (np.asarray(near)[misses] == np.asarray(far)[misses]).all()


def test_the_edge_of_the_ball_has_finite_gradients():
    def length(origin):
        near, far = cameras.in_sphere(cameras.Rays(origin, jnp.array([1.0, 0.0, 0.0])), 1.0)
        return far - near

    for height in (0.0, 1.0, 2.0):
        assert np.isfinite(jax.grad(length)(jnp.array([-3.0, height, 0.0]))).all()


# --- pictures ----------------------------------------------------------------------------------
NET = fields.posenc(16, 3, 4, 4, dims=3, offset=0.0)
LOOK = dict(radius=1.25, samples=12)


def test_in_chunks_or_at_once():
    theta, pose = NET.init(jax.random.key(0)), cameras.orbit(0.3, 0.4, 4.0)
    whole = volume.render(NET, theta, pose, (11, 13), ANGLE, **LOOK, chunk=10**6)
    assert whole.colour.shape == (11, 13, 3)
    for chunk in (1, 7, 143):
        cut = volume.render(NET, theta, pose, (11, 13), ANGLE, **LOOK, chunk=chunk)
        for a, b in zip(whole[:3], cut):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_memory_is_set_by_the_chunk():
    theta, pose = NET.init(jax.random.key(0)), cameras.orbit(0.3, 0.4, 4.0)

    def temporary(side):
        rays = cameras.of_picture(pose, (side, side), ANGLE)
        flat = cameras.Rays(*(r.reshape(-1, 3) for r in rays))
        args = (NET, theta, flat, 1.25, 12, "softplus", jnp.float32(1), 256)
        return volume._rendered.lower(*args).compile().memory_analysis().temp_size_in_bytes

    assert temporary(128) < 1.5 * temporary(32) + 16 * 128**2  # what it gives back


def _ball(x):
    """A solid ball of radius 1/2 whose colour is where it is."""
    inside = (x**2).sum(-1) < 0.25
    return x + 0.5, jnp.where(inside, 1e4, 0.0)


def test_a_solid_ball_shows_its_surface():
    rays = cameras.of_picture(cameras.orbit(0.7, 0.2, 4.0), (33, 33), ANGLE)
    near, far = cameras.in_sphere(rays, 1.25)
    seen = volume.along(_ball, rays, near, far, 2000)
    enter, _ = cameras.in_sphere(rays, 0.5)
    o, d = (np.asarray(a) for a in rays)
    closest = np.linalg.norm(np.cross(o, d), axis=-1)
    hit = closest < 0.48
    assert hit.sum() > 30
    np.testing.assert_allclose(seen.depth[hit], np.asarray(enter)[hit], atol=2e-3)
    at = o + np.asarray(enter)[..., None] * d
    np.testing.assert_allclose(seen.colour[hit], at[hit] + 0.5, atol=2e-3)
    assert (np.asarray(seen.colour)[closest > 0.5] == 1).all()


def _views(seed=0, count=2, side=10):
    rng = np.random.default_rng(seed)
    poses = [cameras.orbit(a, 0.3, 4.0) for a in rng.uniform(-3, 3, count)]
    pictures = rng.integers(0, 256, (count, side, side, 3)).astype(np.uint8)
    return volume.Views(jnp.asarray(pictures), jnp.stack(poses))


def test_the_measurement_compares_the_pixels_it_draws():
    """Of pictures of a field itself, the loss is 0 up to rounding to 8 bits."""
    theta = NET.init(jax.random.key(1))
    views = _views()
    look = dict(radius=1.25, samples=400)
    shots = [volume.render(NET, theta, p, (10, 10), ANGLE, **look).colour for p in views.poses]
    views = views._replace(pictures=jnp.round(255 * jnp.stack(shots)).astype(jnp.uint8))
    task = tasks.Tasks(views, volume.Camera(jnp.float32(ANGLE), jnp.float32(1.25)))
    measure = volume.pixels(200, 400)
    for seed in range(3):
        got, truth = measure(lambda x: NET(theta, x), task, jax.random.key(seed))
        assert got.shape == truth.shape == (200, 3)
        assert float(jnp.abs(got - truth).max()) < 0.02
        assert len(np.unique(np.asarray(truth), axis=0)) > 20
    other = task._replace(each=views._replace(poses=views.poses[::-1]))
    assert float(metrics.mse(*measure(lambda x: NET(theta, x), other, jax.random.key(0)))) > 1e-6


def test_the_judge_is_the_rendered_picture():
    theta, views = NET.init(jax.random.key(2)), _views(3, 3, 12)
    camera = volume.Camera(jnp.float32(ANGLE), jnp.float32(1.25))
    task = tasks.Tasks(volume.Object(_views(), views), camera)
    errors = volume.judge(NET, 12, every=1)(theta, task, jax.random.key(0))
    for error, picture, pose in zip(errors, views.pictures, views.poses):
        shot = volume.render(NET, theta, pose, (12, 12), ANGLE, **LOOK).colour
        np.testing.assert_allclose(error, metrics.mse(shot, picture / 255.0), rtol=1e-4)
    measure = volume.seen(volume.pixels(5, 3))
    got = measure(lambda x: NET(theta, x), task, jax.random.key(0))
    same = volume.pixels(5, 3)(
        lambda x: NET(theta, x), task._replace(each=task.each.seen), jax.random.key(0)
    )
    np.testing.assert_array_equal(got, same)


# --- bad input ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: cameras.orbit(math.nan, 0, 1), "azimuth = nan"),
        (lambda: cameras.orbit(0, math.pi / 2, 1), "elevation between"),
        (lambda: cameras.orbit(0, 0, 0), "distance above 0"),
        (lambda: cameras.check_poses(np.eye(3)), r"\(3, 3\)"),
        (lambda: cameras.check_poses(np.full((4, 4), np.nan)), "not finite"),
        (lambda: cameras.check_poses(2 * np.eye(4)), "rotation"),
        (lambda: cameras.of_picture(jnp.eye(4), (4, 4), 0.0), "angle"),
        (lambda: cameras.of_picture(jnp.eye(4), (0, 4), 1.0), "pixel"),
        (lambda: volume.places(jnp.zeros(1), jnp.ones(1), 0), "samples = 0"),
        (lambda: volume.matter(lambda x: x, "tanh"), "one of relu"),
        (lambda: volume.pixels(0, 1), "rays = 0"),
        (
            lambda: volume.render(NET, None, jnp.eye(4), (4, 4), 1.0, radius=1.0, chunk=0),
            "chunk = 0",
        ),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
