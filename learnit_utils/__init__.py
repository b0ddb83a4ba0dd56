"""Learned initializations for coordinate-based neural representations, in JAX.

The mathematics, one module per idea; losses and pytrees only:
    fields        coordinate networks f(theta, x)
    metrics       MSE, PSNR, SSIM, spectra
    tasks         a signal seen through a forward model, and the loss of a field on it
    inner         K steps of descent, differentiable; `Init`
    outer         MAML, FOMAML, Reptile: the direction of an init
    train         the training loop, with checkpoints
    evaluate      curves at test time, step sizes, intervals
    baselines     the paper's mean, matched and shuffled inits
    ntk           the tangent kernel, its eigenvectors, what they predict

Four rooms:
    forward       forward models, field -> measurement: pixels, tomography, reconstruct, cameras,
                  rendering, photometric
    signals       the data: faces, photos, text, sdf, phantoms, objects, landmarks, colmap, local;
                  base, transforms
    experiments   recipe, registry, run, protocol, scores, content, store, exchange, flops
    book          report, results, inits, parameters, runner, cli, figures, plots, diagrams, slider

    shipped       weights, archives and results that come with the package

A room uses the mathematics and the rooms above it; nothing uses `book`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("learnit-utils")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
