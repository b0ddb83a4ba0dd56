"""Inits of a place and what they have not seen: equal work, fair splits, closed-form scores."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.experiments import places
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.inner import Init

FIELD = fields.build("posenc", width=8, depth=3, frequencies=2, max_log2=1.0, dims=3, channels=4)


@pytest.mark.parametrize("run", places.RUNS)
def test_a_recipe_of_its_own_size_does_not_change(run):
    for place in ("gate", "fountain", "basilica"):
        (name,) = places.recipe_names(place, run)
        recipe = RECIPES[name]
        same = places.resized(name, 64, 0)
        assert same == dict(field=recipe.field, inner_steps=recipe.inner_steps, steps=recipe.steps)


def test_every_run_takes_as_many_gradients_but_the_one_that_is_stopped():
    names = {run: places.recipe_names("gate", run)[0] for run in places.RUNS}
    its = {run: places.resized(name, 8, 4000, width=16) for run, name in names.items()}
    gradients = {run: c["steps"] * c["inner_steps"] for run, c in its.items()}
    assert gradients == dict(one=4000, many=4000, early=300)  # 9600 of 128000
    assert its["many"]["inner_steps"] == 8
    assert its["one"]["inner_steps"] == its["early"]["inner_steps"] == 1
    assert all(c["field"]["width"] == 16 for c in its.values())


def test_only_the_gate_was_learned_twice():
    assert places.recipe_names("gate", "many", 2) == ["gate_reptile64", "gate_reptile64_1"]
    assert RECIPES["gate_reptile64_1"].seed == 1
    assert places.recipe_names("gate", "one", 2) == ["gate_reptile1"]
    assert places.recipe_names("basilica", "many", 2) == ["basilica_reptile64"]


def test_contenders_are_random_networks_and_what_was_trained():
    init = Init(FIELD.init(jax.random.key(5)))
    trained = {"many": [SimpleNamespace(init=init)]}
    found = places.contenders(FIELD, trained, jax.random.key(0), 2)
    assert list(found) == ["scratch", "many"]
    assert found["many"] == [init]
    first, second = (make()[0].w for make in found["scratch"])
    assert np.abs(np.asarray(first) - np.asarray(second)).max() > 0.1
    again = places.contenders(FIELD, trained, jax.random.key(0), 1)["scratch"][0]()
    np.testing.assert_array_equal(again[0].w, first)


def test_what_is_held_out_comes_with_others_in_its_light():
    recipe = RECIPES["gate_reptile64"]
    unseen = places.load(recipe, 2, 3)
    assert (unseen.validation.count, unseen.test.count) == (2, 3)
    names = {split: set(data.names) for split, data in unseen.sources.items()}
    assert not names["validation"] & names["test"]
    support, query = unseen.test.each
    assert query.pose.shape == (3, 4, 4, 4)
    assert not (np.asarray(query.pose) == np.asarray(support.pose)[:, None]).all((-1, -2)).any()
    weather = unseen.known("weather")
    assert len(weather) == 3
    assert weather[unseen.first(weather[-1])] == weather[-1]
    assert unseen.first("hail") == 0
    assert unseen._replace(place="").known("weather") == []


def test_scores_of_known_errors():
    errors = np.full((2, 5, 3), [0.1, 0.01, 0.001])
    found = {name: metric(errors) for name, metric in places.metrics(built=True).items()}
    np.testing.assert_allclose(found["right half"], np.full((2, 5), 10.0))
    np.testing.assert_allclose(found["other views"], np.full((2, 5), 25.0))
    assert list(places.metrics(built=False)) == ["right half"]
