"""The one protocol: validation decides, test is reported in pairs, nothing is taken for another."""

import types
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from learnit_utils import evaluate, fields
from learnit_utils.evaluate import Interval, Problem, interval
from learnit_utils.experiments import protocol, seeds
from learnit_utils.experiments.content import digest
from learnit_utils.experiments.protocol import Choice, Contender, Pieces, Study, grid, tuned_method
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.forward import photometric
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Split, Tasks


# --- a problem with a closed form ---------------------------------------------------------------
# A fit descends (w - a)^2 and is judged by (w - b)^2. After k steps of gradient descent
# w_k = a + (w_0 - a) (1 - 2 lr)^k.
def squared(w, task, key):
    return (w - task.each.support) ** 2


def judged(w, task, key):
    return (w - task.each.query) ** 2


PROBLEM = Problem(squared, judged)


def numbers(a, b):
    return Tasks(Split(*(jnp.asarray(v, jnp.float32) for v in (a, b))))


def closed_form(w, tasks, lr, steps):
    """PSNR in dB of every task at some steps: (tasks, steps)."""
    a, b = (np.asarray(v, np.float64)[:, None] for v in tasks.each)
    return decibel((a + (w - a) * (1 - 2 * lr) ** np.asarray(steps) - b) ** 2)


VALIDATION = numbers([1.0, 1.5, 2.0], [1.2, 1.8, 2.25])  # passed on the way
TEST = numbers([1.1, 0.7, 2.2, 1.3], [1.3, 0.8, 2.35, 1.6])


def study(**changes):
    given = dict(name="s", problem=PROBLEM, inits=dict(far=[jnp.float32(9)], near=[jnp.float32(3)]))
    given |= dict(grid=grid(sgd=(0.01, 0.05, 0.2)), validation=VALIDATION, test=TEST)
    return Study(**(given | dict(cap=12, every=2) | changes))


FINITE = st.integers(-60, 60).map(lambda n: n / 20)
THREE = st.lists(FINITE, min_size=3, max_size=3)


