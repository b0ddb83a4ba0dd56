"""Signed distances of solids: what is drawn, what a surface is, and laws of distances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import fields, tasks
from learnit_utils.forward import signed_distance

REACH = 0.1


def ball(size, radius=0.3, middle=(0.5, 0.5, 0.5), align="centre"):
    """1/2 plus the distance to a ball in sides of the cube: (size, size, size)."""
    x = np.asarray(signed_distance.grid(size, align=align), np.float64)
    return 0.5 + np.linalg.norm(x - middle, axis=-1) - radius


def some_tasks(count=2, size=8):
    values = [
        np.stack([ball(size, 0.2 + 0.05 * i, align=a) for i in range(count)])[..., None]
        for a in ("centre", "corner")
    ]
    return signed_distance.solid_tasks(*(v.astype(np.float32) for v in values))


# --- points ------------------------------------------------------------------------------------
def test_the_two_lattices_lie_between_one_another():
    centres, corners = (np.asarray(signed_distance.grid(4, align=a)) for a in ("centre", "corner"))
    np.testing.assert_allclose(centres - corners, 1 / 8)
    np.testing.assert_allclose(centres[1, 2, 3], [3 / 8, 5 / 8, 7 / 8])
    with pytest.raises(ValueError, match="align = 'left': expected a size >= 1, aligned by"):
        signed_distance.grid(4, align="left")


def test_tasks_hold_values_where_their_positions_are():
    data = some_tasks(size=6)
    for values, x in (
        (data.each.support.values, data.shared.support),
        (data.each.query, data.shared.query),
    ):
        for i, radius in enumerate((0.2, 0.25)):
            expected = 0.5 + np.linalg.norm(np.asarray(x) - 0.5, axis=-1) - radius
            np.testing.assert_allclose(values[i, :, 0], expected, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_no_other_point_is_nearer_to_the_surface(seed, count):
    values = np.random.default_rng(seed).uniform(size=(2, 60, 1))
    near = signed_distance.nearest(values, count)
    assert near.shape == (2, count)
    for row, chosen in zip(np.abs(values[..., 0] - 0.5), near):
        others = np.delete(row, chosen)
        assert len(set(chosen.tolist())) == count
        assert not len(others) or row[chosen].max() <= others.min()


def test_what_is_drawn_has_the_whole_as_its_expectation():
    """Half of the points from all, half from those near the surface: so is the mean loss."""
    field = fields.build(kind="siren", width=8, depth=2, omega0=5.0, channels=1, dims=3)
    theta, task = field.init(jax.random.key(0)), some_tasks().take(1)
    squared = np.asarray(field(theta, task.shared.support) - task.each.support.values)[:, 0] ** 2
    near = np.asarray(task.each.support.near)
    expected = (squared.mean() + squared[near].mean()) / 2
    loss = tasks.regression(field, signed_distance.random_points(64))
    keys = jax.random.split(jax.random.key(1), 4000)
    found = np.asarray(jax.jit(jax.vmap(lambda key: loss(theta, task, key)))(keys))
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(keys))
    assert found.std() > 0
    assert abs(squared.mean() - expected) > 8 * found.std() / np.sqrt(len(keys))  # it can fail


def test_a_key_decides_what_is_drawn_and_what_is_held_out_is_not_drawn():
    task = some_tasks().take(0)
    forward = signed_distance.random_points(20)

    def positions(x):
        return x

    one, same, other = (forward(positions, task, jax.random.key(k))[0] for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (np.asarray(one) != np.asarray(other)).any()
    support = {tuple(x) for x in np.asarray(task.shared.support).tolist()}
    assert {tuple(x) for x in np.asarray(one).tolist()} <= support
    predicted, observed = forward(
        lambda x: jnp.linalg.norm(x - 0.5, axis=-1), task, jax.random.key(2)
    )
    np.testing.assert_allclose(observed[:, 0], 0.5 + predicted - 0.2, atol=1e-6)


def test_bad_counts_and_arrays_are_told():
    with pytest.raises(ValueError, match="count = 1: expected at least 2 points"):
        signed_distance.random_points(1)
    for a, b in ((np.zeros((2, 4, 4, 4)),) * 2, (np.zeros((2, 4, 4, 5, 1)),) * 2):
        with pytest.raises(ValueError, match=r"solids of shape .*expected \(count, n, n, n, 1\)"):
            signed_distance.solid_tasks(a, b)
    with pytest.raises(ValueError, match="solids of shape"):
        signed_distance.solid_tasks(np.zeros((2, 4, 4, 4, 1)), np.zeros((3, 4, 4, 4, 1)))


# --- surfaces ----------------------------------------------------------------------------------
@settings(deadline=None, max_examples=15)
@given(st.floats(0.15, 0.4), st.floats(0.45, 0.55), st.integers(24, 40))
def test_the_surface_of_a_balls_distance_has_its_area_and_its_volume(radius, middle, size):
    mesh = signed_distance.surface(ball(size, radius, (middle, 0.5, 0.5)))
    q = 1 / (size * radius) ** 2  # flat triangles on a curved surface lie below it
    np.testing.assert_allclose(mesh.areas.sum(), 4 * np.pi * radius**2, rtol=0.4 * q)
    np.testing.assert_allclose(mesh.volume, 4 / 3 * np.pi * radius**3, rtol=0.7 * q)
    away = np.linalg.norm(mesh.vertices - [middle, 0.5, 0.5], axis=-1)
    np.testing.assert_allclose(away, radius, atol=0.15 / size**2 / radius)


def test_the_surface_of_a_box_is_the_box():
    x = np.asarray(signed_distance.grid(32), np.float64)
    beyond = np.abs(x - 0.5) - [0.2, 0.3, 0.1]
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=-1)
    mesh = signed_distance.surface(0.5 + outside + np.minimum(beyond.max(axis=-1), 0))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    np.testing.assert_allclose((low, high), ([0.3, 0.2, 0.4], [0.7, 0.8, 0.6]), atol=1e-6)
    np.testing.assert_allclose(mesh.volume, 0.4 * 0.6 * 0.2, rtol=0.03)


def test_values_beyond_no_level_have_no_surface():
    for values in (np.zeros((4, 4, 4)), np.ones((4, 4, 4))):
        mesh = signed_distance.surface(values)
        assert len(mesh.vertices) == len(mesh.faces) == mesh.volume == mesh.areas.sum() == 0
    with pytest.raises(ValueError, match="are not finite"):
        signed_distance.surface(np.full((4, 4, 4), np.nan))
    with pytest.raises(ValueError, match=r"expected \(n, n, n\)"):
        signed_distance.surface(np.zeros((4, 4, 5)))


def test_a_field_is_drawn_where_its_grid_lies():
    field = fields.build(kind="siren", width=4, depth=1, omega0=1.0, channels=1, dims=3)
    theta = field.init(jax.random.key(0))
    values = signed_distance.cube(field, theta, 5)
    x = signed_distance.grid(5)[1, 2, 4]
    np.testing.assert_allclose(values[1, 2, 4], field(theta, x[None])[0, 0], atol=1e-6)
