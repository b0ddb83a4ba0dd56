"""Drawings of boxes and arrows: data flows, networks, state machines, sequences of calls.

Lengths are inches, x to the right and y down, so that measured text and boxes compare. All but the
translucent fills is in the style's ink, which `figures.show` recolours.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from learnit_utils.book import _ink
from learnit_utils.book._ink import HEAD, SIZES

WIDTH = 7.6  # of a page
KINDS = {  # Okabe and Ito's colours, thin enough for either ink
    "plain": "none",
    "data": to_rgba("#0072B2", 0.25),
    "weights": to_rgba("#E69F00", 0.25),
    "goal": to_rgba("#009E73", 0.25),
    "stop": to_rgba("#D55E00", 0.25),
}
PAD, SIDE, CLEAR = 0.09, 0.12, 0.03
PORT = 0.15  # between arrows that leave a box on the same side


class _CrowdedError(ValueError):
    """Something does not fit at this size of text."""


def flow(
    boxes: Mapping[str, Sequence], arrows: Sequence[Sequence[str]], *, width: float = WIDTH
) -> Figure:
    """Boxes on a grid, and arrows between them.

    Neighbours in a row or a column are joined by a straight arrow, all others along a lane between
    two rows. So is the second arrow between neighbours of a row, and any that skips boxes: above
    the row if it goes right, below if it goes left.

    Args:
        boxes: id -> (text, column, row), or (text, column, row, kind) with a kind of `KINDS`.
            Columns and rows count from 0 at the top left; text may have lines and mathtext.
        arrows: (source, target), (source, target, label) or (source, target, label, style). The
            words of a style are "dashed" and, within a row, "above" or "below" for a lane there.
        width: of the figure, in inches.

    Raises:
        ValueError: an unknown id, kind or style, two boxes in one cell, the same arrow twice, no
            clear way for an arrow, or text that does not fit at 8 points.
    """
    arrows = [(*arrow, "", "")[: max(4, len(arrow))] for arrow in arrows]
    cells = {}
    for name, (_, *cell) in boxes.items():
        if cell[2:] and cell[2] not in KINDS:
            raise ValueError(f"box {name!r}: kind {cell[2]!r} is not one of {', '.join(KINDS)}")
        if min(cell[:2]) < 0 or tuple(cell[:2]) in cells.values():
            raise ValueError(f"box {name!r}: the cell {tuple(cell[:2])} is taken, or below 0")
        cells[name] = tuple(cell[:2])
    for a, b, _, style in arrows:
        _known((a, b), boxes, f"arrow {a!r} -> {b!r}")
        _known(style.split(), ("dashed", "above", "below"), f"arrow {a!r} -> {b!r}, style")
        if a == b or [other[:2] for other in arrows].count((a, b)) > 1:
            raise ValueError(f"arrow {a!r} -> {b!r}: {'to itself' if a == b else 'given twice'}")
    ways = _ways(cells, arrows)
    return _largest(lambda size: _draw_flow(boxes, cells, arrows, ways, width, size))


def sequence(
    actors: Mapping[str, str],
    messages: Sequence[Sequence[str]],
    *,
    loops: Sequence[tuple[int, int, str]] = (),
    width: float = WIDTH,
) -> Figure:
    """Messages between actors, from top to bottom.

    Args:
        actors: id -> text, from left to right.
        messages: (source, target, text) or (source, target, text, "dashed"); from an actor to
            itself for what it does alone.
        loops: (first, last, caption), a frame around these messages, counted from 0.
        width: of the figure, in inches.

    Raises:
        ValueError: an unknown actor or style, a loop without messages or one that cuts through
            another, or text that does not fit at 8 points.
    """
    messages = [(*message, "")[: max(4, len(message))] for message in messages]
    for k, (a, b, _, style) in enumerate(messages):
        _known((a, b), actors, f"message {k}")
        _known((style,), ("", "dashed"), f"message {k}, style")
    for a, b, caption in loops:
        if not 0 <= a <= b < len(messages) or any(a < c <= b < d for c, d, _ in loops):
            raise ValueError(f"loop {caption!r}: {a} to {b} is empty or cuts through another")
    loops = sorted(loops, key=lambda loop: (loop[0], -loop[1]))  # outer before inner
    return _largest(lambda size: _draw_sequence(actors, messages, loops, width, size))


def _known(names, given, what):
    for name in names:
        if name not in given:
            raise ValueError(f"{what}: no {name!r} among {', '.join(given)}")


def _largest(draw):
    for size in SIZES:
        try:
            return draw(size)
        except _CrowdedError as problem:
            reason = problem
    raise ValueError(f"{reason} at {SIZES[-1]} points")


# --- a flow: ways on the grid, then lengths -----------------------------------------------------
def _ways(cells, arrows):
    """Per arrow "level" or "plumb", or the number of the gap it has a lane in; g is above row g."""
    ways, joined = [], set()
    for a, b, _, style in arrows:
        (c0, c1), (r0, r1) = (sorted(ends) for ends in zip(cells[a], cells[b]))
        line = {(c, r) for c in range(c0, c1 + 1) for r in range(r0, r1 + 1)}
        clear = not (line - {cells[a], cells[b]}) & set(cells.values())
        if c0 == c1 and clear:
            ways.append("plumb")
        elif r0 == r1 and clear and style in ("", "dashed") and {a, b} not in joined:
            ways.append("level")
            joined.add(frozenset((a, b)))
        elif r0 == r1:
            right = cells[b] > cells[a]
            ways.append(r0 + ("below" in style or not (right or "above" in style)))
        elif r1 - r0 == 1:
            ways.append(r1)
        else:
            raise ValueError(f"arrow {a!r} -> {b!r}: no clear way; use neighbouring rows")
    return ways


def _lanes(gap, cells, arrows, ways):
    """arrow -> lane of this gap, from 0 at the top; arrows that overlap are nested."""
    ends = {i: sorted(cells[n] for n in arrows[i][:2]) for i, way in enumerate(ways) if way == gap}

    def order(i):
        (c0, r0), (c1, r1) = ends[i]
        return (1, 0) if r0 != r1 else (0, c1 - c0) if r0 == gap - 1 else (2, c0 - c1)

    lanes = {}
    for i in sorted(ends, key=order):
        (c0, _), (c1, _) = ends[i]
        rivals = [lanes[j] for j in lanes if ends[j][0][0] < c1 and c0 < ends[j][1][0]]
        lanes[i] = 1 + max(rivals, default=-1)
    return lanes


def _ports(cells, arrows, lanes):
    """(arrow, box) -> how far right of its middle the arrow's lane leaves or enters the box."""
    sides = {}
    for gap in lanes:
        for i, lane in lanes[gap].items():
            for a, b in (arrows[i][:2], arrows[i][1::-1]):
                below, right = gap > cells[a][1], cells[b][0] > cells[a][0]
                sides.setdefault((a, gap, right), []).append((-lane if below else lane, i))
    ports = {}  # the farthest lane is next to the middle, so that lanes do not cross
    for (a, gap, right), side in sides.items():
        first = 1.8 if 0 < gap <= cells[a][1] else 1.3  # no line goes down where another goes up
        for n, (_, i) in enumerate(sorted(side)):
            ports[i, a] = (1 if right else -1) * PORT * (first + n)
    return ports


