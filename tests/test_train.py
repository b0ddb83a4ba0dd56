"""Training: resumed = uninterrupted, also after SIGKILL; devices agree; bad losses stop it."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import killed_run
import numpy as np
import optax
import pytest
from PIL import Image

from learnit_utils import (
    assets,
    checkpoint,
    evaluate,
    fields,
    inner,
    outer,
    recipes,
    tasks,
    train,
    weights,
)
from learnit_utils.__main__ import main
from learnit_utils.signals.base import DataError, dataset

TESTS = os.path.dirname(__file__)


def same(a, b):
    """Two pytrees are equal to the last bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(np.asarray(u), np.asarray(v))


def told(history):
    """A history without its clock."""
    return {k: v for k, v in history.items() if k != "seconds"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The run of killed_run.py in one go, and the digest of its state at every save."""
    out = tmp_path_factory.mktemp("whole")
    digests, save = {}, checkpoint.save

    def noted(path, tree, info):
        digests[int(tree["state"].step)] = checkpoint.tree_digest(tree["state"])
        save(path, tree, info)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", noted)
        done = killed_run.run(out)
    return done, digests


# --- which tasks a step sees ------------------------------------------------------------------
def test_every_epoch_visits_every_task_once_in_an_order_of_its_own():
    count, batch = 10, 4
    steps = 3 * count // batch + 1
    index = [train.draw(jnp.uint32(0), jnp.int32(s), count, batch)[0] for s in range(steps)]
    seen = np.concatenate(index)[: 3 * count].reshape(3, count)
    assert all(sorted(epoch) == list(range(count)) for epoch in seen)
    assert len({tuple(epoch) for epoch in seen}) == 3


def test_every_visit_has_a_key_of_its_own():
    keys = [train.draw(jnp.uint32(0), jnp.int32(s), 5, 4)[1] for s in range(6)]
    data = [k.tobytes() for k in np.concatenate([jax.random.key_data(k) for k in keys])]
    assert len(set(data)) == 24


# --- learning ---------------------------------------------------------------------------------
def test_a_run_learns_what_its_tasks_have_in_common():
    """Parabolas with minima around 3: the start moves there, the reported loss falls."""

    def loss(theta, task, key):
        return (theta - task.each) ** 2

    minima = 3 + 0.1 * jax.random.normal(jax.random.key(0), (50,))
    grad = outer.maml(loss, inner.sgd(loss, 2, 0.1))
    done = train.run(
        grad, jnp.float32(0), tasks.Tasks(minima), optax.adam(0.05), 300, batch=5, verbose=False
    )
    assert abs(done.start - minima.mean()) < 0.1
    assert done.history["loss"].shape == (300, 5)
    assert done.history["loss"][-20:].mean() < 0.02 * done.history["loss"][:20].mean()


@pytest.mark.parametrize("options", [dict(dispatch=1), dict(dispatch=17), dict(every=1000)])
def test_how_the_steps_are_cut_changes_no_bit(options, uninterrupted):
    done = killed_run.run(None, **options)
    same(done.start, uninterrupted[0].start)
    np.testing.assert_array_equal(done.history["loss"], uninterrupted[0].history["loss"])


def test_a_visit_sees_the_start_of_a_shorter_run(uninterrupted):
    seen = {}
    done = killed_run.run(None, steps=20, visit=seen.__setitem__, at=(13, 2, 20, 999))
    assert list(seen) == [2, 13, 20]
    for step, start in seen.items():
        same(start, killed_run.run(None, steps=step).start)
    same(seen[20], done.start)


def test_a_run_leaves_the_callers_arrays_alone():
    start, grad, data = killed_run.problem()
    train.run(grad, start, data, optax.sgd(0.1), 3, verbose=False)
    assert all(not leaf.is_deleted() for leaf in jax.tree.leaves(start))


def test_the_plan_comes_before_the_first_step(capsys):
    start, grad, data = killed_run.problem()
    train.run(grad, start, data, optax.sgd(0.1), 2)
    out, err = capsys.readouterr()
    assert out.startswith("2 outer steps of maml, 3 tasks each, on 1 of ")
    assert all(word in out for word in ("GFLOP", "peak memory", "expected"))
    assert "step/s" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(steps=0), "steps = 0: at least 1"),
        (dict(steps=5, batch=0), "batch = 0: at least 1"),
        (dict(steps=5, batch=8), "batch = 8: at most the 7 tasks there are"),
        (dict(steps=5, every=0), "every = 0: at least 1"),
    ],
)
def test_impossible_counts_are_refused(options, message):
    start, grad, data = killed_run.problem()
    with pytest.raises(ValueError, match=message):
        train.run(grad, start, data, optax.sgd(0.1), **options)


def test_schedules_of_the_outer_optimiser():
    def sizes(**options):
        optimizer = train.adam(1.0, 100, **options)
        state, found = optimizer.init(jnp.zeros(1)), []
        for _ in range(101):
            update, state = optimizer.update(jnp.ones(1), state)
            found.append(-float(update[0]))
        return np.array(found)

    np.testing.assert_allclose(sizes(), 1, rtol=1e-4)
    cosine = sizes(decay="cosine", warmup=10)
    np.testing.assert_allclose(cosine[:11], np.arange(11) / 10, atol=1e-4)
    assert (np.diff(cosine[10:]) < 0).all()
    np.testing.assert_allclose(cosine[100], 0.01, atol=1e-3)
    with pytest.raises(ValueError, match="decay = 'step': one of constant, cosine"):
        train.adam(1.0, 10, decay="step")


# --- resuming ---------------------------------------------------------------------------------
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, uninterrupted):
    for steps in (3, 30, 77, killed_run.STEPS):
        done = killed_run.run(tmp_path, steps=steps)
    same(done.start, uninterrupted[0].start)
    np.testing.assert_array_equal(done.history["loss"], uninterrupted[0].history["loss"])
    again = killed_run.run(tmp_path)
    same(again.start, done.start)
    same(told(again.history), told(done.history))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda p: dict(p, seed=9), "seed is 5 there and 9 here"),
        (lambda p: dict(p, batch=2), "batch is 3 there and 2 here"),
        (lambda p: dict(p, optimizer=optax.adam(2e-2)), "program is"),
        (lambda p: dict(p, start=jax.tree.map(lambda a: 2 * a, p["start"])), "start is"),
        (lambda p: dict(p, data=p["data"].take(slice(0, 6))), "data is"),
    ],
)
def test_another_run_is_not_continued(tmp_path, change, names):
    start, grad, data = killed_run.problem()
    settings = dict(start=start, data=data, optimizer=optax.adam(1e-2), batch=3, seed=5)

    def run(p, **options):
        kept = dict(batch=p["batch"], seed=p["seed"], out=tmp_path, verbose=False, **options)
        return train.run(grad, p["start"], p["data"], p["optimizer"], 4, **kept)

    run(settings)
    before = (tmp_path / train.STATE).read_bytes()
    with pytest.raises(train.TrainError, match=names) as error:
        run(change(settings))
    assert "\n" not in str(error.value)
    assert (tmp_path / train.STATE).read_bytes() == before
    run(change(settings), resume=False)
    assert (tmp_path / train.STATE).read_bytes() != before


def test_a_damaged_state_is_refused(tmp_path):
    killed_run.run(tmp_path, steps=4)
    path = tmp_path / train.STATE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(train.TrainError, match=r"damaged.*to begin anew"):
        killed_run.run(tmp_path)


def start_and_kill(out, stage, r):
    """Kill the child at a random moment or inside a save; returns whether it had ended before."""
    command = [sys.executable, os.path.join(TESTS, "killed_run.py"), str(out), stage]
    cache = dict(JAX_COMPILATION_CACHE_DIR=str(out) + "-compiled")  # or most of the time goes there
    cache["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    environment = {**os.environ, **cache, "JAX_PLATFORMS": "cpu"}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    word, left = ("probe", r.randint(1, 8)) if stage == "any" else ("saving", 1)
    for line in child.stdout:
        left -= line.strip() == word
        if not left or line.strip() == "finished":
            break
    if stage == "any":
        time.sleep(r.uniform(0, 0.1))
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    return child.wait() == 0


def test_twenty_kills_change_no_bit(tmp_path, uninterrupted):
    """15 at random moments, 5 inside a save: each leaves a state the uninterrupted run had too."""
    whole, digests = uninterrupted
    r = random.Random(0)
    stages = ["any"] * 15 + ["fsync", "before", "after", "fsync", "before"]
    r.shuffle(stages)
    reached, path = [], tmp_path / train.STATE
    for stage in stages:
        assert not start_and_kill(tmp_path, stage, r), "the run ended before it could be killed"
        if path.exists():
            found, _ = checkpoint.read(path)
            step = int(found["['state'].step"])
            start, _, _ = killed_run.problem()
            optimizer = train.adam(1e-2, killed_run.STEPS, decay="cosine", warmup=5, clip=1.0)
            state = train.State(jnp.zeros((), jnp.int32), start, optimizer.init(start))
            history = dict.fromkeys(("loss", "step", "seconds", "norm"))
            tree, _ = checkpoint.load(path, dict(state=state, history=history))
            assert checkpoint.tree_digest(tree["state"]) == digests[step]
            reached.append(step)
    assert reached == sorted(reached)
    assert len(set(reached)) > 5
    done = killed_run.run(tmp_path)
    same(done.start, whole.start)
    same(told(done.history), told(whole.history))


# --- what is not finite -----------------------------------------------------------------------
def test_a_bad_loss_stops_the_run_at_its_step_and_keeps_the_state_before(tmp_path):
    start, grad, data = killed_run.problem()
    broken = data._replace(each=data.each.at[4].set(jnp.nan))
    orders = [train.draw(jnp.uint32(5), jnp.int32(s), 7, 3)[0] for s in range(5)]
    bad = next(s for s, index in enumerate(orders) if 4 in index)
    optimizer = optax.adam(1e-2)

    def run(data, steps, out):
        return train.run(grad, start, data, optimizer, steps, seed=5, out=out, verbose=False)

    with pytest.raises(train.TrainError, match=f"^outer step {bad + 1}: losses .*nan") as error:
        run(broken, 30, tmp_path)
    assert "\n" not in str(error.value)
    found, _ = checkpoint.read(tmp_path / train.STATE)
    assert int(found["['state'].step"]) == bad
    if bad:
        good = run(data, bad, None)
        np.testing.assert_array_equal(found["['state'].start[0].w"], good.start[0].w)
    else:
        np.testing.assert_array_equal(found["['state'].start[0].w"], start[0].w)
    with pytest.raises(train.TrainError, match=f"outer step {bad + 1}"):
        run(broken, 30, tmp_path)


def test_weights_that_overflow_stop_the_run():
    def loss(theta, task, key):
        return jnp.sum(theta * task.each)

    grad = outer.maml(loss, inner.sgd(loss, 0, 0.1))
    huge = optax.sgd(3e38)
    with pytest.raises(train.TrainError, match=r"outer step 2: losses -3.*not all finite"):
        train.run(grad, jnp.zeros(1), tasks.Tasks(jnp.ones((4, 1))), huge, 9, verbose=False)


# --- devices ----------------------------------------------------------------------------------
SHARDED = """
import sys, jax, numpy as np, optax, killed_run
from learnit_utils import train
start, grad, data = killed_run.problem()
data = data._replace(each=np.concatenate([data.each] * 3))
done = train.run(grad, start, data, train.adam(1e-2, 12, clip=1.0), 12, batch=8)
flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(done.start)])
np.savez(sys.argv[1], flat=flat, loss=done.history["loss"], devices=len(jax.devices()))
"""


def test_one_two_and_eight_devices_agree(tmp_path):
    found = {}
    for count in (1, 2, 8):
        flags = f"--xla_force_host_platform_device_count={count}"
        file = str(tmp_path / f"{count}.npz")
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": TESTS}
        environment["JAX_PLATFORMS"] = "cpu"
        command = [sys.executable, "-c", SHARDED, file]
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert f"8 tasks each, on {count} of {count} x" in run.stdout
        found[count] = np.load(file)
        assert found[count]["devices"] == count
    for count in (2, 8):
        for name in ("flat", "loss"):
            np.testing.assert_allclose(found[count][name], found[1][name], rtol=0, atol=1e-6)


# --- recipes ----------------------------------------------------------------------------------
TINY = recipes.Recipe(
    size=12, field=dict(kind="siren", width=8, depth=3, omega0=10.0, channels=1), steps=6
)


@pytest.mark.parametrize(
    "change",
    [
        {},
        dict(method="reptile"),
        dict(rates="parameter_step"),
        dict(prune=0.25, inner_steps=3),
        dict(signals="sdf+text", limit=7),
    ],
)
def test_the_score_in_the_manifest_is_that_of_the_saved_weights(tmp_path, change):
    recipe = dataclasses.replace(TINY, **change)
    path = recipes.execute("tiny", recipe, tmp_path, verbose=False)
    saved = weights.load(path)
    assert saved.field == fields.build(**recipe.field)
    parts = recipes.build(recipe)
    start = inner.Start(saved.theta, saved.rates) if saved.rates else saved.theta
    for split in ("validation", "test"):
        score = evaluate.psnr_after(parts.loss, parts.adapt, start, getattr(parts.data, split))
        assert score == pytest.approx(saved.info["scores"][f"{split}_psnr"], abs=1e-4)
    assert saved.info["history"]["psnr"][-1] == pytest.approx(
        saved.info["scores"]["validation_psnr"], abs=1e-3
    )
    assert saved.info["settings"]["steps"] == 6
    assert saved.info["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize("name", recipes.SIGNALS)
def test_a_limit_is_for_training_only(name):
    full = dataclasses.replace(TINY, signals=name, gray=name not in ("objects", "landmarks"))
    full = dataclasses.replace(full, size=16)
    few = dataclasses.replace(full, limit=3)
    assert few.load("train").provenance["count"] == 3
    for split in ("validation", "test"):
        assert few.load(split).provenance == full.load(split).provenance


def test_two_classes_are_their_pictures_together():
    both = dataclasses.replace(TINY, signals="sdf+faces").load("test")
    parts = [dataclasses.replace(TINY, signals=s).load("test") for s in ("sdf", "faces")]
    np.testing.assert_array_equal(both.arrays, np.concatenate([d.arrays for d in parts]))
    assert len(set(both.names)) == len(both.arrays)
    assert both.provenance["source"] == " + ".join(d.provenance["source"] for d in parts)


def test_a_folder_goes_to_the_class_that_is_read_from_one(tmp_path, rng):
    for i in range(12):
        u = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(u).save(tmp_path / f"{i}.png")
    recipe = dataclasses.replace(TINY, signals="local+text", folder=str(tmp_path), limit=4)
    d = recipe.load("train")
    assert d.arrays.shape == (8, 12, 12, 1)
    assert d.provenance["source"].startswith(f"folder {tmp_path.name} + random words")
    held = dataclasses.replace(recipe, held_out=1).load("test")
    assert held.provenance["count"] == 1 + 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(signals="cats"),
            "signals = 'cats': one of faces, photos, text, sdf, phantoms, objects, landmarks, ",
        ),
        (dict(signals="faces+cats"), "signals = 'cats': "),
        (dict(signals="local"), "signals = 'local': needs a folder"),
        (dict(signals="text", folder="x"), "folder = 'x': text is not read from one"),
    ],
)
def test_signals_that_are_not_known_are_named(change, message):
    with pytest.raises(DataError, match=message):
        dataclasses.replace(TINY, **change).load("train")


def test_every_recipe_can_be_built():
    for name, recipe in recipes.RECIPES.items():
        if recipe.signals == "local":
            continue
        parts = recipes.build(recipe)
        assert parts.grad.name == recipe.method, name
        jax.eval_shape(parts.optimizer.init, parts.start)


def test_validation_is_the_mean_psnr_after_adaptation(rng):
    field = fields.siren(width=8, depth=3, omega0=10.0, channels=1)
    many = tasks.images(dataset(rng.uniform(size=(5, 6, 6, 1)).astype(np.float32), "abcde"))
    loss = tasks.regression(field)
    adapt, theta = inner.sgd(loss, 2, 0.1), field.init(jax.random.key(0))
    probe = train.validation(outer.maml(loss, adapt), many)(theta)
    assert probe["psnr"] == pytest.approx(evaluate.psnr_after(loss, adapt, theta, many), abs=1e-4)


# --- the command ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "'nothing': one of faces64_maml, "),
        (["faces64_maml", "--steps", "0"], "--steps = 0: at least 1"),
        (["faces64_maml", "--steps", "many"], "invalid int value: 'many'"),
        (
            ["faces64_maml", "--set", "outer_lr"],
            "'outer_lr': NAME=VALUE, with NAME one of signals, ",
        ),
        (["faces64_maml", "--set", "field=1"], "'field=1': NAME=VALUE"),
        (["faces64_maml", "--set", "batch=two"], "batch = 'two': Input should be a valid integer"),
        (["faces64_maml", "--set", "outer_lr=nan"], "outer_lr = 'nan': Input should be a finite"),
        (
            ["faces64_maml", "--set", "method=sgd"],
            "method = 'sgd': Input should be 'maml', 'fomaml'",
        ),
        (["faces64_maml", "--rate", "1"], "unknown argument '--rate'"),
        ([], "the following arguments are required: name"),
    ],
)
def test_the_command_refuses_what_it_cannot_train(arguments, message, capsys):
    assert main(["train", *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("method", ["reptile", "maml"])
def test_a_start_is_learned_through_a_scanner(tmp_path, method):
    """From line integrals alone, and scored by the pictures."""
    recipe = recipes.RECIPES["ct48_maml3"]
    field = {**recipe.field, "width": 16, "features": 8, "sigma": 1.0}
    small = dict(size=12, limit=40, views=8, inner_steps=3, warmup=0)
    recipe = dataclasses.replace(recipe, method=method, field=field, **small)
    p = recipes.build(recipe)
    before = recipes.score(p, recipe, p.start, p.data.test)
    path = recipes.execute("ct", dataclasses.replace(recipe, steps=200), tmp_path, verbose=False)
    w = weights.load(path)
    after = w.info["scores"]["test_psnr"]
    assert after > before + 0.5
    assert recipes.score(p, recipe, w.theta, p.data.test) == pytest.approx(after, abs=1e-3)
    assert recipes.of(w).measure == "views"


def test_a_start_is_learned_from_photographs(tmp_path):
    """From rays of training objects, and scored by views that were not fitted."""
    net = dict(kind="posenc", width=16, depth=4, frequencies=4, channels=4, dims=3, offset=0.0)
    small = dict(signals="objects", size=16, gray=False, limit=6, measure="rays", rays=32)
    small |= dict(samples=12, options=dict(variants=False), inner_steps=8, inner_lr=0.5)
    recipe = recipes.Recipe(**small, field=net, method="reptile", outer_lr=3e-3, batch=1, steps=60)
    p = recipes.build(recipe)
    assert p.data.train.each.pictures.shape == (6, 25, 16, 16, 3)
    assert p.data.test.each.seen.pictures.shape == (12, 1, 16, 16, 3)
    assert p.data.test.each.held_out.pictures.shape == (12, 25, 16, 16, 3)
    before = recipes.score(p, recipe, p.start, p.data.test)
    w = weights.load(recipes.execute("chairs", recipe, tmp_path, verbose=False))
    after = w.info["scores"]["test_psnr"]
    assert after > before + 0.5
    assert recipes.score(p, recipe, w.theta, p.data.test) == pytest.approx(after, abs=1e-3)
    with pytest.raises(DataError, match="these have colours"):
        recipes.build(dataclasses.replace(recipe, gray=True))


def test_the_command_trains_and_continues(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    out, into = str(tmp_path / "runs"), str(tmp_path / "weights")
    assert main(["train", "tiny", "--out", out, "--into", into, "--steps", "3"]) == 0
    path = capsys.readouterr().out.splitlines()[-1]
    assert weights.load(path).info["steps"] == 3
    assert main(["train", "tiny", "--out", out, "--into", into]) == 0
    assert capsys.readouterr().out.startswith("3 outer steps of maml")
    assert weights.load(path).info["steps"] == 6
    state = tmp_path / "runs/tiny" / train.STATE
    state.write_bytes(state.read_bytes()[:-1])
    assert main(["train", "tiny", "--out", out, "--into", into]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("learnit: ")
    assert main(["train", "tiny", "--out", out, "--into", into, "--anew"]) == 0
    assert main(["train", "tiny", "--out", out, "--into", into, "--steps", "2"]) == 1
    assert "holds 6 outer steps, more than the 2 asked for" in capsys.readouterr().err
    other = ["--set", "method=reptile", "--set", "outer_lr=0.001", "--set", "steps=2"]
    assert main(["train", "tiny", "--out", out, "--into", into, *other]) == 1
    assert "belongs to another run: method is" in capsys.readouterr().err
    assert main(["train", "tiny", "--out", out, "--into", into, "--anew", *other]) == 0
    settings = weights.load(path).info["settings"]
    assert (settings["method"], settings["outer_lr"], settings["steps"]) == ("reptile", 1e-3, 2)
    (tmp_path / "file").touch()
    assert main(["train", "tiny", "--out", str(tmp_path / "file")]) == 2


def test_a_start_is_learned_from_a_folder(tmp_path, rng, monkeypatch, capsys):
    """And a folder that cannot be used costs one line."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", dataclasses.replace(TINY, signals="local"))
    for i in range(20):
        u = rng.integers(0, 256, (12, 12 + i, 3), dtype=np.uint8)
        Image.fromarray(u).save(tmp_path / f"{i}.png")
    words = ["train", "tiny", "--out", str(tmp_path / "runs")]
    assert main([*words, "--set", f"folder={tmp_path}"]) == 0
    w = weights.load(capsys.readouterr().out.splitlines()[-1])
    assert sum(w.info["data"][s]["count"] for s in ("train", "validation", "test")) == 20
    assert recipes.of(w).folder == str(tmp_path)
    (tmp_path / "link.png").symlink_to(__file__)
    for told, extra in (("link that leads out", [f"folder={tmp_path}"]), ("needs a folder", [])):
        assert main([*words, *(x for e in extra for x in ("--set", e))]) == 1
        error = capsys.readouterr().err.splitlines()
        assert error[-1].startswith("learnit: ")
        assert told in error[-1]


