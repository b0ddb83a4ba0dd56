"""The runs whose inits ship, by name, and what was found when their settings were chosen."""

import numpy as np

from learnit_utils.experiments.recipe import Recipe
from learnit_utils.experiments.shared_training import SharedRecipe
from learnit_utils.forward import waveform
from learnit_utils.signals import landmarks, voices

QUICK = dict(decay="cosine", warmup=50, steps=1500, precision="float16")
TUNED = dict(**QUICK, outer_lr=3e-4, clip=1.0)


def _ct(sigma: float) -> dict:
    """Tomography; sigma in radians per picture side, as learnit's notebook counts."""
    net = dict(kind="fourier", width=64, depth=4, sigma=sigma / (2 * np.pi), features=48)
    net |= dict(channels=1, scheme="lecun", head="sigmoid", offset=0.0)
    data = dict(signals="phantoms", size=48, limit=2048, forward="tomography", batch=1)
    descent = dict(inner_lr=10.0, outer_lr=3e-3, decay="cosine", warmup=100, clip=1.0, steps=5000)
    return dict(**data, **descent, field=net)


def _objects(kind: str, **options) -> dict:
    """Simple-NeRF, as the authors' notebook `shapenet`, smaller."""
    net = dict(kind="posenc", width=64, depth=6, frequencies=6, max_log2=4.0, scale=1.0)
    net |= dict(channels=4, dims=3, scheme="lecun", head="linear", offset=0.0)
    data = dict(signals="objects", size=128, gray=False, forward="object_views", batch=1)
    data |= dict(options=dict(kind=kind, **options), precision="float16")
    descent = dict(method="reptile", inner_steps=32, inner_lr=0.5, outer_lr=2e-3)
    return dict(**data, **descent, decay="cosine", warmup=100, steps=4000, field=net)


