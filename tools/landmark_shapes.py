"""Three landmarks as triangles: a columned gate, a fountain façade, a domed basilica.

Metres; z upwards, front towards -y, the middle of the front at the origin. Built from primitives
and from models of Sweet Home 3D; `tools/build_landmarks.py` photographs them.
"""

import io
import zipfile
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import render_objects as objects
import trimesh


class Surface(NamedTuple):
    """A surface that is painted by rule: blocks of stone with joints, and grain."""

    colour: tuple[float, float, float]  # linear
    block: tuple[float, float] | None = None  # width and height in metres
    joint: float = 0.25  # how much darker a joint is
    vary: float = 0.08  # from block to block
    grain: float = 0.18  # within a block


SURFACES = {
    "sandstone": Surface((0.62, 0.52, 0.38), (1.6, 0.8)),
    "travertine": Surface((0.66, 0.56, 0.42), (1.4, 0.7)),
    "white": Surface((0.78, 0.77, 0.73), (1.8, 0.9), 0.15, 0.05, 0.1),
    "smooth": Surface((0.68, 0.60, 0.48), None),
    "paving": Surface((0.36, 0.35, 0.33), (1.5, 1.5), 0.35, 0.15, 0.2),
    "rock": Surface((0.55, 0.5, 0.42), None, 0, 0, 0.45),
    "bronze": Surface((0.16, 0.34, 0.28), None, 0, 0, 0.3),
    "slate": Surface((0.2, 0.22, 0.26), (0.8, 0.5), 0.3, 0.15, 0.2),
    "glass": Surface((0.05, 0.06, 0.08), (0.7, 0.9), -1.5, 0.3, 0.1),
    "water": Surface((0.08, 0.3, 0.33), None, 0, 0, 0.25),
    "grass": Surface((0.12, 0.2, 0.06), None, 0, 0, 0.4),
    "gold": Surface((0.75, 0.52, 0.15), None, 0, 0, 0.15),
}


