"""Learned initializations and learned optimizers on the same small network, tuned and compared.

Everything that is learned is tuned by the book's protocol on validation people, with fewer outer
steps, and then learned from several seeds. Every method is judged after the same numbers of steps.
Everything here is kept in the study "optimizers".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import numpy as np

from learnit_utils import evaluate, fields, inner
from learnit_utils.evaluate import Problem
from learnit_utils.experiments import learned_optimizer, memory, recipe, run
from learnit_utils.experiments.learned_optimizer import Learned, Setting, unpacked
from learnit_utils.experiments.protocol import Grid, Pieces, Study, tuned_method
from learnit_utils.experiments.recipe import Recipe, with_changes
from learnit_utils.experiments.seeds import anew, drawn
from learnit_utils.fields import Field
from learnit_utils.forward import pixels
from learnit_utils.inner import Adapt, Init
from learnit_utils.metrics import decibel
from learnit_utils.signals.base import Dataset, spread
from learnit_utils.tasks import Loss, Tasks, subset

STUDY = learned_optimizer.STUDY
TUNING = 1000  # the seed with which settings are tuned; no reported run has it
LEARNING = 1e9  # the cost of learning something, beside steps of descent times the width
RULE, BOTH = "learned optimizer", "learned initialization and optimizer"
MAML, METASGD = "MAML", "Meta-SGD"


class Lessons(NamedTuple):
    """What everything is learned from, tuned on and judged by."""

    field: Field
    loss: Loss
    train: Tasks
    validation: Tasks
    tests: Mapping[str, Tasks]  # "faces" -> test tasks; other classes beside it
    caps: tuple[int, ...]  # numbers of steps after which a method is judged
    grid: Grid  # of SGD and Adam


def lessons(
    settings: Recipe,
    data: Mapping[str, Dataset],
    photos: Dataset,
    test_faces: int,
    tuning_faces: int,
    caps: Sequence[int],
    rates: Grid,
) -> tuple[Lessons, list[str]]:
    """The lessons of the chapter, and whose the test faces are.

    Args:
        settings: its field is fitted.
        data: "train", "validation" and "test": faces.
        photos: test pictures of another class.
        test_faces, tuning_faces: how many of the test and of the validation faces.
    """
    field, loss, *_ = recipe.functions(settings)
    tasks_of = {split: pixels.image_tasks(faces) for split, faces in data.items()}
    index = spread(tasks_of["test"].count, test_faces)
    owners = [data["test"].names[i].split("/")[0] for i in index]
    tests = {"faces": tasks_of["test"].take(index), "photos": pixels.image_tasks(photos)}
    tuners = subset(tasks_of["validation"], tuning_faces)
    return Lessons(field, loss, tasks_of["train"], tuners, tests, tuple(caps), rates), owners


def grid(settings: Any, **each: Sequence) -> list[Any]:
    """Settings (a `Recipe` or a `Setting`) with every combination of values: field -> values."""
    changed = with_changes if isinstance(settings, Recipe) else type(settings)._replace
    return [changed(settings, **dict(zip(each, values))) for values in product(*each.values())]


# --- learning -----------------------------------------------------------------------------------
def rule_adapt(field: Field, loss: Loss, steps: int, key: jax.Array) -> Adapt:
    """Descent by a learned optimizer, from the start learned with it or from that of a key."""
    descend = learned_optimizer.descent(loss, steps)

    def adapt(learned, task, key_task):
        if learned.theta is None:
            learned = learned._replace(theta=field.init(jax.random.clone(key)))
        return descend(learned, task, key_task)

    return adapt


def rule_like(field: Field, setting: Setting) -> Learned:
    """A learned optimizer of the right shapes."""
    key_rule, key_theta = jax.random.split(jax.random.key(0))
    rule = learned_optimizer.draw_rule(key_rule, setting.units, setting.layers)
    return Learned(rule, field.init(key_theta) if setting.start else None)


def init_like(settings: Recipe) -> Any:
    """An init of the right shapes for a recipe: weights, and step sizes if it learns any."""
    return run.build(settings).init


def tune_rule(lessons: Lessons, options: Sequence[Setting], few: int) -> dict[str, Any]:
    """The best setting of a rule on validation tasks: the mean PSNR over the steps it unrolls.

    Args:
        options: to try.
        few: outer steps of a trial.

    Returns:
        {"setting": as `Setting`'s fields, "psnr": after its steps}, as `protocol.tuned_method`.
    """
    key_learn, key_start = jax.random.split(jax.random.key(TUNING))
    learned = {}

    def score(tasks, setting):
        s = Setting(**setting)._replace(outer_steps=few)
        if s not in learned:
            try:
                made = anew(learned_optimizer.learn, *lessons[:2], s, lessons.train, key_learn)
            except learned_optimizer.train.TrainError:
                return np.full(tasks.count, np.nan)
            learned[s] = unpacked(made["numbers"], rule_like(lessons.field, s))
        adapt = rule_adapt(lessons.field, lessons.loss, s.steps, key_start)
        losses = evaluate.trajectory(lessons.loss, adapt, learned[s], tasks)
        return decibel(losses[:, 1:]).mean(axis=1)

    tried = [s._asdict() for s in options]
    return tuned_method(score, tried, lessons.validation, lessons.validation)


def tune_init(lessons: Lessons, options: Sequence[Recipe], few: int) -> dict[str, Any]:
    """The best recipe of an init on validation tasks: PSNR after its own steps. As `tune_rule`."""
    learned = {}

    def score(tasks, choice):
        r = with_changes(options[choice["number"]], steps=few, seed=TUNING)
        if choice["number"] not in learned:
            try:
                text = learned_optimizer.learn_init(r)["numbers"]
            except learned_optimizer.train.TrainError:
                return np.full(tasks.count, np.nan)
            learned[choice["number"]] = unpacked(text, init_like(r))
        made_of = recipe.functions(r)
        losses = evaluate.trajectory(made_of.loss, made_of.adapt, learned[choice["number"]], tasks)
        return decibel(losses[:, -1])

    tried = [dict(number=i) for i in range(len(options))]
    return tuned_method(score, tried, lessons.validation, lessons.validation)


# --- judging ------------------------------------------------------------------------------------
def _rounded(psnr: np.ndarray) -> list:
    """As JSON, with None for what is not a number."""
    psnr = np.asarray(psnr, np.float64)
    return np.where(np.isfinite(psnr), psnr.round(2), None).tolist()


def judge_init(lessons: Lessons, init: Any) -> dict[str, Any]:
    """PSNR by tuned SGD or Adam: optimizer and step size chosen anew for each number of steps.

    Args:
        init: weights, or a function that makes them.

    Returns:
        {class: (caps, tasks) PSNR in dB, "choice": (optimizer, step size, at the edge) per cap}.
    """
    problem, found = Problem(lessons.loss, lessons.loss), {name: [] for name in lessons.tests}
    choices = []
    for cap in lessons.caps:
        how = dict(cap=cap, every=cap, early_stop=False)
        study = Study(
            STUDY,
            problem,
            {"init": [init]},
            lessons.grid,
            lessons.validation,
            lessons.validation,
            **how,
        )
        choice = study.choose_one("init")
        choices.append([choice.optimizer, choice.lr, bool(choice.at_edge)])
        for name, tasks in lessons.tests.items():
            psnr = replace(study, test=tasks).at("init", choice)["psnr"]
            found[name].append(_rounded(psnr))
    return dict(found, choice=choices)


def judge_steps(lessons: Lessons, adapt: Adapt, init: Any) -> dict[str, Any]:
    """PSNR by steps that were learned: {class: (caps, tasks) PSNR in dB}.

    Args:
        adapt: of as many steps as the largest cap.
        init: what it takes.
    """
    found = {}
    for name, tasks in lessons.tests.items():
        losses = evaluate.trajectory(lessons.loss, adapt, init, tasks)
        found[name] = _rounded(decibel(losses[:, list(lessons.caps)]).T)
    return found


def judge_rule(lessons: Lessons, learned: Learned, key: jax.Array) -> dict[str, Any]:
    """`judge_steps` of a learned optimizer; the key draws the start unless it has one."""
    return judge_steps(lessons, rule_adapt(*lessons[:2], max(lessons.caps), key), learned)


def judge_step_sizes(lessons: Lessons, init: Init) -> dict[str, Any]:
    """`judge_steps` of learned step sizes; further steps repeat the last ones."""
    return judge_steps(lessons, inner.meta_sgd(lessons.loss, max(lessons.caps), keep_last=0), init)


# --- the contest --------------------------------------------------------------------------------
@dataclass(frozen=True)
class Method:
    """Something that is learned, and what it cost.

    Attributes:
        what: the learned inits or rules, one per seed.
        cost: of the seeds' learning: {"count": numbers, "seconds", "bytes"}, means.
        setting: what was tuned.
    """

    what: list[Any]
    cost: Mapping[str, float]
    setting: Any


def learned_rules(
    pieces: Pieces,
    lessons: Lessons,
    name: str,
    options: Sequence[Setting],
    few: int,
    seeds: int,
    outer_steps: int | None = None,
) -> Method:
    """A rule of tuned settings, learned from several seeds; of one setting nothing is tuned.

    Args:
        options, few: as in `tune_rule`.
        outer_steps: of the learning; those of the options unless given.
    """
    about, cost, setting = dict(by=name, of="tuning"), LEARNING * len(options), options[0]
    if len(options) > 1:
        tuned = pieces.call(STUDY, about, tune_rule, lessons, tuple(options), few, cost=cost)
        setting = Setting(**tuned["setting"])
    setting = setting._replace(outer_steps=outer_steps or setting.outer_steps)
    made_of = []
    for seed in range(seeds):
        args = (*lessons[:2], setting, lessons.train, jax.random.key(seed))
        about = dict(by=name, of="learning", seed=seed)
        made_of.append(pieces.call(STUDY, about, learned_optimizer.learn, *args, cost=2 * LEARNING))
    like = rule_like(lessons.field, setting)
    return Method([unpacked(m["numbers"], like) for m in made_of], _mean_cost(made_of), setting)


def learned_inits(
    pieces: Pieces, lessons: Lessons, name: str, options: Sequence[Recipe], few: int, seeds: int
) -> Method:
    """An init of a tuned recipe, learned from several seeds."""
    about, cost, chosen = dict(by=name, of="tuning"), LEARNING * len(options), options[0]
    if len(options) > 1:
        tuned = pieces.call(STUDY, about, tune_init, lessons, tuple(options), few, cost=cost)
        chosen = options[tuned["setting"]["number"]]
    made_of = []
    for seed in range(seeds):
        about = dict(by=name, of="learning", seed=seed)
        args = (with_changes(chosen, seed=seed),)
        made_of.append(
            pieces.call(STUDY, about, learned_optimizer.learn_init, *args, cost=LEARNING)
        )
    like = init_like(chosen)
    return Method([unpacked(m["numbers"], like) for m in made_of], _mean_cost(made_of), chosen)


def _mean_cost(made_of: Sequence[Mapping]) -> dict[str, float]:
    return {k: float(np.mean([m[k] for m in made_of])) for k in ("count", "seconds", "bytes")}


def judged(
    pieces: Pieces, name: str, seeds: Sequence[tuple], judge: Any, lessons: Lessons
) -> list[dict]:
    """judge(lessons, *seed) for every seed of a method, kept."""
    fits = sum(tasks.count for tasks in lessons.tests.values())
    tried = sum(len(lrs) for _, lrs in lessons.grid.values()) if judge is judge_init else 0
    cost = sum(lessons.caps) * (fits + tried * lessons.validation.count)
    cost *= lessons.field.spec["width"] * (8 if judge is judge_rule else 1)
    found = []
    for number, seed in enumerate(seeds):
        about = dict(by=name, of="test", seed=number, width=lessons.field.spec["width"])
        found.append(pieces.call(STUDY, about, judge, lessons, *seed, cost=cost))
    return found


def contest(
    pieces: Pieces, lessons: Lessons, learned: Mapping[str, Method], key: jax.Array, seeds: int
) -> dict[str, list[dict]]:
    """Every method on the tests: SGD and Adam from random inits, and whatever was learned.

    Args:
        learned: of the names `RULE`, `BOTH`, `MAML`, `METASGD`.
        key: draws the random inits, the same for SGD, Adam and `RULE`.

    Returns:
        method -> what `judged` returns.
    """
    keys = [jax.random.fold_in(jax.random.clone(key), n) for n in range(seeds)]
    random, found = [(partial(drawn, lessons.field, k),) for k in keys], {}
    for name, one in lessons.grid.items():
        alone = lessons._replace(grid={name: one})
        found[f"random, {name}"] = judged(pieces, f"random, {name}", random, judge_init, alone)
    for name, method in learned.items():
        if name in (RULE, BOTH):
            which, judge = list(zip(method.what, keys)), judge_rule
        else:
            which = [(init,) for init in method.what]
            judge = judge_step_sizes if name == METASGD else judge_init
        found[name] = judged(pieces, name, which, judge, lessons)
    return found


class Table(NamedTuple):
    """PSNR of every method: method -> (seeds, caps, tasks) of one class; nan if diverged."""

    caps: tuple[int, ...]
    psnr: Mapping[str, np.ndarray]

    def interval(self, method: str, cap: int, groups: Sequence | None = None) -> evaluate.Interval:
        """PSNR in dB, mean over seeds, interval over tasks (over groups of them)."""
        values = self.psnr[method][:, self.caps.index(cap)]
        return evaluate.interval(values.mean(axis=0), groups)

    def lead(
        self, method: str, over: str, cap: int, groups: Sequence | None = None
    ) -> evaluate.Interval:
        """By how many dB a method is ahead of another, task by task."""
        gap = self.psnr[method].mean(axis=0) - self.psnr[over].mean(axis=0)
        return evaluate.interval(gap[self.caps.index(cap)], groups)

    def by_seed(self, method: str, cap: int) -> np.ndarray:
        """PSNR in dB of every seed, mean over tasks."""
        return self.psnr[method][:, self.caps.index(cap)].mean(axis=1)

    def diverged(self) -> int:
        """How many fits of all methods are not finite."""
        return int(sum(np.isnan(v).sum() for v in self.psnr.values()))


def table(caps: Sequence[int], found: Mapping[str, Sequence[Mapping]], of: str) -> Table:
    """One class of what `judged` returns for several methods."""
    return Table(
        tuple(caps), {name: np.array([s[of] for s in each], float) for name, each in found.items()}
    )


def outer_step_bytes(
    spec: Mapping[str, Any], side: int, horizon: int, setting: Setting
) -> dict[str, int]:
    """Bytes that one outer step holds, by XLA's account, for MAML and for a learned optimizer.

    Args:
        spec: of a field, as `fields.build` takes it.
        side: pixels of a side of the picture.
        horizon: K of MAML.
        setting: of the learned optimizer; its `steps` is its K.
    """
    settings = Recipe(size=side, field=dict(spec), inner_steps=horizon, limit=1, batch=1)
    functions, data = recipe.functions(settings), run.build(settings).data.train
    field = fields.build(**spec)
    like = rule_like(field, setting)
    of_rule = learned_optimizer.gradient(field, functions.loss, setting)
    return dict(
        maml=memory.of_outer_step(functions.grad, field.init(jax.random.key(0)), data),
        learned_optimizer=memory.of_outer_step(of_rule, like, data),
    )
