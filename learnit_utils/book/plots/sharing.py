"""One network for many signals: figures and rows of tables."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from learnit_utils.book import _drawing, figures
from learnit_utils.book.plots.solids import lit
from learnit_utils.book.plots.transfer import square
from learnit_utils.evaluate import Interval, interval

GRAY = "0.5"


def gallery(rows: Mapping[str, Mapping[str, np.ndarray | None]], note: str = "") -> Figure:
    """Pictures in named rows and columns, small enough for ten columns.

    Args:
        rows: name of a row -> name of a column -> picture (points, channels), or None for a gap.
        note: what stands in a gap.
    """
    heads = list(next(iter(rows.values())))
    size = 7.6 / (len(heads) + 0.6)
    shape = (7.6, size * len(rows) + 0.4)
    fig, axes = plt.subplots(len(rows), len(heads), figsize=shape, squeeze=False)
    for number, (line, (name, pictures)) in enumerate(zip(axes, rows.items())):
        for ax, (head, picture) in zip(line, pictures.items()):
            ax.set_xticks([])
            ax.set_yticks([])
            for side in ax.spines.values():
                side.set_visible(False)
            if picture is None:
                ax.text(0.5, 0.5, note, ha="center", va="center", fontsize=7)
            else:
                ax.imshow(square(np.clip(picture, 0, 1))[..., 0], cmap="gray", vmin=0, vmax=1)
            if number == 0:
                ax.set_title(head.replace(" ", "\n").replace("-", "-\n"), fontsize=7)
        line[0].set_ylabel(name, fontsize=8)
    return fig


def by_step(curves: Mapping[str, np.ndarray], every: int, levels: Mapping[str, float]) -> Figure:
    """PSNR against steps of every method, with levels that need no steps.

    Args:
        curves: method -> PSNR at steps 0, every, 2 every, ...; "random" is drawn gray.
        every: steps between two entries.
        levels: name -> PSNR.
    """
    fig, (ax,) = figures.panels([""], xlabel="gradient steps", ylabel="PSNR (dB)")
    for name, look in _looks(curves).items():
        ax.plot(every * np.arange(len(curves[name])), curves[name], label=name, **look)
    for name, level in levels.items():
        ax.axhline(level, color=GRAY, ls=":", lw=1)
        at = dict(xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points")
        ax.annotate(name, (1, level), fontsize=7, va="center", **at)
    figures.legend_under(fig, columns=4)
    return fig


def _looks(names: Iterable[str]) -> dict[str, dict]:
    """Colour and dashes of each method; the random initialization is a broad gray line."""
    colours = iter(plt.rcParams["axes.prop_cycle"].by_key()["color"] * 3)
    styles = iter(["-", "-", "--", "--", "-.", "-.", ":", ":"] * 3)
    gray = dict(color=GRAY, lw=2.5)
    return {n: gray if n == "random" else dict(color=next(colours), ls=next(styles)) for n in names}


def by_prior(found: Mapping[str, Mapping[float, float]], level: float) -> Figure:
    """PSNR on what a fit did not see against the strength of the prior on the own part.

    Args:
        found: method -> prior -> PSNR; the prior 0 stands at the left edge.
        level: PSNR of the mean training picture.
    """
    fig, (ax,) = figures.panels(
        [""], xlabel="strength of the prior", ylabel="PSNR of the unseen half (dB)"
    )
    positive = sorted({p for of in found.values() for p in of if p > 0})
    left = positive[0] / 10 if positive else 1e-6
    for name, look in _looks(found).items():
        pairs = sorted(found[name].items())
        at, values = [p or left for p, _ in pairs], [v for _, v in pairs]
        ax.plot(at, values, marker="o", ms=4, label=name, **look)
    ax.axhline(level, color=GRAY, ls=":", label="mean training face")
    ax.set_xscale("log")
    ax.set_xticks([left, *positive], ["0", *(f"{p:g}" for p in positive)], minor=False)
    ax.minorticks_off()
    figures.legend_under(fig, columns=3)
    return fig


def between(paths: Mapping[str, Sequence[np.ndarray]], shares: Sequence[float]) -> Figure:
    """What lies between two pictures, a row per way to go from one to the other."""
    rows = {
        name: {f"{share:g}": picture for share, picture in zip(shares, pictures)}
        for name, pictures in paths.items()
    }
    return gallery(rows)


def abreast(pictures: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """Pictures (points, 1) side by side, with white gaps of so many pixels: (side, width)."""
    sides = [np.clip(square(picture)[..., 0], 0, 1) for picture in pictures]
    return np.hstack([np.pad(s, ((0, 0), (0, gap)), constant_values=1) for s in sides])[:, :-gap]


def level_sets(
    truth: Sequence[np.ndarray],
    drawn: Mapping[str, Sequence[np.ndarray]],
    seen: np.ndarray | None = None,
    level: float = 0.5,
) -> Figure:
    """Curves of shapes, the true ones thin and dashed, a row for each method.

    Args:
        truth: values (points, 1) of every shape.
        drawn: method -> values of every shape.
        seen: (points,) of the first shape, true where a fit may look; drawn as dots in the first
            panel.
    """
    fig, axes = plt.subplots(
        len(drawn),
        len(truth),
        figsize=(7.6, 7.6 / len(truth) * len(drawn) + 0.2),
        squeeze=False,
    )
    for number, (line, (name, shapes)) in enumerate(zip(axes, drawn.items())):
        for n, (ax, real, values) in enumerate(zip(line, truth, shapes)):
            ax.set_aspect("equal")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.invert_yaxis()
            for side in ax.spines.values():
                side.set_visible(True)
            if seen is not None and number == 0:
                rows, columns = np.nonzero(seen[n].reshape(square(real).shape[:2]))
                ax.plot(columns, rows, ".", color=GRAY, ms=1, alpha=0.5)
            ax.contour(square(real)[..., 0], [level], colors=[GRAY], linestyles="--", linewidths=1)
            picture = square(values)[..., 0]
            if picture.min() < level < picture.max():
                ax.contour(picture, [level], colors="C0", linewidths=1.5)
        line[0].set_ylabel(name, fontsize=8)
    return fig


def in_words(values: np.ndarray, owners: Sequence[str]) -> str:
    """Mean and 95 % interval of PSNR (seeds, tasks) over owners of tasks; diverged fits counted."""
    by_task = np.ma.masked_invalid(values).mean(axis=0)
    good, lost = ~np.ma.getmaskarray(by_task), int((~np.isfinite(values)).sum())
    if good.sum() < 2:
        return f"{lost} diverged"
    found = interval(by_task[good], [o for o, ok in zip(owners, good) if ok])
    return f"{found.mean:.1f} ± {found.half:.1f}" + (f" ({lost} diverged)" if lost else "")


def places() -> Figure:
    """Where the shared part lives in each family, and where the signal's own part enters."""
    boxes = {
        "z": ("code " + r"$z$", 0, 0, "data"),
        "fz": ("field " + r"$f(x, z)$", 1, 0, "weights"),
        "T": ("picture " + r"$T$", 0, 1, "data"),
        "h": ("hypernetwork", 1, 1, "weights"),
        "th": ("weights " + r"$\theta$", 2, 1, "data"),
        "t0": ("initialization " + r"$\theta_0$", 0, 2, "weights"),
        "tk": ("weights " + r"$\theta_K$", 2, 2, "data"),
    }
    arrows = [("z", "fz", "shifts biases"), ("T", "h", "seen by"), ("h", "th", "writes")]
    arrows += [("t0", "tk", r"$K$ steps on $T$")]
    return _drawing.flow(boxes, arrows)


