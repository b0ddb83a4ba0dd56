"""Two fields that differ in a constant alone, trained one after the other: FOLDER."""

import sys

import jax
import optax

from learnit_utils import fields, inner, outer, tasks, train
from learnit_utils.forward import pixels
from learnit_utils.train import Monitor

X = pixels.grid(8).reshape(-1, 2)
DATA = tasks.Tasks(jax.random.uniform(jax.random.key(1), (4, 64, 1)), X)


def first_losses(sigma, out):
    """The losses of the first outer step of a Fourier network of that scale."""
    field = fields.fourier(8, 3, sigma, 1, features=8)
    loss = tasks.regression(field)
    grad, init = outer.maml(loss, inner.sgd(loss, 1, 1e-2)), field.init(jax.random.key(0))
    monitor = Monitor(out=out, progress=False)
    done = train.run(grad, init, DATA, optax.adam(1e-3), 3, batch=2, monitor=monitor)
    return done.history["loss"][0].tolist()


if __name__ == "__main__":
    print("apart" if first_losses(2.0, sys.argv[1]) != first_losses(9.0, None) else "shared")
    try:
        first_losses(9.0, sys.argv[1])
        print("resumed")
    except train.TrainError:
        print("refused")