class Builder:
    """Collects triangles."""

    def __init__(self, libraries: dict[str, bytes]):
        self.libraries = libraries
        self.parts: list[objects.Solid] = []
        self.surfaces: list = list(SURFACES.values())

    def triangles(self, corners, surface: str, normals=None) -> None:
        """Add triangles (f, 3, 3); flat unless normals (f, 3, 3) are given."""
        corners = np.asarray(corners, np.float64)
        if normals is None:
            a, b, c = np.moveaxis(corners, 1, 0)
            normals = np.repeat(objects.unit(np.cross(b - a, c - a))[:, None], 3, axis=1)
        f = len(corners)
        which = np.full(f, list(SURFACES).index(surface))
        faces = np.arange(3 * f).reshape(f, 3)
        flat = corners.reshape(-1, 3)
        self.parts.append(
            objects.Solid(flat, faces, np.asarray(normals), np.zeros((f, 3, 2)), which, [])
        )

    def hull(self, points, surface: str) -> None:
        """The convex hull of points."""
        mesh = trimesh.convex.convex_hull(np.asarray(points, np.float64))
        self.triangles(mesh.triangles, surface)

    def box(self, x, y, z, surface: str) -> None:
        """A box, from and to along every axis."""
        mesh = trimesh.creation.box(bounds=np.sort(np.array([x, y, z], np.float64).T, axis=0))
        self.triangles(mesh.triangles, surface)

    def gable(self, x, y, z, surface: str, along: str = "y") -> None:
        """A prism with a triangle towards the front (along y) or the side (along x)."""
        (x0, x1), (y0, y1), (z0, z1) = x, y, z
        if along == "y":
            three = [(x0, z0), (x1, z0), ((x0 + x1) / 2, z1)]
            self.hull([(a, b, c) for a, c in three for b in (y0, y1)], surface)
        else:
            three = [(y0, z0), (y1, z0), ((y0 + y1) / 2, z1)]
            self.hull([(a, b, c) for b, c in three for a in (x0, x1)], surface)

    def turned(self, at, profile, surface: str, sides=24, sweep=2 * np.pi, start=0.0) -> None:
        """A profile of (radius, height) turned around a vertical axis through (x, y, z)."""
        r, z = np.array(profile, np.float64).T
        angle = start + np.linspace(0, sweep, sides + 1)
        ring = np.stack([np.cos(angle), np.sin(angle)], -1)
        xy = r[:, None, None] * ring  # (profile, angle, 2)
        points = np.concatenate(
            [xy, np.broadcast_to(z[:, None, None], (*xy.shape[:2], 1))], -1
        ) + np.asarray(at, np.float64)
        rise, run = np.diff(z), np.diff(r)
        outward = np.stack([rise, -run], -1) / np.maximum(np.hypot(rise, run), 1e-9)[:, None]
        for i, (o, up) in enumerate(outward):
            n = np.concatenate([o * ring, np.full((len(ring), 1), up)], -1)
            lower, upper = points[i], points[i + 1]
            one = np.stack([lower[:-1], lower[1:], upper[1:]], 1)
            two = np.stack([lower[:-1], upper[1:], upper[:-1]], 1)
            its = np.stack([n[:-1], n[1:], n[1:]], 1), np.stack([n[:-1], n[1:], n[:-1]], 1)
            both, normals = np.concatenate([one, two]), np.concatenate(its)
            a, b, c = np.moveaxis(both, 1, 0)
            real = np.linalg.norm(np.cross(b - a, c - a), axis=-1) > 1e-9
            self.triangles(both[real], surface, normals[real])

    def column(self, x, y, z, radius, surface: str) -> None:
        """A column with base and capital, from z[0] to z[1]."""
        z0, z1 = z
        r, h = radius, z1 - z0
        self.box(
            (x - 1.35 * r, x + 1.35 * r), (y - 1.35 * r, y + 1.35 * r), (z0, z0 + r / 2), surface
        )
        shaft = [(1.25 * r, r / 2), (1.2 * r, 0.8 * r), (r, r), (r, h / 2), (0.85 * r, h - 1.2 * r)]
        shaft += [(0.95 * r, h - r), (1.2 * r, h - 0.5 * r)]
        self.turned((x, y, z0), shaft, surface)
        self.box((x - 1.3 * r, x + 1.3 * r), (y - 1.3 * r, y + 1.3 * r), (z1 - r / 2, z1), surface)

    def arch(self, x, y, z, top, surface: str, steps=10) -> None:
        """What stands above a round opening of width x, springing at z, in a wall up to `top`."""
        middle, radius = (x[0] + x[1]) / 2, (x[1] - x[0]) / 2
        angle = np.linspace(np.pi, 0, steps + 1)
        xs, zs = middle + radius * np.cos(angle), z + radius * np.sin(angle)
        for i in range(steps):
            low = [(xs[i], zs[i]), (xs[i + 1], zs[i + 1]), (xs[i], top), (xs[i + 1], top)]
            self.hull([(a, b, c) for a, c in low for b in y], surface)

    def window(self, x, y, z, surface: str, crowned=True) -> None:
        """A pane with its frame in front of a wall that faces -y at y."""
        (x0, x1), (z0, z1), w = x, z, 0.25
        self.box((x0, x1), (y - 0.04, y), (z0, z1), "glass")
        for a, b in ((x0 - w, x0), (x1, x1 + w)):
            self.box((a, b), (y - 0.3, y), (z0 - w, z1 + w), surface)
        self.box((x0 - w, x1 + w), (y - 0.3, y), (z1, z1 + w), surface)
        self.box((x0 - 1.6 * w, x1 + 1.6 * w), (y - 0.45, y), (z0 - 1.6 * w, z0), surface)
        if crowned:
            self.gable((x0 - 2 * w, x1 + 2 * w), (y - 0.5, y), (z1 + w, z1 + 4 * w), surface)

    def model(self, collection, name, height, at, turn=0.0, surface=None, recolour=None) -> None:
        """A model of Sweet Home 3D: its height, where its foot stands, turned by degrees.

        Args:
            surface: what it is made of, instead of its own materials.
            recolour: a generator that draws it other colours.
        """
        s = solid(self.libraries, collection, name)
        if recolour is not None:
            s = objects.recoloured(s, recolour)
        low, high = s.vertices.min(axis=0), s.vertices.max(axis=0)
        scale = height / (high[2] - low[2])
        c, d = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        r = np.array([[c, -d, 0], [d, c, 0], [0, 0, 1]])
        foot = np.array([*(low + high)[:2] / 2, low[2]])
        v = (s.vertices - foot) * scale @ r.T + np.asarray(at, np.float64)
        if surface is None:
            which = s.which + len(self.surfaces)
            self.surfaces += s.materials
        else:
            which = np.full(len(s.faces), list(SURFACES).index(surface))
        self.parts.append(s._replace(vertices=v, normals=s.normals @ r.T, which=which))

    def done(self) -> objects.Solid:
        """All of it."""
        offsets = np.cumsum([0, *(len(p.vertices) for p in self.parts)])
        faces = [p.faces + o for p, o in zip(self.parts, offsets)]
        fields = ("vertices", "normals", "uv", "which")
        v, n, uv, which = (np.concatenate([getattr(p, f) for p in self.parts]) for f in fields)
        return objects.Solid(v, np.concatenate(faces), n, uv, which, list(self.surfaces))


