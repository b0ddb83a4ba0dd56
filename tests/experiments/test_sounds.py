"""Inits on sounds: each gets its own optimizer and step size, then all are tried in pairs."""

import dataclasses
import io
import wave
from functools import partial

import jax
import numpy as np
import pytest

from learnit_utils import fields
from learnit_utils.book.plots import sounds as plots
from learnit_utils.experiments import protocol, sounds
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.experiments.seeds import drawn
from learnit_utils.forward import waveform
from learnit_utils.signals import voices

GRID = protocol.grid(sgd=[1e-2, 1e-1], adam=[1e-3, 1e-2])
FIELD = fields.siren(16, 3, 300.0, 1, dims=1, hidden_omega0=30.0)


@pytest.fixture(scope="module")
def split():
    return [waveform.sound_tasks(voices.load(s, size=256, limit=4)) for s in ("validation", "test")]


@pytest.fixture(scope="module")
def contest(split):
    inits = {"random": [partial(drawn, FIELD, jax.random.key(0))]}
    inits["learned"] = [partial(drawn, FIELD, jax.random.key(1))]
    return sounds.contest(FIELD, inits, GRID, *split, [1, 4])


def test_every_init_is_judged_at_every_number_of_steps(contest):
    assert list(contest.scores) == [1, 4]
    for steps in (1, 4):
        for init in ("random", "learned"):
            choice = contest.choices[steps][init]
            assert choice.step == steps
            assert choice.lr in GRID[choice.optimizer][1]
            assert contest.scores[steps].by_task(init).shape == (4,)
        gap = contest.mean("learned", steps).mean - contest.mean("random", steps).mean
        assert contest.lead(steps).mean == pytest.approx(gap, abs=1e-6)


def test_what_is_heard_is_what_was_scored(contest, split):
    test, problem = split[1], waveform.sound_problem(FIELD)
    theta, choice = FIELD.init(jax.random.key(1)), contest.choices[4]["learned"]
    for number in range(2):
        heard = sounds.fitted(FIELD, problem, theta, GRID, choice, test, number)
        mse = np.mean((heard - (np.asarray(test.each[number])[:, 0] - 0.5)) ** 2)
        assert -10 * np.log10(mse) == pytest.approx(
            contest.scores[4].by_task("learned")[number], abs=1e-2
        )


def test_silence_is_scored_by_the_loudness_of_a_sound(split, contest):
    found = sounds.silence(split[1])
    expected = -10 * np.log10(((np.asarray(split[1].each) - 0.5) ** 2).mean(axis=(1, 2)))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert contest.silence == pytest.approx(expected.mean(), abs=1e-4)


def test_a_player_holds_the_sound_it_plays():
    sound = voices.load("test", size=512, limit=1).arrays[0, :, 0] - np.float32(0.5)
    with wave.open(io.BytesIO(plots.recording(sound, 8000))) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 512)
        levels = np.frombuffer(file.readframes(512), "<i2")
    np.testing.assert_array_equal(levels / 2**16, sound)
    page = plots.players({"a <voice>": sound, "again": sound}, 8000).data
    assert page.count("<audio controls") == 2
    assert page.count("data:audio/wav;base64,") == 2
    assert "a &lt;voice&gt;" in page
    assert "http" not in page


def test_the_figure_shows_a_sound_and_its_fits(split):
    sound = np.asarray(split[1].each[0])[:, 0] - 0.5
    fits = {k: {"random": 0 * sound, "learned": 0.9 * sound} for k in (2, 10)}
    fig = plots.stretches(sound, fits, 8000, 40, 80)
    assert len(fig.axes) == 2
    for ax in fig.axes:
        lines = ax.get_lines()
        assert len(lines) == 3
        np.testing.assert_array_equal(lines[0].get_ydata(), sound[40:120])
        assert lines[0].get_xdata()[0] == pytest.approx(5.0)


def test_the_recipes_of_voices_run(tmp_path):
    from learnit_utils.experiments import run, store

    names = [n for n, r in RECIPES.items() if r.signals == "voices"]
    assert names
    for name in names:
        recipe = RECIPES[name]
        small = dict(recipe.field, width=8, depth=3)
        short = dataclasses.replace(recipe, steps=4, size=128, limit=4, field=small, snapshots=())
        trained = store.load(run.execute(name, short, tmp_path, verbose=False))
        assert trained.field.spec["dims"] == 1
        assert 0 < trained.info["test_psnr"] < 60 if "test_psnr" in trained.info else True
