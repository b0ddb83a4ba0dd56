"""Photograph three built landmarks as tourists do, into the collections that chapter 8 learns from.

    apt-get download sweethome3d-furniture=1.8-1         # 120 MB; or Debian's snapshot of it
    pip install .[scenes]
    python tools/build_landmarks.py sweethome3d-furniture_*.deb --out learnit_utils/shipped/archives

Writes landmarks_NAME.zip for gate, fountain and basilica, in the layout that
`learnit_utils.signals.landmarks` reads: photographs (WebP), their cameras, and for photographs that
are held back the same light and weather, without people, from other views, and depth. The same
archive and versions give the same bytes.

Light: a sun with hard shadows, eight patches of sky with shadows of their own, haze; at night,
lamps on the ground. Then exposure and white balance. Stone is painted by rule. Surfaces are matt.
"""

import argparse
import io
import json
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import landmark_shapes as shapes
import numpy as np
import render_objects as objects
import trimesh
from PIL import Image
from tqdm import tqdm

from learnit_utils import _files

METRE = 0.05  # in the units of the scene, as learnit scales poses
SHAPES = ((112, 84), (120, 80), (96, 96), (84, 112), (80, 120))  # width, height
SAMPLES = 3  # rays per pixel and axis
COUNTS = dict(train=90, validation=8, test=12)
OTHERS = dict(train=0, validation=2, test=4)  # views under the same light
EVERY = 4  # of so many pixels, in each direction, one has its depth told
QUALITY = 74
FARTHEST = 100.0  # metres
WIDE = 55.0  # degrees either side of the front where tourists stand
AIM = dict(gate=10.5, fountain=10.0, basilica=17.0)  # metres above ground
AWAY = dict(gate=(32, 52), fountain=(28, 46), basilica=(48, 76))  # metres from the middle
MIDDLE = dict(gate=(0, 4), fountain=(0, 0), basilica=(0, 10))  # what they look at
PEOPLE = ("mannequinMale", "mannequinBrunette")
VEHICLES = (("Scopia", "bus", 3.1), ("Scopia", "truck", 2.9), ("Scopia", "scooter2", 1.2))
MODELS = (
    *(("Scopia", m) for m in ("candelabre", "bus", "truck", "scooter2", *PEOPLE)),
    *(("BlendSwap-CC-0", m) for m in ("horse2", "bench")),
    ("BlendSwap-CC-BY", "horse"),
)


# --- light and weather -------------------------------------------------------------------------
class Appearance(NamedTuple):
    """What the light and the camera do to a photograph."""

    weather: str  # clear, overcast, sunset or night
    sun: np.ndarray  # (3,) unit vector towards it
    strength: np.ndarray  # (3,)
    zenith: np.ndarray  # (3,) sky straight above
    horizon: np.ndarray  # (3,)
    haze: float  # per metre
    clouds: tuple[float, int]  # how much of the sky, and which
    lamps: np.ndarray  # (3,) colour of the lamps on the ground
    exposure: float
    balance: np.ndarray  # (3,)