_SOLIDS: dict = {}


def solid(libraries, collection, name) -> objects.Solid:
    """A model, read once."""
    if (collection, name) not in _SOLIDS:
        library = zipfile.ZipFile(io.BytesIO(libraries[collection]))
        _SOLIDS[collection, name] = objects.solid(library, objects.catalogue(library)[name])
    return _SOLIDS[collection, name]


def _square(b: Builder) -> None:
    b.box((-90, 90), (-90, 90), (-1, 0), "paving")


def gate(b: Builder) -> None:
    """Six columns in two rows, a quadriga on top, a pavilion on either side."""
    _square(b)
    for i in range(3):
        d = 0.6 * (2 - i)
        b.box((-13.5 - d, 13.5 + d), (-1.5 - d, 10.5 + d), (0.25 * i, 0.25 * (i + 1)), "sandstone")
    for x in (-11.4, -7.2, -3.0, 3.0, 7.2, 11.4):
        for y in (0.0, 9.0):
            b.column(x, y, (0.75, 11.5), 0.85, "sandstone")
        b.box((x - 0.6, x + 0.6), (1, 8), (0.75, 11.5), "sandstone")
    b.box((-12.8, 12.8), (-1.1, 10.1), (11.5, 12.7), "sandstone")
    b.box((-12.6, 12.6), (-0.9, 9.9), (12.7, 13.7), "smooth")
    for x in np.arange(-12.2, 12.5, 1.22):
        b.box((x - 0.3, x + 0.3), (-1.1, 10.1), (12.7, 13.7), "sandstone")
    b.box((-13.4, 13.4), (-1.7, 10.7), (13.7, 14.3), "sandstone")
    b.box((-10.2, 10.2), (0.2, 8.8), (14.3, 16.6), "sandstone")
    for x in (-6.8, 0.0, 6.8):
        b.box((x - 2.9, x + 2.9), (0.05, 0.2), (14.7, 16.2), "smooth")
    b.box((-10.6, 10.6), (-0.2, 9.2), (16.6, 17.0), "sandstone")
    b.box((-3.6, 3.6), (1.2, 7.4), (17.0, 18.3), "smooth")
    for x in (-2.4, -0.8, 0.8, 2.4):
        b.model("BlendSwap-CC-0", "horse2", 2.9, (x, 2.6, 18.3), surface="bronze")
    b.turned((0, 5.2, 18.3), [(1.5, 0), (1.6, 1.2), (1.4, 1.25), (0.0, 1.25)], "bronze", 16)
    b.model("Scopia", "mannequinBrunette", 3.4, (0, 5.2, 19.5), surface="bronze")
    for side in (-1, 1):
        b.hull(
            [(side * x, 5.3, z) for x, z in ((0.3, 21.8), (1.9, 23.4), (1.2, 21.0))]
            + [(side * 0.4, 5.6, 21.6)],
            "bronze",
        )
    b.box((0.9, 1.0), (4.4, 4.5), (19.5, 24.4), "bronze")
    b.turned((0.95, 4.45, 24.0), [(0.0, 0), (0.45, 0.45), (0.0, 0.9)], "gold", 12)
    for side in (-1, 1):
        mid = side * 18.6
        b.box((mid - 4.2, mid + 4.2), (-2.5, 11), (0, 0.6), "sandstone")
        for x in (-3.3, -1.1, 1.1, 3.3):
            b.column(mid + x, -1.6, (0.6, 7.0), 0.45, "sandstone")
        b.box((mid - 3.6, mid + 3.6), (0.2, 10.4), (0.6, 7.0), "smooth")
        b.window((mid - 1.0, mid + 1.0), 0.2, (1.6, 5.2), "sandstone", crowned=False)
        b.box((mid - 4.1, mid + 4.1), (-2.3, 10.8), (7.0, 8.0), "sandstone")
        b.gable((mid - 4.3, mid + 4.3), (-2.5, 11), (8.0, 10.0), "slate")
        b.model("Scopia", "candelabre", 6.5, (side * 25, -6, 0))


