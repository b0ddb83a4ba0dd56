"""Reconstruction without a network: what comes back, which way round, and what is refused."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import iradon

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


# --- angles as scanners have them -------------------------------------------------------------
HALF = np.linspace(0, np.pi, 81)
SETS = {  # angles -> by how many decibels weights per angle have to be ahead of even ones
    "uneven": (np.concatenate([np.linspace(0, 0.5, 60), np.linspace(0.5, np.pi, 20)]), 8),
    "one direction again and again": (np.concatenate([HALF[:-1:2], np.zeros(40)]), 15),
    "both ends": (HALF, 0.3),
    "missing wedge": (np.linspace(0, 2 * np.pi / 3, 40), 2),
    "quarter turn": (np.linspace(0, np.pi / 2, 40), 1),
    "uneven full turn": (np.concatenate([np.linspace(0, 1, 60), np.linspace(1, 6.2, 70)]), 1),
    "drawn": (np.random.default_rng(0).uniform(-np.pi, np.pi, 60), 2),
}
N = 64
BAR = np.zeros((N, N), np.float32)
BAR[28:36, 10:54], BAR[12:20, 24:30] = 0.8, 0.5


def psnr(u):
    return float(-10 * np.log10(np.mean((u - BAR) ** 2)))


def even_weights(sinogram, angles):
    """Filtered backprojection as if the angles were even."""
    return iradon(np.float64(sinogram).T * N, np.rad2deg(angles), circle=True)


@pytest.mark.parametrize("name", SETS)
def test_weights_per_angle_beat_even_ones(name):
    angles, ahead = SETS[name]
    p = np.asarray(project(BAR, angles.astype(np.float32)))
    assert psnr(reconstruct.fbp(p, angles)) > psnr(even_weights(p, angles)) + ahead


EVEN = {
    "half a turn": tomography.even_angles(30),
    "one view": tomography.even_angles(1),
    "two views": tomography.even_angles(2),
    "full turn": np.linspace(0, 2 * np.pi, 30, endpoint=False),
    "odd full turn": np.linspace(0, 2 * np.pi, 31, endpoint=False),
    "twice": np.repeat(tomography.even_angles(15), 2),
    "from elsewhere": tomography.even_angles(12) - np.float32(1.1),
}


@pytest.mark.parametrize("name", EVEN)
def test_of_even_angles_it_is_the_plain_formula_to_the_bit(name):
    angles = np.float32(EVEN[name])
    np.testing.assert_array_equal(reconstruct.view_weights(angles), np.ones(len(angles)))
    p = np.asarray(project(BAR, angles))
    plain = even_weights(p, np.float64(angles))
    np.testing.assert_array_equal(reconstruct.fbp(p, angles), plain)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-6.2, 6.2), min_size=1, max_size=12), st.integers(1, 3))
def test_weights_follow_the_angles(angles, copies):
    """However they are ordered, turned over or repeated; they never stand for more than all."""
    angles = np.round(np.array(angles), 2)  # equal ones are equal
    w = reconstruct.view_weights(angles)
    assert (w > 0).all()
    assert w.mean() < 1 + 1e-9
    order = np.random.default_rng(0).permutation(len(angles))
    np.testing.assert_allclose(reconstruct.view_weights(angles[order]), w[order], atol=2e-5)
    flipped = np.where(order % 2, angles + np.pi, angles)
    np.testing.assert_allclose(reconstruct.view_weights(flipped), w, atol=2e-5)
    again = reconstruct.view_weights(np.tile(angles, copies))
    np.testing.assert_allclose(again, np.tile(w, copies), atol=2e-5)


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
    "degrees": (lambda: reconstruct.fbp(U[:2], [0.0, 90]), "90 is more than a full turn"),
    "inf": (lambda: reconstruct.tv(U[:1] * np.inf, [0.0]), "sinogram: .* at view 0, detector 0"),
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
