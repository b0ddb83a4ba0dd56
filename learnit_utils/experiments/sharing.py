"""One network for many signals: every way to share, on the same tasks, by the one protocol.

A `Method` is a shared network, several trainings of it, and the step sizes it may try. For every
number of steps that a table shows, the optimizer and step size are those that are best on
validation tasks after so many steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import evaluate, fields
from learnit_utils.experiments import shared_losses, shared_training, transfer
from learnit_utils.experiments.protocol import DIGITS, Choice, Grid, Pieces, Study
from learnit_utils.experiments.seeds import drawn
from learnit_utils.experiments.shared_losses import looked_at, with_prior
from learnit_utils.experiments.shared_networks import Parts, Shared, build
from learnit_utils.experiments.shared_training import SharedRecipe, TrainedShared
from learnit_utils.metrics import decibel
from learnit_utils.signals import base
from learnit_utils.tasks import Tasks

STUDY, PLAIN = "sharing", 128  # units of a hidden layer of the plain network of faces


class Method(NamedTuple):
    """A way to share."""

    network: Shared
    seeds: Sequence[Callable[[], Parts] | Parts]  # trainings
    grid: Grid
    priors: Sequence[float] = (0.0,)  # strengths of the prior on the own part, to try
    name: str = "method"


class Trials(NamedTuple):
    """Tasks on which methods are tried."""

    validation: Tasks
    test: Tasks
    owners: Sequence[str]  # whose each test task is
    kind: str = "tasks"  # what they are, in words

    def with_prior(self, prior: float) -> "Trials":
        """The same tasks with another strength of the prior on the own part."""
        validation, test = (with_prior(part, prior) for part in (self.validation, self.test))
        kind = f"{self.kind}, prior {prior:g}"
        return self._replace(validation=validation, test=test, kind=kind)


def pictures_as_trials(
    load: Callable,
    lessons: Any,
    validation: int,
    test: int,
    mask: np.ndarray | None = None,
    kind: str = "faces",
) -> Trials:
    """Pictures of a class, spread over its splits, of which a fit sees a part.

    Args:
        load: split -> Dataset.
        lessons: the `Dataset` that the shared networks were trained on.
        validation, test: how many.
        mask: (points,), true where a fit may look; judged is then where it does not.
        kind: of the signals, which tells whose they are.
    """
    both, owners = [], []
    for split, most in (("validation", validation), ("test", test)):
        data = load(split)
        index = base.spread(len(data.arrays), most)
        both.append(
            shared_training.as_seen(data.arrays[index], lessons, mask, unseen=mask is not None)
        )
        owners = transfer.owners(kind, [data.names[i] for i in index])
    return Trials(*both, owners, kind if mask is None else f"parts of {kind}")


class Reached(NamedTuple):
    """What a method reaches after a number of steps."""

    choice: Choice
    psnr: np.ndarray  # dB, (seeds, test tasks)
    prior: float = 0.0


def study(method: Method, trials: Trials, pieces: Pieces, cap: int, every: int) -> Study:
    """The study of one method on some tasks; the init's name says which, see `name_in`."""
    return Study(
        STUDY,
        shared_training.problem(method.network),
        {f"{method.name}: {trials.kind}": list(method.seeds)},
        method.grid,
        trials.validation,
        trials.test,
        cap=cap,
        every=every,
        pieces=pieces,
    )


def name_in(study: Study) -> str:
    """The name of the only init of a study."""
    (name,) = study.inits
    return name


def curves(study: Study) -> dict[tuple[str, float], np.ndarray]:
    """(optimizer, step size) -> mean PSNR in dB on validation tasks, at every look."""
    return {pair: study.curve(name_in(study), *pair)["psnr"] for pair in study.tried()}


