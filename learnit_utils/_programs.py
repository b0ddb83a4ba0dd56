"""Compiled programs, told apart by all that is in them."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from learnit_utils import _state

KEPT = 8
_PROGRAMS: dict[str, Any] = {}  # compiled, by their digest: runs of one shape share one


def cached(program: str, compile: Callable[[], Any]) -> Any:
    if program not in _PROGRAMS:
        if len(_PROGRAMS) >= KEPT:
            _PROGRAMS.clear()
        _PROGRAMS[program] = compile()
    return _PROGRAMS[program]


def digest(jaxpr: Any, text: str) -> str:
    """Of a program and its constants, which need not stand in its text."""
    return hashlib.sha256((text + _state.tree_digest(_constants(jaxpr))).encode()).hexdigest()


def _constants(jaxpr: Any) -> list[np.ndarray]:
    """The constant arrays of a jaxpr and of those inside it, in their order."""
    found = [np.asarray(c) for c in getattr(jaxpr, "consts", ()) if hasattr(c, "dtype")]
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        values = (v.val for v in eqn.invars if isinstance(v, Literal))
        found += [np.asarray(v) for v in values if np.ndim(v)]
        leaves = jax.tree.leaves(eqn.params, is_leaf=lambda p: isinstance(p, Jaxpr | ClosedJaxpr))
        for inside in (p for p in leaves if isinstance(p, Jaxpr | ClosedJaxpr)):
            found += _constants(inside)
    return found
