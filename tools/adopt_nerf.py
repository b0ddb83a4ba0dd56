"""Take chapter 7's measurements of before, filed by names, into the format that files by content.

`python tools/adopt_nerf.py` reads the files from the repository's history and writes them into
`learnit_utils/shipped/results`, each piece described as the chapter asks for it, under a key that
holds its place. Then `learnit run 07_simple_nerf --table recertify` finds them by description,
measures a sample again, and files all under their content; `learnit ship-results` takes those into
the package. Only this once, and kept as a record of where the numbers come from.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from learnit_utils import _files, shipped
from learnit_utils.book.results import _packed

ROOT, COMMIT = Path(__file__).resolve().parent.parent, "d0a5149"
FOLDER = "learnit_utils/measurements"
KINDS, MAIN = ("chairs", "cars", "lamps"), "chairs"
DEVICE = "2 CPU cores, not recorded more closely"
STALE = [f"nerf_{kind}_{part}.json" for kind in KINDS for part in ("tune", "table")]
STALE += ["nerf_converge.json"]


def git(*words: str) -> str:
    """What git says."""
    return subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def old(name: str) -> tuple[dict, dict, dict]:
    """Values, settings and provenance of a file of before."""
    path = f"{FOLDER}/{name}.json"
    found = json.loads(git("show", f"{COMMIT}:{path}"))
    commit, date = git("log", "-1", "--format=%h,%cs", COMMIT, "--", path).strip().split(",")
    where = dict(commit=commit, date=date, device=DEVICE, versions=dict(jax=found["jax"]))
    return found["values"], found["settings"], where


class Adopted:
    """The pieces of a study, in the order they are added."""

    def __init__(self, study: str):
        self.study, self.entries = study, []

    def add(self, value: dict, provenance: dict, **about) -> None:
        """A piece by its description."""
        key = f"adopted/{self.study}/{len(self.entries)}"
        entry = dict(key=key, about=about, value=value, seconds=None, provenance=provenance)
        self.entries.append(entry)

    def write(self) -> None:
        """Enter the study's file."""
        text = json.dumps(_packed(self.study, self.entries), ensure_ascii=False) + "\n"
        where, count = shipped.ROOT / "results", len(self.entries)
        _files.enter(where, f"{self.study}.json", text.encode(), pieces=count, seconds=0)


def renamed(name: str, density: str) -> str:
    """An init as the chapter calls it now."""
    return f"standard ({density})" if name == "standard" else name


def chosen(tuned: dict, name: str, every: int) -> tuple[str, str, float, int, float]:
    """Name now, optimizer, step size, step and value that validation chose for an init."""
    mine = {k: v for k, v in tuned.items() if k.split("/")[1] == name}
    best = max(mine, key=lambda k: max(mine[k]))
    _, _, optimizer, lr, density = best.split("/")
    step = int(np.argmax(mine[best])) * every
    return renamed(name, density), optimizer, float(lr), step, max(mine[best])


def adopt_class(kind: str) -> None:
    """Validation curves and test scores of a class of objects."""
    study, (tuned, settings, where) = Adopted(f"nerf_{kind}"), old(f"nerf_{kind}_tune")
    for key, curve in tuned.items():
        _, name, optimizer, lr, density = key.split("/")
        about = dict(init=renamed(name, density), optimizer=optimizer, lr=float(lr))
        study.add(dict(psnr=curve), where, **about, of="validation")
    tested, _, where = old(f"nerf_{kind}_table")
    for key, values in tested.items():
        _, name, seed = key.split("/")
        init, optimizer, lr, step, _ = chosen(tuned, name, settings["every"])
        about = dict(init=init, seed=int(seed), optimizer=optimizer, lr=lr, step=step, of="test")
        study.add(dict(psnr=values), where, **about)
    study.write()


def adopt_collapse() -> None:
    """Random inits fitted to 25 views, one piece each."""
    study, (values, settings, where) = Adopted("nerf_collapse"), old("nerf_collapse")
    for key, ends in values.items():
        density, optimizer, lr = key.split("/")
        about = dict(init=density, optimizer=optimizer, lr=float(lr), step=settings["cap"])
        for seed, end in enumerate(ends):
            study.add(dict(psnr=[end]), where, **about, seed=seed, of="test")
    study.write()


def adopt_views(standard: str, tuned: dict, every: int) -> None:
    """Outcomes by number of views, and long fits from all of them.

    The validation score of an outcome is known for one view alone.
    """
    study, (values, settings, where) = Adopted("nerf_views"), old("nerf_views")
    now = dict(standard=standard)
    lrs: dict[str, list[float]] = {}
    for key in tuned:
        _, _, optimizer, lr, _ = key.split("/")
        lrs.setdefault(optimizer, []).append(float(lr))
    for key, found in values.items():
        name, views = key.split("/")
        optimizer, lr, step = found["chosen"]
        edge = lr in (min(lrs[optimizer]), max(lrs[optimizer]))
        value = chosen(tuned, name, every)[-1] if views == "1" else None
        choice = dict(optimizer=optimizer, lr=lr, step=step, at_edge=edge, value=value)
        both = dict(choice=choice, test=dict(psnr=found["test"]))
        study.add(both, where, init=f"{now.get(name, name)}, {views} views", of="outcome")
    courses, _, where = old("nerf_converge")
    for name, course in courses.items():
        optimizer, lr, _ = values[f"{name}/{max(settings['views'])}"]["chosen"]
        about = dict(init=now.get(name, name), seed=0, optimizer=optimizer, lr=lr, of="course")
        study.add(dict(psnr=course), where, **about)
    study.write()


def main() -> int:
    """Write the new files and remove the old ones."""
    for kind in KINDS:
        adopt_class(kind)
    tuned, settings, _ = old(f"nerf_{MAIN}_tune")
    standard = chosen(tuned, "standard", settings["every"])[0]
    adopt_collapse()
    adopt_views(standard, tuned, settings["every"])
    folder = shipped.ROOT / "results"
    with _files.locked(folder / ".manifest.lock", wait=60):
        entries = _files.manifest(folder)
        left = {name: entry for name, entry in entries.items() if name not in STALE}
        _files.write(folder / _files.MANIFEST, _files.manifest_text(left))
        for name in STALE:
            (folder / name).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
