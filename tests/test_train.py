"""Training: resumed = uninterrupted, also after SIGKILL; devices agree; bad losses stop it."""

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
from hypothesis import given, settings
from hypothesis import strategies as st

from learnit_utils import (
    _epochs,
    _files,
    _programs,
    _state,
    evaluate,
    fields,
    inner,
    outer,
    tasks,
    train,
)
from learnit_utils.forward import pixels
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel
from learnit_utils.train import Monitor

TESTS = os.path.dirname(__file__)
SHORT = 77  # outer steps of most runs here


@pytest.fixture(autouse=True)
def three_steps_per_call(monkeypatch):
    monkeypatch.setattr(train._Loop, "STEPS_PER_CALL", 3)


def same(a, b):
    """Two pytrees are equal to the last bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_array_equal(np.asarray(u), np.asarray(v))


def told(history):
    """A history without its clock."""
    return {k: v for k, v in history.items() if k != "seconds"}


def whole_run(out, steps):
    """The run of killed_run.py in one go, and the digest of its state at every save."""
    digests, save = {}, _state.save

    def noted(path, tree, info):
        digests[int(tree["state"].step)] = _state.tree_digest(tree["state"])
        save(path, tree, info)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_state, "save", noted)
        patch.setattr(train._Loop, "STEPS_PER_CALL", 3)
        return killed_run.run(out, steps=steps), digests


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return whole_run(tmp_path_factory.mktemp("whole"), SHORT)[0]


# --- a run that is compiled in no time --------------------------------------------------------
def parabola(theta, task, key):
    return jnp.sum((theta - task.each) ** 2)


GRAD = outer.maml(parabola, inner.sgd(parabola, 2, 0.1))
INIT, DATA = jnp.linspace(-1.0, 1.0, 3), tasks.Tasks(jnp.arange(21.0).reshape(7, 3))
ADAM = optax.adam(1e-2)


def small(
    steps=4, *, key=5, batch=3, optimizer=ADAM, init=INIT, data=DATA, progress=False, **monitor
):
    """Seven parabolas."""
    how = dict(batch=batch, key=jax.random.key(key), monitor=Monitor(progress=progress, **monitor))
    return train.run(GRAD, init, data, optimizer, steps, **how)


# --- which tasks a step sees ------------------------------------------------------------------
def drawn_anew(key, step, count, batch):
    """What a step sees, by the definition: a permutation for every position."""
    key_order, key_tasks = jax.random.split(key)

    def task(position):
        epoch = jax.random.fold_in(key_order, position // count)
        return jax.random.permutation(epoch, count)[position % count]

    position = step * batch + jnp.arange(batch)
    keys = jax.vmap(lambda p: jax.random.fold_in(key_tasks, p))(position)
    return jax.vmap(task)(position), keys


def seen(count, batch, steps, calls=4, key=0):
    """Indices and keys of all steps, as a run deals them out: so many steps a call."""
    orders = _epochs.Orders(jax.random.key(key), count, batch * calls, None)
    _, key_tasks = jax.random.split(jax.random.key(key))
    for step in range(steps):
        first, drawn = orders.of(step // calls * calls * batch)
        position = step * batch + jnp.arange(batch)
        yield _epochs.dealt(jax.random.clone(key_tasks), position, first, drawn)


def test_every_epoch_visits_every_task_once_in_an_order_of_its_own():
    count, batch = 10, 4
    index = [i for i, _ in seen(count, batch, 3 * count // batch + 1)]
    epochs = np.concatenate(index)[: 3 * count].reshape(3, count)
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_every_visit_has_a_key_of_its_own():
    data = [k.tobytes() for _, keys in seen(5, 4, 6) for k in jax.random.key_data(keys)]
    assert len(set(data)) == 24


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_orders_that_are_kept_are_those_of_the_definition(count, batch, calls):
    """However epochs, batches and calls lie to each other; nothing lies beyond the orders."""
    batch = min(batch, count)
    for step, (index, keys) in enumerate(seen(count, batch, 7, calls, key=3)):
        expected, theirs = drawn_anew(jax.random.key(3), step, count, batch)
        np.testing.assert_array_equal(index, expected)
        np.testing.assert_array_equal(*(jax.random.key_data(k) for k in (keys, theirs)))


def test_an_order_is_drawn_once_an_epoch():
    orders = _epochs.Orders(jax.random.key(0), 1000, 30, None)
    kept = [orders.of(30 * call)[1] for call in range(33)]
    assert all(k is kept[0] for k in kept)
    assert orders.of(1000)[1] is not kept[0]


# --- learning ---------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("of", [lambda theta: theta, Init], ids=["weights", "Init"])
def test_a_run_learns_what_its_tasks_have_in_common(of):
    """Parabolas with minima around 3: the init moves there, the reported loss falls."""
    minima = 3 + 0.1 * jax.random.normal(jax.random.key(0), (50,))
    init = of(jnp.float32(0))
    done = train.run(GRAD, init, tasks.Tasks(minima), optax.adam(0.05), 300, batch=5)
    assert jax.tree.structure(done.init) == jax.tree.structure(init)
    assert abs(Init.of(done.init).theta - minima.mean()) < 0.1
    assert done.history["loss"].shape == (300, 5)
    assert done.history["loss"][-20:].mean() < 0.02 * done.history["loss"][:20].mean()


@pytest.mark.slow
@pytest.mark.parametrize(("per_call", "every"), [(1, 4), (17, 4), (3, 1000)])
def test_how_the_steps_are_cut_changes_no_bit(per_call, every, uninterrupted, monkeypatch):
    monkeypatch.setattr(train._Loop, "STEPS_PER_CALL", per_call)
    done = killed_run.run(None, steps=SHORT, every=every)
    same(done.init, uninterrupted.init)
    np.testing.assert_array_equal(done.history["loss"], uninterrupted.history["loss"])


@pytest.mark.slow
def test_a_callback_sees_the_init_of_a_shorter_run():
    seen = {}
    steps = (13, 2, 20, 999)
    done = killed_run.run(None, steps=20, callback=seen.__setitem__, callback_steps=steps)
    assert list(seen) == [2, 13, 20]
    for step, init in seen.items():
        same(init, killed_run.run(None, steps=step).init)
    same(seen[20], done.init)


def test_a_run_leaves_the_callers_arrays_alone():
    small()
    assert not INIT.is_deleted()
    assert not DATA.each.is_deleted()


def test_without_a_monitor_nothing_is_printed(capfd):
    train.run(GRAD, INIT, DATA, ADAM, 2)
    assert capfd.readouterr() == ("", "")


def test_the_plan_is_announced_once_before_the_first_step(tmp_path, capsys):
    events = []

    def announce(plan):
        losses, direction = jax.eval_shape(plan.step, *plan.arguments)
        events.append(("plan", plan.steps_left, plan.devices, losses.shape))
        assert direction.shape == INIT.shape
        assert plan.compiled.memory_analysis().temp_size_in_bytes > 0

    def run(steps):
        def probe(init):
            events.append("probe")
            return {"x": 0.0}

        small(steps, out=tmp_path, announce=announce, progress=True, probe=probe)

    run(2)
    assert events == [("plan", 2, 1, (3,)), "probe", "probe"]
    assert "step/s" in capsys.readouterr().err
    run(7)
    assert events[3:] == [("plan", 5, 1, (3,)), "probe"]  # what was probed is not again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(steps=0), "steps = 0: expected an integer >= 1"),
        (dict(steps=5, batch=0), "batch = 0: expected an integer >= 1"),
        (dict(steps=5, batch=8), "batch = 8: expected at most the 7 tasks there are"),
        (dict(steps=5, every=0), "every = 0: expected an integer >= 1"),
    ],
)
def test_impossible_counts_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_schedules_of_the_outer_optimizer():
    def sizes(**options):
        optimizer = outer.adam(1.0, 100, **options)
        update = jax.jit(optimizer.update)
        state, found = optimizer.init(jnp.zeros(1)), []
        for _ in range(101):
            change, state = update(jnp.ones(1), state)
            found.append(-float(change[0]))
        return np.array(found)

    np.testing.assert_allclose(sizes(), 1, rtol=1e-4)
    cosine = sizes(decay="cosine", warmup=10)
    np.testing.assert_allclose(cosine[:11], np.arange(11) / 10, atol=1e-4)
    assert (np.diff(cosine[10:]) < 0).all()
    np.testing.assert_allclose(cosine[100], 0.01, atol=1e-3)
    with pytest.raises(ValueError, match="decay = 'step': expected one of constant, cosine"):
        outer.adam(1.0, 10, decay="step")


def test_validation_is_the_mean_psnr_after_adaptation(rng):
    field = fields.siren(width=8, depth=3, omega0=10.0, channels=1)
    many = pixels.image_tasks(rng.uniform(size=(5, 6, 6, 1)).astype(np.float32))
    loss = tasks.regression(field)
    adapt, theta = inner.sgd(loss, 2, 0.1), field.init(jax.random.key(0))
    probe = train.validation(outer.maml(loss, adapt), many)(theta)
    after = decibel(evaluate.trajectory(loss, adapt, theta, many)[:, -1]).mean()
    assert probe["psnr"] == pytest.approx(after, abs=1e-4)


# --- resuming ---------------------------------------------------------------------------------
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, uninterrupted):
    for steps in (3, 30, 51, SHORT):
        done = killed_run.run(tmp_path, steps=steps)
    same(done.init, uninterrupted.init)
    np.testing.assert_array_equal(done.history["loss"], uninterrupted.history["loss"])
    again = killed_run.run(tmp_path, steps=SHORT)
    same(again.init, done.init)
    same(told(again.history), told(done.history))
    with pytest.raises(train.TrainError, match=f"holds {SHORT} outer steps, more than the 5 want"):
        killed_run.run(tmp_path, steps=5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (dict(key=9), r"key is \[0, 5\] there and \[0, 9\] here"),
        (dict(batch=2), "batch is 3 there and 2 here"),
        (dict(optimizer=optax.adam(2e-2)), "program is"),
        (dict(init=2 * INIT), "init is"),
        (dict(init=Init(INIT)), "init is"),
        (dict(data=DATA.take(slice(0, 6))), "data is"),
    ],
    ids=["key", "batch", "optimizer", "init", "Init", "data"],
)
def test_another_run_is_not_continued(tmp_path, change, names):
    small(out=tmp_path)
    before = (tmp_path / train.STATE).read_bytes()
    with pytest.raises(train.TrainError, match=names) as error:
        small(out=tmp_path, **change)
    assert "\n" not in str(error.value)
    assert "to replace it: resume=False, or --anew" in str(error.value)
    assert (tmp_path / train.STATE).read_bytes() == before
    small(out=tmp_path, resume=False, **change)
    assert (tmp_path / train.STATE).read_bytes() != before


def test_a_damaged_state_is_refused(tmp_path):
    small(out=tmp_path)
    path = tmp_path / train.STATE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(train.TrainError, match=r"damaged.*to begin anew: resume=False, or --anew"):
        small(8, out=tmp_path)


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


@pytest.mark.slow
def test_twenty_kills_change_no_bit(tmp_path):
    """15 at random moments, 5 inside a save: each leaves a state the uninterrupted run had too."""
    whole, digests = whole_run(tmp_path / "whole", killed_run.STEPS)
    r = random.Random(0)
    stages = ["any"] * 15 + ["fsync", "before", "after", "fsync", "before"]
    r.shuffle(stages)
    init, optimizer = killed_run.problem()[0], killed_run.optimizer()
    state = train.State(jnp.zeros((), jnp.int32), init, optimizer.init(init))
    like = dict(state=state, history=dict.fromkeys(("loss", "step", "seconds", "norm")))
    reached, out = [], tmp_path / "killed"
    path = out / train.STATE
    for stage in stages:
        assert not start_and_kill(out, stage, r), "the run ended before it could be killed"
        if path.exists():
            tree, _ = _state.load(path, like)
            step = int(tree["state"].step)
            assert _state.tree_digest(tree["state"]) == digests[step]
            reached.append(step)
    assert reached == sorted(reached)
    assert len(set(reached)) > 5
    done = killed_run.run(out)
    same(done.init, whole.init)
    same(told(done.history), told(whole.history))


# --- what is not finite -----------------------------------------------------------------------
def test_a_bad_loss_stops_the_run_at_its_step_and_keeps_the_state_before(tmp_path):
    broken = DATA._replace(each=DATA.each.at[4].set(jnp.nan))
    orders = [index for index, _ in seen(7, 3, 5, key=5)]
    bad = next(s for s, index in enumerate(orders) if 4 in index)
    told = rf"at outer step {bad + 1} \(losses after adaptation: .*nan.*\); .* keeps the state bef"
    with pytest.raises(train.TrainError, match=told) as error:
        small(30, data=broken, out=tmp_path)
    assert "\n" not in str(error.value)
    found, _ = _state.read(tmp_path / train.STATE)
    assert int(found["['state'].step"]) == bad
    good = small(bad).init if bad else INIT
    np.testing.assert_array_equal(found["['state'].init"], good)
    with pytest.raises(train.TrainError, match=f"outer step {bad + 1}"):
        small(30, data=broken, out=tmp_path)


@pytest.mark.parametrize(("eps_root", "fails"), [(0.0, True), (1e-8, False)])
def test_a_gradient_through_adam_that_is_not_finite_says_what_helps(eps_root, fails):
    """Where an entry of the inner gradient is 0 its second moment has an infinite root's slope."""

    def loss(theta, task, key):
        return jnp.sum((theta[:1] - task.each) ** 2)  # the second weight has no gradient

    adapt = inner.with_optimizer(loss, 2, optax.adam(1e-2, eps_root=eps_root))
    begin, data = jnp.ones(2), tasks.Tasks(jnp.arange(4.0)[:, None])

    def learn():
        train.run(outer.maml(loss, adapt), begin, data, ADAM, 2)

    if not fails:
        learn()
        return
    told = (
        r"outer step 1 \(losses after .*; their gradient is not finite: optax.adam in inner steps"
    )
    with pytest.raises(train.TrainError, match=told) as error:
        learn()
    assert "\n" not in str(error.value)


