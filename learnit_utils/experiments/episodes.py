"""Episodes: little classification problems, N classes with K examples each and others to label.

An episode is a task of the meta-learning core (`tasks.Tasks`): what differs from task to task is
which pictures are its support and which its query, as numbers of pictures; the pictures themselves
are shared. The labels are places: the pictures in row n of both belong to class n of the episode.

Source: Vinyals et al. 2016, Matching networks, section 4; Snell et al. 2017, section 2.1.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from learnit_utils.signals.base import Dataset
from learnit_utils.tasks import Split, Tasks


def classes_of(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Class -> numbers of its pictures; the class is the part of a picture's name before the "/".

    >>> {k: v.tolist() for k, v in classes_of(["A/0", "B/0", "A/1"]).items()}
    {'A': [0, 2], 'B': [1]}
    """
    found: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        found.setdefault(name.rpartition("/")[0], []).append(number)
    return {kind: np.array(numbers) for kind, numbers in found.items()}


def draw(
    data: Dataset, ways: int, shots: int, queries: int, count: int, rng: np.random.Generator
) -> Tasks:
    """Episodes of N classes, in an order of their own, with K + Q different pictures of each.

    Args:
        data: pictures; the names tell the classes (`classes_of`).
        ways: N, classes of an episode.
        shots: K, support pictures of a class.
        queries: Q, query pictures of a class.
        count: how many episodes.
        rng: draws the classes, their order, and the pictures.

    Returns:
        Tasks with `each` a `Split` of picture numbers, support (count, N, K) and query
        (count, N, Q), and with the pictures (all, height, width, channels) as `shared`.

    Raises:
        ValueError: too few classes with K + Q pictures.
    """
    kinds = [k for k in classes_of(data.names).values() if len(k) >= shots + queries]
    if len(kinds) < ways or min(ways, shots, queries, count) < 1:
        raise ValueError(
            f"ways = {ways}, shots = {shots}, queries = {queries}, count = {count}: expected 1 or "
            f"more of each, and {len(kinds)} classes have so many pictures"
        )
    chosen = np.zeros((count, ways, shots + queries), np.int32)
    for episode in chosen:
        for row, kind in zip(episode, rng.permutation(len(kinds))[:ways]):
            row[:] = rng.permutation(kinds[kind])[: shots + queries]
    each = Split(jnp.asarray(chosen[..., :shots]), jnp.asarray(chosen[..., shots:]))
    return Tasks(each, jnp.asarray(data.arrays))


def pictures(task: Tasks, part: str) -> tuple[jnp.ndarray, jnp.ndarray]:
    """The pictures of one episode and their labels.

    Args:
        task: one episode.
        part: "support", "query", or "all" for both.

    Returns:
        Pictures (N K, height, width, channels) and labels (N K,), integers from 0 to N - 1; with Q
        or K + Q in place of K.
    """
    both = part == "all"
    numbers = jnp.concatenate(task.each, axis=-1) if both else getattr(task.each, part)
    labels = jnp.repeat(jnp.arange(numbers.shape[0]), numbers.shape[1])
    return task.shared[numbers.reshape(-1)], labels
