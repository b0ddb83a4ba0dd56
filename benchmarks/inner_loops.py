"""What other inner loops cost: time, arithmetic and memory of a MAML step, beside the plain one.

    python benchmarks/inner_loops.py [--json] [--record]

The step is that of `meta_step.py` without the outer optimiser: SIREN 256 x 5, 64 x 64 gray, three
faces. Every loop is measured in turn in one process, `ROUNDS` times, the best of two calls each;
the ratios are medians over rounds.
"""

import statistics

import jax
from meta_step import LR, K, problem
from timing import main, seconds

from learnit_utils import inner, outer, tasks
from learnit_utils.experiments import flops

ROUNDS, PART = 9, 0.25


def measure():
    """All rows (what, value, unit)."""
    field, theta, few, keys = problem()
    loss = tasks.regression(field)
    hard, rated = tasks.context_pruned(field, loss, PART), inner.with_step_sizes(theta, K, LR)
    plain, pruned = f"plain, K = {K}", f"pruned to {PART:.0%} of the pixels, K = {2 * K}"
    loops = {  # name -> adapt, start
        plain: (inner.sgd(loss, K, LR), theta),
        f"plain, K = {2 * K}": (inner.sgd(loss, 2 * K, LR), theta),
        pruned: (inner.sgd(hard, 2 * K, LR), theta),
        f"learned step sizes, K = {K}": (inner.meta_sgd(loss, K), rated),
    }
    steps, calls = {}, {}
    for name, (adapt, start) in loops.items():
        args = (start, few, keys)
        step = outer.maml(loss, adapt, "scan").step
        compiled = jax.jit(step).lower(*args).compile()
        calls[name] = lambda run=compiled, args=args: jax.block_until_ready(run(*args))
        calls[name]()
        steps[name] = flops.matmul_flops(step, *args), flops.peak_bytes(compiled)
    rounds = [{name: seconds(call, 2) for name, call in calls.items()} for _ in range(ROUNDS)]
    rows = [(f"MAML step, {plain}", statistics.median(r[plain] for r in rounds), "s")]
    for name, (products, peak) in steps.items():
        if name != plain:
            times = statistics.median(r[name] / r[plain] for r in rounds)
            rows.append((f"{name}: time, plain = 1", times, ""))
            rows.append((f"{name}: arithmetic, plain = 1", products / steps[plain][0], ""))
        rows.append((f"{name}: peak memory", peak / 2**20, "MiB"))
    return rows


if __name__ == "__main__":
    main("inner_loops", __doc__, ROUNDS, measure, peer=False)
