"""Every forward model by name: its tasks, a loss to descend, a problem of test time."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from learnit_utils import evaluate, forward, tasks
from learnit_utils.experiments.recipe import Recipe, functions
from learnit_utils.forward import photometric, tomography

VOLUME = dict(kind="posenc", width=8, depth=2, frequencies=2, channels=4, dims=3, head="linear")
PLANE = dict(kind="siren", width=8, depth=2, omega0=10.0, channels=1)
SMALL = dict(size=16, views=3, rays=6, samples=4, inner_steps=2, inner_lr=0.1, limit=2)
RECIPES = {
    "pixels": Recipe(signals="faces", field=PLANE, **SMALL),
    "waveform": Recipe(signals="voices", forward="waveform", field=PLANE | dict(dims=1), **SMALL),
    "tomography": Recipe(signals="phantoms", forward="tomography", field=PLANE, **SMALL),
    "object_views": Recipe(
        signals="objects", gray=False, forward="object_views", field=VOLUME, **SMALL
    ),
    "photographs": Recipe(
        signals="landmarks", gray=False, forward="photographs", field=VOLUME, **SMALL
    ),
    "signed_distance": Recipe(
        signals="solids", forward="signed_distance", field=PLANE | dict(dims=3), **SMALL
    ),
}

PLAIN = ("pixels", "waveform")  # all is measured, nothing is held out


def load(recipe):
    """The signals of a recipe, two of every split."""
    return lambda split, **more: recipe.load(split, **dict(limit=2) | more)


def test_every_model_is_tried_here():
    assert forward.models().keys() == RECIPES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_model_makes_tasks_and_a_loss_that_can_be_descended(name):
    model, recipe = forward.models()[name], RECIPES[name]
    train = model.tasks(load(recipe), "train")
    assert train.count == 2
    field, loss = functions(recipe)[:2]
    theta = field.init(jax.random.key(0))
    both = jax.jit(jax.value_and_grad(loss))
    value, slope = both(theta, train.take(0), jax.random.key(1))
    assert math.isfinite(value)
    assert value > 0
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(slope))
    assert any(np.abs(g).max() > 0 for g in jax.tree.leaves(slope))
    again, _ = both(theta, train.take(0), jax.random.key(1))
    other, _ = both(theta, train.take(0), jax.random.key(2))
    assert value == again
    assert (value == other) == (name in PLAIN)  # all others draw what they measure
    prediction, observed = jax.eval_shape(
        lambda task: model.forward(recipe)(lambda x: field(theta, x), task, jax.random.key(0)),
        train.take(0),
    )
    assert prediction.shape == observed.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_at_test_time_a_fit_has_its_support_and_is_judged(name, split):
    model, recipe = forward.models()[name], RECIPES[name]
    data = model.tasks(load(recipe), split)
    assert data.count == 2
    field = functions(recipe).field
    problem, theta = model.problem(field, recipe), field.init(jax.random.key(0))
    if name == "tomography":  # trained on pictures; at test time scanned by whoever asks
        data = tomography.scan_tasks(data, 4)
    apart = isinstance(data.each, tasks.Split)
    assert apart == (name not in PLAIN)
    one = data.take(1)
    if apart:  # what is held out does not enter what is descended
        blind = one._replace(each=one.each._replace(query=None))
        value = jax.jit(problem.loss)(theta, blind, jax.random.key(0))
        assert math.isfinite(value)
    error = jax.eval_shape(problem.held_out, theta, one, jax.random.key(0))
    others = dict(validation=2, test=4)[split]
    shapes = dict(object_views=(25,), photographs=(1 + others,))
    assert error.shape == shapes.get(name, ())


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_an_init_is_scored_in_decibel_after_a_fit(name, monkeypatch):
    monkeypatch.setattr(photometric, "OBJECT_STEPS", 2)
    monkeypatch.setattr(photometric, "PHOTOGRAPH_STEPS", 2)
    model, recipe = forward.models()[name], RECIPES[name]
    learned = functions(recipe)
    data = model.tasks(load(recipe), "validation")
    theta = learned.field.init(jax.random.key(0))
    score = model.score(learned, recipe, theta, data)
    assert 0 < score < 40
    assert score == model.score(learned, recipe, theta, data)
    still = dataclasses.replace(recipe, inner_lr=0.0)
    if name in ("tomography", "object_views"):
        assert score > model.score(learned, still, theta, data)


def test_tasks_of_a_scan_draw_once_and_those_of_cameras_every_step():
    known = forward.models()
    assert not known["tomography"].resample
    assert known["object_views"].resample
    assert known["photographs"].resample
    for name in ("object_views", "photographs"):
        problem = known[name].problem(functions(RECIPES[name]).field, RECIPES[name])
        assert isinstance(problem, evaluate.Problem)
        assert problem.resample
