"""Photographs as measurements: what is drawn, what is compared, what is held out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import evaluate, fields, metrics, tasks
from learnit_utils.forward import cameras, photometric, rendering
from learnit_utils.forward.rendering import Sampling
from learnit_utils.signals.landmarks import gathered
from learnit_utils.signals.objects import Objects

ANGLE, RADIUS = 0.6911, 1.25
FIELD = fields.build("posenc", width=8, depth=3, frequencies=2, max_log2=1.0, dims=3, channels=4)
NET = fields.posenc(16, 3, 4, 4, dims=3, offset=0.0)


# --- objects -----------------------------------------------------------------------------------
def things(seed=0, count=2, views=3, side=10, names="abc"):
    """Pictures of noise, by cameras on a sphere."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(-3, 3, (count, views))
    poses = np.stack([[np.asarray(cameras.orbit(a, 0.3, 4.0)) for a in row] for row in angles])
    pictures = rng.integers(0, 256, (count, views, side, side, 3)).astype(np.uint8)
    return Objects(pictures, poses, ANGLE, RADIUS, tuple(names[:count]), {})


def one_object(seed=0, views=2, side=10):
    return photometric.object_tasks(things(seed, 1, views, side)).take(0)


def shown(theta, pose, camera, shape, samples):
    """A field as an object's photograph."""
    rays = photometric.object_rays(pose, camera, shape)
    return rendering.render(NET, theta, rays, Sampling(samples)).colour


def test_the_rays_of_an_object_are_those_of_its_camera_within_its_ball():
    task = one_object()
    pose, shape = task.each.poses[0], (6, 9)
    rays = photometric.object_rays(pose, task.shared, shape)
    plain = cameras.clip_to_ball(cameras.camera_rays(pose, shape, ANGLE), RADIUS)
    for a, b in zip(rays, plain):
        np.testing.assert_allclose(a, b, atol=1e-5)
    hits = np.asarray(rays.far > rays.near)
    assert 0 < hits.mean() < 1


@pytest.mark.slow
def test_the_measurement_compares_the_pixels_it_draws():
    """Of pictures of a field itself, the loss is 0 up to rounding to 8 bits."""
    theta, task = NET.init(jax.random.key(1)), one_object()
    shots = [shown(theta, p, task.shared, (10, 10), 400) for p in task.each.poses]
    views = task.each._replace(pictures=jnp.round(255 * jnp.stack(shots)).astype(jnp.uint8))
    forward = photometric.object_pixels(200, 400)
    measure = jax.jit(lambda task, key: forward(lambda x: NET(theta, x), task, key))
    for seed in range(3):
        got, truth = measure(task._replace(each=views), jax.random.key(seed))
        assert got.shape == truth.shape == (200, 3)
        assert float(jnp.abs(got - truth).max()) < 0.02
        assert len(np.unique(np.asarray(truth), axis=0)) > 20
    other = task._replace(each=views._replace(poses=views.poses[::-1]))
    assert float(metrics.mse(*measure(other, jax.random.key(0)))) > 1e-6


@pytest.mark.slow
def test_the_error_is_that_of_the_rendered_picture():
    theta, data = NET.init(jax.random.key(2)), things(3, 1, 3, 12)
    task = photometric.object_tasks(things(0, 1), data).take(0)
    errors = photometric.object_error(NET, 12, every=1)(theta, task, jax.random.key(0))
    assert errors.shape == (3,)
    for error, picture, pose in zip(errors, *task.each.query):
        shot = shown(theta, pose, task.shared, (12, 12), 12)
        np.testing.assert_allclose(error, metrics.mse(shot, picture / 255.0), rtol=1e-4)
    few = photometric.object_error(NET, 12, every=4)(theta, task, jax.random.key(0))
    for error, picture, pose in zip(few, *task.each.query):  # the middle of every block
        shot = shown(theta, pose, task.shared, (12, 12), 12)[2::4, 2::4]
        np.testing.assert_allclose(error, metrics.mse(shot, picture[2::4, 2::4] / 255.0), rtol=1e-4)


@pytest.mark.slow
def test_a_fit_sees_the_support_alone():
    task = photometric.object_tasks(things(0, 1), things(3, 1, 2, 12)).take(0)
    theta = NET.init(jax.random.key(2))
    plain = photometric.object_pixels(5, 3)

    def measured(forward, task):
        return forward(lambda x: NET(theta, x), task, jax.random.key(0))

    got = measured(tasks.on_support(plain), task)
    same = measured(plain, task._replace(each=task.each.support))
    np.testing.assert_array_equal(got, same)
    blind = task._replace(each=task.each._replace(query=None))
    np.testing.assert_array_equal(got, measured(tasks.on_support(plain), blind))


