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
    experiments   the machinery:
                      recipe, registry, run, protocol, seeds, scores, content, store, exchange,
                      flops, memory
                  what the chapters measure, one module per question:
                      fitting, propagation, differences, rate_distortion  one network, one signal
                      spectral, wave_speeds, dictionary                   the kernel of a network
                      first_steps, rivals, transfer                       inits and what they know
                      few_views, classical, scanner, strangers            tomography
                      novel_views, studio, quadrature                     objects
                      photographs, places                                 landmarks
    book          results, report, inits, parameters, runner, cli;
                  figures, diagrams, slider, and plots with a module per subject:
                      chapters, networks, spectral, meta, transfer, charts, kernel, tomography,
                      protocol, renderings, photographs

    shipped       weights, archives and results that come with the package

A room uses the mathematics and the rooms above it; nothing uses `book`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("learnit-utils")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
