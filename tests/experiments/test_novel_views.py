"""Novel views: derived inits, and fits that are those of the table."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.experiments import novel_views, protocol
from learnit_utils.experiments.content import digest
from learnit_utils.experiments.protocol import Choice, Contender, Pieces, Study, grid
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.experiments.studio import Studio
from learnit_utils.forward import cameras, photometric
from learnit_utils.forward.photometric import Camera, Views
from learnit_utils.tasks import Split, Tasks

FIELD = fields.build("posenc", width=8, depth=3, frequencies=2, max_log2=1.0, dims=3, channels=4)
CAMERA = Camera(jnp.float32(0.7), jnp.float32(1.2))
POSES = jnp.stack([cameras.orbit(azimuth, 0.3, 4.0) for azimuth in (0.0, 0.8, 3.0, 4.5)])


def objects(count, seed=0, side=8):
    """Objects of noise: one view to fit, three held out."""
    pictures = np.random.default_rng(seed).integers(0, 256, (count, 4, side, side, 3), np.uint8)
    poses = jnp.broadcast_to(POSES, (count, 4, 4, 4))
    parts = [Views(jnp.asarray(pictures[:, k]), poses[:, k]) for k in (slice(1), slice(1, None))]
    return Tasks(Split(*parts), CAMERA)


def study(inits, adam=()):
    problem = photometric.object_problem(FIELD, 16, 6, "softplus", 2)
    steps = grid(sgd=[0.3, 1.0]) | grid(adam=adam)
    return Study("small", problem, inits, steps, objects(2, 1), objects(3, 2), 8, 4)


def start(seed=0):
    return FIELD.init(jax.random.key(seed))


# --- inits ------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_matched_init_shows_nearly_the_pictures_with_other_weights():
    studio, key = Studio(FIELD, CAMERA, 8, 8), jax.random.key(7)
    like = jax.tree.map(lambda leaf: 3 * leaf, start(3))

    def apart(theta):
        both = [studio.picture(t, POSES[0]).colour for t in (theta, like)]
        return float(np.mean((both[0] - both[1]) ** 2))

    found = novel_views.matched(studio, key, like, "softplus", POSES, rays=32, steps=300, lr=1e-2)
    again = novel_views.matched(studio, key, like, "softplus", POSES, rays=32, steps=300, lr=1e-2)
    assert apart(found) < 0.2 * apart(FIELD.init(jax.random.clone(key)))
    assert any(np.abs(a.w - b.w).max() > 0.1 for a, b in zip(found, like))
    jax.tree.map(np.testing.assert_array_equal, found, again)


def test_derived_inits_come_from_one_seed_each_and_the_last_serves_the_rest():
    learned, calls = [start(0), start(1)], []

    def match(key, init):
        calls.append(init)
        return init

    keys = jax.random.key(0), jax.random.key(1)
    made = novel_views.derived(learned, 3, *keys, match, cost=7)
    assert {name: len(made[name].seeds) for name in made} == dict(matched=3, shuffled=3)
    assert {name: made[name].cost for name in made} == dict(matched=7, shuffled=0)
    assert calls == []  # not before they are asked for
    assert [made["matched"].seeds[n]() is learned[min(n, 1)] for n in range(3)] == [True] * 3
    shuffles = [made["shuffled"].seeds[n]()[0].w for n in (1, 2)]
    assert np.abs(shuffles[0] - shuffles[1]).max() > 0  # of one init, by keys of their own


def test_what_is_not_made_yet_has_a_content():
    studio = Studio(FIELD, CAMERA, 8, 6)

    def described(rays, seed):
        match = partial(
            novel_views.matched, studio, density="relu", poses=POSES, rays=rays, steps=2
        )
        keys = jax.random.key(0), jax.random.key(1)
        return digest(novel_views.derived([start(seed)], 1, *keys, match, 2))

    assert described(4, 0) == described(4, 0)
    assert len({described(4, 0), described(5, 0), described(4, 1)}) == 3


@pytest.mark.slow
def test_the_best_of_several_variants_stands_for_them():
    problem = photometric.object_problem(FIELD, 16, 6, "relu", 2)
    variants = {"usual (a)": [start(0)], "usual (b)": Contender([start(0)], problem)}
    trial = study(variants | {"other": [start(1)]})
    choice, every = novel_views.best_choices(trial, variants), trial.choose()
    best = max(variants, key=lambda name: every[name].value)
    assert choice == {best: every[best], "other": every["other"]}


# --- fits ---------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_fit_is_the_one_that_the_table_judges():
    trial = study({"usual": [start(4)]}, adam=[1e-2])
    judge = jax.jit(trial.problem.held_out)
    for step in (0, 5):
        choice = Choice("Adam", 1e-2, step, at_edge=False, value=0.0)
        told = trial.at("usual", choice)["psnr"]
        for index in range(trial.test.count):
            theta = novel_views.fitted(trial, "usual", choice, trial.test, index)
            errors = judge(theta, trial.test.take(index), jax.random.key(0))
            psnr = -10 * np.log10(np.asarray(errors)).mean()
            assert psnr == pytest.approx(told[index], abs=1e-3)


@pytest.mark.slow
def test_a_kept_fit_is_the_fit_to_three_digits():
    class Counted(Pieces):
        def call(self, study, about, function, *args, cost=1):
            asked.append((study, about["step"], cost))
            return super().call(study, about, function, *args, cost=cost)

    asked, choice = [], Choice("SGD", 0.3, 5, at_edge=False, value=0.0)
    made = Contender([partial(start, 4)], cost=100)
    trial = replace(study({"made": made}), pieces=Counted())
    kept, live = (
        novel_views.fitted(trial, "made", choice, trial.test, 1, keep) for keep in (True, False)
    )
    assert asked == [("small", 5, 105)]
    assert jax.tree.structure(kept) == jax.tree.structure(live)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-3, atol=1e-9), kept, live)


@pytest.mark.slow
def test_endings_are_the_whole_grid_at_the_cap():
    trial = study({"a": [start(0), start(1)], "b": [start(2)]})
    ends = novel_views.endings(trial)
    assert set(ends) == {(name, *how) for name in "ab" for how in trial.tried()}
    assert ends["a", "SGD", 0.3].shape == (2,)
    choice = Choice("SGD", 1.0, trial.cap, at_edge=False, value=0.0)
    told = trial.at("b", choice)["psnr"].mean()
    assert ends["b", "SGD", 1.0] == pytest.approx(told, abs=1e-3)


@pytest.mark.slow
def test_a_spot_check_is_the_beginning_of_a_course():
    trial = study({"a": [start(0)], "b": [start(2)]})
    choice = Choice("SGD", 0.3, 8, at_edge=False, value=0.0)
    course = trial.course("b", choice)["psnr"]
    found = protocol.spot_check(trial)["psnr"]
    np.testing.assert_allclose(found, course[:1, 1], atol=1e-3)


def test_scores_under_other_names():
    scores = Scores([Row("usual (relu)", 0, 0, "psnr", 1.0), Row("mv", 0, 0, "psnr", 2.0)])
    names = {"usual (relu)": "usual", "mv": "all views"}
    assert novel_views.renamed(scores, names).inits() == ["usual", "all views"]


def test_all_white_is_worth_what_the_pictures_lack():
    tasks = objects(2)
    gray = jnp.full_like(tasks.each.query.pictures, 204)  # 0.8
    split = tasks.each._replace(query=tasks.each.query._replace(pictures=gray))
    psnr = novel_views.white_psnr(tasks._replace(each=split))
    np.testing.assert_allclose(psnr, -10 * np.log10(0.2**2), rtol=1e-5)
    assert psnr.shape == (2,)


def test_the_opposite_view_is_half_a_turn_away():
    assert novel_views.opposite(objects(1).take(0).each) == 1  # azimuths 0.8, 3.0 and 4.5 of 0


def test_the_lowest_opaque_pixel():
    opacity = np.zeros((5, 4))
    opacity[1, 2], opacity[3, 1], opacity[3, 3], opacity[4, 0] = 0.9, 0.6, 0.8, 0.3
    assert novel_views.lowest(opacity) == (3, 3)


def test_every_published_value_has_a_source():
    for name, row in novel_views.PUBLISHED.items():
        for kind, value in row.items():
            told = novel_views.published(name, kind)
            assert told["paper"] == value
            assert "Table 4" in told["source"]
