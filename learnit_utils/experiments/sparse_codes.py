"""Sparse codes: a signal as a sum of few atoms, by iterations and by iterations that were learned.

    F(z) = |x - D z|^2 / 2 + penalty |z|_1,   z <- soft(z + D^T (x - D z) / L, penalty / L)

is ISTA, with L the largest eigenvalue of D^T D. LISTA takes K of these steps as the layers of a
network and learns their matrices: z <- soft(x R + z S, threshold), the same R and S in all layers.
Signals and codes are rows; D is (points, atoms), as in `ntk.Eigenpairs.vectors`.

Sources: Daubechies et al. 2004 (ISTA); Beck and Teboulle 2009 (FISTA); Gregor and LeCun 2010
(LISTA); Engan et al. 1999 (the dictionary's update).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learnit_utils import ntk, outer, train
from learnit_utils.experiments.protocol import Pieces, tuned_method
from learnit_utils.fields import Field, Theta
from learnit_utils.forward import pixels
from learnit_utils.inner import Adapt
from learnit_utils.tasks import Tasks

STUDY = "sparse_codes"
LONG = 1500  # steps of FISTA after which a code counts as converged


def soft(z: jax.Array, threshold: jax.Array | float) -> jax.Array:
    """sign(z) max(|z| - threshold, 0): the minimum over u of (u - z)^2 / 2 + threshold |u|."""
    return jnp.sign(z) * jnp.maximum(jnp.abs(z) - threshold, 0)


def objective(D: jax.Array, x: jax.Array, z: jax.Array, penalty: float) -> jax.Array:
    """F of codes z (..., atoms) of signals x (..., points): (...,)."""
    return 0.5 * ((x - z @ D.T) ** 2).sum(axis=-1) + penalty * jnp.abs(z).sum(axis=-1)


def largest(D: jax.Array) -> float:
    """L, the largest eigenvalue of D^T D."""
    return float(np.linalg.norm(np.asarray(D, np.float64), 2) ** 2)


def ista(D: jax.Array, x: jax.Array, penalty: float, steps: int) -> jax.Array:
    """The codes before and after each step, from z = 0: (steps + 1, count, atoms)."""
    L = largest(D)

    def step(z, _):
        z = soft(z + (x - z @ D.T) @ D / L, penalty / L)
        return z, z

    zero = jnp.zeros((len(x), D.shape[1]))
    return jnp.concatenate([zero[None], jax.lax.scan(step, zero, length=steps)[1]])


def fista(
    D: jax.Array, x: jax.Array, penalty: float, steps: int, *, every: bool = True
) -> jax.Array:
    """ISTA with the momentum of Nesterov: as `ista`, or the last codes (count, atoms) alone.

    Source: Beck and Teboulle 2009, section 4.
    """
    return _fista(D, x, penalty, largest(D), steps, every)


@partial(jax.jit, static_argnums=(4, 5))
def _fista(D, x, penalty, L, steps, every):
    def step(carry, _):
        z, y, t = carry
        new = soft(y + (x - y @ D.T) @ D / L, penalty / L)
        t_new = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        return (new, new + (t - 1) / t_new * (new - z), t_new), new if every else None

    zero = jnp.zeros((len(x), D.shape[1]))
    (z, *_), path = jax.lax.scan(step, (zero, zero, jnp.ones(())), length=steps)
    return jnp.concatenate([zero[None], path]) if every else z


# --- learned ------------------------------------------------------------------------------------
class Layers(NamedTuple):
    """What LISTA learns, the same in all its layers."""

    R: jax.Array  # (points, atoms) reads the signal
    S: jax.Array  # (atoms, atoms) mixes the code
    threshold: jax.Array  # (atoms,)


def as_layers(D: jax.Array, penalty: float) -> Layers:
    """The layers that are ISTA: R = D / L, S = I - D^T D / L, thresholds penalty / L."""
    L, atoms = largest(D), D.shape[1]
    return Layers(D / L, jnp.eye(atoms) - D.T @ D / L, jnp.full(atoms, penalty / L))


def lista(layers: Layers, x: jax.Array, steps: int) -> jax.Array:
    """The codes before and after each layer, from z = 0: (steps + 1, ..., atoms)."""
    read = x @ layers.R

    def step(z, _):
        z = soft(read + z @ layers.S, jnp.broadcast_to(layers.threshold, z.shape))
        return z, z

    zero = jnp.zeros_like(read)
    return jnp.concatenate([zero[None], jax.lax.scan(step, zero, length=steps)[1]])


def unrolled(steps: int) -> Adapt:
    """adapt(layers, task, key) -> (z_K, ()): LISTA as an inner loop, for `outer.maml`."""

    def adapt(layers, task, key):
        del key
        return lista(layers, task.each[0], steps)[-1], ()

    return adapt


def miss(z: jax.Array, task: Tasks, key: jax.Array) -> jax.Array:
    """|z - z*|^2, mean over the signals of a task."""
    del key
    return ((z - task.each[1]) ** 2).sum(axis=-1).mean()


def lessons(x: jax.Array, z: jax.Array, batch: int, key: jax.Array) -> Tasks:
    """Signals (count, points) and their codes as tasks of `batch` signals each; a rest is left out.

    A task of many signals costs one product of matrices per layer, and one gradient.
    """
    count = len(x) // batch
    order = jax.random.permutation(key, len(x))[: count * batch]
    return Tasks(tuple(v[order].reshape(count, batch, -1) for v in (x, z)))


def learn(
    D: jax.Array, tasks: Tasks, penalty: float, steps: int, lr: float, outer_steps: int, key: Any
) -> Layers:
    """LISTA of K = `steps` layers, learned from ISTA's matrices on, by `outer.maml`.

    Args:
        tasks: from `lessons`.
        lr: outer step size.
        key: draws the order of the tasks.

    Raises:
        train.TrainError: it diverges.
    """
    gradient = outer.maml(miss, unrolled(steps))
    optimizer = outer.adam(lr, outer_steps, decay="cosine", warmup=outer_steps // 20, clip=1.0)
    layers, key = as_layers(D, penalty), jax.random.clone(key)
    return train.run(gradient, layers, tasks, optimizer, outer_steps, batch=1, key=key).init


# --- signals and dictionaries -------------------------------------------------------------------
def normed(pictures: np.ndarray) -> jax.Array:
    """Pictures (count, side, side, 1) as rows of mean 0 and length 1, (count, side^2)."""
    flat = np.asarray(pictures, np.float64).reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return jnp.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True), jnp.float32)


def varied(pictures: np.ndarray) -> np.ndarray:
    """Every picture, moved by up to one pixel up, down, left or right, and all of these mirrored.

    What moves in from outside repeats the edge.

    Returns:
        (10 count, side, side, channels).
    """
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    side = pictures.shape[1]
    moves = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    moved = np.concatenate([padded[:, i : i + side, j : j + side] for i, j in moves])
    return np.concatenate([moved, moved[:, :, ::-1]])


def of_kernel(field: Field, theta: Theta, side: int, weighted: bool) -> jax.Array:
    """Eigenvectors v_i of the tangent kernel on a grid of pixels as atoms: (side^2, side^2).

    Args:
        weighted: multiply v_i by sqrt(lambda_i / lambda_1). These are the patterns that a unit
            change of the weights paints (the left singular vectors of J, times singular values).
    """
    points = pixels.grid(side).reshape(-1, 2)
    pairs = ntk.eigenpairs(ntk.gram(field, theta, points), side**2)
    scales = np.sqrt(np.maximum(pairs.values, 0) / pairs.values[0]) if weighted else 1.0
    return jnp.asarray(pairs.vectors * scales, jnp.float32)


def kernel_atoms(
    x: jax.Array, *, field: Field, theta: Theta, side: int, weighted: bool
) -> jax.Array:
    """`of_kernel`, for a `coder`; the signals x are not used."""
    del x
    return of_kernel(field, theta, side, weighted)


def learned_dictionary(
    x: jax.Array, atoms: int, share: float, rounds: int, key: jax.Array
) -> jax.Array:
    """A dictionary of unit atoms, (points, atoms): in turn codes by FISTA, and D by least squares.

    It begins from signals drawn at random. An atom that no code uses stays as it is.

    Args:
        x: signals (count, points).
        share: of their energy that the codes shall hold; see `penalty_for`.

    Source: Engan et al. 1999 (method of optimal directions), with sparse codes by the penalty.
    """
    index = jax.random.choice(jax.random.clone(key), len(x), (atoms,), replace=False)
    D = x[index].T
    D = D / jnp.linalg.norm(D, axis=0, keepdims=True)
    for _ in range(rounds):
        z = np.asarray(fista(D, x, penalty_for(D, x[::10], share), 60, every=False), np.float64)
        gram = z.T @ z + 1e-6 * len(x) * np.eye(atoms) / atoms
        new = np.linalg.solve(gram, z.T @ np.asarray(x, np.float64)).T
        norm = np.linalg.norm(new, axis=0)
        used = (norm > 1e-6) & (np.abs(z).sum(axis=0) > 0)
        D = jnp.where(used, jnp.asarray(new / np.maximum(norm, 1e-6), jnp.float32), D)
    return D


def held(D: jax.Array, x: jax.Array, z: jax.Array) -> np.ndarray:
    """The part of the energy of signals that codes hold, 1 - |x - D z|^2 / |x|^2: (count,)."""
    return np.asarray(1 - ((x - z @ D.T) ** 2).sum(axis=1) / (x**2).sum(axis=1))


def penalty_for(D: jax.Array, x: jax.Array, share: float) -> float:
    """The largest penalty at which codes hold a share of the energy of signals, by bisection."""
    low, high = 1e-6, float(jnp.abs(x @ D).max())
    for _ in range(14):
        middle = float(np.sqrt(low * high))
        z = fista(D, x, middle, 100, every=False)
        low, high = (middle, high) if held(D, x, z).mean() >= share else (low, middle)
    return low


# --- how fast codes converge --------------------------------------------------------------------
class Curves(NamedTuple):
    """Errors after K steps, means over test signals."""

    gap: np.ndarray  # (F(z_K) - F(z*)) / F(z*)
    distance: np.ndarray  # |z_K - z*|^2 / |z*|^2


def errors(D: jax.Array, x: jax.Array, path: jax.Array, z: jax.Array, penalty: float) -> Curves:
    """Errors of codes on the way, path (marks, count, atoms), against the converged ones."""
    best = objective(D, x, z, penalty)
    gap = (objective(D, x[None], path, penalty) - best[None]) / best[None]
    distance = ((path - z[None]) ** 2).sum(axis=-1) / (z**2).sum(axis=-1)[None]
    return Curves(*(np.asarray(v.mean(axis=1), np.float64) for v in (gap, distance)))


class Faces(NamedTuple):
    """Pictures (count, side, side, 1) of people of three groups."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