def test_objects_become_tasks_with_what_is_held_out_apart():
    support, query = things(0, 3, 2), things(1, 3, 4)
    plain = photometric.object_tasks(support)
    assert plain.count == 3
    np.testing.assert_array_equal(plain.each.pictures, support.pictures)
    np.testing.assert_array_equal(plain.each.poses, support.poses)
    np.testing.assert_allclose(plain.shared, (ANGLE, RADIUS), rtol=1e-6)
    both = photometric.object_tasks(support, query)
    assert both.count == 3
    np.testing.assert_array_equal(both.take(1).each.support.pictures, support.pictures[1])
    np.testing.assert_array_equal(both.take(1).each.query.pictures, query.pictures[1])
    np.testing.assert_array_equal(both.take(2).each.query.poses, query.poses[2])


# --- photographs of a place --------------------------------------------------------------------
def shots(seed, count=3, sizes=((12, 16), (16, 12), (10, 14))):
    """Cameras of different sizes and focal lengths before the origin, with pictures of noise."""
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(count):
        high, wide = sizes[k % len(sizes)]
        pose = np.asarray(cameras.orbit(*rng.uniform((-1, 0), (1, 0.5)), rng.uniform(2, 3)))
        focal, middle = rng.uniform(12, 20, 2), np.array([wide, high]) / 2 + rng.uniform(-1, 1, 2)
        picture = rng.integers(0, 256, (high, wide, 3)).astype(np.uint8)
        parts.append((picture, (*focal, *middle), pose, (1.0, rng.uniform(3, 5))))
    return gathered(parts, [f"{k}" for k in range(count)])


def in_the_light_of(data, copies=1):
    """The photographs themselves, as others in the light of each."""
    views = cameras.View(*(np.stack([leaf] * copies, axis=1) for leaf in data.views))
    return data._replace(views=views)


def view_of(data, i=0):
    return photometric.photograph_tasks(data).take(i).each


def test_photographs_become_tasks_with_others_in_their_light_apart():
    data = shots(0)
    plain = photometric.photograph_tasks(data)
    assert plain.count == 3
    for i in range(3):
        for leaf, its in zip(data.view(i), plain.take(i).each):
            np.testing.assert_array_equal(leaf, its)
        high, wide = data.views.size[i]
        picture = np.asarray(plain.take(i).each.pixels)[: high * wide].reshape(high, wide, 3)
        np.testing.assert_array_equal(picture, data.picture(i))
    both = photometric.photograph_tasks(data, in_the_light_of(data, 2))
    assert both.count == 3
    held = both.take(1).each
    np.testing.assert_array_equal(held.support.pixels, data.views.pixels[1])
    assert held.query.pixels.shape == (2, *data.views.pixels[1].shape)
    np.testing.assert_array_equal(held.query.pose, np.stack([data.views.pose[1]] * 2))


# --- what is shown
def test_an_empty_field_shows_its_colour_at_the_far_end():
    view = view_of(shots(0))
    rays = cameras.view_rays(view, jnp.float32([1.5, 6.5]), jnp.float32([2.5, 9.5]))

    def f(x):  # colours by place, no density
        return jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), -1e9)], -1)

    seen = rendering.render_rays(rendering.density_and_colour(f), rays, 5, None, rendering.far_end)
    end = rays.origin + view.bounds[1] * rays.direction
    np.testing.assert_array_equal(seen.colour, jax.nn.sigmoid(end))
    assert (np.asarray(seen.opacity) == 0).all()
    np.testing.assert_array_equal(seen.depth, jnp.full(2, view.bounds[1]))


def test_an_opaque_field_shows_its_colour_at_the_near_end():
    view, samples = view_of(shots(1)), 16
    rays = cameras.view_rays(view, jnp.float32([4.5]), jnp.float32([7.5]))

    def f(x):
        return jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), 1e6)], -1)

    scene = rendering.density_and_colour(f, "relu")
    seen = rendering.render_rays(scene, rays, samples, None, rendering.far_end)
    t = view.bounds[0] + (view.bounds[1] - view.bounds[0]) / (2 * samples)
    np.testing.assert_allclose(
        seen.colour, jax.nn.sigmoid(rays.origin + t * rays.direction), atol=1e-5
    )
    np.testing.assert_allclose(seen.depth, t, rtol=1e-5)


def painted(theta, view, samples=9, shape=None):
    """A field as a photograph of a place."""
    look = Sampling(samples, background="far_end")
    return rendering.render(FIELD, theta, photometric.picture_rays(view, shape), look)


