"""Render furniture and vehicle models into the pictures that chapter 7 learns from.

    apt-get download sweethome3d-furniture=1.8-1         # 120 MB; or Debian's snapshot of it
    pip install .[scenes]
    python tools/render_objects.py sweethome3d-furniture_*.deb --out learnit_utils/shipped/archives

Writes objects_CLASS.zip for chairs, lamps and cars: per model one sheet of views (WebP, RGBA) and
its cameras, in the layout that `learnit_utils.signals.objects` reads, with ATTRIBUTION.csv. The
same archive and versions give the same bytes.

Every model is turned upright and to the front as its catalogue says, scaled to the catalogue's
width, depth and height, centred, and put into a sphere of radius 1.25, z upwards, front towards -y.
Light: one sun with hard shadows and a sky brighter above than below, drawn per model. Surfaces are
Lambertian, so that their colour does not depend on where they are seen from. Glass lets through
what its material says.
"""

import argparse
import csv
import io
import json
import re
import tarfile
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh
from PIL import Image
from tqdm import tqdm
from trimesh.resolvers import ZipResolver

from learnit_utils import _files
from learnit_utils.forward import cameras

DEB_SHA256 = "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668"
FOLDER = "usr/share/sweethome3d/furniture/"
RADIUS, DISTANCE, FOV = 1.25, 4.0, 0.6911112070083618  # of sphere and camera; field of view, rad
SIZE, SAMPLES = 128, 3  # pixels of a side; rays per pixel and axis
VIEWS = 25  # of each half: to learn from, and held out
HEIGHT = (-0.15, 0.95)  # of the camera, in distances: sine of its elevation
STRETCH = (0.8, 1.25)  # along every axis, of altered copies
COLUMNS, QUALITY = 5, 80  # of a sheet
LAYERS = 4  # surfaces behind one another that a ray goes through at most
LIST = Path(__file__).with_name("objects.csv")  # kind, collection, model, split
LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}


class Model(NamedTuple):
    """A row of the list of models, with what the catalogue says of it."""

    kind: str
    collection: str
    model: str
    split: str
    entry: dict

    @property
    def name(self) -> str:
        """What it is called in the archive."""
        return f"{self.collection}-{self.model}"


# --- the archive -------------------------------------------------------------------------------
def libraries(deb: Path) -> dict[str, bytes]:
    """Library name -> its .sh3f file, from the Debian package, which is checked by its SHA-256."""
    data = deb.read_bytes()
    if _files.sha256(data) != DEB_SHA256:
        raise SystemExit(f"{deb}: its SHA-256 is not that of sweethome3d-furniture 1.8-1")
    at = 8  # ar: an 8-byte magic, then members of a 60-byte header and data, padded to even
    while at < len(data):
        name, length = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(data[at + 60 : at + 60 + length])) as tar:
                files = [m for m in tar if m.isfile() and m.name.endswith(".sh3f")]
                return {Path(m.name).stem: tar.extractfile(m).read() for m in files}
        at += 60 + length + length % 2
    raise SystemExit(f"{deb}: no data in it")


def catalogue(library: zipfile.ZipFile) -> dict[str, dict[str, str]]:
    """Model (file name without suffix) -> its properties."""
    rows: dict[int, dict[str, str]] = {}
    text = library.read("PluginFurnitureCatalog.properties").decode("latin1")
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.M):
        rows.setdefault(int(number), {})[key] = value.strip()
    return {Path(row["model"]).stem: row for row in rows.values()}


# --- surfaces ----------------------------------------------------------------------------------
class Material(NamedTuple):
    """What a surface sends back and lets through."""

    colour: np.ndarray  # (3,) linear; of what has no texture
    opacity: float
    texture: np.ndarray | None  # (height, width, 4): linear colour and opacity


class Solid(NamedTuple):
    """A model, ready to be met by rays."""

    vertices: np.ndarray  # (v, 3)
    faces: np.ndarray  # (f, 3)
    normals: np.ndarray  # (f, 3, 3): of every corner
    uv: np.ndarray  # (f, 3, 2)
    which: np.ndarray  # (f,): material
    materials: list[Material]


def linear(values) -> np.ndarray:
    """sRGB in [0, 1] to light."""
    v = np.asarray(values, np.float64)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def displayed(light) -> np.ndarray:
    """Light to sRGB in [0, 1]."""
    v = np.clip(light, 0, 1)
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)


