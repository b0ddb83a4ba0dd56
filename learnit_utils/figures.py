"""The book's look: one style, figures that follow the page's light or dark mode, shared plots."""

import base64
import html
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

INK, PAPER_INK = "#24292f", "#e6edf3"  # text on a light and on a dark page
DIVERGING = "RdBu_r"

_SWITCH = """<style>
.learnit-dark { display: none; }
:is([data-theme=dark], [data-jp-theme-light=false], html[theme=dark]) .learnit-dark
  { display: inline; }
:is([data-theme=dark], [data-jp-theme-light=false], html[theme=dark]) .learnit-light
  { display: none; }
.learnit-figure { margin: 0; } .learnit-figure img { max-width: 100%; height: auto; }
</style>"""


def use_style() -> None:
    """Apply the book's matplotlib style; figures are then shown by `show`, not by the cell."""
    plt.style.use(Path(__file__).with_name("learnit.mplstyle"))
    plt.ioff()


def page_html(fig: Figure, alt: str, caption: str = "") -> str:
    """HTML of a figure in both modes, of which the page shows the one that fits."""
    width = round(fig.get_figwidth() * 96)
    text = html.escape(alt, quote=True)
    images = ""
    for mode, ink in (("dark", PAPER_INK), ("light", INK)):
        _recolour(fig, ink)
        data = base64.b64encode(_encode(fig, "WEBP")).decode()
        images = (
            f'<img class="learnit-{mode} dark-light" width="{width}" alt="{text}" '
            f'src="data:image/webp;base64,{data}">'
        ) + images
    caption = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'{_SWITCH}\n<figure class="learnit-figure" tabindex="0">{images}{caption}</figure>'


def show(fig: Figure, alt: str, caption: str = "") -> None:
    """Display a figure with a text for those who cannot see it, light and dark, and close it.

    Args:
        fig: a matplotlib figure drawn in the book's style.
        alt: what the figure shows, in a sentence.
        caption: the sentence that reads it, under the figure.
    """
    from IPython.display import display

    page = page_html(fig, alt, caption)
    display({"text/html": page, "image/png": _encode(fig, "PNG"), "text/plain": alt}, raw=True)
    plt.close(fig)


