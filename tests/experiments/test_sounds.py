"""Inits on sounds: each gets its own optimizer and step size, then all are tried in pairs."""

import base64
import io
import wave

import jax
import numpy as np
import pytest

from learnit_utils.book.plots import sounds as plots
from learnit_utils.experiments import protocol, run, sounds, store
from learnit_utils.experiments.recipe import with_changes
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.forward import waveform
from learnit_utils.signals import base, voices

GRID = protocol.grid(sgd=[1e-2, 1e-1], adam=[1e-3, 1e-2])
SMALL = dict(steps=6, size=256, limit=6, warmup=0, snapshots=(), agreement=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both recipes, of a small network and a few steps."""
    found = []
    for name in sounds.LEARNT:
        recipe = RECIPES[name]
        small = with_changes(recipe, **SMALL, field=dict(recipe.field, width=16, depth=3))
        out = tmp_path_factory.mktemp("runs")
        found.append(store.load(run.execute(name, small, out, verbose=False)))
    return found


@pytest.fixture(scope="module")
def contest(trained):
    split = [waveform.sound_tasks(voices.load(s, size=256, limit=4)) for s in base.SPLITS[1:]]
    return sounds.contest(*trained, jax.random.key(3), GRID, *split, [2, 5])


def test_the_recipes_of_voices_train_and_are_scored(trained):
    plain, own = trained
    assert plain.init.step_sizes is None
    assert own.init.step_sizes is not None
    assert plain.field.spec == own.field.spec
    assert plain.field.spec["dims"] == 1
    for w in trained:
        assert {"validation_psnr", "test_psnr"} == set(w.info["scores"])
        assert 5 < w.info["scores"]["test_psnr"] < 60


def test_clips_of_another_length_keep_their_reach():
    for name in sounds.LEARNT:
        recipe = RECIPES[name]
        assert with_changes(recipe, **sounds.resized(1024) | dict(agreement=True)) == recipe
        long = with_changes(recipe, **sounds.resized(4096))
        assert long.size == 4096
        assert long.field["omega0"] == pytest.approx(4 * recipe.field["omega0"], abs=3)
        assert long.field["width"] == recipe.field["width"]


def test_every_init_is_judged_at_every_number_of_steps(contest):
    assert list(contest.scores) == [2, 5]
    for steps in (2, 5):
        for init in (sounds.RANDOM, sounds.LEARNED):
            choice = contest.choices[steps][init]
            assert choice.step == steps
            assert choice.lr in GRID[choice.optimizer][1]
        for init in sounds.INITS:
            assert contest.scores[steps].by_task(init).shape == (4,)
            gap = contest.mean(init, steps).mean - contest.mean(sounds.RANDOM, steps).mean
            assert contest.lead(init, steps).mean == pytest.approx(gap, abs=1e-6)
            assert contest.means()[init][steps] == contest.mean(init, steps).mean
    rows = contest.rows()
    assert [len(row) for row in rows] == [3] * 7
    assert contest.leads(2)[sounds.OWN] == contest.lead(sounds.OWN, 2)


@pytest.mark.parametrize("number", [0, 3])
def test_what_is_heard_is_what_was_scored(contest, number):
    for steps, fits in contest.fits(number, [2, 5]).items():
        assert tuple(fits) == sounds.INITS
        for init, sound in fits.items():
            psnr = -10 * np.log10(np.mean((sound - contest.sound(number)) ** 2))
            scored = contest.scores[steps].by_task(init)[number]
            assert psnr == pytest.approx(scored, abs=1e-2), (steps, init)


def test_silence_is_scored_by_the_loudness_of_the_sounds(contest):
    found = [np.mean(contest.sound(i).astype(float) ** 2) for i in range(4)]
    assert contest.silence() == pytest.approx(np.mean(-10 * np.log10(found)), abs=1e-4)


def test_a_player_holds_the_sound_it_plays():
    sound = voices.load("test", size=512, limit=1).arrays[0, :, 0] - np.float32(0.5)
    with wave.open(io.BytesIO(plots.recording(sound, 8000))) as file:
        assert file.getparams()[:4] == (1, 2, 8000, 512)
        levels = np.frombuffer(file.readframes(512), "<i2")
    np.testing.assert_array_equal(levels / 2**16, sound)
    page = plots.players({"a <voice>": sound, "again": sound}, 8000, times=2).data
    twice = base64.b64encode(plots.recording(np.concatenate([sound, sound]), 8000)).decode()
    assert page.count(twice) == 2
    assert page.count("<audio controls") == 2
    assert page.count("data:audio/wav;base64,") == 2
    assert "a &lt;voice&gt;" in page
    assert "http" not in page


def test_the_figure_shows_a_sound_and_its_fits(contest):
    fig = plots.stretches(contest.sound(0), contest.fits(0, [2, 5]), 8000)
    assert len(fig.axes) == 2
    assert fig.get_label()
    for ax in fig.axes:
        lines = ax.get_lines()
        assert len(lines) == 1 + len(sounds.INITS)
        middle = contest.sound(0)[128 - plots.STRETCH // 2 : 128 + plots.STRETCH // 2]
        np.testing.assert_array_equal(lines[0].get_ydata(), middle)
        assert lines[0].get_xdata()[0] == pytest.approx(1000 * (128 - plots.STRETCH // 2) / 8000)