def fountain(b: Builder) -> None:
    """A palace front with a niche like a triumphal arch, statues, rocks and a basin."""
    _square(b)
    for x in ((-17, -6.9), (6.9, 17)):
        b.box(x, (0, 4), (0, 16.5), "travertine")
    for x in ((-6.9, -2.6), (2.6, 6.9)):
        b.box(x, (-1.2, 4), (0, 16.5), "travertine")
    b.arch((-2.6, 2.6), (-1.2, 4), 10.2, 14.2, "travertine")
    b.box((-2.6, 2.6), (-1.2, 4), (14.2, 16.5), "travertine")
    b.box((-2.6, 2.6), (2.4, 4), (0, 13.5), "smooth")
    b.turned((0, 0, 0), [(2.58, 3.0), (2.58, 10.2)], "smooth", 16, np.pi, 0)
    dome = [(2.58 * np.cos(a), 10.2 + 2.58 * np.sin(a)) for a in np.linspace(0, np.pi / 2, 8)]
    b.turned((0, 0, 0), dome, "smooth", 16, np.pi, 0)
    for x in (-6.0, -3.5, 3.5, 6.0):
        b.box((x - 0.9, x + 0.9), (-2.6, -1.2), (3.0, 4.6), "smooth")
        b.column(x, -1.9, (4.6, 13.4), 0.62, "smooth")
    for side in (-1, 1):
        b.box((side * 6.9, side * 2.6), (-2.7, -1.1), (13.4, 15.0), "smooth")
        for x in (8.6, 12.4, 16.2):
            b.box((side * x - 0.55, side * x + 0.55), (-0.45, 0), (3.5, 13.4), "smooth")
        for x in (10.5, 14.3):
            b.window((side * x - 0.8, side * x + 0.8), 0, (4.6, 7.4), "smooth")
            b.window((side * x - 0.8, side * x + 0.8), 0, (9.4, 11.6), "smooth", crowned=False)
        b.window((side * 4.75 - 0.6, side * 4.75 + 0.6), -1.2, (9.8, 12.2), "smooth", False)
        b.model("Scopia", "mannequinBrunette", 2.9, (side * 4.75, -1.75, 5.4), surface="smooth")
        b.box((side * 4.75 - 0.7, side * 4.75 + 0.7), (-2.4, -1.2), (4.6, 5.4), "smooth")
    b.box((-17.4, 17.4), (-0.8, 4.2), (13.4, 14.4), "smooth")
    b.box((-17.6, 17.6), (-1.0, 4.2), (14.4, 14.9), "smooth")
    b.box((-7.3, 7.3), (-1.8, 4), (16.2, 19.4), "smooth")
    b.box((-5.4, 5.4), (-1.95, -1.8), (16.7, 18.9), "travertine")
    b.box((-7.7, 7.7), (-2.2, 4.2), (19.4, 19.9), "smooth")
    b.hull(
        [
            (x, y, z)
            for x, z in ((-1.5, 19.9), (1.5, 19.9), (1.8, 21.4), (0, 22.8), (-1.8, 21.4))
            for y in (-1.6, -0.9)
        ],
        "smooth",
    )
    for x in (-5.6, -2.9, 2.9, 5.6):
        b.model("Scopia", "mannequinMale", 2.5, (x, -1.4, 19.9), surface="smooth")
    for x in np.arange(8.2, 17.2, 0.6):
        for side in (-1, 1):
            b.turned((side * x, -0.3, 16.5), [(0.12, 0), (0.2, 0.35), (0.1, 0.9)], "smooth", 6)
    for side in (-1, 1):
        b.box((side * 7.6, side * 17.2), (-0.5, 0.0), (17.4, 17.7), "smooth")
    rng = np.random.default_rng(3)
    for _ in range(70):
        x, y = rng.uniform(-9, 9), -rng.uniform(1.4, 6.5)
        high = max(0.5, 3.4 - 0.28 * abs(x) - 0.45 * (-y - 1.4)) * rng.uniform(0.6, 1.2)
        size = rng.uniform(0.5, 1.3, 3) * (1, 1, 0.7)
        b.hull((x, y, high - size[2]) + size * objects.unit(rng.normal(size=(14, 3))), "rock")
        b.hull((x, y, 0.3) + (size * 1.1) * objects.unit(rng.normal(size=(12, 3))), "rock")
    b.hull(
        [(x, y, z) for x, y in ((-3, -3.2), (3, -3.2), (3.2, 0), (-3.2, 0)) for z in (0, 3.0)],
        "rock",
    )
    b.turned(
        (0, -2.0, 3.0), [(0.2, 0), (1.9, 0.3), (2.1, 0.7), (1.7, 0.65), (0, 0.5)], "smooth", 20
    )
    b.model("Scopia", "mannequinMale", 4.6, (0, -1.6, 3.4), surface="smooth")
    for side in (-1, 1):
        b.model("BlendSwap-CC-BY", "horse", 2.6, (side * 3.6, -4.8, 1.5), side * 35, "smooth")
        b.model("Scopia", "mannequinMale", 2.3, (side * 5.2, -4.2, 1.7), side * 20, "smooth")
    edge = [(14 * np.cos(a), -3 + 11 * np.sin(a)) for a in np.linspace(np.pi, 2 * np.pi, 25)]
    b.hull([(x, y, z) for x, y in edge for z in (0, 0.5)], "water")
    for (x0, y0), (x1, y1) in pairwise(edge):
        outer = [(1.06 * x0, -3 + 1.06 * (y0 + 3)), (1.06 * x1, -3 + 1.06 * (y1 + 3))]
        b.hull([(x, y, z) for x, y in ((x0, y0), (x1, y1), *outer) for z in (0, 0.9)], "travertine")


