"""A small training run for test_train.py, which starts it as a process of its own and kills it.

    python killed_run.py OUT STAGE

STAGE is "any", or the moment in the first save of this process at which it says `saving` and waits
to be killed: fsync (the new file is written), before or after (it takes the name).
"""

import os
import sys
import time
from functools import cache

import jax
import jax.numpy as jnp

from learnit_utils import fields, inner, outer, tasks, train
from learnit_utils.train import Monitor

STEPS, EVERY = 600, 4


@cache
def problem():
    """An init, a meta-gradient, tasks: a tiny SIREN on random signals, minibatches drawn by key."""
    field = fields.siren(width=8, depth=2, omega0=5.0, channels=1)
    key_x, key_y = jax.random.split(jax.random.key(3))
    x, y = jax.random.uniform(key_x, (40, 2)), jax.random.uniform(key_y, (7, 40, 1))

    def some_points(f, task, key):
        index = jax.random.choice(key, 40, (10,), replace=False)
        return f(task.shared[index]), task.each[index]

    loss = tasks.regression(field, some_points)
    grad = outer.maml(loss, inner.sgd(loss, 2, 0.1))
    return field.init(jax.random.key(0)), grad, tasks.Tasks(y, x)


def optimizer():
    """The outer optimizer of the run."""
    return outer.adam(1e-2, STEPS, decay="cosine", warmup=5, clip=1.0)


norm = jax.jit(lambda init: sum(jnp.sum(a**2) for a in jax.tree.leaves(init)))


def run(out, pause=0.0, steps=STEPS, **monitor):
    """The run, with a probe that takes its time."""
    init, grad, data = problem()

    def probe(init):
        print("probe", flush=True)
        time.sleep(pause)
        return {"norm": float(norm(init))}

    settings = dict(out=out, probe=probe, every=EVERY, progress=False) | monitor
    key = jax.random.key(5)
    given = dict(batch=3, key=key, monitor=Monitor(**settings))
    return train.run(grad, init, data, optimizer(), steps, **given)


def wait_inside_the_save(stage):
    """Make the first save stop at a stage, long enough to be killed there."""
    fsync, replace = os.fsync, os.replace

    def here():
        print("saving", flush=True)
        time.sleep(60)

    def slow_fsync(descriptor):
        fsync(descriptor)
        if stage == "fsync":
            here()

    def slow_replace(source, target):
        if stage == "before":
            here()
        replace(source, target)
        if stage == "after":
            here()

    os.fsync, os.replace = slow_fsync, slow_replace


if __name__ == "__main__":
    jax.config.update("jax_debug_key_reuse", True)
    train._Loop.STEPS_PER_CALL = 3  # as in test_train.py
    out, stage = sys.argv[1:]
    if stage != "any":
        wait_inside_the_save(stage)
    run(out, pause=0.02)
    print("finished", flush=True)
