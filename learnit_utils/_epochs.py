"""Which tasks an outer step sees: every epoch all of them, in an order that is drawn once.

It depends on the key and the step's number alone: position p of a run is entry p % count of the
order of epoch p // count.
"""

from functools import partial

import jax
import jax.numpy as jnp


def dealt(key_tasks, position, first, orders):
    """Indices and keys of the tasks at positions, of the orders of epochs from `first` on."""
    count = orders.shape[1]
    keys = jax.vmap(lambda p: jax.random.fold_in(key_tasks, p))(position)
    return orders[position // count - first, position % count], keys


def _epochs(positions: int, count: int) -> int:
    """In at most so many epochs lie positions that follow each other."""
    return (positions - 2) // count + 2


@partial(jax.jit, static_argnums=(2, 3))
def _orders(key_order, first, count, epochs):
    """The order of the tasks in some epochs: (epochs, count)."""
    keys = jax.vmap(lambda e: jax.random.fold_in(key_order, e))(first + jnp.arange(epochs))
    return jax.vmap(lambda k: jax.random.permutation(k, count))(keys)


class Orders:
    """The orders of the epochs that a call may need, drawn once an epoch."""

    def __init__(self, key, count, positions, sharding):
        self.key, self.count, self.sharding = key, count, sharding
        self.epochs, self.first = _epochs(positions, count), -1

    def of(self, position: int) -> tuple[jax.Array, jax.Array]:
        """The epoch of a position, and the orders from there on."""
        if position // self.count != self.first:
            self.first = position // self.count
            key_order, _ = jax.random.split(jax.random.clone(self.key))
            drawn = _orders(key_order, self.first, self.count, self.epochs)
            self.drawn = jax.device_put((jnp.int32(self.first), drawn), self.sharding)
        return self.drawn
