"""Sounds, to look at and to listen to."""

import base64
import html
import io
import wave
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import figures


def stretches(
    sound: np.ndarray,
    fits: Mapping[int, Mapping[str, np.ndarray]],
    rate: int,
    begin: int,
    size: int,
) -> Figure:
    """A stretch of a sound, and what fits of some numbers of steps make of it.

    Args:
        sound: (samples,).
        fits: steps -> name -> (samples,).
        rate: samples a second.
        begin, size: of the stretch, in samples.
    """
    part = slice(begin, begin + size)
    milliseconds = 1000 * np.arange(len(sound))[part] / rate
    titles = [f"{steps} steps" for steps in fits]
    fig, axes = figures.panels(titles, xlabel="time (ms)", ylabel="pressure", sharey=True)
    for ax, named in zip(axes, fits.values()):
        ax.plot(milliseconds, sound[part], color="0.5", lw=3, alpha=0.5, label="the sound")
        for i, (name, fit) in enumerate(named.items()):
            ax.plot(milliseconds, fit[part], color=f"C{i}", lw=1.2, label=name)
    figures.legend_under(fig)
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


def players(sounds: Mapping[str, np.ndarray], rate: int):
    """A player for every sound under its name; the page holds the sounds."""
    from IPython.display import HTML

    rows = []
    for name, sound in sounds.items():
        data, text = (
            base64.b64encode(recording(sound, rate)).decode(),
            html.escape(name, quote=True),
        )
        player = f'<audio controls aria-label="{text}" src="data:audio/wav;base64,{data}"></audio>'
        rows += [f"<figure><figcaption>{text}</figcaption>{player}</figure>"]
    return HTML(f'<div class="learnit-sounds">{"".join(rows)}</div>')