def draw_appearance(rng: np.random.Generator, name: str) -> Appearance:
    """Half are clear days, the rest overcast, at sunset or at night."""
    weather = rng.choice(["clear", "overcast", "sunset", "night"], p=[0.5, 0.22, 0.16, 0.12])
    around = np.deg2rad(rng.uniform(-75, 75) - 90)  # the sun lights the front
    high = np.deg2rad(rng.uniform(4, 14) if weather == "sunset" else rng.uniform(25, 65))
    sun = np.array([np.cos(high) * np.cos(around), np.cos(high) * np.sin(around), np.sin(high)])
    warm, lamps = rng.uniform(0, 1), np.zeros(3)
    if weather == "clear":
        strength = 2.4 * np.array([1, 0.95 - 0.08 * warm, 0.85 - 0.2 * warm])
        zenith, horizon = np.array([0.16, 0.32, 0.75]), np.array([0.62, 0.74, 0.92])
    elif weather == "overcast":
        strength = 0.15 * np.ones(3)
        zenith, horizon = np.ones(3) * rng.uniform(0.7, 0.95), np.ones(3) * rng.uniform(0.6, 0.8)
        horizon = horizon * np.array([0.97, 1, 1.03])
    elif weather == "sunset":
        strength = 1.9 * np.array([1, 0.62 - 0.2 * warm, 0.32 - 0.2 * warm])
        zenith = np.array([0.2, 0.24, 0.5])
        horizon = np.array([0.95, 0.5 + 0.1 * warm, 0.35])
    else:
        strength, zenith = np.zeros(3), np.array([0.01, 0.015, 0.05])
        horizon = np.array([0.03, 0.035, 0.08]) * rng.uniform(0.7, 1.6)
        tint = [[1, 0.72, 0.4], [1, 0.9, 0.75], [0.75, 0.8, 1]][rng.integers(3)]
        lamps = rng.uniform(0.8, 1.3) * np.array(tint)
    cover = rng.uniform(0.3, 0.65) if weather in ("clear", "sunset") else 0.0
    stops = rng.uniform(-0.6, 0.5)
    balance = np.array([1 + rng.uniform(-0.14, 0.14), 1, 1 + rng.uniform(-0.14, 0.14)])
    haze = rng.choice([0.0005, 0.002, 0.006], p=[0.5, 0.35, 0.15])
    look = (zenith, horizon, haze, (cover, int(rng.integers(2**31))), lamps)
    return Appearance(str(weather), sun, strength, *look, 2**stops, balance)


def noise(points: np.ndarray, seed: int = 0, octaves: int = 3) -> np.ndarray:
    """Smooth noise in [0, 1] at points (n, 3), of unit size, the same on every machine."""
    total, weight = np.zeros(len(points)), 0.0
    for k in range(octaves):
        p = points * 2.0**k
        low = np.floor(p).astype(np.int64)
        t = p - low
        t = t * t * (3 - 2 * t)
        value = np.zeros(len(p))
        for corner in np.ndindex(2, 2, 2):
            w = np.prod(np.where(corner, t, 1 - t), axis=-1)
            value += w * hashed(low + np.array(corner), seed + k)
        total, weight = total + value / 2**k, weight + 1 / 2**k
    return total / weight


