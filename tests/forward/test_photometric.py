"""Photographs as measurements: what is drawn, what is shown, what lies behind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import cameras, evaluate, fields, tasks
from learnit_utils.observe import photographs, volume
from learnit_utils.signals.landmarks import gathered

SEEDS = st.integers(0, 2**31 - 1)
FIELD = fields.build("posenc", width=8, depth=3, frequencies=2, max_log2=1.0, dims=3, channels=4)


def shots(seed, count=3, sizes=((12, 16), (16, 12), (10, 14))):
    """Cameras of different sizes and lenses in front of the origin, with pictures of noise."""
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(count):
        high, wide = sizes[k % len(sizes)]
        pose = np.asarray(cameras.orbit(*rng.uniform((-1, 0), (1, 0.5)), rng.uniform(2, 3)))
        lens = (*rng.uniform(12, 20, 2), *(np.array([wide, high]) / 2 + rng.uniform(-1, 1, 2)))
        picture = rng.integers(0, 256, (high, wide, 3)).astype(np.uint8)
        parts.append((picture, lens, pose, (1.0, rng.uniform(3, 5))))
    return gathered(parts, [f"{k}" for k in range(count)])


def task_of(data, i=0):
    return photographs.as_tasks(data).take(i)


# --- rays --------------------------------------------------------------------------------------
@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(0.3, 1.5))
def test_an_angle_of_view_is_a_lens(seed, angle):
    rng = np.random.default_rng(seed)
    pose = cameras.orbit(*rng.uniform((-3, -1), (3, 1)), 3.0)
    row, column = jnp.asarray(rng.uniform(0, (10, 14), (7, 2)).T, jnp.float32)
    focal = 14 / (2 * np.tan(angle / 2))
    one = cameras.through(pose, row, column, (10, 14), angle)
    two = cameras.by_lens(pose, row, column, (focal, focal, 7.0, 5.0))
    np.testing.assert_allclose(one.direction, two.direction, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3), st.floats(-1, 1), st.floats(-3, 3))
def test_a_turned_camera_has_gone_on_along_its_orbit(azimuth, elevation, angle):
    one = cameras.turned(cameras.orbit(azimuth, elevation, 3.0), angle)
    two = cameras.orbit(azimuth + angle, elevation, 3.0)
    np.testing.assert_allclose(one, two, atol=3e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 40))
def test_the_square_in_the_middle(high, wide, side):
    row, column = (np.asarray(p, np.float64) for p in photographs.middle((high, wide), side))
    assert len(row) == len(column) == side**2
    for at, whole in ((row, high), (column, wide)):
        assert at.min() > 0
        assert at.max() < whole
    np.testing.assert_allclose((row.mean(), column.mean()), (high / 2, wide / 2), rtol=1e-5)
    if high == wide == side:  # all of the picture, pixel by pixel
        np.testing.assert_array_equal(row * 2, np.repeat(np.arange(side) * 2 + 1, side))
    least = min(high, wide)
    np.testing.assert_allclose(np.diff(column.reshape(side, side)), least / side, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_ray_through_the_projection_of_a_point_meets_it(seed):
    data = shots(seed)
    rng = np.random.default_rng(seed)
    point = rng.uniform(-0.5, 0.5, 3)
    for lens, pose in zip(data.lenses, data.poses.astype(np.float64)):
        x, y, z = np.linalg.inv(pose) @ [*point, 1] @ np.eye(4)[:, :3]
        column, row = lens[2] + lens[0] * x / -z, lens[3] - lens[1] * y / -z
        ray = cameras.by_lens(jnp.asarray(pose, jnp.float32), *jnp.float32([row, column]), lens)
        off = point - np.asarray(ray.origin)
        along = off @ np.asarray(ray.direction)
        assert along > 0
        np.testing.assert_allclose(off - along * np.asarray(ray.direction), 0, atol=1e-5)


# --- what is shown -----------------------------------------------------------------------------
def test_an_empty_field_shows_its_colour_at_the_far_end():
    photo = task_of(shots(0)).each
    row, column = jnp.float32([1.5, 6.5]), jnp.float32([2.5, 9.5])

    def f(x):  # colours by place, no density
        return jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), -1e9)], -1)

    seen = photographs.look(f, photo, row, column, 5)
    rays = cameras.by_lens(photo.pose, row, column, photo.lens)
    end = rays.origin + photo.bounds[1] * rays.direction
    np.testing.assert_array_equal(seen.colour, jax.nn.sigmoid(end))
    assert (np.asarray(seen.opacity) == 0).all()
    np.testing.assert_array_equal(seen.depth, jnp.full(2, photo.bounds[1]))


def test_an_opaque_field_shows_its_colour_at_the_near_end():
    photo = task_of(shots(1)).each
    places = jnp.float32([4.5]), jnp.float32([7.5])

    def f(x):
        return jnp.concatenate([x, jnp.full((*x.shape[:-1], 1), 1e6)], -1)

    samples = 16
    seen = photographs.look(f, photo, *places, samples, "relu")
    rays = cameras.by_lens(photo.pose, *places, photo.lens)
    t = photo.bounds[0] + (photo.bounds[1] - photo.bounds[0]) / (2 * samples)
    np.testing.assert_allclose(
        seen.colour, jax.nn.sigmoid(rays.origin + t * rays.direction), atol=1e-5
    )
    np.testing.assert_allclose(seen.depth, t, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_between_the_bounds_it_is_the_common_renderer(seed):
    photo = task_of(shots(seed)).each
    theta = FIELD.init(jax.random.key(seed))
    row, column = jnp.float32([0.5, 3.5, 8.5]), jnp.float32([5.5, 1.5, 9.5])
    f = volume.matter(lambda x: FIELD(theta, x))
    rays = cameras.by_lens(photo.pose, row, column, photo.lens)
    near, far = (jnp.full(3, b) for b in photo.bounds)
    behind, _ = f(rays.origin + far[:, None] * rays.direction)
    one = volume.along(f, rays, near, far, 7, None, behind)
    two = photographs.look(lambda x: FIELD(theta, x), photo, row, column, 7)
    for a, b in zip(one, two):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_picture_is_what_its_places_show():
    photo = task_of(shots(2), 1).each
    theta = FIELD.init(jax.random.key(0))
    whole = photographs.render(FIELD, theta, photo, samples=9)
    assert whole.colour.shape == (16, 12, 3)
    assert whole.weights is None
    rows, columns = np.array([0, 7, 15]), np.array([11, 4, 0])
    few = photographs.render(FIELD, theta, photo, samples=9, places=(rows + 0.5, columns + 0.5))
    np.testing.assert_allclose(few.colour, whole.colour[rows, columns], atol=1e-6)
    np.testing.assert_allclose(few.depth, whole.depth[rows, columns], atol=1e-5)
    small = photographs.render(FIELD, theta, photo, samples=9, shape=(8, 6))
    at = np.meshgrid(np.arange(8) * 2 + 1.0, np.arange(6) * 2 + 1.0, indexing="ij")
    there = photographs.render(FIELD, theta, photo, samples=9, places=[a.ravel() for a in at])
    np.testing.assert_allclose(small.colour.reshape(-1, 3), there.colour, atol=1e-6)


# --- what is drawn and judged ------------------------------------------------------------------
def coded(sizes=((12, 16), (16, 12), (9, 15))):
    """Photographs whose pixels say where they are."""
    data = shots(0, len(sizes), sizes)
    for row, (high, wide) in zip(data.pixels, data.sizes):
        i, j = np.meshgrid(np.arange(high), np.arange(wide), indexing="ij")
        row[: high * wide] = np.stack([i, j, np.ones_like(i)], -1).reshape(-1, 3)
    return data


@pytest.mark.parametrize("half", photographs.HALVES)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_pixel_of_its_part_is_drawn_and_no_other(half, which):
    data = coded()
    measure = photographs.pixels(4000, 1, half=half)
    _, truth = measure(
        lambda x: jnp.zeros((*x.shape[:-1], 4)), task_of(data, which), jax.random.key(3)
    )
    row, column, inside = np.round(np.asarray(truth) * 255).astype(int).T
    high, wide = data.sizes[which]
    middle = wide // 2
    first, last = dict(all=(0, wide), left=(0, middle), right=(middle, wide))[half]
    assert (inside == 1).all()  # never from the padding
    assert set(column) == set(range(first, last))
    assert set(row) == set(range(high))


def test_colours_belong_to_their_rays():
    """Photographs of a field: the field explains them to within rounding."""
    data, theta = shots(5), FIELD.init(jax.random.key(1))
    for i in range(3):
        photo = task_of(data, i).each
        picture = photographs.render(FIELD, theta, photo, samples=200).colour
        high, wide = data.sizes[i]
        data.pixels[i, : high * wide] = np.round(255 * np.asarray(picture)).reshape(-1, 3)
    loss = tasks.regression(FIELD, photographs.pixels(500, 200))
    for i in range(3):
        assert float(loss(theta, task_of(data, i), jax.random.key(i))) < 1e-4
    others = data._replace(**{k: np.stack([getattr(data, k)] * 2, 1) for k in data._fields[:5]})
    held = photographs.as_tasks(data, others)
    errors = photographs.judge(FIELD, 100, grid=6)(theta, held.take(1), jax.random.key(0))
    assert errors.shape == (3,)
    assert float(errors.max()) < 1e-4
    wrong = photographs.judge(FIELD, 100, grid=6)(FIELD.init(jax.random.key(9)), held.take(1), None)
    assert float(wrong.min()) > 10 * float(errors.max())


def test_padding_does_not_count():
    data, theta = shots(6), FIELD.init(jax.random.key(0))
    more = np.concatenate([data.pixels, np.full((3, 50, 3), 77, np.uint8)], 1)
    others = {k: getattr(data, k)[:, None] for k in data._fields[:5]}
    longer = {"pixels": more[:, None]}
    one = photographs.as_tasks(data, data._replace(**others))
    two = photographs.as_tasks(data._replace(pixels=more), data._replace(**others | longer))
    measure = tasks.regression(FIELD, photographs.given(photographs.pixels(50, 4, half="left")))
    judge = photographs.judge(FIELD, 4, grid=5)
    for i in range(3):
        a, b = (measure(theta, t.take(i), jax.random.key(1)) for t in (one, two))
        assert float(a) == float(b)
        a, b = (judge(theta, t.take(i), None) for t in (one, two))
        np.testing.assert_array_equal(a, b)


def test_a_fit_to_one_half_is_judged_by_the_other():
    data = shots(7)
    others = data._replace(**{k: getattr(data, k)[:, None] for k in data._fields[:5]})
    held = photographs.as_tasks(data, others)
    loss = tasks.regression(FIELD, photographs.given(photographs.pixels(16, 6, half="left")))
    judge = photographs.judge(FIELD, 6, grid=6)
    theta = FIELD.init(jax.random.key(0))
    import optax

    run = evaluate.progress(loss, judge, theta, held, optax.sgd, 0.1, 4, 2, fresh=True)
    assert run.judged.shape == (3, 3, 2)
    assert np.isfinite(run.judged).all()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: photographs.pixels(0, 4), "rays = 0, samples = 4: at least 1"),
        (lambda: photographs.pixels(4, 4, half="top"), "half = 'top': one of all, left, right"),
        (
            lambda: photographs.as_tasks(shots(0), shots(0, 2)),
            "others: not those of these photographs",
        ),
    ],
)
def test_bad_requests_are_named(ask, says):
    with pytest.raises(ValueError, match=says):
        ask()
