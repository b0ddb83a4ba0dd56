"""Fits to one photograph: how they go on, what they show, how depth and structure are judged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import evaluate, fields
from learnit_utils.experiments import photographs, protocol
from learnit_utils.forward import cameras, photometric, rendering
from learnit_utils.forward.rendering import Sampling
from learnit_utils.signals import landmarks
from learnit_utils.signals.landmarks import gathered
from learnit_utils.signals.transforms import unit
from learnit_utils.tasks import Split, Tasks

FIELD = fields.build("posenc", width=8, depth=3, frequencies=2, max_log2=1.0, dims=3, channels=4)
THETA = FIELD.init(jax.random.key(0))
SAMPLING = Sampling(6, background="far_end")
PROBLEM = photometric.photograph_problem(FIELD, 8, 4, "softplus", "left")


def collection(sizes=((24, 26), (22, 24)), seed=0):
    """Photographs of noise by cameras before the origin."""
    rng, parts = np.random.default_rng(seed), []
    for high, wide in sizes:
        pose = np.asarray(cameras.orbit(rng.uniform(-1, 1), 0.2, 2.5))
        picture = rng.integers(0, 256, (high, wide, 3)).astype(np.uint8)
        parts.append((picture, (20.0, 20.0, wide / 2, high / 2), pose, (1.0, 4.0)))
    return gathered(parts, [f"{k}" for k in range(len(parts))])


def repainted(data):
    """The same cameras, and what the field shows them."""
    parts = []
    for i in range(len(data.names)):
        view = data.view(i)
        seen = photographs.shown(FIELD, THETA, view, SAMPLING)
        picture = np.round(255 * seen).astype(np.uint8)
        parts.append((picture, view.intrinsics, view.pose, view.bounds))
    return gathered(parts, data.names)


def alone(data):
    """Every photograph as a task, with itself as the only other in its light."""
    views = cameras.View(*(leaf[:, None] for leaf in data.views))
    return photometric.photograph_tasks(data, data._replace(views=views))


# --- fits
@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [evaluate.SGD, evaluate.ADAM], ids=["sgd", "adam"])
def test_every_mark_of_a_fit_is_a_fit_of_so_many_steps(optimizer):
    tasks = alone(collection())
    view, task = tasks.take(0).each.support, tasks.take(0)
    none, two, five = photographs.fits(PROBLEM.loss, THETA, view, optimizer, [0, 2, 5], 0.01)
    plain = evaluate.fit(PROBLEM.loss, THETA, task, optimizer, 5, lr=0.01)
    for a, b in zip(jax.tree.leaves(five), jax.tree.leaves(plain)):
        np.testing.assert_allclose(a, b, atol=1e-6)
    (only,) = photographs.fits(PROBLEM.loss, THETA, view, optimizer, [2], 0.01)
    np.testing.assert_array_equal(two[0].w, only[0].w)
    np.testing.assert_array_equal(none[0].w, THETA[0].w)
    assert float(jnp.abs(five[0].w - two[0].w).max()) > 1e-6


@pytest.mark.slow
def test_a_choice_is_fitted_by_its_optimizer():
    tasks = alone(collection())
    grid = protocol.grid(sgd=[0.01], adam=[0.01])
    study = protocol.Study("s", PROBLEM, {"a": [THETA]}, grid, tasks, tasks, cap=2, every=1)
    view = tasks.take(1).each.support
    for name, transform in (("SGD", evaluate.SGD), ("Adam", evaluate.ADAM)):
        choice = protocol.Choice(name, 0.01, 2, False, 0.0)
        theta = photographs.fit_by(study, "a", choice, PROBLEM.loss, view)
        (same,) = photographs.fits(PROBLEM.loss, THETA, view, transform, [2], 0.01)
        np.testing.assert_array_equal(theta[0].w, same[0].w)


# --- what is shown
@pytest.mark.slow
@pytest.mark.parametrize("size", [(12, 16), (49, 50)])  # of one block of rays, and of more
def test_a_picture_is_that_of_the_renderer(size):
    view = collection([size]).view(0)
    whole = rendering.render(FIELD, THETA, photometric.picture_rays(view), SAMPLING)
    seen = photographs.shown(FIELD, THETA, view, SAMPLING)
    assert seen.shape == (*size, 3)
    np.testing.assert_allclose(seen, whole.colour, atol=1e-6)


def test_squares_are_the_middle_of_a_picture():
    data = collection([(12, 16)])
    view = data.view(0)
    np.testing.assert_array_equal(photographs.picture(view), np.float32(data.picture(0)) / 255)
    middle = photographs.picture(view)[:, 2:14]
    np.testing.assert_array_equal(photographs.square(view, 12), middle)
    seen = photographs.shown(FIELD, THETA, view, SAMPLING)[:, 2:14]
    square = photographs.shown_square(FIELD, THETA, view, 12, SAMPLING)
    np.testing.assert_allclose(square, seen, atol=1e-6)


def test_a_photograph_stands_before_others_in_its_light():
    data = collection()
    views = cameras.View(*(np.stack([leaf, leaf[::-1]], 1) for leaf in data.views))
    task = photometric.photograph_tasks(data, data._replace(views=views)).take(0)
    assert len(photographs.stands(task.each, 0)) == 1
    given, first, second = photographs.stands(task.each, 5)
    np.testing.assert_array_equal(given.pose, first.pose)
    np.testing.assert_array_equal(second.pose, data.views.pose[1])


# --- what judges
def judged(function, tasks, steps=0):
    how = (PROBLEM.loss, tasks, evaluate.SGD, 0.1, steps, SAMPLING)
    return function(FIELD, THETA, *how)


def test_a_picture_of_the_field_itself_is_similar_to_it():
    data = collection()
    same = judged(photographs.ssim_after, alone(repainted(data)))
    noise = judged(photographs.ssim_after, alone(data))
    for metric in ("right half", "other views"):
        assert len(same[metric]) == 2
        assert min(same[metric]) > 0.99
        assert max(noise[metric]) < 0.5


@pytest.mark.parametrize("wide", [22, 23, 25, 27])
def test_structure_and_error_are_judged_on_the_same_right_half(monkeypatch, wide):
    data, compared = collection([(24, wide)]), []
    monkeypatch.setattr(photographs, "_ssim", lambda u, v: compared.append((u, v)) or 0.5)
    judged(photographs.ssim_after, alone(data))
    first, count = photometric._columns(data.view(0), "right")
    assert first + count == wide
    for seen in compared[0]:
        assert seen.shape[:2] == (24, count)
    np.testing.assert_array_equal(compared[0][1], unit(data.picture(0))[:, first:])


def test_similarity_is_a_table_of_every_seed():
    tasks = alone(collection())
    inits = {"a": [THETA, THETA], "b": [FIELD.init(jax.random.key(1))]}
    grid = protocol.grid(sgd=[0.1])
    study = protocol.Study("s", PROBLEM, inits, grid, tasks, tasks, cap=2, every=1)
    choice = protocol.Choice("SGD", 0.1, 2, False, 0.0)
    scores = photographs.similarity(study, FIELD, choice, SAMPLING)
    plain = judged(photographs.ssim_after, tasks, 2)
    assert scores.inits() == ["a", "b"]
    assert scores.table("a", "other views").shape == (2, 2)
    np.testing.assert_array_equal(scores.by_task("a", "right half"), plain["right half"])


def test_a_depth_that_is_off_by_a_tenth_of_the_bounds_has_20_db():
    data = collection()
    views, parts = photometric.photograph_tasks(data).each, []
    row, column = np.array([3.5, 9.5, 0.0]), np.array([2.5, 11.5, 0.0])
    for i in range(2):
        seen = photographs.look(FIELD, THETA, data.view(i), (row, column), SAMPLING)
        near, far = data.views.bounds[i]
        off = seen.depth + 0.1 * (far - near)
        parts.append((row, column, [*off[:2], np.inf]))  # the last one is sky
    true = photographs.Surfaces(*(np.array(a, np.float32) for a in zip(*parts)))
    assert judged(photographs.depth_after, Tasks(Split(views, true))) == pytest.approx(
        [20, 20], abs=1e-3
    )


def test_surfaces_lie_within_their_photographs():
    data = landmarks.load("test", landmark="gate", size=40, limit=2)
    tasks = photographs.with_surfaces("gate", data)
    for i in range(2):
        view, true = tasks.take(i).each
        _, distance = landmarks.depth("gate", data.names[i])
        solid = np.isfinite(true.distance)
        assert solid.mean() > 0.2
        assert solid.sum() == np.isfinite(distance).sum()
        np.testing.assert_allclose(true.distance[solid], distance[np.isfinite(distance)], rtol=1e-6)
        for at, most in zip((true.row, true.column), np.asarray(view.size)):
            assert (at[solid] > 0).all()
            assert (at[solid] < most).all()
