"""How the shipped starts were trained: every setting of every run, and the run itself."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import optax
from pydantic import ConfigDict, TypeAdapter, ValidationError

from learnit_utils import chapter, evaluate, fields, inner, measures, outer, tasks, train, weights
from learnit_utils.fields import Field
from learnit_utils.parameters import ParameterError
from learnit_utils.signals import (
    colmap,
    faces,
    landmarks,
    local,
    objects,
    phantoms,
    photos,
    sdf,
    text,
)
from learnit_utils.signals.base import SPLITS, DataError, Dataset, dataset


def _coloured(load: Callable) -> Callable:
    """A loader of what is never gray, called like the others."""

    def coloured(*args, gray, **options):
        if gray:
            raise DataError("gray = True: these have colours, gray=False is needed")
        return load(*args, **options)

    return coloured


# (split, size, gray, limit, ...) -> Dataset: what ships, installs or is drawn.
SIGNALS = {"faces": faces.load, "photos": photos.load, "text": text.load, "sdf": sdf.load}
SIGNALS |= {"phantoms": phantoms.load, "objects": _coloured(objects.load)}
SIGNALS |= {"landmarks": _coloured(landmarks.load)}
# The same with a folder first, or a file.
FOLDERS = {"faces": faces.celeba, "photos": local.imagenette, "local": local.folder}
FOLDERS |= {"phantoms": phantoms.published, "objects": _coloured(objects.shapenet)}
FOLDERS |= {"landmarks": _coloured(colmap.either)}
PATH = "path"  # folder of the starts kept on the way, beside the finished ones


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides a run."""

    signals: str = "faces"  # a module of learnit_utils.signals; "faces+text": two classes at once
    size: int = 64  # pixels of a side
    gray: bool = True
    # CelebA's for "faces", Imagenette's for "photos", ShapeNet's for "objects", of pictures for
    # "local", Phototourism's for "landmarks"; a file for "phantoms".
    folder: str = ""
    # What is seen of it: see `measures`.
    measure: Literal["pixels", "views", "rays", "photographs"] = "pixels"
    views: int = 20  # angles of line integrals; the same in all steps of a task
    rays: int = 64  # per inner step, each with so many samples
    samples: int = 32
    density: str = "softplus"  # what makes a network's output a density; `volume.DENSITIES`
    limit: int | None = None  # training pictures; a class drawn from a seed has as many as asked
    held_out: int = 200  # at most so many from a folder for validation, and for the test
    options: dict = dataclasses.field(default_factory=dict)  # more for the signals' load
    field: dict = dataclasses.field(
        default_factory=lambda: dict(kind="siren", width=256, depth=5, omega0=30.0, channels=1)
    )
    method: Literal["maml", "fomaml", "reptile"] = "maml"
    inner_steps: int = 2  # K
    inner_lr: float = 1e-2  # alpha, or where learned step sizes begin
    prune: float | None = None  # inner steps see this part of the pixels only; `tasks.hardest`
    # What has a learned step size of its own, if anything; see `inner.with_rates`.
    rates: Literal["layer_step", "parameter", "parameter_step"] | None = None
    rates_lr: float = 1e-4  # the outer step size of learned step sizes
    outer_lr: float = 1e-5  # beta
    decay: Literal["constant", "cosine"] = "constant"  # of beta
    warmup: int = 0  # at most a tenth of the steps
    clip: float | None = None
    batch: int = 3
    steps: int = 5000
    seed: int = 0
    agreement: bool = True  # measure how FOMAML's and Reptile's directions agree with MAML's too
    precision: Literal["float32", "float16"] = "float32"  # of the weight files
    keep: tuple[int, ...] = ()  # outer steps at which the start on its way is kept too

    def __post_init__(self):
        object.__setattr__(self, "keep", tuple(self.keep))  # a list in a manifest

    def load(self, split: str, **more) -> Dataset | objects.Objects:
        """The signals of a split.

        Args:
            split: "train", "validation" or "test".
            more: options beside those of the recipe, or in their place.

        Raises:
            DataError: a class that is not known, or data that cannot be used.
        """
        drawn = more.pop("limit", self.limit if split == "train" else None)
        read = drawn or (self.limit if split == "train" else self.held_out)
        options = dict(size=self.size, gray=self.gray, **self.options) | more
        names, parts = self.signals.split("+"), []
        for name in names:
            if self.folder and name in FOLDERS:
                parts.append(FOLDERS[name](self.folder, split, limit=read, **options))
            elif name in SIGNALS:
                parts.append(SIGNALS[name](split, limit=drawn, **options))
            else:
                known = ", ".join(dict.fromkeys([*SIGNALS, *FOLDERS]))
                why = "needs a folder" if name in FOLDERS else f"one of {known}"
                raise DataError(f"signals = {name!r:.60}: {why}")
        if self.folder and not FOLDERS.keys() & set(names):
            raise DataError(f"folder = {self.folder!r:.60}: {self.signals} is not read from one")
        return parts[0] if len(parts) == 1 else _together(parts)


