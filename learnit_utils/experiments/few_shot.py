"""Few-shot classification: ways to learn from many classes how to learn new ones from few pictures.

`learned` learns by the functions of the core, unchanged; `WAYS` says what is done with it in an
episode. All is tuned on validation classes and kept in the study "few_shot".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learnit_utils import inner, outer, train
from learnit_utils.evaluate import SGD
from learnit_utils.experiments import classifiers, episodes
from learnit_utils.experiments.classifiers import Affine, Network, Weights, cross_entropy
from learnit_utils.experiments.protocol import Pieces, tuned_method
from learnit_utils.outer import MetaGradient
from learnit_utils.signals import faces, glyphs
from learnit_utils.signals.base import SPLITS, Dataset, dataset
from learnit_utils.tasks import Loss, Tasks

STUDY = "few_shot"
PER_CLASS = 40  # pictures of a character
PEOPLE = {"train": range(1, 25), "validation": range(25, 33), "test": range(33, 41)}


@dataclass(frozen=True)
class Setting:
    """What all ways have in common."""

    signals: str = "glyphs"  # or "faces"
    size: int = 28  # pixels of a side
    widths: tuple[int, ...] = (16, 16, 16, 16)  # channels of the convolutions
    ways: int = 5  # N
    shots: int = 1  # K, in training
    queries: int = 5  # Q, in training
    test_shots: tuple[int, ...] = (1, 5)
    test_queries: int = 10
    episodes: int = 4000  # of training, each drawn beforehand
    batch: int = 4  # of them in an outer step
    steps: int = 1000  # outer steps
    validation: int = 100  # episodes on which everything is chosen
    test: int = 600  # episodes that are reported

    def network(self, classes: int | None = None) -> Network:
        """The network; with `ways` outputs unless another number is given."""
        return Network("conv", self.widths, 2, 3, self.size, classes or self.ways)


@lru_cache(maxsize=8)
def pictures_of(setting: Setting) -> dict[str, Dataset]:
    """Split -> pictures; no class is on two sides."""
    if setting.signals == "glyphs":
        limits = {part: PER_CLASS * len(glyphs.alphabet(part)) for part in SPLITS}
        return {s: glyphs.load(s, size=setting.size, limit=limits[s]) for s in SPLITS}
    return {part: _of_people(faces.load("all", size=setting.size), part) for part in SPLITS}


def _of_people(data: Dataset, part: str) -> Dataset:
    mine = {f"s{person}" for person in PEOPLE[part]}
    kept = [i for i, name in enumerate(data.names) if name.partition("/")[0] in mine]
    about = {k: data.provenance[k] for k in ("source", "licence")} | dict(split=part)
    return dataset([data.arrays[i] for i in kept], [data.names[i] for i in kept], **about)


def episodes_of(setting: Setting, part: str, shots: int, count: int, seed: int = 0) -> Tasks:
    """Episodes of a split; those of validation and test are the same for every way."""
    rng = np.random.default_rng([seed, SPLITS.index(part), shots])
    queries = setting.queries if part == "train" else setting.test_queries
    return episodes.draw(pictures_of(setting)[part], setting.ways, shots, queries, count, rng)


def loss_on(predict: Callable, part: str) -> Loss:
    """loss(theta, task, key) -> scalar: cross-entropy of predict(theta, pictures) -> logits.

    On a part of an episode: "support", "query" or "all".
    """

    def loss(theta, task, key):
        del key
        x, labels = episodes.pictures(task, part)
        return cross_entropy(predict(theta, x), labels)

    return loss


def by_prototypes(vectors: Callable, metric: str = "euclidean") -> Callable:
    """task -> logits (N Q, N) of the query: minus the distances to the classes' mean vectors.

    Args:
        vectors: pictures -> (pictures, features).
        metric: "euclidean", squared; or "cosine", of the vectors' angles.

    Source: Snell, Swersky and Zemel 2017, equations 1 and 2.
    """

    def logits(task):
        support, query = (vectors(episodes.pictures(task, p)[0]) for p in ("support", "query"))
        prototypes = support.reshape(*task.each.support.shape, -1).mean(axis=1)
        if metric == "cosine":
            unit = [v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (query, prototypes)]
            return unit[0] @ unit[1].T
        return -classifiers.squared_distances(query, prototypes)

    return logits


def prototype_loss(network: Network) -> Loss:
    """loss(theta, task, key): cross-entropy of the query by prototypes."""

    def loss(theta, task, key):
        del key
        logits = by_prototypes(partial(network.features, theta.body))(task)
        _, labels = episodes.pictures(task, "query")
        return cross_entropy(logits, labels)

    return loss


HEAD_ONLY = optax.chain(SGD, optax.masked(optax.set_to_zero(), Weights(True, False)))


def anil(loss: Loss, steps: int, lr: float) -> inner.Adapt:
    """Inner steps on the head alone: the body's step sizes are 0 (Raghu et al. 2020)."""
    return inner.with_optimizer(loss, steps, HEAD_ONLY, lr=lr, keep_last=None)


