"""Adopt the measurements of landmarks that were filed by names, not by content.

`python tools/adopt_photos.py` reads them from git as they last were (commit OLD), files each piece
under what chapter 8 now says of it, with a placeholder for a key, and removes the old files. Then

    learnit run 08_phototourism --table recertify --out OUT
    learnit ship-results OUT/pieces/STUDY

measures a sample of them again and gives every piece its key.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from learnit_utils import _files, shipped
from learnit_utils.book import results

ROOT = Path(__file__).resolve().parent.parent
OLD, FOLDER = "d0a5149", "learnit_utils/measurements"
PLACES = ("gate", "fountain", "basilica")
METRICS = ("right half", "other views")
DEVICE = "2 CPU cores, not recorded more closely"


def git(*words: str) -> str:
    """What git says."""
    return subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def old(name: str) -> tuple[dict, dict]:
    """A file of measurements, and where it comes from."""
    path = f"{FOLDER}/{name}.json"
    found = json.loads(git("show", f"{OLD}:{path}"))
    commit, date = git("log", "-1", "--format=%h,%cs", OLD, "--", path).strip().split(",")
    versions = dict(jax=found["jax"])
    return found, dict(commit=commit, date=date, device=DEVICE, versions=versions)


def by_metric(psnr: list) -> dict[str, list]:
    """(photographs, 1 + others) as one number per metric and photograph."""
    values = np.array(psnr)
    half, others = values[:, 0], values[:, 1:].mean(axis=1)
    return {m: np.round(v, 4).tolist() for m, v in zip(METRICS, (half, others))}


def curves(place: str):
    """(about, value, provenance) of every fit of the grid on validation photographs."""
    found, where = old(f"photos_{place}_tune")
    for name, marks in found["values"].items():
        _, init, optimizer, lr = name.split("/")
        about = dict(init=init, optimizer=optimizer, lr=float(lr), of="validation")
        yield about, dict(zip(METRICS, np.array(marks).T.tolist())), where


def tested(place: str):
    """(about, value, provenance) of every init on test photographs."""
    found, where = old(f"photos_{place}_table")
    its = found["settings"]
    rules = {str(mark): ("SGD", its["rate"], mark) for mark in its["marks"]}
    for name, values in found["values"].items():
        _, init, seed, *_ = name.split("/")
        best = {f"best/{k}": tuple(its["chosen"][f"{init}/{k}"]) for k in (0, 1)}
        for at, (optimizer, lr, step) in (rules | best).items():
            about = dict(init=init, seed=int(seed), optimizer=optimizer, lr=lr, step=step)
            yield about | dict(of="test"), by_metric(values[at]), where
        about = dict(init=init, seed=int(seed), optimizer="SGD", lr=its["rate"])
        about |= dict(step=min(its["marks"]), of="ssim")
        yield about, dict(zip(METRICS, np.array(values["ssim"]).T.tolist())), where


def depths(place: str):
    """(about, value, provenance) of the depths of the gate."""
    found, where = old(f"photos_{place}_depth")
    for name, psnr in found["values"].items():
        init, step = name.split("/")
        about = dict(init=init, optimizer="SGD", lr=found["settings"]["rate"], step=int(step))
        yield about | dict(of="depth"), psnr, where


def adopt(study: str, pieces) -> int:
    """File pieces under placeholder keys; of two with the same description, the first."""
    entries, seen = [], set()
    for about, value, where in pieces:
        text = json.dumps(about, sort_keys=True)
        if text not in seen:
            seen.add(text)
            entry = dict(key=f"adopted/{len(entries)}", about=about, value=value, seconds=None)
            entries.append(entry | dict(provenance=where))
    packed = json.dumps(results._packed(study, entries), ensure_ascii=False) + "\n"
    into = shipped.ROOT / "results"
    _files.enter(into, f"{study}.json", packed.encode(), pieces=len(entries), seconds=0)
    return len(entries)


def remove(*names: str) -> None:
    """Take files out of the shipped results."""
    folder = shipped.ROOT / "results"
    with _files.locked(folder / ".manifest.lock", wait=60):
        entries = {k: v for k, v in _files.manifest(folder).items() if k not in names}
        _files.write(folder / _files.MANIFEST, _files.manifest_text(entries))
        for name in names:
            (folder / name).unlink(missing_ok=True)


def main() -> int:
    """Adopt all of them."""
    for place in PLACES:
        count = adopt(f"photos_{place}", (*curves(place), *tested(place)))
        print(f"photos_{place}: {count} pieces")
        remove(f"photos_{place}_tune.json", f"photos_{place}_table.json")
    print(f"photos_gate_depth: {adopt('photos_gate_depth', depths('gate'))} pieces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
