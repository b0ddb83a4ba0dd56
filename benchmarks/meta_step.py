"""The MAML step against its floor, the plain way, other ways and PyTorch; and its memory.

    python benchmarks/meta_step.py [--json] [--record]

The step is the first document's: SIREN 256 x 5, omega0 30, 64 x 64 gray, three faces, two inner
steps of 0.01, Adam of 1e-5. Everything is measured in turn in one process, `ROUNDS` times; a row is
the median of its best of two calls, each of `SCAN` outer steps (PyTorch, and rows that say so: one
step a call, as a plain training loop does it). The floor is the step's FLOPs over the rate of a
2048^3 float32 product of the same round; XLA counts them on the plain way, where there is no loop,
nothing is computed twice and a sine is no polynomial.
"""

import dataclasses
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import jitted, main, seconds

from learnit_utils import fields, inner, outer, tasks
from learnit_utils.experiments import flops
from learnit_utils.forward import pixels
from learnit_utils.signals import faces

ROUNDS, SCAN, K, LR, BATCH = 9, 3, 2, 1e-2, 3
BIG, BIG_K = 178, (2, 8, 32)


def problem():
    """The field, its start, three faces and their keys."""
    field = fields.siren(256, 5, 30.0, 1)
    few = pixels.image_tasks(faces.load("train", size=64)).take(np.array([0, 50, 100]))
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

    return dataclasses.replace(field, apply=apply, spec=None)


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
    """The same step in PyTorch, name -> call, and its meta-gradient; None without PyTorch.

    Twice: gradients by torch.func, and by autograd with create_graph; torch.optim.Adam for both.
    """
    try:
        import torch
    except ModuleNotFoundError:
        return None
    torch.set_num_threads(flops.cores())
    leaves = tuple(torch.tensor(np.array(a)) for layer in theta for a in layer)
    x, ys = torch.tensor(np.array(few.shared)), torch.tensor(np.array(few.each))

    def loss(leaves, y):
        h = x
        for w, b in zip(leaves[0:-2:2], leaves[1:-2:2]):
            h = torch.sin(30.0 * torch.addmm(b, h, w))
        return ((torch.addmm(leaves[-1], h, leaves[-2]) + 0.5 - y) ** 2).mean()

    def recorded(adapted, y):
        return torch.autograd.grad(loss(adapted, y), adapted, create_graph=True)

    def meta_loss(leaves, inner_gradient):
        total = 0.0
        for y in ys:
            adapted = leaves
            for _ in range(K):
                grads = inner_gradient(adapted, y)
                adapted = tuple(t - LR * g for t, g in zip(adapted, grads))
            total = total + loss(adapted, y)
        return total / BATCH

    def functional(leaves):
        return torch.func.grad(lambda t: meta_loss(t, torch.func.grad(loss)))(leaves)

    def by_autograd(leaves):
        leaves = tuple(leaf.detach().requires_grad_() for leaf in leaves)
        return torch.autograd.grad(meta_loss(leaves, recorded), leaves)

    def stepping(gradient):
        parameters = [leaf.clone().requires_grad_() for leaf in leaves]
        optimizer = torch.optim.Adam(parameters, 1e-5)

        def step():
            for p, g in zip(parameters, gradient(tuple(p.detach() for p in parameters))):
                p.grad = g
            optimizer.step()

        return step

    both = {"torch.func": functional, "autograd, create_graph": by_autograd}
    name = f"PyTorch {torch.__version__.split('+')[0]}"
    steps = {f"{name}, {how}": stepping(gradient) for how, gradient in both.items()}
    return steps, [gradient(leaves) for gradient in both.values()]


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
    maml = outer.maml(loss, inner.sgd(loss, steps, LR, keep_last=keep), batching)
    theta = jax.eval_shape(field.init, jax.random.key(0))
    many = tasks.Tasks(jnp.zeros((BATCH, BIG**2, 3)), pixels.grid(BIG).reshape(-1, 2))
    keys = jax.random.split(jax.random.key(0), BATCH)
    return flops.peak_bytes(jax.jit(maml.step).lower(theta, many, keys).compile())


def measure():
    """All rows (what, value, unit)."""
    field, theta, few, keys = problem()
    loss, adam = tasks.regression(field), optax.adam(1e-5)
    slow = tasks.regression(slow_sine(field))
    maml = outer.maml(loss, inner.sgd(loss, K, LR), "scan").step
    plain = outer.maml(slow, inner.sgd(slow, K, LR, keep_last=None), "vmap").step
    scan_slow = outer.maml(slow, inner.sgd(slow, K, LR, keep_last=None), "scan").step
    vmap_fast = outer.maml(loss, inner.sgd(loss, K, LR, keep_last=None), "vmap").step
    again = outer.maml(loss, inner.sgd(loss, K, LR, keep_last=0), "scan").step
    square = jnp.ones((2048, 2048))
    ways = {  # name -> direction
        "ours: tasks in a scan, fast sine": maml,
        "the plain way: jitted vmap over tasks, jnp.sin": plain,
        "tasks in a scan, jnp.sin": scan_slow,
        "vmap over tasks, fast sine": vmap_fast,
        "every inner step rematerialised": again,
        "Hessian-vector products by hand (second best)": by_hand(loss),
    }
    ours, *others = ways
    calls = {n: jitted(training(way, adam), theta, few, keys) for n, way in ways.items()}
    counts = dict.fromkeys(ways, SCAN)
    for n in (ours, others[0]):
        alone = f"{n}, one step a call"
        calls[alone] = jitted(training(ways[n], adam, 1), theta, few, keys)
        others.append(alone)
    calls["product"] = jitted(lambda a: a @ a, square)
    if (torch := torch_step(theta, few)) is not None:
        steps, gradients = torch
        for theirs in gradients:
            check_torch(jax.jit(maml)(theta, few, keys)[1], theirs)
        calls |= steps
        others += steps
    rounds = [
        {
            n: seconds(call, 5 if n == "product" else 2) / counts.get(n, 1)
            for n, call in calls.items()
        }
        for _ in range(ROUNDS)
    ]
    by_xla = jax.jit(plain).lower(theta, few, keys).compile().cost_analysis()["flops"]
    products = flops.matmul_flops(maml, theta, few, keys)

    def middle(value):
        return statistics.median(value(r) for r in rounds)

    def floor(r):
        return by_xla / (2 * 2048**3 / r["product"])

    rows = [
        (
            "matrix product 2048³, float32",
            middle(lambda r: 2 * 2048**3 / r["product"] / 1e9),
            "GFLOP/s",
        ),
        ("FLOPs of the step, XLA's analysis", by_xla / 1e9, "GFLOP"),
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
            ("in a scan, rematerialised", "scan", inner.KEEP_LAST),
            ("at once, rematerialised", "vmap", inner.KEEP_LAST),
            ("at once, nothing rematerialised", "vmap", None),
        ):
            what = f"peak memory, MAML step on 178×178 RGB, K = {steps}, tasks {name}"
            rows.append((what, memory(batching, keep, steps) / 2**30, "GiB"))
    return rows


if __name__ == "__main__":
    main("meta_step", __doc__, ROUNDS, measure)
