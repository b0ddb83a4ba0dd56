"""Random Shepp-Logan phantoms, with the exact line integrals of what they are made of."""

from pathlib import Path

import numpy as np

from learnit_utils import _unpickle
from learnit_utils.signals.base import (
    SPLITS,
    DataError,
    Dataset,
    check_request,
    dataset,
    drawn_dataset,
    spread,
)
from learnit_utils.signals.transforms import resize

# The modified phantom of Toft 1996, table B.1: value; semi-axes a, b; centre x, y (to the right,
# downwards); angle of a against x in radians. Lengths are in half picture sides.
MODIFIED = np.array(
    [
        [1.0, 0.69, 0.92, 0, 0, 0],
        [-0.8, 0.6624, 0.874, 0, -0.0184, 0],
        [-0.2, 0.11, 0.31, 0.22, 0, np.deg2rad(-18)],
        [-0.2, 0.16, 0.41, -0.22, 0, np.deg2rad(18)],
        [0.1, 0.21, 0.25, 0, 0.35, 0],
        [0.1, 0.046, 0.046, 0, 0.1, 0],
        [0.1, 0.046, 0.046, 0, -0.1, 0],
        [0.1, 0.046, 0.023, -0.08, -0.605, 0],
        [0.1, 0.023, 0.023, 0, -0.605, 0],
        [0.1, 0.023, 0.046, 0.06, -0.605, 0],
    ]
)
DEVIATION = 1 / 20  # of every parameter


def _perturbed(rng: np.random.Generator) -> np.ndarray:
    return MODIFIED + DEVIATION * rng.normal(size=MODIFIED.shape)


def ellipses(split: str, *, seed: int = 0, limit: int | None = None) -> np.ndarray:
    """What the phantoms of `load` are made of: (count, 10, 6), columns as in `MODIFIED`.

    Raises:
        DataError: as `load`.
    """
    found = []

    def draw(rng, part):
        found.append(_perturbed(rng))
        return np.zeros((1, 1, 1), np.float32)

    drawn_dataset(draw, split, 1, seed, limit, "ellipses")
    return np.stack(found)


def picture(shapes: np.ndarray, size: int, *, samples: int = 1, clip: bool = True) -> np.ndarray:
    """Ellipses as pixels: (size, size, 1) float32.

    Args:
        shapes: (ellipses, 6), columns as in `MODIFIED`; where they overlap their values add up.
        size: pixels of a side; pixel i lies at i / size.
        samples: points per pixel and axis that are averaged; 1 gives hard edges.
        clip: to [0, 1], as the class is; the exact line integrals are of what is not clipped.
    """
    fine = size * samples
    # The points of a pixel lie around its position.
    at = 2 * (np.arange(fine) - (samples - 1) / 2) / fine - 1
    y, x = at[:, None], at[None, :]
    total = np.zeros((fine, fine))
    for value, a, b, cx, cy, phi in shapes:
        along = (x - cx) * np.cos(phi) + (y - cy) * np.sin(phi)
        across = (y - cy) * np.cos(phi) - (x - cx) * np.sin(phi)
        total += value * ((along / a) ** 2 + (across / b) ** 2 <= 1)
    total = np.clip(total, 0, 1) if clip else total
    total = total.reshape(size, samples, size, samples).mean(axis=(1, 3))
    return total[..., None].astype(np.float32)


def sinogram(shapes: np.ndarray, angles: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The exact line integrals of ellipses, in value x picture side: (views, positions) float64.

    Args:
        shapes: as in `picture`; not clipped.
        angles: (views,) in radians; geometry as in `forward.tomography`.
        at: (positions,) of the rays on the detector, in picture sides from its middle.

    Source: Kak and Slaney 1988, section 3.1.
    """
    theta, s = np.asarray(angles, np.float64)[:, None], 2 * np.asarray(at, np.float64)[None]
    across = np.cos(theta), -np.sin(theta)  # the detector's direction: x, y
    total = np.zeros(np.broadcast_shapes(theta.shape, s.shape))
    for value, a, b, cx, cy, phi in shapes:
        near = across[0] * np.cos(phi) + across[1] * np.sin(phi)
        far = across[1] * np.cos(phi) - across[0] * np.sin(phi)
        r2 = (a * near) ** 2 + (b * far) ** 2  # the shadow's half width, squared
        inside = np.maximum(r2 - (s - cx * across[0] - cy * across[1]) ** 2, 0)
        total += value * abs(a * b) * np.sqrt(inside) / r2
    return total


def load(
    split: str = "train",
    *,
    size: int = 64,
    gray: bool = True,
    seed: int = 0,
    limit: int | None = None,
) -> Dataset:
    """Modified Shepp-Logan phantoms, every number of every ellipse off by N(0, 1) / 20.

    Args:
        gray: one channel; three equal ones otherwise.
        split, size, seed, limit: as in `base.drawn_dataset`.

    Source: the generator in the authors' earlier notebook, Tancik et al. 2020 (2d_CT).
    """

    def draw(rng, part):
        u = picture(_perturbed(rng), size)
        return u if gray else np.repeat(u, 3, axis=-1)

    return drawn_dataset(draw, split, size, seed, limit, "Shepp-Logan phantoms")


def published(
    file: str | Path,
    split: str = "train",
    *,
    size: int = 256,
    gray: bool = True,
    limit: int | None = None,
) -> Dataset:
    """The phantoms of the authors' file ct_256.pkl; nothing in the file is run.

    Its arrays `data_train` and `data_test`, (count, side, side), become the splits; the last tenth
    of `data_train` is held out for validation.

    Args:
        size: pixels of a side; resampled if the file has others.
        gray, split: as in `load`.
        limit: at most so many phantoms, spread over the split.

    Raises:
        DataError: not such a file, or values outside [0, 1].
    """
    check_request(split, size)
    name = Path(file).name
    try:
        tree = _unpickle.read(file, most=2**31)
    except _unpickle.PickleError as e:
        raise DataError(str(e)) from None
    if not isinstance(tree, dict) or not {"data_train", "data_test"} <= set(tree):
        raise DataError(f"{name}: arrays data_train and data_test are needed")
    for which in ("data_train", "data_test"):
        a = tree[which]
        if not isinstance(a, np.ndarray) or a.ndim != 3 or a.shape[1] != a.shape[2] or not a.size:
            shape = a.shape if isinstance(a, np.ndarray) else type(a).__name__
            raise DataError(f"{name}: {which} is {shape}, needed are (count, side, side) numbers")
        if not (a.min() >= 0 and a.max() <= 1):
            raise DataError(f"{name}: {which} has values outside [0, 1]")
    whole, held = tree["data_train"], max(1, len(tree["data_train"]) // 10)
    parts = dict(train=whole[:-held], validation=whole[-held:], test=tree["data_test"])
    pictures, names = [], []
    for part in SPLITS if split == "all" else (split,):
        for i in spread(len(parts[part]), limit):
            u = parts[part][i].astype(np.float32)[..., None]
            u = u if len(u) == size else resize(u, size)
            pictures.append(u if gray else np.repeat(u, 3, axis=-1))
            names.append(f"{part}/{i}")
    if not pictures:
        raise DataError(f"{name}: no phantom in split {split!r}")
    about = dict(source=f"{name}, learnit's phantoms", licence="as the file's owner says")
    return dataset(pictures, names, **about, split=split)


from_folder = published
