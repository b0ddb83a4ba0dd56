"""A training run: put together from its recipe, trained, scored, and written with its manifest."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from learnit_utils import evaluate, inner, outer, train
from learnit_utils.experiments import flops, store
from learnit_utils.experiments.recipe import Learned, Recipe, functions, model
from learnit_utils.inner import Init
from learnit_utils.metrics import decibel
from learnit_utils.signals.base import SPLITS
from learnit_utils.tasks import Tasks, subset
from learnit_utils.train import Monitor

USUAL_FRACTION = 0.7  # of the floor, for the expected time
ORDER = 2**31  # folded into a seed's key; a network has fewer layers
LOOKED_AT = 10  # validation tasks of a probe that has to fit each


class Setup(NamedTuple):
    """Everything that a run of a recipe needs."""

    data: Any  # .train, .validation, .test: Tasks
    provenance: dict[str, dict]  # of each split
    learned: Learned
    init: Any
    optimizer: optax.GradientTransformation


def build(recipe: Recipe) -> Setup:
    """Everything that a run of this recipe needs."""
    r, provenance = recipe, {}

    def noted(split, **more):
        data = r.load(split, **more)
        provenance.setdefault(split, data.provenance)
        return data

    data = SimpleNamespace(**{split: model(r).tasks(noted, split) for split in SPLITS})
    learned = functions(r)
    init = learned.field.init(jax.random.key(r.seed))
    schedule = dict(decay=r.decay, warmup=min(r.warmup, r.steps // 10))
    optimizer = outer.adam(r.outer_lr, r.steps, clip=r.clip, **schedule)
    if r.step_sizes is not None:
        init = inner.with_step_sizes(init, r.inner_steps, r.inner_lr, r.step_sizes)
        of_step_sizes = outer.adam(r.step_sizes_lr, r.steps, **schedule)
        groups = dict(theta=optimizer, step_sizes=of_step_sizes)
        optimizer = optax.multi_transform(groups, Init("theta", "step_sizes"))
    return Setup(data, provenance, learned, init, optimizer)


def order_key(seed: int) -> jax.Array:
    """Draws the order of the tasks, and their losses, in a run of this seed.

    It is none of the keys that weights are drawn by: those are split from the seed's.
    """
    return jax.random.fold_in(jax.random.key(seed), ORDER)


def execute(
    name: str,
    recipe: Recipe,
    out: Path,
    into: Path | None = None,
    *,
    verbose: bool = True,
    **monitor,
) -> Path:
    """Train, score on validation and test, and write the weights with their manifest.

    The snapshots of the recipe become snapshots/NAME_STEP.safetensors in the folder of the weights.

    Args:
        name: of the weights.
        out: folder of the training state, out/NAME; a run found there is continued.
        into: folder of the finished weights; out/NAME unless given.
        verbose: print the plan and how the run ended.
        monitor: settings of `train.Monitor`, for example resume=False.

    Returns:
        The path of the weight file.
    """
    setup, folder = build(recipe), out / name
    write = _writer(setup, recipe)

    def snapshot(where, step):
        return where / store.SNAPSHOTS / f"{name}_{step}{store.SUFFIX}"

    monitor.setdefault("every", max(250, recipe.steps // 40))  # a probe costs as much as many steps
    done = train.run(
        setup.learned.grad,
        setup.init,
        setup.data.train,
        setup.optimizer,
        recipe.steps,
        batch=recipe.batch,
        key=order_key(recipe.seed),
        monitor=Monitor(
            out=folder,
            probe=_probe(setup, recipe),
            callback=lambda step, init: write(snapshot(folder, step), init, step),
            callback_steps=recipe.snapshots,
            announce=print_plan if verbose else None,
            **monitor,
        ),
    )
    if verbose:
        print(_ending(done, recipe.steps))
    path = (into or folder) / (name + store.SUFFIX)
    ended = dict(history=_summary(done.history), wall_seconds=round(done.wall_seconds, 1))
    write(path, done.init, recipe.steps, scores=_scores(setup, recipe, done.init), **ended)
    for step in recipe.snapshots if into else ():
        if snapshot(folder, step).exists():
            write(snapshot(into, step), store.load(snapshot(folder, step)).init, step)
    return path


def _writer(setup: Setup, recipe: Recipe) -> Callable:
    """(path, init, steps, **info) -> None: write weights of this run."""

    def write(path, init, steps, **info):
        about = dict(settings=recipe.settings(), data=setup.provenance, method=recipe.method)
        about |= dict(seed=recipe.seed, steps=steps) | info | store.environment()
        store.save(path, setup.learned.field, init, precision=recipe.precision, **about)

    return write


def score(setup: Setup, recipe: Recipe, init: Any, data: Tasks) -> float:
    """Mean PSNR in dB of what an init makes of tasks, as the recipe's forward model has it."""
    return model(recipe).score(setup.learned, recipe, init, data)


