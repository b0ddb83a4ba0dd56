"""Learned initializations and optimizers: tuned on validation, judged at the same steps."""

from functools import partial

import jax
import numpy as np
import pytest

from learnit_utils import evaluate
from learnit_utils.experiments import optimizer_contest as oc
from learnit_utils.experiments import protocol
from learnit_utils.experiments.learned_optimizer import Setting
from learnit_utils.experiments.recipe import Recipe
from learnit_utils.experiments.seeds import drawn
from learnit_utils.metrics import decibel
from learnit_utils.signals import faces, photos

FIELD = dict(kind="siren", width=6, depth=3, omega0=10.0, channels=1)
RECIPE = Recipe(size=8, field=FIELD, agreement=False, steps=4, clip=1.0)
RATES = protocol.grid(sgd=[1e-4, 0.1], adam=[1e-2])


@pytest.fixture(scope="module")
def lessons():
    data = {split: faces.load(split, size=8) for split in ("train", "validation", "test")}
    photo = photos.load("test", size=8, gray=True, limit=2)
    return oc.lessons(RECIPE, data, photo, 16, 3, (1, 3), RATES)


def test_lessons_spread_the_tests_over_people(lessons):
    given, owners = lessons
    assert len(owners) == given.tests["faces"].count == 16
    assert len(set(owners)) == 8
    assert given.validation.count == 3
    assert given.tests["photos"].count == 2


def test_a_grid_has_every_combination():
    found = oc.grid(RECIPE, outer_lr=[1.0, 2.0], inner_lr=[3.0])
    assert [(r.outer_lr, r.inner_lr) for r in found] == [(1.0, 3.0), (2.0, 3.0)]
    found = oc.grid(Setting(1, 0.0), lr=[1.0], rescale=[0.0, 1.0])
    assert [(s.lr, s.rescale) for s in found] == [(1.0, 0.0), (1.0, 1.0)]


@pytest.mark.slow
def test_an_init_is_judged_at_each_cap_by_what_is_best_for_it_on_validation(lessons):
    given, _ = lessons
    init = partial(drawn, given.field, jax.random.key(0))
    found = oc.judge_init(given, init)
    for cap, (name, lr, edge), psnr in zip(given.caps, found["choice"], found["faces"]):
        optimizer = RATES[name][0]
        curve = evaluate.curve(given.loss, init(), given.tests["faces"], optimizer, cap, lr=lr)
        np.testing.assert_allclose(psnr, decibel(curve[:, -1]), atol=0.02)
        best = max(
            decibel(
                evaluate.curve(given.loss, init(), given.validation, o, cap, lr=r)[:, -1]
            ).mean()
            for o, rates in RATES.values()
            for r in rates
        )
        ours = evaluate.curve(given.loss, init(), given.validation, optimizer, cap, lr=lr)
        assert decibel(ours[:, -1]).mean() == pytest.approx(best, abs=1e-3)
        assert edge == (name == "SGD")


@pytest.mark.slow
def test_a_contest_judges_all_methods_on_the_same_tasks_from_the_same_starts(lessons):
    given, owners = lessons
    pieces, few = protocol.Pieces(), dict(few=2, seeds=2)
    setting = Setting(3, 1e-2, steps=2, units=3)
    learned = {
        oc.RULE: oc.learned_rules(pieces, given, oc.RULE, [setting], **few),
        oc.MAML: oc.learned_inits(pieces, given, oc.MAML, [RECIPE], **few),
    }
    found = oc.contest(pieces, given, learned, jax.random.key(0), 2)
    assert list(found) == ["random, SGD", "random, Adam", oc.RULE, oc.MAML]
    table = oc.table(given.caps, found, "faces")
    assert all(v.shape == (2, 2, 16) for v in table.psnr.values())
    assert table.diverged() == 0
    gap = table.psnr[oc.MAML].mean(axis=0) - table.psnr[oc.RULE].mean(axis=0)
    lead = table.lead(oc.MAML, oc.RULE, 3, owners)
    assert lead.mean == pytest.approx(gap[1].mean(), abs=1e-6)
    first, second = learned[oc.RULE].what
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (first, second))))
    start = drawn(given.field, jax.random.fold_in(jax.random.key(0), 0))
    (face,) = (given.tests["faces"].take(slice(1)),)
    own = oc.rule_adapt(given.field, given.loss, 3, jax.random.fold_in(jax.random.key(0), 0))
    losses = evaluate.trajectory(given.loss, own, first, face)
    np.testing.assert_allclose(losses[0, 0], given.loss(start, face.take(0), None), rtol=1e-4)
    np.testing.assert_allclose(decibel(losses[0, 3]), table.psnr[oc.RULE][0, 1, 0], atol=0.02)


def test_fits_that_diverge_are_counted_and_not_turned_into_numbers():
    found = {"a": [{"faces": [[1.0, None]]}, {"faces": [[2.0, 3.0]]}]}
    table = oc.table([5], found, "faces")
    assert table.diverged() == 1
    assert np.isnan(table.psnr["a"]).sum() == 1
    np.testing.assert_array_equal(table.by_seed("a", 5)[1], 2.5)


@pytest.mark.slow
def test_unrolling_an_optimizer_holds_more_than_two_steps_of_maml():
    found = oc.outer_step_bytes(FIELD, 8, 2, Setting(1, 1e-3, steps=8))
    assert found["learned_optimizer"] > 3 * found["maml"] > 0
