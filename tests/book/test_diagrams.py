"""Diagrams of the core can be drawn, and say what the core does."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.book import diagrams, figures
from learnit_utils.forward import pixels
from learnit_utils.signals.base import dataset


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        figures.use_style()
        yield
        plt.close("all")


def texts(fig):
    return " ".join(t.get_text() for t in fig.findobj(plt.Text))


@pytest.mark.parametrize("method", ["maml", "fomaml", "reptile"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_only_maml_passes_the_hessians(method, steps):
    drawn = texts(diagrams.gradient_path(method, steps))
    assert drawn.count(r"\nabla^2") == (steps if method == "maml" else 0)
    assert rf"\theta_{steps}" in drawn


def test_shapes_are_those_of_the_objects():
    field = fields.siren(width=32, depth=4, channels=2)
    theta = jax.eval_shape(field.init, jax.random.key(0))
    drawn = texts(diagrams.network(field, theta))
    assert all(shape in drawn for shape in ("(2, 32)", "(32, 32)", "(32, 2)"))
    pictures = np.zeros((3, 16, 16, 2), np.float32)
    drawn = texts(diagrams.data_flow((218, 178), 16, pixels.image_tasks(dataset(pictures, "abc"))))
    assert all(shape in drawn for shape in ("178 × 178", "(256, 2)", "16 × 16"))


@pytest.mark.parametrize("draw", [diagrams.outer_step, diagrams.run_states])
def test_the_loops_and_states_fit_the_page(draw):
    fig = draw()
    assert fig.get_figwidth() <= 7.6
    assert len(texts(fig)) > 100