@pytest.mark.slow
def test_a_picture_is_what_its_places_show():
    view, theta = view_of(shots(2), 1), FIELD.init(jax.random.key(0))
    whole = painted(theta, view)
    assert whole.colour.shape == (16, 12, 3)
    assert whole.weights is None
    rows, columns = np.array([0, 7, 15]), np.array([11, 4, 0])
    scene = rendering.density_and_colour(lambda x: FIELD(theta, x))

    @jax.jit
    def at(row, column):
        rays = cameras.view_rays(view, row, column)
        return rendering.render_rays(scene, rays, 9, None, rendering.far_end)

    few = at(jnp.float32(rows + 0.5), jnp.float32(columns + 0.5))
    np.testing.assert_allclose(few.colour, whole.colour[rows, columns], atol=1e-6)
    np.testing.assert_allclose(few.depth, whole.depth[rows, columns], atol=1e-5)
    small = painted(theta, view, shape=(8, 6))
    there = at(*jnp.meshgrid(2 * jnp.arange(8.0) + 1, 2 * jnp.arange(6.0) + 1, indexing="ij"))
    np.testing.assert_allclose(small.colour, there.colour, atol=1e-6)


@pytest.mark.parametrize("shape", [None, (5, 8)])
def test_the_rays_of_a_picture_project_to_where_its_pixels_lie(shape):
    data = shots(4)
    for i, (high, wide) in enumerate(data.views.size):
        view = view_of(data, i)
        rays = photometric.picture_rays(view, shape)
        rows, columns = shape or (high, wide)
        assert rays.direction.shape == (rows, columns, 3)
        fx, fy, cx, cy = data.views.intrinsics[i]
        local = np.asarray(rays.direction, np.float64) @ data.views.pose[i][:3, :3]
        x, y, z = np.moveaxis(local, -1, 0)
        row = np.broadcast_to((np.arange(rows)[:, None] + 0.5) * high / rows, x.shape)
        column = np.broadcast_to((np.arange(columns) + 0.5) * wide / columns, x.shape)
        np.testing.assert_allclose(cy - fy * y / -z, row, atol=1e-4)
        np.testing.assert_allclose(cx + fx * x / -z, column, atol=1e-4)
        np.testing.assert_array_equal(rays.near, np.full_like(rays.near, data.views.bounds[i, 0]))
        np.testing.assert_array_equal(rays.far, np.full_like(rays.far, data.views.bounds[i, 1]))


@pytest.mark.slow
def test_the_error_of_a_photograph_is_that_of_its_rendered_picture():
    """On a grid of all pixels, of the whole picture and of its right half; on another, of those."""
    data, theta = shots(8, 1, ((12, 12),)), FIELD.init(jax.random.key(3))
    task = photometric.photograph_tasks(data, in_the_light_of(data, 2)).take(0)
    picture, truth = painted(theta, task.each.support).colour, data.picture(0) / np.float32(255)
    off = np.asarray((picture - truth) ** 2)
    errors = jax.jit(photometric.photograph_error(FIELD, 9, grid=12))(theta, task, None)
    np.testing.assert_allclose(errors, [off[:, 6:].mean(), off.mean(), off.mean()], rtol=1e-4)
    errors = jax.jit(photometric.photograph_error(FIELD, 9, grid=4))(theta, task, None)
    some = off[1::3, 1::3].mean()
    np.testing.assert_allclose(errors[1:], [some, some], rtol=1e-4)
    right = off[1::3][:, np.floor(6 + (np.arange(4) + 0.5) / 4 * 6).astype(int)]
    np.testing.assert_allclose(errors[0], right.mean(), rtol=1e-4)


# --- what is drawn and compared
def coded(sizes=((12, 16), (16, 12), (9, 15))):
    """Photographs whose pixels say where they are."""
    data = shots(0, len(sizes), sizes)
    for row, (high, wide) in zip(data.views.pixels, data.views.size):
        i, j = np.meshgrid(np.arange(high), np.arange(wide), indexing="ij")
        row[: high * wide] = np.stack([i, j, np.ones_like(i)], -1).reshape(-1, 3)
    return data


@pytest.mark.parametrize("half", photometric.HALVES)
def test_every_pixel_of_its_part_is_drawn_and_no_other(half):
    data, forward = coded(), photometric.photograph_pixels(4000, 1, half=half)
    draw = jax.jit(lambda *a: forward(lambda x: jnp.zeros((*x.shape[:-1], 4)), *a)[1])
    for i, (high, wide) in enumerate(data.views.size):
        truth = draw(photometric.photograph_tasks(data).take(i), jax.random.key(3))
        row, column, inside = np.round(np.asarray(truth) * 255).astype(int).T
        middle = wide // 2
        first, last = dict(all=(0, wide), left=(0, middle), right=(middle, wide))[half]
        assert (inside == 1).all()  # never from the padding
        assert set(column) == set(range(first, last))
        assert set(row) == set(range(high))