def material(found) -> Material:
    """A trimesh material; Kd counts as light, a texture as sRGB. Gray if there is none."""
    if found is None:
        return Material(np.full(3, 0.5), 1.0, None)
    kd = np.array(found.kwargs.get("kd", np.asarray(found.diffuse[:3]) / 255.0), np.float64)
    kd = np.clip(kd[:3], 0.02, 1)  # nothing real is blacker
    opacity = float(np.ravel(found.kwargs.get("d", 1.0))[0])
    texture = None
    if found.image is not None:
        rgba = np.asarray(found.image.convert("RGBA"), np.float64) / 255
        texture = np.concatenate([linear(rgba[..., :3]), rgba[..., 3:]], -1)
    return Material(kd, opacity, texture)


def solid(library: zipfile.ZipFile, entry: dict[str, str]) -> Solid:
    """The model of a catalogue entry: upright, front towards -y, in the sphere, centred."""
    path = entry["model"].lstrip("/")
    folder = path.rsplit("/", 1)[0]
    files = {n: io.BytesIO(library.read(n)) for n in library.namelist() if n.startswith(folder)}
    resolver = ZipResolver(files).namespaced(folder)
    scene = trimesh.load(files[path], file_type="obj", resolver=resolver, process=False)
    parts = list(scene.geometry.values()) if hasattr(scene, "geometry") else [scene]
    vertices, faces, normals, uv, which, materials = [], [], [], [], [], []
    for i, part in enumerate(p for p in parts if len(p.faces)):
        smooth = part.vertex_normals[part.faces] if "vertex_normals" in part._cache else None
        flat = np.repeat(part.face_normals[:, None], 3, axis=1)
        at = getattr(part.visual, "uv", None)
        at = np.zeros((len(part.vertices), 2)) if at is None else np.asarray(at)
        faces.append(part.faces + sum(map(len, vertices)))
        vertices.append(part.vertices)
        normals.append(flat if smooth is None else smooth)
        uv.append(at[part.faces])
        which.append(np.full(len(part.faces), i))
        materials.append(material(getattr(part.visual, "material", None)))
    v, n = np.concatenate(vertices), np.concatenate(normals)
    turn = np.array(entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split(), float).reshape(3, 3)
    up = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # y upwards -> z upwards
    v, n = v @ (up @ turn).T, n @ (up @ turn).T
    size = np.array([float(entry[k]) for k in ("width", "depth", "height")])
    stretch = size / np.maximum(np.ptp(v, axis=0), 1e-9)
    v, n = (v - (v.min(axis=0) + v.max(axis=0)) / 2) * stretch, n / stretch
    return scaled(
        Solid(v, np.concatenate(faces), n, np.concatenate(uv), np.concatenate(which), materials)
    )


def scaled(s: Solid, by=(1.0, 1.0, 1.0)) -> Solid:
    """Stretched along the axes, and then the largest that fits the sphere."""
    v, n = s.vertices * by, s.normals / by
    v = v * (RADIUS / np.linalg.norm(v, axis=1).max())
    return s._replace(vertices=v, normals=unit(n))


def unit(v: np.ndarray) -> np.ndarray:
    """Vectors of length 1; one of length 0 stays."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def recoloured(s: Solid, rng: np.random.Generator) -> Solid:
    """Every material in another colour, its texture's light and dark kept."""

    def one(m: Material) -> Material:
        tint, share, gain = rng.dirichlet([2, 2, 2]) * 3, rng.uniform(0.3, 1), rng.uniform(0.6, 1.4)

        def other(colour):
            gray = colour.mean(axis=-1, keepdims=True)
            return np.clip(gain * ((1 - share) * colour + share * gray * tint), 0, 1)

        texture = m.texture
        if texture is not None:
            texture = np.concatenate([other(texture[..., :3]), texture[..., 3:]], -1)
        return m._replace(colour=other(m.colour), texture=texture)

    return s._replace(materials=[one(m) for m in s.materials])


# --- light -------------------------------------------------------------------------------------
class Light(NamedTuple):
    """A sun and a sky."""

    sun: np.ndarray  # (3,) unit vector towards it
    strength: np.ndarray  # (3,) of the sun
    sky: np.ndarray  # (3,) from straight above
    ground: np.ndarray  # (3,) from straight below


def draw_light(rng: np.random.Generator) -> Light:
    """A sun 20 to 80 degrees high from anywhere, warm or cold, and a sky to go with it."""
    high, around = np.deg2rad(rng.uniform(20, 80)), rng.uniform(0, 2 * np.pi)
    sun = [np.cos(high) * np.cos(around), np.cos(high) * np.sin(around), np.sin(high)]
    warm = rng.uniform(-0.1, 0.1) * np.array([1, 0, -1])
    sky = rng.uniform(0.25, 0.5)
    strength = rng.uniform(0.35, 0.65)
    return Light(np.array(sun), strength * (1 + warm), sky * (1 - warm), 0.5 * sky * np.ones(3))


