"""Facades with known cameras, as COLMAP writes them; made by the tests that read them."""

import numpy as np
from PIL import Image

WIDE, HIGH = 64, 48


def facade(root, focal=60.0, count=12, points=1500, model=None, lens=None, size=(WIDE, HIGH)):
    """A wall that fills every picture, as COLMAP's text in root/sparse/0, pictures in root/images.

    Returns:
        Points (n, 3), and for every photograph its centre and the numbers of the points it sees.
    """
    rng, (wide, high) = np.random.default_rng(0), size
    (root / "sparse/0").mkdir(parents=True)
    (root / "images").mkdir()
    flat = [rng.uniform(-20, 20, points), rng.uniform(-14, 14, points)]
    xyz = np.stack([*flat, rng.uniform(4.85, 5.15, points)], -1)
    lens = lens or f"{focal} {focal} {wide / 2} {high / 2}"
    camera = f"1 {model or 'PINHOLE'} {wide} {high} {lens}\n"
    (root / "sparse/0/cameras.txt").write_text(camera)
    lines, tracks, seen = [], [[] for _ in xyz], {}
    for i in range(count):
        at = np.array([*rng.uniform(-2, 2, 2), rng.uniform(-0.5, 0.5)])
        local = xyz - at
        u = focal * local[:, 0] / local[:, 2] + wide / 2
        v = focal * local[:, 1] / local[:, 2] + high / 2
        sees = np.flatnonzero((u >= 0) & (u < wide) & (v >= 0) & (v < high))
        for k, j in enumerate(sees):
            tracks[j].append(f"{i + 1} {k}")
        name = f"{i:03d}.png"
        pose = " ".join(map(str, -at))
        marks = " ".join(f"{u[j]} {v[j]} {j + 1}" for j in sees)
        lines.append(f"{i + 1} 1 0 0 0 {pose} 1 {name}\n{marks}\n")
        picture(root / "images" / name, i, size)
        seen[name] = at, sees
    (root / "sparse/0/images.txt").write_text("".join(lines))
    told = [
        f"{j + 1} {' '.join(map(str, p))} 0 0 0 0.1 {' '.join(tracks[j])}\n"
        for j, p in enumerate(xyz)
        if tracks[j]
    ]
    (root / "sparse/0/points3D.txt").write_text("".join(told))
    return xyz, seen


def picture(path, seed=0, size=(WIDE, HIGH), mode="RGB", **how):
    """A picture of noise; returns its pixels."""
    rng = np.random.default_rng(seed)
    channels = dict(RGB=3, RGBA=4)[mode]
    pixels = rng.integers(0, 256, (size[1], size[0], channels)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return pixels