def table_rows(
    reach: Mapping[tuple[str, str], Mapping[int, np.ndarray]],
    halves: Mapping[str, np.ndarray],
    sizes: Mapping[str, tuple[int, int]],
    owners: Mapping[str, Sequence[str]],
    cap: int,
) -> list[list[str]]:
    """Rows of the table of methods.

    Args:
        reach: (method, class) -> steps -> PSNR (seeds, tasks); the first class at all steps, the
            others at the last.
        halves: method -> PSNR of the unseen half.
        sizes: method -> numbers shared, and numbers stored for a signal.
        owners: class -> whose the tasks are; "half" is one.
        cap: the last number of steps.
    """
    kinds = list(dict.fromkeys(kind for _, kind in reach))
    rows = []
    for name, half in halves.items():
        first = reach[name, kinds[0]]
        line = [name, *(f"{count:,}" for count in sizes[name])]
        line += [in_words(values, owners[kinds[0]]) for values in first.values()]
        line += [in_words(reach[name, kind][cap], owners[kind]) for kind in kinds[1:]]
        rows.append([*line, in_words(half, owners["half"])])
    return rows


def plain_rows(
    scores: Mapping[str, Mapping[str, np.ndarray]], owners: Mapping[str, Sequence[str]], gaps: int
) -> list[list[str]]:
    """Rows of methods without a network, with so many empty cells where others have steps.

    Args:
        scores: class -> method -> PSNR (tasks,).
    """
    rows = []
    for name in next(iter(scores.values())):
        count = name.split()[0] if name.endswith("components") else "1" if "gray" in name else "0"
        cells = [
            in_words(of[name][None], owners[kind]) if np.isfinite(of[name]).all() else ""
            for kind, of in scores.items()
        ]
        rows.append([name, "", count, *[""] * gaps, *cells])
    return rows


