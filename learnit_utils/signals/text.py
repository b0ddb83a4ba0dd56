"""Random words in several fonts, drawn from a seed."""

from functools import cache
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from learnit_utils.signals._fonts import font
from learnit_utils.signals.base import Dataset, drawn_dataset, split_of

FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral", "cmss10")
FINER = 4  # letters are drawn so many times as large and averaged
HEIGHTS = (0.12, 0.3)  # of a line, in picture sides


@cache
def vocabulary(split: str) -> tuple[str, ...]:
    """The words of a split: made of syllables, and on one side each, by the hash of the word."""
    onsets = [*"bcdfghjklmnprstvwz", "br", "ch", "fl", "pr", "qu", "st", "tr"]
    syllables = ["".join(s) for s in product(onsets, "aeiou", ["", "n", "r", "st"])]
    rng = np.random.default_rng(0)
    words = {"".join(rng.choice(syllables, n)) for n in (1, 1, 2, 2, 2, 3) for _ in range(600)}
    return tuple(sorted(w for w in words if split_of(w) == split))


def page(rng: np.random.Generator, words: tuple[str, ...], size: int, gray: bool) -> np.ndarray:
    """Lines of words that run over both edges: (size, size, 1 or 3), float32 in [0, 1].

    Black on white in gray; otherwise two random colours, the letters' darker.
    """
    full = FINER * size
    height = max(4, round(full * rng.uniform(*HEIGHTS)))
    chosen = font(FONTS[rng.integers(len(FONTS))], height)
    image = Image.new("L", (full, full))
    draw = ImageDraw.Draw(image)
    top = -int(rng.integers(height))
    while top < full:
        left = -int(rng.integers(2 * height))
        while left < full:
            word = words[rng.integers(len(words))] + " "
            draw.text((left, top), word, fill=255, font=chosen)
            left += max(1, int(np.ceil(draw.textlength(word, font=chosen))))
        top += round(1.3 * height)
    ink = np.asarray(image, np.uint32).reshape(size, FINER, size, FINER).sum((1, 3))
    ink = (ink / (255 * FINER**2)).astype(np.float32)[..., None]
    dark, light = (np.zeros(1), np.ones(1)) if gray else np.sort(rng.uniform(size=(2, 3)), axis=0)
    return (light + (dark - light) * ink).astype(np.float32)


def load(
    split: str = "train",
    *,
    size: int = 64,
    gray: bool = True,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Pictures of random words; no word stands on two sides.

    Args:
        gray: black on white in one channel; otherwise in random colours.
        split, size, seed, limit: as in `base.drawn_dataset`.
    """

    def draw(rng, part):
        return page(rng, vocabulary(part), size, gray)

    return drawn_dataset(draw, split, size, seed, limit, "random words in fonts of matplotlib")