def _landmark(name: str, inner_steps: int) -> dict:
    """Simple-NeRF of a place, as the authors' notebook `phototourism`, smaller.

    Every run takes as many gradients; with one inner step this is ordinary training on all
    photographs, with Adam.
    """
    data = dict(signals="landmarks", size=120, gray=False, forward="photographs", batch=1)
    data |= dict(options=dict(landmark=name), precision="float16")
    descent = dict(method="reptile", inner_steps=inner_steps, inner_lr=1.0)
    descent |= dict(outer_lr=5e-4 if inner_steps == 1 else 2e-3, decay="cosine", warmup=100)
    descent |= dict(steps=128000 // inner_steps)
    field = _objects("chairs")["field"] | dict(frequencies=10, max_log2=6.0)
    return dict(**data, **descent, field=field)


def _voices(**more) -> dict:
    """Sung vowels of an eighth of a second; the waves of the first layer go up to a pitch."""
    omega0 = round(waveform.reach(voices.PITCH, 1024 / voices.RATE))
    net = dict(kind="siren", width=128, depth=4, omega0=omega0, hidden_omega0=30.0)
    net |= dict(channels=1, dims=1)
    data = dict(signals="voices", size=1024, forward="waveform")
    return dict(**QUICK, **data, outer_lr=1e-3, clip=1.0, field=net, **more)


def _solids(kind: str) -> dict:
    """MetaSDF on solids, smaller: five steps, each with a step size of its own per weight."""
    net = dict(kind="siren", width=64, depth=4, omega0=40.0, channels=1, dims=3)
    data = dict(signals="solids", size=32, forward="signed_distance", rays=1024, batch=2)
    data |= dict(options=dict(kind=kind, variants=1), precision="float16")
    descent = dict(inner_steps=5, inner_lr=1e-2, step_sizes="parameter_step", step_sizes_lr=3e-3)
    descent |= dict(outer_lr=1e-3, decay="cosine", warmup=50, clip=1.0, steps=3000)
    return dict(**data, **descent, field=net)


CT, EARLY = _ct(2.5), dict(steps=9600, decay="constant")
RECIPES = {
    # Faces, with the dictionary paper's settings (its meta_learn.py), and with fewer steps.
    # The first in full precision: chapter 3 checks that it repeats what its run measured last.
    "faces64_maml": Recipe(),
    "faces64_maml_tuned": Recipe(**TUNED, snapshots=(10, 50, 200, 700)),
    "faces64_fomaml": Recipe(**TUNED, method="fomaml"),
    "faces64_reptile": Recipe(**QUICK, method="reptile", outer_lr=3e-4),
    "faces64_metasgd": Recipe(**TUNED, step_sizes="parameter_step", step_sizes_lr=1e-3),
    # Other classes, with the settings that were found for faces, and two classes at once.
    "photos64_maml_tuned": Recipe(**TUNED, signals="photos", options=dict(crops=2)),
    "text64_maml_tuned": Recipe(**TUNED, signals="text"),
    "sdf64_maml_tuned": Recipe(**TUNED, signals="sdf"),
    "faces_text64_maml_tuned": Recipe(**TUNED, signals="faces+text"),
    # How many pictures are needed.
    "text64_of_5": Recipe(**TUNED, signals="text", limit=5),
    "text64_of_20": Recipe(**TUNED, signals="text", limit=20),
    "text64_of_80": Recipe(**TUNED, signals="text", limit=80),
    # Twice the inner steps for about the same work: each uses a quarter of the pixels.
    "faces64_pruned": Recipe(**TUNED, inner_steps=4, context_fraction=0.25),
    # Tomography, as the authors' notebook 2d_ct, smaller; the same outer steps for all three, each
    # with the sigma that chapter 6 finds best for it on validation phantoms. The others again, for
    # longer than MAML takes with 12 steps.
    "ct48_reptile12": Recipe(**CT, method="reptile", inner_steps=12),
    "ct48_maml3": Recipe(**CT, method="maml", inner_steps=3),
    "ct48_maml12": Recipe(**_ct(10), method="maml", inner_steps=12),
    "ct48_reptile12_long": Recipe(**CT | dict(steps=18000), method="reptile", inner_steps=12),
    "ct48_maml3_long": Recipe(**CT | dict(steps=22000), method="maml", inner_steps=3),
    # Objects from photographs: with all 25 views of every training object (mv), or only the first
    # of each (sv). Three seeds of the first.
    "chairs128_mv": Recipe(**_objects("chairs")),
    "chairs128_mv_1": Recipe(**_objects("chairs"), seed=1),
    "chairs128_mv_2": Recipe(**_objects("chairs"), seed=2),
    "cars128_mv": Recipe(**_objects("cars")),
    "lamps128_mv": Recipe(**_objects("lamps")),
    "chairs128_sv": Recipe(**_objects("chairs", views=1)),
    "cars128_sv": Recipe(**_objects("cars", views=1)),
    "lamps128_sv": Recipe(**_objects("lamps", views=1)),
    # Photographs of a place: with 64 inner steps, and with one; the latter also stopped early,
    # where validation photographs of two landmarks are best, 9600 steps in.
    **{
        f"{name}_reptile{k}": Recipe(**_landmark(name, k))
        for name in landmarks.LANDMARKS
        for k in (64, 1)
    },
    "gate_reptile64_1": Recipe(**_landmark("gate", 64), seed=1),
    **{f"{n}_reptile1_early": Recipe(**_landmark(n, 1) | EARLY) for n in landmarks.LANDMARKS},
    # Sung vowels, with plain inner steps and with learned step sizes.
    "voices1024_maml": Recipe(**_voices()),
    "voices1024_metasgd": Recipe(**_voices(step_sizes="parameter_step", step_sizes_lr=1e-3)),
    # Signed distances of chairs, MetaSDF's way.
    "chairs32_metasdf": Recipe(**_solids("chairs")),
    # A class of your own: `learnit train own --set folder=DIR`.
    "own": Recipe(**TUNED, signals="local", options=dict(proportions="common")),
}

# Networks that many signals share, chapter 9: shared parts of one size, within a tenth.
WIDE, SMALL = dict(width=128, depth=4), dict(width=64, depth=4)
BILEVEL = dict(training="bilevel", batch=3, outer_lr=3e-4, steps=1500)
SHAPES = dict(signals="shapes", own_lr=1e-2)
SHARED = {
    "faces64_codes": SharedRecipe(
        network=dict(kind="codes", width=112, depth=4, code=64), prior=1e-3, outer_lr=3e-3
    ),
    "faces64_encoder": SharedRecipe(
        network=dict(kind="encoder", width=70, depth=4, code=64, side=64, layers=3),
        training="amortised",
    ),
    "faces64_hypernetwork": SharedRecipe(
        network=dict(kind="hypernetwork", width=48, depth=4, code=40, side=64, rank=1),
        training="amortised",
    ),
    "faces64_modulations": SharedRecipe(
        network=dict(kind="codes", width=88, depth=4, code=64, layers=3, scale=8.0),
        **BILEVEL,
    ),
    "faces64_heads": SharedRecipe(network=dict(kind="heads", **WIDE), limit=10, batch=10),
    "faces64_small_maml": SharedRecipe(
        network=dict(kind="weights", **WIDE), inner_steps=2, inner_lr=1e-2, **BILEVEL
    ),
    "faces64_small_metasgd": SharedRecipe(
        network=dict(kind="weights", **WIDE),
        **BILEVEL,
        inner_steps=2,
        inner_lr=1e-2,
        step_sizes="parameter",
        own_lr=1e-3,
    ),
    # Signed distances: an auto-decoder, and Meta-SGD from all distances or those near the curve.
    "shapes64_codes": SharedRecipe(
        network=dict(kind="codes", width=56, depth=4, code=32), prior=1e-3, **SHAPES
    ),
    **{
        f"shapes64_metasdf_{look}": SharedRecipe(
            network=dict(kind="weights", **SMALL),
            **BILEVEL,
            inner_steps=5,
            inner_lr=1e-2,
            step_sizes="parameter_step",
            signals="shapes",
            own_lr=1e-3,
            look=look,
        )
        for look in ("all", "near")
    },
}

# What was found when settings were chosen, on validation tasks: prefix of the names -> finding.
FINDINGS = {
    "faces64_maml_tuned": "Over 200 steps an outer step size of 1e-3 did best of 1e-4, 3e-4 and "
    "1e-3, but training collapsed within the first 200 steps of a long run.",
    "faces64_fomaml": "The same outer step size for all three methods; 1e-4 gave FOMAML 18.9 dB, "
    "1e-3 less. Where FOMAML ends is chaotic: 16.1 dB, and 19.0 on pictures that differed in their "
    "last bits.",
    "faces64_reptile": "An outer step size of 1e-4 gave 19.5 dB, 1e-3 less.",
    "faces64_pruned": "On text the same settings collapse: 15.2 dB on validation pages after 250 "
    "outer steps, 8.2 after 750.",
    "faces64_codes": "After 800 steps 22.1 dB; with an outer step size of 1e-3 21.7, and 21.9 with "
    "that and three times the step size of the codes.",
    "faces64_encoder": "After 800 steps 20.1 dB; 19.7 with a code that shifts the first layer "
    "only.",
    "faces64_hypernetwork": "After 800 steps 20.3 dB; 20.2 with an outer step size of 3e-3.",
    "faces64_modulations": "After 600 steps 20.3 dB. With an outer step size of 1e-3 19.4 after "
    "300, and 14.5 after 800: it collapsed.",
    "voices1024_maml": "After 300 outer steps 19.2 dB; with waves of the first layer up to 60 Hz "
    "18.9, with an inner step size of 0.1 17.3. Clips of 2048 samples and a width of 64 gave 17.1 "
    "after 400, 16.7 with waves up to 500 Hz, 16.1 up to 1000 Hz; silence is 16.6.",
    "voices1024_metasgd": "After 300 outer steps 24.4 dB; with waves of the first layer up to "
    "400 Hz 22.3, with three times the outer step size of the step sizes 24.2.",
    "chairs32_metasdf": "After 300 steps 29.1 dB at held-out points with omega 40; 28.6 with 30, "
    "with or without altered copies; 28.1 with 30 and an outer step size of 3e-3. With 1e-3 for "
    "that of the step sizes: omega 30 28.4, 20 27.7; 20 and an outer step size of 3e-4 25.3, and "
    "25.5 from twice the points.",
    "chairs128": "After 1500 outer steps and 100 to 200 of the test: 19.1 dB; 8 frequencies up to "
    "2^5 18.2; with those, twice the width or the rays 18.4, an inner step size of 1 18.3, 64 "
    "inner steps 18.9, four objects a step 18.4.",
    "gate": "10 frequencies up to 2^6 gave 22.5 dB, 8 up to 2^5 21.6; in a fifth of the steps, 12 "
    "up to 2^7 18.6, those 10 17.8 and 19.6 with two seeds. With one inner step an outer step size "
    "of 2e-3 came to 18.8 dB within 8000 steps and fell to 16.4 by the end; 5e-4 to 18.9 and 17.9.",
}
