"""Solids compared by their surfaces, and a learned init against a random one on small ones."""

import jax
import numpy as np
import pytest

from learnit_utils.experiments import protocol, solids
from learnit_utils.experiments.recipe import Recipe, functions
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.experiments.store import Trained
from learnit_utils.forward.signed_distance import Surface, surface
from learnit_utils.inner import with_step_sizes
from learnit_utils.signals.base import dataset

SMALL = Recipe(
    signals="solids",
    forward="signed_distance",
    size=8,
    rays=64,
    inner_steps=2,
    step_sizes="parameter_step",
    field=dict(kind="siren", width=8, depth=2, omega0=8.0, channels=1, dims=3),
)


def ball(size, radius, shift=0.0, align=0.5):
    line = (np.arange(size) + align) / size
    x = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1) - [0.5 + shift, 0.5, 0.5]
    return np.clip(0.5 + np.linalg.norm(x, axis=-1) - radius, 0, 1)


def load(self, split, *, size=None, limit=None, part="support", **more):
    """Balls in the place of a recipe's signals."""
    size, align = size or self.size, 0.5 if part == "support" else 0.0
    count = dict(validation=2, test=3)[split] if limit is None else limit
    values = [ball(size, 0.2 + 0.05 * i, align=align).astype(np.float32) for i in range(count)]
    about = dict(source="balls", licence="none", split=split)
    return dataset([v[..., None] for v in values], map(str, range(count)), **about)


@pytest.fixture
def trained(monkeypatch):
    """An init that nobody trained, with the recipe of one that was."""
    monkeypatch.setattr(Recipe, "load", load)
    field = functions(SMALL).field
    init = with_step_sizes(field.init(jax.random.key(1)), 2, 1e-3)
    return Trained(field, init, SMALL, {}, {})


# --- surfaces ----------------------------------------------------------------------------------
def test_points_lie_on_a_mesh_equally_many_per_area():
    triangles = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[2, 0, 0], [5, 0, 0], [2, 1, 0]]])
    mesh = Surface(triangles.reshape(6, 3).astype(float), np.arange(6).reshape(2, 3))
    points = solids.on_surface(mesh, 20000)
    second = points[:, 0] >= 2
    assert second.mean() == pytest.approx(0.75, abs=0.02)
    assert (points[~second][:, :2].sum(axis=1) <= 1 + 1e-12).all()
    np.testing.assert_allclose(points[~second].mean(axis=0), [1 / 3, 1 / 3, 0], atol=0.02)
    np.testing.assert_allclose(points[second].mean(axis=0), [3, 1 / 3, 0], atol=0.03)
    np.testing.assert_array_equal(points, solids.on_surface(mesh, 20000))


def test_balls_are_compared_as_closed_forms_have_it():
    one, other = ball(40, 0.2), ball(40, 0.3)
    same, apart = solids.compared(one, one), solids.compared(one, other)
    assert same == dict(chamfer=0, iou=1)
    assert apart["iou"] == pytest.approx((2 / 3) ** 3, rel=0.03)
    assert apart["chamfer"] == pytest.approx(0.1, rel=0.02)
    moved = solids.compared(ball(40, 0.2, shift=0.01), one)
    assert moved["chamfer"] < 0.01  # nowhere farther than it was moved
    nothing = solids.compared(np.ones((10,) * 3), ball(10, 0.2))
    assert nothing == dict(chamfer=np.inf, iou=0)


# --- a contest ---------------------------------------------------------------------------------
def test_trials_are_what_the_recipe_gives(trained):
    shown = []
    given = solids.trials(trained.trained_by(), 2, 3, lambda data: shown.append(data) or data)
    assert given.validation.count == 2
    assert given.test.count == 3
    assert given.truth.shape == (3, 12, 12, 12)
    assert [d.provenance["split"] for d in shown] == ["validation"] * 2 + ["test"] * 2


@pytest.mark.slow
def test_every_init_is_measured_after_its_steps_and_shown_as_it_was_measured(trained):
    given = solids.trials(trained.trained_by(), 2, 3)
    keys = jax.random.split(jax.random.key(0), 2)
    how = (trained, solids.random_draws(trained.field, keys), given)
    how = (*how, protocol.grid(adam=[1e-3, 1e-2]))
    found = solids.compare(*how, 20, protocol.Pieces())
    assert found.steps == [2, 20]
    assert found.choices["learned", 2] is None
    assert {c.step for c in found.choices.values() if c} == {2, 20}
    for (name, _), measures in found.measures.items():
        assert all(m.shape == (dict(learned=1, random=2)[name], 3) for m in measures.values())
    late, early = (found.measures["random", k]["psnr"].mean() for k in (20, 2))
    assert late > early
    again = solids.compare(*how, 20, protocol.Pieces())
    for pair, measures in found.measures.items():
        for k, values in measures.items():
            np.testing.assert_array_equal(values, again.measures[pair][k])
    seen = solids.examples(*how, found, [0, 2])
    assert list(seen) == ["the chair", *(f"{n}, {k} steps" for n, k in found.choices)]
    for values in seen.values():
        assert [v.shape for v in values] == [(12, 12, 12)] * 2
    mine = solids.compared(seen["random, 20 steps"][0], given.truth[0])
    kept = found.measures["random", 20]["iou"][0, 0]
    assert mine["iou"] == pytest.approx(kept, abs=0.2)


def test_a_lead_is_paired_and_leaves_out_what_has_no_surface():
    values = np.array([[1.0, 2, 3, np.nan]])
    ours = dict.fromkeys(solids.MEASURES, values)
    theirs = dict.fromkeys(solids.MEASURES, np.array([[0.0, 0, 1, 1], [1, 1, 2, 1]]))
    found = solids.Found({}, {("learned", 5): ours, ("random", 5): theirs})
    lead = solids.leads(found, 5)["psnr"]
    assert lead.mean == pytest.approx(np.mean([0.5, 1.5, 1.5]))


def test_a_measure_with_fewer_than_two_solids_has_no_lead():
    some, none = np.ones((1, 3)), np.full((1, 3), np.nan)
    ours, theirs = (dict(psnr=x * some, chamfer=none, iou=x * some) for x in (2.0, 1.0))
    found = solids.Found({}, {("learned", 5): ours, ("random", 5): theirs})
    assert set(solids.leads(found, 5)) == {"psnr", "iou"}
    assert not solids.ahead(solids.leads(found, 5))


def test_a_field_takes_four_bytes_a_weight_and_a_mesh_three_numbers_a_corner(trained):
    mesh = surface(ball(12, 0.3))
    taken = solids.bytes_of(trained.field, ball(12, 0.3))
    assert taken["field"] == 4 * sum(a.size for a in jax.tree.leaves(trained.theta))
    assert taken["mesh"] == 12 * (len(mesh.vertices) + len(mesh.faces))


def test_another_size_changes_nothing_but_size():
    recipe = RECIPES[solids.NAME]
    changed = solids.resized(16, 12, 0.1)
    assert changed["size"] == 16
    assert changed["steps"] == round(0.1 * recipe.steps)
    assert changed["field"] == recipe.field | dict(width=12)
