"""A slider over frames: works in the static page, in JupyterLab and on Colab, without a kernel."""

import base64
import html
import io
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import TypedDict, Unpack

import numpy as np
from PIL import Image

_PAGE = Template("""<div id="$id" class="learnit-slider" role="group" aria-label="$alt">
<img src="$first" width="$width" alt="$alt: $label"
 style="max-width:100%;height:auto;image-rendering:$rendering">
<div style="display:flex;gap:.6em;align-items:center;flex-wrap:wrap;margin:.3em 0">
<button type="button" style="min-width:4.5em">Play</button>
<input type="range" min="0" max="$last" value="$start" step="1" aria-label="$name"
 aria-valuetext="$label" style="flex:1 1 12em;max-width:24em">
<output>$label</output></div>$caption
<script>(() => {
const root = document.getElementById("$id"), frames = $frames, labels = $labels, alt = $alt_js;
const [img, range, out, play] =
  ["img", "input", "output", "button"].map(q => root.querySelector(q));
const show = () => {
  const k = +range.value;
  img.src = frames[k]; img.alt = alt + ": " + labels[k];
  out.textContent = labels[k]; range.setAttribute("aria-valuetext", labels[k]);
};
let timer = null;
const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
range.addEventListener("input", () => { if (timer) stop(); show(); });
window.addEventListener("keydown", event => {  // JupyterLab would take the arrow keys for itself
  if (event.target === range && /^(Arrow|Page|Home|End)/.test(event.key)) event.stopPropagation();
}, true);
play.addEventListener("click", () => {
  if (timer) return stop();
  play.textContent = "Pause";
  timer = setInterval(() => { range.value = (+range.value + 1) % frames.length; show(); }, $pause);
});
})();</script></div>""")


class Look(TypedDict, total=False):
    """How a slider shows its frames.

    width: on the page, CSS pixels (384); never wider than the page.
    smooth: interpolate when the browser enlarges (False); otherwise pixels stay visible.
    pause_ms: time per frame while playing (500).
    """

    width: int
    smooth: bool
    pause_ms: int


def frame_slider(
    frames: Sequence[np.ndarray],
    labels: Sequence[str],
    *,
    name: str,
    alt: str,
    caption: str = "",
    start: int = 0,
    **look: Unpack[Look],
):
    """Show pictures one at a time under a slider with a Play button.

    The arrow keys move it; screen readers hear the label of the frame.

    Args:
        frames: pictures of one size, (height, width[, 3]) with values in [0, 1].
        labels: what each frame is, with its unit: "omega0 = 30".
        name: what the slider changes, read aloud before the label.
        alt: what the pictures show.
        caption: a sentence under the slider.
        start: the frame shown first.
        look: see `Look`.

    Raises:
        ValueError: no frames, frames of several sizes, or another number of labels.
    """
    from IPython.display import HTML

    if len(frames) == 0 or len(frames) != len(labels):
        raise ValueError(f"{len(frames)} frames and {len(labels)} labels: as many, at least 1")
    if len({np.shape(f) for f in frames}) > 1:
        raise ValueError(f"frames of several sizes: {sorted({np.shape(f) for f in frames})}")
    if not 0 <= start < len(frames):
        raise ValueError(f"start = {start}: a frame, 0 to {len(frames) - 1}")
    uris = [_uri(f) for f in frames]

    def js(value):  # JSON inside a script element must not be able to close it
        return json.dumps(value).replace("<", "\\u003c")

    safe = {k: html.escape(v, quote=True) for k, v in dict(alt=alt, name=name).items()}
    page = _PAGE.substitute(
        safe,
        id="slider-" + secrets.token_hex(4),
        first=uris[start],
        start=start,
        last=len(frames) - 1,
        label=html.escape(labels[start], quote=True),
        width=look.get("width", 384),
        rendering="auto" if look.get("smooth") else "pixelated",
        caption=f"<p>{html.escape(caption)}</p>" if caption else "",
        frames=js(uris),
        labels=js(list(labels)),
        alt_js=js(alt),
        pause=int(look.get("pause_ms", 500)),
    )
    return HTML(page)


def explore(draw: Callable[..., np.ndarray], name: str, values: Sequence, *, unit: str = "", **how):
    """A slider over one argument of `draw`: recomputed in a live session, frames in the book.

    Args:
        draw: value -> picture, (height, width[, 3]) in [0, 1].
        name: of the quantity that `values` holds.
        values: where the slider stops.
        unit: of the values.
        how: passed to `frame_slider` (alt is needed).
    """
    from learnit_utils.book import report

    labels = [f"{name} = {v:g} {unit}".strip() for v in values]
    if report.running():
        return frame_slider([draw(v) for v in values], labels, name=name, **how)
    import ipywidgets

    start = values[how.get("start", 0)]
    control = ipywidgets.SelectionSlider(options=list(zip(labels, values)), value=start)
    control.description, control.continuous_update = name, False
    image = ipywidgets.Image(format="png", width=how.get("width", 384))

    def update(value):
        image.value = _bytes(draw(value), "PNG")

    control.observe(lambda change: update(change["new"]), "value")
    update(start)
    return ipywidgets.VBox([image, control])


def film(path: str | Path, frames: Sequence[np.ndarray], pause_ms: int = 80) -> str:
    """Write pictures as an animated WebP.

    Args:
        path: the file; its folder is made.
        frames: (height, width[, 3]) of one size, in [0, 1].
        pause_ms: time per frame.

    Returns:
        A line that says what was written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = (Image.fromarray(np.uint8(255 * np.clip(f, 0, 1))) for f in frames)
    first.save(path, save_all=True, append_images=others, duration=pause_ms, loop=0)
    return f"{path.name}: {len(frames)} frames, {path.stat().st_size / 1024:.0f} KB"


def _bytes(frame: np.ndarray, kind: str) -> bytes:
    u = np.squeeze(np.asarray(frame, np.float32))
    if not np.isfinite(u).all():
        raise ValueError("a frame holds NaN or infinity")
    buffer = io.BytesIO()
    picture = Image.fromarray((255 * np.clip(u, 0, 1)).round().astype(np.uint8))
    picture.save(buffer, kind, lossless=True)
    return buffer.getvalue()


def _uri(frame: np.ndarray) -> str:
    return "data:image/webp;base64," + base64.b64encode(_bytes(frame, "WEBP")).decode()
