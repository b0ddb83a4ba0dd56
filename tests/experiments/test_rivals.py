"""A learned init beside others: what is chosen, counted and kept."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

from learnit_utils import evaluate, fields, inner, tasks
from learnit_utils.evaluate import ADAM, SGD
from learnit_utils.experiments import first_steps, rivals
from learnit_utils.experiments.protocol import Pieces
from learnit_utils.experiments.seeds import drawn
from learnit_utils.forward import pixels
from learnit_utils.metrics import decibel

FIELD = fields.siren(12, 3, 15.0, 1)
LOSS = tasks.regression(FIELD)
IMAGES = pixels.image_tasks(np.random.default_rng(0).random((4, 8, 8, 1)).astype(np.float32))
LRS, STEPS, K = [1e-3, 1e-2], 20, 2
ADAPT = inner.sgd(LOSS, K, 0.05)


@pytest.fixture(scope="module")
def inits():
    """Two seeds of a standard and of another init, and one that has seen the images."""
    keys = jax.random.split(jax.random.key(0), 5)
    seeds = [partial(drawn, FIELD, key) for key in keys]
    ready = evaluate.fit(LOSS, seeds[4](), IMAGES.take(0), optax.adam(1e-2), 10)
    return dict(standard=seeds[:2], other=seeds[2:4], learned=[ready] * 2)


@pytest.fixture(scope="module")
def found(inits):
    ones = [IMAGES.take(slice(i, i + 1)) for i in range(3)]
    return rivals.long_fits(Pieces(), LOSS, ADAPT, inits, ones[0], ones[1:], LRS, STEPS)


@pytest.mark.slow
def test_adams_step_size_is_the_best_at_the_end_on_validation(found, inits):
    task = IMAGES.take(slice(0, 1))
    for lr, psnr in found.tried.items():
        curve = evaluate.curve(LOSS, inits["standard"][0](), task, ADAM, STEPS, lr=lr)[0]
        np.testing.assert_allclose(psnr, decibel(curve), atol=1e-2)
    assert found.lr == max(LRS, key=lambda lr: found.tried[lr][-1])
    assert found.at_edge


@pytest.mark.slow
def test_steps_are_counted_to_what_the_learned_init_reaches(found, inits):
    learned = evaluate.curve(LOSS, inits["learned"][0], IMAGES, SGD, K, lr=0.05)
    np.testing.assert_allclose(found.learned, decibel(learned[0]), atol=1e-2)
    np.testing.assert_allclose(found.goal, decibel(learned[1:3, -1]).mean(), atol=1e-2)
    for lr, psnr in found.tried.items():
        assert found.arrive[lr] == evaluate.steps_to(psnr, found.learned[-1])
    assert found.enough <= STEPS
    assert set(found.reach) == {"standard", "other"}
    for name, count in found.reach.items():
        seeds, ones = inits[name], [IMAGES.take(slice(i, i + 1)) for i in (1, 2)]
        how = (ADAM, found.enough)
        runs = [evaluate.curve(LOSS, s(), t, *how, lr=found.lr)[0] for s, t in zip(seeds, ones)]
        assert count == evaluate.steps_to(decibel(np.array(runs)).mean(axis=0), found.goal)


def test_first_steps_are_means_over_seeds(inits):
    ones = [IMAGES.take(i) for i in range(2)]
    found = rivals.first_steps(Pieces(), FIELD, LOSS, inits, ones, 0.05)
    for name, seeds in inits.items():
        weights = [seed() if callable(seed) else seed for seed in seeds]
        each = [first_steps.first_step(FIELD, LOSS, w, t, 0.05) for w, t in zip(weights, ones)]
        np.testing.assert_allclose(found[name], np.mean(each, axis=0), rtol=1e-4)
    with pytest.raises(ValueError, match="zip"):
        rivals.first_steps(Pieces(), FIELD, LOSS, inits, ones[:1], 0.05)


def test_an_init_matches_its_own_output_best(inits):
    x, (one, two) = IMAGES.shared, inits["standard"]
    match = partial(rivals.output_match, Pieces(), FIELD)
    assert match([one], two(), x) < 40 < match([one], one(), x)
    pair = [match([seed], two(), x) for seed in inits["other"]]
    np.testing.assert_allclose(match(inits["other"], two(), x), np.median(pair))


@pytest.mark.slow
def test_a_step_size_that_diverges_is_not_the_best(inits):
    one = IMAGES.take(slice(0, 1))
    how = (Pieces(), LOSS, ADAPT, inits, one, [one])
    found = rivals.long_fits(*how, [1e30, 1e-2], 3)
    assert not np.isfinite(found.tried[1e30][-1]) or found.tried[1e30][-1] < found.tried[1e-2][-1]
    assert found.lr == 1e-2
    assert not rivals.long_fits(*how, [1e-2], 3).at_edge  # of a single one nobody expects it
