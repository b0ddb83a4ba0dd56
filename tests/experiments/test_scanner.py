"""A scanner as a matrix: exactness, ranks, orthogonal halves, and the loss in its own basis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import fields, tasks
from learnit_utils.experiments import scanner
from learnit_utils.forward import pixels, tomography

SIZE = 12


def disc(size, radius=0.3):
    """A smooth disc, so that nothing lies at the rim."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    return np.clip(2 - (x**2 + y**2) / radius**2, 0, 1).astype(np.float32)


def images(count, size=SIZE):
    data = np.stack([disc(size, 0.2 + 0.05 * i) for i in range(count)])[..., None]
    return pixels.image_tasks(data)


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 3, 7])
def test_the_matrix_is_the_projector(views):
    u = np.random.default_rng(views).random((SIZE, SIZE)).astype(np.float32)
    told = scanner.matrix(SIZE, views) @ u.ravel()
    exact = tomography.project(u, tomography.even_angles(views))
    np.testing.assert_allclose(told, np.ravel(exact), atol=1e-6)


def test_one_view_tells_a_number_for_every_detector_that_sees():
    s, pictures = scanner.told(SIZE, 1)
    assert len(s) == SIZE
    np.testing.assert_allclose(s, SIZE**-0.5, rtol=1e-5)  # a sum over rows, over the side
    np.testing.assert_allclose(pictures @ pictures.T, np.eye(SIZE), atol=1e-6)


def test_more_views_tell_more_and_enough_tell_all():
    ranks = [len(scanner.told(SIZE, v).singular) for v in (1, 2, 4, 8, 48)]
    assert ranks == sorted(ranks)
    assert ranks[1] == 2 * SIZE - 1  # both agree on the sum
    assert ranks[-1] == SIZE**2


@pytest.mark.parametrize("views", [4, 5, 7])
def test_both_ways_to_the_singular_values_agree(views, monkeypatch):
    scanner.told.cache_clear()
    by_default = scanner.told(SIZE, views)
    monkeypatch.setattr(scanner, "VIEWS_AT_ONCE", 3)
    other = np.linalg.svd(scanner.matrix(SIZE, views), compute_uv=False)
    found = np.sort(by_default.singular)[::-1]
    np.testing.assert_allclose(found, other[: len(found)], rtol=1e-4, atol=1e-6)
    scanner.told.cache_clear()


def test_what_is_told_explains_the_sinogram_alone():
    A, (_, pictures) = scanner.matrix(SIZE, 3), scanner.told(SIZE, 3)
    u = np.random.default_rng(0).random(SIZE**2)
    told = pictures.T @ (pictures @ u)
    assert abs(told @ (u - told)) < 1e-6 * (u @ u)
    assert np.linalg.norm(A @ (u - told)) < 1e-3 * np.linalg.norm(A @ u)


def test_recovered_is_zero_for_nothing_and_one_for_the_truth():
    truths = [np.ones((2, 2)), np.full((2, 2), 3.0)]
    assert scanner.recovered(truths, truths) == 1
    assert scanner.recovered([0 * u for u in truths], truths) == 0
    assert scanner.recovered([truths[0], 0 * truths[1]], truths) == 0.5
    with pytest.raises(ValueError, match="argument 2"):
        scanner.recovered(truths[:1], truths)


def test_a_projector_errs_less_on_finer_pixels_and_keeps_the_mass():
    errors, lost = zip(*(scanner.exactness(n, "area", views=4) for n in (16, 32, 64)))
    assert errors[0] > errors[1] > errors[2] > 0
    assert max(lost) < 1e-5


# --- scans ------------------------------------------------------------------------------------
def test_noise_is_drawn_for_all_and_then_some_are_kept():
    data, key = images(4), jax.random.key(0)
    whole = scanner.noisy_scans(data, 3, 0.1, key, range(4)).each
    part = scanner.noisy_scans(data, 3, 0.1, key, range(1, 3)).each
    np.testing.assert_array_equal(part.support, whole.support[1:3])
    np.testing.assert_array_equal(part.query, whole.query[1:3])
    exact = scanner.noisy_scans(data, 3, 0.0, None, range(4)).each
    assert np.std(whole.support - exact.support) == pytest.approx(0.1, rel=0.2)