def _together(parts: list[Dataset]) -> Dataset:
    """Several classes as one."""
    pictures = [u for d in parts for u in d.arrays]
    names = [f"{k}/{n}" for k, d in enumerate(parts) for n in d.names]
    told = ("source", "licence")
    both = {k: " + ".join(d.provenance[k] for d in parts) for k in told}
    return dataset(pictures, names, **both, split=parts[0].provenance["split"])


QUICK = dict(decay="cosine", warmup=50, steps=1500, precision="float16")
TUNED = dict(**QUICK, outer_lr=3e-4, clip=1.0)


def _ct(sigma: float) -> dict:
    """Tomography; sigma in radians per picture side, as learnit's notebook counts."""
    net = dict(kind="fourier", width=64, depth=4, sigma=sigma / (2 * np.pi), features=48)
    net |= dict(channels=1, scheme="lecun", head="sigmoid", offset=0.0)
    data = dict(signals="phantoms", size=48, limit=2048, measure="views", batch=1)
    descent = dict(inner_lr=10.0, outer_lr=3e-3, decay="cosine", warmup=100, clip=1.0, steps=5000)
    return dict(**data, **descent, field=net)


CT = _ct(2.5)


def _objects(kind: str, **options) -> dict:
    """Simple-NeRF, as the authors' notebook `shapenet`, smaller."""
    net = dict(kind="posenc", width=64, depth=6, frequencies=6, max_log2=4.0, scale=1.0)
    net |= dict(channels=4, dims=3, scheme="lecun", head="linear", offset=0.0)
    data = dict(signals="objects", size=128, gray=False, measure="rays", batch=1)
    data |= dict(options=dict(kind=kind, **options), precision="float16")
    descent = dict(method="reptile", inner_steps=32, inner_lr=0.5, outer_lr=2e-3)
    return dict(**data, **descent, decay="cosine", warmup=100, steps=4000, field=net)


