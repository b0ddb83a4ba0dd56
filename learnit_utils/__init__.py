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

Four rooms: `forward`, from a field to what is measured of it; `signals`, the data; `experiments`,
from a recipe to a trained init, and from trained inits to a table; `book`, what exists because
there is a book. Beside them `shipped`: weights, archives and results that come with the package.

    forward/      pixels, waveform, tomography, fan_beam, reconstruct, cameras, rendering,
                  photometric, signed_distance
    signals/      faces, photos, text, sdf, phantoms, objects, landmarks, shapes, glyphs, voices,
                  solids, local, album, colmap, nerf, shapenet, scans (readers of files and folders)
                  base, places, transforms (what they share)
    experiments/  recipe, settings, registry, run, protocol, seeds, scores, content, store,
                  exchange, flops, memory (the machinery)
                  fitting, propagation, differences, rate_distortion (one network, one signal)
                  spectral, wave_speeds, dictionary (the kernel of a network)
                  first_steps, rivals, transfer, sounds (inits and what they know)
                  few_views, classical, scanner, strangers (tomography)
                  novel_views, studio, quadrature (objects)
                  photographs, places (landmarks)
                  shared_networks, shared_losses, shared_training, sharing, linear_codes,
                  contours, level_sets, solids (one network, many signals)
                  convolution, classifiers, episodes, few_shot, shifts, first_order (few shots)
                  descent, recurrent, learned_optimizer, optimizer_contest, sparse_codes
                  (optimizers, by hand and learned)
    book/         results, report, inits, parameters, runner, cli, figures, diagrams, slider
    book/plots/   chapters, networks, spectral, meta, transfer, charts, kernel, tomography,
                  protocol, renderings, photographs, sharing, solids, convolution, few_shot,
                  optimizers, sounds
                  (a module per subject)

A room uses the mathematics and the rooms above it; nothing uses `book`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("learnit-utils")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
