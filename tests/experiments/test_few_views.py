"""Comparisons on scans: names, pairs, budgets, and inits that are made only where needed."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import evaluate, fields, tasks
from learnit_utils.book import results
from learnit_utils.experiments import few_views, protocol
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.forward import pixels, tomography
from learnit_utils.signals import phantoms
from learnit_utils.signals.base import DataError

NET = fields.build("fourier", width=8, depth=2, sigma=0.5, features=4, channels=1)
GRID = protocol.grid(adam=[1e-2])


def images(count, seed=0):
    data = np.random.default_rng(seed).random((count, 8, 8, 1)).astype(np.float32)
    return pixels.image_tasks(data)


class Noted(protocol.Pieces):
    """Pieces that say what was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def call(self, study, about, function, *args, cost=1):
        self.asked.append((study, dict(about), cost))
        return super().call(study, about, function, *args, cost=cost)


@pytest.fixture
def compare():
    return few_views.Comparison(images(2), images(3, seed=1), GRID, 4, 2, Noted())


@pytest.mark.slow
def test_a_study_of_every_number_of_views(compare):
    inits = {"a": few_views.random_init(NET, [jax.random.key(0), jax.random.key(1)])}
    studies = {v: compare.study("s", inits, v) for v in (1, 2)}
    tested = few_views.together(study.score(study.choose()) for study in studies.values())
    assert tested.inits() == ["a, 1 view", "a, 2 views"]
    assert tested.table("a, 2 views").shape == (2, 3)
    asked = {about["init"] for _, about, _ in compare.pieces.asked}
    assert asked == set(tested.inits())


def test_a_method_without_a_network_costs_more_than_any_fit(compare):
    psnr = compare.classical("s", "FBP", 2)
    assert psnr.shape == (3,)
    assert np.isfinite(psnr).all()
    ((study, about, cost),) = compare.pieces.asked
    assert (study, about) == ("s", dict(method="FBP", views=2))
    assert cost > compare.cap


@pytest.mark.slow
def test_a_study_of_limited_angles(compare):
    """Angles themselves in the place of their number, in the table and in the keys."""
    angles = few_views.wedge(3, 120.0)
    np.testing.assert_allclose(angles, np.deg2rad([0, 40, 80]), rtol=1e-6)
    study = compare.study("w", {"a": few_views.random_init(NET, [jax.random.key(0)])}, angles)
    assert study.score(study.choose()).inits() == ["a, 3 views within 120°"]
    assert compare.classical("w", "FBP", angles).shape == (3,)
    assert compare.pieces.asked[-1][1] == dict(method="FBP", views="3 views within 120°")
    all_of = compare.everyone(
        "w", {"a": few_views.random_init(NET, [jax.random.key(0)])}, ["FBP"], angles
    )
    assert all_of.inits() == [few_views.label(n, angles) for n in ("a", "FBP")]
    fbp = all_of.by_task(few_views.label("FBP", angles))
    np.testing.assert_array_equal(fbp, compare.classical("w", "FBP", angles))
    other = compare.classical("w", "FBP", few_views.wedge(3, 90.0))
    assert (other != compare.classical("w", "FBP", angles)).any()
    scan = study.test()
    np.testing.assert_array_equal(scan.shared[1], angles)


@pytest.mark.parametrize(("views", "reach"), [(1, 90.0), (4, 0.0), (4, 181.0), (4, np.nan)])
def test_a_wedge_that_cannot_be_is_refused(views, reach):
    with pytest.raises(ValueError, match=f"views = {views}, reach = {reach}: expected"):
        few_views.wedge(views, reach)


def test_gaps_of_a_sweep_keep_the_order_of_its_views():
    values = np.arange(3.0)
    reached = {
        (name, v, level, b): (name == "a") * v * values + b
        for name in "ab"
        for v in (8, 2)
        for level in (0.0, 0.1)
        for b in (100, 500)
    }
    found = few_views.gaps(reached, "a", "b")
    assert [*found][:4] == [(0.0, 100, 8), (0.0, 100, 2), (0.0, 500, 8), (0.0, 500, 2)]
    assert found[0.1, 500, 8] == evaluate.interval(8 * values)