def own_basis_loss(net):
    def compressed(f, task, key):
        coords, R = task.shared
        return R @ f(coords)[:, 0], task.each.support

    return tasks.regression(net, compressed)


@pytest.mark.slow
@pytest.mark.parametrize(("views", "noise"), [(2, 0.0), (30, 0.05)])
def test_the_loss_in_the_own_basis_has_the_same_gradient(views, noise):
    net = fields.build("fourier", width=8, depth=2, sigma=0.5, features=4, channels=1)
    args = (images(2), views, noise, jax.random.key(1) if noise else None, range(2))
    plain = tomography.scan_problem(net).loss
    theta = net.init(jax.random.key(2))
    each = [
        jax.grad(loss)(theta, scans.take(0), jax.random.key(0))
        for loss, scans in (
            (plain, scanner.noisy_scans(*args)),
            (own_basis_loss(net), scanner.basis_scans(*args)),
        )
    ]
    for a, b in zip(*map(jax.tree.leaves, each)):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4 * float(jnp.abs(a).max()))


@pytest.mark.slow
def test_the_loss_in_the_own_basis_differs_by_a_constant():
    net = fields.build("fourier", width=8, depth=2, sigma=0.5, features=4, channels=1)
    args = (images(1), 30, 0.05, jax.random.key(1), range(1))
    gaps = []
    for seed in range(3):
        theta = net.init(jax.random.key(seed))
        scans, basis = scanner.noisy_scans(*args), scanner.basis_scans(*args)
        a = tomography.scan_problem(net).loss(theta, scans.take(0), jax.random.key(0))
        b = own_basis_loss(net)(theta, basis.take(0), jax.random.key(0))
        gaps.append(float(a - b))
    assert min(gaps) > 0  # noise that no picture explains
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-3)


@pytest.mark.parametrize("views", [1, 3])
def test_a_picture_splits_into_what_is_told_and_what_is_silent(views):
    u = np.random.default_rng(views).random((SIZE, SIZE))
    seen, rest = scanner.split(u, views)
    A = scanner.matrix(SIZE, views)
    np.testing.assert_allclose(seen + rest, u)
    assert abs((seen * rest).sum()) < 1e-6
    np.testing.assert_allclose(A @ seen.ravel(), A @ u.ravel(), atol=1e-3)
    assert np.linalg.norm(A @ rest.ravel()) < 1e-3 * np.linalg.norm(A @ u.ravel())
    told, rests = scanner.halves([u, 2 * u], views)
    np.testing.assert_allclose(told, [seen, 2 * seen])
    np.testing.assert_allclose(rests, [rest, 2 * rest])


def test_the_residual_of_the_truth_is_nothing():
    scan = tomography.scan_tasks(images(2), 3).take(1)
    u = np.asarray(scan.each.query).reshape(SIZE, SIZE)
    assert scanner.residual(u, scan) < 1e-6
    p = np.asarray(scan.each.support)
    assert scanner.residual(0 * u, scan) == pytest.approx(np.sqrt((p**2).mean()), rel=1e-5)


@pytest.mark.slow
def test_both_ways_to_a_networks_sinogram_meet_on_finer_pixels():
    field = fields.fourier(8, 2, 0.4, 1, features=4)
    theta = field.init(jax.random.key(0))
    gaps = [scanner.two_ways(field, theta, n, 3) for n in (8, 16, 32)]
    assert gaps[2] < gaps[1] / 1.5 < gaps[0] / 1.5**2


def test_scans_of_other_angles_have_no_basis():
    """That of as many even angles would be another scanner's."""
    uneven = tomography.scan_tasks(images(1), np.array([0.0, 0.5, 1.0], np.float32))
    with pytest.raises(ValueError, match="scans: expected even angles over half a turn"):
        scanner.in_basis(uneven)
