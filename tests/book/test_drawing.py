"""Diagrams: nothing overlaps, arrows touch what they join, all of it follows the page's mode."""

from itertools import combinations, pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from learnit_utils.book import _drawing, figures

DATA = (
    {
        "image": ("image\n64 × 64", 0, 0, "data"),
        "coords": ("coordinates\n(4096, 2)", 1, 0, "data"),
        "pixels": ("pixels\n(4096, 1)", 1, 1, "data"),
        "field": (r"$f_\theta$", 2, 0, "weights"),
        "loss": ("loss", 2, 1, "goal"),
    },
    [
        ("image", "coords", "grid"),
        ("image", "pixels", "values"),
        ("coords", "field"),
        ("field", "loss", "MSE"),
        ("pixels", "loss"),
    ],
)
SIREN = (
    {str(i): (f"layer {i}\n$W_{i}$ (256, 256)", i, 0, "weights") for i in range(5)},
    [(str(i), str(i + 1)) for i in range(4)],
)
MAML = (
    {
        **{f"{k}": (rf"$\theta_{k}$", k, 0, "weights") for k in range(3)},
        "L": ("loss", 3, 0, "goal"),
    },
    [
        ("0", "1", r"$-\alpha\nabla L$"),
        ("1", "2", r"$-\alpha\nabla L$"),
        ("2", "L"),
        ("L", "2", r"$\nabla L(\theta_2)$", "dashed"),
        ("2", "0", "copied", "dashed"),
    ],
)
STATES = (
    {
        "planned": ("planned", 0, 0),
        "running": ("running", 1, 0, "data"),
        "saved": ("saved", 2, 0),
        "finished": ("finished", 3, 0, "goal"),
        "diverged": ("diverged", 0, 1, "stop"),
        "resumed": ("resumed", 1, 1),
        "killed": ("killed", 2, 1, "stop"),
    },
    [
        ("planned", "running", "start"),
        ("running", "saved", "250 steps"),
        ("saved", "running", "steps left"),
        ("saved", "finished"),
        ("running", "diverged", "not finite"),
        ("running", "killed", "signal"),
        ("killed", "resumed", "again"),
        ("resumed", "running", "state read"),
        ("running", "resumed", "and back", "dashed"),
    ],
)
FLOWS = [DATA, SIREN, MAML, STATES]
ACTORS = {"train": "train.run", "outer": "outer.maml", "inner": "inner.sgd", "loss": "loss"}
MESSAGES = [
    ("train", "train", "draw a batch"),
    ("train", "outer", r"$\theta_0$, tasks"),
    ("outer", "inner", r"$\theta_0$, task"),
    ("inner", "loss", r"$\theta_k$"),
    ("loss", "inner", r"$\nabla L(\theta_k)$", "dashed"),
    ("outer", "loss", r"$\theta_K$, past the lifeline of the inner loop"),
    ("loss", "loss", "the last actor, alone"),
]
LOOPS = [(3, 4, "for k = 0 ... K-1"), (2, 6, "for each task"), (0, 6, "for every outer step")]


@pytest.fixture(scope="module", autouse=True)
def style():
    figures.use_style()
    yield
    plt.rcdefaults()


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def named(fig, gid):
    return [artist for artist in fig.axes[0].get_children() if (artist.get_gid() or "") == gid]


def rect(artist):
    """(x0, y0, x1, y1) in inches, y down: of a text what is drawn, of a box its outline."""
    if isinstance(artist, FancyBboxPatch):
        return artist.get_path().get_extents().extents
    box = artist.get_window_extent().transformed(artist.axes.transData.inverted())
    return box.x0, min(box.y0, box.y1), box.x1, max(box.y0, box.y1)


def apart(a, b, slack=1e-6):
    return a[2] < b[0] + slack or b[2] < a[0] + slack or a[3] < b[1] + slack or b[3] < a[1] + slack


def inside(a, b):
    return b[0] < a[0] and b[1] < a[1] and a[2] < b[2] and a[3] < b[3]


def corners(fig, gid):
    """Start, corners and tip of an arrow."""
    (line,), (head,) = named(fig, gid), named(fig, f"head of {gid}")
    path = line.get_path()
    bends = path.vertices[2:-1:3]  # a straight line to the bend, then its control point and end
    return np.array([path.vertices[0], *bends, head.get_xy()[0]])