class Coder(NamedTuple):
    """A dictionary at work: signals of length 1, their penalty, and the converged codes."""

    D: jax.Array
    penalty: float
    x: Faces  # rows of signals (count, points); the training faces varied
    test: jax.Array  # converged codes of the test faces


def coder(make: Callable[..., jax.Array], faces: Faces, share: float) -> Coder:
    """A dictionary with the penalty at which validation faces are held to a share of their energy.

    Args:
        make: training signals (count, points) -> D.
        faces: pictures.
    """
    x = Faces(normed(varied(faces.train)), normed(faces.validation), normed(faces.test))
    D = make(x.train)
    penalty = penalty_for(D, x.validation, share)
    return Coder(D, penalty, x, fista(D, x.test, penalty, LONG, every=False))


def iterations(make: Callable, faces: Faces, share: float, steps: int) -> dict[str, Any]:
    """ISTA and FISTA on test faces, as JSON: the `Curves` of each, and what the codes are like."""
    c = coder(make, faces, share)
    found = {}
    for name, method in (("ISTA", ista), ("FISTA", fista)):
        path = method(c.D, c.x.test, c.penalty, steps)
        found[name] = _json(errors(c.D, c.x.test, path, c.test, c.penalty))
    about = dict(penalty=c.penalty, atoms=c.D.shape[1])
    about |= dict(active=float((c.test != 0).sum(axis=1).mean()))
    return dict(found, **about, held=float(held(c.D, c.x.test, c.test).mean()))