# --- programs -----------------------------------------------------------------------------------
def constants_apart(value):
    """A program's jaxpr, with a constant array of its own inside a loop inside a function."""
    c = np.full((3, 4), value, np.float32)

    @jax.jit
    def f(x):
        return jax.lax.scan(lambda s, _: (s + c.sum() * x + (c * x).sum(), None), 0.0, length=2)[0]

    return jax.jit(f).trace(jnp.float32(1))


def test_a_program_counts_by_its_constants_wherever_its_text_has_them():
    """Newer compilers take constants out of the text."""
    a, same, b = (constants_apart(v).jaxpr for v in (1.0, 1.0, 2.0))
    assert _programs.digest(a, "text") == _programs.digest(same, "text")
    assert _programs.digest(a, "text") != _programs.digest(b, "text")
    assert _programs.digest(a, "text") != _programs.digest(a, "other")


@pytest.mark.slow
def test_fields_that_differ_in_their_frequencies_alone_share_no_program(tmp_path):
    """In a process in which constants are no part of a program's text, where JAX has the choice."""
    there = os.environ | dict(JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS="1", JAX_PLATFORMS="cpu")
    done = subprocess.run(
        [sys.executable, os.path.join(TESTS, "two_frequencies.py"), str(tmp_path)],
        env=there,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["apart", "refused"]


def test_weights_that_overflow_stop_the_run():
    def loss(theta, task, key):
        return jnp.sum(theta * task.each)

    grad = outer.maml(loss, inner.sgd(loss, 0, 0.1))
    huge = optax.sgd(3e38)
    told = r"^non-finite loss, weights or optimizer state at outer step 2 \(losses .*: -3.*\)$"
    with pytest.raises(train.TrainError, match=told):
        train.run(grad, jnp.zeros(1), tasks.Tasks(jnp.ones((4, 1))), huge, 9)


# --- devices ----------------------------------------------------------------------------------
SHARDED = """
import sys, jax, numpy as np, killed_run
from learnit_utils import outer, train
init, grad, data = killed_run.problem()
data = data._replace(each=np.concatenate([data.each] * 3))
plans = []
monitor = train.Monitor(announce=plans.append, progress=False)
done = train.run(grad, init, data, outer.adam(1e-2, 12, clip=1.0), 12, batch=8, monitor=monitor)
flat = np.concatenate([np.ravel(a) for a in jax.tree.leaves(done.init)])
loss, used = done.history["loss"], plans[0].devices
np.savez(sys.argv[1], flat=flat, loss=loss, devices=len(jax.devices()), used=used)
"""


@pytest.mark.slow
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
        found[count] = np.load(file)
        assert found[count]["devices"] == found[count]["used"] == count
    for count in (2, 8):
        for name in ("flat", "loss"):
            np.testing.assert_allclose(found[count][name], found[1][name], rtol=0, atol=1e-6)


# --- beside the steps -------------------------------------------------------------------------
def test_two_processes_do_not_train_in_one_place(tmp_path):
    with (
        _files.locked(tmp_path / train.LOCK),
        pytest.raises(train.TrainError, match="another process is training there"),
    ):
        small(2, out=tmp_path)
    assert small(2, out=tmp_path).history["loss"].shape == (2, 3)


def test_a_probe_may_not_take_the_name_of_the_history():
    with pytest.raises(ValueError, match="a probe may not be called loss"):
        small(2, probe=lambda init: {"loss": 1.0})