def test_a_sweep_that_diverged_says_so():
    nothing = few_views.Course(100, np.full(4, np.nan), np.full((2, 4), np.nan))
    with pytest.raises(ValueError, match="all fits diverge within 200 steps"):
        nothing.within(200)
    late = few_views.Course(100, np.array([np.nan, 3.0, 2.0]), np.arange(6.0).reshape(2, 3))
    assert late.within(200).tolist() == [1, 4]


@settings(deadline=None)
@given(every=st.integers(1, 200), marks=st.integers(1, 30), budget=st.integers(0, 4000))
def test_a_budget_is_read_up_to_its_last_mark(every, marks, budget):
    steps = every * np.arange(marks)
    course = few_views.Course(every, steps.astype(float), steps[None].astype(float))
    assert course.within(budget).tolist() == [max(s for s in steps if s <= budget)]


def test_a_scan_of_ones_own_is_a_task_in_the_values_of_pictures(tmp_path):
    """Whatever its unit; a fit sees a sinogram of a picture in [0, 1]."""
    u = phantoms.load("test", size=32, limit=1).arrays[0, ..., 0]
    angles = tomography.from_degrees(np.arange(0, 120, 2.5))
    p = np.asarray(tomography.project(u, angles))
    found = []
    for unit in (1.0, 250.0):
        np.savez(tmp_path / "a.npz", sinogram=unit * p, angles=angles)
        found.append(few_views.own_scan(str(tmp_path / "a.npz"), 32))
    one, other = found
    assert other.unit == pytest.approx(250 * one.unit, rel=1e-4)
    np.testing.assert_allclose(one.task.each.support, other.task.each.support, rtol=1e-4, atol=1e-6)
    predicted, measured = tomography.sinogram_of()(lambda x: u.ravel(), one.task, None)
    np.testing.assert_allclose(one.unit * measured, predicted, rtol=1e-3, atol=1e-5)
    assert np.quantile(one.fbp[one.fbp > 0], few_views.BRIGHT) == pytest.approx(1)
    assert len(few_views.own_scan(str(tmp_path / "a.npz"), 20).fbp) == 20
    np.savez(tmp_path / "b.npz", sinogram=-p, angles=angles)
    with pytest.raises(DataError, match=r"^b.npz: nothing in it absorbs"):
        few_views.own_scan(str(tmp_path / "b.npz"), 32)


def test_seeds_are_drawn_the_same_every_time():
    entrant = few_views.random_init(NET, [jax.random.key(0), jax.random.key(1)])
    first, again, other = entrant.seeds[0](), entrant.seeds[0](), entrant.seeds[1]()
    for a, b, c in zip(*map(jax.tree.leaves, (first, again, other))):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or (a != c).any()


def test_the_papers_inits_are_made_only_where_they_are_needed():
    learned = SimpleNamespace(theta=NET.init(jax.random.key(3)), field=NET)
    keys = jax.random.split(jax.random.key(4), 3)
    levels = np.linspace(0.1, 0.3, 5, dtype=np.float32)[:, None, None, None]
    train = pixels.image_tasks(np.broadcast_to(levels, (5, 8, 8, 1)))
    found = few_views.entrants(NET, {"l": learned}, train, keys, [jax.random.key(5)], steps=300)
    assert list(found) == ["random", "mean", "matched", "shuffled", "l"]
    assert all(e.net == NET for e in found.values())
    x = train.shared
    mean, matched = (NET(found[n].seeds[0](), x) for n in ("mean", "matched"))
    drawn = NET(learned.theta, x)
    assert jnp.mean((mean - 0.2) ** 2) < 1e-3
    assert jnp.mean((matched - drawn) ** 2) < 0.1 * jnp.mean((drawn.mean() - drawn) ** 2)
    mixed = found["shuffled"].seeds[0]()
    for a, b in zip(*map(jax.tree.leaves, (mixed, learned.theta))):
        np.testing.assert_array_equal(np.sort(a, axis=None), np.sort(b, axis=None))
    assert found["l"].seeds[0] is learned.theta