def direction(setting: Setting, kind: str, inner_lr: float, inner_steps: int) -> MetaGradient:
    """What the outer loop follows, with alpha and K where there is an inner loop.

    The kinds: "maml", "fomaml", "reptile", "anil", "prototypes"; "maml_same", with the outer loss
    on the support, too; "transfer", plain classification of all training classes.
    """
    net = setting.network()
    support, query, every = (loss_on(net, part) for part in ("support", "query", "all"))
    how = dict(steps=inner_steps, lr=inner_lr)
    adapt = partial(inner.sgd, **how, keep_last=None)
    none = inner.sgd(query, 0, 0.0)
    if kind == "transfer":
        return outer.maml(classification(setting), none)
    made = {
        "maml": lambda: outer.maml(query, adapt(support)),
        "fomaml": lambda: outer.fomaml(query, adapt(support)),
        "reptile": lambda: outer.reptile(query, adapt(every)),
        "anil": lambda: outer.maml(query, anil(support, **how)),
        "maml_same": lambda: outer.maml(support, adapt(support)),
        "prototypes": lambda: outer.maml(prototype_loss(net), none),
    }
    return made[kind]()


def classification(setting: Setting) -> Loss:
    """loss(theta, task, key): cross-entropy over all training classes; a task is a minibatch."""
    classes = len(episodes.classes_of(pictures_of(setting)["train"].names))

    def loss(theta, task, key):
        del key
        numbers, labels = task.each
        return cross_entropy(setting.network(classes)(theta, task.shared[numbers]), labels)

    return loss


def minibatches(setting: Setting, size: int, count: int, seed: int) -> Tasks:
    """Tasks that are minibatches: numbers and labels (count, size) of training pictures."""
    data, rng = pictures_of(setting)["train"], np.random.default_rng([seed, 9])
    label = np.zeros(len(data.names), np.int32)
    for number, members in enumerate(episodes.classes_of(data.names).values()):
        label[members] = number
    drawn = np.stack([rng.permutation(len(label))[:size] for _ in range(count)]).astype(np.int32)
    return Tasks((jnp.asarray(drawn), jnp.asarray(label[drawn])), jnp.asarray(data.arrays))


class How(NamedTuple):
    """How a kind is learned."""

    outer_lr: float
    inner_lr: float = 0.0
    inner_steps: int = 0


@lru_cache(maxsize=32)
def learned(setting: Setting, kind: str, how: How, seed: int) -> Weights:
    """Weights of a kind (see `direction`), or "random" ones; all see as many pictures in a step."""
    key_init, key_train = jax.random.split(jax.random.key(seed))
    classes = len(episodes.classes_of(pictures_of(setting)["train"].names))
    net = setting.network(classes if kind == "transfer" else None)
    if kind == "random":
        return net.init(key_init)
    if kind == "transfer":
        size = setting.ways * (setting.shots + setting.queries)
        tasks = minibatches(setting, size, setting.episodes, seed)
    else:
        tasks = episodes_of(setting, "train", setting.shots, setting.episodes, seed)
    grad = direction(setting, kind, how.inner_lr, how.inner_steps)
    optimizer = outer.adam(how.outer_lr, setting.steps, decay="cosine")
    run = partial(train.run, grad, net.init(key_init), tasks, optimizer, setting.steps)
    return run(batch=setting.batch, key=key_train).init


def _each(score: Callable, tasks: Tasks) -> np.ndarray:
    """score(task) of every task."""

    def one(each):
        return score(tasks._replace(each=each))

    return np.asarray(jax.lax.map(one, tasks.each))


