"""Fields against the floor: the fast sine, the forward pass, the gradient step, and PyTorch.

    python benchmarks/fields.py [--json] [--record]

Everything is measured in turn in one process, `ROUNDS` times; a row is the median. The floor of a
pass is its matrix-product FLOPs over the rate of a 2048^3 float32 product of the same round. A
gradient step is loss gradient plus plain descent, as training runs it: `SCAN` steps in one scan.
A gradient dispatched alone is reported too: it pays for fresh memory on every call.
"""

import statistics
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from timing import jitted, main, seconds

from learnit_utils import fields, metrics
from learnit_utils.experiments import flops
from learnit_utils.forward import pixels

ROUNDS, SCAN, SIDE, WIDTH, DEPTH, CHANNELS = 15, 10, 64, 256, 5, 3


def of_layers():
    """Matrix-product FLOPs of a forward pass and of a loss gradient (no input gradient)."""
    sizes = (2, *[WIDTH] * (DEPTH - 1), CHANNELS)
    forward = sum(2 * SIDE**2 * n * m for n, m in pairwise(sizes))
    return forward, 3 * forward - 2 * SIDE**2 * sizes[0] * sizes[1]


def descend(field, steps):
    """(theta, x, y) -> theta after that many steps of plain gradient descent, in one scan."""
    gradient = jax.grad(lambda t, x, y: metrics.mse(field(t, x), y))

    def run(theta, x, y):
        def step(theta, _):
            update = gradient(theta, x, y)
            return jax.tree.map(lambda t, g: t - 1e-4 * g, theta, update), None

        return jax.lax.scan(step, theta, None, length=steps)[0]

    return run


def torch_step(theta, x, y):
    """The same gradient step in eager PyTorch with its own sine, or None without PyTorch."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(flops.cores())
    leaves = [torch.tensor(np.array(t), requires_grad=True) for layer in theta for t in layer]
    xs, ys = torch.tensor(np.array(x)), torch.tensor(np.array(y))

    def loss():
        h = xs
        for w, b in zip(leaves[0:-2:2], leaves[1:-2:2]):
            h = torch.sin(30.0 * (h @ w + b))
        return ((h @ leaves[-2] + leaves[-1] + 0.5 - ys) ** 2).mean()

    ours, theirs = (
        float(metrics.mse(fields.siren(WIDTH, DEPTH)(theta, x), y)),
        float(loss().detach()),
    )
    assert abs(ours - theirs) < 1e-4 * ours, "not the same loss"

    def step():
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss(), leaves)):
            leaf.data -= 1e-4 * gradient

    return step


def measure():
    """All rows (what, value, unit), and the ratios the book relies on."""
    key = jax.random.key(0)
    angles = jax.random.uniform(key, (4096, 256), minval=-400.0, maxval=400.0)
    field = fields.siren(WIDTH, DEPTH)
    theta = field.init(jax.random.key(1))
    x = pixels.grid(SIDE).reshape(-1, 2)
    y = jax.random.uniform(jax.random.key(2), (SIDE**2, CHANNELS))
    square = jnp.ones((2048, 2048))
    calls = {
        "product": jitted(lambda a, b: a @ b, square, square),
        "jnp.sin": jitted(jnp.sin, angles),
        "fields.sine": jitted(fields.sine, angles),
        "forward": jitted(field.apply, theta, x),
        "gradient": jitted(jax.grad(lambda t, x, y: metrics.mse(field(t, x), y)), theta, x, y),
        "steps": jitted(descend(field, SCAN), theta, x, y),
    }
    if (torch := torch_step(theta, x, y)) is not None:
        torch()
        calls["torch"] = torch
    rounds = [{name: seconds(call, 5) for name, call in calls.items()} for _ in range(ROUNDS)]
    forward, gradient = of_layers()

    def middle(value):
        return statistics.median(value(r) for r in rounds)

    def share(flop, name, count=1):
        return middle(lambda r: count * flop / (2 * 2048**3 / r["product"]) / r[name])

    net = f"SIREN {WIDTH}×{DEPTH} on {SIDE}×{SIDE}"
    rows = [
        (
            "matrix product 2048³, float32",
            middle(lambda r: 2 * 2048**3 / r["product"] / 1e9),
            "GFLOP/s",
        ),
        ("jnp.sin, 4096 × 256", middle(lambda r: r["jnp.sin"]) * 1e3, "ms"),
        ("fields.sine, 4096 × 256", middle(lambda r: r["fields.sine"]) * 1e3, "ms"),
        (
            "fields.sine: times faster than jnp.sin",
            middle(lambda r: r["jnp.sin"] / r["fields.sine"]),
            "",
        ),
        (f"{net}, forward", middle(lambda r: r["forward"]) * 1e3, "ms"),
        (f"{net}, forward: fraction of the floor", share(forward, "forward"), ""),
        (f"{net}, gradient step", middle(lambda r: r["steps"]) / SCAN * 1e3, "ms"),
        (f"{net}, gradient step: fraction of the floor", share(gradient, "steps", SCAN), ""),
        (
            f"{net}, gradient dispatched alone: fraction of the floor",
            share(gradient, "gradient"),
            "",
        ),
    ]
    if torch is not None:
        ratio = middle(lambda r: r["torch"] / (r["steps"] / SCAN))
        rows += [
            ("the same gradient step in eager PyTorch", middle(lambda r: r["torch"]) * 1e3, "ms"),
            ("gradient step: times faster than eager PyTorch", ratio, ""),
        ]
    return rows


if __name__ == "__main__":
    main("fields", __doc__, ROUNDS, measure)