def _dome(b: Builder, x, y, z, radius, tall) -> None:
    """A drum with pilasters, an egg-shaped dome and a lantern."""
    drum = 0.9 * radius
    b.turned(
        (x, y, z),
        [
            (1.08 * radius, 0),
            (1.08 * radius, 0.15 * drum),
            (radius, 0.2 * drum),
            (radius, drum),
            (1.1 * radius, 1.05 * drum),
            (1.1 * radius, 1.15 * drum),
        ],
        "white",
        32,
    )
    for k in range(12):
        a = 2 * np.pi * (k + 0.5) / 12
        px, py, w = x + 1.03 * radius * np.cos(a), y + 1.03 * radius * np.sin(a), 0.09 * radius
        b.box((px - w, px + w), (py - w, py + w), (z + 0.15 * drum, z + 1.05 * drum), "white")
        a = 2 * np.pi * k / 12
        wx, wy = x + 0.985 * radius * np.cos(a), y + 0.985 * radius * np.sin(a)
        b.turned(
            (wx, wy, z),
            [(0.13 * radius, 0.35 * drum), (0.13 * radius, 0.85 * drum), (0, 0.95 * drum)],
            "glass",
            10,
        )
    at = np.linspace(0, 1, 14)
    egg = [
        (1.02 * radius * np.cos(t * np.pi / 2) ** 0.8, 1.15 * drum + tall * np.sin(t * np.pi / 2))
        for t in at
    ]
    b.turned((x, y, z), egg, "white", 32)
    top, r = 1.15 * drum + tall, 0.2 * radius
    b.turned(
        (x, y, z),
        [
            (r, top - 0.4 * r),
            (r, top + 1.6 * r),
            (1.3 * r, top + 1.8 * r),
            (0.9 * r, top + 2.4 * r),
            (0, top + 3.6 * r),
        ],
        "white",
        12,
    )