def _box_sizes(boxes, cells, ports, size):
    """Widths of the columns and heights of the rows."""
    columns, rows = (max(ends) + 1 for ends in zip(*cells.values()))
    wide, high = np.zeros(columns), np.zeros(rows)
    for name, (c, r) in cells.items():
        w, h = _ink.extent(boxes[name][0], size)
        reach = max((abs(port) + PAD for (_, a), port in ports.items() if a == name), default=0)
        wide[c], high[r] = max(wide[c], w + 2 * SIDE, 2 * reach), max(high[r], h + 2 * PAD)
    return wide, high


def _gaps(cells, arrows, ways, labels, high):
    """Room between columns and above rows that the labels of arrows without a lane need."""
    columns, rows = (max(ends) + 1 for ends in zip(*cells.values()))
    between, above = np.full(columns - 1, 0.36), np.r_[0, np.full(rows - 1, 0.42), 0]
    for (a, b, *_), way, (w, h) in zip(arrows, ways, labels):
        (c0, r0), (c1, r1) = sorted((cells[a], cells[b]))
        if way == "plumb":
            above[r1] = max(above[r1], h + HEAD + 3 * PAD)
        elif way == "level":
            above[r0] = max(above[r0], h + 2 * PAD - high[r0] / 2)
            between[c0] = max(between[c0], (w + HEAD + 2 * PAD) * (c1 == c0 + 1))
    return between, above


