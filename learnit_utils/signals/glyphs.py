"""Letters, digits and marks in the fonts of matplotlib, each set down differently, from a seed.

A class is a character. Of characters that look alike once they are moved and stretched, one stays:
of O, 0, o and theta one, of I, l and 1, of Y and y, of T and tau, of a and alpha, of 6 and the
Cyrillic be; a small letter that is a smaller capital (c, s, v, w, x, z) is left out.
"""

import hashlib
from functools import cache
from itertools import chain

import numpy as np
from PIL import Image, ImageDraw

from learnit_utils.signals._fonts import font
from learnit_utils.signals.base import SPLITS, Dataset, drawn_dataset

FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("DejaVuSansMono", "DejaVuSansMono-Oblique"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
)  # all of them have all the characters
CAPITALS, SMALL, DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abdefghjmnqrt", "23456789"
GREEK, CYRILLIC = "ΓΔΛΞΠΣΩβγδεζηθλμξπρσφψω", "БДЖИЦЧШЪЫЭЮЯ"
MARKS = "&%#@?$§¶€£"
CHARACTERS = CAPITALS + SMALL + DIGITS + GREEK + CYRILLIC + MARKS
SHARES = {"test": 20, "validation": 16, "train": len(CHARACTERS) - 36}  # characters
FINER = 4  # a glyph is drawn so many times as large and averaged
HEIGHT = 0.75  # of the font, in picture sides
TURN, SHEAR, STRETCH = 0.15, 0.15, 0.15  # largest: radians, per unit of length, in logarithms
MOVED = 0.05  # largest shift of the middle, in picture sides


@cache
def alphabet(split: str) -> tuple[str, ...]:
    """The characters of a split ("train", "validation", "test" or "all"); none is on two sides.

    Their order is that of their hashes: the first 20 are for the test, the next 16 for validation.
    """
    order = sorted(CHARACTERS, key=lambda c: hashlib.sha256(c.encode()).hexdigest())
    first = 0
    for part, count in SHARES.items():
        if part == split:
            return tuple(order[first : first + count])
        first += count
    return tuple(order)


def glyph(rng: np.random.Generator, character: str, size: int, moved: float = MOVED) -> np.ndarray:
    """One character, white on black: (size, size, 1), float32 in [0, 1].

    Args:
        rng: draws the font, and an affine map: turned, sheared, stretched and moved.
        character: any that the fonts have.
        size: pixels of a side.
        moved: largest distance of the middle of its box from that of the picture, along either
            axis, in picture sides.
    """
    full = FINER * size
    chosen = font(FONTS[rng.integers(len(FONTS))], max(4, round(HEIGHT * full)))
    flat = Image.new("L", (2 * full, 2 * full))
    ImageDraw.Draw(flat).text((full, full), character, fill=255, font=chosen, anchor="mm")
    left, top, right, bottom = flat.getbbox() or (full, full, full, full)
    turn, shear = rng.uniform(-TURN, TURN), rng.uniform(-SHEAR, SHEAR)
    wide, high = np.exp(rng.uniform(-STRETCH, STRETCH, 2))
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    back = spin @ np.array([[1, shear], [0, 1]]) @ np.diag([1 / wide, 1 / high])
    middle = np.array([left + right, top + bottom]) / 2
    target = full * (0.5 + rng.uniform(-moved, moved, 2))
    (a, b), (d, e) = back
    c, f = middle - back @ target
    bent = flat.transform(
        (full, full), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )
    ink = np.asarray(bent, np.uint32).reshape(size, FINER, size, FINER).sum((1, 3))
    return (ink / (255 * FINER**2)).astype(np.float32)[..., None]


def load(
    split: str = "train",
    *,
    size: int = 28,
    gray: bool = True,
    limit: int | None = None,
    seed: int = 0,
    moved: float = MOVED,
) -> Dataset:
    """Pictures of characters; no character stands on two sides.

    The characters of a split take turns, so that they are equally frequent. A picture's name is
    "CHARACTER/NUMBER".

    Args:
        gray: one channel; three equal ones otherwise.
        moved: as in `glyph`.
        split, size, seed, limit: as in `base.drawn_dataset`.
    """
    names: dict[str, list[str]] = {part: [] for part in SPLITS}

    def draw(rng, part):
        known, number = alphabet(part), len(names[part])
        character = known[number % len(known)]
        names[part].append(f"{character}/{number // len(known)}")
        u = glyph(rng, character, size, moved)
        return u if gray else np.repeat(u, 3, axis=-1)

    found = drawn_dataset(draw, split, size, seed, limit, "characters in fonts of matplotlib")
    return found._replace(names=tuple(chain.from_iterable(names.values())))
