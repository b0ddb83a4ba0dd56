"""Reconstruction without a network: what comes back, which way round, and what is refused."""

import jax
import numpy as np
import pytest

from learnit_utils.forward import reconstruct, tomography
from learnit_utils.signals import phantoms

project = jax.jit(tomography.project)
METHOD = dict(fbp=reconstruct.fbp, sart=reconstruct.sart, tv=reconstruct.tv)
METHODS = pytest.mark.parametrize("name", METHOD)


@METHODS
def test_with_many_views_the_picture_comes_back(name):
    u = phantoms.load("test", size=48, limit=1).arrays[0, ..., 0]
    angles = tomography.even_angles(96)
    p = np.asarray(project(u, angles))
    found = METHOD[name](p, angles)
    assert found.shape == (48, 48)
    assert -10 * np.log10(((found - u) ** 2).mean()) > (19 if name == "fbp" else 24)


@METHODS
def test_what_comes_back_is_the_right_way_round(name):
    """A spot off the middle in both directions."""
    u = np.zeros((32, 32), np.float32)
    u[8:11, 19:22] = 1
    angles = tomography.even_angles(24)
    found = METHOD[name](np.asarray(project(u, angles)), angles)
    bright = np.where(found > found.max() / 2, found, 0)
    r = np.arange(32)
    middle = np.array([bright.sum(1) @ r, bright.sum(0) @ r]) / bright.sum()
    np.testing.assert_allclose(middle, [9, 20], atol=0.5)


def test_total_variation_finds_a_smaller_objective_than_its_neighbours():
    u = phantoms.load("test", size=24, limit=1).arrays[0, ..., 0]
    angles = tomography.even_angles(6)
    p = np.asarray(project(u, angles))

    def objective(v, weight=2e-3):
        gx, gy = np.diff(v, axis=0, append=v[-1:]), np.diff(v, axis=1, append=v[:, -1:])
        rest = np.asarray(project(v.astype(np.float32), angles)) - p
        return 0.5 * (rest**2).sum() + weight * np.hypot(gx, gy).sum()

    found = reconstruct.tv(p, angles, weight=2e-3)
    assert objective(found) < objective(u)
    assert objective(found) < objective(reconstruct.sart(p, angles))
    assert objective(found) < objective(reconstruct.tv(p, angles, weight=2e-3, rounds=5))
    rng = np.random.default_rng(0)
    for _ in range(10):
        other = np.clip(found + 0.02 * rng.normal(size=found.shape), 0, 1)
        assert objective(found) < objective(other)


@pytest.mark.parametrize("window", reconstruct.WINDOWS)
def test_every_window_keeps_the_mean(window):
    """The ramp is 0 at frequency 0 for all, and they differ in what they keep of the highest."""
    u = phantoms.load("test", size=32, limit=1).arrays[0, ..., 0]
    angles = tomography.even_angles(48)
    p = np.asarray(project(u, angles))
    found, plain = reconstruct.fbp(p, angles, window), reconstruct.fbp(p, angles)
    assert found.mean() == pytest.approx(plain.mean(), abs=0.01)
    roughness = [np.abs(np.diff(v)).mean() for v in (found, plain)]
    assert (roughness[0] < roughness[1]) == (window != "ramp")


U = np.ones((8, 8), np.float32)
BAD = {
    "fbp": (lambda: reconstruct.fbp(U, [0.0]), r"\(8, 8\): expected \(1, 8\) for these angles"),
    "sart": (lambda: reconstruct.sart(U, [0.0]), r"expected \(1, 8\) for these angles"),
    "tv": (lambda: reconstruct.tv(U, [0.0]), r"expected \(1, 8\) for these angles"),
    "nan": (lambda: reconstruct.fbp(U[:1] * np.nan, [0.0]), "sinogram: expected finite values"),
    "rounds": (lambda: reconstruct.sart(U[:1], [0.0], rounds=0), "rounds = 0: expected an integer"),
    "relaxation": (
        lambda: reconstruct.sart(U[:1], [0.0], relaxation=2),
        r"relaxation = 2: expected a number in \(0, 1\]",
    ),
    "window": (
        lambda: reconstruct.fbp(U[:1], [0.0], "box"),
        "window = 'box': expected one of ramp, shepp-logan",
    ),
    "weight": (lambda: reconstruct.tv(U[:1], [0.0], weight=0), "weight = 0.*expected weight > 0"),
    "tv rounds": (lambda: reconstruct.tv(U[:1], [0.0], rounds=0), "rounds = 0: expected weight"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_named_in_one_line(case):
    call, told = BAD[case]
    with pytest.raises(ValueError, match=told) as error:
        call()
    assert "\n" not in str(error.value)
