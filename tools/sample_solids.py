"""Sample furniture models into the solids whose signed distance chapter 9 learns.

    apt-get download sweethome3d-furniture=1.8-1         # 120 MB; or Debian's snapshot of it
    pip install .[scenes]
    python tools/sample_solids.py sweethome3d-furniture_*.deb --out learnit_utils/shipped/archives

Writes solids.zip for chairs and lamps: per model CELLS x CELLS x CELLS bits, in the layout that
`learnit_utils.signals.solids` reads, with ATTRIBUTION.csv. Models, splits, licences and upright
positions are those of tools/render_objects.py. The same archive and versions give the same bytes.

What is inside? The models are drawn to be looked at: surfaces with gaps, without an inside, or
through one another. So the cube is cut into cells; those that a surface goes through are solid,
and so is every cell that cannot be reached from the corner of the cube through the faces of cells
that are not. Every surface is thereby at least one cell thick, and a model with a gap wider than
a cell is a hollow shell.
"""

import argparse
import csv
import io
import json
import lzma
import sys
import zipfile
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm
from trimesh.remesh import subdivide_to_size

from learnit_utils import _files

sys.path.insert(0, str(Path(__file__).parent))
import render_objects as models

KINDS = ("chairs", "lamps")
CELLS = 96  # of a side
EXTENT = 0.8  # of the longest side of a model, in sides of the cube
STEEPEST = 30  # subdivisions of a triangle


def placed(vertices: np.ndarray) -> np.ndarray:
    """Vertices (v, 3) in the cube [0, 1]^3: the box around them in its middle, EXTENT long."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return (vertices - (low + high) / 2) * (EXTENT / (high - low).max()) + 0.5


def crossed(vertices: np.ndarray, faces: np.ndarray, cells: int = CELLS) -> np.ndarray:
    """The cells that a surface goes through: (cells, cells, cells) of bool.

    Triangles are cut until no edge is longer than half a cell, and their corners are counted.

    Args:
        vertices: (v, 3) in [0, 1)^3.
        faces: (f, 3), of numbers of vertices.
    """
    corners, _ = subdivide_to_size(vertices, faces, max_edge=0.5 / cells, max_iter=STEEPEST)
    shell = np.zeros((cells,) * 3, bool)
    shell[tuple(np.floor(corners * cells).astype(int).clip(0, cells - 1).T)] = True
    return shell


def filled(shell: np.ndarray) -> np.ndarray:
    """A shell and everything that cannot be reached from the cube's corner: of bool."""
    rooms, _ = ndimage.label(~shell)  # neighbours share a face
    return rooms != rooms[0, 0, 0]


def archive(solids: dict[str, np.ndarray], those: list) -> bytes:
    """solids.zip, the same bytes for the same contents.

    Args:
        solids: name of a model -> cells (CELLS, CELLS, CELLS) of bool, x first, z upwards.
        those: the models.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["name", "title", "author", "licence", "source"])
    for m in those:
        told = (m.entry["name"], m.entry.get("creator", "unknown"), models.LICENCES[m.collection])
        writer.writerow([m.name, *told, f"Sweet Home 3D 1.8, {m.collection}, {m.entry['model']}"])
    listed = {m.name: dict(kind=m.kind, split=m.split) for m in those}
    told = dict(cells=CELLS, extent=EXTENT, models=listed)
    members = {"ATTRIBUTION.csv": table.getvalue().encode()}
    members["solids.json"] = json.dumps(told, separators=(",", ":")).encode()
    members |= {f"{name}.xz": packed(cells) for name, cells in solids.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            z.writestr(info, data, zipfile.ZIP_STORED)
    return out.getvalue()


def packed(cells: np.ndarray) -> bytes:
    """Cells as bits, eight a byte, compressed."""
    return lzma.compress(np.packbits(cells).tobytes(), preset=9 | lzma.PRESET_EXTREME)


def listed(entries: dict) -> list:
    """The models of `KINDS` in the list of models.

    Args:
        entries: collection -> model -> its properties in the catalogue.
    """
    with open(models.LIST, newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["kind"] in KINDS]
    return [models.Model(**r, entry=entries[r["collection"]][r["model"]]) for r in rows]


def main() -> None:
    """Sample every model of the list."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("deb", type=Path, help="sweethome3d-furniture_1.8-1_all.deb")
    parser.add_argument("--out", type=Path, required=True, help="folder of the archive")
    given = parser.parse_args()
    files = {n: zipfile.ZipFile(io.BytesIO(d)) for n, d in models.libraries(given.deb).items()}
    those, solids = listed({n: models.catalogue(library) for n, library in files.items()}), {}
    for m in tqdm(those, unit="model"):
        s = models.solid(files[m.collection], m.entry)
        solids[m.name] = filled(crossed(placed(s.vertices), s.faces))
    entry = dict(
        holds=f"{len(those)} models, {CELLS}^3 bits each, and ATTRIBUTION.csv",
        licence="CC0 or CC-BY, by model",
        source="sampled by tools/sample_solids.py from Debian sweethome3d-furniture 1.8-1",
    )
    _files.enter(given.out, "solids.zip", archive(solids, those), **entry)


if __name__ == "__main__":
    main()