def _draw_flow(boxes, cells, arrows, ways, width, size):
    columns, rows = (max(ends) + 1 for ends in zip(*cells.values()))
    small = max(size - 1, SIZES[-1])
    labels = [_ink.extent(arrow[2], small) for arrow in arrows]
    lanes = {g: _lanes(g, cells, arrows, ways) for g in ways if isinstance(g, int)}
    pitch = {g: max(0.22, *(labels[i][1] + PAD for i in lanes[g])) for g in lanes}

    ports = _ports(cells, arrows, lanes)
    wide, high = _box_sizes(boxes, cells, ports, size)
    between, above = _gaps(cells, arrows, ways, labels, high)
    for g in lanes:
        spare = above[g] - 0.42 * (0 < g < rows)
        above[g] = spare + pitch[g] * (1 + max(lanes[g].values())) + (0.06 if g == rows else 0.26)

    room = width - 2 * PAD - wide.sum()
    if between.sum() > room:
        raise _CrowdedError(f"{columns} columns of boxes do not fit {width} inches")
    wider = [np.maximum(between, gap) for gap in np.arange(0, 1.2, 0.02)]
    between = [gaps for gaps in wider if gaps.sum() <= room][-1]
    left = np.r_[0, np.cumsum(wide[:-1] + between)] + (width - wide.sum() - between.sum()) / 2
    top = PAD + np.cumsum(above) + np.r_[0, np.cumsum(high)]
    rects = {n: _rect(left[c], top[r], wide[c], high[r]) for n, (c, r) in cells.items()}
    depth = {i: top[g] - above[g] + (k + 1) * pitch[g] for g in lanes for i, k in lanes[g].items()}

    paths = _paths(rects, arrows, depth, ports)
    blocked = [*rects.values(), *(_around(*ends) for path in paths for ends in pairwise(path))]
    jobs = [(a[2], *job) for a, *job in zip(arrows, paths, labels) if a[2]]
    page = (width, top[-1] + PAD)
    places = [_place(*job, blocked, page) for job in jobs]
    fig, ax = _ink.page(*page)
    for name, (text, _, _, *kind) in boxes.items():
        _ink.box(ax, rects[name], f"box {name}", text, size, *(KINDS[k] for k in kind))
    for (a, b, _, style), path in zip(arrows, paths):
        _ink.arrow(ax, path, f"arrow {a} {b}", "dashed" in style)
    for place in places:
        _ink.label(ax, *place, small, "label")
    return fig


def _paths(rects, arrows, depth, ports):
    """The corners of every arrow, from box to box; depth is the y of those in a lane."""
    paths = []
    for i, (a, b, *_) in enumerate(arrows):
        (x0, y0, x1, y1), (u0, v0, u1, v1) = rects[a], rects[b]
        x, u, y, v = (x0 + x1) / 2, (u0 + u1) / 2, (y0 + y1) / 2, (v0 + v1) / 2
        if i in depth:
            x, u = x + ports[i, a], u + ports[i, b]
            y, v = (y1 if depth[i] > y else y0), (v1 if depth[i] > v else v0)
            paths.append([(x, y), (x, depth[i]), (u, depth[i]), (u, v)])
        elif y == v:
            paths.append([(x1, y), (u0, y)] if u0 > x0 else [(x0, y), (u1, y)])
        else:
            x += PORT / 2 * np.sign(v - y) * any(other[:2] == (b, a) for other in arrows)
            paths.append([(x, y1), (x, v0)] if v > y else [(x, y0), (x, v1)])
    return paths


def _place(text, path, extent, blocked, page):
    """(x, y, text) beside the path where nothing else is; what it covers joins `blocked`."""
    w, h = extent
    pieces = sorted(pairwise(path), key=lambda ends: -np.abs(np.subtract(*ends)).sum())
    for start, end in pieces:
        level = start[1] == end[1]
        off = np.array((0, -(h + PAD) / 2) if level else (w / 2 + PAD, 0))
        for side in (off, -off):
            for f in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8):
                x, y = np.add(start, f * np.subtract(end, start)) + side
                x0, y0, x1, y1 = _rect(x - w / 2, y - h / 2, w, h)
                free = not any(x0 < c and a < x1 and y0 < d and b < y1 for a, b, c, d in blocked)
                if free and min(x0, y0, page[0] - x1, page[1] - y1) > CLEAR:
                    blocked.append(_around((x0, y0), (x1, y1)))
                    return x, y, text
    raise _CrowdedError(f"no room for the label {text!r}")


def _rect(x, y, w, h):
    return x, y, x + w, y + h


def _around(start, end):
    (x0, x1), (y0, y1) = (sorted(ends) for ends in zip(start, end))
    return x0 - CLEAR, y0 - CLEAR, x1 + CLEAR, y1 + CLEAR