@pytest.mark.slow
def test_colours_belong_to_their_rays():
    """Photographs of a field: the field explains them to within rounding."""
    data, theta = shots(5), FIELD.init(jax.random.key(1))
    for i, (high, wide) in enumerate(data.views.size):
        picture = painted(theta, view_of(data, i), 200).colour
        data.views.pixels[i, : high * wide] = np.round(255 * np.asarray(picture)).reshape(-1, 3)
    loss = jax.jit(tasks.regression(FIELD, photometric.photograph_pixels(500, 200)))
    for i in range(3):
        task = photometric.photograph_tasks(data).take(i)
        assert float(loss(theta, task, jax.random.key(i))) < 1e-4
    held = photometric.photograph_tasks(data, in_the_light_of(data, 2)).take(1)
    error = jax.jit(photometric.photograph_error(FIELD, 100, grid=6))
    errors = error(theta, held, jax.random.key(0))
    assert errors.shape == (3,)
    assert float(errors.max()) < 1e-4
    wrong = error(FIELD.init(jax.random.key(9)), held, jax.random.key(0))
    assert float(wrong.min()) > 10 * float(errors.max())


@pytest.mark.slow
def test_padding_does_not_count():
    data, theta = shots(6), FIELD.init(jax.random.key(0))
    more = np.concatenate([data.views.pixels, np.full((3, 50, 3), 77, np.uint8)], 1)
    longer = data._replace(views=data.views._replace(pixels=more))
    one, two = (photometric.photograph_tasks(d, in_the_light_of(d)) for d in (data, longer))
    forward = tasks.on_support(photometric.photograph_pixels(50, 4, half="left"))
    measure = jax.jit(tasks.regression(FIELD, forward))
    error = jax.jit(photometric.photograph_error(FIELD, 4, grid=5))
    for i in range(3):
        a, b = (measure(theta, t.take(i), jax.random.key(1)) for t in (one, two))
        assert float(a) == float(b)
        a, b = (error(theta, t.take(i), jax.random.key(1)) for t in (one, two))
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_fit_to_one_half_is_judged_by_the_other():
    data = shots(7)
    held = photometric.photograph_tasks(data, in_the_light_of(data))
    forward = tasks.on_support(photometric.photograph_pixels(16, 6, half="left"))
    error = photometric.photograph_error(FIELD, 6, grid=6)
    problem = evaluate.Problem(tasks.regression(FIELD, forward), error, resample=True)
    theta = FIELD.init(jax.random.key(0))
    run = evaluate.progress(problem, theta, held, evaluate.SGD, 0.1, 4, 2)
    assert run.loss.shape == (3, 3)
    assert run.held_out.shape == (3, 3, 2)
    assert np.isfinite(run.held_out).all()
    assert np.isfinite(metrics.decibel(run.held_out)).all()
    start = [jax.jit(error)(theta, held.take(i), None) for i in range(3)]
    np.testing.assert_allclose(run.held_out[:, 0], start, rtol=1e-5)


def test_the_same_settings_are_the_same_problem():
    """So that what is compiled for one is used again."""
    make = photometric.photograph_problem
    assert make(FIELD, 8, 4, "softplus") is make(FIELD, 8, 4, "softplus")
    assert make(FIELD, 8, 4, "softplus") is not make(FIELD, 8, 4, "softplus", "all")
    make = photometric.object_problem
    assert make(NET, 8, 4, "relu", 2) is make(NET, 8, 4, "relu", 2)
    assert make(NET, 8, 4, "relu", 2).resample


# --- bad input ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: photometric.object_pixels(0, 1), "rays = 0: expected an integer >= 1"),
        (lambda: photometric.object_pixels(1, 0), "samples = 0: expected an integer >= 1"),
        (lambda: photometric.photograph_pixels(0, 4), "rays = 0: expected an integer >= 1"),
        (lambda: photometric.photograph_pixels(4, 0), "samples = 0: expected an integer >= 1"),
        (
            lambda: photometric.photograph_pixels(4, 4, half="top"),
            "half = 'top': expected one of all, left, right",
        ),
        (
            lambda: photometric.photograph_tasks(shots(0), shots(0, 2)),
            "query: views in the light of other photographs than support",
        ),
        (
            lambda: photometric.object_tasks(things(), things(names="xyz")),
            "query: views of other objects than support",
        ),
    ],
)
def test_bad_requests_are_named(ask, says):
    with pytest.raises(ValueError, match=says) as caught:
        ask()
    assert "\n" not in str(caught.value)
