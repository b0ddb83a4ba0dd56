"""Inits that are made where they are needed, and the same every time.

What stands in a `protocol.Contender` counts by its content. Weights drawn beforehand would count by
their last bits, which differ between CPUs; a function of a network and a key does not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from learnit_utils.fields import Field, Theta


def drawn(field: Field, key: jax.Array) -> Theta:
    """A random init; the key is not used up."""
    return field.init(jax.random.clone(key))  # it is drawn anew for every piece


def random_inits(field: Field, key: jax.Array, count: int) -> list[Callable[[], Theta]]:
    """Functions that draw inits, with keys folded from one."""
    keys = (jax.random.fold_in(jax.random.clone(key), n) for n in range(count))
    return [partial(drawn, field, k) for k in keys]


def anew(make: Callable, *args: Any) -> Any:
    """make(*args), as often as it is called, though a key among the arguments is used up once."""
    return make(*(jax.random.clone(arg) if _is_key(arg) else arg for arg in args))


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
