"""Reconstructions without a network, scored like the networks: FBP, SART and total variation."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from learnit_utils.forward import reconstruct
from learnit_utils.metrics import SMALLEST, decibel
from learnit_utils.tasks import Tasks

# name -> (method of `forward.reconstruct`, the settings that validation scans choose from)
METHODS = {
    "FBP": (reconstruct.fbp, [dict(window=w) for w in reconstruct.WINDOWS]),
    "SART": (
        reconstruct.sart,
        [dict(rounds=n, relaxation=r) for n in (1, 4, 16, 64) for r in (0.15, 0.5, 1.0)],
    ),
    "TV": (
        reconstruct.tv,
        [dict(weight=w, rounds=1000) for w in (1e-7, 1e-6, 3e-6, 1e-5, 1e-4, 1e-3)],
    ),
}


def psnr(method: Callable[..., np.ndarray], scans: Tasks, setting: Mapping[str, Any]) -> np.ndarray:
    """PSNR in dB of pictures clipped to [0, 1], scan by scan: (count,); finite for a perfect one.

    Args:
        method: (sinogram (views, n), angles (views,), **setting) -> picture (n, n).
        scans: from `tomography.scan_tasks`.
        setting: of the method.
    """
    angles, errors = np.asarray(scans.shared[1]), []
    for sinogram, truth in zip(np.asarray(scans.each.support), np.asarray(scans.each.query)):
        picture = np.clip(method(sinogram, angles, **setting), 0, 1)
        errors.append(np.mean((picture.reshape(truth.shape) - truth) ** 2))
    return decibel(np.maximum(errors, SMALLEST))
