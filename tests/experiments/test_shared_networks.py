"""Networks that many signals share: what they decode, and that they are learned as they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learnit_utils import evaluate, fields, inner, outer, tasks
from learnit_utils.evaluate import ADAM
from learnit_utils.experiments import shared_losses, shared_networks
from learnit_utils.experiments.shared_losses import looked_at, seen_tasks, with_prior
from learnit_utils.experiments.shared_networks import Parts, build
from learnit_utils.fields import Layer
from learnit_utils.forward import pixels

SIDE = 16
SPECS = {
    "codes": dict(kind="codes", width=12, depth=4, code=5),
    "modulations": dict(kind="codes", width=12, depth=4, code=5, layers=3, scale=3.0),
    "encoder": dict(kind="encoder", width=12, depth=3, code=4, side=SIDE),
    "hypernetwork": dict(kind="hypernetwork", width=8, depth=3, code=4, side=SIDE),
    "low_rank": dict(kind="hypernetwork", width=8, depth=3, code=4, side=SIDE, rank=2),
    "heads": dict(kind="heads", width=12, depth=3),
    "weights": dict(kind="weights", width=12, depth=3),
}
LEFT = np.tile(np.arange(SIDE) < SIDE // 2, SIDE)


def pictures(count, seed=0):
    u = np.random.default_rng(seed).random((count, SIDE * SIDE, 1))
    return u.astype(np.float32)


def example(mask=None, count=3, **how):
    x = pixels.grid(SIDE).reshape(-1, 2)
    return seen_tasks(pictures(count), x, pictures(1, 9)[0], mask, **how)


def drawn(name, seed=0):
    network = build(**SPECS[name])
    keys = jax.random.split(jax.random.key(seed), 3)
    shared = network.init(keys[0])
    own = network.start(shared, keys[1])
    noise = jax.random.split(keys[2], len(jax.tree.leaves(own)))
    noise = jax.tree.unflatten(jax.tree.structure(own), list(noise))
    own = jax.tree.map(lambda a, k: a + 0.1 * jax.random.normal(k, a.shape), own, noise)
    return network, Parts(shared, own)


# --- what they decode -----------------------------------------------------------------------------
def test_a_code_concatenated_to_the_input_is_a_shift_of_the_first_biases():
    network, parts = drawn("codes")
    net, (v,), _ = parts.shared
    x = pixels.grid(SIDE).reshape(-1, 2)
    wide = fields.siren(width=12, depth=4, channels=1, dims=2 + 5)
    stacked = [Layer(jnp.concatenate([net[0].w, v]), net[0].b), *net[1:]]
    with_code = jnp.concatenate([x, jnp.tile(parts.own, (len(x), 1))], axis=1)
    expected = wide.apply(stacked, with_code)
    found = network.decode(parts.shared, parts.own, x, None)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_hypernetwork_draws_the_field_of_the_weights_it_writes():
    network, parts = drawn("hypernetwork")
    task = example().take(0)
    shared = parts.shared
    _, read = shared_networks._encoder(SIDE, 4, 1)
    z = read(shared["encoder"], task.each.values)
    theta = [
        Layer(
            base.w + jnp.einsum("c,cnm->nm", z, head.w) + own.w,
            base.b + jnp.einsum("c,cm->m", z, head.b) + own.b,
        )
        for base, head, own in zip(shared["base"], shared["heads"], parts.own)
    ]
    plain = fields.siren(width=8, depth=3, channels=1)
    found = network.decode(shared, parts.own, task.shared.x, task.each.values)
    np.testing.assert_allclose(found, plain(theta, task.shared.x), atol=1e-5)


def test_a_low_rank_head_is_a_whole_head_of_products():
    _, parts = drawn("low_rank")
    z = jnp.arange(4.0)
    heads = parts.shared["heads"]
    written = shared_networks.written(parts.shared["base"], heads, z)
    for layer, base, head in zip(written, parts.shared["base"], heads):
        u, v = (np.tensordot(z, a, 1) for a in (head.u, head.v))
        np.testing.assert_allclose(layer.w, base.w + u @ v, atol=1e-6)
        assert np.linalg.matrix_rank(np.asarray(layer.w - base.w), tol=1e-6) <= 2


def test_three_units_by_hand():
    """Two coordinates, three units, one value: 13 weights, so 13 numbers per entry of the code."""
    network = build(kind="hypernetwork", width=3, depth=2, code=2, side=SIDE)
    shared = jax.eval_shape(network.init, jax.random.key(0))
    assert fields.count(shared["base"]) == (2 * 3 + 3) + (3 * 1 + 1) == 13
    assert fields.count(shared["heads"]) == 2 * 13


@pytest.mark.parametrize("name", SPECS)
def test_the_start_of_an_own_part_says_nothing_of_the_signal(name):
    network, _ = drawn(name)
    shared = network.init(jax.random.key(1))
    own = network.start(shared, jax.random.key(2))
    task = example().take(0)
    values = network.decode(shared, own, task.shared.x, looked_at(task))
    assert values.shape == (SIDE * SIDE, 1)
    assert np.isfinite(values).all()
    assert network.spec == build(**network.spec).spec


def test_a_step_of_length_one_moves_a_code_by_the_square_of_its_scale():
    network, parts = drawn("modulations")
    task = example().take(0)
    loss = shared_losses.fitting(network)

    def of_code(z):
        shared = parts.shared._replace(log_scale=jnp.zeros(5))
        return loss(Parts(shared, z), task, jax.random.key(0))

    scale = jnp.exp(parts.shared.log_scale)
    gradient = jax.grad(of_code)(scale * parts.own)
    own, _ = shared_losses.own_steps(network, 1)(parts, task, jax.random.key(0))
    np.testing.assert_allclose(
        scale * own.own, scale * parts.own - scale**2 * gradient, rtol=1e-4, atol=1e-6
    )


# --- fits -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SPECS)
def test_a_fit_leaves_the_shared_part_as_it_is_and_lowers_the_loss(name):
    network, parts = drawn(name)
    loss, task = shared_losses.fitting(network), example().take(1)
    key = jax.random.key(0)
    end = evaluate.fit(loss, parts, task, ADAM, 5, lr=1e-3)
    for a, b in zip(jax.tree.leaves(end.shared), jax.tree.leaves(parts.shared)):
        np.testing.assert_array_equal(a, b)
    assert loss(end, task, key) < loss(parts, task, key)


def test_a_code_fitted_with_a_frozen_network_is_a_fit_of_the_code_alone():
    """An auto-decoder at test time: the same steps as on a field whose only weights are z."""
    network, parts = drawn("codes")
    task = example().take(0)

    def alone(z, task, key):
        values = network.decode(parts.shared, z, task.shared.x, None)
        return ((values - task.each.values) ** 2).mean()

    both = evaluate.fit(shared_losses.fitting(network), parts, task, ADAM, 20, lr=0.05)
    z = evaluate.fit(alone, parts.own, task, ADAM, 20, lr=0.05)
    np.testing.assert_allclose(both.own, z, atol=1e-4)


@pytest.mark.parametrize("name", SPECS)
def test_no_fit_sees_what_the_mask_hides(name):
    network, parts = drawn(name)
    task = example(LEFT, prior=0.1).take(0)
    hidden = jnp.where(task.each.mask > 0, task.each.values, 0.123)
    other = task._replace(each=task.each._replace(values=hidden))
    loss = shared_losses.fitting(network)
    a, b = (jax.value_and_grad(loss)(parts, t, jax.random.key(0)) for t in (task, other))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(x, y)


def test_what_judges_a_half_is_the_other_half():
    network, parts = drawn("weights")
    half, whole = (example(LEFT, unseen=u).take(0) for u in (True, False))
    field = fields.siren(width=12, depth=3, channels=1)
    theta = jax.tree.map(jnp.add, parts.shared, parts.own)
    squared = np.asarray((field(theta, half.shared.x) - half.each.values) ** 2)
    judge, key = shared_losses.judging(network), jax.random.key(0)
    np.testing.assert_allclose(judge(parts, half, key), squared[~LEFT].mean(), rtol=1e-5)
    np.testing.assert_allclose(judge(parts, whole, key), squared.mean(), rtol=1e-5)


def test_the_prior_counts_as_much_as_the_points_say():
    network, parts = drawn("codes")
    loss, key = shared_losses.fitting(network), jax.random.key(0)
    for mask, points in ((None, SIDE * SIDE), (LEFT, SIDE * SIDE // 2)):
        without = example(mask).take(0)
        gap = loss(parts, with_prior(without, 0.7), key) - loss(parts, without, key)
        np.testing.assert_allclose(gap, 0.7 * (parts.own**2).sum() / points, rtol=1e-2)


# --- learning -------------------------------------------------------------------------------------
@pytest.mark.parametrize("rated", [False, True])
def test_all_weights_learned_through_their_steps_are_maml(rated):
    """The functions of chapter 3 on the field itself give the same direction."""
    field = fields.siren(width=12, depth=3, channels=1)
    network, theta = build(**SPECS["weights"]), field.init(jax.random.key(3))
    own = jax.tree.map(jnp.zeros_like, theta)
    parts, init = Parts(theta, own), theta
    loss = tasks.regression(field)
    adapt = inner.sgd(loss, 2, 0.03)
    if rated:
        parts = Parts(theta, inner.with_step_sizes(own, 2, 0.03, "parameter_step"))
        init = inner.with_step_sizes(theta, 2, 0.03, "parameter_step")
        adapt = inner.meta_sgd(loss, 2)
    these = example()
    plain = pixels.image_tasks(np.asarray(these.each.values).reshape(3, SIDE, SIDE, 1))
    keys = jax.random.split(jax.random.key(0), 3)
    losses, direction = shared_losses.bilevel(network, 2, 0.03)(parts, these, keys)
    expected, towards = outer.maml(loss, adapt)(init, plain, jax.random.clone(keys))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    found = [direction.shared, *([direction.own.step_sizes] if rated else [])]
    wanted = [towards.theta, towards.step_sizes] if rated else [towards]
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(a, b, atol=1e-5 * (1 + np.abs(b).max()))
    start = direction.own.theta if rated else direction.own
    assert all(not leaf.any() for leaf in jax.tree.leaves(start))  # the start is not learned


def test_every_block_is_seen_once():
    for seed, (side, block) in enumerate([(16, 2), (16, 4), (12, 3), (8, 1)]):
        index = np.asarray(shared_losses.stratified(jax.random.key(seed), side, block))
        blocks = (index // side // block) * (side // block) + index % side // block
        assert sorted(blocks.tolist()) == list(range((side // block) ** 2))
    with pytest.raises(ValueError, match="block = 5: expected a divisor of the side, 16"):
        shared_losses.stratified(jax.random.key(0), 16, 5)


def test_an_augmented_picture_is_the_picture_mirrored_or_moved():
    """With its contrast taken out, some row of one is a piece of the same row, perhaps reversed."""
    ramp = np.tile(np.linspace(0.3, 0.7, SIDE), (SIDE, 1)).astype(np.float32)
    seen = set()
    for seed in range(20):
        u = shared_losses.augmented(jax.random.key(seed), jnp.asarray(ramp.reshape(-1, 1)), SIDE)
        inside = np.diff(np.asarray(u).reshape(SIDE, SIDE)[8])[4:-4]
        contrast = np.abs(inside) / (0.4 / (SIDE - 1))
        np.testing.assert_allclose(contrast, contrast[0], atol=1e-3)
        assert 0.9 <= contrast[0] <= 1.1
        seen.add(bool(inside[0] > 0))
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (dict(kind="magic"), "kind = 'magic': expected one of codes, encoder"),
        (dict(kind="codes", width=8, depth=3, code=4, layers=3), "layers = 3: expected 1 to 2"),
        (dict(kind="codes", width=8, depth=3, code=0), "code = 0, scale = 1.0: expected"),
        (dict(kind="codes", width=8, depth=3), "codes: .*code"),
        (dict(kind="hypernetwork", width=8, depth=3, code=4, side=16, rank=0), "rank = 0"),
    ],
)
def test_bad_settings_are_refused_in_one_line(spec, message):
    with pytest.raises(ValueError, match=message) as e:
        build(**spec)
    assert "\n" not in str(e.value)
