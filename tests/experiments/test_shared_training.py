"""Shared networks as runs: trained, resumed, written, read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils.experiments import shared_training
from learnit_utils.experiments.registry import SHARED
from learnit_utils.experiments.shared_networks import build
from learnit_utils.experiments.shared_training import SharedRecipe
from learnit_utils.experiments.store import StoreError

QUICK = dict(size=16, batch=4, steps=6, warmup=2, limit=12)
RECIPES = {
    "joint": SharedRecipe(
        network=dict(kind="codes", width=8, depth=3, code=3), prior=1e-3, **QUICK
    ),
    "amortised": SharedRecipe(
        network=dict(kind="encoder", width=8, depth=3, code=3, side=16),
        training="amortised",
        **QUICK,
    ),
    "bilevel": SharedRecipe(
        network=dict(kind="codes", width=8, depth=3, code=3, layers=2, scale=4.0),
        training="bilevel",
        **QUICK,
    ),
    "rated": SharedRecipe(
        network=dict(kind="weights", width=8, depth=3),
        training="bilevel",
        step_sizes="parameter_step",
        inner_lr=1e-2,
        inner_steps=2,
        signals="shapes",
        look="near",
        **QUICK,
    ),
    "heads": SharedRecipe(network=dict(kind="heads", width=8, depth=3), **QUICK),
}
HOW = dict(verbose=False, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_run_is_repeated_bit_for_bit_and_goes_on_where_it_was(name, tmp_path):
    recipe = RECIPES[name]
    path = shared_training.execute("one", recipe, tmp_path / "a", every=3, **HOW)
    trained = shared_training.load(path)
    assert trained.recipe == recipe
    assert set(trained.info["scores"]) == {"validation_psnr", "test_psnr"}
    shared_training.execute("one", recipe, tmp_path / "b", every=3, **HOW)
    again = shared_training.load(
        shared_training.execute("one", recipe, tmp_path / "b", tmp_path / "into", every=3, **HOW)
    )
    for a, b in zip(jax.tree.leaves(trained.parts), jax.tree.leaves(again.parts)):
        np.testing.assert_array_equal(a, b)
    assert jax.tree.structure(trained.parts) == jax.tree.structure(again.parts)


def test_codes_that_are_not_in_a_batch_rest():
    recipe = RECIPES["joint"]
    shared = build(**recipe.network)
    parts = shared_training.initial(shared, recipe, 5)
    optimizer = shared_training._optimizer(shared, recipe)
    state = optimizer.init(parts)
    table = jnp.zeros((5, 3)).at[1].set(1.0)
    for now in (table, jnp.zeros((5, 3)).at[3].set(1.0)):
        towards = parts._replace(own=now)
        updates, state = optimizer.update(towards, state, parts)
    assert np.flatnonzero(np.abs(np.asarray(updates.own)).sum(axis=1)).tolist() == [3]


def test_what_is_not_what_its_manifest_says_is_refused(tmp_path):
    recipe = RECIPES["joint"]
    shared = build(**recipe.network)
    parts = shared_training.begun(shared, recipe, shared_training.initial(shared, recipe, 4))
    path = tmp_path / "one.safetensors"
    shared_training.save(path, shared, recipe, parts)
    shared_training.load(path)
    entries = json.loads((tmp_path / "manifest.json").read_text())
    entries["one.safetensors"]["shared"]["code"] = 4
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    with pytest.raises(StoreError, match="expected"):
        shared_training.load(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="bytes, the manifest says"):
        shared_training.load(path)
    with pytest.raises(StoreError, match="shared network 'nothing': shipped are"):
        shared_training.load("nothing")
    bad = parts._replace(own=parts.own.at[0].set(1e9))
    with pytest.raises(StoreError, match="not finite in float16"):
        shared_training.save(tmp_path / "two.safetensors", shared, recipe, bad)
    assert not (tmp_path / "two.safetensors").exists()


@pytest.mark.parametrize("name", SHARED)
def test_shared_parts_have_the_same_size(name):
    """Within a tenth of the plain network of their class."""
    recipe = SHARED[name]
    plain = dict(kind="weights", width=64 if recipe.signals == "shapes" else 128, depth=4)
    counts = []
    for spec in (recipe.network, plain):
        shared = jax.eval_shape(build(**spec).init, jax.random.key(0))
        counts.append(sum(leaf.size for leaf in jax.tree.leaves(shared)))
    assert counts[0] == pytest.approx(counts[1], rel=0.1)
