"""Solids: the level set of a field in a cube, lit, and rows of the table of solids."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from learnit_utils.evaluate import Interval, interval

FROM = (-50.0, 20.0)  # degrees: azimuth and height of the eye; fronts look towards -y
SUN = (-0.5, -0.6, 0.9)  # in the eye's frame: right, away, up
COLOUR = (0.45, 0.62, 0.82)
LEVEL, STEPS, HALVINGS = 0.5, 160, 6  # along a ray
HEAD = ["initialization", "steps", "PSNR (dB)", "Chamfer distance (% of a side)", "IoU"]


def lit(values: np.ndarray, pixels: int = 220, towards: tuple[float, float] = FROM) -> np.ndarray:
    """The surface of a solid, seen from far away: (pixels, pixels, 4) RGBA, clear beside it.

    Args:
        values: (n, n, n) at the centres of a cube's cells, x first, z upwards; inside below 1/2.
        pixels: of a side of the picture, which shows a square as wide as 1.2 sides of the cube.
        towards: azimuth and height of the eye, in degrees.
    """
    right, away, up = _frame(*np.deg2rad(towards))
    at = 1.2 * ((np.arange(pixels) + 0.5) / pixels - 0.5)
    start = 0.5 + at[None, :, None] * right - at[:, None, None] * up
    t = np.linspace(-0.87, 0.87, STEPS)
    along = np.stack([_at(values, start + s * away) for s in t])
    inside = along < LEVEL
    hit, first = inside.any(axis=0), inside.argmax(axis=0)
    low, high = t[np.maximum(first - 1, 0)], t[first]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        within = _at(values, start + middle[..., None] * away) < LEVEL
        low, high = np.where(within, low, middle), np.where(within, middle, high)
    normal = _slope(values, start + high[..., None] * away)
    sun = np.stack([right, away, up], -1) @ (np.array(SUN) / np.linalg.norm(SUN))
    shade = 0.35 + 0.2 * normal[..., 2] + 0.6 * np.clip(normal @ sun, 0, 1)
    picture = np.zeros((pixels, pixels, 4))
    picture[..., :3] = np.clip(shade[..., None] * COLOUR, 0, 1)
    picture[..., 3] = hit
    return picture


def _frame(azimuth, height):
    """Right, away from the eye, up: unit vectors."""
    flat = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    eye = np.cos(height) * flat + np.sin(height) * np.array([0.0, 0, 1])
    right = np.array([-flat[1], flat[0], 0.0])
    return right, -eye, np.cross(eye, right)


def _at(values, points):
    """Values at points (..., 3) of the cube, far outside where there are none."""
    where = np.moveaxis(points * len(values) - 0.5, -1, 0)
    return ndimage.map_coordinates(values, where, order=1, mode="constant", cval=1.0)


def _slope(values, points):
    """Unit vectors towards larger values at points (..., 3)."""
    h = 0.75 / len(values)
    ways = h * np.eye(3)
    slope = np.stack([_at(values, points + w) - _at(values, points - w) for w in ways], -1)
    return slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-9)


def gallery(columns: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    """Solids, a row each, as several methods draw them.

    Args:
        columns: title -> values (n, n, n) of every solid.
    """
    rows = len(next(iter(columns.values())))
    side = 7.6 / len(columns)
    shape = (7.6, side * rows + 0.3)
    fig, axes = plt.subplots(rows, len(columns), figsize=shape, squeeze=False)
    for line, (title, solids) in zip(axes.T, columns.items()):
        for ax, values in zip(line, solids):
            ax.imshow(lit(np.asarray(values)), interpolation="antialiased")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_title(title.replace(", ", "\n"), fontsize=9)
    shown = ", ".join(columns)
    fig.set_label(
        f"{rows} solids, each shaded and seen from the front and above, drawn as: {shown}."
    )
    return fig


def rows(measures: Mapping[tuple[str, int], Mapping[str, np.ndarray]]) -> list[list[str]]:
    """Rows of the table of solids: means over solids with 95 % intervals.

    Args:
        measures: (name, steps) -> psnr in dB, chamfer in sides of the cube, iou: (inits, solids).
    """
    found = []
    for (name, step), of in measures.items():
        chamfer = 100 * np.ma.masked_invalid(of["chamfer"]).mean(axis=0)
        lost = int((~np.isfinite(of["chamfer"])).sum())
        cells = [in_words(of["psnr"].mean(axis=0), 1), in_words(chamfer.compressed(), 2)]
        cells[1] += f" ({lost} lost)" if lost else ""
        found.append([name, str(step), *cells, in_words(of["iou"].mean(axis=0), 3)])
    return found


def in_words(values: np.ndarray, digits: int) -> str:
    """Mean and 95 % interval of values, one per solid."""
    if len(values) < 2:
        return "" if not len(values) else f"{values[0]:.{digits}f}"
    found = interval(values)
    return f"{found.mean:.{digits}f} ± {found.half:.{digits}f}"


def note(leads: Mapping[int, Mapping[str, Interval]], taken: Mapping[str, int]) -> str:
    """What stands under the table.

    Args:
        leads: steps -> measure -> how far the learned init is ahead.
        taken: bytes of a field and of a mesh.
    """
    ahead = [
        f"after {step} steps {of['psnr'].mean:+.1f} ± {of['psnr'].half:.1f} dB in PSNR,"
        f" {100 * of['chamfer'].mean:+.2f} ± {100 * of['chamfer'].half:.2f} in Chamfer distance and"
        f" {of['iou'].mean:+.3f} ± {of['iou'].half:.3f} in IoU"
        for step, of in leads.items()
    ]
    field, mesh = (f"{taken[k] / 1000:.0f} kB" for k in ("field", "mesh"))
    return (
        f"Mean and 95 % interval over test chairs. Learned minus random, chair by chair: "
        f"{'; '.join(ahead)}. The weights of such a field take {field} as 32-bit numbers, the mesh"
        f" that is drawn of the first test chair {mesh}."
    )
