"""A class of pictures to play with: small line charts, written as picture files."""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np


def write(folder: Path, rng: np.random.Generator, count: int = 40) -> Path:
    """A folder of charts of 64 x 64 pixels, each of one to three random walks.

    Args:
        folder: emptied first.
        rng: draws the walks and their colours.
        count: number of pictures.

    Returns:
        The folder.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for i in range(count):
        fig, ax = plt.subplots(figsize=(1, 1), dpi=64)
        for _ in range(rng.integers(1, 4)):
            ax.plot(rng.normal(size=30).cumsum(), "-", color=f"C{rng.integers(6)}")
        ax.tick_params(labelleft=False, labelbottom=False)
        fig.savefig(folder / f"{i:02}.png")
        plt.close(fig)
    return folder