def shape_rows(scored: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> list[list[str]]:
    """Rows of the table of curves: what is given -> method -> measures (seeds, tasks)."""
    rows = []
    for name in next(iter(scored.values())):
        line = [name]
        for of in scored.values():
            chamfer = of[name]["chamfer"]
            lost = int((~np.isfinite(chamfer)).sum())
            near = np.nanmean(chamfer) if lost < chamfer.size else np.nan
            line += [f"{near:.2f}" + (f" ({lost} lost)" if lost else "")]
            line += [f"{of[name]['iou'].mean():.3f}"]
        rows.append(line)
    return rows


# --- solids -------------------------------------------------------------------------------------
def solids(columns: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Solids, a row each, as several methods draw them.

    Args:
        columns: name of a method -> values (n, n, n) of every solid, inside below 1/2.
    """
    rows = len(next(iter(columns.values())))
    shape = (7.6, 7.6 / len(columns) * rows + 0.4)
    fig, axes = plt.subplots(rows, len(columns), figsize=shape, squeeze=False)
    for line, (name, cubes) in zip(axes.T, columns.items()):
        for ax, values in zip(line, cubes):
            ax.imshow(lit(np.asarray(values)), interpolation="antialiased")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_title(name.replace(", ", "\n"), fontsize=9)
    return fig


def solid_table(
    measures: Mapping[tuple[str, int], Mapping[str, np.ndarray]],
    leads: Mapping[int, Mapping[str, Interval]],
    taken: Mapping[str, int],
) -> tuple[list[str], list[list[str]], str]:
    """Head, rows and note of the table of solids: means with 95 % intervals.

    Args:
        measures: (name, steps) -> psnr in dB, chamfer in sides of the cube, iou: (inits, solids).
        leads: steps -> measure -> how far the learned init is ahead.
        taken: bytes of a field and of a mesh.
    """
    head = ["initialization", "steps", "PSNR (dB)", "Chamfer distance (% of a side)", "IoU"]
    rows = []
    for (name, step), of in measures.items():
        lost = int((~np.isfinite(of["chamfer"])).sum())
        near = 100 * np.ma.masked_invalid(of["chamfer"]).mean(axis=0).compressed()
        cells = [_over_solids(of["psnr"].mean(axis=0), 1), _over_solids(near, 2)]
        cells[1] += f" ({lost} lost)" if lost else ""
        rows.append([name, str(step), *cells, _over_solids(of["iou"].mean(axis=0), 3)])
    ahead = "; ".join(f"after {step} steps {_leads(of)}" for step, of in leads.items())
    field, mesh = (f"{taken[k] / 1000:.0f} kB" for k in ("field", "mesh"))
    size = (
        f"The weights of a field take {field} at 32 bits, the mesh of the first test chair {mesh}."
    )
    note = "Mean and 95 % interval over test chairs. Learned less random, chair by chair: "
    return head, rows, f"{note}{ahead}. {size}"


def _leads(of: Mapping[str, Interval]) -> str:
    """Leads by all measures that could be compared, in words."""
    said = dict(psnr=(1, 1, " dB"), chamfer=(100, 2, " % of a side"), iou=(1, 3, ""))
    return ", ".join(
        f"{by * of[k].mean:+.{digits}f} ± {by * of[k].half:.{digits}f}{unit}"
        for k, (by, digits, unit) in said.items()
        if k in of
    )


def _over_solids(values: np.ndarray, digits: int) -> str:
    """Mean and 95 % interval of values, one per solid."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}" if len(values) else ""
    found = interval(values)
    return f"{found.mean:.{digits}f} ± {found.half:.{digits}f}"
