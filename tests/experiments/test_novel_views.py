"""Novel views: pictures, derived inits, and fits that are those of the table."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.experiments import novel_views
from learnit_utils.experiments.content import digest
from learnit_utils.experiments.novel_views import Studio
from learnit_utils.experiments.protocol import Choice, Contender, Study, grid
from learnit_utils.forward import cameras, photometric, rendering
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


def study(inits):
    problem = photometric.object_problem(FIELD, 16, 6, "softplus", 2)
    steps = grid(sgd=[0.3, 1.0], adam=[1e-2])
    return Study("small", problem, inits, steps, objects(2, 1), objects(3, 2), 8, 4)


def start(seed=0):
    return FIELD.init(jax.random.key(seed))


# --- pictures ---------------------------------------------------------------------------------
def test_a_picture_is_the_rendering_of_its_rays():
    studio = Studio(FIELD, CAMERA, 8, 6)
    rays = photometric.object_rays(POSES[1], CAMERA, (8, 8))
    whole = rendering.render(FIELD, start(), rays, rendering.Sampling(5, "relu"))
    seen = studio.picture(start(), POSES[1], "relu", 5)
    np.testing.assert_allclose(seen.colour, whole.colour, atol=1e-5)
    np.testing.assert_allclose(seen.depth, whole.depth, rtol=1e-5)


def test_the_colours_are_resampled_and_the_depth_is_not():
    seen = Studio(FIELD, CAMERA, 8, 6, shown=4).picture(start(), POSES[0], "exp")
    assert seen.colour.shape == (4, 4, 3)
    assert seen.depth.shape == (8, 8)


def test_mixtures_begin_and_end_at_the_networks():
    a, b = start(0), start(1)
    jax.tree.map(np.testing.assert_array_equal, novel_views.mixed(a, b, 0.0), a)
    jax.tree.map(np.testing.assert_array_equal, novel_views.mixed(a, b, 1.0), b)
    middle = novel_views.mixed(a, b, 0.5)
    jax.tree.map(lambda m, p, q: np.testing.assert_allclose(2 * m, p + q, atol=1e-6), middle, a, b)


# --- inits ------------------------------------------------------------------------------------
def test_a_matched_init_shows_nearly_the_pictures_with_other_weights():
    studio, key = Studio(FIELD, CAMERA, 8, 8), jax.random.key(7)
    like = jax.tree.map(lambda leaf: 3 * leaf, start(3))

    def apart(theta):
        both = [studio.picture(t, POSES[0], "softplus").colour for t in (theta, like)]
        return float(jnp.mean((both[0] - both[1]) ** 2))

    found = novel_views.matched(studio, key, like, "softplus", POSES, rays=32, steps=300, lr=1e-2)
    again = novel_views.matched(studio, key, like, "softplus", POSES, rays=32, steps=300, lr=1e-2)
    assert apart(found) < 0.2 * apart(FIELD.init(jax.random.clone(key)))
    assert any(np.abs(a.w - b.w).max() > 0.1 for a, b in zip(found, like))
    jax.tree.map(np.testing.assert_array_equal, found, again)


def test_shuffled_keeps_the_entries_of_every_array_and_may_be_called_again():
    key, like = jax.random.key(1), start(2)
    first, second = (novel_views.shuffled(key, like) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(like)):
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))


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


def test_the_best_of_several_variants_stands_for_them():
    problem = photometric.object_problem(FIELD, 16, 6, "relu", 2)
    variants = {"usual (a)": [start(0)], "usual (b)": Contender([start(0)], problem)}
    trial = study(variants | {"other": [start(1)]})
    choice, every = novel_views.best_choices(trial, variants), trial.choose()
    best = max(variants, key=lambda name: every[name].value)
    assert choice == {best: every[best], "other": every["other"]}


# --- fits ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(("optimizer", "lr"), [("SGD", 0.5), ("Adam", 1e-2)])
def test_a_fit_is_the_one_that_the_table_judges(optimizer, lr):
    trial = study({"usual": [start(4)]})
    for step in (0, 4, 5):
        choice = Choice(optimizer, lr, step, at_edge=False, value=0.0)
        told = trial.at("usual", choice)["psnr"]
        for index in range(trial.test.count):
            theta = novel_views.fitted(trial, "usual", choice, trial.test, index)
            errors = trial.problem.held_out(theta, trial.test.take(index), jax.random.key(0))
            psnr = -10 * np.log10(np.asarray(errors)).mean()
            assert psnr == pytest.approx(told[index], abs=1e-3)


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
