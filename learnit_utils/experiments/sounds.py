"""Sounds from learned inits and from a random one, after few steps and after many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from learnit_utils import evaluate
from learnit_utils.evaluate import Interval
from learnit_utils.experiments import recipe, transfer
from learnit_utils.experiments.protocol import Choice, Grid, Pieces, Study
from learnit_utils.experiments.scores import Row, Scores
from learnit_utils.experiments.seeds import drawn
from learnit_utils.experiments.store import Trained
from learnit_utils.forward import waveform
from learnit_utils.metrics import decibel
from learnit_utils.tasks import Tasks

STUDY, METRIC = "sounds", "psnr"
RANDOM, LEARNED, OWN = "random", "learned", "learned, own step sizes"


@dataclass(frozen=True)
class Contest:
    """Inits on sounds: a random one and a learned one, each with the optimizer that suits it best,
    and one with step sizes of its own, which takes its own steps and goes on with the last.

    Attributes:
        trained: the learned inits.
        key: of the random init.
        grid: the optimizers and step sizes that were tried.
        test: the sounds.
        choices: steps -> init -> the optimizer and step size that validation sounds chose.
        scores: steps -> PSNR of every init on every test sound.
    """

    trained: Mapping[str, Trained]
    key: jax.Array
    grid: Grid
    test: Tasks
    choices: Mapping[int, Mapping[str, Choice]]
    scores: Mapping[int, Scores]

    def mean(self, init: str, steps: int) -> Interval:
        """PSNR in dB of an init after so many steps."""
        return self.scores[steps].mean(init)

    def lead(self, steps: int, init: str = LEARNED) -> Interval:
        """By how many dB an init is ahead of the random one, sound by sound."""
        return self.scores[steps].paired(init, RANDOM).interval

    def fits(self, number: int) -> dict[int, dict[str, np.ndarray]]:
        """Steps -> init -> what it makes of a test sound, (samples,) in [-1/2, 1/2]."""
        return {steps: self._fits(steps, self.test.take(number)) for steps in self.choices}

    def _fits(self, steps, task):
        field, found = self.trained[LEARNED].field, {}
        loss = waveform.sound_problem(field).loss
        for name, init in _inits(self.trained, self.key).items():
            c = self.choices[steps][name]
            how = (self.grid[c.optimizer][0], steps)
            found[name] = evaluate.fit(loss, init(), task, *how, lr=c.lr)
        own = self.trained[OWN]
        settings = recipe.with_changes(own.trained_by(), inner_steps=steps)
        adapt = jax.jit(recipe.functions(settings).adapt)
        found[OWN], _ = adapt(own.init, task, jax.random.key(0))
        size = task.each.shape[0]
        return {n: np.asarray(waveform.play(field, t, size))[:, 0] - 0.5 for n, t in found.items()}


def _inits(trained, key):
    """Name -> function that makes an init, of those that take steps of an optimizer."""
    learned = trained[LEARNED]
    return {RANDOM: partial(drawn, learned.field, key), LEARNED: lambda: learned.theta}


def contest(
    plain: Trained,
    own: Trained,
    key: jax.Array,
    grid: Grid,
    validation: Tasks,
    test: Tasks,
    steps: Sequence[int],
) -> Contest:
    """Choose optimizer and step size per init and number of steps, then fit the test sounds.

    Args:
        plain: an init that was learned for plain steps.
        own: one with learned step sizes, of the same network.
        key: draws the random init.
        grid: optimizers and step sizes to try, of `protocol.grid`.
        validation, test: sounds (`waveform.sound_tasks`).
        steps: the numbers.
    """
    trained, choices, scores = {LEARNED: plain, OWN: own}, {}, {}
    inits = {RANDOM: [partial(drawn, plain.field, key)], LEARNED: [plain.theta]}
    its_own, pieces = transfer.after(own, test, steps), Pieces()
    for count in steps:
        how = dict(cap=count, every=count, early_stop=False, pieces=pieces)
        problem = waveform.sound_problem(plain.field)
        study = Study(STUDY, problem, inits, grid, validation, test, **how)
        choices[count] = study.choose()
        rows = [Row(OWN, 0, i, METRIC, float(v)) for i, v in enumerate(its_own[count])]
        scores[count] = Scores([*study.score(choices[count]).rows, *rows])
    return Contest(trained, key, grid, test, choices, scores)


def silence(sounds: Tasks) -> np.ndarray:
    """PSNR in dB of a constant 1/2 beside each sound, (count,)."""
    return decibel(((np.asarray(sounds.each, np.float64) - 0.5) ** 2).mean(axis=(1, 2)))
