"""Old measurements by name become pieces that chapter 6 finds by their description."""

import json
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT

from learnit_utils import fields
from learnit_utils.experiments import few_views, protocol
from learnit_utils.forward import pixels, tomography

sys.path.insert(0, str(ROOT / "tools"))
import adopt_ct

GRID = [["SGD", 1.0], ["Adam", 0.003]]
CURVES = {
    "random/1/SGD 1": [1.0, 2.0, 0.0],
    "random/1/Adam 0.003": [1.0, 3.0, 2.0],
    "reptile12/1/SGD 1": [5.0, 4.0, 3.0],
    "reptile12/1/Adam 0.003": [5.0, 4.5, 3.0],
}
OLD = {
    "ct_tune": CURVES,
    "ct_test": {
        "random/0/1": dict(psnr=[3.0, 4.0], seen=[9.0, 9.0]),
        "FBP/0/1": dict(psnr=[1.0, 2.0], setting=dict(window="ramp")),
    },
    "ct_sigma": {"random/2.5": {"SGD 1": 3.0}},
    "ct_sweep": {
        "random/16/0.01": dict(held=[1.0, 2.0], test=[[1.0, 2.0]]),
        "FBP/16/0": dict(held=[1.0, 3.0], test=[[1.0, 4.0], [2.0, 5.0]]),
    },
}


@pytest.fixture(autouse=True)
def history(monkeypatch):
    def old(name):
        return OLD[name], dict(grid=GRID, every=25), dict(commit="c", date="d")

    monkeypatch.setattr(adopt_ct, "old", old)
    monkeypatch.setattr(adopt_ct, "VIEWS", (1,))


class Asked(protocol.Pieces):
    """Pieces that stop where they would be measured, with their description."""

    def __init__(self):
        super().__init__()
        self.about = []

    def call(self, study, about, function, *args, cost=1):
        self.about.append((study, json.loads(json.dumps(about))))
        if about.get("of") == "best":
            return {"SGD 1": 0.0}
        return dict(psnr=[0.0, 1.0, 0.0]) if about.get("of") != "course" else dict(psnr=[[0, 1]])


def test_fits_that_diverged_are_none():
    assert adopt_ct.kept([1.5, 0.0, -1.8e308]) == [1.5, None, None]


def test_the_choice_is_the_best_mark_of_the_first_best_curve():
    found = adopt_ct.choices(CURVES, dict(grid=GRID, every=25))
    assert found["random", 1] == ("Adam", 0.003, 25)
    assert found["reptile12", 1] == ("SGD", 1.0, 0)  # both begin at 5; the first counts


def test_descriptions_are_those_that_the_chapter_asks_for():
    """The chapter's own functions ask, and every description is among the adopted ones."""
    tables, chosen = adopt_ct.table()
    studies = tables, adopt_ct.sigma(), adopt_ct.sweep(chosen)
    adopted = [(s.study, e["about"]) for s in studies for e in s.entries]
    net = fields.build("fourier", width=4, depth=2, sigma=0.5, features=2, channels=1)
    images, asked = pixels.image_tasks(np.zeros((2, 8, 8, 1), np.float32)), Asked()
    grid = {o: (jax.numpy.sin, [lr]) for o, lr in GRID}
    compare = few_views.Comparison(images, images, grid, 50, 25, asked)
    entrant = few_views.Entrant([net.init(jax.random.key(0))], net)
    study = compare.study("ct", {"random": entrant}, 1)
    study.curve("random, 1 view", "Adam", 0.003)
    optimizer, lr, step = chosen["random", 1]
    choice = protocol.Choice(optimizer, lr, step, False, 0.0)
    study.at("random, 1 view", choice)
    compare.classical("ct", "FBP", 1)
    scales = compare.study("ct_sigma", {"random, sigma 2.5": entrant}, adopt_ct.LIVE_VIEWS)
    scales.best("random, sigma 2.5, 4 views")
    problem = tomography.scan_problem
    sweep = few_views.Sweep(problem, images, images, jax.random.key(1), grid, 50, 25, asked)
    sweep.course("random", entrant, 16, 0.01, choice)
    sweep.fbp(16, 0.0)
    assert len(asked.about) == 7
    assert all(about in adopted for about in asked.about)


def test_of_filtered_backprojection_the_window_of_validation_is_taken():
    study = adopt_ct.sweep({("random", 1): ("Adam", 0.003, 25)})
    (fbp,) = (e["value"] for e in study.entries if e["about"].get("method") == "FBP")
    assert fbp == dict(setting=dict(window="shepp-logan"), psnr=[4.0, 5.0])