def sampled(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """A texture at (n, 2), bilinear and repeated, v upwards: (n, 4)."""
    high, wide = texture.shape[:2]
    x, y = uv[:, 0] * wide - 0.5, (1 - uv[:, 1]) * high - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    total = 0
    for dy, wy in ((0, 1 - (y - y0)), (1, y - y0)):
        for dx, wx in ((0, 1 - (x - x0)), (1, x - x0)):
            total = total + (wy * wx)[:, None] * texture[(y0 + dy) % high, (x0 + dx) % wide]
    return total


def met(s: Solid, tracer, origins, directions):
    """What rays meet first: ray (n,), point (n, 3), corner weights (n, 3), face (n,)."""
    face = tracer.intersects_first(origins, directions)
    ray = np.flatnonzero(face >= 0)
    face = face[ray]
    a, b, c = np.moveaxis(s.vertices[s.faces[face]], 1, 0)
    o, d = origins[ray], directions[ray]
    e1, e2 = b - a, c - a
    p, q = np.cross(d, e2), np.cross(o - a, e1)
    det = (e1 * p).sum(-1)
    det = np.where(np.abs(det) < 1e-12, 1e-12, det)
    u, v = ((o - a) * p).sum(-1) / det, (d * q).sum(-1) / det
    weights = np.clip(np.stack([1 - u - v, u, v], -1), 0, 1)
    weights /= weights.sum(-1, keepdims=True)
    return ray, np.einsum("nk,nkd->nd", weights, s.vertices[s.faces[face]]), weights, face


def shade(s: Solid, tracer, light: Light, directions, ray, point, weights, face):
    """Light (n, 3) and opacity (n,) of the points that rays meet."""
    d = directions[ray]
    a, b, c = np.moveaxis(s.vertices[s.faces[face]], 1, 0)
    flat = unit(np.cross(b - a, c - a))
    flat *= -np.sign((flat * d).sum(-1, keepdims=True))  # the side that is seen
    n = unit(np.einsum("nk,nkd->nd", weights, s.normals[face]))
    n = np.where((n == 0).all(axis=-1, keepdims=True), flat, n)
    n *= np.where((n * flat).sum(-1, keepdims=True) < 0, -1, 1)
    colour, opacity = np.zeros((len(ray), 3)), np.ones(len(ray))
    at = np.einsum("nk,nkd->nd", weights, s.uv[face])
    for i in np.unique(s.which[face]):
        here, m = s.which[face] == i, s.materials[i]
        colour[here], opacity[here] = m.colour, m.opacity
        if m.texture is not None:
            rgba = sampled(m.texture, at[here])
            colour[here], opacity[here] = rgba[:, :3], m.opacity * rgba[:, 3]
    facing = np.clip(n @ light.sun, 0, 1) * ((flat @ light.sun) > 0)
    lit = facing > 0
    away = point[lit] + 2e-3 * flat[lit]
    lit[lit] = ~tracer.intersects_any(away, np.tile(light.sun, (len(away), 1)))
    up = 0.5 + 0.5 * n[:, 2:]
    ambient = light.sky * up + light.ground * (1 - up)
    return colour * (ambient + (facing * lit)[:, None] * light.strength), opacity


def viewpoints(rng: np.random.Generator, count: int) -> np.ndarray:
    """Cameras all around, evenly over the zone `HEIGHT` of the sphere: azimuth, elevation (deg)."""
    around, high = rng.uniform(-180, 180, count), np.rad2deg(np.arcsin(rng.uniform(*HEIGHT, count)))
    return np.round(np.stack([around, high], -1), 2)


def picture(s: Solid, light: Light, pose: np.ndarray, size: int = SIZE) -> np.ndarray:
    """One view: (size, size, 4) sRGB with opacity, not premultiplied."""
    fine = size * SAMPLES
    view = trimesh.scene.Camera(resolution=(fine, fine), fov=np.rad2deg([FOV, FOV]))
    directions = view.to_rays()[0] @ pose[:3, :3].T
    tracer = trimesh.ray.ray_pyembree.RayMeshIntersector(
        trimesh.Trimesh(s.vertices, s.faces, process=False)
    )
    total, through = np.zeros((len(directions), 3)), np.ones(len(directions))
    left, origins = np.arange(len(directions)), np.tile(pose[:3, 3], (len(directions), 1))
    for _ in range(LAYERS):
        hit = met(s, tracer, origins, directions[left])
        light_back, opacity = shade(s, tracer, light, directions[left], *hit)
        index = left[hit[0]]
        total[index] += (through[index] * opacity)[:, None] * light_back
        through[index] *= 1 - opacity
        more = through[index] > 0.02
        left, origins = index[more], hit[1][more] + 1e-3 * directions[index][more]
        if not len(left):
            break

    def grid(values):  # trimesh's rays go column by column, each from the top
        cells = values.reshape(size, SAMPLES, size, SAMPLES, -1)
        return cells.mean(axis=(1, 3)).swapaxes(0, 1)

    alpha = grid(1 - through[:, None])
    colour = grid(total) / np.maximum(alpha, 1e-6)
    return np.concatenate([displayed(colour), alpha], -1)


# --- the archives ------------------------------------------------------------------------------
def rendered(library: bytes, model: Model, variant: int) -> tuple[str, bytes, dict]:
    """One sheet of views: its name, its WebP file, and what the table of cameras says of it."""
    name = model.name + (f"~{variant}" if variant else "")
    rng = np.random.default_rng([zlib.crc32(model.name.encode()), variant])
    s = solid(zipfile.ZipFile(io.BytesIO(library)), model.entry)
    if variant:
        s = recoloured(scaled(s, rng.uniform(*STRETCH, 3)), rng)
    light = draw_light(rng)
    views = viewpoints(rng, VIEWS if model.split == "train" else 2 * VIEWS)
    poses = [cameras.orbit(*np.deg2rad(view), DISTANCE) for view in views]
    pixels = np.stack([picture(s, light, np.asarray(pose, np.float64)) for pose in poses])
    pixels = np.round(255 * pixels).astype(np.uint8)
    pixels[..., :3][pixels[..., 3] == 0] = 255
    rows = len(views) // COLUMNS
    sheet = pixels.reshape(rows, COLUMNS, SIZE, SIZE, 4).swapaxes(1, 2)
    file = io.BytesIO()
    sheet = Image.fromarray(sheet.reshape(rows * SIZE, COLUMNS * SIZE, 4))
    sheet.save(file, "WEBP", quality=QUALITY, alpha_quality=QUALITY, method=6)
    return name, file.getvalue(), dict(split=model.split, views=views.tolist())


def archive(kind: str, sheets: list, models: list[Model]) -> bytes:
    """objects_KIND.zip, the same bytes for the same contents."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["name", "title", "author", "licence", "source"])
    for m in models:
        told = (m.entry["name"], m.entry.get("creator", "unknown"), LICENCES[m.collection])
        writer.writerow([m.name, *told, f"Sweet Home 3D 1.8, {m.collection}, {m.entry['model']}"])
    told = dict(
        camera_angle_x=FOV,
        distance=DISTANCE,
        radius=RADIUS,
        size=SIZE,
        columns=COLUMNS,
        views=VIEWS,
        models={name: its for name, _, its in sheets},
    )
    members = {"ATTRIBUTION.csv": table.getvalue().encode()}
    members["cameras.json"] = json.dumps(told, separators=(",", ":")).encode()
    members |= {f"{name}.webp": file for name, file, _ in sheets}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            packed = zipfile.ZIP_STORED if name.endswith(".webp") else zipfile.ZIP_DEFLATED
            z.writestr(info, data, packed)
    return out.getvalue()


def main() -> None:
    """Render every model of the list."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("deb", type=Path, help="sweethome3d-furniture_1.8-1_all.deb")
    parser.add_argument("--out", type=Path, required=True, help="folder of the archives")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--variants", type=int, default=1, help="altered copies to learn from")
    given = parser.parse_args()
    files = libraries(given.deb)
    entries = {name: catalogue(zipfile.ZipFile(io.BytesIO(data))) for name, data in files.items()}
    models: dict[str, list[Model]] = {}
    with open(LIST, newline="") as table:
        for row in csv.DictReader(table):
            entry = entries[row["collection"]][row["model"]]
            models.setdefault(row["kind"], []).append(Model(**row, entry=entry))
    for kind, those in models.items():
        jobs = [
            (m, v) for m in those for v in range(given.variants + 1 if m.split == "train" else 1)
        ]
        with ProcessPoolExecutor(given.jobs) as pool:
            found = pool.map(rendered, *zip(*[(files[m.collection], m, v) for m, v in jobs]))
            sheets = list(tqdm(found, total=len(jobs), desc=kind, unit="sheet"))
        data = archive(kind, sheets, those)
        entry = dict(
            holds=f"{len(those)} models, {len(sheets)} sheets of views, {SIZE} x {SIZE} RGBA WebP,"
            " their cameras and ATTRIBUTION.csv",
            licence="CC0 or CC-BY, by model",
            source="rendered by tools/render_objects.py from Debian sweethome3d-furniture 1.8-1",
        )
        _files.enter(given.out, f"objects_{kind}.zip", data, **entry)


if __name__ == "__main__":
    main()