def _scores(setup: Setup, recipe: Recipe, init: Any) -> dict[str, float]:
    saved = store.rounded(init, recipe.precision)
    splits = ("validation", "test")
    return {f"{s}_psnr": score(setup, recipe, saved, getattr(setup.data, s)) for s in splits}


def _probe(setup: Setup, recipe: Recipe) -> Callable[[Any], dict]:
    """Validation PSNR; if asked for, without learned step sizes, how the directions agree."""
    tasks = setup.data.validation
    if recipe.forward != "pixels":
        few = subset(tasks, LOOKED_AT)
        return lambda init: {"psnr": score(setup, recipe, init, few)}
    psnr = train.validation(setup.learned.grad, tasks)
    if recipe.step_sizes is not None or not recipe.agreement:
        return psnr
    few = tasks.take(np.arange(0, tasks.count, 5))
    agreement = evaluate.agreement(setup.learned.loss, setup.learned.adapt)
    return lambda init: {**psnr(init), **agreement(init, few)}


def _summary(history: dict[str, np.ndarray]) -> dict[str, list]:
    """The history in a few dozen numbers: the probes, and the training PSNR between them."""
    short = {k: np.round(v, 4).tolist() for k, v in history.items() if k != "loss"}
    psnr = decibel(history["loss"])
    edges = zip(history["step"], history["step"][1:])
    return short | {"train_psnr": [round(float(psnr[a:b].mean()), 4) for a, b in edges]}


# --- what is printed --------------------------------------------------------------------------
def print_plan(plan: train.Plan) -> None:
    """What a run will cost: FLOPs, memory, the floor of a step and the expected time."""
    flop, rate = flops.matmul_flops(plan.step, *plan.arguments), flops.matmul_rate()
    floor = flop / rate / plan.devices
    memory = flops.readable(flops.peak_bytes(plan.compiled))
    devices = f"{plan.devices} of {len(jax.local_devices())} x {jax.devices()[0].device_kind}"
    expected = _duration(plan.steps_left * floor / USUAL_FRACTION)
    batch = len(plan.arguments[2])
    print(f"{plan.steps_left} outer steps, {batch} tasks each, on {devices}")
    print(f"a step: {flop / 1e9:.1f} GFLOP in matrix products, peak memory {memory}")
    print(f"at the {rate / 1e9:.0f} GFLOP/s of a large product: {floor:.3g} s a step")
    print(f"expected: {expected}, at {USUAL_FRACTION:.0%} of that rate", flush=True)


def _ending(done: train.Run, steps: int) -> str:
    last = {k: v[-1] for k, v in done.history.items() if k not in ("loss", "step", "seconds")}
    probes = ", ".join(f"{k} {v:.2f}" for k, v in last.items())
    took = f"{steps} steps in {_duration(done.history['seconds'][-1])}"
    return f"{took}, {_duration(done.wall_seconds)} with compiling and validation: {probes}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