def choice_at(study: Study, step: int) -> Choice:
    """The best optimizer and step size on validation tasks after a number of steps.

    Raises:
        ValueError: a number that is not looked at, or every fit diverges.
    """
    if step % study.every or not 0 <= step <= study.cap:
        raise ValueError(f"step = {step}: expected a multiple of {study.every} up to {study.cap}")
    best = None
    for (optimizer, lr), values in curves(study).items():
        value = values[step // study.every]
        if np.isfinite(value) and (best is None or value > best.value):
            lrs = study.grid[optimizer][1]
            edge = len(lrs) > 1 and lr in (min(lrs), max(lrs))
            best = Choice(optimizer, lr, step, edge, float(value))
    if best is None:
        raise ValueError(f"{study.name}: every fit diverges within {step} steps")
    return best


def reached(study: Study, steps: Sequence[int]) -> dict[int, Reached]:
    """What a method reaches on test tasks after each of some numbers of steps."""
    found = {}
    for step in steps:
        choice = choice_at(study, step)
        found[step] = Reached(choice, _of_seeds(study, choice))
    return found


def _of_seeds(study: Study, choice: Choice) -> np.ndarray:
    name = name_in(study)
    count = len(study.contender(name).seeds)
    return np.stack([study.at(name, choice, seed)["psnr"] for seed in range(count)])


class Prior(NamedTuple):
    """What a method makes of the strengths of its prior."""

    tried: dict[float, float]  # strength -> the best mean PSNR on validation tasks, dB
    best: Reached  # on test tasks, with the strength that is best on validation tasks


def best_prior(method: Method, trials: Trials, pieces: Pieces, cap: int, every: int) -> Prior:
    """Choose the strength of the prior on validation tasks, and with it everything else."""
    studies = {p: study(method, trials.with_prior(p), pieces, cap, every) for p in method.priors}
    choices = {p: one.choose_one(name_in(one)) for p, one in studies.items()}
    best = max(choices, key=lambda p: choices[p].value)
    reach = Reached(choices[best], _of_seeds(studies[best], choices[best]), best)
    return Prior({p: choice.value for p, choice in choices.items()}, reach)


# --- trainings as seeds of a method ---------------------------------------------------------------
def as_parts(theta: Any) -> Parts:
    """Weights as an initialization of which every weight is a signal's own."""
    return Parts(theta, jax.tree.map(jnp.zeros_like, theta))


def random_parts(field: fields.Field, key: jax.Array) -> Parts:
    """A random initialization; the key is not used up."""
    return as_parts(drawn(field, key))


def trained_parts(make: Callable[[], TrainedShared]) -> Parts:
    """The parameters of a trained shared network, as optimizers take them.

    Learned step sizes are left out; the first layers of `heads` get a last layer that is drawn
    anew, and all of their weights are to be fitted (Vyas et al. 2024, section 3.2).
    """
    trained = make()
    if trained.network.spec["kind"] != "heads":
        return shared_training.plain(trained.parts)
    spec = {k: v for k, v in trained.network.spec.items() if k != "kind"}
    last = fields.siren(**spec).init(jax.random.key(trained.recipe.seed))[-1]
    return as_parts([*trained.parts.shared, last])


def trainings(
    first: TrainedShared, again: Callable[..., TrainedShared], name: str, count: int
) -> list[Callable[[], TrainedShared]]:
    """A trained network, and others by the same recipe that are trained where they are needed.

    Args:
        first: the trained one.
        again: (name, recipe) -> one trained by a recipe, for example `book.inits.train_shared`.
        name: of the recipe.
        count: of trainings, the first one included; their seeds follow each other.
    """
    recipes = [replace(first.recipe, seed=first.recipe.seed + n) for n in range(1, count)]
    known = partial(itself, first._replace(info={}))
    return [known, *(partial(again, name, recipe) for recipe in recipes)]


def methods_of(
    makes: Mapping[str, Sequence[Callable[[], TrainedShared]]],
    on_weights: tuple[Grid, Sequence[float]],
    on_codes: tuple[Grid, Sequence[float]],
) -> dict[str, Method]:
    """A method for each of some trained shared networks, by name.

    Args:
        makes: name -> trainings, as from `trainings`.
        on_weights, on_codes: step sizes and strengths of the prior to try where the own part is
            weights, and where it is a code.
    """
    found = {}
    for name, all_of in makes.items():
        network = all_of[0]().network
        spec = dict(network.spec)
        kind = spec.pop("kind")
        if kind == "heads":  # an initialization of all weights, once it is trained
            network = build("weights", **spec)
        grid, priors = on_codes if kind in ("codes", "encoder") else on_weights
        starts = [partial(trained_parts, make) for make in all_of]
        found[name] = Method(network, starts, grid, (0.0, *priors), name)
    return found


def itself(trained: TrainedShared) -> TrainedShared:
    """What it is given."""
    return trained


def own_steps(
    first: TrainedShared, seeds: Sequence[Callable], trials: Trials, pieces: Pieces
) -> np.ndarray:
    """PSNR after the steps that a bilevel training learned, with their step sizes: (seeds, tasks).

    Args:
        first: the trained network.
        seeds: () -> TrainedShared, each.
    """
    how = (shared_losses.judging(first.network), first.recipe)
    about = dict(init=f"{first.network.spec['kind']}: {trials.kind}", of="its own steps")
    values = [
        pieces.call(STUDY, about | dict(seed=n), _own, seed, first.network, *how, trials.test)
        for n, seed in enumerate(seeds)
    ]
    return np.array(values, float)


def _own(seed, network, judge, recipe, tasks):
    adapt = shared_losses.own_steps(network, recipe.inner_steps, recipe.inner_lr)
    found = evaluate.trajectory(judge, adapt, seed().parts, tasks)
    return np.round(decibel(found[:, -1].astype(np.float64)), DIGITS).tolist()


# --- numbers stored -----------------------------------------------------------------------------
def quantised(own: Any, bits: int = 8) -> Any:
    """An own part, every array rounded to 2^bits levels between its extremes."""

    def rounded(a):
        low, high = a.min(), a.max()
        step = jnp.where(high > low, (high - low) / (2**bits - 1), 1.0)
        return low + step * jnp.round((a - low) / step)

    return jax.tree.map(rounded, own)


def fitted(method: Method, parts: Parts, task: Tasks, choice: Choice, prior: float = 0.0) -> Parts:
    """The parameters after a fit of one task by a choice."""
    loss, task = shared_training.problem(method.network).loss, with_prior(task, prior)
    optimizer = method.grid[choice.optimizer][0]
    return evaluate.fit(loss, parts, task, optimizer, choice.step, lr=choice.lr)


def draw(network: Shared, parts: Parts, task: Tasks) -> np.ndarray:
    """What a network draws of a task: (points, channels)."""
    return np.asarray(network.decode(parts.shared, parts.own, task.shared.x, looked_at(task)))


def psnr_of(drawn: np.ndarray, task: Tasks, mask: np.ndarray | None = None) -> float:
    """PSNR in dB of a drawing (points, channels), everywhere or where a mask (points,) is true."""
    squared = (np.asarray(drawn) - np.asarray(task.each.values)) ** 2
    return float(decibel((squared if mask is None else squared[mask]).mean()))


def sizes(methods: Mapping[str, Method]) -> dict[str, tuple[int, int]]:
    """Name -> (numbers shared, numbers stored for one signal)."""

    def count(network):
        shared = jax.eval_shape(network.init, jax.random.key(0))
        own = jax.eval_shape(network.start, shared, jax.random.key(0))
        return fields.count(shared), fields.count(own)

    return {name: count(method.network) for name, method in methods.items()}


def resized(recipe: SharedRecipe, size: int, width: int, work: float) -> dict[str, Any]:
    """Changes of a recipe for pictures of another size, and networks as much wider or narrower.

    Args:
        recipe: to change.
        size: pixels of a side.
        width: units of a hidden layer of the plain network; the others in proportion.
        work: outer steps, as a part of the recipe's.

    Returns:
        Settings as `book.inits.shared` takes them.
    """
    net = dict(width=max(2, recipe.network["width"] * width // PLAIN))
    net |= dict(side=size) if "side" in recipe.network else {}
    return dict(size=size, network=net, steps=max(1, round(recipe.steps * work)))
