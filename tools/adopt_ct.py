"""Take chapter 6's measurements of before, filed by names, into the format that files by content.

`python tools/adopt_ct.py` reads the files from the repository's history and writes them into
`learnit_utils/shipped/results`, each piece described as the chapter asks for it, under a key that
holds its place. Then `learnit run 06_ct --table recertify` finds them by description, measures a
sample again, and files all under their content; `learnit ship-results` takes those into the
package. Only this once, and kept as a record of where the numbers come from.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from learnit_utils import _files, shipped
from learnit_utils.book.results import _packed
from learnit_utils.experiments import few_views
from learnit_utils.forward.reconstruct import WINDOWS

ROOT, COMMIT = Path(__file__).resolve().parent.parent, "d0a5149"
FOLDER = "learnit_utils/measurements"
DEVICE = "2 CPU cores, not recorded more closely"
VIEWS, LIVE_VIEWS = (1, 2, 4, 8), 4  # of the tables; of the choice of sigma
STALE = ("ct_tune.json", "ct_test.json")


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


def kept(values) -> list:
    """PSNR as it is kept now: None where a fit diverged, which was 0 before."""
    a = np.array(values, np.float64)
    return np.where((a != 0) & (np.abs(a) < 1e6), a, None).tolist()


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


def choices(tuned: dict, settings: dict) -> dict[tuple[str, int], tuple[str, float, int]]:
    """(init, views) -> optimizer, step size and step, as validation chose them."""
    found = {}
    for name in dict.fromkeys(piece.split("/")[0] for piece in tuned):
        for views in VIEWS:
            curves = {(o, r): tuned[f"{name}/{views}/{o} {r:g}"] for o, r in settings["grid"]}
            best = max(curves, key=lambda pair, curves=curves: max(curves[pair]))
            found[name, views] = (*best, int(np.argmax(curves[best])) * settings["every"])
    return found


def table() -> tuple[Adopted, dict]:
    """The study of chapter 6's tables, and what was chosen there."""
    study, (tuned, settings, where) = Adopted("ct"), old("ct_tune")
    for piece, curve in tuned.items():
        name, views, pair = piece.split("/")
        optimizer, lr = pair.split()
        about = dict(init=few_views.label(name, int(views)), optimizer=optimizer, lr=float(lr))
        study.add(dict(psnr=kept(curve)), where, **about, of="validation")
    chosen = choices(tuned, settings)
    tested, _, where = old("ct_test")
    for piece, found in tested.items():
        name, seed, views = piece.split("/")
        value = dict(psnr=kept(found["psnr"]))
        if "setting" in found:
            value = dict(setting=found["setting"]) | value
            study.add(value, where, method=name, views=int(views))
            continue
        optimizer, lr, step = chosen[name, int(views)]
        about = dict(init=few_views.label(name, int(views)), seed=int(seed), optimizer=optimizer)
        study.add(value, where, **about, lr=lr, step=step, of="test")
    return study, chosen


def sigma() -> Adopted:
    """The study of the scale of the frequencies."""
    study, (values, _, where) = Adopted("ct_sigma"), old("ct_sigma")
    for piece, best in values.items():
        name, scale = piece.split("/")
        init = few_views.label(f"{name}, sigma {scale}", LIVE_VIEWS)
        study.add(best, where, init=init, of="best")
    return study


def sweep(chosen: dict) -> Adopted:
    """The study of many views: each old piece held the validation curve and the test courses."""
    study, (values, _, where) = Adopted("ct_sweep"), old("ct_sweep")
    for piece, found in values.items():
        name, views, noise = piece.split("/")
        if name == "FBP":  # a column for each window
            best = int(np.argmax(found["held"]))
            psnr = kept(np.array(found["test"])[:, best])
            value = dict(setting=dict(window=WINDOWS[best]), psnr=psnr)
            study.add(value, where, method=name, views=int(views), noise=float(noise))
            continue
        nearest = max(v for v in VIEWS if v <= int(views))
        optimizer, lr, _ = chosen[name, nearest]
        init = f"{few_views.label(name, int(views))}, noise {noise}"
        how = dict(optimizer=optimizer, lr=lr)
        study.add(dict(psnr=kept(found["held"])), where, init=init, **how, of="validation")
        study.add(dict(psnr=kept(found["test"])), where, init=init, seed=0, **how, of="course")
    return study


def main() -> int:
    """Write the studies, and take the files of before out of the package."""
    tables, chosen = table()
    for study in (tables, sigma(), sweep(chosen)):
        study.write()
        print(f"{study.study}: {len(study.entries)} pieces")
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
