"""The MAML step against its floor, the plain way, other ways and PyTorch; and its memory.

    python benchmarks/meta_step.py [--json] [--record]

The step is the first document's: SIREN 256 x 5, omega0 30, 64 x 64 gray, three faces, two inner
steps of 0.01, Adam of 1e-5. Everything is measured in turn in one process, `ROUNDS` times; a row is
the median. The floor is the step's FLOPs, counted by XLA on a program without loops and without
anything computed twice, over the rate of a 2048^3 float32 product of the same round.
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import jitted, main, seconds, threads

from learnit_utils import cost, fields, inner, outer, tasks
from learnit_utils.observe import pixels
from learnit_utils.signals import faces

ROUNDS, SCAN, K, LR, BATCH = 9, 3, 2, 1e-2, 3
BIG, BIG_K = 178, (2, 8, 32)


def problem():
    """The field, its start, three faces and their keys."""
    field = fields.siren(256, 5, 30.0, 1)
    few = tasks.images(faces.load("train", size=64)).take(np.array([0, 50, 100]))
    return field, field.init(jax.random.key(0)), few, jax.random.split(jax.random.key(1), BATCH)


def training(direction, optimizer, count=SCAN):
    """(theta, tasks, keys) -> theta after `count` outer steps in one scan."""

    def run(theta, few, keys):
        def step(carry, _):
            theta, state = carry
            _, grad = direction(theta, few, keys)
            updates, state = optimizer.update(grad, state, theta)
            return (optax.apply_updates(theta, updates), state), None

        return jax.lax.scan(step, (theta, optimizer.init(theta)), None, length=count)[0][0]

    return run


def slow_sine(field):
    """The same SIREN with XLA's own sine."""
    omega0, offset = field.spec["omega0"], field.spec["offset"]

    def apply(theta, x):
        h = x
        for w, b in theta[:-1]:
            h = jnp.sin(omega0 * (h @ w + b[None]))
        return h @ theta[-1].w + theta[-1].b[None] + offset

    return fields.Field(field.init, apply, field.trace, {**field.spec, "kind": "jnp.sin"})


def by_hand(loss):
    """MAML's gradient without differentiating twice backwards: a jvp of the gradient per step."""
    grad = jax.grad(loss)

    def direction(theta, few, keys):
        def one(each, key):
            task, visited = few._replace(each=each), [theta]
            for _ in range(K):
                g = grad(visited[-1], task, key)
                visited.append(jax.tree.map(lambda t, g: t - LR * g, visited[-1], g))
            value, v = jax.value_and_grad(loss)(visited[-1], task, key)
            for at in reversed(visited[:-1]):
                hv = jax.jvp(lambda t: grad(t, task, key), (at,), (v,))[1]
                v = jax.tree.map(lambda v, h: v - LR * h, v, hv)
            return value, v

        def body(total, item):
            value, v = one(*item)
            return jax.tree.map(jnp.add, total, v), value

        zero = jax.tree.map(jnp.zeros_like, theta)
        total, values = jax.lax.scan(body, zero, (few.each, keys))
        return values, jax.tree.map(lambda t: t / BATCH, total)

    return direction


def torch_step(theta, few):
    """The same step in PyTorch: torch.func for the gradients, torch.optim.Adam; None without it."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(threads())
    leaves = tuple(torch.tensor(np.array(a)) for layer in theta for a in layer)
    x, ys = torch.tensor(np.array(few.shared)), torch.tensor(np.array(few.each))

    def loss(leaves, y):
        h = x
        for w, b in zip(leaves[0:-2:2], leaves[1:-2:2]):
            h = torch.sin(30.0 * (h @ w + b))
        return ((h @ leaves[-2] + leaves[-1] + 0.5 - y) ** 2).mean()

    def meta_loss(leaves):
        total = 0.0
        for y in ys:
            adapted = leaves
            for _ in range(K):
                grads = torch.func.grad(loss)(adapted, y)
                adapted = tuple(t - LR * g for t, g in zip(adapted, grads))
            total = total + loss(adapted, y)
        return total / BATCH

    parameters = [leaf.clone().requires_grad_() for leaf in leaves]
    optimizer = torch.optim.Adam(parameters, 1e-5)
    meta_gradient = torch.func.grad(meta_loss)

    def step():
        for p, g in zip(parameters, meta_gradient(tuple(p.detach() for p in parameters))):
            p.grad = g
        optimizer.step()

    return step, meta_gradient(leaves)


def check_torch(ours, theirs):
    """Both compute the same meta-gradient."""
    flat = [np.asarray(a) for layer in ours for a in layer]
    for a, b in zip(flat, theirs):
        assert np.abs(a - b.detach().numpy()).max() < 1e-3 * np.abs(a).max(), (
            "not the same gradient"
        )


def memory(batching, keep, steps):
    """Peak bytes of the 178 x 178 RGB MAML step, by XLA's analysis of the compiled program."""
    field = fields.siren(256, 5, 200.0, 3)
    loss = tasks.regression(field)
    maml = outer.maml(loss, inner.sgd(loss, steps, LR, keep=keep), batching)
    theta = jax.eval_shape(field.init, jax.random.key(0))
    many = tasks.Tasks(jnp.zeros((BATCH, BIG**2, 3)), pixels.grid(BIG).reshape(-1, 2))
    keys = jax.random.split(jax.random.key(0), BATCH)
    return cost.peak_bytes(jax.jit(maml.step).lower(theta, many, keys).compile())


