"""Simple-NeRF against its floors: a Reptile step, a rendered picture, and one dispatch per step.

    python benchmarks/nerf.py [--json] [--record]

The step is that of the recipe chairs128_mv: 32 inner steps, 64 rays of 32 samples, an object with
25 views of 128 x 128. The picture has 128 x 128 rays of 64 samples. Their floor is the FLOPs of the
matrix products over the rate of a 2048^3 float32 product of the same round. "One dispatch per inner
step" does the same sums the way of the authors' notebook: rays of all pixels made beforehand, and a
Python loop that draws, gathers and calls a compiled step. Everything is measured in turn in one
process, `ROUNDS` times; a row is a median.
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
from timing import main, seconds

from learnit_utils import metrics
from learnit_utils.experiments import flops, run
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.forward import cameras, photometric, rendering

ROUNDS, SIDE, SAMPLES = 9, 128, 64


def in_python(p, recipe, task):
    """One Reptile direction with a dispatch per inner step: (theta, key) -> direction."""
    count, high, wide = task.each.pictures.shape[:3]
    rays = [photometric.object_rays(p, task.shared, (high, wide)) for p in task.each.poses]
    rays = jax.tree.map(lambda *r: jnp.stack(r), *rays)
    rays = cameras.Rays(*(r.reshape(-1, *r.shape[3:]) for r in rays))
    colours = jnp.float32(task.each.pictures).reshape(-1, 3) / 255

    @jax.jit
    def step(theta, key, rays, colour):
        def loss(theta):
            f = rendering.density_and_colour(lambda x: p.learned.field(theta, x), recipe.density)
            seen = rendering.render_rays(f, rays, recipe.samples, key)
            return metrics.mse(seen.colour, colour)

        grad = jax.grad(loss)(theta)
        return jax.tree.map(lambda t, g: t - recipe.inner_lr * g, theta, grad)

    def outer(theta, key):
        now = theta
        for _ in range(recipe.inner_steps):
            key, key_rays, key_places = jax.random.split(key, 3)
            which = jax.random.randint(key_rays, (recipe.rays,), 0, count * high * wide)
            drawn = cameras.Rays(*(r[which] for r in rays))
            now = step(now, key_places, drawn, colours[which])
        return jax.block_until_ready(jax.tree.map(jnp.subtract, theta, now))

    return outer


def measure():
    """All rows (what, value, unit)."""
    recipe = RECIPES["chairs128_mv"]
    p = run.build(recipe)
    one = p.data.train.take(np.array([0]))
    keys = jax.random.split(jax.random.key(1), 1)
    step = jax.jit(p.learned.grad.step).lower(p.init, one, keys).compile()
    loop, key = in_python(p, recipe, one.take(0)), jax.random.key(2)
    rays = photometric.object_rays(cameras.orbit(0.5, 0.3, 4.0), one.shared, (SIDE, SIDE))
    sampling = rendering.Sampling(SAMPLES, recipe.density)

    def picture():
        seen = rendering.render(p.learned.field, p.init, rays, sampling)
        jax.block_until_ready(seen)

    points = jax.ShapeDtypeStruct((SIDE * SIDE * SAMPLES, 3), jnp.float32)
    products = {
        "Reptile step": flops.matmul_flops(p.learned.grad.step, p.init, one, keys),
        "picture": flops.matmul_flops(p.learned.field.apply, p.init, points),
    }
    calls = {
        "Reptile step": lambda: jax.block_until_ready(step(p.init, one, keys)),
        "picture": picture,
        "loop": lambda: loop(p.init, key),
    }
    for call in calls.values():
        call()
    rounds = []
    for _ in range(ROUNDS):
        took = {name: seconds(call, 2) for name, call in calls.items()}
        rounds.append(took | dict(product=flops.matmul_rate.__wrapped__()))

    def median(of):
        return statistics.median(of(r) for r in rounds)

    names = {"Reptile step": "Reptile step, 32 inner steps"}
    names["picture"] = f"picture, {SIDE} x {SIDE}, {SAMPLES} samples"
    rows = []
    for name, told in names.items():
        rows.append((told, median(lambda r, n=name: r[n]), "s"))
        of_floor = median(lambda r, n=name: products[n] / r["product"] / r[n])
        rows.append((f"{name}: of its floor, the matrix products", of_floor, ""))
    ratio = median(lambda r: r["loop"] / r["Reptile step"])
    rows.append(("one dispatch per inner step: time, Reptile step = 1", ratio, ""))
    return rows


if __name__ == "__main__":
    main("nerf", __doc__, ROUNDS, measure, peer=False)