def test_starts_on_the_way_are_kept_and_shipped(tmp_path):
    recipe, out, into = dataclasses.replace(TINY, keep=(2, 5)), tmp_path / "a", tmp_path / "b"
    path = recipes.execute("tiny", recipe, out, into, verbose=False)
    assert weights.load(path).info["steps"] == 6
    for step in recipe.keep:
        shipped = weights.load(into / f"path/tiny_{step}.safetensors")
        shorter = dataclasses.replace(TINY, steps=step)
        alone = recipes.execute("tiny", shorter, tmp_path / str(step), verbose=False)
        same(shipped.theta, weights.load(alone).theta)
        assert shipped.info["steps"] == step


def test_a_chapter_obtains_weights_from_the_book_a_run_or_a_path(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    monkeypatch.chdir(tmp_path)
    trained = recipes.obtain("train", "tiny", steps=2)
    assert trained.info["steps"] == 2
    (folder,) = (tmp_path / "runs/training").iterdir()
    for choice in (folder, folder / "tiny", folder / "tiny/tiny.safetensors"):
        same(recipes.obtain(str(choice), "tiny").theta, trained.theta)
    with pytest.raises(weights.WeightsError):
        recipes.obtain(str(tmp_path), "tiny")
    with pytest.raises(weights.WeightsError, match="imported weights have no recipe"):
        recipes.of(trained._replace(info={"method": "imported"}))
    with pytest.raises(weights.WeightsError, match="weights 'tiny': shipped are"):
        recipes.obtain("book", "tiny")


def test_a_chapter_obtains_the_starts_on_the_way_too(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "tiny", TINY)
    monkeypatch.chdir(tmp_path)
    trained = recipes.on_the_way("train", "tiny", keep=[2, 3], steps=4)
    assert list(trained) == [2, 3, 4]
    assert [w.info["steps"] for w in trained.values()] == [2, 3, 4]
    (folder,) = (tmp_path / "runs/training").iterdir()
    for choice in (folder, folder / "tiny"):
        again = recipes.on_the_way(str(choice), "tiny")
        assert list(again) == [2, 3, 4]
        same([w.theta for w in again.values()], [w.theta for w in trained.values()])
    same(trained[4].theta, recipes.obtain("train", "tiny", keep=[2, 3], steps=4).theta)


def test_two_processes_do_not_train_in_one_place(tmp_path):
    with (
        assets.locked(tmp_path / train.LOCK),
        pytest.raises(train.TrainError, match="another process is training there"),
    ):
        killed_run.run(tmp_path, steps=2)
    assert killed_run.run(tmp_path, steps=2).history["loss"].shape == (2, 3)


def test_a_probe_may_not_take_the_name_of_the_history():
    start, grad, data = killed_run.problem()
    with pytest.raises(ValueError, match="a probe may not be called loss"):
        train.run(
            grad, start, data, optax.sgd(0.1), 2, probe=lambda s: {"loss": 1.0}, verbose=False
        )


# --- what ships -------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [n for n in weights.names() if n in recipes.RECIPES])
def test_a_shipped_start_scores_what_its_manifest_says(name):
    w = weights.load(name)
    recipe = recipes.of(w)
    assert recipe == recipes.RECIPES[name]
    parts = recipes.build(recipe)
    recorded = w.info["data"]  # the first start that shipped records two splits, later ones three
    assert {"train", "test"} <= set(recorded)
    for split, said in recorded.items():
        assert parts.provenance[split]["data_sha256"] == said["data_sha256"]
    start = w.theta if w.rates is None else inner.Start(w.theta, w.rates)
    score = recipes.score(parts, recipe, start, parts.data.validation)
    # A hundred steps on random rays carry rounding, which differs with the number of threads, to
    # some hundredths of a decibel; starts of two seeds differ by tenths.
    close = 0.1 if recipe.measure in ("rays", "photographs") else 1e-2
    assert score == pytest.approx(w.info["scores"]["validation_psnr"], abs=close)


@pytest.mark.parametrize("name", [n for n, r in recipes.RECIPES.items() if r.keep])
def test_the_starts_on_the_way_ship(name):
    way = recipes.on_the_way("book", name)
    assert list(way) == [*recipes.RECIPES[name].keep, recipes.RECIPES[name].steps]
    for step, w in way.items():
        assert w.info["steps"] == step
        assert recipes.of(w) == recipes.RECIPES[name]
