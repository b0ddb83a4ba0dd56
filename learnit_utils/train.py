"""The training loop: outer steps on the device, progress, validation, checkpoints, resume.

Data stay on the device, `steps_per_call` outer steps run per call, the state's buffers are donated,
and the batch is spread over the devices of this process. Which tasks a step sees depends on the key
and the step's number alone, so a run that was killed goes on, bit for bit (on CPU), where it was.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm.auto import tqdm

from learnit_utils import _epochs, _files, _programs, _state
from learnit_utils.evaluate import task_keys
from learnit_utils.metrics import decibel
from learnit_utils.outer import MetaGradient
from learnit_utils.tasks import Tasks

STATE, LOCK = "state.safetensors", ".lock"


class TrainError(RuntimeError):
    """Training that cannot go on; the message is one line."""


class State(NamedTuple):
    """What one outer step takes and returns."""

    step: jax.Array  # int32, outer updates done
    init: Any  # the init being learned
    optimizer: Any  # the outer optimizer's state


class Run(NamedTuple):
    """A finished run."""

    init: Any
    history: dict[str, np.ndarray]  # "loss" (steps, batch); "step", "seconds" and every probe (n,)
    wall_seconds: float  # over all resumes, without what a kill threw away


class Plan(NamedTuple):
    """What a run is about to do, handed to `Monitor.announce`."""

    step: Callable  # one outer gradient: (init, tasks, keys) -> losses, direction
    arguments: tuple  # of it, of the run's shapes
    steps_left: int
    devices: int
    compiled: Any  # the program of one call


@dataclass(frozen=True)
class Monitor:
    """What happens beside the updates of a run: files, probes, progress.

    Attributes:
        out: folder of the training state, written every `every` steps and at the end; None keeps
            nothing. A state found there is continued if it belongs to the same run.
        resume: False begins anew, replacing what `out` holds.
        probe: init -> numbers, for example `validation(...)`; called every `every` steps.
        every: outer steps between probes and saved states.
        callback: (step, init) -> None, called after each outer step listed in `callback_steps`.
        callback_steps: see `callback`.
        announce: Plan -> None, called once before the first step.
        progress: show a progress bar.
    """

    out: str | Path | None = None
    resume: bool = True
    probe: Callable[[Any], dict[str, float]] | None = None
    every: int = 250
    callback: Callable[[int, Any], None] | None = None
    callback_steps: Sequence[int] = ()
    announce: Callable[[Plan], None] | None = None
    progress: bool = True


def validation(
    grad: MetaGradient, tasks: Tasks, key: jax.Array | None = None
) -> Callable[[Any], dict[str, float]]:
    """A probe: init -> {"psnr": mean PSNR in dB over the tasks, after adaptation}."""
    losses = jax.jit(grad.losses)

    def probe(init):
        return {"psnr": float(decibel(losses(init, tasks, task_keys(tasks, key))).mean())}

    return probe


def run(
    grad: MetaGradient,
    init: Any,
    tasks: Tasks,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    batch: int = 3,
    key: jax.Array | None = None,
    monitor: Monitor = Monitor(progress=False),
) -> Run:
    """Learn an init.

    Args:
        grad: from `outer`.
        init: weights, or an `inner.Init`, to begin from.
        tasks: the training tasks; every epoch visits each once, in an order of its own.
        optimizer: the outer optimizer, an optax transform (schedules and clipping included).
        steps: outer steps in all, those of earlier calls that `monitor.out` holds included.
        batch: tasks per outer step; spread over as many devices as divide it evenly.
        key: draws the order of the tasks and what losses draw at random; key 0 unless given.
        monitor: files, probes and progress.

    Raises:
        TrainError: a loss, weight or optimizer state that is not finite (it names the step; the
            saved state is the one before it), or a folder that belongs to another run, is in use
            by another process, or holds more than `steps` steps.
        ValueError: counts below 1, or more tasks in a batch than there are.
    """
    for name, value in dict(steps=steps, batch=batch, every=monitor.every).items():
        if value < 1:
            raise ValueError(f"{name} = {value}: expected an integer >= 1")
    if batch > tasks.count:
        raise ValueError(f"batch = {batch}: expected at most the {tasks.count} tasks there are")
    key = jax.random.key(0) if key is None else key
    with ExitStack() as stack:
        if monitor.out is not None:
            try:
                stack.enter_context(_files.locked(Path(monitor.out) / LOCK))
            except BlockingIOError:
                raise TrainError(f"{monitor.out}: another process is training there") from None
        return _Loop(grad, init, tasks, optimizer, batch, key, monitor).run(steps)


class _Loop:
    """A run: `run`, with its arguments checked and its folder locked."""

    STEPS_PER_CALL = 10

    def __init__(self, grad, init, tasks, optimizer, batch, key, monitor):
        self.began = time.perf_counter()
        self.grad, self.batch, self.monitor = grad, batch, monitor
        self.mesh = _mesh(batch)
        self.everywhere = NamedSharding(self.mesh, P())
        state = State(jnp.zeros((), jnp.int32), init, optimizer.init(init))
        # The first call donates these buffers, so they must not be the caller's.
        self.state = jax.device_put(jax.tree.map(jnp.array, state), self.everywhere)
        self.inputs = jax.device_put((tasks, key), self.everywhere)
        program = _program(grad, optimizer, batch, self.STEPS_PER_CALL, self.mesh)
        advance = jax.jit(program, donate_argnums=0, out_shardings=self.everywhere)
        positions = batch * self.STEPS_PER_CALL
        self.orders = _epochs.Orders(key, tasks.count, positions, self.everywhere)
        traced = advance.trace(self.state, jnp.int32(0), *self.inputs, *self.orders.of(0))
        lowered = traced.lower()
        self.identity = dict(
            method=grad.name,
            batch=batch,
            key=_key_name(key),
            data=_state.tree_digest(tasks),
            init=_state.tree_digest(init),
            jax=version("jax"),
            program=_programs.digest(traced.jaxpr, lowered.as_text()),
        )
        self.compiled = _programs.cached(self.identity["program"], lowered.compile)
        self.history = _History(batch)
        self.path = Path(monitor.out) / STATE if monitor.out is not None else None
        if self.path is not None and monitor.resume and self.path.exists():
            self.state, self.history = _resume(
                self.path, self.state, self.identity, self.everywhere
            )

    def run(self, steps: int) -> Run:
        now, monitor = int(self.state.step), self.monitor
        if now > steps:
            raise TrainError(f"{self.path} holds {now} outer steps, more than the {steps} wanted")
        if monitor.announce is not None:
            monitor.announce(self._plan(steps - now))
        self.history.since = self.began
        self._probe(now)
        at = sorted(monitor.callback_steps) if monitor.callback else []
        bar = tqdm(total=steps, initial=now, disable=not monitor.progress, unit="step", miniters=1)
        with bar:
            while now < steps:
                end = self._next_stop(now, steps, at)
                reached = self._advance(now, end)
                bar.update(reached - now)
                now = reached
                if now in at:  # a copy: these buffers are donated
                    monitor.callback(now, jax.tree.map(jnp.array, self.state.init))
                if now % monitor.every == 0 or now == steps:
                    self._probe(now)
                    self._save()
                bar.set_postfix_str(self.history.latest(), refresh=False)
        return Run(self.state.init, self.history.arrays(), self.history.wall)

    def _next_stop(self, now, steps, at):
        """The next step at which the device's loop ends."""
        probe = (now // self.monitor.every + 1) * self.monitor.every
        return min(now + self.STEPS_PER_CALL, probe, steps, *(s for s in at if s > now))

    def _advance(self, now, end):
        """Outer steps until `end`; returns the step reached, or raises."""
        tick = time.perf_counter()
        orders = self.orders.of(now * self.batch)
        self.state, losses, ok = self.compiled(self.state, jnp.int32(end), *self.inputs, *orders)
        losses, reached = np.asarray(losses), int(self.state.step)
        self.history.train_seconds += time.perf_counter() - tick
        self.history.losses.append(losses[: reached - now])
        if ok.all():
            return reached
        self._save()
        bad = ", ".join(f"{v:g}" for v in losses[reached - now])
        if ok[0] and not ok[1]:
            bad += "; their gradient is not finite: optax.adam in inner steps needs an eps_root > 0"
        where = f"; {self.path} keeps the state before it" if self.path else ""
        raise TrainError(
            f"non-finite loss, weights or optimizer state at outer step {reached + 1} "
            f"(losses after adaptation: {bad}){where}"
        )

    def _probe(self, now):
        history = self.history
        if self.monitor.probe is not None and (not history.step or history.step[-1] < now):
            history.note(now, self.monitor.probe(self.state.init))

    def _save(self):
        history = self.history
        history.wall += time.perf_counter() - history.since
        history.since = time.perf_counter()
        if self.path is not None:
            tree = dict(state=self.state, history=history.arrays())
            _state.save(self.path, tree, dict(identity=self.identity, **history.info()))

    def _plan(self, steps_left):
        tasks = self.inputs[0].take(np.arange(self.batch))
        arguments = (self.state.init, tasks, jax.random.split(jax.random.key(0), self.batch))
        return Plan(self.grad.step, arguments, steps_left, self.mesh.size, self.compiled)


def _key_name(key: jax.Array) -> list[int]:
    return np.asarray(jax.random.key_data(key)).ravel().tolist()


class _History:
    """What a run leaves behind beside its state."""

    def __init__(self, batch: int):
        self.losses = [np.zeros((0, batch), np.float32)]
        self.step: list[int] = []
        self.seconds: list[float] = []
        self.probes: dict[str, list[float]] = {}
        self.train_seconds = self.wall = self.since = 0.0

    def note(self, step: int, values: dict[str, float]) -> None:
        if taken := {"loss", "step", "seconds"} & values.keys():
            raise ValueError(f"a probe may not be called {min(taken)}")
        self.step.append(step)
        self.seconds.append(self.train_seconds)
        for name, value in values.items():
            self.probes.setdefault(name, []).append(float(value))

    def arrays(self) -> dict[str, np.ndarray]:
        probes = {name: np.asarray(values, np.float64) for name, values in self.probes.items()}
        return dict(
            loss=np.concatenate(self.losses),
            step=np.asarray(self.step, np.int64),
            seconds=np.asarray(self.seconds, np.float64),
            **probes,
        )

    def info(self) -> dict[str, Any]:
        return dict(
            wall_seconds=self.wall, train_seconds=self.train_seconds, probes=list(self.probes)
        )

    @classmethod
    def read(cls, arrays: dict[str, np.ndarray], info: dict[str, Any]) -> "_History":
        history = cls(arrays["loss"].shape[1])
        history.losses = [arrays["loss"]]
        history.step, history.seconds = arrays["step"].tolist(), arrays["seconds"].tolist()
        history.probes = {name: arrays[name].tolist() for name in info["probes"]}
        history.train_seconds, history.wall = info["train_seconds"], info["wall_seconds"]
        return history

    def latest(self) -> str:
        loss = self.losses[-1][-1:].mean() if len(self.losses[-1]) else np.nan
        shown = [f"train loss {loss:.3g}"] if np.isfinite(loss) else []
        shown += [f"{name} {values[-1]:.2f}" for name, values in self.probes.items()]
        return ", ".join(shown)


def _mesh(batch: int) -> Mesh:
    """As many devices of this process as divide the batch evenly."""
    devices = jax.local_devices()
    count = max(d for d in range(1, len(devices) + 1) if batch % d == 0)
    return Mesh(np.array(devices[:count]), ("tasks",))


def _program(grad, optimizer, batch, steps_per_call, mesh) -> Callable:
    """State, end, tasks, key, first, orders -> state at `end` or before a bad step, losses, ok.

    `orders` are those of the epochs from `first` on; ok (3,) says whether the losses, their
    gradient, and what came of it were finite.
    """
    direction = grad.step if mesh.size == 1 else _sharded(grad.step, mesh)

    def advance(state, end, tasks, key, first, orders):
        begin = state.step

        def one(carry):
            state, losses, _ = carry
            drawn = jax.random.clone(key)  # the step's number makes it another in every step
            _, key_tasks = jax.random.split(drawn)
            position = state.step * batch + jnp.arange(batch)
            index, keys = _epochs.dealt(key_tasks, position, first, orders)
            values, towards = direction(state.init, tasks.take(index), keys)
            updates, optimizer_state = optimizer.update(towards, state.optimizer, state.init)
            init = optax.apply_updates(state.init, updates)
            made = (values, towards, (init, optimizer_state))
            ok = jnp.stack([_finite(part) for part in made])
            new = State(state.step + 1, init, optimizer_state)
            kept = jax.tree.map(lambda a, b: jnp.where(ok.all(), a, b), new, state)
            return kept, losses.at[state.step - begin].set(values), ok

        def going(carry):
            state, _, ok = carry
            return (state.step < end) & ok.all()

        losses = jnp.zeros((steps_per_call, batch))
        return jax.lax.while_loop(going, one, (state, losses, jnp.ones(3, bool)))

    return advance


def _finite(tree) -> jax.Array:
    """Whether all of a pytree is."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _sharded(step, mesh) -> Callable:
    """The same step with the tasks of its batch spread over the devices of a mesh."""

    def local(init, each, shared, keys):
        values, direction = step(init, Tasks(each, shared), keys)
        return values, jax.tree.map(lambda d: jax.lax.pmean(d, "tasks"), direction)

    mapped = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(P(), P("tasks"), P(), P("tasks")),
        out_specs=(P("tasks"), P()),
        check_vma=False,
    )
    return lambda init, tasks, keys: mapped(init, tasks.each, tasks.shared, keys)


def _resume(path, state, identity, sharding):
    """The state and history in a file; TrainError if it belongs to another run."""
    try:
        _, info = _state.read(path)
        theirs = info["identity"]
        for name, ours in identity.items():
            if theirs.get(name) != ours:
                what = f"{name} is {theirs.get(name)!r:.20} there and {ours!r:.20} here"
                raise TrainError(
                    f"{path} belongs to another run: {what}; to replace it: resume=False, or --anew"
                )
        shapes = dict.fromkeys(("loss", "step", "seconds", *info["probes"]))
        tree, info = _state.load(path, dict(state=state, history=shapes))
    except _state.StateError as e:
        raise TrainError(f"{e}; to begin anew: resume=False, or --anew") from None
    return jax.device_put(tree["state"], sharding), _History.read(tree["history"], info)
