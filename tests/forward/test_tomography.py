"""Line integrals: against closed forms, an adjoint, scikit-image and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import radon

from learnit_utils import evaluate, fields, inner, metrics, tasks
from learnit_utils.experiments.recipe import Recipe, functions
from learnit_utils.forward import pixels, tomography
from learnit_utils.signals import phantoms

ANGLES = np.linspace(0, np.pi, 19)  # 0, pi/2 and pi among them, and no eighth of a turn
METHODS = pytest.mark.parametrize("method", tomography.METHODS)
# Compiled once per shape, however often a test projects.
project = jax.jit(tomography.project, static_argnums=2)
backproject = jax.jit(tomography.backproject, static_argnums=(2, 3))


def blob(x):
    """A smooth picture within the inscribed circle, as a field: (..., 2) -> (..., 1)."""
    r2 = (x[..., :1] - 0.55) ** 2 + 2.5 * (x[..., 1:] - 0.42) ** 2
    return jnp.exp(-r2 / (2 * 0.08**2))


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("seed", range(3))
def test_the_error_against_the_exact_sinogram_falls_with_resolution(seed):
    shapes = phantoms.ellipses("test", seed=seed, limit=1)[0]
    errors = []
    for n in (32, 64, 128, 256):
        u = phantoms.picture(shapes, n, samples=4, clip=False)[..., 0]
        fine = 8  # a detector sees the mean over its width
        at = tomography.detector(n)[:, None] + (np.arange(fine) - (fine - 1) / 2) / fine / n
        exact = phantoms.sinogram(shapes, ANGLES, at.ravel()).reshape(len(ANGLES), n, fine).mean(-1)
        errors.append(relative(project(u, ANGLES), exact))
    assert errors[0] < 0.12
    assert errors[-1] < 0.02
    assert np.diff(np.log(errors)).max() < np.log(0.75)


@METHODS
@given(seed=st.integers(0, 2**32 - 1), a=st.floats(-3, 3), b=st.floats(-3, 3))
@settings(max_examples=20)
def test_it_is_linear_in_the_picture(method, seed, a, b):
    u, v = np.random.default_rng(seed).normal(size=(2, 16, 16)).astype(np.float32)
    both = a * project(u, ANGLES, method) + b * project(v, ANGLES, method)
    np.testing.assert_allclose(project(a * u + b * v, ANGLES, method), both, atol=1e-4)


@METHODS
def test_a_disc_has_the_shadow_of_a_disc(method):
    n, r = 128, 0.3
    disc = np.array([[1.0, 2 * r, 2 * r, 0, 0, 0]])
    u = phantoms.picture(disc, n, samples=8)[..., 0]
    s = tomography.detector(n)
    shadow = 2 * np.sqrt(np.maximum(r**2 - s**2, 0))
    for line in np.asarray(project(u, ANGLES, method)):
        np.testing.assert_allclose(line, shadow, atol=0.025)


@pytest.mark.parametrize("n", [16, 33, 64])
@pytest.mark.parametrize("seed", range(3))
def test_area_keeps_all_of_the_mass_at_every_angle(n, seed):
    rng = np.random.default_rng(seed)
    r = (np.arange(n) - n // 2) / n
    u = rng.random((n, n)) * (np.hypot(r[:, None], r) < 0.5 - 2 / n)
    angles = rng.uniform(-7, 7, 40)
    mass = np.asarray(project(u.astype(np.float32), angles)).sum(axis=1) / n
    np.testing.assert_allclose(mass, u.sum() / n**2, rtol=1e-5)


@pytest.mark.parametrize("n", [9, 17, 33, 48, 64])
def test_a_full_square_loses_no_more_than_its_corners(n):
    """They fall off the detectors: all stays face on, at most 9 % goes corner on.

    Of an even number of pixels the first is half a picture from the middle, the last is not; turned
    round, that row of detectors is not there.
    """
    angles = np.linspace(0, np.pi, 37)  # steps of 5 degrees
    mass = np.asarray(project(np.ones((n, n), np.float32), angles)).sum(axis=1) / n
    row = 1 / n if n % 2 == 0 else 0
    np.testing.assert_allclose(mass[::18], [1, 1 - row, 1 - row], rtol=1e-5)
    assert mass.max() < 1 + 1e-5
    assert 0.91 < mass.min() < 0.93
    assert mass.argmin() in (8, 9, 10, 26, 27, 28)


@pytest.mark.parametrize("n", [5, 16, 33, 64])
def test_detectors_by_the_diagonal_see_all_of_the_mass_of_every_picture(n):
    """Corners, the first row and single pixels too, at any angle; and all others see the same."""
    rng = np.random.default_rng(n)
    u = np.zeros((4, n, n), np.float32)
    u[0], u[1] = 1, rng.random((n, n))
    u[2, 0, 0] = u[3, rng.integers(n), -1] = 1
    angles = np.concatenate([rng.uniform(-6, 6, 20), np.linspace(0, np.pi, 9)]).astype(np.float32)
    many = tomography.diagonal(n)
    wide = jax.jit(lambda u: tomography.project(u, angles, detectors=many))
    for picture in u:
        mass = np.asarray(wide(picture)).sum(axis=1) / n
        np.testing.assert_allclose(mass, picture.sum() / n**2, rtol=1e-5)
    middle = many // 2 - n // 2
    inner = np.asarray(wide(u[1]))[:, middle : middle + n]
    np.testing.assert_allclose(inner, project(u[1], angles), atol=1e-5)


@METHODS
def test_with_more_detectors_the_backprojector_is_still_the_adjoint(method):
    rng = np.random.default_rng(0)
    u, p = rng.normal(size=(9, 9)), rng.normal(size=(3, 17))
    angles = np.array([0.3, 1.4, 4.0], np.float32)
    there = tomography.project(u.astype(np.float32), angles, method, 17)
    back = tomography.backproject(p.astype(np.float32), angles, 9, method, 17)
    size = float(jnp.linalg.norm(there) * np.linalg.norm(p))
    assert abs(float((there * p).sum() - (back * u).sum())) < 1e-5 * size


def test_degrees_are_converted_by_name_and_refused_as_radians():
    degrees = np.arange(0, 180, 10.0)
    np.testing.assert_allclose(
        tomography.from_degrees(degrees), tomography.even_angles(18), rtol=1e-6
    )
    np.testing.assert_allclose(tomography.from_degrees([-360, 360]), [-2 * np.pi, 2 * np.pi])
    for call in (
        lambda: tomography.project(U, degrees),
        lambda: tomography.backproject(np.ones((18, 8), np.float32), degrees),
        lambda: tomography.project_field(blob, degrees, 8),
        lambda: tomography.simulate_scan(U[None], degrees),
    ):
        with pytest.raises(
            ValueError, match=r"170 is more than a full turn.*from_degrees converts"
        ):
            call()


@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 7), st.integers(0, 7))
@settings(max_examples=15)
def test_what_is_not_finite_is_named_with_its_place(value, i, j):
    u = np.ones((8, 8), np.float32)
    u[i, j] = value
    where = f"expected finite values, 1 are not, the first at %s {i}, %s {j}$"
    with pytest.raises(ValueError, match="^image: " + where % ("row", "column")):
        tomography.project(u, [0.0])
    with pytest.raises(ValueError, match="^sinogram: " + where % ("view", "detector")):
        tomography.backproject(u, tomography.even_angles(8))


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_the_turned_picture_keeps_the_mass_of_a_smooth_one(method):
    u = np.asarray(blob(pixels.grid(96)))[..., 0]
    mass = np.asarray(tomography.project(u, ANGLES, method)).sum(axis=1) / 96
    np.testing.assert_allclose(mass, u.mean(), rtol=2e-3)


@pytest.mark.slow
@METHODS
@pytest.mark.parametrize("n", [8, 17, 31, 40])
@pytest.mark.parametrize("seed", range(2))
def test_projector_and_backprojector_are_adjoint(method, n, seed):
    rng = np.random.default_rng(seed)
    angles = rng.uniform(-4, 4, 7)
    u, p = rng.normal(size=(n, n)), rng.normal(size=(7, n))
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        with jax.enable_x64(dtype is np.float64):
            uu, pp = jnp.asarray(u, dtype), jnp.asarray(p, dtype)
            there = project(uu, angles, method)
            back = backproject(pp, angles, None, method)
            assert there.dtype == back.dtype == dtype
            size = float(jnp.linalg.norm(there) * jnp.linalg.norm(pp))
            assert abs(float((there * pp).sum() - (uu * back).sum())) < tolerance * size


@pytest.mark.slow
@pytest.mark.parametrize("n", [32, 33])
def test_it_agrees_with_scikit_image(n):
    """Its radon interpolates the same points, so bilinear is the same to rounding."""
    u = np.asarray(blob(pixels.grid(n)), np.float64)[..., 0]
    r = (np.arange(n) - n // 2) / n
    u *= np.hypot(r[:, None], r) < 0.5 - 1 / n
    theirs = radon(u, np.rad2deg(ANGLES), circle=True).T / n
    with jax.enable_x64(True):
        assert relative(tomography.project(u, ANGLES, "bilinear"), theirs) < 1e-6
        assert relative(tomography.project(u, ANGLES), theirs) < 0.02


@pytest.mark.slow
def test_area_and_bilinear_meet_as_pixels_shrink():
    gaps = []
    for n in (24, 48, 96):
        u = np.asarray(blob(pixels.grid(n)))[..., 0]
        gaps.append(relative(*(tomography.project(u, ANGLES, m) for m in ("area", "bilinear"))))
    assert gaps[2] < gaps[1] / 2 < gaps[0] / 4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["area", "bilinear"])
def test_a_field_is_projected_as_its_picture_in_the_limit(method):
    gaps = []
    for n in (24, 48, 96):
        u = blob(pixels.grid(n))[..., 0]
        direct = tomography.project_field(blob, ANGLES, n)
        gaps.append(relative(tomography.project(u, ANGLES, method), direct))
    assert gaps[2] < gaps[1] / 2.5 < gaps[0] / 2.5**2
    assert gaps[2] < 5e-3


def test_a_constant_field_shows_the_way_through_the_square():
    p = tomography.project_field(lambda x: jnp.ones((*x.shape[:-1], 1)), [0, np.pi / 4], 64, 7)
    np.testing.assert_allclose(p[0], 1, rtol=1e-5)
    s = tomography.detector(64)
    np.testing.assert_allclose(p[1], np.sqrt(2) - 2 * np.abs(s), atol=1e-5)


@pytest.mark.slow
def test_the_gradient_of_a_projected_field_is_that_of_its_parameters():
    """Twice differentiable too: MAML needs it."""
    field = fields.fourier(8, 2, 1.0, 1, features=4)
    theta = field.init(jax.random.key(0))
    angles = jnp.array([0.3, 1.2])

    def loss(theta):
        return (tomography.project_field(lambda x: field(theta, x), angles, 8) ** 2).sum()

    g = jax.jit(jax.grad(loss))(theta)

    def steepness(theta):
        return sum((v**2).sum() for v in jax.tree.leaves(jax.grad(loss)(theta)))

    h = jax.jit(jax.grad(steepness))(theta)
    assert all(np.isfinite(v).all() for v in jax.tree.leaves((g, h)))
    v = jax.tree.map(jnp.ones_like, theta)
    _, slope = jax.jvp(loss, (theta,), (v,))
    np.testing.assert_allclose(slope, sum(a.sum() for a in jax.tree.leaves(g)), rtol=1e-3)


@settings(max_examples=15)
@given(st.sampled_from([5, 13, 31]), st.integers(0, 2**31))
def test_turning_the_picture_by_a_right_angle_turns_the_sinogram(n, seed):
    """Of an odd number of pixels, so that the middle is the middle."""
    u = np.random.default_rng(seed).random((n, n)).astype(np.float32)
    angles = np.array([0.2, 0.9, 2.5])
    turned = project(np.rot90(u), angles)
    np.testing.assert_allclose(project(u, angles - np.pi / 2), turned, rtol=1e-4, atol=1e-5)


@METHODS
def test_whole_numbers_are_projected_as_the_same_real_ones(method):
    u = np.random.default_rng(0).integers(0, 9, (11, 11))
    p = tomography.project(u, [0.3, 1.9], method)
    np.testing.assert_array_equal(p, tomography.project(u.astype("f4"), [0.3, 1.9], method))


def test_half_a_turn_mirrors_the_detector():
    u = np.random.default_rng(0).random((21, 21)).astype(np.float32)
    p, q = tomography.project(u, [0.7, 0.7 + np.pi])
    np.testing.assert_allclose(p, q[::-1], rtol=1e-4, atol=1e-6)


# --- as a forward model -------------------------------------------------------------------------
def test_random_views_are_drawn_by_the_key():
    task = pixels.image_tasks(phantoms.load("validation", size=16, limit=2)).take(0)
    forward = jax.jit(lambda key: tomography.random_views(3)(blob, task, key))
    (_, a), (_, b) = (forward(jax.random.key(k)) for k in (0, 0))
    np.testing.assert_array_equal(a, b)
    assert a.shape == (3, 16)
    predicted, other = forward(jax.random.key(1))
    assert np.abs(a - other).max() > 1e-3
    # The field is seen from the same angles as the picture.
    same = tomography.random_views(3)(lambda x: task.each, task, jax.random.key(1))
    np.testing.assert_allclose(*same, atol=1e-6)
    assert np.abs(predicted - other).max() > 1e-3


@pytest.mark.slow
def test_a_recipes_steps_keep_the_angles_of_their_task():
    """What a recipe trains with sees the same views in all inner steps of a task."""
    net = dict(kind="fourier", width=8, depth=2, sigma=1.0, features=4, channels=1)
    recipe = Recipe("phantoms", size=8, forward="tomography", views=2, field=net, inner_steps=3)
    field, loss, adapt, _ = functions(recipe)
    task = pixels.image_tasks(phantoms.load("validation", size=8, limit=1)).take(0)
    theta, key = field.init(jax.random.key(0)), jax.random.key(3)
    kept, drawn = (inner.sgd(loss, 3, recipe.inner_lr, resample=r) for r in (False, True))
    ours, same, anew = (
        jax.tree.leaves(jax.jit(f)(theta, task, jax.random.clone(key))[0])
        for f in (adapt, kept, drawn)
    )
    for a, b in zip(ours, same):
        np.testing.assert_array_equal(a, b)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(ours, anew))


def test_a_scan_is_the_projection_and_noise_of_the_size_asked_for():
    u = phantoms.load("validation", size=24, limit=3).arrays[..., 0]
    angles = tomography.even_angles(50)
    clean = tomography.simulate_scan(u, angles)
    np.testing.assert_allclose(clean[1], tomography.project(u[1], angles), rtol=1e-5, atol=1e-6)
    noisy = tomography.simulate_scan(u, angles, noise=0.03, key=jax.random.key(0))
    assert np.std(noisy - clean) == pytest.approx(0.03, rel=0.05)


def test_scans_are_tasks_with_the_picture_held_out():
    images = pixels.image_tasks(phantoms.load("validation", size=16, limit=3))
    scans = tomography.scan_tasks(images, 5)
    assert scans.count == 3
    assert scans.each.support.shape == (3, 5, 16)
    np.testing.assert_array_equal(scans.each.query, images.each)
    coords, angles = scans.shared
    np.testing.assert_array_equal(coords, images.shared)
    np.testing.assert_array_equal(angles, tomography.even_angles(5))
    pictures = images.each.reshape(3, 16, 16)
    np.testing.assert_allclose(scans.each.support, tomography.simulate_scan(pictures, angles))
    noisy = tomography.scan_tasks(images, 5, noise=0.1, key=jax.random.key(1))
    np.testing.assert_array_equal(noisy.each.query, images.each)
    assert np.std(noisy.each.support - scans.each.support) == pytest.approx(0.1, rel=0.2)


def test_the_picture_itself_explains_its_scan():
    images = pixels.image_tasks(phantoms.load("validation", size=16, limit=2))
    scan = tomography.scan_tasks(images, 4).take(1)

    def picture(x):
        np.testing.assert_array_equal(x, images.shared)
        return images.each[1]

    forward = tomography.sinogram_of()
    np.testing.assert_allclose(*forward(picture, scan, jax.random.key(0)), atol=1e-6)
    np.testing.assert_array_equal(*tomography.image_of(picture, scan, jax.random.key(0)))
    blind = scan._replace(each=scan.each._replace(query=None))  # a fit looks at nothing else
    np.testing.assert_allclose(*forward(picture, blind, jax.random.key(0)), atol=1e-6)


@pytest.mark.slow
def test_a_fit_to_a_scan_is_judged_by_the_picture():
    field = fields.fourier(16, 2, 1.0, 1, features=8)
    problem = tomography.scan_problem(field)
    assert problem is tomography.scan_problem(field)  # so that it is compiled once
    assert not problem.resample
    scans = tomography.scan_tasks(
        pixels.image_tasks(phantoms.load("validation", size=12, limit=2)), 6
    )
    theta = field.init(jax.random.key(0))
    run = evaluate.progress(problem, theta, scans, evaluate.SGD, 0.3, 20, 10)
    assert run.loss.shape == run.held_out.shape == (2, 3)
    assert (run.loss[:, -1] < run.loss[:, 0] / 2).all()
    error = [metrics.mse(field(theta, scans.shared[0]), scans.take(i).each.query) for i in (0, 1)]
    np.testing.assert_allclose(run.held_out[:, 0], error, rtol=1e-4)
    first = tasks.regression(field, tomography.sinogram_of())(theta, scans.take(0), None)
    np.testing.assert_allclose(run.loss[0, 0], first, rtol=1e-4)


U = np.ones((8, 8), np.float32)
BAD = {
    "not square": (lambda: tomography.project(U[:5], [0.0]), r"shape \(5, 8\): expected \(n, n\)"),
    "no views": (lambda: tomography.project(U, []), r"angles of shape \(0,\)"),
    "zero views": (lambda: tomography.even_angles(0), "views = 0: expected an integer >= 1"),
    "zero random views": (lambda: tomography.random_views(0), "views = 0: expected an integer"),
    "infinite": (lambda: tomography.project(U, [0.0, np.inf]), "angles: expected finite numbers"),
    "method": (
        lambda: tomography.project(U, [0.0], "cubic"),
        "method = 'cubic': expected one of area, bilinear, nearest",
    ),
    "negative": (
        lambda: tomography.simulate_scan(-U[None], [0.0]),
        "images: expected finite values >= 0",
    ),
    "not a number": (
        lambda: tomography.simulate_scan(U[None] * np.nan, [0.0]),
        "images: expected finite values >= 0",
    ),
    "one picture": (lambda: tomography.simulate_scan(U, [0.0]), r"\(count, n, n\)"),
    "noise": (
        lambda: tomography.simulate_scan(U[None], [0.0], noise=-1),
        "noise = -1: expected a finite number >= 0",
    ),
    "key": (lambda: tomography.simulate_scan(U[None], [0.0], noise=1), "a key is needed"),
    "back": (
        lambda: tomography.backproject(U, [0.0]),
        r"\(8, 8\): expected \(1, 8\) for these angles",
    ),
    "size": (lambda: tomography.backproject(U, np.ones(8), 9), r"expected \(8, 9\) for these"),
    "detectors": (
        lambda: tomography.project(U, [0.0], "area", 0),
        "detectors = 0: expected an int",
    ),
    "turns": (lambda: tomography.project(U, [0.0, 6.4]), "angles: 6.4 is more than a full turn"),
    "degrees": (lambda: tomography.from_degrees([400]), r"degrees: expected .* in \[-360, 360\]"),
    "no degrees": (lambda: tomography.from_degrees([]), r"angles of shape \(0,\)"),
    "samples": (lambda: tomography.project_field(blob, [0.0], 8, 0), "samples = 0: expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_named_in_one_line(case):
    call, told = BAD[case]
    with pytest.raises(ValueError, match=told) as error:
        call()
    assert "\n" not in str(error.value)
