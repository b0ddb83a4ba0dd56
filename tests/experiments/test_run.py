"""Training runs of recipes: what is written is what was trained, and scores what it says."""

import jax
import numpy as np
import pytest

from learnit_utils import evaluate, fields, train
from learnit_utils.experiments import run, store
from learnit_utils.experiments.recipe import Recipe, functions, with_changes
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel
from learnit_utils.signals.base import DataError

NET = dict(kind="siren", width=8, depth=2, omega0=10.0, channels=1)
TINY = Recipe(size=12, field=NET, steps=6, agreement=False)


def execute(name, recipe, *folders):
    """Without a plan or a bar."""
    return run.execute(name, recipe, *folders, verbose=False, progress=False)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(np.asarray(u), np.asarray(v))


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(dict(agreement=True), marks=pytest.mark.slow),  # three methods are compiled
        dict(method="reptile"),
        dict(step_sizes="parameter_step"),
        dict(context_fraction=0.25, inner_steps=1),
        dict(signals="sdf+text", limit=7),
        dict(precision="float16"),
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_score_in_the_manifest_is_that_of_the_saved_weights(tmp_path, change):
    recipe = with_changes(TINY, **change)
    saved = store.load(execute("tiny", recipe, tmp_path))
    assert saved.field == fields.build(**recipe.field)
    assert saved.trained_by() == recipe
    setup = run.build(recipe)
    for split in ("validation", "test"):
        tasks = getattr(setup.data, split)
        losses = evaluate.trajectory(setup.learned.loss, setup.learned.adapt, saved.init, tasks)
        score = decibel(losses[:, -1]).mean()
        assert score == pytest.approx(saved.info["scores"][f"{split}_psnr"], abs=1e-4)
        assert run.score(setup, recipe, saved.init, tasks) == pytest.approx(score, abs=1e-6)
    if recipe.precision == "float32":
        last, score = saved.history["psnr"][-1], saved.info["scores"]["validation_psnr"]
        assert last == pytest.approx(score, abs=1e-3)
    assert ("cosine_fomaml" in saved.history) == recipe.agreement
    assert saved.info["settings"]["steps"] == 6
    assert saved.info["versions"]["jax"] == jax.__version__


def test_the_plan_is_printed_before_and_how_it_ended_after(tmp_path, capsys):
    run.execute("tiny", with_changes(TINY, steps=2), tmp_path)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("2 outer steps, 3 tasks each, on 1 of ")
    assert all(word in out for word in ("GFLOP", "peak memory", "expected: "))
    assert lines[-1].startswith("2 steps in ")
    assert "psnr" in lines[-1]
    assert "step/s" in err


def test_inits_on_the_way_are_kept_and_shipped(tmp_path):
    recipe, out, into = with_changes(TINY, snapshots=(2, 5)), tmp_path / "a", tmp_path / "b"
    assert store.load(execute("tiny", recipe, out, into)).info["steps"] == 6
    for step in recipe.snapshots:
        shipped = store.load(into / f"snapshots/tiny_{step}.safetensors")
        alone = execute("tiny", with_changes(TINY, steps=step), tmp_path / str(step))
        same(shipped.init, store.load(alone).init)
        assert shipped.info["steps"] == step
        assert shipped.trained_by() == recipe


@pytest.mark.slow
def test_every_recipe_can_be_built():
    for name, recipe in RECIPES.items():
        if recipe.signals == "local":
            continue
        setup = run.build(recipe)
        assert setup.learned.grad.name == recipe.method, name
        assert setup.learned is functions(recipe)
        assert set(setup.provenance) == {"train", "validation", "test"}
        jax.eval_shape(setup.optimizer.init, setup.init)


# --- other forward models ---------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("method", ["reptile", "maml"])
def test_an_init_is_learned_through_a_scanner(tmp_path, method):
    """From line integrals alone, and scored by the pictures."""
    recipe = RECIPES["ct48_maml3"]
    field = {**recipe.field, "width": 16, "features": 8, "sigma": 1.0}
    small = dict(size=12, limit=40, views=8, inner_steps=3, warmup=0)
    recipe = with_changes(recipe, method=method, field=field, **small)
    setup = run.build(recipe)
    before = run.score(setup, recipe, setup.init, setup.data.test)
    w = store.load(execute("ct", with_changes(recipe, steps=200), tmp_path))
    after = w.info["scores"]["test_psnr"]
    assert after > before + 0.5
    assert run.score(setup, recipe, w.init, setup.data.test) == pytest.approx(after, abs=1e-3)
    assert w.trained_by().forward == "tomography"