def _accuracy(logits: Callable, task: Tasks) -> jax.Array:
    return classifiers.accuracy(logits(task), episodes.pictures(task, "query")[1])


@lru_cache(maxsize=64)
def _descending(predict: Callable, optimizer: Any, steps: int) -> Callable:
    """(theta, lr, tasks) -> accuracies after steps of descent on the support."""
    support = loss_on(predict, "support")

    def run(theta, lr, tasks):
        adapt = inner.with_optimizer(support, steps, optimizer, lr=lr, keep_last=0)

        def one(each):
            task = tasks._replace(each=each)
            end, _ = adapt(theta, task, jax.random.key(0))
            return _accuracy(lambda t: predict(end, episodes.pictures(t, "query")[0]), task)

        return jax.lax.map(one, tasks.each)

    return jax.jit(run)


@lru_cache(maxsize=8)
def _features_of(network: Network) -> Callable:
    return jax.jit(network.features)


def with_features(network: Network, body: Any, tasks: Tasks) -> Tasks:
    """The same episodes, with the features of the pictures in the place of the pictures."""
    return tasks._replace(shared=_features_of(network)(body, tasks.shared))


def new_head(theta: Weights, ways: int) -> Weights:
    """A head of zeros: all classes equally likely."""
    w = jnp.zeros((theta.head.w.shape[0], ways))
    return theta._replace(head=Affine(w, jnp.zeros(ways)))


def all_weights(setting: Setting, theta: Weights, tasks: Tasks, how: Mapping) -> np.ndarray:
    """Steps of descent of all weights from theta."""
    run = _descending(setting.network(), SGD, how["steps"])
    return np.asarray(run(theta, jnp.float32(how["lr"]), tasks))


def head_alone(setting: Setting, theta: Weights, tasks: Tasks, how: Mapping) -> np.ndarray:
    """Steps of descent of the head from theta's: the body is frozen, its features computed once."""
    run = _descending(classifiers.scores, SGD, how["steps"])
    tasks = with_features(setting.network(), theta.body, tasks)
    return np.asarray(run(theta.head, jnp.float32(how["lr"]), tasks))


def prototypes(setting: Setting, theta: Weights, tasks: Tasks, how: Mapping) -> np.ndarray:
    """The nearest class mean in the space of theta's features."""
    tasks = with_features(setting.network(), theta.body, tasks)
    logits = by_prototypes(lambda features: features, how["metric"])
    return _each(partial(_accuracy, logits), tasks)


def nearest_picture(setting: Setting, theta: Any, tasks: Tasks, how: Mapping) -> np.ndarray:
    """The label of the support picture with the nearest pixels."""
    del theta

    def logits(task):
        (support, _), (query, _) = (episodes.pictures(task, p) for p in ("support", "query"))
        gaps = classifiers.squared_distances(*(u.reshape(len(u), -1) for u in (query, support)))
        return -gaps.reshape(len(query), setting.ways, -1).min(axis=2)

    return _each(partial(_accuracy, logits), tasks)


def fresh(way: Callable) -> Callable:
    """A way with a new head, for weights that were learned with other classes."""

    def anew(setting, theta, tasks, how):
        return way(setting, new_head(theta, setting.ways), tasks, how)

    return anew


def grid(**lists: Any) -> tuple[dict, ...]:
    """All combinations of settings to try."""
    return tuple(dict(zip(lists, pair)) for pair in product(*lists.values()))


class Way(NamedTuple):
    """A way: what is learned, how it may be learned, what is done with it, what is tried there."""

    kind: str
    hows: tuple[How, ...]
    use: Callable  # (setting, theta, tasks, how) -> accuracies
    tried: tuple[dict, ...]