def basilica(b: Builder) -> None:
    """A white church on steps: three arches, two riders, one large dome and four small ones."""
    _square(b)
    for i in range(12):
        b.box(
            (-13 + 0.2 * i, 13 - 0.2 * i), (-12 + 0.5 * i, 0), (0.25 * i, 0.25 * (i + 1)), "white"
        )
    b.box((-14, 14), (-1, 34), (0, 3), "travertine")
    b.box((-60, 60), (6, 40), (0, 2.2), "grass")
    b.box((-11, 11), (2, 30), (3, 14), "white")
    b.gable((-11.5, 11.5), (2, 30), (14, 17.5), "slate")
    for x in ((-7.6, -6.2), (-3.2, -1.9), (1.9, 3.2), (6.2, 7.6)):
        b.box(x, (-4, -1.5), (3, 8.2), "white")
    for x in ((-6.2, -3.2), (-1.9, 1.9), (3.2, 6.2)):
        b.arch(x, (-4, -1.5), 8.2, 11, "white")
    for x in ((-7.6, -6.2), (-3.2, -1.9), (1.9, 3.2), (6.2, 7.6)):
        b.box(x, (-4, -1.5), (8.2, 11), "white")
        b.box((sum(x) / 2 - 0.35, sum(x) / 2 + 0.35), (-4.4, -4), (3, 10.6), "smooth")
    b.box((-7.6, 7.6), (-1.5, 2), (10.4, 11), "white")
    for x in (-4.7, 0.0, 4.7):
        b.box((x - 1.1, x + 1.1), (1.9, 2.0), (3, 9), "glass")
    b.box((-8, 8), (-4.5, 2), (11, 11.8), "smooth")
    b.box((-7.6, 7.6), (-4, 2), (11.8, 12.6), "white")
    for side in (-1, 1):
        b.box((side * 7.4, side * 5.0), (-4.2, -0.8), (12.6, 13.6), "white")
        b.model("BlendSwap-CC-BY", "horse", 2.8, (side * 6.2, -2.4, 13.6), 0, "bronze")
        b.model("Scopia", "mannequinMale", 2.2, (side * 6.2, -2.3, 15.0), 0, "bronze")
        for x in (8.6, 10.0):
            b.box((side * x - 0.35, side * x + 0.35), (1.6, 2), (3, 13.2), "smooth")
        b.window((side * 9.3 - 0.4, side * 9.3 + 0.4), 2, (6, 9.5), "smooth")
    b.box((-4.4, 4.4), (-0.5, 4), (12.6, 17.4), "white")
    b.gable((-4.9, 4.9), (-0.8, 4.2), (17.4, 20.6), "white")
    b.arch((-1.1, 1.1), (-0.8, -0.5), 16.0, 17.3, "smooth", 8)
    b.box((-1.1, 1.1), (-0.55, -0.5), (13.2, 17.0), "slate")
    b.model("Scopia", "mannequinMale", 3.2, (0, -0.7, 13.3), 0, "smooth")
    b.box((-7, 7), (9, 23), (14, 19), "white")
    _dome(b, 0, 16, 19, 5.6, 9.5)
    for x in (-8.3, 8.3):
        for y in (8.0, 24.0):
            b.box((x - 2.4, x + 2.4), (y - 2.4, y + 2.4), (14, 17.5), "white")
            _dome(b, x, y, 17.5, 2.1, 3.8)
    b.box((-2.6, 2.6), (32, 37), (0, 34), "white")
    for z in (20, 27):
        b.box((-1.0, 1.0), (31.9, 32), (z, z + 4), "glass")
    b.box((-3, 3), (31.6, 37.4), (34, 35), "smooth")
    _dome(b, 0, 34.5, 35, 2.0, 3.6)
    for side in (-1, 1):
        b.model("Scopia", "candelabre", 6.5, (side * 16, -12, 0))
        b.model("BlendSwap-CC-0", "bench", 0.9, (side * 15, -9, 0))


LANDMARKS = dict(gate=gate, fountain=fountain, basilica=basilica)


def build(name: str, libraries: dict[str, bytes]) -> Builder:
    """A landmark, to which people may be added."""
    b = Builder(libraries)
    LANDMARKS[name](b)
    return b