def hashed(cells: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for every cell (n, 2 or 3) of whole numbers."""
    h = np.full(len(cells), np.uint64(seed * 2654435761 % 2**64))
    with np.errstate(over="ignore"):
        for axis in range(cells.shape[1]):
            h ^= (
                cells[:, axis].astype(np.uint64)
                + np.uint64(0x9E3779B97F4A7C15)
                + (h << np.uint64(6))
            )
            h *= np.uint64(0xBF58476D1CE4E5B9)
            h ^= h >> np.uint64(29)
    return (h >> np.uint64(11)).astype(np.float64) / 2**53


def sky(a: Appearance, directions: np.ndarray) -> np.ndarray:
    """Light from the sky along (n, 3)."""
    up = np.clip(directions[:, 2:], 0, 1)
    colour = a.horizon + (a.zenith - a.horizon) * up**0.6
    glow = np.clip(directions @ a.sun, 0, 1)[:, None]
    colour = colour + 0.15 * a.strength * glow**12
    cover, seed = a.clouds
    if cover:
        flat = directions[:, :2] / np.maximum(directions[:, 2:], 0.08)
        at = np.concatenate([flat * 1.3, np.full((len(flat), 1), 0.5)], -1)
        thick = np.clip((noise(at, seed % 1000003, 4) - 1 + cover) * 5, 0, 1)[:, None]
        white = 0.55 * a.horizon + 0.35 * a.strength / 2.4 + 0.15
        colour = colour + 0.85 * thick * (white - colour)
    return colour


def painted(surface: shapes.Surface, point: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """The colour (n, 3) of a surface painted by rule, at points with flat normals."""
    value = 1 + surface.grain * 2 * (noise(point * 1.7, 7) - 0.5)
    if surface.block is not None:
        level = np.abs(flat[:, 2]) > 0.8
        along = np.where(np.abs(flat[:, 0]) > np.abs(flat[:, 1]), point[:, 1], point[:, 0])
        u, v = np.where(level, point[:, 0], along), np.where(level, point[:, 1], point[:, 2])
        wide, high = surface.block
        row = np.floor(v / high)
        u = u / wide + 0.5 * (row % 2)
        cell = np.stack([np.floor(u), row, level.astype(float)], -1).astype(np.int64)
        value *= 1 + surface.vary * 2 * (hashed(cell, 11) - 0.5)
        edge = np.minimum(
            np.abs(u - np.round(u)) * wide, np.abs(v / high - np.round(v / high)) * high
        )
        value *= 1 - surface.joint * (edge < 0.06)
    return np.clip(np.array(surface.colour) * value[:, None], 0.01, 0.95)


# Eight patches of sky: directions and the share of each.
PATCHES = np.array(
    [
        [np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)]
        for e, n, shift in ((0.35, 5, 0.3), (0.95, 3, 0.0))
        for a in shift + 2 * np.pi * np.arange(n) / n
    ]
)
LAMPS = np.array([[x, -17.0, 1.2] for x in (-16, -8, 0, 8, 16)])


def lit(s: objects.Solid, tracer, a: Appearance, d, point, weights, face) -> np.ndarray:
    """Light (n, 3) that points send back towards -d."""
    p, q, r = np.moveaxis(s.vertices[s.faces[face]], 1, 0)
    flat = objects.unit(np.cross(q - p, r - p))
    flat *= -np.sign((flat * d).sum(-1, keepdims=True))
    n = objects.unit(np.einsum("nk,nkd->nd", weights, s.normals[face]))
    n *= np.where((n * flat).sum(-1, keepdims=True) < 0, -1, 1)
    colour, at = np.zeros((len(face), 3)), np.einsum("nk,nkd->nd", weights, s.uv[face])
    for i in np.unique(s.which[face]):
        here, m = s.which[face] == i, s.materials[i]
        if isinstance(m, shapes.Surface):
            colour[here] = painted(m, point[here], flat[here])
        else:
            colour[here] = (
                m.colour if m.texture is None else objects.sampled(m.texture, at[here])[:, :3]
            )
    start = point + 4e-3 * flat

    def reached(direction, strength):
        """Light from far away: (n,) cosine where nothing is in the way."""
        facing = np.clip(n @ direction, 0, 1) * ((flat @ direction) > 0)
        ask = np.flatnonzero(facing > 0) if np.any(strength) else np.zeros(0, int)
        hidden = (
            tracer.intersects_any(start[ask], np.tile(direction, (len(ask), 1))) if len(ask) else []
        )
        facing[ask] *= ~np.asarray(hidden, bool)
        return facing[:, None] * strength

    total = reached(a.sun, a.strength)
    bounce = 0.12 * (a.strength * max(a.sun[2], 0) + a.horizon)
    total = total + bounce * (0.6 - 0.4 * n[:, 2:])
    for patch, light in zip(PATCHES, sky(a._replace(clouds=(0, 0)), PATCHES)):
        total = total + reached(patch, light * 1.6 / len(PATCHES))
    if a.lamps.any():
        for lamp in LAMPS:
            away = lamp - start
            distance = np.linalg.norm(away, axis=-1, keepdims=True)
            towards = away / distance
            facing = np.clip((n * towards).sum(-1), 0, 1)
            ask = np.flatnonzero(facing > 0)
            there = np.tile(lamp, (len(ask), 1))
            ray, seen, _, _ = objects.met(s, tracer, there, -towards[ask])
            reach = np.full(len(ask), np.inf)
            reach[ray] = np.linalg.norm(seen - lamp, axis=-1)
            facing[ask] *= reach > distance[ask, 0] - 0.05
            total = total + facing[:, None] * a.lamps * 300 / (distance**2 + 100)
    return colour * total


# --- cameras -----------------------------------------------------------------------------------
class Shot(NamedTuple):
    """Where from, and through what lens."""

    pose: np.ndarray  # (4, 4) in metres
    focal: float  # pixels
    size: tuple[int, int]  # width, height


def draw_shot(rng: np.random.Generator, name: str) -> Shot:
    """A tourist: somewhere in front, turned to the landmark, the horizon nearly level."""
    size = SHAPES[rng.integers(len(SHAPES))]
    around = np.deg2rad(rng.uniform(-WIDE, WIDE) - 90)
    away = rng.uniform(*AWAY[name])
    eye = np.array([*MIDDLE[name], 0]) + away * np.array([np.cos(around), np.sin(around), 0])
    eye[2] = rng.uniform(1.6, 5.0)
    aim = np.array([*MIDDLE[name], AIM[name]]) + rng.normal(size=3) * (2.5, 1, 1.2)
    back = objects.unit(eye - aim)
    right = objects.unit(np.cross([0, 0, 1], back))
    roll = np.deg2rad(rng.normal() * 1.2)
    up = np.cross(back, right)
    right, up = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
    pose = np.eye(4)
    pose[:3] = np.stack([right, up, back, eye], -1)
    angle = np.deg2rad(rng.uniform(44, 62))  # along the diagonal
    return Shot(pose, float(np.hypot(*size) / (2 * np.tan(angle / 2))), size)


def rays(shot: Shot, per_pixel: int):
    """Origins and directions (height, width, 3) through a finer grid of pixels."""
    wide, high = shot.size
    x = (np.arange(wide * per_pixel) + 0.5) / per_pixel - wide / 2
    y = high / 2 - (np.arange(high * per_pixel) + 0.5) / per_pixel
    x, y = np.meshgrid(x / shot.focal, y / shot.focal)
    d = objects.unit(np.stack([x, y, -np.ones_like(x)], -1)) @ shot.pose[:3, :3].T
    return np.broadcast_to(shot.pose[:3, 3], d.shape), d


def tracer_of(s: objects.Solid):
    """What says where rays meet it."""
    mesh = trimesh.Trimesh(s.vertices, s.faces, process=False)
    return trimesh.ray.ray_pyembree.RayMeshIntersector(mesh)


def depths(s: objects.Solid, tracer, shot: Shot, per_pixel: int = 1) -> np.ndarray:
    """Distance to what is met, in metres: (height, width); infinite for the sky."""
    origins, directions = (r.reshape(-1, 3) for r in rays(shot, per_pixel))
    found = np.full(len(directions), np.inf)
    ray, point, _, _ = objects.met(s, tracer, origins, directions)
    found[ray] = np.linalg.norm(point - origins[ray], axis=-1)
    return found.reshape(shot.size[1] * per_pixel, shot.size[0] * per_pixel)


def sighted(s: objects.Solid, tracer, shot: Shot, points: np.ndarray) -> list:
    """Which of some vertices a camera sees, and in which pixel: index, row, column each.

    No projection is used: the pixel is the one whose ray ends nearest to the vertex.
    """
    origins, directions = (r.reshape(-1, 3) for r in rays(shot, 1))
    ray, point, _, _ = objects.met(s, tracer, origins, directions)
    footprint = np.linalg.norm(point - origins[ray], axis=-1) / shot.focal
    found = []
    for i, vertex in enumerate(points):
        off = np.linalg.norm(point - vertex, axis=-1) / footprint
        if off.min() < 0.7:
            row, column = divmod(int(ray[off.argmin()]), shot.size[0])
            found.append([i, row, column])
    return found


def photograph(s: objects.Solid, tracer, a: Appearance, shot: Shot) -> np.ndarray:
    """(height, width, 3) uint8."""
    origins, directions = (r.reshape(-1, 3) for r in rays(shot, SAMPLES))
    light = sky(a, directions)
    hit = objects.met(s, tracer, origins, directions)
    ray, point = hit[0], hit[1]
    met = lit(s, tracer, a, directions[ray], *hit[1:])
    distance = np.linalg.norm(point - origins[ray], axis=-1, keepdims=True)
    clear = np.exp(-a.haze * distance)
    light[ray] = clear * met + (1 - clear) * a.horizon
    wide, high = shot.size
    light = light.reshape(high, SAMPLES, wide, SAMPLES, 3).mean(axis=(1, 3))
    shown = objects.displayed(1 - np.exp(-1.1 * a.exposure * a.balance * light))
    return np.round(255 * shown).astype(np.uint8)


def passers_by(b: shapes.Builder, rng: np.random.Generator, shot: Shot) -> int:
    """People, and sometimes a vehicle, between the camera and the landmark; how many."""
    if rng.uniform() > 0.5:
        return 0
    forward = -shot.pose[:2, 2] / np.linalg.norm(shot.pose[:2, 2])
    side, eye = np.array([forward[1], -forward[0]]), shot.pose[:2, 3]
    half = shot.size[0] / (2 * shot.focal)

    def place(near, far):
        at = rng.uniform(near, far)
        return (*(eye + at * forward + at * half * rng.uniform(-0.9, 0.9) * side), 0.0)

    people = int(rng.integers(1, 8))
    for _ in range(people):
        who, tall = PEOPLE[rng.integers(2)], rng.uniform(1.55, 1.9)
        b.model("Scopia", who, tall, place(5, 20), rng.uniform(0, 360), recolour=rng)
    if rng.uniform() < 0.25:
        collection, model, tall = VEHICLES[rng.integers(len(VEHICLES))]
        turn = 90 + np.rad2deg(np.arctan2(forward[0], forward[1])) + rng.normal() * 12
        b.model(collection, model, tall, place(12, 20), turn, recolour=rng)
        people += 1
    return people


# --- the archives ------------------------------------------------------------------------------
LIBRARIES: dict[str, bytes] = {}  # of this process
_BARE: dict = {}


def bare(name: str):
    """A landmark without people, and its tracer."""
    if name not in _BARE:
        s = shapes.build(name, LIBRARIES).done()
        _BARE[name] = s, tracer_of(s)
    return _BARE[name]


def bounds(s: objects.Solid, tracer, shot: Shot) -> tuple[float, float]:
    """Where the scene begins and ends for a camera, in metres; the sky is behind."""
    found = depths(s, tracer, shot)
    found = found[np.isfinite(found)]
    near, far = 0.9 * found.min(), 1.05 * min(np.quantile(found, 0.98), FARTHEST)
    return round(float(near), 2), round(float(far), 2)


def made(name: str, split: str, number: int):
    """A photograph, and if it is held back its other views: files and the entries for the table."""
    key = zlib.crc32(f"{name}/{split}/{number}".encode())
    rng = np.random.default_rng(key)
    a, shot = draw_appearance(rng, name), draw_shot(rng, name)
    clean, tracer = bare(name)
    crowd = shapes.build(name, LIBRARIES)
    count = passers_by(crowd, rng, shot)
    scene = crowd.done() if count else clean
    label = f"{split}_{number:03d}"
    first = photograph(scene, tracer_of(scene) if count else tracer, a, shot)
    shots = {label: (shot, first)}
    for k in range(OTHERS[split]):
        other = draw_shot(rng, name)
        shots[f"{label}_{k + 1}"] = other, photograph(clean, tracer, a, other)
    files, entries = {}, {}
    for name_of, (its, pixels) in shots.items():
        near, far = bounds(clean, tracer, its)
        pose = its.pose.copy()
        pose[:3, 3] *= METRE
        entry = dict(split=split, weather=a.weather, focal=round(its.focal, 4), size=list(its.size))
        entry |= dict(pose=np.round(pose[:3], 6).tolist())
        entry |= dict(near=round(near * METRE, 4), far=round(far * METRE, 4))
        entry |= dict(sighted=sighted(clean, tracer, its, corners(name)))
        if name_of == label:
            entry["passers_by"] = count
        else:
            entry["light_of"] = label
        files[f"{name_of}.webp"] = webp(Image.fromarray(pixels))
        if split != "train":
            start = EVERY // 2
            d = METRE * depths(clean, tracer, its)[start::EVERY, start::EVERY]
            level = np.clip(np.round(254 * (d - near * METRE) / ((far - near) * METRE)), 0, 254)
            level = np.where(np.isfinite(d), level, 255).astype(np.uint8)  # 255: the sky
            files[f"{name_of}_depth.png"] = png(Image.fromarray(level))
        entries[name_of] = entry
    return files, entries


def webp(image: Image.Image) -> bytes:
    """A small file."""
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    """An exact file."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def begin(libraries: dict[str, bytes]) -> None:
    """In every process."""
    LIBRARIES.update(libraries)


def attribution(libraries: dict[str, bytes]) -> str:
    """The table of models that stand in the scenes."""
    lines = ["name,title,author,licence,source"]
    for collection, model in MODELS:
        entry = objects.catalogue(zipfile.ZipFile(io.BytesIO(libraries[collection])))[model]
        told = (entry["name"], entry.get("creator", "unknown"), objects.LICENCES[collection])
        source = f"Sweet Home 3D 1.8; {collection}; {entry['model']}"
        lines.append(",".join([f"{collection}-{model}", *told, source]))
    return "\n".join(lines) + "\n"


@cache
def corners(name: str, count: int = 48) -> np.ndarray:
    """Vertices of the landmark, spread over it, in metres: (count, 3)."""
    s, _ = bare(name)
    stone = np.isin(
        s.which, [i for i, k in enumerate(shapes.SURFACES) if k not in ("paving", "grass")]
    )
    v = s.vertices[np.unique(s.faces[stone])]
    v = v[np.random.default_rng(0).choice(len(v), count, replace=False)]
    return v


def main() -> None:
    """Photograph every landmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("deb", type=Path, help="sweethome3d-furniture_1.8-1_all.deb")
    parser.add_argument("--out", type=Path, required=True, help="folder of the archives")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", choices=list(shapes.LANDMARKS), help="one landmark")
    parser.add_argument("--few", type=int, help="so many photographs of each split, for a look")
    given = parser.parse_args()
    libraries = objects.libraries(given.deb)
    begin(libraries)
    for name in [given.only] if given.only else shapes.LANDMARKS:
        jobs = [(s, i) for s, n in COUNTS.items() for i in range(min(n, given.few or n))]
        with ProcessPoolExecutor(given.jobs, initializer=begin, initargs=(libraries,)) as pool:
            found = pool.map(made, [name] * len(jobs), *zip(*jobs))
            parts = list(tqdm(found, total=len(jobs), desc=name, unit="photo"))
        table = dict(scale=METRE, every=EVERY, photos={})
        table["corners"] = np.round(corners(name) * METRE, 5).tolist()
        members = {"ATTRIBUTION.csv": attribution(libraries).encode()}
        for files, entries in parts:
            members |= files
            table["photos"] |= entries
        members["cameras.json"] = json.dumps(table, separators=(",", ":")).encode()
        entry = dict(
            holds=f"{len(table['photos'])} photographs of a built {name}, their cameras and depths",
            licence="MIT; models in the scenes CC0 or CC-BY, see ATTRIBUTION.csv",
            source="rendered by tools/build_landmarks.py",
        )
        _files.enter(given.out, f"landmarks_{name}.zip", archive(members), **entry)


def archive(members: dict[str, bytes]) -> bytes:
    """A zip file, the same bytes for the same contents."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            stored = (
                zipfile.ZIP_DEFLATED if name.endswith((".json", ".csv")) else zipfile.ZIP_STORED
            )
            z.writestr(info, data, stored)
    return out.getvalue()


if __name__ == "__main__":
    main()
