"""A fan beam: the parallel beam's rays in another order, its adjoint, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils.forward import fan_beam, pixels, reconstruct, tomography
from learnit_utils.signals import phantoms

TURN = np.linspace(0, 2 * np.pi, 360, endpoint=False)
FANS = pytest.mark.parametrize("make", [fan_beam.arc, fan_beam.flat])


def blob(n):
    """A smooth picture within the inscribed circle."""
    x = np.asarray(pixels.grid(n))
    r2 = (x[..., 0] - 0.56) ** 2 + 1.5 * (x[..., 1] - 0.43) ** 2
    return np.exp(-r2 / (2 * 0.1**2)).astype(np.float32)


def relative(a, b):
    return float(np.linalg.norm(np.asarray(a, np.float64) - b) / np.linalg.norm(b))


def scan(u, turns, fan):
    return np.asarray(jax.jit(lambda u, t: fan_beam.project(u, t, fan))(u, turns))


@pytest.mark.parametrize(("make", "source"), [(fan_beam.arc, 0.9), (fan_beam.flat, 2.0)])
def test_a_fan_re_sorted_is_the_parallel_beam(make, source):
    """To 1e-3 of rays, as in "bilinear"; "area" averages over the width of a detector, too."""
    n, angles = 128, tomography.even_angles(12)
    fan = make(256, source)
    found = fan_beam.to_parallel(scan(blob(n), TURN, fan), TURN, fan, angles, n)
    for method, tolerance in (("bilinear", 1e-3), ("area", 2e-3)):
        parallel = jax.jit(tomography.project, static_argnums=2)(blob(n), angles, method)
        assert relative(found, np.asarray(parallel)) < tolerance


@pytest.mark.parametrize("seed", range(3))
def test_every_ray_has_the_exact_line_integral_of_ellipses(seed):
    """At theta = beta + gamma and s = source sin(gamma), by the closed form."""
    rng = np.random.default_rng(seed)
    source, turn = rng.uniform(0.75, 4), rng.uniform(-6, 6)
    fan = fan_beam.arc(24, source)
    shapes = np.array([[1.0, 0.5, 0.6, 0.1, -0.1, 0.3], [0.5, 0.2, 0.3, -0.3, 0.2, seed]])
    theta, s = turn + fan.rays, source * np.sin(fan.rays)
    exact = np.array([phantoms.sinogram(shapes, [t], [d])[0, 0] for t, d in zip(theta, s)])
    u = phantoms.picture(shapes, 96, samples=4, clip=False)[..., 0]
    assert relative(scan(u, np.array([turn]), fan)[0], exact) < 0.05
    assert relative(scan(u, np.array([turn + 0.5]), fan)[0], exact) > 0.05


def test_the_error_against_exact_line_integrals_falls_with_resolution():
    disc = np.array([[1.0, 0.5, 0.6, 0.1, -0.1, 0.3]])
    fan, turns, gaps = fan_beam.flat(60, 1.2), np.array([0.3, 1.9, 4.0]), []
    rays = [(t + fan.rays, 1.2 * np.sin(fan.rays)) for t in turns]
    exact = [[phantoms.sinogram(disc, [a], [s])[0, 0] for a, s in zip(*two)] for two in rays]
    for n in (32, 64, 128):
        u = phantoms.picture(disc, n, samples=8)[..., 0]
        gaps.append(relative(scan(u, turns, fan), np.array(exact)))
    assert gaps[2] < gaps[1] / 1.5 < gaps[0] / 1.5**2
    assert gaps[2] < 0.02


@pytest.mark.parametrize("n", [8, 17])
@FANS
def test_projector_and_backprojector_are_adjoint(make, n):
    rng = np.random.default_rng(n)
    fan, turns = make(13, rng.uniform(0.8, 3)), rng.uniform(-6, 6, 7)
    u, p = rng.normal(size=(n, n)), rng.normal(size=(7, 13))
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        with jax.enable_x64(dtype is np.float64):
            there = fan_beam.project(jnp.asarray(u, dtype), turns, fan)
            back = fan_beam.backproject(jnp.asarray(p, dtype), turns, fan, n)
            assert there.dtype == back.dtype == dtype
            size = float(jnp.linalg.norm(there) * np.linalg.norm(p))
            assert abs(float((there * p).sum() - (u * back).sum())) < tolerance * size


@FANS
def test_a_far_source_gives_the_parallel_beam_itself(make):
    """Its rays are nearly parallel; they are those of `tomography.detector`, half a pixel aside."""
    n = 64
    fan = make(2 * n + 1, 1e4)
    p = scan(blob(n), np.array([0.4, 2.0]), fan)[:, :-1:2]
    parallel = np.asarray(tomography.project(blob(n), np.array([0.4, 2.0]), "bilinear"))
    assert relative(p, parallel) < 3e-3


def test_a_short_arc_is_enough_and_a_shorter_one_is_not():
    n, fan, angles = 64, fan_beam.arc(128, 1.5), tomography.even_angles(9)
    least = np.pi + 2 * fan.rays[-1]
    turns = np.linspace(1.0, 1.0 + least, 240)
    parallel = np.asarray(tomography.project(blob(n), angles))
    found = fan_beam.to_parallel(scan(blob(n), turns, fan), turns, fan, angles, n)
    assert relative(found, parallel) < 5e-3
    shuffled = np.random.default_rng(0).permutation(240)
    p = scan(blob(n), turns[shuffled], fan)
    np.testing.assert_allclose(
        fan_beam.to_parallel(p, turns[shuffled], fan, angles, n), found, atol=1e-5
    )
    short = np.linspace(1.0, 0.7 + np.pi, 230)
    with pytest.raises(ValueError, match=r"turns: do not see all rays at angle .* an arc of 3.82"):
        fan_beam.to_parallel(scan(blob(n), short, fan), short, fan, angles, n)


def test_a_phantom_comes_back_from_a_fan():
    u = phantoms.load("test", size=48, limit=1).arrays[0, ..., 0]
    fan, angles = fan_beam.flat(96, 2.0), tomography.even_angles(96)
    p = fan_beam.to_parallel(scan(u, TURN[::2], fan), TURN[::2], fan, angles, 48)
    found = reconstruct.fbp(p, angles)
    assert -10 * np.log10(((found - u) ** 2).mean()) > 19


FAN = fan_beam.arc(8, 1.0)
INNER = FAN._replace(rays=FAN.rays[1:-1])
U, P = np.ones((8, 8), np.float32), np.ones((2, 8), np.float32)
BAD = {
    "near": (lambda: fan_beam.arc(8, 0.7), r"source = 0.7: expected .* > 0.7071"),
    "nan source": (lambda: fan_beam.flat(8, np.nan), "source = nan: expected"),
    "one detector": (lambda: fan_beam.arc(1, 1.0), "detectors = 1: expected an integer >= 2"),
    "falling": (
        lambda: fan_beam.project(U, [0.0], FAN._replace(rays=FAN.rays[::-1])),
        "rays: expected at least 2 angles",
    ),
    "degrees": (lambda: fan_beam.project(U, [0.0, 90.0], FAN), "angles: 90 is more than a full t"),
    "not square": (lambda: fan_beam.project(U[:5], [0.0], FAN), r"\(5, 8\): expected \(n, n\)"),
    "nan": (lambda: fan_beam.project(U * np.nan, [0.0], FAN), "image: expected finite values"),
    "geometry": (lambda: fan_beam.backproject(P, [0.0], FAN, 8), r"expected \(1, 8\) for these"),
    "nan rays": (
        lambda: fan_beam.to_parallel(P * np.inf, [0.0, 1.0], FAN, [0.0], 8),
        "sinogram: expected finite values",
    ),
    "equal": (
        lambda: fan_beam.to_parallel(P, [0.5, 0.5], FAN, [0.0], 8),
        "turns: expected all different, two are equal",
    ),
    "narrow": (
        lambda: fan_beam.to_parallel(
            P[:, 1:-1], [0.0, 1.0], FAN._replace(rays=FAN.rays[1:-1]), [0.0], 8
        ),
        "fan: sees positions up to 0.3.*, expected 0.5",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_named_in_one_line(case):
    call, told = BAD[case]
    with pytest.raises(ValueError, match=told) as error:
        call()
    assert "\n" not in str(error.value)
