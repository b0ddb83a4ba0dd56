"""An optimizer that is a network: an LSTM that reads each weight's gradient and writes its step.

Every weight of the fitted network has a memory of its own; the LSTM's weights are shared by all.
They are learned as an init is: K steps on a face are unrolled, and the outer gradient goes to the
LSTM, and to the start as well if that is learned too. `outer.maml` and `train.run` do not notice.

Sources: Andrychowicz et al. 2016, section 2 and appendix A; Ravi and Larochelle 2017 (the start is
learned too); Lv et al. 2017, section 4.1 (random scaling).
"""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from learnit_utils import outer, train
from learnit_utils.experiments import memory, recurrent, run
from learnit_utils.experiments.recipe import Recipe
from learnit_utils.experiments.recurrent import Cell
from learnit_utils.fields import Field
from learnit_utils.inner import Adapt
from learnit_utils.tasks import Loss, Tasks

SCALE = 0.01  # of what the LSTM writes; about the size of Adam's steps here
P = 10.0  # gradients below e^-P are told by their size, not by its logarithm
STUDY = "optimizers"


class Rule(NamedTuple):
    """The learned optimizer."""

    cells: tuple[Cell, ...]
    w: jax.Array  # (units, 1)


class Learned(NamedTuple):
    """A rule, and the start it was learned together with; None if it begins from random ones."""

    rule: Rule
    theta: Any = None


def draw_rule(key: jax.Array, units: int, layers: int) -> Rule:
    """A rule to begin from; its steps are 0 at first."""
    keys = jax.random.split(key, layers)
    sizes = [2, *[units] * (layers - 1)]
    cells = tuple(recurrent.lstm_cell(k, n, units) for k, n in zip(keys, sizes))
    return Rule(cells, jnp.zeros((units, 1)))


def preprocess(g: jax.Array) -> jax.Array:
    """Gradients (n,) as the two numbers that the LSTM reads, (n, 2).

    (log|g| / P, sign g), and (-1, e^P g) where |g| < e^-P.

    Source: Andrychowicz et al. 2016, appendix A.
    """
    small = jnp.abs(g) < jnp.exp(-P)
    size = jnp.log(jnp.where(small, 1.0, jnp.abs(g))) / P
    pair = jnp.where(small, -1.0, size), jnp.where(small, jnp.exp(P) * g, jnp.sign(g))
    return jnp.stack(pair, axis=-1)


def step(rule: Rule, memories: tuple, g: jax.Array) -> tuple[tuple, jax.Array]:
    """The memories after gradients g (n,), and the steps (n,) that the rule wants to take."""
    x, after = preprocess(g), []
    for cell, old in zip(rule.cells, memories):
        after.append(recurrent.lstm(cell, old, x))
        x = after[-1].h
    return tuple(after), SCALE * (x @ rule.w)[:, 0]


def begin(rule: Rule, count: int) -> tuple:
    """The empty memories of `count` weights."""
    return tuple(recurrent.blank(cell, count) for cell in rule.cells)


def descent(loss: Loss, steps: int) -> Adapt:
    """K steps of a learned optimizer: adapt(Learned with a start, task, key) -> (theta_K, losses).

    losses[k] = L(theta_k) before step k, as in `inner`. Gradients are inputs here and not
    differentiated through, as in both papers.
    """

    def adapt(learned, task, key):
        flat, back = jax.flatten_util.ravel_pytree(learned.theta)

        def one(carry, key):
            flat, memories = carry
            value, g = jax.value_and_grad(lambda flat: loss(back(flat), task, key))(flat)
            memories, move = step(learned.rule, memories, jax.lax.stop_gradient(g))
            return (flat + move, memories), value

        start = (flat, begin(learned.rule, flat.size))
        (flat, _), losses = jax.lax.scan(one, start, jax.random.split(key, steps))
        return back(flat), losses

    return adapt