METRICS = grid(metric=("euclidean", "cosine"))
HEADS = grid(lr=(0.1, 0.3, 1.0, 3.0), steps=(20, 100))
STEPS = grid(lr=(0.03, 0.1, 0.3), steps=(5, 20))
LONGER = grid(lr=(0.03, 0.1, 0.3), steps=(10, 30))
LOOPS = (How(3e-3, 0.1, 5), How(3e-3, 0.3, 5), How(3e-3, 0.03, 5), How(1e-3, 0.1, 5))
LOOPS += (How(1e-2, 0.1, 5), How(1e-2, 0.3, 5))
PLAIN = tuple(How(beta) for beta in (3e-3, 1e-3, 1e-2, 3e-4, 3e-2))
WAYS = {
    "pixels": Way("random", (How(0.0),), nearest_picture, ({},)),
    "untrained": Way("random", (How(0.0),), prototypes, METRICS),
    "scratch": Way("random", (How(0.0),), all_weights, LONGER),
    "head": Way("transfer", PLAIN, fresh(head_alone), HEADS),
    "centroid": Way("transfer", PLAIN, prototypes, METRICS),
    "fine-tune": Way("transfer", PLAIN, fresh(all_weights), LONGER),
    "prototypes": Way("prototypes", PLAIN, prototypes, METRICS),
    "reptile": Way("reptile", LOOPS, all_weights, STEPS),
    "fomaml": Way("fomaml", LOOPS, all_weights, STEPS),
    "maml": Way("maml", LOOPS, all_weights, STEPS),
    "anil": Way("anil", LOOPS, head_alone, STEPS),
    "maml_same": Way("maml_same", LOOPS, all_weights, STEPS),
}


class Measured(NamedTuple):
    """What came of a way."""

    how: How  # chosen on validation classes
    uses: dict[int, dict]  # shots -> what is done in an episode, chosen there
    accuracy: dict[int, np.ndarray]  # shots -> (seeds, test episodes)


def chosen_how(pieces: Pieces, setting: Setting, name: str, way: Way) -> tuple[How, dict]:
    """How a way is learned best on validation classes, and How -> mean accuracy there."""
    if len(way.hows) == 1:
        return way.hows[0], {}
    tried = {}
    for how in way.hows:
        about = dict(way=name, of="validation", signals=setting.signals, **how._asdict())
        args = (_validated, setting, way.kind, way.use, way.tried, how)
        tried[how] = pieces.call(STUDY, about, *args, cost=setting.steps)
    return max(tried, key=tried.get), tried


def measured(
    pieces: Pieces, setting: Setting, name: str, how: How, seeds: int, way: Way | None = None
) -> Measured:
    """A way on test episodes, learned with several seeds; the first of them chooses the use."""
    way = way or WAYS[name]
    about = dict(way=name, of="test", signals=setting.signals)
    cost = 1 if way.kind == "random" else setting.steps
    args = (setting, way.kind, way.use, how)
    first = pieces.call(STUDY, about | dict(seed=0), _chosen, *args, way.tried, cost=cost)
    uses, found = first["uses"], [first["correct"]]
    for seed in range(1, seeds):
        more = (STUDY, about | dict(seed=seed), _scored, *args, seed, uses)
        found.append(pieces.call(*more, cost=cost))
    full = setting.ways * setting.test_queries
    by_shots = {k: np.array([f[str(k)] for f in found]) / full for k in setting.test_shots}
    return Measured(how, {int(k): use for k, use in uses.items()}, by_shots)


def _validated(setting, kind, use, tried, how):
    """Mean accuracy on validation episodes of the training's shots, by the best use."""
    theta = learned(setting, kind, how, 0)
    tasks = episodes_of(setting, "validation", setting.shots, setting.validation)
    return round(float(max(use(setting, theta, tasks, one).mean() for one in tried)), 4)


def _chosen(setting, kind, use, how, tried):
    """Uses by shots, chosen on validation, and the correct answers of each test episode."""
    theta, uses, correct = learned(setting, kind, how, 0), {}, {}
    for shots in setting.test_shots:
        validation = partial(episodes_of, setting, "validation", shots, setting.validation)
        test = partial(episodes_of, setting, "test", shots, setting.test)
        best = tuned_method(partial(use, setting, theta), tried, validation, test)
        uses[str(shots)] = best["setting"]
        correct[str(shots)] = _counted(setting, best["psnr"])
    return dict(uses=uses, correct=correct)


def _scored(setting, kind, use, how, seed, uses):
    """Shots -> correct answers of each test episode, with uses that are chosen."""
    theta, correct = learned(setting, kind, how, seed), {}
    for shots in setting.test_shots:
        test = episodes_of(setting, "test", shots, setting.test)
        correct[str(shots)] = _counted(setting, use(setting, theta, test, uses[str(shots)]))
    return correct


def _counted(setting, accuracies):
    full = setting.ways * setting.test_queries
    return np.rint(np.array(accuracies) * full).astype(int).tolist()
