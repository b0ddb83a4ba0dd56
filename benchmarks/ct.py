"""Tomography against its floors: a Reptile step, a reconstruction, the projector, scikit-image.

    python benchmarks/ct.py [--json] [--record]

The step is that of the recipe ct48_reptile12: 48 x 48, 20 random views, 12 inner steps. The
reconstruction is 100 steps of Adam from 8 views. Their floor is the FLOPs of the matrix products
over the rate of a 2048^3 float32 product of the same round. The projector's floor is the bytes of
the lines it cuts, each read and added once, over the rate of a copy. Everything is measured in turn
in one process, `ROUNDS` times; a row is a median.
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax
from skimage.transform import radon
from timing import main, seconds

from learnit_utils import evaluate
from learnit_utils.experiments import flops, run
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.forward import tomography
from learnit_utils.signals import phantoms

ROUNDS, STEPS, BIG, VIEWS = 9, 100, 256, 180


def copy_rate(size=2**26):
    """Bytes per second of reading and writing a large array."""
    a = jnp.ones(size, jnp.float32)
    copy = jax.jit(lambda a: a + 1)
    copy(a).block_until_ready()
    return 8 * size / seconds(lambda: copy(a).block_until_ready(), 3)


def problems():
    """name -> (call, FLOPs of its matrix products)."""
    recipe = RECIPES["ct48_reptile12"]
    p = run.build(recipe)
    one = p.data.train.take(np.array([0]))
    keys = jax.random.split(jax.random.key(1), 1)
    step = jax.jit(p.learned.grad.step).lower(p.init, one, keys).compile()

    scan = tomography.scan_tasks(one, 8)
    loss = tomography.scan_problem(p.learned.field).loss
    adam = optax.adam(1e-3)

    def reconstruction():
        return jax.block_until_ready(evaluate.fit(loss, p.init, scan.take(0), adam, STEPS))

    gradient = flops.matmul_flops(jax.grad(loss), p.init, scan.take(0), keys[0])
    of_step = flops.matmul_flops(p.learned.grad.step, p.init, one, keys)
    return {
        "Reptile step": (lambda: jax.block_until_ready(step(p.init, one, keys)), of_step),
        f"reconstruction, {STEPS} steps": (reconstruction, STEPS * gradient),
    }


def projectors():
    """name -> call: ours, its adjoint, and scikit-image's, on one phantom of 256 x 256."""
    image = phantoms.load("test", size=BIG, limit=1).arrays[0, ..., 0]
    r = (np.arange(BIG) - BIG // 2) / BIG
    image = image * (np.hypot(r[:, None], r[None]) < 0.5 - 1 / BIG)
    angles = tomography.even_angles(VIEWS)
    there, back = jax.jit(tomography.project), jax.jit(tomography.backproject)
    seen, degrees = there(image, angles), np.rad2deg(angles)
    return {
        "project": lambda: there(image, angles).block_until_ready(),
        "backproject": lambda: back(seen, angles).block_until_ready(),
        "radon of scikit-image": lambda: radon(image, degrees, circle=True),
    }


def measure():
    """All rows (what, value, unit)."""
    fitted, projected = problems(), projectors()
    for call in (*(call for call, _ in fitted.values()), *projected.values()):
        call()
    rounds = []
    for _ in range(ROUNDS):
        took = {name: seconds(call, 2) for name, (call, _) in fitted.items()}
        took |= {name: seconds(call, 2) for name, call in projected.items()}
        took["product"], took["copy"] = flops.matmul_rate.__wrapped__(), copy_rate()
        rounds.append(took)

    def median(of):
        return statistics.median(of(r) for r in rounds)

    rows = []
    for name, (_, products) in fitted.items():
        rows.append((name, median(lambda r, n=name: r[n]), "s"))
        of_floor = median(lambda r, n=name, f=products: f / r["product"] / r[n])
        rows.append((f"{name}: of its floor, the matrix products", of_floor, ""))
    cut = 4 * 2 * VIEWS * BIG * np.ceil(BIG * np.sqrt(2))
    size = f"{BIG} x {BIG}, {VIEWS} angles"
    rows.append((f"project, {size}", median(lambda r: r["project"]), "s"))
    of_floor = median(lambda r: cut / r["copy"] / r["project"])
    rows.append(("project: of its floor, the bytes of the lines it adds", of_floor, ""))
    adjoint = median(lambda r: r["backproject"] / r["project"])
    rows.append(("backproject: time, project = 1", adjoint, ""))
    theirs = median(lambda r: r["radon of scikit-image"] / r["project"])
    rows.append(("radon of scikit-image: time, project = 1", theirs, ""))
    return rows


if __name__ == "__main__":
    main("ct", __doc__, ROUNDS, measure, peer=False)
