"""What chapters report and show: results, claims, figures, sliders."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from learnit_utils import evaluate
from learnit_utils.book import figures, report, slider
from learnit_utils.book.report import LawError
from learnit_utils.signals import local, photos


@pytest.fixture
def run(tmp_path, monkeypatch):
    path = tmp_path / "results" / "05_x"
    words = dict(profile="smoke", parameters={"seed": 1}, commit="abc", results=str(path))
    monkeypatch.setenv(report.RUN, json.dumps(words))
    report.open("05_x")
    return lambda: json.loads(path.read_text())


def test_a_report_grows_on_disk(run):
    report.record("psnr/meta", np.float32(29.9), "dB", scale="faces", paper=30.37, source="Table 1")
    report.record("psnr/meta", 30.0, "dB", scale="faces", paper=30.37, source="Table 1")
    report.claim("better", "Meta beats standard", np.bool_(False))
    d = report.uses(photos.load("test", size=16))
    told = run()
    assert [r["value"] for r in told["results"]] == [30.0]  # the same name replaces
    claimed = dict(id="better", statement="Meta beats standard", holds=False, kind="finding")
    assert told["claims"] == [claimed]
    name = f"{d.provenance['source']}, test, 16x16 ({len(d.names)})"
    assert told["provenance"]["data_sha256"] == {name: d.provenance["data_sha256"]}
    assert told["profile"] == "smoke"
    assert "**no**" in report.summary().data
    assert "30.37 (Table 1)" in report.summary().data


def test_splits_and_sizes_of_one_source_are_told_apart(run):
    for split, size in (("test", 16), ("test", 32), ("validation", 16)):
        report.uses(photos.load(split, size=size))
    told = run()["provenance"]["data_sha256"]
    assert len(told) == len(set(told.values())) == 3


def test_other_content_under_one_name_is_noted_beside_it(run):
    for gray in (True, False, True):
        report.uses(photos.load("test", size=16, gray=gray))
    told = run()["provenance"]["data_sha256"]
    assert len(told) == len(set(told.values())) == 2


def test_a_law_that_does_not_hold_stops_the_build_and_is_shown(run):
    report.claim("held", "It is so", np.bool_(True), kind="law")
    with pytest.raises(LawError, match=r"^broken: It is so too: does not hold$"):
        report.claim("broken", "It is so too", np.bool_(False), kind="law")
    assert [(c["id"], c["holds"]) for c in run()["claims"]] == [("held", True), ("broken", False)]


@pytest.mark.parametrize("kind", ["paper", "finding"])
def test_other_claims_that_do_not_hold_are_shown(run, kind):
    report.claim("a", "A claim", False, kind)
    assert run()["claims"] == [dict(id="a", statement="A claim", holds=False, kind=kind)]
    assert f"| {kind} | A claim | **no** |" in report.summary().data


def test_a_claim_of_another_kind_is_refused(run):
    with pytest.raises(ValueError, match="kind = 'rule': expected one of paper, law, finding"):
        report.claim("a", "A claim", True, "rule")
    assert run()["claims"] == []


def test_several_claims_are_of_one_kind(run):
    report.claims({"a": ("One", True), "b": ("Two", np.bool_(False))}, "paper")
    assert run()["claims"] == [
        dict(id="a", statement="One", holds=True, kind="paper"),
        dict(id="b", statement="Two", holds=False, kind="paper"),
    ]


def test_a_number_says_where_it_was_measured(run):
    kept = dict(study="s", commit="abc1234", date="2024-02-29", device="1 x cpu")
    report.record("here", 1, "dB", scale="faces")
    report.record("kept", 2, "dB", scale="faces", kept=kept)
    report.records("many", {"a": 3, "b": evaluate.Interval(4.0, 0.5)}, "dB", scale="", kept=kept)
    told = {r["name"]: r["kept"] for r in run()["results"]}
    assert told == {"here": None, "kept": kept, "many/a": kept, "many/b": kept}
    lines = report.summary().data.splitlines()
    assert [line.split(" | ")[-1] for line in lines if line.startswith(("| here", "| kept"))] == [
        "here |",
        "2024-02-29, abc1234 |",
    ]


def test_results_stay_beside_the_run_or_in_a_folder_of_a_live_session(run, tmp_path, monkeypatch):
    assert report.folder() == tmp_path
    monkeypatch.delenv(report.RUN)
    assert report.running() is None
    assert report.folder() == Path("runs")
    report.open("05_x")
    report.claim("live", "It is only in memory", True)
    assert "It is only in memory" in report.summary().data


def test_nothing_is_reported_before_a_report_is_open(monkeypatch):
    monkeypatch.setattr(report, "_report", {})
    with pytest.raises(RuntimeError, match="comes first"):
        report.record("a", 1, "", scale="")


def test_starting_again_forgets(run):
    report.record("a", 1, "", scale="")
    report.open("05_x")
    assert run()["results"] == []


def test_several_numbers_are_reported_by_key(run):
    values = {"a": np.float64(1.5), 20: 2, "c": evaluate.Interval(3.0, 0.25)}
    report.records("psnr", values, "dB", scale="faces")
    assert [(r["name"], r["value"], r["scale"]) for r in run()["results"]] == [
        ("psnr/a", 1.5, "faces"),
        ("psnr/20", 2.0, "faces"),
        ("psnr/c", 3.0, "faces, 95 % interval ± 0.25"),
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, "x"])
def test_only_finite_numbers_are_recorded(run, value):
    with pytest.raises(ValueError, match=r"finite|convert"):
        report.record("a", value, "dB", scale="")


def test_a_published_value_needs_its_source(run):
    with pytest.raises(ValueError, match="source"):
        report.record("a", 1, "dB", scale="", paper=2.0)


# --- figures ------------------------------------------------------------------------------------
@pytest.fixture
def shown(monkeypatch):
    out = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: out.append(data))
    figures.use_style()
    yield out
    plt.close("all")
    plt.rcdefaults()


def decoded(page, mode):
    import base64
    import io

    from PIL import Image

    data = re.search(rf'learnit-{mode} [^>]*base64,([^"]+)"', page)[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"), float)


def test_a_figure_is_shown_light_and_dark_with_its_text(shown):
    fig = figures.curves({"a": ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])}, xlabel="x (m)", ylabel="y")
    figures.show(fig, 'lines <"crossing">', "They cross & part.")
    page = shown[0]["text/html"]
    assert page.count("<img") == page.count('alt="lines &lt;&quot;crossing&quot;&gt;"') == 2
    assert "<figcaption>They cross &amp; part.</figcaption>" in page
    assert shown[0]["image/png"].startswith(b"\x89PNG")
    light, dark = decoded(page, "light"), decoded(page, "dark")
    assert light.shape == dark.shape
    for u, ink in ((light, figures.INK), (dark, figures.PAPER_INK)):
        rgb = [int(ink[i : i + 2], 16) for i in (1, 3, 5)]
        solid = u[u[..., 3] == 255][:, :3]
        assert (np.abs(solid - rgb).max(-1) < 3).sum() > 300  # text and axes in the page's ink
    assert (light[..., 3] == 0).mean() > 0.5  # the page shows through
    assert not plt.get_fignums()


def test_a_figure_needs_a_text_or_a_label_that_is_one(shown):
    with pytest.raises(ValueError, match="alt: expected a sentence"):
        figures.show(plt.figure())
    assert not shown
    figures.show(plt.figure(label="nothing at all"))
    assert shown[0]["text/plain"] == "nothing at all"
    assert 'alt="nothing at all"' in shown[0]["text/html"]


def test_nothing_drawn_stays_dark_on_a_dark_page(shown):
    fig, (lines, boxes, bars) = plt.subplots(1, 3)
    lines.errorbar([0, 1], [0, 1], yerr=0.1)
    lines.axhline(0.5, color=figures.INK)
    boxes.boxplot([np.arange(9.0), [*np.arange(9.0), 40]])
    bars.bar([0, 1], [1, 2], label="a")
    bars.legend()
    figures.show(fig, "three kinds of drawing")
    dark = decoded(shown[0]["text/html"], "dark")
    solid = dark[dark[..., 3] == 255][:, :3]
    assert len(solid) > 1000
    assert (solid.max(-1) > 90).all()


def test_palette_can_be_told_apart_and_seen():
    """Contrast of every line colour against both pages at least 3:1 but for one light accent."""
    figures.use_style()
    colours = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    plt.rcdefaults()

    def luminance(c):
        rgb = np.array([int(c.lstrip("#")[i : i + 2], 16) / 255 for i in (0, 2, 4)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    def contrast(a, b):
        hi, lo = sorted((luminance(a), luminance(b)), reverse=True)
        return (hi + 0.05) / (lo + 0.05)

    for c in colours[:3]:
        assert contrast(c, "ffffff") >= 3
        assert contrast(c, "121212") >= 3
    assert len(set(colours)) == 6


def test_an_image_row_spreads_over_rows(shown):
    pictures = {str(i): np.full((8, 8, 3), i / 5) for i in range(6)}
    fig = figures.image_row(pictures, rows=2, note=lambda u: f"{u.mean():.1f}")
    assert len(fig.axes) == 6
    assert fig.axes[5].get_title() == "5\n1.0"


def test_an_image_grid_leaves_gaps_and_frames_nothing(shown):
    u = np.linspace(0, 1, 64).reshape(8, 8, 1)
    fig = figures.image_grid({"a": [u, None], "b": [u]}, {"a": ["left", "right"]})
    assert [len(ax.images) for ax in fig.axes] == [1, 0, 1, 0]
    assert [ax.get_title() for ax in fig.axes] == ["left", "right", "", ""]
    assert fig.axes[2].get_ylabel() == "b"
    assert not any(ax.get_xticks().size or ax.spines["left"].get_visible() for ax in fig.axes)


def test_a_picture_in_colour_is_clipped_and_a_gray_one_scaled(shown):
    _, (gray, colour) = plt.subplots(1, 2)
    figures.picture(gray, np.full((4, 4, 1), 3.0), "gray", vmin=-4, vmax=4)
    figures.picture(colour, np.full((4, 4, 3), 3.0))
    assert gray.images[0].get_clim() == (-4, 4)
    assert gray.images[0].get_array().shape == (4, 4)
    assert gray.get_title() == "gray"
    assert colour.images[0].get_array().max() == 1


def test_panels_share_words_or_have_their_own(shown):
    fig, axes = figures.panels(["a", "b"], xlabel="x (m)", ylabel="y", xscale="log", height=2)
    assert [(ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) for ax in axes] == [
        ("a", "x (m)", "y"),
        ("b", "x (m)", ""),
    ]
    assert {ax.get_xscale() for ax in axes} == {"log"}
    assert fig.get_size_inches().tolist() == [7.6, 2]
    _, axes = figures.panels(["", ""], xlabel=["p", "q"], ylabel=["r", "s"], sharey=True)
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in axes] == [("p", "r"), ("q", "s")]
    axes[1].set_ylim(0, 7)
    assert axes[0].get_ylim() == (0, 7)
    assert len(figures.panels(["alone"], xlabel="x", ylabel="y")[1]) == 1


def test_a_legend_under_a_figure_names_everything_once(shown):
    fig, axes = figures.panels(["", ""], xlabel="x", ylabel="y")
    for ax in axes:
        ax.plot([0, 1], label="both")
    axes[1].plot([1, 0], label="right only")
    axes[1].plot([1, 1])
    figures.legend_under(fig, columns=2, title="lines (m)", handlelength=3)
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["both", "right only"]
    assert legend.get_title().get_text() == "lines (m)"
    assert legend.handlelength == 3


def test_a_prediction_is_dashed_in_the_colour_of_what_was_measured(shown):
    _, ax = plt.subplots()
    real, told = np.eye(2), 1 - np.eye(2)
    figures.with_predictions(ax, [1, 2], real, told, [3, 8])
    figures.with_predictions(ax, [1, 2], real, told, ["a", "b"], ["k", "r"])
    lines = ax.get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", "--"] * 4
    assert [line.get_color() for line in lines] == ["C0", "C0", "C1", "C1", "k", "k", "r", "r"]
    assert lines[2].get_ydata().tolist() == [0, 1]
    assert lines[3].get_ydata().tolist() == [1, 0]
    assert ax.get_legend_handles_labels()[1] == ["3", "8", "a", "b"]


def test_a_band_is_drawn_around_its_means_in_their_colour(shown):
    _, ax = plt.subplots()
    intervals = [evaluate.Interval(m, h) for m, h in ((1.0, 0.5), (3.0, 1.0))]
    figures.band(ax, [10, 20], intervals, color="C2", label="a", marker="o")
    (line,), (area,) = ax.get_lines(), ax.collections
    assert line.get_xydata().tolist() == [[10, 1], [20, 3]]
    assert (line.get_color(), line.get_label(), line.get_marker()) == ("C2", "a", "o")
    assert area.get_facecolor()[0][:3].tolist() == list(plt.matplotlib.colors.to_rgb("C2"))
    corners = {tuple(map(float, xy)) for xy in area.get_paths()[0].vertices}
    assert corners == {(10, 0.5), (10, 1.5), (20, 2), (20, 4)}


def test_curves_take_their_marks_in_turn(shown):
    series = {name: ([0, 1], [0, 1]) for name in "abc"}
    fig = figures.curves(series, xlabel="x", ylabel="y", marker="os", legend_outside=True)
    assert [line.get_marker() for line in fig.axes[0].get_lines()] == ["o", "s", "o"]
    assert len(fig.legends[0].get_texts()) == 3
    plain = figures.curves(series, xlabel="x", ylabel="y")
    assert {line.get_marker() for line in plain.axes[0].get_lines()} == {""}


# --- sliders ------------------------------------------------------------------------------------
def test_a_slider_holds_all_frames_and_escapes_its_words():
    frames = [np.full((4, 6, 3), v) for v in (0, 0.5, 1)]
    labels = ["a", "</script><script>alert(1)</script>", 'c"d']
    page = slider.frame_slider(frames, labels, name="step", alt='x" onload="alert(2)', start=1).data
    assert page.count("<script>") == page.count("</script>") == 1
    assert 'onload="' not in page
    assert len(json.loads(re.search(r"frames = (\[.*?\]), labels", page)[1])) == 3
    assert 'max="2" value="1"' in page
    assert 'aria-label="step"' in page


@pytest.mark.parametrize(
    ("frames", "labels", "start", "told"),
    [
        ([], [], 0, "0 frames"),
        ([np.zeros((2, 2))], ["a", "b"], 0, "1 frames and 2 labels"),
        ([np.zeros((2, 2)), np.zeros((2, 3))], ["a", "b"], 0, "several sizes"),
        ([np.full((2, 2), np.nan)], ["a"], 0, "NaN"),
        ([np.zeros((2, 2))], ["a"], 1, "start = 1"),
    ],
)
def test_frames_that_do_not_fit_are_refused(frames, labels, start, told):
    with pytest.raises(ValueError, match=told):
        slider.frame_slider(frames, labels, name="n", alt="a", start=start)


def test_explore_is_frames_in_the_book_and_live_in_a_session(run, monkeypatch):
    calls = []

    def draw(v):
        calls.append(v)
        return np.full((4, 4), v / 10)

    page = slider.explore(draw, "omega0", [1, 5, 10], unit="rad", alt="a picture")
    assert "omega0 = 5 rad" in page.data
    assert calls == [1, 5, 10]
    monkeypatch.delenv(report.RUN)
    calls.clear()
    live = slider.explore(draw, "omega0", [1, 5, 10], alt="a picture")
    image, control = live.children
    before = image.value
    control.value = 10
    assert calls == [1, 10]
    assert image.value != before


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_film_holds_every_frame(tmp_path, channels):
    frames = [np.full((8, 6, *channels), v) for v in (0.0, 0.5, 3.0)]  # above 1 is white
    told = slider.film(tmp_path / "new/film.webp", frames, pause_ms=40)
    assert told == "film.webp: 3 frames, 0 KB"
    with Image.open(tmp_path / "new/film.webp") as film:
        assert (film.size, film.n_frames, film.info["loop"]) == ((6, 8), 3, 0)
        for frame, level in enumerate((0, 127, 255)):
            film.seek(frame)
            assert np.abs(np.asarray(film.convert("RGB"), float) - level).max() < 8
            film.load()
            assert film.info["duration"] == 40


@pytest.mark.parametrize("seed", range(3))
def test_a_heat_map_shows_every_number_and_frames_the_best_of_each_column(shown, seed):
    values = np.random.default_rng(seed).uniform(0, 50, (4, 3))
    fig = figures.heat_map(values, list("abcd"), list("xyz"), label="PSNR (dB)")
    ax = fig.axes[0]
    assert [t.get_text() for t in ax.texts] == [f"{v:.1f}" for v in values.ravel()]
    framed = [(round(p.get_y() + 0.44), round(p.get_x() + 0.46)) for p in ax.patches]
    assert framed == [(i, j) for j, i in enumerate(values.argmax(axis=0))]
    assert fig.axes[1].get_ylabel() == "PSNR (dB)"
    assert (
        not figures.heat_map(values, list("abcd"), list("xyz"), label="", best=False)
        .axes[0]
        .patches
    )


def test_a_gap_in_a_grid_keeps_its_title_and_its_room(shown):
    u = np.zeros((4, 4))
    fig = figures.image_grid({"a": [u, None], "b": [u, u]}, {"a": ["one", "two"]})
    assert [ax.get_title() for ax in fig.axes] == ["one", "two", "", ""]
    assert not fig.axes[1].images
    assert fig.axes[1].get_box_aspect() == 1


def test_what_happened_to_a_folder_is_told_once(tmp_path, capsys):
    for i, shape in enumerate([(20, 30), (20, 30), (20, 30), (30, 20)]):
        pixels = np.random.default_rng(i).integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    report.open("test")
    for _ in range(2):
        report.uses(local.folder(tmp_path, size=30, on_error="skip", proportions="common"))
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2
    assert told[0].startswith("left out: ")
    assert "broken.png" in told[0]
    assert told[1].endswith("1 of 4 cropped to the proportions of 30 x 20 pixels")
