"""The training loop: outer steps on the device, progress, validation, checkpoints, resume.

Data stay on the device, `dispatch` outer steps run per call, the state's buffers are donated, and
the batch is spread over the devices of this process. Which tasks a step sees depends on the seed
and the step's number alone, so a run that was killed goes on, bit for bit (on CPU), where it was.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
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

from learnit_utils import assets, chapter, checkpoint, cost
from learnit_utils.outer import MetaGradient
from learnit_utils.tasks import Tasks

STATE, LOCK = "state.safetensors", ".lock"
USUAL_FRACTION = 0.7  # of the floor, for the expected time
KEPT_PROGRAMS = 8
_PROGRAMS: dict[str, Any] = {}  # compiled, by their hash: runs of one shape share one


class TrainError(RuntimeError):
    """Training that cannot go on; the message is one line."""


class State(NamedTuple):
    """What one outer step takes and returns."""

    step: jax.Array  # int32, outer updates done
    start: Any  # the start being learned
    optimizer: Any  # the outer optimiser's state


class Run(NamedTuple):
    """A finished run."""

    start: Any
    history: dict[str, np.ndarray]  # "loss" (steps, batch); "step", "seconds" and every probe (n,)
    wall_seconds: float  # over all resumes, without what a kill threw away


def adam(
    lr: float, steps: int, *, decay: str = "constant", warmup: int = 0, clip: float | None = None
) -> optax.GradientTransformation:
    """The outer optimiser of the book: Adam, with a schedule and clipping if asked for.

    Args:
        lr: the largest outer step size beta.
        steps: outer steps of the whole run, for the schedule.
        decay: "constant", or "cosine" down to 1 % of lr.
        warmup: steps in which the step size rises linearly from 0.
        clip: the direction's largest global norm.

    Raises:
        ValueError: another `decay`.
    """
    if decay not in ("constant", "cosine"):
        raise ValueError(f"decay = {decay!r}: one of constant, cosine")
    schedule = optax.constant_schedule(lr)
    if decay == "cosine":
        schedule = optax.cosine_decay_schedule(lr, max(1, steps - warmup), alpha=0.01)
    if warmup:
        rise = optax.linear_schedule(0.0, lr, warmup)
        schedule = optax.join_schedules([rise, schedule], [warmup])
    clipping = [optax.clip_by_global_norm(clip)] if clip else []
    return optax.chain(*clipping, optax.adam(schedule if decay == "cosine" or warmup else lr))


def validation(grad: MetaGradient, tasks: Tasks, seed: int = 0) -> Callable[[Any], dict]:
    """A probe: start -> {"psnr": mean PSNR in dB over the tasks, after adaptation}."""
    losses = jax.jit(grad.losses)

    def probe(start):
        keys = jax.random.split(jax.random.key(seed), tasks.count)
        return {"psnr": float(jnp.mean(-10 * jnp.log10(losses(start, tasks, keys))))}

    return probe


def run(
    grad: MetaGradient,
    start: Any,
    data: Tasks,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    batch: int = 3,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = True,
    probe: Callable[[Any], dict[str, float]] | None = None,
    every: int = 250,
    visit: Callable[[int, Any], None] | None = None,
    at: Sequence[int] = (),
    dispatch: int = 10,
    verbose: bool = True,
) -> Run:
    """Learn a start.

    Args:
        grad: from `outer`.
        start: theta, or an `inner.Start`, to begin from.
        data: the training tasks; every epoch visits each once, in an order of its own.
        optimizer: the outer optimiser, an optax transform (schedules and clipping included).
        steps: outer steps in all, those of earlier calls that `out` holds included.
        batch: tasks per outer step; spread over as many devices as divide it evenly.
        seed: draws the order of the tasks and what losses draw at random.
        out: folder of the training state, written every `every` steps and at the end; None keeps
            nothing. A state found there is continued if it belongs to the same run.
        resume: False begins anew, replacing what `out` holds.
        probe: start -> numbers, for example `validation(...)`; called every `every` steps.
        visit: (step, start) -> None, called when the run comes through the steps `at`.
        dispatch: outer steps per call of the device.
        verbose: print the plan and the progress.

    Raises:
        TrainError: a loss, weight or optimiser state that is not finite (it names the step; `out`
            keeps the state before it), or an `out` that belongs to another run, is in use by
            another process, or holds more than `steps` steps.
        ValueError: counts below 1, or more tasks in a batch than there are.
    """
    for name, value in dict(steps=steps, batch=batch, every=every, dispatch=dispatch).items():
        if value < 1:
            raise ValueError(f"{name} = {value}: at least 1")
    if batch > data.count:
        raise ValueError(f"batch = {batch}: at most the {data.count} tasks there are")
    with ExitStack() as stack:
        if out is not None:
            try:
                stack.enter_context(assets.locked(Path(out) / LOCK))
            except BlockingIOError:
                raise TrainError(f"{out}: another process is training there") from None
        options = dict(batch=batch, seed=int(seed), out=out, resume=resume, probe=probe)
        options |= dict(every=every, dispatch=dispatch, verbose=verbose)
        options |= dict(visit=visit, at=sorted(at) if visit else [])
        return _run(grad, start, data, optimizer, steps, **options)


def _run(
    grad,
    start,
    data,
    optimizer,
    steps,
    *,
    batch,
    seed,
    out,
    resume,
    probe,
    every,
    visit,
    at,
    dispatch,
    verbose,
):
    """`run`, with its arguments checked and its folder locked."""
    began = time.perf_counter()
    mesh = _mesh(batch)
    everywhere = NamedSharding(mesh, P())
    state = State(jnp.zeros((), jnp.int32), start, optimizer.init(start))
    # The first dispatch donates these buffers, so they must not be the caller's.
    state = jax.device_put(jax.tree.map(jnp.array, state), everywhere)
    data, seeded = jax.device_put((data, jnp.uint32(seed)), everywhere)
    advance = jax.jit(
        _program(grad, optimizer, batch, dispatch, mesh), donate_argnums=0, out_shardings=everywhere
    )
    lowered = advance.lower(state, jnp.int32(0), data, seeded)
    identity = dict(
        method=grad.name,
        batch=batch,
        seed=seed,
        data=checkpoint.tree_digest(data),
        start=checkpoint.tree_digest(start),
        jax=version("jax"),
        program=hashlib.sha256(lowered.as_text().encode()).hexdigest(),
    )
    history = _History(batch)
    path = Path(out) / STATE if out is not None else None
    if path is not None and resume and path.exists():
        state, history = _resume(path, state, identity, everywhere)
    now = int(state.step)
    if now > steps:
        raise TrainError(f"{path} holds {now} outer steps, more than the {steps} asked for")
    if identity["program"] not in _PROGRAMS:
        if len(_PROGRAMS) >= KEPT_PROGRAMS:
            _PROGRAMS.clear()
        _PROGRAMS[identity["program"]] = lowered.compile()
    compiled = _PROGRAMS[identity["program"]]
    if verbose:
        _print_plan(grad, state, data, steps, batch, mesh, compiled)

    def measured(now):
        if probe is not None and (not history.step or history.step[-1] < now):
            history.note(now, probe(state.start))

    def keep():
        history.wall += time.perf_counter() - history.since
        history.since = time.perf_counter()
        if path is not None:
            tree = dict(state=state, history=history.arrays())
            checkpoint.save(path, tree, dict(identity=identity, **history.info()))

    history.since = began
    measured(now)
    quiet = not verbose or chapter.running() is not None  # a page shows how it ended instead
    bar = tqdm(total=steps, initial=now, disable=quiet, unit="step", miniters=1)
    while now < steps:
        end = min(now + dispatch, (now // every + 1) * every, steps, *(s for s in at if s > now))
        tick = time.perf_counter()
        state, losses, ok = compiled(state, jnp.int32(end), data, seeded)
        losses, reached = np.asarray(losses), int(state.step)
        history.train_seconds += time.perf_counter() - tick
        history.losses.append(losses[: reached - now])
        if not ok:
            keep()
            bar.close()
            bad = ", ".join(f"{v:g}" for v in losses[reached - now])
            where = f"; {path} keeps the state before it" if path else ""
            raise TrainError(
                f"outer step {reached + 1}: losses {bad} after adaptation; they, the new "
                f"weights or the optimiser's new state are not all finite{where}"
            )
        bar.update(reached - now)
        now = reached
        if now in at:
            visit(now, jax.tree.map(jnp.array, state.start))  # a copy: these buffers are donated
        if now % every == 0 or now == steps:
            measured(now)
            keep()
        bar.set_postfix_str(history.latest(), refresh=False)
    bar.close()
    if verbose:
        took = f"{steps} steps in {_duration(history.train_seconds)}"
        print(
            f"{took}, {_duration(history.wall)} with compiling and validation: {history.latest()}"
        )
    return Run(state.start, history.arrays(), history.wall)


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
        shown = [f"train {-10 * np.log10(loss):.2f} dB"] if loss > 0 else []
        shown += [f"{name} {values[-1]:.2f}" for name, values in self.probes.items()]
        return ", ".join(shown)


def _mesh(batch: int) -> Mesh:
    """As many devices of this process as divide the batch evenly."""
    devices = jax.local_devices()
    count = max(d for d in range(1, len(devices) + 1) if batch % d == 0)
    return Mesh(np.array(devices[:count]), ("tasks",))


def draw(seed: jax.Array, step: jax.Array, count: int, batch: int) -> tuple[jax.Array, jax.Array]:
    """Indices (batch,) and keys (batch,) of the tasks of an outer step.

    Tasks are dealt out epoch by epoch, every epoch in an order of its own.
    """
    key_order, key_tasks = jax.random.split(jax.random.key(seed))
    position = step * batch + jnp.arange(batch)

    def task(position):
        epoch = jax.random.fold_in(key_order, position // count)
        return jax.random.permutation(epoch, count)[position % count]

    keys = jax.vmap(lambda p: jax.random.fold_in(key_tasks, p))(position)
    return jax.vmap(task)(position), keys


def _program(grad, optimizer, batch, dispatch, mesh) -> Callable:
    """(state, end, data, seed) -> state at `end` or before a bad step, losses, is all well."""
    direction = grad.step if mesh.size == 1 else _sharded(grad.step, mesh)

    def advance(state, end, data, seed):
        begin = state.step

        def one(carry):
            state, losses, _ = carry
            index, keys = draw(seed, state.step, data.count, batch)
            values, towards = direction(state.start, data.take(index), keys)
            updates, optimizer_state = optimizer.update(towards, state.optimizer, state.start)
            start = optax.apply_updates(state.start, updates)
            made = jax.tree.leaves((values, start, optimizer_state))
            ok = jnp.stack([jnp.isfinite(leaf).all() for leaf in made]).all()
            new = State(state.step + 1, start, optimizer_state)
            kept = jax.tree.map(lambda a, b: jnp.where(ok, a, b), new, state)
            return kept, losses.at[state.step - begin].set(values), ok

        def going(carry):
            state, _, ok = carry
            return (state.step < end) & ok

        losses = jnp.zeros((dispatch, batch))
        return jax.lax.while_loop(going, one, (state, losses, jnp.asarray(True)))

    return advance


def _sharded(step, mesh) -> Callable:
    """The same step with the tasks of its batch spread over the devices of a mesh."""

    def local(start, each, shared, keys):
        values, direction = step(start, Tasks(each, shared), keys)
        return values, jax.tree.map(lambda d: jax.lax.pmean(d, "tasks"), direction)

    mapped = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(P(), P("tasks"), P(), P("tasks")),
        out_specs=(P("tasks"), P()),
        check_vma=False,
    )
    return lambda start, tasks, keys: mapped(start, tasks.each, tasks.shared, keys)


def _resume(path, state, identity, sharding):
    """The state and history in a file, refused if it belongs to another run."""
    try:
        _, info = checkpoint.read(path)
        theirs = info["identity"]
        for name, ours in identity.items():
            if theirs.get(name) != ours:
                what = f"{name} is {theirs.get(name)!r:.20} there and {ours!r:.20} here"
                raise TrainError(
                    f"{path} belongs to another run: {what}; to replace it: resume=False, or --anew"
                )
        shapes = dict.fromkeys(("loss", "step", "seconds", *info["probes"]))
        tree, info = checkpoint.load(path, dict(state=state, history=shapes))
    except checkpoint.CheckpointError as e:
        raise TrainError(f"{e}; to begin anew: resume=False, or --anew") from None
    return jax.device_put(tree["state"], sharding), _History.read(tree["history"], info)


def _print_plan(grad, state, data, steps, batch, mesh, compiled) -> None:
    keys = jax.random.split(jax.random.key(0), batch)
    flops = cost.matmul_flops(grad.step, state.start, data.take(np.arange(batch)), keys)
    rate = cost.matmul_rate()
    left = steps - int(state.step)
    floor = flops / rate / mesh.size
    device, memory = jax.devices()[0].device_kind, cost.readable(cost.peak_bytes(compiled))
    devices = f"{mesh.size} of {len(jax.local_devices())} x {device}"
    expected = _duration(left * floor / USUAL_FRACTION)
    print(f"{left} outer steps of {grad.name}, {batch} tasks each, on {devices}")
    print(f"a step: {flops / 1e9:.1f} GFLOP in matrix products, peak memory {memory}")
    print(f"at the {rate / 1e9:.0f} GFLOP/s of a large product: {floor:.3g} s a step")
    print(f"expected: {expected}, at {USUAL_FRACTION:.0%} of that rate", flush=True)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