# --- a sequence ---------------------------------------------------------------------------------
def _depths(loops):
    """How many loops each loop lies in."""
    return [sum(d >= b for _, d, _ in loops[:n]) for n, (_, b, _) in enumerate(loops)]


def _lifelines(at, messages, widths, half, margin, width):
    """x of every actor's lifeline, then of the right edge."""
    apart = [(k, k + 1, a + b + 2 * PAD) for k, (a, b) in enumerate(pairwise(half))]
    apart.append((len(at) - 1, len(at), half[-1] + margin))
    for (a, b, *_), w in zip(messages, widths):
        i, j = sorted((at[a], at[b]))
        apart.append((i, max(j, i + 1), w + (HEAD + 3 * PAD if i < j else 0.25 + 2 * PAD + margin)))
    x = np.full(len(at) + 1, half[0] + margin)  # of the lifelines, then the right edge
    for j in range(1, len(x)):
        x[j] = max(x[i] + d for i, k, d in apart if k == j)
    if x[-1] > width:
        raise _CrowdedError(f"{len(at)} actors and their messages do not fit {width} inches")
    x += (width - x[-1]) * (np.arange(len(x)) + 0.5) / len(at)
    return x


def _timeline(x, at, messages, texts, loops, captions, below, width):
    """Frames of loops, texts with their places, arrows, and where all ends."""
    depth = _depths(loops)
    y, notes, paths, frames = below + 0.06, [], [], [None] * len(loops)
    for k, ((a, b, text, _), (w, h)) in enumerate(zip(messages, texts)):
        for n, (first, _, caption) in enumerate(loops):
            if first == k:
                (cw, ch), edge = captions[n], PAD * (1 + depth[n])
                frames[n] = (edge, y + 0.1)
                y += 0.1 + PAD / 2 + ch
                notes.append((edge + PAD + cw / 2, y - ch / 2, caption, cw, ch))
        u, v, drop = x[at[a]], x[at[b]], max(h, 0.16)
        y += PAD + (drop if a == b else h + PAD / 2)
        if a == b:
            paths.append([(u, y - drop), (u + 0.25, y - drop), (u + 0.25, y), (u, y)])
            notes.append((u + 0.25 + PAD + w / 2, y - drop / 2, text, w, h))
        else:
            paths.append([(u, y), (v, y)])
            notes.append(((u + v) / 2, y - (h + PAD) / 2, text, w, h))
        for n in reversed(range(len(loops))):
            if loops[n][1] == k:
                y += 0.12
                frames[n] = (*frames[n], width - frames[n][0], y)
        y += 0.06
    return frames, notes, paths, y


def _draw_sequence(actors, messages, loops, width, size):
    at, small = {name: k for k, name in enumerate(actors)}, max(size - 1, SIZES[-1])
    heads = np.add([_ink.extent(text, size) for text in actors.values()], (2 * SIDE, 2 * PAD))
    half, head = heads[:, 0] / 2, heads[:, 1].max()
    texts = [_ink.extent(message[2], small) for message in messages]
    margin = PAD * (2 + max(_depths(loops), default=-1))

    x = _lifelines(at, messages, [w for w, _ in texts], half, margin, width)
    frames, notes, paths, y = _timeline(
        x,
        at,
        messages,
        texts,
        loops,
        [_ink.extent(loop[2], small) for loop in loops],
        PAD + head,
        width,
    )
    fig, ax = _ink.page(width, y + 2 * PAD)
    for n, frame in enumerate(frames):
        _ink.box(ax, frame, f"loop {n}", face=_ink.colour(0.04), edge=_ink.colour(0.5), corner=0)
    for line, reach, (name, text) in zip(x, half, actors.items()):
        _ink.box(ax, (line - reach, PAD, line + reach, PAD + head), f"box {name}", text, size)
        over = [(v, h / 2 + CLEAR) for u, v, _, w, h in notes if abs(u - line) < w / 2 + CLEAR]
        ys = [PAD + head, *(end for v, h in over for end in (v - h, v + h)), y + PAD]
        for ends in zip(ys[::2], ys[1::2]):  # the lifeline makes way for text
            ax.plot([line] * 2, ends, color=_ink.colour(0.4), lw=1, ls="-")
    for k, (path, message) in enumerate(zip(paths, messages)):
        _ink.arrow(ax, path, f"message {k}", message[3] == "dashed")
    for u, v, text, *_ in notes:
        _ink.label(ax, u, v, text, small, "label")
    return fig