def test_a_lead_counts_pairs_of_a_task_and_a_seed():
    mine = [Row("a", 0, i, "psnr", v) for i, v in enumerate((2.0, 2.0))]
    theirs = [Row("b", s, i, "psnr", v) for s in (0, 1) for i, v in enumerate((1.0, 1.0 + 2 * s))]
    lead = few_views.lead(Scores(mine + theirs), "a", "b")
    assert lead.won == 0.75
    assert lead.margin.mean == 0.5  # 2 - 1, and 2 - the mean of 1 and 3


def test_a_lead_leaves_out_fits_that_diverged():
    mine = [Row("a", 0, i, "psnr", v) for i, v in enumerate((2.0, np.nan, 2.0))]
    theirs = [Row("b", 0, i, "psnr", v) for i, v in enumerate((1.0, 1.0, 3.0))]
    lead = few_views.lead(Scores(mine + theirs), "a", "b")
    assert lead.won == 0.5
    assert lead.margin.mean == 0.0


def test_a_reconstruction_that_is_not_finite_is_nan(compare):
    compare.pieces.call = lambda *_, cost: dict(psnr=[1.0, None])
    np.testing.assert_array_equal(compare.classical("s", "FBP", 2), [1.0, np.nan])


def test_the_step_within_a_budget_is_chosen_on_validation():
    held_out = np.array([0.0, 3.0, 1.0, 5.0])
    course = few_views.Course(100, held_out, np.arange(8.0).reshape(2, 4))
    assert course.within(0).tolist() == [0, 4]
    assert course.within(250).tolist() == course.within(100).tolist() == [1, 5]
    assert course.within(300).tolist() == [3, 7]


def test_marks_are_steps_whatever_lies_between_them():
    """Looks every 30 steps and a budget of 100: the last usable one is at 90."""
    course = few_views.Course(30, np.arange(6.0), np.arange(6.0)[None])
    assert course.within(100).tolist() == [3]


@pytest.mark.slow
def test_a_sweep_is_kept_by_what_it_is():
    def problem(net):
        def compressed(f, task, key):
            coords, R = task.shared
            return R @ f(coords)[:, 0], task.each.support

        held_out = tomography.scan_problem(net).held_out
        return evaluate.Problem(tasks.regression(net, compressed), held_out)

    pieces, key = Noted(), jax.random.key(7)
    sweep = few_views.Sweep(problem, images(2), images(3, 1), key, GRID, 4, 2, pieces)
    chosen = protocol.Choice("Adam", 1e-2, 4, False, 0.0)
    entrant = few_views.random_init(NET, [jax.random.key(0)])
    course = sweep.course("a", entrant, 3, 0.1, chosen)
    assert course.held_out.shape == (3,)
    assert course.test.shape == (3, 3)
    assert np.isfinite(sweep.fbp(3, 0.0))
    assert {study for study, *_ in pieces.asked} == {"ct_sweep"}
    about = [about for _, about, _ in pieces.asked]
    assert [a.get("of") for a in about] == ["validation", "course", None]
    assert about[0]["init"] == about[1]["init"] == "a, 3 views, noise 0.1"
    assert about[2] == dict(method="FBP", views=3, noise=0.0)
    assert pieces.asked[2][2] < pieces.asked[0][2]  # the cheapest, which a page measures again


@pytest.mark.slow
def test_a_fit_of_the_shipped_comparison_of_scales_is_reproduced():
    """One of the fits in a piece of ct_sigma: its cheapest whole piece is seven of them."""
    recipe = RECIPES["ct48_reptile12"]
    data = [pixels.image_tasks(recipe.load("validation")).take(slice(0, 4))] * 2
    sgd, scale = protocol.grid(sgd=[1.0]), dict(sigma=20 / (2 * np.pi))
    net = fields.build(**dict(recipe.field) | scale)
    init = few_views.random_init(net, jax.random.split(first_key(), 3))
    compare = few_views.Comparison(*data, sgd, cap=1500, every=25)
    study = compare.study("again", {"random": init}, views=4)
    now = study.best(few_views.label("random", 4))["SGD 1"]
    pieces = results._shipped("ct_sigma")["pieces"].values()
    about = dict(init=few_views.label("random, sigma 20", 4), of="best")
    (kept,) = [p["value"]["SGD 1"] for p in pieces if p["about"] == about]
    assert abs(now - kept) < 0.1


def first_key():
    """The chapter's key of random inits."""
    return jax.random.split(jax.random.key(0), 7)[0]
