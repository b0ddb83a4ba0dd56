"""Sounds from learned inits and from a random one, after few steps and after many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from learnit_utils import evaluate
from learnit_utils.evaluate import Interval
from learnit_utils.experiments import recipe, transfer
from learnit_utils.experiments.protocol import Choice, Grid, Pieces, Study, grid
from learnit_utils.experiments.registry import RECIPES
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.experiments.seeds import drawn
from learnit_utils.experiments.store import Trained
from learnit_utils.forward import waveform
from learnit_utils.metrics import decibel
from learnit_utils.signals import voices
from learnit_utils.tasks import Tasks

STUDY, METRIC = "sounds", "psnr"
LEARNT = ("voices1024_maml", "voices1024_metasgd")  # plain steps; learned step sizes
RANDOM, LEARNED, OWN = "random", "learned", "learned, own step sizes"
INITS = (RANDOM, LEARNED, OWN)
GRID = grid(sgd=(1e-2, 3e-2, 1e-1), adam=(1e-4, 3e-4, 1e-3, 3e-3))
NOTES = 40  # test sounds


def resized(size: int) -> dict[str, Any]:
    """Settings of the recipes for clips of so many samples, of the same reach in hertz."""
    omega0 = round(waveform.reach(voices.PITCH, size / voices.RATE))
    field = RECIPES[LEARNT[0]].field | dict(omega0=omega0)
    return dict(size=size, field=field, agreement=False)


@dataclass(frozen=True)
class Contest:
    """Inits on sounds: a random one and a learned one, each with the optimizer that suits it best,
    and one with step sizes of its own, which takes its own steps and goes on with the last.

    Attributes:
        trained: the learned inits.
        key: of the random init.
        tried: the optimizers and step sizes that were tried.
        test: the sounds.
        choices: steps -> init -> the optimizer and step size that validation sounds chose.
        scores: steps -> PSNR of every init on every test sound.
    """

    trained: Mapping[str, Trained]
    key: jax.Array
    tried: Grid
    test: Tasks
    choices: Mapping[int, Mapping[str, Choice]]
    scores: Mapping[int, Scores]

    def mean(self, init: str, steps: int) -> Interval:
        """PSNR in dB of an init after so many steps."""
        return self.scores[steps].mean(init)

    def lead(self, init: str, steps: int) -> Interval:
        """By how many dB an init is ahead of the random one, sound by sound."""
        return self.scores[steps].paired(init, RANDOM).interval

    def leads(self, steps: int) -> dict[str, Interval]:
        """Learned init -> its lead after so many steps."""
        return {init: self.lead(init, steps) for init in (LEARNED, OWN)}

    def means(self) -> dict[str, dict[int, float]]:
        """Init -> steps -> mean PSNR in dB."""
        return {i: {k: self.mean(i, k).mean for k in self.scores} for i in INITS}

    def rows(self) -> list[list]:
        """The table of a page: means of the inits, leads of the learned ones, what was chosen."""
        rows = [[f"**{init}**", *(self.mean(init, k) for k in self.scores)] for init in INITS]
        for init in (LEARNED, OWN):
            rows += [[f"{init}, over random", *(self.lead(init, k) for k in self.scores)]]
        for init in (RANDOM, LEARNED):
            chosen = [_words(by_init[init]) for by_init in self.choices.values()]
            rows += [[f"steps of {init}", *chosen]]
        return rows

    def sound(self, number: int) -> np.ndarray:
        """A test sound, (samples,) in [-1/2, 1/2]."""
        return np.asarray(self.test.each[number])[:, 0] - 0.5

    def silence(self) -> float:
        """PSNR in dB of a constant 1/2 beside each test sound, mean over them."""
        errors = (np.asarray(self.test.each, np.float64) - 0.5) ** 2
        return float(decibel(errors.mean(axis=(1, 2))).mean())

    def fits(self, number: int, steps: Sequence[int]) -> dict[int, dict[str, np.ndarray]]:
        """Steps -> init -> what it makes of a test sound, (samples,) about [-1/2, 1/2].

        Args:
            number: of the sound.
            steps: some of those of the contest.
        """
        return {count: self._fits(count, self.test.take(number)) for count in steps}

    def _fits(self, steps, task):
        field, found = self.trained[LEARNED].field, {}
        loss = waveform.sound_problem(field).loss
        inits = {RANDOM: drawn(field, self.key), LEARNED: self.trained[LEARNED].theta}
        for name, theta in inits.items():
            c = self.choices[steps][name]
            optimizer = self.tried[c.optimizer][0]
            found[name] = evaluate.fit(loss, theta, task, optimizer, steps, lr=c.lr)
        own = self.trained[OWN]
        settings = recipe.with_changes(own.trained_by(), inner_steps=steps)
        adapt = jax.jit(recipe.functions(settings).adapt)
        found[OWN], _ = adapt(own.init, task, jax.random.key(0))
        size = task.each.shape[0]
        return {n: np.asarray(waveform.play(field, t, size))[:, 0] - 0.5 for n, t in found.items()}


def contest(
    plain: Trained,
    own: Trained,
    key: jax.Array,
    tried: Grid,
    validation: Tasks,
    test: Tasks,
    steps: Sequence[int],
) -> Contest:
    """Choose optimizer and step size per init and number of steps, then fit the test sounds.

    Args:
        plain: an init that was learned for plain steps.
        own: one with learned step sizes, of the same network.
        key: draws the random init.
        tried: optimizers and step sizes to try, of `protocol.grid`.
        validation, test: sounds (`waveform.sound_tasks`).
        steps: the numbers.
    """
    trained, choices, scores = {LEARNED: plain, OWN: own}, {}, {}
    inits = {RANDOM: [partial(drawn, plain.field, key)], LEARNED: [plain.theta]}
    its_own, pieces = transfer.after(own, test, steps), Pieces()
    for count in steps:
        how = dict(cap=count, every=count, early_stop=False, pieces=pieces)
        problem = waveform.sound_problem(plain.field)
        study = Study(STUDY, problem, inits, tried, validation, test, **how)
        choices[count] = study.choose()
        rows = [Row(OWN, 0, i, METRIC, float(v)) for i, v in enumerate(its_own[count])]
        scores[count] = Scores([*study.score(choices[count]).rows, *rows])
    return Contest(trained, key, tried, test, choices, scores)


def _words(choice: Choice) -> str:
    """An optimizer and its step size, for a table."""
    return f"{choice.optimizer} {choice.lr:g}{', at the edge' * choice.at_edge}"
