"""Sounds, to look at and to listen to."""

import base64
import html
import io
import wave
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures
from learnit_utils.signals import voices

STRETCH = 160  # samples


def stretches(
    sound: np.ndarray,
    fits: Mapping[int, Mapping[str, np.ndarray]],
    rate: int = voices.RATE,
) -> Figure:
    """The middle of a sound, and what fits of some numbers of steps make of it.

    Args:
        sound: (samples,).
        fits: steps -> name -> (samples,).
        rate: samples a second.
    """
    begin = max(len(sound) // 2 - STRETCH // 2, 0)
    part = slice(begin, begin + STRETCH)
    milliseconds = 1000 * np.arange(len(sound))[part] / rate
    titles = [f"{steps} steps" for steps in fits]
    look = dict(xlabel="time (ms)", ylabel="pressure (1/2 is full scale)", sharey=True)
    fig, axes = figures.panels(titles, **look)
    for ax, named in zip(axes, fits.values()):
        ax.plot(milliseconds, sound[part], "-", color="0.5", lw=4, alpha=0.5, label="the note")
        for (name, fit), style in zip(named.items(), (":", "--", "-")):
            ax.plot(milliseconds, fit[part], style, lw=1.3, label=name)
    figures.legend_under(fig, columns=4)
    fig.set_label(
        "Pressure against time in the middle of a sung vowel, a wave that repeats with every pulse "
        f"of the voice, and beside it what {', '.join(next(iter(fits.values())))} make of it after "
        f"{', '.join(map(str, fits))} steps."
    )
    return fig


def recording(sound: np.ndarray, rate: int) -> bytes:
    """A sound (samples,) in [-1/2, 1/2] as a WAV file of 16 bits."""
    file, levels = io.BytesIO(), np.clip(np.rint(2**16 * np.asarray(sound)), -(2**15), 2**15 - 1)
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(levels.astype("<i2").tobytes())
    return file.getvalue()


def players(sounds: Mapping[str, np.ndarray], rate: int = voices.RATE, times: int = 3):
    """A player for every sound under its name, which plays it some times in a row.

    The page itself holds the sounds; nothing is fetched.
    """
    from IPython.display import HTML

    rows = []
    for name, sound in sounds.items():
        data, text = (
            base64.b64encode(recording(np.tile(sound, times), rate)).decode(),
            html.escape(name, quote=True),
        )
        player = f'<audio controls aria-label="{text}" src="data:audio/wav;base64,{data}"></audio>'
        rows += [f"<figure><figcaption>{text}</figcaption>{player}</figure>"]
    return HTML(f'<div class="learnit-sounds">{"".join(rows)}</div>')