def on_border(point, r):
    x, y = point
    across = np.isclose(x, (r[0], r[2])).any() and r[1] < y < r[3]
    return across or (np.isclose(y, (r[1], r[3])).any() and r[0] < x < r[2])


def check_flow(fig, boxes, arrows):
    page = (0, 0, *fig.get_size_inches())
    rects = {name: rect(named(fig, f"box {name}")[0]) for name in boxes}
    labels = [rect(text) for text in named(fig, "label")]
    assert len(labels) == sum(bool(arrow[2:] and arrow[2]) for arrow in arrows)
    for name, r in rects.items():
        assert inside(rect(named(fig, f"text of box {name}")[0]), r)
        assert inside(r, page)
    for a, b in combinations([*rects.values(), *labels], 2):
        assert apart(a, b)
    pieces = []
    for a, b, *_ in arrows:
        path = corners(fig, f"arrow {a} {b}")
        assert on_border(path[0], rects[a])
        assert on_border(path[-1], rects[b])
        for p, q in pairwise(path):
            assert np.isclose(p, q).sum() == 1  # along the page or down it
            pieces.append((*np.minimum(p, q), *np.maximum(p, q)))
    for piece in pieces:
        assert all(apart(piece, other) for other in (*rects.values(), *labels))
    for p, q in combinations(pieces, 2):  # lines may cross, but not run along each other
        both = (min(p[2], q[2]) - max(p[0], q[0]), min(p[3], q[3]) - max(p[1], q[1]))
        assert not (min(both) > -1e-6 and max(both) > 1e-6)


@pytest.mark.parametrize(("boxes", "arrows"), FLOWS)
def test_a_flow_has_no_overlaps_and_its_arrows_touch(boxes, arrows):
    check_flow(_drawing.flow(boxes, arrows), boxes, arrows)


@settings(max_examples=25)
@given(st.data())
def test_any_flow_that_is_drawn_is_clean(data):
    cell = st.tuples(st.integers(0, 3), st.integers(0, 2))
    cells = data.draw(st.lists(cell, min_size=2, max_size=8, unique=True))
    words = st.sampled_from(["x", "two\nlines", r"$\theta_0$", "a longer label"])
    boxes = {str(n): (data.draw(words), *at) for n, at in enumerate(cells)}
    pairs = st.tuples(st.sampled_from([*boxes]), st.sampled_from([*boxes]))
    pairs = data.draw(st.lists(pairs.filter(lambda p: p[0] != p[1]), max_size=7, unique=True))
    styles = st.sampled_from(["", "dashed", "above", "dashed below"])
    arrows = [(*p, data.draw(words | st.just("")), data.draw(styles)) for p in pairs]
    try:
        fig = _drawing.flow(boxes, arrows)
    except ValueError:
        assume(False)
    check_flow(fig, boxes, arrows)
    plt.close(fig)


def test_a_sequence_reads_from_top_to_bottom():
    fig = _drawing.sequence(ACTORS, MESSAGES, loops=LOOPS)
    heads = {name: rect(named(fig, f"box {name}")[0]) for name in ACTORS}
    labels = {text.get_text(): rect(text) for text in named(fig, "label")}
    assert set(labels) == {m[2] for m in MESSAGES} | {loop[2] for loop in LOOPS}
    paths = [corners(fig, f"message {k}") for k in range(len(MESSAGES))]
    for above, below in pairwise(paths):
        assert above[-1][1] < below[0][1]
    for (a, b, text, *_), path in zip(MESSAGES, paths):
        for end, name in ((path[0], a), (path[-1], b)):
            assert np.isclose(end[0], (heads[name][0] + heads[name][2]) / 2)
        assert labels[text][1] < path[-1][1]
        assert a != b or labels[text][0] > path[:, 0].max()
    things = [*heads.values(), *labels.values()]
    assert all(apart(a, b) for a, b in combinations(things, 2))
    assert all(inside(r, (0, 0, *fig.get_size_inches())) for r in things)
    for line in fig.axes[0].lines:  # a lifeline makes way for text
        (x0, x1), (y0, y1) = line.get_data()
        assert all(apart((x0, y0, x1, y1), r) for r in things)