def watch(
    rule: Rule, loss: Loss, theta: Any, task: Tasks, at: Sequence[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """|gradient| and |step| of every weight at some steps t >= 1 of a fit to one task."""
    flat, back = jax.flatten_util.ravel_pytree(theta)
    grad = jax.jit(jax.grad(lambda flat: loss(back(flat), task, jax.random.key(0))))
    memories, found, move_by = begin(rule, flat.size), {}, jax.jit(step)
    for t in range(1, max(at) + 1):
        g = grad(flat)
        memories, move = move_by(rule, memories, g)
        flat = flat + move
        if t in at:
            found[t] = (np.abs(np.asarray(g)), np.abs(np.asarray(move)))
    return found


# --- learning ---------------------------------------------------------------------------------
class Setting(NamedTuple):
    """How a rule is learned."""

    outer_steps: int
    lr: float  # the outer step size
    steps: int = 20  # K, unrolled
    units: int = 16
    layers: int = 2
    batch: int = 1
    rescale: float = (
        0.0  # each weight's unit is multiplied by e^u, u uniform in [-rescale, rescale]
    )
    start: bool = False  # learn the start, too


def courses(field: Field, loss: Loss, setting: Setting) -> Adapt:
    """adapt(learned, task, key) -> (L(theta_1), ..., L(theta_K)) twice, for `outer.maml`.

    The start is that of `learned`, or drawn anew for every task. With random scaling the rule sees
    weights in other units: gradients times c, and its steps times c.
    """

    def course(learned, task, key):
        key_start, key_scale, key_loss = jax.random.split(key, 3)
        theta = field.init(key_start) if learned.theta is None else learned.theta
        flat, back = jax.flatten_util.ravel_pytree(theta)
        spread = dict(minval=-setting.rescale, maxval=setting.rescale)
        c = jnp.exp(jax.random.uniform(key_scale, flat.shape, **spread))

        def one(carry, key):
            flat, memories = carry
            g = jax.grad(lambda flat: loss(back(flat), task, key))(jax.lax.stop_gradient(flat))
            memories, move = step(learned.rule, memories, c * g)
            flat = flat + c * move
            return (flat, memories), loss(back(flat), task, jax.random.clone(key))

        start = (flat, begin(learned.rule, flat.size))
        _, losses = jax.lax.scan(one, start, jax.random.split(key_loss, setting.steps))
        return losses, losses

    return course


def mean_log(losses: jax.Array, task: Tasks, key: jax.Array) -> jax.Array:
    """What the rule is learned for: the mean logarithm of the losses on the way."""
    del task, key
    return jnp.log(losses).mean()


def gradient(field: Field, loss: Loss, setting: Setting) -> outer.MetaGradient:
    """The outer gradient of a rule: `outer.maml`, the function of chapter 3."""
    return outer.maml(mean_log, courses(field, loss, setting))


def learn(field: Field, loss: Loss, setting: Setting, tasks: Tasks, key: jax.Array) -> dict:
    """A learned optimizer as JSON: its numbers, the seconds, and the bytes of an outer step.

    Raises:
        train.TrainError: it diverges.
    """
    key_rule, key_start, key_run = jax.random.split(key, 3)
    theta = field.init(key_start) if setting.start else None
    init = Learned(draw_rule(key_rule, setting.units, setting.layers), theta)
    how = dict(decay="cosine", warmup=min(50, setting.outer_steps // 10), clip=1.0)
    optimizer = outer.adam(setting.lr, setting.outer_steps, **how)
    run_of = (tasks, optimizer, setting.outer_steps, setting.batch, key_run)
    return _trained(gradient(field, loss, setting), init, *run_of)


def learn_init(recipe: Recipe) -> dict:
    """A learned initialization of a recipe, as JSON like that of `learn`.

    Raises:
        train.TrainError: it diverges.
    """
    setup = run.build(recipe)
    key = run.order_key(recipe.seed)
    how = (setup.init, setup.data.train, setup.optimizer, recipe.steps, recipe.batch, key)
    return _trained(setup.learned.grad, *how)


def _trained(grad, init, tasks, optimizer, steps, batch, key) -> dict:
    """Learn by `train.run`, and say what it cost."""
    done = train.run(grad, init, tasks, optimizer, steps, batch=batch, key=key)
    held = memory.of_outer_step(grad, init, tasks.take(np.arange(batch)))
    return dict(
        numbers=packed(done.init),
        count=sum(leaf.size for leaf in jax.tree.leaves(done.init)),
        seconds=round(done.wall_seconds, 1),
        bytes=int(held),
    )


# --- as text ----------------------------------------------------------------------------------
def packed(tree: Any) -> str:
    """The numbers of a pytree in half precision, as text."""
    flat = np.asarray(jax.flatten_util.ravel_pytree(tree)[0], np.float16)
    return base64.b64encode(flat.astype("<f2").tobytes()).decode()


def unpacked(text: str, like: Any) -> Any:
    """The pytree of `packed`, of the shapes of another.

    Raises:
        ValueError: as many numbers as `like` has are not in the text.
    """
    flat, back = jax.flatten_util.ravel_pytree(like)
    found = np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
    if found.size != flat.size:
        raise ValueError(f"{found.size} numbers: expected {flat.size}")
    return back(jnp.asarray(found))
