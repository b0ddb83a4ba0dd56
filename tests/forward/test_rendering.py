"""Volume rendering: the laws that it obeys along a ray, over rays, and for pictures."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import fields
from learnit_utils.forward import cameras, rendering
from learnit_utils.forward.cameras import Rays
from learnit_utils.forward.rendering import Sampling

SEEDS = st.integers(0, 2**31 - 1)
ANGLE = 0.6911
NET = fields.posenc(16, 3, 4, 4, dims=3, offset=0.0)


def some_rays(seed, count=6):
    """Rays at random, with bounds."""
    rng = np.random.default_rng(seed)
    near = rng.uniform(1, 3, count)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    far = near + rng.uniform(0.5, 3, count)
    return Rays(*map(jnp.float32, (rng.normal(size=(count, 3)), direction, near, far)))


def some(seed, shape=(6, 20)):
    """Density, colour, distances, width and far of rays at random."""
    rays, rng = some_rays(seed, shape[0]), np.random.default_rng(seed + 1)
    density = jnp.float32(20 * rng.uniform(size=shape) ** 4)
    colour = jnp.float32(rng.uniform(size=(*shape, 3)))
    t, width = rendering.sample_along_rays(rays, shape[1], jax.random.key(seed))
    return density, colour, t, width, rays.far


def along_x(near, far):
    """One ray for every pair of bounds, from the origin along x."""
    near, far = jnp.float32(near), jnp.float32(far)
    direction = jnp.broadcast_to(jnp.array([1.0, 0, 0]), (*near.shape, 3))
    return Rays(jnp.zeros_like(direction), direction, near, far)


def haze(x):
    """A scene without edges: density and colour differ everywhere."""
    wave = jnp.sin(3 * x + jnp.array([0.0, 1, 2]).reshape(*(1,) * (x.ndim - 1), 3))
    return 0.6 + wave.sum(-1) / 6, 0.5 + wave / 2


# --- along a ray -------------------------------------------------------------------------------
@settings(max_examples=20)
@given(SEEDS)
def test_weights_sum_to_what_does_not_come_through(seed):
    density, colour, t, width, far = some(seed)
    seen = rendering.composite(density, colour, t, width, far)
    through = np.exp(-np.asarray(density * width, np.float64).sum(-1))
    np.testing.assert_allclose(seen.weights.sum(-1), 1 - through, atol=2e-6)
    np.testing.assert_allclose(seen.opacity, 1 - through, atol=2e-6)
    assert (np.asarray(seen.weights) >= 0).all()
    assert ((np.asarray(seen.colour) > -1e-6) & (np.asarray(seen.colour) < 1 + 1e-6)).all()


@settings(max_examples=20)
@given(SEEDS)
def test_composite_is_the_loop_it_stands_for(seed):
    density, colour, t, width, far = some(seed)
    seen = rendering.composite(density, colour, t, width, far, jnp.array([0.1, 0.5, 0.9]))
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


@pytest.mark.slow
@settings(max_examples=20)
@given(SEEDS, st.sampled_from([1, 6, 19]))
def test_a_ray_cut_in_two_is_composed_of_its_parts(seed, cut):
    """What is behind the cut is the background of what is before it."""
    density, colour, t, width, far = some(seed)
    front, back = (slice(None), slice(0, cut)), (slice(None), slice(cut, None))
    light = jnp.array([0.1, 0.5, 0.9])
    whole = rendering.composite(density, colour, t, width, far, light)
    behind = rendering.composite(density[back], colour[back], t[back], width, far, light)
    both = rendering.composite(
        density[front], colour[front], t[front], width, behind.depth, behind.colour
    )
    np.testing.assert_allclose(both.colour, whole.colour, atol=2e-6)
    np.testing.assert_allclose(both.depth, whole.depth, rtol=2e-6)
    np.testing.assert_allclose(
        (1 - both.opacity) * (1 - behind.opacity), 1 - whole.opacity, atol=1e-6
    )
    np.testing.assert_allclose(both.weights, whole.weights[front], atol=1e-6)
    left = (1 - both.opacity)[:, None] * behind.weights
    np.testing.assert_allclose(left, whole.weights[back], atol=1e-6)


@pytest.mark.slow
@settings(max_examples=10)
@given(SEEDS)
def test_two_halves_of_rays_render_to_the_whole(seed):
    rays = some_rays(seed)
    middle = (rays.near + rays.far) / 2
    whole = rendering.render_rays(haze, rays, 16, None, rendering.far_end)
    behind = rendering.render_rays(haze, rays._replace(near=middle), 8, None, rendering.far_end)
    both = rendering.render_rays(
        haze, rays._replace(far=middle), 8, None, lambda scene, rays: behind.colour
    )
    np.testing.assert_allclose(both.colour, whole.colour, atol=1e-5)
    opaque = 1 - (1 - both.opacity) * (1 - behind.opacity)
    np.testing.assert_allclose(opaque, whole.opacity, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 7, 64])
@pytest.mark.parametrize("jitter", [None, 0, 1])
def test_uniform_density_obeys_beer_and_lambert(samples, jitter):
    rays = along_x([2.0, 0.5], [3.5, 4.0])
    key = None if jitter is None else jax.random.key(jitter)
    t, width = rendering.sample_along_rays(rays, samples, key)
    for sigma in (0.0, 0.3, 2.0, 30.0):
        colour = jnp.full((2, samples, 1), 0.25)
        seen = rendering.composite(jnp.full((2, samples), sigma), colour, t, width, rays.far, 1.0)
        through = np.exp(-sigma * np.array([1.5, 3.5]))
        np.testing.assert_allclose(seen.colour[:, 0], 0.25 + 0.75 * through, atol=1e-5)


def test_the_last_sample_counts_like_every_other():
    rays = along_x([0.0], [1.0])
    t, width = rendering.sample_along_rays(rays, 10)
    only_last = jnp.zeros((1, 10)).at[0, -1].set(3.0)
    only_first = jnp.zeros((1, 10)).at[0, 0].set(3.0)
    colour = jnp.zeros((1, 10, 1))
    ends = [
        float(rendering.composite(d, colour, t, width, rays.far).opacity[0])
        for d in (only_first, only_last)
    ]
    np.testing.assert_allclose(ends, 1 - math.exp(-0.3), rtol=1e-5)


@settings(max_examples=20)
@given(SEEDS, st.integers(0, 19))
def test_an_opaque_plane_gives_its_depth_and_colour(seed, at):
    _, colour, t, width, far = some(seed)
    density = jnp.asarray(np.where(np.arange(20) >= at, 1e6, 0) * np.ones(t.shape), jnp.float32)
    seen = rendering.composite(density, colour, t, width, far)
    np.testing.assert_allclose(seen.depth, np.asarray(t)[:, at], rtol=1e-5)
    np.testing.assert_allclose(seen.colour, np.asarray(colour)[:, at], atol=1e-6)
    np.testing.assert_allclose(seen.opacity, 1, atol=1e-6)


@pytest.mark.parametrize("background", [1.0, 0.3])
def test_an_empty_field_gives_the_background_exactly(background):
    _, colour, t, width, far = some(0)
    seen = rendering.composite(jnp.zeros(t.shape), colour, t, width, far, background)
    assert (np.asarray(seen.colour) == np.float32(background)).all()
    assert (np.asarray(seen.depth) == np.asarray(far)).all()
    assert (np.asarray(seen.opacity) == 0).all()


@pytest.mark.slow
@settings(max_examples=20)
@given(SEEDS, st.sampled_from([0.0, 1e-20, 1.0, 1e4, 1e20]))
def test_gradients_are_finite(seed, scale):
    density, colour, t, width, far = some(seed)

    def loss(density, colour, t, width):
        seen = rendering.composite(scale * density, colour, t, width, far)
        return (seen.colour**2).sum() + seen.depth.sum() + (seen.weights**2).sum()

    for g in jax.grad(loss, argnums=(0, 1, 2, 3))(density, colour, t, width):
        assert np.isfinite(np.asarray(g)).all()


@settings(max_examples=20)
@given(SEEDS)
def test_every_bin_has_its_sample(seed):
    rays = along_x([1.0, 2.0], [1.5, 6.0])
    t, width = rendering.sample_along_rays(rays, 12, jax.random.key(seed))
    bins = (np.asarray(t) - np.asarray(rays.near)[:, None]) / np.asarray(width)
    assert (np.abs(bins - (np.arange(12) + 0.5)) <= 0.5 + 1e-4).all()
    np.testing.assert_allclose(12 * width[:, 0], rays.far - rays.near, rtol=1e-6)


# --- what is behind ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", rendering.BACKGROUNDS)
def test_light_that_is_left_comes_from_the_background(name):
    rays, background = some_rays(0), rendering.BACKGROUNDS[name]
    black = rendering.render_rays(haze, rays, 9, None, lambda scene, rays: 0.0)
    seen = rendering.render_rays(haze, rays, 9, None, background)
    ends = np.asarray(haze(rays.origin + rays.far[:, None] * rays.direction)[1])
    behind = dict(white=np.ones((6, 3)), far_end=ends)[name]
    through = 1 - np.asarray(seen.opacity)[:, None]
    assert 0.02 < through.min() < through.max() < 0.98
    np.testing.assert_allclose(seen.colour - black.colour, through * behind, atol=1e-6)
    for a, b in zip(seen[1:], black[1:]):
        np.testing.assert_array_equal(a, b)


def test_without_density_there_is_nothing_but_background():
    rays = some_rays(1)

    def empty(x):
        return jnp.zeros(x.shape[:-1]), haze(x)[1]

    white = rendering.render_rays(empty, rays, 5)  # white unless told otherwise
    assert (np.asarray(white.colour) == 1).all()
    sky = rendering.render_rays(empty, rays, 5, None, rendering.far_end)
    np.testing.assert_array_equal(sky.colour, haze(rays.at(rays.far))[1])


def test_nothing_is_seen_behind_an_opaque_scene():
    rays = some_rays(2)

    def solid(x):
        return jnp.full(x.shape[:-1], 1e6), haze(x)[1]

    first = rays.at(rendering.sample_along_rays(rays, 7)[0][:, 0])
    for background in rendering.BACKGROUNDS.values():
        seen = rendering.render_rays(solid, rays, 7, None, background)
        np.testing.assert_allclose(seen.colour, haze(first)[1], atol=1e-5)


# --- fields as scenes --------------------------------------------------------------------------
@pytest.mark.parametrize("name", rendering.DENSITIES)
def test_a_networks_output_is_a_density_and_a_colour(name):
    raw = jax.random.normal(jax.random.key(0), (40, 4)) * jnp.full((1, 4), 30.0)
    density, colour = rendering.density_and_colour(lambda x: x, name)(raw)
    assert density.shape == (40,)
    assert colour.shape == (40, 3)
    np.testing.assert_allclose(colour, jax.nn.sigmoid(raw[:, :3]))
    assert (np.asarray(density) >= 0).all()
    assert np.isfinite(density).all()
    order = np.argsort(raw[:, 3])  # more of the fourth is never less dense
    assert (np.diff(np.asarray(density)[order]) >= 0).all()


# --- pictures ----------------------------------------------------------------------------------
def ball_rays(shape, radius=1.25, orbit=(0.3, 0.4, 4.0)):
    return cameras.clip_to_ball(cameras.camera_rays(cameras.orbit(*orbit), shape, ANGLE), radius)


@pytest.mark.slow
@pytest.mark.parametrize(("background", "chunks"), [("white", (1, 7, 143)), ("far_end", (7, None))])
def test_in_chunks_or_at_once(background, chunks):
    theta, rays = NET.init(jax.random.key(0)), ball_rays((11, 13))
    look = dict(samples=12, background=background)
    whole = rendering.render(NET, theta, rays, Sampling(**look, chunk=10**6))
    assert whole.colour.shape == (11, 13, 3)
    for chunk in chunks:
        cut = rendering.render(NET, theta, rays, Sampling(**look, chunk=chunk))
        for a, b in zip(whole[:3], cut):
            np.testing.assert_allclose(a, b, atol=1e-6)


def shaped(rays, shape):
    """The first rays of many, in this shape."""
    count = math.prod(shape)
    return jax.tree.map(lambda a: a[:count].reshape(*shape, *a.shape[1:]), rays)


@pytest.mark.slow
def test_rays_of_any_shape_are_rendered():
    theta, flat = NET.init(jax.random.key(0)), some_rays(3, 6)
    scene = rendering.density_and_colour(lambda x: NET(theta, x), "relu")
    plain = rendering.render_rays(scene, flat, 6, None, rendering.far_end)
    for shape in ((6,), (2, 3), (1, 3, 2), ()):
        rays = shaped(flat, shape)
        seen = rendering.render(NET, theta, rays, Sampling(6, "relu", "far_end"))
        assert seen.colour.shape == (*shape, 3)
        assert seen.depth.shape == seen.opacity.shape == shape
        assert seen.weights is None
        count = math.prod(shape)
        np.testing.assert_allclose(seen.colour.reshape(-1, 3), plain.colour[:count], atol=1e-6)
        np.testing.assert_allclose(seen.depth.ravel(), plain.depth[:count], atol=1e-5)


@pytest.mark.slow
def test_memory_is_set_by_the_chunk():
    theta = NET.init(jax.random.key(0))

    def temporary(side):
        rays = ball_rays((side, side))
        flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), rays)
        lowered = rendering._rendered.lower(NET, Sampling(12, chunk=256), theta, flat)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary(128) < 1.5 * temporary(32) + 16 * 128**2  # what it gives back


def _ball(x):
    """A solid ball of radius 1/2 whose colour is where it is."""
    inside = (x**2).sum(-1) < 0.25
    return jnp.where(inside, 1e4, 0.0), x + 0.5


@pytest.mark.slow
def test_a_solid_ball_shows_its_surface():
    rays = ball_rays((17, 17), orbit=(0.7, 0.2, 3.0))
    seen = rendering.render_rays(_ball, rays, 2000)
    enter = np.asarray(cameras.clip_to_ball(rays, 0.5).near)
    o, d = np.asarray(rays.origin), np.asarray(rays.direction)
    closest = np.linalg.norm(np.cross(o, d), axis=-1)
    hit = closest < 0.48
    assert hit.sum() > 30
    np.testing.assert_allclose(np.asarray(seen.depth)[hit], enter[hit], atol=2e-3)
    at = o + enter[..., None] * d
    np.testing.assert_allclose(np.asarray(seen.colour)[hit], at[hit] + 0.5, atol=2e-3)
    assert (np.asarray(seen.colour)[closest > 0.5] == 1).all()


# --- bad input ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rendering.sample_along_rays(along_x([0.0], [1.0]), 0), "samples = 0: expected an"),
        (lambda: rendering.density_and_colour(lambda x: x, "tanh"), "expected one of relu"),
        (lambda: Sampling(0), "samples = 0, chunk = None: expected integers >= 1"),
        (lambda: Sampling(4, chunk=0), "samples = 4, chunk = 0: expected integers >= 1"),
        (lambda: Sampling(4, chunk=-3), "chunk = -3: expected integers >= 1"),
        (lambda: Sampling(4, "tanh"), "density = 'tanh': expected one of relu, softplus, shifted"),
        (
            lambda: Sampling(4, background="black"),
            "background = 'black': expected one of white, far_end",
        ),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