def test_a_loop_frames_its_messages():
    fig = _drawing.sequence(ACTORS, MESSAGES, loops=LOOPS)
    frames = [rect(named(fig, f"loop {n}")[0]) for n in range(3)]  # outer ones first
    assert inside(frames[2], frames[1])
    assert inside(frames[1], frames[0])
    for frame, (first, last, caption) in zip(frames, LOOPS[::-1]):
        for k in range(len(MESSAGES)):
            ys = corners(fig, f"message {k}")[:, 1]
            assert (frame[1] < ys.min() and ys.max() < frame[3]) == (first <= k <= last)
        (text,) = (t for t in named(fig, "label") if t.get_text() == caption)
        assert inside(rect(text), frame)


def drawings():
    return [*(_drawing.flow(*f) for f in FLOWS), _drawing.sequence(ACTORS, MESSAGES, loops=LOOPS)]


def test_text_is_in_the_ink_of_the_page_and_large_enough():
    for fig in drawings():
        texts = [t for t in fig.findobj(Text) if t.get_text()]
        for ink in (figures.PAPER_INK, figures.INK):
            figures._recolour(fig, ink)
            rgb = plt.matplotlib.colors.to_rgb(ink)
            for t in texts:
                assert plt.matplotlib.colors.to_rgb(t.get_color()) == rgb
            for patch in fig.axes[0].patches:
                edge, face = patch.get_edgecolor(), patch.get_facecolor()
                solid = [edge[:3]] if edge[3] else [face[:3]]
                assert solid == [rgb]
        assert min(t.get_fontsize() for t in texts) >= 8
        assert fig.get_figwidth() == pytest.approx(7.6)


def test_a_page_takes_a_drawing_in_both_modes():
    page = figures.page_html(drawings()[0], "boxes")
    assert page.count("<img") == 2


@pytest.mark.parametrize(("ink", "page"), [(figures.INK, 1.0), (figures.PAPER_INK, 0.07)])
def test_every_kind_of_box_can_be_read(ink, page):
    def luminance(rgb):
        rgb = np.asarray(rgb)
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for fill in _drawing.KINDS.values():
        *rgb, alpha = plt.matplotlib.colors.to_rgba(fill)
        under = alpha * np.array(rgb) + (1 - alpha) * page
        lo, hi = sorted((luminance(under), luminance(plt.matplotlib.colors.to_rgb(ink))))
        assert (hi + 0.05) / (lo + 0.05) >= 7


TWO = {"a": ("a", 0, 0), "b": ("b", 1, 0)}


@pytest.mark.parametrize(
    ("boxes", "arrows", "says"),
    [
        (TWO, [("a", "c")], "no 'c' among a, b"),
        (TWO, [("a", "b", "", "dotted")], "no 'dotted' among dashed"),
        (TWO, [("a", "a")], "to itself"),
        (TWO, [("a", "b"), ("a", "b", "again")], "given twice"),
        ({**TWO, "c": ("c", 1, 0)}, [], "taken"),
        ({**TWO, "c": ("c", -1, 0)}, [], "below 0"),
        ({**TWO, "c": ("c", 2, 0, "pink")}, [], "plain, data, weights"),
        ({**TWO, "c": ("c", 1, 2)}, [("a", "c")], "no clear way"),
        ({"a": ("word " * 40, 0, 0)}, [], "do not fit 7.6 inches at 8 points"),
        ({"a": ("a", 0, 0), "b": ("b", 0, 1)}, [("a", "b", "w" * 99)], "no room for the label"),
    ],
)
def test_a_wrong_flow_is_refused_in_a_line(boxes, arrows, says):
    with pytest.raises(ValueError, match=says) as problem:
        _drawing.flow(boxes, arrows)
    assert "\n" not in str(problem.value)
    assert not plt.get_fignums()  # nothing half drawn


@pytest.mark.parametrize(
    ("messages", "loops", "says"),
    [
        ([("train", "nobody", "")], [], "no 'nobody' among train"),
        ([("train", "loss", "", "dotted")], [], "no 'dotted'"),
        ([("train", "loss", "x" * 150)], [], "do not fit 7.6 inches at 8 points"),
        (MESSAGES, [(0, 7, "beyond")], "'beyond'"),
        (MESSAGES, [(2, 1, "empty")], "empty"),
        (MESSAGES, [(0, 2, "one"), (1, 3, "two")], "cuts through"),
    ],
)
def test_a_wrong_sequence_is_refused_in_a_line(messages, loops, says):
    with pytest.raises(ValueError, match=says) as problem:
        _drawing.sequence(ACTORS, messages, loops=loops)
    assert "\n" not in str(problem.value)
    assert not plt.get_fignums()