def measure():
    """All rows (what, value, unit)."""
    field, theta, few, keys = problem()
    loss, adam = tasks.regression(field), optax.adam(1e-5)
    slow = tasks.regression(slow_sine(field))
    maml = outer.maml(loss, inner.sgd(loss, K, LR), "scan").step
    plain = outer.maml(slow, inner.sgd(slow, K, LR, keep=None), "vmap").step
    scan_slow = outer.maml(slow, inner.sgd(slow, K, LR, keep=None), "scan").step
    vmap_fast = outer.maml(loss, inner.sgd(loss, K, LR, keep=None), "vmap").step
    again = outer.maml(loss, inner.sgd(loss, K, LR, keep=0), "scan").step
    square = jnp.ones((2048, 2048))
    ways = {  # name -> direction, outer steps per call
        "ours: tasks in a scan, fast sine": (maml, SCAN),
        "the plain way: jitted vmap over tasks, jnp.sin": (plain, 1),
        "tasks in a scan, jnp.sin": (scan_slow, 1),
        "vmap over tasks, fast sine": (vmap_fast, SCAN),
        "ours, every inner step rematerialised": (again, SCAN),
        "second best: Hessian-vector products by hand (jvp of grad)": (by_hand(loss), SCAN),
    }
    ours, *others = ways
    calls = {n: jitted(training(d, adam, c), theta, few, keys) for n, (d, c) in ways.items()}
    counts = {n: c for n, (_, c) in ways.items()}
    calls["product"], counts["product"] = jitted(lambda a: a @ a, square), 1
    if (torch := torch_step(theta, few)) is not None:
        step, theirs = torch
        check_torch(jax.jit(maml)(theta, few, keys)[1], theirs)
        calls["PyTorch torch.func"], counts["PyTorch torch.func"] = step, 1
        others.append("PyTorch torch.func")
    repeat = {"product": 5, ours: 3}
    rounds = [
        {n: seconds(call, repeat.get(n, 2)) / counts[n] for n, call in calls.items()}
        for _ in range(ROUNDS)
    ]
    flops = jax.jit(vmap_fast).lower(theta, few, keys).compile().cost_analysis()["flops"]
    products = cost.matmul_flops(maml, theta, few, keys)

    def middle(value):
        return statistics.median(value(r) for r in rounds)

    def floor(r):
        return flops / (2 * 2048**3 / r["product"])

    rows = [
        (
            "matrix product 2048³, float32",
            middle(lambda r: 2 * 2048**3 / r["product"] / 1e9),
            "GFLOP/s",
        ),
        ("FLOPs of the step, XLA's analysis", flops / 1e9, "GFLOP"),
        ("FLOPs of the step, its matrix products alone", products / 1e9, "GFLOP"),
        ("MAML step: floor", middle(floor), "s"),
        (f"MAML step, {ours}", middle(lambda r: r[ours]), "s"),
        ("MAML step: fraction of the floor", middle(lambda r: floor(r) / r[ours]), ""),
    ]
    for n in others:
        rows += [
            (f"MAML step, {n}", middle(lambda r: r[n]), "s"),  # noqa: B023
            (f"MAML step: times faster than {n}", middle(lambda r: r[n] / r[ours]), ""),  # noqa: B023
        ]
    for steps in BIG_K:
        for name, batching, keep in (
            ("in a scan, rematerialised", "scan", inner.KEEP),
            ("at once, rematerialised", "vmap", inner.KEEP),
            ("at once, nothing rematerialised", "vmap", None),
        ):
            what = f"peak memory, MAML step on 178×178 RGB, K = {steps}, tasks {name}"
            rows.append((what, memory(batching, keep, steps) / 2**30, "GiB"))
    return rows


if __name__ == "__main__":
    main("meta_step", __doc__, ROUNDS, measure)