@settings(max_examples=25)
@given(
    FINITE,
    THREE,
    THREE,
    st.lists(
        st.sampled_from([0.01, 0.03, 0.07, 0.15, 0.3, 0.6, 0.9]),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    st.booleans(),
)
def test_the_choice_is_that_of_the_closed_form(w, a, b, lrs, early_stop):
    validation, steps = numbers(a, b), np.arange(0, 13, 2)
    values = np.array([closed_form(w, validation, lr, steps) for lr in lrs])
    assume(values.max() < 70)  # float32 does not see smaller errors
    means = values.mean(axis=1)
    allowed = means if early_stop else means[:, -1:]
    ranked = np.sort(allowed[:, 1:].ravel() if early_stop else allowed.ravel())
    assume(len(ranked) < 2 or ranked[-1] - ranked[-2] > 0.01)
    made = dict(inits=dict(w=[jnp.float32(w)]), grid=grid(sgd=lrs), early_stop=early_stop)
    found = study(validation=validation, **made).choose()["w"]
    best, mark = np.unravel_index(allowed.argmax(), allowed.shape)
    assert found.value == pytest.approx(allowed[best, mark], abs=0.01)
    if early_stop and abs(allowed[best, 0] - allowed.max()) < 0.01:
        assume(mark == 0 or allowed[best, mark] - allowed[best, 0] > 0.01)
        assert (found.step, found.lr) == (0, lrs[0])  # no step at all: the first of those that tie
    else:
        assert (found.optimizer, found.lr) == ("SGD", lrs[best])
        assert found.step == (steps[mark] if early_stop else 12)
    edges = (min(lrs), max(lrs)) if len(lrs) > 1 else ()
    assert found.at_edge == (found.lr in edges)


def test_curves_courses_and_scores_are_those_of_the_closed_form():
    s, steps = study(), np.arange(0, 13, 2)
    for name, w in dict(far=9, near=3).items():
        for lr in (0.01, 0.05, 0.2):
            expected = closed_form(w, VALIDATION, lr, steps).mean(axis=0)
            np.testing.assert_allclose(s.curve(name, "SGD", lr)["psnr"], expected, atol=2e-3)
            for step in (0, 2, 12):
                choice, expected = (
                    Choice("SGD", lr, step, False, 0.0),
                    closed_form(w, TEST, lr, steps),
                )
                np.testing.assert_allclose(s.course(name, choice)["psnr"], expected, atol=5e-3)
                at = s.at(name, choice)["psnr"]
                np.testing.assert_allclose(at, expected[:, step // 2], atol=5e-3)
    choice = s.choose()
    scores = s.score(choice)
    assert scores.inits() == ["far", "near"]
    for name in ("far", "near"):
        found = scores.table(name)
        np.testing.assert_array_equal(found, [s.at(name, choice[name])["psnr"]])
        row = [r for r in scores.rows if r.init == name]
        assert [(r.seed, r.task, r.metric) for r in row] == [(0, i, "psnr") for i in range(4)]


def test_adams_first_step_is_its_step_size():
    """w_1 = w_0 - lr sign(w_0 - a), whatever the gradient."""
    lrs = (0.3, 1.0, 1.9, 4.0)
    s = study(grid=grid(adam=lrs), cap=1, every=1, early_stop=False)
    a, b = (np.asarray(v, float) for v in VALIDATION.each)
    means = [decibel((3 - lr * np.sign(3 - a) - b) ** 2).mean() for lr in lrs]
    found = s.choose()["near"]
    assert (found.optimizer, found.lr) == ("Adam", lrs[int(np.argmax(means))])
    assert found.value == pytest.approx(max(means), abs=0.01)


def test_the_better_optimizer_is_chosen_for_each_init():
    s = study(grid=grid(sgd=(0.001, 0.002), adam=(0.1, 0.5)))
    curves = {(o, lr): s.curve("far", o, lr)["psnr"].max() for o, lr in s.tried()}
    assert s.tried() == [("SGD", 0.001), ("SGD", 0.002), ("Adam", 0.1), ("Adam", 0.5)]
    found = s.choose_one("far")
    assert (found.optimizer, found.lr) == max(curves, key=curves.get) == ("Adam", 0.5)


def test_a_grid_has_the_optimizers_that_have_step_sizes():
    assert grid(sgd=[1.0], adam=[2.0, 3.0]) == {
        "SGD": (evaluate.SGD, (1.0,)),
        "Adam": (evaluate.ADAM, (2.0, 3.0)),
    }
    assert list(grid(adam=[1.0])) == ["Adam"]


@pytest.mark.parametrize(
    "changes",
    [
        dict(cap=13),
        dict(every=0),
        dict(cap=0),
        dict(inits={}),
        dict(grid={}),
        dict(grid=dict(SGD=(evaluate.SGD, ()))),
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_study_that_cannot_be_is_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        study(**changes)


# --- validation decides -------------------------------------------------------------------------
def never():
    raise AssertionError("test tasks were asked for")


def test_test_data_cannot_change_a_choice():
    chosen = [
        study(test=test).choose() for test in (never, TEST, VALIDATION, numbers([5.0], [-5.0]))
    ]
    assert chosen == chosen[:1] * 4
    s = study(test=never)
    s.best("far")
    with pytest.raises(AssertionError, match="asked for"):
        s.score(s.choose())


def test_validation_data_change_a_choice():
    late = numbers([1.0, 1.5, 2.0], [1.0, 1.5, 2.0])
    assert study(validation=late).choose()["far"].step == 12
    assert study().choose()["far"].step < 12


def test_without_early_stop_the_last_step_counts():
    early, late = (study(early_stop=stop) for stop in (True, False))
    assert early.choose()["near"].step in (2, 4, 6, 8, 10)
    assert {c.step for c in late.choose().values()} == {12}
    ends = {lr: late.curve("near", "SGD", lr)["psnr"][-1] for _, lr in late.tried()}
    found = late.choose()["near"]
    assert (found.lr, found.value) == (max(ends, key=ends.get), max(ends.values()))
    assert early.choose()["near"].value > found.value


def test_a_perfect_fit_is_none_that_diverges():
    exact = numbers([3.0, 3.0], [3.0, 3.0])
    s = study(validation=exact, test=exact)
    found = s.choose()["near"]
    assert found.step == 0
    assert found.value > 300
    scores = s.score(dict(near=found))
    assert scores.diverged("near") == 0


# --- fits that diverge --------------------------------------------------------------------------
@pytest.mark.parametrize("bad", [1e30, 3e38, 40.0])
@pytest.mark.parametrize("early_stop", [True, False])
def test_diverging_step_sizes_never_win(bad, early_stop):
    s = study(grid=grid(sgd=(bad, 0.05, 2 * bad if bad < 1e38 else bad)), early_stop=early_stop)
    curve = s.curve("far", "SGD", bad)["psnr"]
    assert np.isfinite(curve[0])
    if bad > 1e20:
        assert np.isnan(curve[1:]).all()
    assert {c.lr for c in s.choose().values()} == {0.05}
    best = s.best("far")
    assert best["SGD 0.05"] == pytest.approx(np.max(s.curve("far", "SGD", 0.05)["psnr"]), abs=1e-6)


def test_one_diverging_task_is_enough():
    """Its mean is no number, however well the others do."""

    def unstable(w, task, key):
        return jnp.where(task.each.support > 1.9, 1e30, 1.0) * squared(w, task, key)

    s = study(problem=Problem(unstable, judged), grid=grid(sgd=(0.05, 1e-32)), early_stop=False)
    assert np.isnan(s.curve("far", "SGD", 0.05)["psnr"][-1])
    assert s.choose()["far"].lr == 1e-32


def test_where_all_diverge_that_is_said():
    s = study(grid=grid(sgd=(1e30, 1e31)), early_stop=False)
    with pytest.raises(ValueError, match=r"^s: every fit of far diverges, on the whole grid$"):
        s.choose()
    with pytest.raises(ValueError, match="diverges"):
        s.outcome("far")
    assert s.best("far") == {"SGD 1e+30": -np.inf, "SGD 1e+31": -np.inf}
    torn = study(inits=dict(torn=[jnp.float32(np.nan)]))
    with pytest.raises(ValueError, match="every fit of torn diverges"):
        torn.choose()
    assert torn.best("torn") == {"SGD 0.01": -np.inf, "SGD 0.05": -np.inf, "SGD 0.2": -np.inf}


def test_with_early_stop_no_step_at_all_is_a_choice():
    found = study(grid=grid(sgd=(1e30, 1e31))).choose()["near"]
    assert found == Choice("SGD", 1e30, 0, True, found.value)
    assert found.value == pytest.approx(closed_form(3, VALIDATION, 0, [0]).mean(), abs=1e-3)


def test_diverged_fits_are_counted_and_left_out():
    torn = [jnp.float32(np.nan)]
    s = study(
        inits=dict(good=[jnp.float32(3), jnp.float32(2)], torn=torn, half=[jnp.float32(3), *torn])
    )
    choice = dict.fromkeys(s.inits, Choice("SGD", 0.05, 4, False, 0.0))
    scores = s.score(choice)
    assert [scores.diverged(n) for n in ("good", "torn", "half")] == [0, 4, 4]
    assert np.isnan(scores.table("torn")).all()
    assert np.isnan(scores.by_task("half")).all()  # a mean with a nan is none
    for name in ("torn", "half"):
        with pytest.raises(ValueError, match="at least 2 independent values, got 0"):
            scores.mean(name)
        with pytest.raises(ValueError, match="got 0"):
            scores.paired("good", name)


# --- scores -------------------------------------------------------------------------------------
def table(**inits):
    """Scores of (seeds, tasks) arrays by init."""
    return Scores(
        [
            Row(name, seed, task, "psnr", value)
            for name, values in inits.items()
            for (seed, task), value in np.ndenumerate(np.atleast_2d(values))
        ]
    )


@given(
    st.lists(st.tuples(FINITE, FINITE), min_size=2, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_pairs_are_compared_task_by_task(pairs, lost):
    a, b = np.array(pairs).T
    lost = np.array(lost[: len(a)])
    scores = table(a=np.where(lost, np.nan, a), b=b)
    left = ~lost
    assert scores.diverged("a") == lost.sum()
    if left.sum() < 2:
        with pytest.raises(ValueError, match=f"at least 2 independent values, got {left.sum()}"):
            scores.paired("a", "b")
        return
    for one, other, sign in (("a", "b", 1), ("b", "a", -1)):
        found = scores.paired(one, other)
        gap = sign * (a - b)[left]
        assert found.interval == interval(gap)
        assert found.won == np.mean(gap > 0)
        assert found.diverged == lost.sum()
    assert scores.mean("a") == interval(a[left])
    np.testing.assert_array_equal(scores.by_task("a"), np.where(lost, np.nan, a))


def test_an_init_does_not_beat_itself():
    found = table(a=[1.0, 2.0, 4.0]).paired("a", "a")
    assert found == (Interval(0.0, 0.0), 0.0, 0)


def test_seeds_are_averaged_before_tasks_are_compared():
    a = np.array([[1.0, 2.0, 3.0], [3.0, 6.0, 3.0]])
    scores = table(a=a, b=[1.5, 4.5, 2.0])
    np.testing.assert_array_equal(scores.by_task("a"), [2, 4, 3])
    np.testing.assert_array_equal(scores.by_seed("a"), [2, 4])
    found = scores.paired("a", "b")
    assert found.interval == interval([0.5, -0.5, 1.0])
    assert found.won == 2 / 3
    assert scores.mean("a") == interval([2, 4, 3])


def test_groups_are_averaged_first_and_go_with_their_tasks():
    groups = ["x", "x", "y", "z"]
    scores = table(a=[1.0, 3.0, 5.0, np.nan], b=[0.0, 1.0, 1.0, 1.0])
    assert scores.mean("a", groups=groups) == interval([2.0, 5.0])
    assert scores.paired("a", "b", groups=groups).interval == interval([1.5, 4.0])
    assert scores.paired("a", "b", groups=groups).won == 1.0  # of tasks, not of groups
    assert scores.mean("b", groups=groups) == interval([0.5, 1.0, 1.0])
    for labels in (groups[:-1], [*groups, "z"]):
        with pytest.raises(ValueError, match="zip"):
            scores.mean("a", groups=labels)


def test_rows_may_come_in_any_order_and_have_several_metrics():
    rows = [
        Row("a", s, t, m, 10.0 * s + t + dict(psnr=0, ssim=0.5)[m])
        for s in (0, 1)
        for t in (0, 1, 2)
        for m in ("psnr", "ssim")
    ]
    scores = Scores(rows)
    np.testing.assert_array_equal(scores.table("a"), [[0, 1, 2], [10, 11, 12]])
    np.testing.assert_array_equal(scores.table("a", "ssim"), scores.table("a") + 0.5)
    shuffled = Scores([rows[i] for i in np.random.default_rng(0).permutation(len(rows))])
    np.testing.assert_array_equal(shuffled.table("a", "ssim"), scores.table("a", "ssim"))


def test_what_is_not_there_is_named():
    scores = table(a=[1.0, 2.0], b=[1.0, 2.0])
    with pytest.raises(KeyError, match="no init 'c': there are a, b"):
        scores.table("c")
    with pytest.raises(KeyError, match="no metric 'ssim': there are psnr"):
        scores.mean("a", "ssim")


# --- several metrics, seeds, problems -----------------------------------------------------------
def two_errors(w, task, key):
    return jnp.stack([(w - task.each.query) ** 2, (w - 10) ** 2])


def first(errors):
    return decibel(errors[..., 0])


def second(errors):
    return decibel(errors[..., 1])


def test_each_metric_has_its_choice_and_the_first_one_decides():
    s = study(problem=Problem(squared, two_errors), metrics=dict(first=first, second=second))
    assert s.choose() == s.choose("first") == study().choose()
    by_second = s.choose("second")
    assert by_second["far"].step == 0  # 9 is next to 10, and every step leads away
    assert s.choose_one("near", "second") == by_second["near"]
    scores = s.score(s.choose())
    np.testing.assert_array_equal(scores.table("far"), scores.table("far", "first"))
    assert (scores.table("far") > scores.table("far", "second")).all()
    turned = study(problem=Problem(squared, two_errors), metrics=dict(second=second, first=first))
    assert turned.choose() == by_second
    assert turned.outcome("far").choice == by_second["far"]
    assert s.outcome("far").choice == s.choose()["far"]


def test_psnr_is_averaged_over_all_numbers_of_a_task():
    s = study(problem=Problem(squared, two_errors))
    both = study(problem=Problem(squared, two_errors), metrics=dict(first=first, second=second))
    parts = both.curve("near", "SGD", 0.05)
    mean = (parts["first"] + parts["second"]) / 2
    np.testing.assert_allclose(s.curve("near", "SGD", 0.05)["psnr"], mean, atol=1e-3)


def test_every_seed_is_tested_and_the_first_one_chooses():
    seeds = [jnp.float32(w) for w in (3, 9, -4)]
    s = study(inits=dict(several=seeds, first=seeds[:1]))
    choice = s.choose()
    assert choice["several"] == choice["first"]
    scores = s.score(choice)
    c = choice["several"]
    expected = [closed_form(float(w), TEST, c.lr, [c.step])[:, 0] for w in seeds]
    np.testing.assert_allclose(scores.table("several"), expected, atol=5e-3)
    assert scores.table("first").shape == (1, 4)
    np.testing.assert_array_equal(scores.table("several")[:1], scores.table("first"))


def test_every_seed_may_have_test_tasks_of_its_own():
    tests = [TEST, numbers([1.0, 2.0, 3.0, 4.0], [0.9, 1.9, 2.8, 3.7])]
    s = study(inits=dict(w=[jnp.float32(3)] * 2), test=tests)
    c = s.choose()["w"]
    expected = [closed_form(3, t, c.lr, [c.step])[:, 0] for t in tests]
    np.testing.assert_allclose(s.score(dict(w=c)).table("w"), expected, atol=5e-3)
    np.testing.assert_allclose(s.outcome("w").test["psnr"], expected[0], atol=5e-3)


def slowly(w, task, key):
    return 0.25 * squared(w, task, key)


def test_a_contender_may_have_a_problem_of_its_own():
    own = Contender([jnp.float32(9)], Problem(slowly, judged))
    s = study(inits=dict(far=[jnp.float32(9)], own=own))
    expected = closed_form(9, VALIDATION, 0.05 / 4, np.arange(0, 13, 2)).mean(axis=0)
    np.testing.assert_allclose(s.curve("own", "SGD", 0.05)["psnr"], expected, atol=2e-3)
    assert s.contender("own").problem.loss is slowly
    assert s.contender("far") == Contender([jnp.float32(9)], PROBLEM)


def test_inits_and_tasks_may_be_made_where_they_are_needed():
    made = []

    def making(what, value):
        def make():
            made.append(what)
            return value

        return make

    s = study(
        inits=dict(near=[making("init", jnp.float32(3))], far=[Init(jnp.float32(9))]),
        validation=making("validation", VALIDATION),
        test=making("test", TEST),
    )
    assert made == []
    assert s.choose() == study().choose()
    assert set(made) == {"init", "validation"}
    plain = study()
    np.testing.assert_array_equal(
        s.score(s.choose()).table("near"), plain.score(plain.choose()).table("near")
    )
    assert s.outcome("near").choice == plain.outcome("near").choice
    assert s.init("far") == Init(jnp.float32(9))
    assert s.init("near") == Init(jnp.float32(3))


# --- what is drawn ------------------------------------------------------------------------------
def noisy(w, task, key):
    return (w - task.each.support - jax.random.normal(key)) ** 2


@pytest.mark.parametrize("key", [None, 5])
def test_all_fits_draw_the_same_and_the_key_decides_what(key):
    made = {} if key is None else dict(key=jax.random.key(key))
    s = study(
        problem=Problem(noisy, judged), inits=dict(a=[jnp.float32(3)], b=[jnp.float32(3)]), **made
    )
    keys = evaluate.task_keys(VALIDATION, None if key is None else jax.random.key(key))
    noise = np.array([jax.random.normal(k) for k in keys])
    a, b = (np.asarray(v) for v in VALIDATION.each)
    expected = closed_form(3, Tasks(Split(a + noise, b)), 0.2, np.arange(0, 13, 2)).mean(axis=0)
    np.testing.assert_allclose(s.curve("a", "SGD", 0.2)["psnr"], expected, atol=5e-3)
    choice = s.choose()
    assert choice["a"] == choice["b"]
    found = s.score(choice).paired("a", "b")
    assert found == (Interval(0.0, 0.0), 0.0, 0)
    fresh = study(problem=Problem(noisy, judged, resample=True), **made)
    assert not np.allclose(fresh.curve("near", "SGD", 0.2)["psnr"][1:], expected[1:], atol=5e-3)
    other = study(problem=Problem(noisy, judged), key=jax.random.key(6))
    assert not np.allclose(other.curve("near", "SGD", 0.2)["psnr"][1:], expected[1:], atol=5e-3)


# --- one piece for a whole choice ---------------------------------------------------------------
@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("name", ["far", "near"])
def test_outcome_and_best_agree_with_choosing_and_scoring(early_stop, name):
    s = study(early_stop=early_stop, grid=grid(sgd=(0.01, 0.05, 0.2), adam=(0.1, 0.4)))
    chosen = s.choose()[name]
    found = s.outcome(name)
    assert found.choice == chosen
    np.testing.assert_array_equal(found.test["psnr"], s.at(name, chosen)["psnr"])
    best = s.best(name)
    assert list(best) == [f"{o} {lr:g}" for o, lr in s.tried()]
    curves = {f"{o} {lr:g}": s.curve(name, o, lr)["psnr"] for o, lr in s.tried()}
    assert best == {how: c.max() if early_stop else c[-1] for how, c in curves.items()}
    assert max(best, key=best.get) == f"{chosen.optimizer} {chosen.lr:g}"
    assert best[f"{chosen.optimizer} {chosen.lr:g}"] == chosen.value


# --- a method without an init -------------------------------------------------------------------
def shrunk(tasks, setting):
    """PSNR of the support times a factor."""
    return decibel((tasks.each.support * setting["by"] - tasks.each.query) ** 2)


def test_a_method_without_an_init_is_tuned_on_validation():
    settings = [dict(by=by) for by in (0.5, 0.9, 1.17, 1.5, np.nan)]
    found = tuned_method(shrunk, settings, VALIDATION, TEST)
    means = [shrunk(VALIDATION, s).mean() for s in settings]
    assert found["setting"] == settings[int(np.nanargmax(means))] == dict(by=1.17)
    np.testing.assert_allclose(found["psnr"], shrunk(TEST, found["setting"]), atol=1e-4)
    assert tuned_method(shrunk, settings, lambda: VALIDATION, lambda: TEST) == found
    assert tuned_method(shrunk, settings, VALIDATION, VALIDATION)["setting"] == dict(by=1.17)


def test_a_setting_that_fails_never_wins_and_not_all_may():
    def score(tasks, setting):
        return np.array(setting["scores"])

    bad = [dict(scores=[np.nan, 99.0]), dict(scores=[np.inf, 1.0]), dict(scores=[-np.inf, 99.0])]
    assert tuned_method(score, [*bad, dict(scores=[1.0, 2.0])], None, None)["psnr"] == [1.0, 2.0]
    with pytest.raises(ValueError, match="none of 3"):
        tuned_method(score, bad, None, None)
    # a test score that is no number is kept as none
    partly = lambda tasks, setting: np.array([1.0, np.nan]) if tasks else np.ones(2)  # noqa: E731
    assert tuned_method(partly, [{}], None, [1])["psnr"] == [1.0, None]


# --- what a piece depends on --------------------------------------------------------------------
def test_a_result_is_computed_once_and_found_by_content():
    computed.calls = 0
    pieces = Pieces()
    made = partial(pieces.call, "study", dict(of="x"), scaled)
    assert made(np.ones(3)) == 3 == made(np.ones(3))
    assert computed.calls == 1
    assert made(np.ones(4)) == 4
    assert pieces.call("another study", {}, scaled, np.ones(3)) == 3
    assert computed.calls == 2  # neither the study nor the description identify it


computed = types.ModuleType("computed")  # counts by its name, so what is noted in it does not


def scaled(x):
    computed.calls += 1
    return int(x.sum())


class Recorded(NamedTuple):
    study: str
    about: dict
    cost: float


class Recording(Pieces):
    """Keeps what was asked for, and answers without measuring."""

    def __init__(self):
        super().__init__()
        self.asked = {}

    def call(self, study, about, function, *args, cost=1):
        self.asked[digest(function, *args)] = Recorded(study, about, cost)
        chosen = dict(optimizer="SGD", lr=0.05, step=4, at_edge=False, value=1.0)
        of = about["of"]
        return {"best": {}, "outcome": dict(choice=chosen, test={})}.get(of, {"psnr": [1.0]})


OF = ("validation", "course", "test", "best", "outcome")


def keys(**changes):
    """What is measured -> the digest of its piece, for a study with some changes."""
    pieces = Recording()
    s = study(**(dict(pieces=pieces) | changes))
    choice = Choice("SGD", 0.05, 4, False, 0.0)
    s.curve("near", "SGD", 0.05)
    s.course("near", choice)
    s.at("near", choice)
    s.best("near")
    s.outcome("near")
    return {told.about["of"]: key for key, told in pieces.asked.items()}


def louder(errors):
    return protocol.mean_psnr(errors) + 1


def scaled_loss(factor):
    return lambda w, task, key: factor * squared(w, task, key)


def view_problem(samples, rays=8, density="softplus"):
    return photometric.object_problem(fields.relu(4, 2, 4, dims=3), rays, samples, density, 1)


ALL, NEAR = set(OF), jnp.float32(3)
ON_VALIDATION, ON_TEST = {"validation", "best", "outcome"}, {"course", "test", "outcome"}
CHANGES = {
    "init": (dict(inits=dict(near=[jnp.float32(3.0000002)])), ALL),
    "init of another type": (dict(inits=dict(near=[jnp.float16(3)])), ALL),
    "init with step sizes": (dict(inits=dict(near=[Init(jnp.float32(3), 1.0)])), ALL),
    "init by a function": (dict(inits=dict(near=[lambda: jnp.float32(3)])), ALL),
    "another init beside it": (dict(inits=dict(near=[NEAR], far=[jnp.float32(8)])), set()),
    "another seed beside it": (dict(inits=dict(near=[NEAR, jnp.float32(4)])), set()),
    "validation data": (dict(validation=numbers([1, 1.5, 2.0], [1.2, 1.8, 2.26])), ON_VALIDATION),
    "fewer validation tasks": (dict(validation=VALIDATION.take(slice(2))), ON_VALIDATION),
    "test data": (dict(test=Tasks(Split(TEST.each.query, TEST.each.support))), ON_TEST),
    "test tasks by a function": (dict(test=lambda: TEST), ON_TEST),
    "more step sizes": (dict(grid=grid(sgd=(0.01, 0.05, 0.2, 0.3))), {"best", "outcome"}),
    "step sizes in another order": (dict(grid=grid(sgd=(0.2, 0.05, 0.01))), {"best", "outcome"}),
    "more optimizers": (dict(grid=grid(sgd=(0.01, 0.05, 0.2), adam=(0.1,))), {"best", "outcome"}),
    "optimizer": (dict(grid=dict(SGD=(optax.sgd(1.0, 0.9), (0.01, 0.05, 0.2)))), ALL),
    "cap": (dict(cap=14), {"validation", "course", "best", "outcome"}),
    "every": (dict(every=4), {"validation", "course", "best", "outcome"}),
    "early stop": (dict(early_stop=False), {"best", "outcome"}),
    "metric": (dict(metrics=dict(psnr=louder)), ALL),
    "name of the metric": (dict(metrics=dict(quality=protocol.mean_psnr)), ALL),
    "more metrics": (dict(metrics=dict(psnr=protocol.mean_psnr, louder=louder)), ALL),
    "key": (dict(key=jax.random.key(1)), ALL),
    "loss": (dict(problem=Problem(noisy, judged)), ALL),
    "what judges": (dict(problem=Problem(squared, two_errors)), ALL),
    "resampling": (dict(problem=Problem(squared, judged, True)), ALL),
    "a problem of its own": (dict(inits=dict(near=Contender([NEAR], Problem(noisy, judged)))), ALL),
    "its own problem is the study's": (dict(inits=dict(near=Contender([NEAR], PROBLEM))), set()),
    "cost": (dict(inits=dict(near=Contender([NEAR], cost=1e9))), set()),
    "name of the study": (dict(name="another"), set()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_argument_counts_for_the_pieces_that_depend_on_it(change):
    changes, expected = CHANGES[change]
    before, after = keys(), keys(**changes)
    assert set(before) == set(after) == ALL
    assert len(set(before.values())) == len(OF)
    assert {of for of in OF if before[of] != after[of]} == expected


def test_step_size_and_step_of_a_fit_count():
    pieces = Recording()
    s = study(pieces=pieces, grid=grid(sgd=(0.01, 0.05), adam=(0.05,)))
    for optimizer, lr in s.tried():
        s.curve("near", optimizer, lr)
        s.course("near", Choice(optimizer, lr, 4, False, 0.0))
        for step in (0, 4, 6):
            s.at("near", Choice(optimizer, lr, step, False, 0.0))
    assert len(pieces.asked) == 3 * (1 + 1 + 3)
    s.at("near", Choice("SGD", 0.05, 4, True, 99.0))  # neither the edge nor the value counts
    assert len(pieces.asked) == 15


def test_constants_of_a_problem_count():
    variants = [view_problem(16), view_problem(17), view_problem(16, rays=9)]
    variants += [view_problem(16, density="relu")]
    variants += [Problem(scaled_loss(f), judged) for f in (1.0, 2.0)]
    found = [keys(problem=p) for p in variants]
    for of in OF:
        assert len({k[of] for k in found}) == len(variants)
    assert keys(problem=view_problem(16)) == found[0]


def test_pieces_say_what_they_are_and_how_much_work():
    pieces = Recording()
    near = Contender([jnp.float32(3)], cost=1000)
    s = study(pieces=pieces, inits=dict(near=near), name="studied")
    s.curve("near", "SGD", 0.05)
    s.at("near", Choice("SGD", 0.05, 4, False, 0.0))
    s.best("near")
    told = {r.about["of"]: r for r in pieces.asked.values()}
    assert {r.study for r in told.values()} == {"studied"}
    assert told["validation"].about == dict(init="near", optimizer="SGD", lr=0.05, of="validation")
    assert told["test"].about | dict(of="test") == told["test"].about
    assert told["test"].about["step"] == 4
    assert {of: r.cost for of, r in told.items()} == dict(
        validation=1000 + 12 * 3, test=1000 + 4 * 4, best=1000 + 12 * 3 * 3
    )


def test_kept_pieces_are_all_that_a_study_needs():
    """A study whose pieces are there measures nothing, and says the same."""
    pieces = Pieces()
    first, again = study(pieces=pieces), study(pieces=pieces, problem=Problem(squared, judged))
    told = first.choose(), first.score(first.choose()).rows, first.outcome("far").choice
    there = dict(pieces._values)
    assert (again.choose(), again.score(again.choose()).rows, again.outcome("far").choice) == told
    assert pieces._values == there


def test_values_are_kept_as_json_to_four_digits():
    pieces = Pieces()
    s = study(pieces=pieces, inits=dict(far=[jnp.float32(9)], torn=[jnp.float32(np.nan)]))
    s.curve("far", "SGD", 0.05)
    s.curve("torn", "SGD", 0.05)
    one, two = (v["psnr"] for v in pieces._values.values())
    assert all(type(v) is float and v == round(v, 4) for v in one)
    assert two == [None] * 7
    assert np.isnan(s.curve("torn", "SGD", 0.05)["psnr"]).all()


def test_random_inits_are_drawn_the_same_every_time():
    field = fields.siren(4, 3)
    first, second = seeds.random_inits(field, jax.random.key(0), 2)
    assert np.abs(first()[0].w - second()[0].w).max() > 0.1
    for left, right in zip(jax.tree.leaves(first()), jax.tree.leaves(protocol.made(first).theta)):
        np.testing.assert_array_equal(left, right)
    (again,) = seeds.random_inits(field, jax.random.key(0), 1)
    np.testing.assert_array_equal(again()[0].w, first()[0].w)


def test_what_is_made_anew_uses_no_key_up():
    key = jax.random.key(1)
    one, two = (seeds.anew(jax.random.normal, key, (3,)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(jax.random.normal(key, (3,)), one)