def learned_iterations(
    make: Callable,
    faces: Faces,
    share: float,
    steps: int,
    longest: int,
    how: tuple[Sequence[float], int, int],
    key: jax.Array,
) -> dict[str, Any]:
    """LISTA of K = `steps` layers on test faces, as JSON; run on to `longest` layers, too.

    The outer step size is chosen on validation faces, by the distance to their converged codes.

    Args:
        make, faces, share: as in `coder`.
        how: outer step sizes to try, outer steps, signals per task.
        key: groups the signals and draws their order.

    Returns:
        {"lr", "LISTA": its `Curves` after 0 ... longest layers}.
    """
    c, (lrs, outer_steps, batch) = coder(make, faces, share), how
    key_lessons, key_order = jax.random.split(jax.random.clone(key))
    known = [fista(c.D, x, c.penalty, LONG // 3, every=False) for x in c.x[:2]]
    tasks, tried = lessons(c.x.train, known[0], batch, key_lessons), {}

    def score(signals, setting):
        lr = setting["lr"]
        if lr not in tried:
            tried[lr] = learn(c.D, tasks, c.penalty, steps, lr, outer_steps, key_order)
        z = lista(tried[lr], signals.each[0], steps)[-1]
        return -np.asarray(((z - signals.each[1]) ** 2).sum(axis=1))

    settings, validation = [dict(lr=lr) for lr in lrs], Tasks((c.x.validation, known[1]))
    lr = tuned_method(score, settings, validation, validation)["setting"]["lr"]
    path = lista(tried[lr], c.x.test, longest)
    return dict(lr=lr, LISTA=_json(errors(c.D, c.x.test, path, c.test, c.penalty)))


class Race(NamedTuple):
    """Distances to the converged code, dictionary by dictionary."""

    plain: dict[str, dict[str, Any]]  # what `iterations` returns
    learned: dict[str, dict[int, list[float]]]  # K -> distance after 0, 1, ... layers

    def lead(self) -> dict[str, list[float]]:
        """FISTA's distance after K steps over that of the LISTA of K layers, for every K."""
        return {
            name: [self.plain[name]["FISTA"]["distance"][K] / d[K] for K, d in by.items()]
            for name, by in self.learned.items()
        }


def race(
    pieces: Pieces,
    makers: Mapping[str, Callable],
    faces: Faces,
    share: float,
    layers: Sequence[int],
    how: tuple[Sequence[float], int, int],
    key: jax.Array,
) -> Race:
    """ISTA, FISTA and a LISTA for every K of `layers`, kept in the study "sparse_codes".

    Args:
        makers: name -> what makes a dictionary, see `coder`.
        how, key: as in `learned_iterations`.
    """
    found, longest = Race({}, {}), 2 * max(layers)
    for name, make in makers.items():
        args, about = (make, faces, share), dict(by=name, of="ISTA and FISTA")
        found.plain[name] = pieces.call(STUDY, about, iterations, *args, 64, cost=1)
        for K in layers:
            about, cost = dict(by=name, of="LISTA", layers=K), 99 + K
            args_of = (*args, K, longest, how, key)
            kept = pieces.call(STUDY, about, learned_iterations, *args_of, cost=cost)
            found.learned.setdefault(name, {})[K] = kept["LISTA"]["distance"]
    return found


def _json(curves: Curves) -> dict[str, list]:
    """Four digits; None for what is not a number."""
    return {
        name: [float(f"{v:.4g}") if np.isfinite(v) else None for v in values]
        for name, values in curves._asdict().items()
    }
