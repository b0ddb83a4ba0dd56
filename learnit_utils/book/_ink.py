"""Marks on a page: text, boxes and arrows in the style's ink. Lengths are inches, y down."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path

SIZES = (10, 9, 8)  # points; the largest that fits is taken
HEAD = 0.1  # length of an arrow's head


def colour(alpha=1.0):
    """The style's ink."""
    return to_rgba(plt.rcParams["text.color"], alpha)


def extent(text, size):
    """Width and height of a text, in inches."""
    fig = Figure((1, 1))
    drawn = fig.text(0, 0, text, fontsize=size)
    box = drawn.get_window_extent(FigureCanvasAgg(fig).get_renderer())
    return np.array((box.width, box.height)) / fig.dpi if text else np.zeros(2)


def page(width, height):
    """A figure of this size with axes in inches."""
    still = PlaceHolderLayoutEngine(False, False)  # layout="none" would last for one saving only
    fig = plt.figure(figsize=(width, height), layout=still, facecolor="none")
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return fig, ax


def label(ax, x, y, text, size, gid):
    """Text around a point."""
    ax.text(x, y, text, fontsize=size, ha="center", va="center", color=colour(), gid=gid)


def box(ax, rect, gid, text="", size=SIZES[0], face="none", *, edge=None, corner=0.08):
    """A box with text in its middle."""
    x0, y0, x1, y1 = rect
    shape = f"round,pad=0,rounding_size={corner}" if corner else "square,pad=0"
    look = dict(facecolor=face, edgecolor=edge or colour(), linewidth=1, gid=gid)
    ax.add_patch(FancyBboxPatch((x0, y0), x1 - x0, y1 - y0, boxstyle=shape, **look))
    if text:
        label(ax, (x0 + x1) / 2, (y0 + y1) / 2, text, size, f"text of {gid}")


def arrow(ax, points, gid, dashed):
    """A line through the points with round corners, and its head."""
    points = [np.array(p, float) for p in points]
    ahead = (points[-1] - points[-2]) / np.linalg.norm(points[-1] - points[-2])
    neck, wing = points[-1] - HEAD * ahead, 0.42 * HEAD * ahead[::-1]
    vertices, codes = [points[0]], [Path.MOVETO]
    for a, p, b in zip(points, points[1:], points[2:]):
        near = [p + (q - p) * min(0.5, 0.08 / np.linalg.norm(q - p)) for q in (a, b)]
        vertices += [near[0], p, near[1]]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    line, style = Path([*vertices, neck], [*codes, Path.LINETO]), (0, (4, 2.5)) if dashed else "-"
    ax.add_patch(PathPatch(line, fc="none", ec=colour(), lw=1.2, ls=style, gid=gid))
    tip = [points[-1], neck + wing, neck - wing]
    ax.add_patch(Polygon(tip, facecolor=colour(), edgecolor="none", gid=f"head of {gid}"))