def _landmark(name: str, inner_steps: int) -> dict:
    """Simple-NeRF of a place, as the authors' notebook `phototourism`, smaller.

    Every run takes as many gradients; with one inner step this is ordinary training on all
    photographs, with Adam.
    """
    data = dict(signals="landmarks", size=120, gray=False, measure="photographs", batch=1)
    data |= dict(options=dict(landmark=name), precision="float16")
    descent = dict(method="reptile", inner_steps=inner_steps, inner_lr=1.0)
    descent |= dict(outer_lr=5e-4 if inner_steps == 1 else 2e-3, decay="cosine", warmup=100)
    descent |= dict(steps=128000 // inner_steps)
    field = _objects("chairs")["field"] | dict(frequencies=10, max_log2=6.0)
    return dict(**data, **descent, field=field)


EARLY = dict(steps=9600, decay="constant")

RECIPES = {
    # The first document's run: the dictionary paper's meta_learn.py.
    # In full precision: chapter 3 checks that it repeats what the run measured at its end.
    "faces64_maml": Recipe(),
    # The same network and K, in fewer steps. An outer step size of 1e-3 did best of 1e-4, 3e-4 and
    # 1e-3 on validation people over 200 steps, but fell apart within the first 200 of a long run.
    "faces64_maml_tuned": Recipe(**TUNED, keep=(10, 50, 200, 700)),
    # The same outer step size for all three methods. On validation people 1e-4 gave FOMAML 18.9 and
    # Reptile 19.5 dB; 1e-3 was worse for both. FOMAML's end is chaotic: 16.1 dB, and 19.0 on
    # pictures that differed in their last bits.
    "faces64_fomaml": Recipe(**TUNED, method="fomaml"),
    "faces64_reptile": Recipe(**QUICK, method="reptile", outer_lr=3e-4),
    "faces64_metasgd": Recipe(**TUNED, rates="parameter_step", rates_lr=1e-3),
    # Other classes, with the settings that were found for faces, and two classes at once.
    "photos64_maml_tuned": Recipe(**TUNED, signals="photos", options=dict(crops=2)),
    "text64_maml_tuned": Recipe(**TUNED, signals="text"),
    "sdf64_maml_tuned": Recipe(**TUNED, signals="sdf"),
    "faces_text64_maml_tuned": Recipe(**TUNED, signals="faces+text"),
    # How many pictures are needed.
    "text64_of_5": Recipe(**TUNED, signals="text", limit=5),
    "text64_of_20": Recipe(**TUNED, signals="text", limit=20),
    "text64_of_80": Recipe(**TUNED, signals="text", limit=80),
    # Twice the inner steps for about the same work: each sees a quarter of the pixels. On text the
    # same settings fall apart: 15.2 dB on validation pages after 250 outer steps, 8.2 after 750.
    "faces64_pruned": Recipe(**TUNED, inner_steps=4, prune=0.25),
    # Tomography, as the authors' notebook 2d_ct, smaller; the same outer steps for all three, each
    # with the sigma that chapter 6 finds best for it on validation phantoms. The others again, for
    # longer than MAML takes with 12 steps.
    "ct48_reptile12": Recipe(**CT, method="reptile", inner_steps=12),
    "ct48_maml3": Recipe(**CT, method="maml", inner_steps=3),
    "ct48_maml12": Recipe(**_ct(10), method="maml", inner_steps=12),
    "ct48_reptile12_long": Recipe(**CT | dict(steps=18000), method="reptile", inner_steps=12),
    "ct48_maml3_long": Recipe(**CT | dict(steps=22000), method="maml", inner_steps=3),
    # Objects from photographs: with all 25 views of every training object (mv), or only the first
    # of each (sv). Three seeds of the first. On validation chairs, after 1500 outer steps and 100
    # to 200 of the test: 19.1 dB; 8 frequencies up to 2^5 18.2; with those, twice the width or the
    # rays 18.4, an inner step size of 1 18.3, 64 inner steps 18.9, four objects a step 18.4.
    "chairs128_mv": Recipe(**_objects("chairs")),
    "chairs128_mv_1": Recipe(**_objects("chairs"), seed=1),
    "chairs128_mv_2": Recipe(**_objects("chairs"), seed=2),
    "cars128_mv": Recipe(**_objects("cars")),
    "lamps128_mv": Recipe(**_objects("lamps")),
    "chairs128_sv": Recipe(**_objects("chairs", views=1)),
    "cars128_sv": Recipe(**_objects("cars", views=1)),
    "lamps128_sv": Recipe(**_objects("lamps", views=1)),
    # Photographs of a place: with 64 inner steps, and with one. On validation photographs of the
    # gate 10 frequencies up to 2^6 gave 22.5 dB, 8 up to 2^5 21.6; in a fifth of the steps, 12 up
    # to 2^7 18.6, those 10 17.8 and 19.6 with two seeds. With one inner step an outer step size of
    # 2e-3 came to 18.8 dB within 8000 steps and fell to 16.4 by the end; 5e-4 to 18.9 and 17.9.
    **{
        f"{name}_reptile{k}": Recipe(**_landmark(name, k))
        for name in landmarks.LANDMARKS
        for k in (64, 1)
    },
    "gate_reptile64_1": Recipe(**_landmark("gate", 64), seed=1),
    # One inner step, stopped where validation photographs of two landmarks are best, 9600 steps in.
    **{f"{n}_reptile1_early": Recipe(**_landmark(n, 1) | EARLY) for n in landmarks.LANDMARKS},
    # A class of your own: `learnit train own --set folder=DIR`.
    "own": Recipe(**TUNED, signals="local"),
}


def changed(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """A recipe with settings replaced, each given as the text NAME=VALUE.

    Raises:
        ParameterError: a setting that a recipe does not have, or a value of the wrong kind.
    """
    known = {f.name: f.type for f in dataclasses.fields(recipe) if f.type is not dict}
    values = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in known:
            names = ", ".join(known)
            raise ParameterError(f"{setting!r:.60}: NAME=VALUE, with NAME one of {names}")
        kind = TypeAdapter(known[name], config=ConfigDict(allow_inf_nan=False))
        try:
            values[name] = kind.validate_strings(value)
        except ValidationError as e:
            raise ParameterError(f"{name} = {value!r:.60}: {e.errors()[0]['msg']}") from None
    return dataclasses.replace(recipe, **values)


class Parts(NamedTuple):
    """A recipe put together: the seven lines of the book."""

    data: Any  # .train, .validation, .test
    provenance: dict[str, dict]  # of each split
    field: Field
    loss: Callable
    adapt: Callable
    grad: outer.MetaGradient
    start: Any
    optimizer: optax.GradientTransformation


def build(recipe: Recipe) -> Parts:
    """Everything a run of this recipe needs."""
    r = recipe
    provenance = {}

    def noted(split, **more):
        data = r.load(split, **more)
        provenance.setdefault(split, data.provenance)
        return data

    seen = measures.of(r)
    data = SimpleNamespace(**{split: seen.tasks(noted, split) for split in SPLITS})
    field, loss, adapt, grad = _functions(*(json.dumps(getattr(r, name)) for name in CHOICES))
    start = field.init(jax.random.key(r.seed))
    schedule = dict(decay=r.decay, warmup=min(r.warmup, r.steps // 10))
    optimizer = train.adam(r.outer_lr, r.steps, clip=r.clip, **schedule)
    if r.rates is not None:
        start = inner.with_rates(start, r.inner_steps, r.inner_lr, r.rates)
        of_rates = train.adam(r.rates_lr, r.steps, **schedule)
        groups = dict(theta=optimizer, rates=of_rates)
        optimizer = optax.multi_transform(groups, inner.Start("theta", "rates"))
    return Parts(data, provenance, field, loss, adapt, grad, start, optimizer)


# The settings that decide what is compiled.
CHOICES = ("field", "method", "inner_steps", "inner_lr", "prune", "rates", "measure", "views")
CHOICES += ("rays", "samples", "density")


@lru_cache(maxsize=32)  # so that classes that are learned alike share what is compiled
def _functions(*choices):
    """Field, loss, adapt and outer gradient."""
    r = SimpleNamespace(**dict(zip(CHOICES, map(json.loads, choices))))
    seen, field = measures.of(r), fields.build(**r.field)
    loss = tasks.regression(field, seen.measure(r))
    inside = loss if r.prune is None else tasks.hardest(field, loss, r.prune)
    if r.rates is None:
        adapt = inner.sgd(inside, r.inner_steps, r.inner_lr, fresh=seen.fresh)
    else:
        adapt = inner.meta_sgd(inside, r.inner_steps, fresh=seen.fresh)
    return field, loss, adapt, outer.METHODS[r.method](loss, adapt)


def execute(name: str, recipe: Recipe, out: Path, into: Path | None = None, **options) -> Path:
    """Train, score on validation and test, and write the weights with their manifest.

    The starts that the recipe keeps on the way become PATH/NAME_STEP.safetensors in the folder of
    the weights.

    Args:
        name: of the weights.
        out: folder of the training state, out/NAME; a run found there is continued.
        into: folder of the finished weights; out/NAME unless given.
        options: handed to `train.run`.

    Returns:
        The path of the weight file.
    """
    p = build(recipe)
    folder = out / name
    options.setdefault("every", max(250, recipe.steps // 40))  # a look costs as much as many steps

    def write(path, start, steps, **info):
        learned = start if isinstance(start, inner.Start) else inner.Start(start, None)
        info = dict(settings=dataclasses.asdict(recipe), data=p.provenance, **info)
        info |= dict(method=recipe.method, seed=recipe.seed, steps=steps)
        here = weights.circumstances()
        info |= dict(rates=learned.rates, precision=recipe.precision)
        weights.save(path, p.field, learned.theta, **info, **here)

    def kept(folder, step):
        return folder / PATH / f"{name}_{step}{weights.SUFFIX}"

    done = train.run(
        p.grad,
        p.start,
        p.data.train,
        p.optimizer,
        recipe.steps,
        batch=recipe.batch,
        seed=recipe.seed,
        out=folder,
        probe=_probe(p, recipe),
        visit=lambda step, start: write(kept(folder, step), start, step),
        at=recipe.keep,
        **options,
    )
    kept_start = weights.rounded(done.start, recipe.precision)
    scores = {
        f"{split}_psnr": score(p, recipe, kept_start, getattr(p.data, split))
        for split in ("validation", "test")
    }
    history, wall = _summary(done.history), round(done.wall_seconds, 1)
    path = (into or folder) / (name + weights.SUFFIX)
    write(path, done.start, recipe.steps, scores=scores, history=history, wall_seconds=wall)
    for step in recipe.keep if into else ():
        if kept(folder, step).exists():
            w = weights.load(kept(folder, step))
            start = w.theta if w.rates is None else inner.Start(w.theta, w.rates)
            write(kept(into, step), start, step)
    return path


def score(p: Parts, recipe: Recipe, start: Any, data: tasks.Tasks) -> float:
    """Mean PSNR in dB of what a start makes of tasks, as its measurement has it: `measures`."""
    return measures.of(recipe).score(p, recipe, start, data)


def obtain(choice: str, name: str, **changes) -> weights.Weights:
    """The weights that a chapter's parameter `weights` asks for.

    Args:
        choice: "book" for those that ship; "train" to run the recipe now, its state kept in the
            run's folder under a name that goes with the settings; else a weight file, or a folder
            that holds NAME.safetensors.
        name: of the recipe.
        changes: settings to replace in the recipe, for "train".

    Raises:
        WeightsError: nothing usable there.
    """
    if choice == "book":
        return weights.load(name)
    if choice == "train":
        recipe = dataclasses.replace(RECIPES[name], **changes)
        return weights.load(execute(name, recipe, _place(recipe)))
    folder, file = Path(choice).expanduser(), name + weights.SUFFIX
    places = (folder / file, folder / name / file) if folder.is_dir() else (folder,)
    return weights.load(next((p for p in places if p.exists()), places[0]))


def on_the_way(choice: str, name: str, **changes) -> dict[int, weights.Weights]:
    """The starts that a run kept on its way, {outer step: start}, the finished one last.

    Arguments as for `obtain`; from a folder, whatever of them lies in its folder `path`.
    """
    end = obtain(choice, name, **changes)
    keep = of(end).keep
    if choice == "book":
        kept = {step: weights.load(f"{PATH}/{name}_{step}") for step in keep}
    else:
        given = Path(choice).expanduser()
        if choice == "train":
            given = _place(dataclasses.replace(RECIPES[name], **changes))
        files = {s: f"{PATH}/{name}_{s}{weights.SUFFIX}" for s in keep}
        places = [(s, folder / f) for s, f in files.items() for folder in (given, given / name)]
        kept = {s: weights.load(path) for s, path in places if path.exists()}
    return {**kept, end.info["steps"]: end}


def _place(recipe: Recipe) -> Path:
    """Where a chapter trains a recipe: a folder that goes with its settings."""
    settings = json.dumps(dataclasses.asdict(recipe), sort_keys=True)
    return chapter.folder() / "training" / hashlib.sha256(settings.encode()).hexdigest()[:12]


def of(learned: weights.Weights) -> Recipe:
    """The recipe that weights were trained by.

    Raises:
        WeightsError: they were not trained here, for example imported.
    """
    if "settings" not in learned.info:
        raise weights.WeightsError(
            f"{learned.info.get('method')} weights have no recipe or history"
        )
    return Recipe(**learned.info["settings"])


def _probe(p: Parts, recipe: Recipe) -> Callable[[Any], dict]:
    """Validation PSNR; if asked for, without learned step sizes, how the directions agree."""
    if recipe.measure != "pixels":
        few = measures.few(p.data.validation, 10)
        return lambda start: {"psnr": score(p, recipe, start, few)}
    psnr = train.validation(p.grad, p.data.validation)
    if recipe.rates is not None or not recipe.agreement:
        return psnr
    few = p.data.validation.take(np.arange(0, p.data.validation.count, 5))
    agreement = evaluate.agreement(p.loss, p.adapt)
    return lambda start: {**psnr(start), **agreement(start, few)}


def _summary(history: dict[str, np.ndarray]) -> dict[str, list]:
    """The history in a few dozen numbers: the probes, and the training PSNR between them."""
    short = {k: np.round(v, 4).tolist() for k, v in history.items() if k != "loss"}
    psnr = -10 * np.log10(history["loss"])
    edges = zip(history["step"], history["step"][1:])
    return short | {"train_psnr": [round(float(psnr[a:b].mean()), 4) for a, b in edges]}
