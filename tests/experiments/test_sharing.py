"""Ways to share on the same tasks: what is chosen, what is stored, what is drawn."""

from functools import partial

import jax
import numpy as np
import pytest

from learnit_utils import evaluate, fields
from learnit_utils.evaluate import ADAM
from learnit_utils.experiments import level_sets, protocol, shared_training, sharing
from learnit_utils.experiments.protocol import Pieces
from learnit_utils.experiments.shared_networks import Parts, build
from learnit_utils.experiments.shared_training import SharedRecipe, TrainedShared
from learnit_utils.experiments.sharing import Method
from learnit_utils.metrics import decibel
from learnit_utils.signals import shapes

SIDE = 16
PLAIN = build(kind="weights", width=8, depth=3)
FIELD = fields.siren(width=8, depth=3, channels=1)
LEFT = np.tile(np.arange(SIDE) < SIDE // 2, SIDE)


def load(split):
    return shapes.load(split, size=SIDE, limit=4)


def trials(mask=None):
    return sharing.pictures_as_trials(load, load("train"), 2, 3, mask, "shapes")


def methods():
    starts = [partial(sharing.random_parts, FIELD, jax.random.key(n)) for n in range(2)]
    return Method(PLAIN, starts, protocol.grid(sgd=[0.01], adam=[1e-3, 1e-2]), (0.0, 1.0))


def test_what_is_reached_is_a_fit_of_the_field_by_the_choice():
    method, given = methods(), trials()
    study = sharing.study(method, given, Pieces(), 4, 2)
    found = sharing.reached(study, [2, 4])
    assert found[4].psnr.shape == (2, 3)
    for step, reach in found.items():
        assert reach.choice.step == step
        best = max(values[step // 2] for values in sharing.curves(study).values())
        assert reach.choice.value == best
    choice = found[4].choice
    optimizer = method.grid[choice.optimizer][0]
    theta = FIELD.init(jax.random.key(1))
    from learnit_utils import tasks
    from learnit_utils.forward import pixels

    usual = pixels.image_tasks(load("test").arrays[:3])
    curve = evaluate.curve(tasks.regression(FIELD), theta, usual, optimizer, 4, lr=choice.lr)
    np.testing.assert_allclose(found[4].psnr[1], decibel(curve[:, -1]), atol=1e-3)


def test_steps_that_nobody_looked_at_are_refused():
    study = sharing.study(methods(), trials(), Pieces(), 4, 2)
    for step in (3, 6, -2):
        with pytest.raises(ValueError, match=f"step = {step}: expected a multiple of 2 up to 4"):
            sharing.choice_at(study, step)


def test_the_prior_is_the_one_that_is_best_on_validation():
    method, given = methods(), trials(LEFT)
    found = sharing.best_prior(method, given, Pieces(), 4, 2)
    assert set(found.tried) == {0.0, 1.0}
    assert found.tried[found.best.prior] == found.best.choice.value == max(found.tried.values())
    study = sharing.study(method, given.with_prior(found.best.prior), Pieces(), 4, 2)
    again = study.at(sharing.name_in(study), found.best.choice, 1)["psnr"]
    np.testing.assert_allclose(found.best.psnr[1], again)
    assert sharing.name_in(study) == f"method: parts of shapes, prior {found.best.prior:g}"


def test_an_overwhelming_prior_leaves_the_initialization_as_it_is():
    method, given = methods(), trials().with_prior(1e9)
    parts = method.seeds[0]()
    loss = shared_training.problem(PLAIN).loss
    end = evaluate.fit(loss, parts, given.test.take(0), ADAM, 50, lr=1e-4)
    assert max(float(abs(leaf).max()) for leaf in jax.tree.leaves(end.own)) < 1e-3


def test_rounding_to_8_bits_keeps_extremes_and_is_off_by_half_a_level():
    a = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    own = dict(a=a, b=np.full(3, 0.7, np.float32))
    rounded = sharing.quantised(own)
    step = (a.max() - a.min()) / 255
    assert np.abs(rounded["a"] - a).max() <= step / 2 * 1.001
    ends = [rounded["a"].max(), rounded["a"].min()]
    np.testing.assert_allclose(ends, [a.max(), a.min()], rtol=1e-6)
    assert len(np.unique(np.round((np.asarray(rounded["a"]) - a.min()) / step))) <= 256
    np.testing.assert_array_equal(rounded["b"], own["b"])


def test_shared_layers_become_an_initialization_with_a_last_layer_drawn_anew():
    network = build(kind="heads", width=8, depth=3)
    shared = network.init(jax.random.key(4))
    trained = TrainedShared(network, Parts(shared, None), SharedRecipe(seed=7), {})
    make = partial(sharing.itself, trained)
    parts = sharing.trained_parts(make)
    for a, b in zip(jax.tree.leaves(parts.shared[:-1]), jax.tree.leaves(shared)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(parts.shared[-1].w, FIELD.init(jax.random.key(7))[-1].w)
    (method,) = sharing.methods_of(
        {"one": [make]}, (protocol.grid(adam=[1e-3]), [2.0]), ({}, [])
    ).values()
    assert method.priors == (0.0, 2.0)
    assert method.network.spec == PLAIN.spec
    assert sharing.sizes({"one": method})["one"] == (fields.count(parts.shared),) * 2


def test_a_recipe_of_another_size():
    recipe = SharedRecipe(network=dict(kind="encoder", width=84, depth=4, code=64, side=64))
    changes = sharing.resized(recipe, 16, 64, 0.01)
    assert changes == dict(size=16, network=dict(width=42, side=16), steps=20)


def test_curves_are_given_near_themselves_or_everywhere():
    near, everywhere = (level_sets.trials(load, 2, 3, near=n) for n in (True, False))
    values, mask = np.asarray(near.test.each.values), np.asarray(near.test.each.mask)
    np.testing.assert_array_equal(mask > 0, np.abs(values - 0.5) < shared_training.NEAR)
    assert np.asarray(everywhere.test.each.mask).all()
    assert np.asarray(near.test.each.judged).all()