def _encode(fig: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    options = {"lossless": True, "quality": 60} if kind == "WEBP" else {}
    fig.savefig(buffer, format=kind.lower(), pil_kwargs=options)
    return buffer.getvalue()


def _recolour(fig: Figure, ink: str) -> None:
    """Turn everything drawn in one ink (text, axes, ticks, lines) into the other."""
    old = {mpl.colors.to_rgba(c) for c in (INK, PAPER_INK)}
    for artist in fig.findobj():
        for what in ("color", "edgecolor", "facecolor", "markeredgecolor", "markerfacecolor"):
            get, put = getattr(artist, f"get_{what}", None), getattr(artist, f"set_{what}", None)
            if get is None or put is None:
                continue
            colour = get()
            if isinstance(colour, str | tuple) and mpl.colors.is_color_like(colour):
                rgba = mpl.colors.to_rgba(colour)
                if (*rgba[:3], 1.0) in old and rgba[3] > 0:
                    put((*mpl.colors.to_rgb(ink), rgba[3]))
    for axes in fig.axes:
        axes.tick_params(which="both", color=ink, labelcolor=ink)


def image_row(
    images: Mapping[str, np.ndarray],
    *,
    note: Callable[[np.ndarray], str] | None = None,
    rows: int = 1,
    vmin: float = 0.0,
    vmax: float = 1.0,
    cmap: str = "gray",
    fontsize: float = 10,
) -> Figure:
    """Pictures side by side, each under its name.

    Args:
        images: name -> (height, width), or (height, width, 3) in [0, 1].
        note: a second line per picture, for example its PSNR.
        rows: over how many rows the pictures are spread.
        vmin, vmax, cmap: the scale of one-channel pictures.
        fontsize: of the names, in points.
    """
    columns = -(-len(images) // rows)
    side = 7.6 / columns
    fig, axes = plt.subplots(rows, columns, figsize=(7.6, rows * (side + 0.35)), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (name, picture) in zip(axes.flat, images.items()):
        u = np.squeeze(np.asarray(picture))
        u = np.clip(u, 0, 1) if u.ndim == 3 else u
        ax.imshow(u, vmin=vmin, vmax=vmax, cmap=cmap)
        ax.set_title(name + (f"\n{note(picture)}" if note else ""), fontsize=fontsize)
    return fig


def image_grid(
    rows: Mapping[str, list[np.ndarray]], titles: Mapping[str, list[str]] | None = None
) -> Figure:
    """Pictures in named rows.

    Args:
        rows: name -> pictures, (height, width) or with channels, in [0, 1]; None leaves a gap.
        titles: name -> what stands above each picture of that row.
    """
    columns = max(len(pictures) for pictures in rows.values())
    high = sum(7.6 / columns + (0.35 if titles and name in titles else 0.05) for name in rows)
    fig, axes = plt.subplots(len(rows), columns, figsize=(7.6, high), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items()):
        for i, ax in enumerate(line):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if i < len(pictures) and pictures[i] is not None:
                u = np.clip(np.squeeze(np.asarray(pictures[i])), 0, 1)
                ax.imshow(u, vmin=0, vmax=1, cmap="gray")
            else:
                ax.set_box_aspect(1)
            if titles and i < len(titles.get(name, [])):
                ax.set_title(titles[name][i], fontsize=9)
        line[0].set_ylabel(name, fontsize=9)
    return fig


def curves(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    xlabel: str,
    ylabel: str,
    ax: plt.Axes | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    marker: str = "",
    title: str = "",
    legend_outside: bool = False,
) -> Figure:
    """Lines of y against x, named in a legend.

    Args:
        series: name -> (x, y).
        xlabel, ylabel: with units.
        ax: draw here; a new figure otherwise.
        legend_outside: names under the figure instead of inside the axes.
    """
    ax = plt.subplots(figsize=(7.6, 3.6))[1] if ax is None else ax
    for name, (x, y) in series.items():
        ax.plot(x, y, label=name, marker=marker)
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale, title=title)
    if legend_outside:
        ax.figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    elif len(series) > 1:
        ax.legend(fontsize=8)
    return ax.figure


def heat_map(
    values: np.ndarray,
    rows: list[str],
    columns: list[str],
    *,
    label: str,
    ax: plt.Axes | None = None,
    best: bool = True,
    title: str = "",
    form: str = "{:.1f}",
) -> Figure:
    """A table as colours with its numbers in it.

    Args:
        values: (rows, columns).
        rows, columns: their names.
        label: what the numbers are, with their unit.
        ax: draw here; a new figure otherwise.
        best: frame the largest number of every column.
        form: of the numbers.
    """
    values = np.asarray(values, np.float64)
    if ax is None:
        size = (min(7.6, 2.6 + 1.1 * len(columns)), 0.9 + 0.42 * len(rows))
        ax = plt.subplots(figsize=size)[1]
    shown = ax.imshow(values, cmap="cividis", aspect="auto")
    ax.figure.colorbar(shown, ax=ax, label=label)
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (i, j), v in np.ndenumerate(values):
        # Not the ink of the page: these stand on the map, which does not change with it.
        ax.text(j, i, form.format(v), ha="center", va="center", color="w" if v < middle else "k")
    for j, i in enumerate(np.nanargmax(values, axis=0) if best else ()):
        frame = plt.Rectangle((j - 0.46, i - 0.44), 0.92, 0.88, fill=False, lw=2, ec="#D55E00")
        ax.add_patch(frame)
    ax.set(xticks=range(len(columns)), yticks=range(len(rows)), title=title)
    ax.set_xticklabels(columns)
    ax.set_yticklabels(rows)
    ax.grid(False)
    ax.tick_params(length=0)
    return ax.figure
