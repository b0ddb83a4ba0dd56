"""The book's look: one style, figures that follow the page's light or dark mode, shared plots."""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
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


def show(fig: Figure, alt: str = "", caption: str = "") -> None:
    """Display a figure with a text for those who cannot see it, light and dark, and close it.

    Args:
        fig: a matplotlib figure drawn in the book's style.
        alt: what the figure shows, in a sentence; the figure's own label unless given.
        caption: the sentence that reads it, under the figure.

    Raises:
        ValueError: no text for those who cannot see it.
    """
    from IPython.display import display

    alt = alt or fig.get_label()
    if not alt:
        raise ValueError("alt: expected a sentence that says what the figure shows")

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


def picture(
    ax: plt.Axes,
    image: np.ndarray,
    title: str = "",
    *,
    vmin: float = 0.0,
    vmax: float = 1.0,
    cmap: str = "gray",
    fontsize: float = 9,
) -> None:
    """One picture in its axes, without ticks and frame.

    Args:
        ax: draw here.
        image: (height, width), or (height, width, 3) in [0, 1]; axes of length 1 are dropped.
        title: over it.
        vmin, vmax, cmap: the scale of a one-channel picture.
        fontsize: of the title, in points.
    """
    u = np.squeeze(np.asarray(image))
    u = np.clip(u, 0, 1) if u.ndim == 3 else u
    ax.imshow(u, vmin=vmin, vmax=vmax, cmap=cmap)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=fontsize)


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
    for ax, (name, image) in zip(axes.flat, images.items()):
        title = name + (f"\n{note(image)}" if note else "")
        picture(ax, image, title, vmin=vmin, vmax=vmax, cmap=cmap, fontsize=fontsize)
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
                picture(ax, pictures[i])
            else:
                ax.set_box_aspect(1)
            if titles and i < len(titles.get(name, [])):
                ax.set_title(titles[name][i], fontsize=9)
        line[0].set_ylabel(name, fontsize=9)
    return fig


def panels(
    titles: Sequence[str],
    *,
    xlabel: str | Sequence[str],
    ylabel: str | Sequence[str],
    height: float = 3.4,
    sharey: bool = False,
    **look,
) -> tuple[Figure, list[plt.Axes]]:
    """Axes side by side over the width of a page.

    Args:
        titles: one per axes.
        xlabel: with units; one for all, or one each.
        ylabel: with units; one, at the left, or one each.
        height: of the figure, in inches.
        sharey: one scale of y for all.
        look: what else `Axes.set` takes, for all of them, for example xscale.
    """
    size = (7.6, height)
    fig, axes = plt.subplots(1, len(titles), figsize=size, sharey=sharey, squeeze=False)
    for ax, title, label in zip(axes[0], titles, np.broadcast_to(xlabel, len(titles))):
        ax.set(title=title, xlabel=label, **look)
    for ax, label in zip(axes[0], [ylabel] if isinstance(ylabel, str) else ylabel):
        ax.set_ylabel(label)
    return fig, list(axes[0])


def legend_under(fig: Figure, *, columns: int = 3, title: str | None = None, **look) -> None:
    """The names of everything drawn in a figure, each once, under it.

    Args:
        columns: in how many the names stand.
        title: what they name, with its unit.
        look: what else `Figure.legend` takes.
    """
    handles = {}
    for ax in fig.axes:
        for handle, label in zip(*ax.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    place = dict(loc="outside lower center", ncols=columns, title=title, fontsize=8)
    fig.legend(handles.values(), handles.keys(), **place, **look)


def with_predictions(
    ax: plt.Axes,
    x: Sequence[float],
    measured: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    labels: Sequence,
    colours: Sequence | None = None,
) -> None:
    """Measured curves, solid, and the prediction of each, thin and dashed, in its colour.

    Args:
        ax: draw here.
        x: (n,).
        measured, predicted: (curves, n), in the units of the axes.
        labels: one per curve; the dashed lines have none.
        colours: one per curve; the style's own otherwise.
    """
    colours = [f"C{i}" for i in range(len(labels))] if colours is None else colours
    for real, told, label, colour in zip(measured, predicted, labels, colours):
        ax.plot(x, real, "-", color=colour, label=f"{label}")
        ax.plot(x, told, "--", color=colour, lw=1)


def band(ax: plt.Axes, x: Sequence[float], intervals: Sequence, **look) -> None:
    """A line of means with a band of their intervals.

    Args:
        ax: draw here.
        x: (n,).
        intervals: n `evaluate.Interval`s.
        look: of the line, as for `Axes.plot`: color, label, marker, ls.
    """
    mean, half = (np.array([getattr(i, part) for i in intervals]) for part in ("mean", "half"))
    (line,) = ax.plot(x, mean, **look)
    ax.fill_between(x, mean - half, mean + half, color=line.get_color(), alpha=0.2, lw=0)


def curves(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    xlabel: str,
    ylabel: str,
    ax: plt.Axes | None = None,
    marker: str = "",
    legend_outside: bool = False,
    **look,
) -> Figure:
    """Lines of y against x, named in a legend.

    Args:
        series: name -> (x, y).
        xlabel, ylabel: with units.
        ax: draw here; a new figure otherwise.
        marker: of every line ("o"), or of one after the other ("os").
        legend_outside: names under the figure instead of inside the axes.
        look: what else `Axes.set` takes, for example xscale or title.
    """
    ax = plt.subplots(figsize=(7.6, 3.6))[1] if ax is None else ax
    for (name, (x, y)), mark in zip(series.items(), cycle(marker or [""])):
        ax.plot(x, y, label=name, marker=mark)
    ax.set(xlabel=xlabel, ylabel=ylabel, **look)
    if legend_outside:
        legend_under(ax.figure)
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
