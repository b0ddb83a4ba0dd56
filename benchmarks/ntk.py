"""The tangent kernel: closed form against explicit Jacobians, and matrix-free to 178 x 178.

    python benchmarks/ntk.py [--json] [--record]

SIREN 256 x 5, omega0 30, gray, float32 throughout. The Gram matrix and the plain way (per-point
gradients, written out and multiplied) are measured in turn, `ROUNDS` times; a row is the median.
Leading eigenpairs come from the matrix-free operator, each size in a process of its own, whose
largest resident set is the peak memory. A growth exponent is the slope of log time over log points.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from timing import jitted, main, seconds

from learnit_utils import fields, ntk
from learnit_utils.forward import pixels

ROUNDS, SIDE, SIDES, PAIRS, ROWS = 3, 64, (32, 64, 128, 178), 50, 512


def problem(side):
    """The field, its start and a grid of side x side points."""
    field = fields.siren(256, 5, 30.0, 1)
    return field, field.init(jax.random.key(0)), pixels.grid(side).reshape(-1, 2)


def jacobian_way(field):
    """(theta, x) -> J J^T, the Jacobian written out; ROWS points per reverse pass."""

    def gradient(theta, point):
        return jax.grad(lambda t: field(t, point)[0])(theta)

    def run(theta, x):
        rows = jax.lax.map(lambda p: gradient(theta, p), x, batch_size=ROWS)
        total = 0.0
        for leaf in jax.tree.leaves(rows):
            flat = leaf.reshape(len(x), -1)
            total += flat @ flat.T
        return total

    return run


def leading(side):
    """Time of PAIRS eigenpairs of one size, its residual and this process's peak, as JSON."""
    field, theta, x = problem(side)
    product = ntk.operator(field.apply, theta, x)
    jax.block_until_ready(product.product(jnp.ones(product.size)))
    began = time.perf_counter()
    pairs = ntk.eigenpairs(product, PAIRS)
    took = time.perf_counter() - began
    residual = float(pairs.residuals.max())
    print(json.dumps(dict(seconds=took, residual=residual, peak=peak_resident())))


def peak_resident():
    """The largest resident set of this process, in bytes.

    Linux tells it in /proc; `getrusage` there also counts the parent before the program began.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def slope(times):
    """Exponent of the number of points, from {side: seconds}."""
    return np.polyfit(np.log([s**2 for s in times]), np.log(list(times.values())), 1)[0]


def measure():
    """All rows (what, value, unit)."""
    field, theta, x = problem(SIDE)

    plain = jacobian_way(field)
    a, b = (np.asarray(f(theta, x)) for f in (partial(ntk.gram, field), jax.jit(plain)))

    def closed(points):
        return lambda: jax.block_until_ready(ntk.gram(field, theta, points))

    calls = dict(closed=closed(x), plain=jitted(plain, theta, x))
    assert np.abs(a - b).max() < 1e-4 * np.abs(b).max(), "not the same kernel"
    rounds = [
        {n: seconds(call, 3 if n == "closed" else 1) for n, call in calls.items()}
        for _ in range(ROUNDS)
    ]
    middle = {n: statistics.median(r[n] for r in rounds) for n in calls}
    ratio = statistics.median(r["plain"] / r["closed"] for r in rounds)
    rows = [
        (f"Gram matrix {SIDE}×{SIDE}, closed form", middle["closed"], "s"),
        (f"Gram matrix {SIDE}×{SIDE}, Jacobian written out", middle["plain"], "s"),
        ("Gram matrix: times faster than the Jacobian written out", ratio, ""),
    ]
    grams, found = {}, {}
    for side in SIDES:
        _, _, points = problem(side)
        if side <= 128:
            grams[side] = seconds(closed(points), 2)
            rows.append((f"Gram matrix {side}×{side}", grams[side], "s"))
        command = [sys.executable, __file__, "--leading", str(side)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        found[side] = json.loads(ran.stdout)
        what = f"{PAIRS} eigenpairs at {side}×{side}, matrix-free"
        rows += [
            (what, found[side]["seconds"], "s"),
            (f"{what}: largest residual over the largest value", found[side]["residual"], ""),
            (f"{what}: peak memory of the process", found[side]["peak"] / 2**30, "GiB"),
        ]
    rows.append(("growth with the points, Gram matrix: exponent", slope(grams), ""))
    by_lanczos = {side: f["seconds"] for side, f in found.items()}
    rows.append(("growth with the points, eigenpairs: exponent", slope(by_lanczos), ""))
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--leading"]:
        leading(int(sys.argv[2]))
    else:
        main("ntk", __doc__, ROUNDS, measure, peer=False)