@pytest.mark.slow
def test_an_init_is_learned_from_photographs(tmp_path):
    """From rays of training objects, and scored by views that were not fitted."""
    net = dict(kind="posenc", width=16, depth=4, frequencies=4, channels=4, dims=3, offset=0.0)
    small = dict(signals="objects", size=16, gray=False, limit=6, forward="object_views", rays=32)
    small |= dict(samples=12, options=dict(variants=False), inner_steps=8, inner_lr=0.5)
    recipe = Recipe(**small, field=net, method="reptile", outer_lr=3e-3, batch=1, steps=60)
    setup = run.build(recipe)
    assert setup.data.train.each.pictures.shape == (6, 25, 16, 16, 3)
    assert setup.data.test.each.support.pictures.shape == (12, 1, 16, 16, 3)
    assert setup.data.test.each.query.pictures.shape == (12, 25, 16, 16, 3)
    before = run.score(setup, recipe, setup.init, setup.data.test)
    w = store.load(execute("chairs", recipe, tmp_path))
    after = w.info["scores"]["test_psnr"]
    assert after > before + 0.5
    assert run.score(setup, recipe, w.init, setup.data.test) == pytest.approx(after, abs=1e-3)
    with pytest.raises(DataError, match="these have colours"):
        run.build(with_changes(recipe, gray=True))


# --- what ships -------------------------------------------------------------------------------
SHIPPED = [name for name in store.names() if name in RECIPES]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_init_is_of_its_recipe(name):
    w = store.load(name)
    assert w.trained_by() == RECIPES[name]
    assert isinstance(w.init, Init)
    assert (w.init.step_sizes is None) == (RECIPES[name].step_sizes is None)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_init_scores_what_its_manifest_says(name):
    w = store.load(name)
    recipe = w.trained_by()
    setup = run.build(recipe)
    recorded = w.info["data"]  # the first init that shipped records two splits, later ones three
    assert {"train", "test"} <= set(recorded)
    for split, said in recorded.items():
        assert setup.provenance[split]["data_sha256"] == said["data_sha256"]
    score = run.score(setup, recipe, w.init, setup.data.validation)
    # A hundred steps on random rays carry rounding, which differs with the number of threads, to
    # some hundredths of a decibel; inits of two seeds differ by tenths.
    close = 0.1 if recipe.forward in ("object_views", "photographs") else 1e-2
    assert score == pytest.approx(w.info["scores"]["validation_psnr"], abs=close)


@pytest.mark.parametrize("kind", ["siren", "relu"])
def test_no_key_draws_weights_and_the_order_of_tasks(kind, monkeypatch):
    """Apart from them, the order would hang together with the weights of the first layer."""
    drawn, positions = set(), np.arange(500)

    def noting(draw):
        def noted(key, *args, **how):
            drawn.add(tuple(np.asarray(jax.random.key_data(key)).tolist()))
            return draw(key, *args, **how)

        return noted

    for name in ("uniform", "normal"):
        monkeypatch.setattr(jax.random, name, noting(getattr(jax.random, name)))
    for seed in range(20):
        key = jax.random.key(seed)
        net = NET if kind == "siren" else dict(kind="relu", width=8, depth=30, channels=1)
        fields.build(**net).init(key)
        of_order, of_tasks = jax.random.split(run.order_key(seed))
        folded = [jax.vmap(lambda i, k=k: jax.random.fold_in(k, i)) for k in (of_order, of_tasks)]
        used = np.concatenate([jax.random.key_data(f(positions)) for f in folded])
        assert drawn
        assert not drawn & {tuple(k) for k in used.tolist()}
        drawn.clear()


def test_a_psnr_is_the_mean_of_tasks_and_not_that_of_the_mean_loss():
    """What a bar shows while it trains is called a loss; what is called a PSNR is one, by task."""
    losses = np.array([[1e-2], [1e-3], [1e-4]])
    history = dict(loss=losses, step=np.array([0, 3]), psnr=np.array([9.0, 20.0]))
    assert run._summary(history)["train_psnr"] == [pytest.approx(30.0)]
    kept = train._History(2)
    kept.losses.append(np.array([[1e-2, 1e-4]]))
    kept.note(1, dict(psnr=30.0))
    assert kept.latest() == "train loss 0.00505, psnr 30.00"
