"""Results that take longer than a page may: measured piece by piece, kept, shipped, certified.

A piece is the value of a function of given arguments, filed under the content of both
(`experiments.content`). It says where it comes from: commit, date, device, versions, seconds. So a
page can show measurements that ship and cannot show those of other inits, data, settings or code.

When code changes without changing results, `recertify` measures a sample of the pieces again, and
if all agree files the rest under their new content, with a note of what was sampled. If one differs
it stops, and measures the whole study when it is called again.
"""

import datetime
import json
import lzma
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from learnit_utils import _files, shipped
from learnit_utils.book import report
from learnit_utils.experiments import store
from learnit_utils.experiments.content import digest
from learnit_utils.experiments.protocol import Pieces

FOLDER, INDEX = "pieces", "index.json"  # in a run's folder; per study, what this run asked for
SHIPPED = ".json.xz"  # of a study's pieces in the package
ANEW = "anew"  # marks a study of which a sample did not agree
CHOICES = ("book", "auto", "run", "recertify")
EVERY = 12  # of the pieces that `recertify` files anew, one in so many is measured again
SAMPLED = 1e6  # pieces of a larger cost are never measured again to certify others
TOLERANCE = 0.1  # dB, of a mean over tasks, after fits of hundreds of steps


class ResultsError(ValueError):
    """Results that are missing or do not agree; the message is one line."""


class Sample(NamedTuple):
    """A kept piece beside the same piece measured now."""

    about: Mapping[str, Any]
    kept: Any
    now: Any
    difference: float


def provenance() -> dict[str, Any]:
    """Commit, date, device and versions of what is measured now."""
    run = report.running() or {}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return dict(commit=run.get("commit", ""), date=today, **store.environment())


def open(choice: str) -> "Results":
    """The kept results that a chapter's parameter asks for.

    Args:
        choice: "book" for those that ship; "auto" for those that ship where they are of these
            settings, and the rest measured; "run" to measure all that is missing in the run's
            folder; "recertify", see the module; else a folder `pieces` that such a run left.
    """
    if choice in CHOICES or Path(choice).expanduser().is_dir():
        return Results(choice)
    raise ResultsError(f"table = {choice!r:.60}: expected {', '.join(CHOICES)} or a folder")


class Results(Pieces):
    """Pieces kept in files; see `open`."""

    def __init__(self, choice: str):
        super().__init__()
        self.choice = choice
        named = choice in CHOICES
        self.folder = report.folder() / FOLDER if named else Path(choice).expanduser()
        self._shipped: dict[str, dict] = {}
        self._asked: dict[str, dict[str, tuple]] = {}  # study -> key -> about, call, cost, value
        self._filed_anew: dict[str, int] = {}  # study -> pieces that might have been a sample

    # --- one piece ----------------------------------------------------------------------------
    def call(
        self, study: str, about: Mapping[str, Any], function: Callable, *args, cost: float = 1
    ):
        """function(*args) or its kept result; see `Pieces.call`.

        Raises:
            ResultsError: it is not among the kept results and is not to be measured now.
        """
        key = digest(function, *args)
        asked = self._asked.setdefault(study, {})
        if key not in asked:
            entry = self._entry(study, key, about, lambda: function(*args), cost)
            asked[key] = (dict(about), lambda: function(*args), cost, entry)
            if self.choice in ("run", "recertify"):
                index = json.dumps(sorted(asked)).encode()
                _files.write(self.folder / study / INDEX, index)
        return asked[key][3]["value"]

    def _entry(self, study, key, about, measure, cost) -> dict:
        if self.choice == "run":
            return self._kept(study, key) or self._measured(study, key, about, measure)
        if self.choice == "recertify":
            return self._kept(study, key) or self._certified(study, key, about, measure, cost)
        found = self._kept(study, key) if self.choice not in CHOICES else None
        found = found or self._study(study)["pieces"].get(key)
        if found is None and self.choice == "auto":
            return self._kept(study, key) or self._measured(study, key, about, measure)
        if found is None:
            what = ", ".join(f"{k} {v}" for k, v in about.items())
            raise ResultsError(
                f"{study}: no kept result for {what} with these settings, data, inits and code; "
                "measure it with --table run"
            )
        return found

    def _place(self, study: str, key: str) -> Path:
        return self.folder / study / f"{key[:32]}.json"

    def _kept(self, study: str, key: str) -> dict | None:
        path = self._place(study, key)
        return _piece(path, key) if path.exists() else None

    def _measured(self, study, key, about, measure) -> dict:
        """Measure a piece, unless another process of the same folder is doing so: then wait."""
        path = self._place(study, key)
        with _files.locked(path.with_suffix(".lock"), wait=24 * 3600):
            if found := self._kept(study, key):
                return found
            began = time.perf_counter()
            value = json.loads(json.dumps(measure()))
            seconds = round(time.perf_counter() - began, 2)
            entry = dict(key=key, about=dict(about), value=value, seconds=seconds)
            entry |= dict(provenance=provenance())
            _files.write(path, json.dumps(entry).encode())
        return entry

    # --- shipped files ------------------------------------------------------------------------
    def _study(self, study: str) -> dict:
        if study not in self._shipped:
            ships = study + SHIPPED in shipped.manifest("results")
            self._shipped[study] = _shipped(study) if ships else dict(pieces={})
        return self._shipped[study]

    def _certified(self, study, key, about, measure, cost) -> dict:
        """The shipped piece of the same description, if the sampled ones agree."""
        pieces = self._study(study)["pieces"]
        if key in pieces:
            entry = pieces[key]
        else:
            same = [e for e in pieces.values() if e["about"] == json.loads(json.dumps(dict(about)))]
            if len(same) != 1 or (self.folder / study / ANEW).exists():
                return self._measured(study, key, about, measure)
            entry = dict(same[0])
            certified = dict(provenance(), sampled=False)
            if cost > SAMPLED:
                certified |= dict(why="too much work for a sample")
            elif self._is_sample(study):
                now = json.loads(json.dumps(measure()))
                gap = difference(entry["value"], now)
                if not gap <= TOLERANCE:
                    self._doubt(study)
                    raise ResultsError(
                        f"{study}: {about} differs by {gap:.3g} from the kept result; "
                        "run this again, and all of the study is measured anew"
                    )
                certified |= dict(sampled=True, difference=gap)
            entry |= dict(key=key, provenance=entry["provenance"] | dict(certified=certified))
        _files.write(self._place(study, key), json.dumps(entry).encode())
        return entry

    def _is_sample(self, study: str) -> bool:
        """Whether the next piece that is filed anew is one of those measured again."""
        before = self._filed_anew.get(study, 0)
        self._filed_anew[study] = before + 1
        return before % EVERY == 0

    def _doubt(self, study: str) -> None:
        """Take back what was certified unseen; from now on this folder's study is measured."""
        for path in self.folder.glob(f"{study}/*.json"):
            if path.name != INDEX:
                entry = json.loads(path.read_text("utf8"))
                if entry["provenance"].get("certified", {}).get("sampled") is False:
                    path.unlink()
        _files.write(self.folder / study / ANEW, b"")

    # --- what a page says ---------------------------------------------------------------------
    def measured_now(self, study: str) -> bool:
        """Whether this run measured most of the study, rather than reading what ships."""
        ships = self._study(study)["pieces"]
        asked = self._asked.get(study, {})
        most = 2 * sum(key not in ships for key in asked) > len(asked)
        return self.choice == "run" or (self.choice == "auto" and most)

    def sources(self, study: str) -> list[dict]:
        """The different provenances of the pieces asked for, most frequent first."""
        counted: dict[str, int] = {}
        for *_, entry in self._asked.get(study, {}).values():
            text = json.dumps(_without_samples(entry["provenance"]), sort_keys=True)
            counted[text] = counted.get(text, 0) + 1
        return [json.loads(t) for t in sorted(counted, key=counted.get, reverse=True)]

    def origin(self, study: str) -> dict[str, Any] | None:
        """For `report.record`: where most pieces come from; None if they were measured here."""
        if self.measured_now(study) or not (found := self.sources(study)):
            return None
        main = found[0]
        return dict(study=study, commit=main["commit"], date=main["date"], device=main["device"])

    def sample(self, study: str) -> Sample:
        """The cheapest piece asked for, measured again here.

        Raises:
            ResultsError: nothing was asked for.
        """
        asked = self._asked.get(study)
        if not asked:
            raise ResultsError(f"{study}: no piece was asked for")
        about, measure, _, entry = min(asked.values(), key=lambda piece: piece[2])
        now = json.loads(json.dumps(measure()))
        return Sample(about, entry["value"], now, difference(entry["value"], now))

    def certify(self, *studies: str) -> Any:
        """Measure the cheapest piece of each study again; a law of the page that it agrees.

        Returns:
            A table for the page: studies, where they were measured, and the sample.
        """
        rows = []
        for study in studies:
            sample = self.sample(study)
            report.claim(
                f"reproduced/{study}",
                f"The cheapest kept piece of {study}, measured again in this build, agrees "
                f"(to {TOLERANCE:g})",
                sample.difference <= TOLERANCE,
                kind="law",
            )
            what = ", ".join(f"{k} {v}" for k, v in sample.about.items())
            main = self.sources(study)[0]
            where = "this run" if self.measured_now(study) else "shipped"
            where = where if self.choice in CHOICES else "a folder"
            when = f"{main['date']}, commit {main['commit'] or 'unknown'}"
            pieces = len(self._asked[study])
            rows.append([study, pieces, f"{where}: {when}", what, f"{sample.difference:.1g}"])
        head = ["study", "pieces", "measured", "measured again here", "difference"]
        return report.table(head, rows)


def difference(kept: Any, now: Any) -> float:
    """How far two values of a piece are apart: the largest difference of means of their arrays.

    Infinite where they differ in anything but numbers.
    """
    if isinstance(kept, Mapping) and isinstance(now, Mapping) and kept.keys() == now.keys():
        return max((difference(kept[k], now[k]) for k in kept), default=0.0)
    try:
        a, b = (_numbers(v) for v in (kept, now))
    except (TypeError, ValueError):
        pairs = isinstance(kept, list) and isinstance(now, list) and len(kept) == len(now)
        if not pairs:
            return 0.0 if kept == now else float("inf")
        return max(map(difference, kept, now), default=0.0)
    if a.shape != b.shape or not (np.isfinite(a) == np.isfinite(b)).all():
        return float("inf")
    good = np.isfinite(a)
    gap = a[good] - b[good]
    return float(max(abs(gap.mean()), np.median(np.abs(gap)))) if gap.size else 0.0


def _numbers(value: Any) -> np.ndarray:
    """Nested lists of numbers as an array, with nan for None."""
    found = np.array(value, object)
    if any(isinstance(v, str | Mapping | list) for v in found.flat):
        raise TypeError("not numbers")
    return found.astype(np.float64)


def _without_samples(found: Mapping) -> dict:
    certified = found.get("certified")
    if certified is None:
        return dict(found)
    return dict(found, certified={k: certified[k] for k in ("commit", "date")})


class FiledAnew(NamedTuple):
    """What became of a shipped study's pieces when code around them changed; see the module."""

    study: str
    pieces: int  # in the file
    filed: int  # of these, filed under code that is newer than their measurement
    samples: list[tuple[Mapping[str, Any], float, str]]  # about, difference, why it may differ


def filed_anew() -> list[FiledAnew]:
    """Of every shipped study, what was filed anew, and what its samples showed."""
    found = []
    for study in shipped_studies():
        pieces = _shipped(study)["pieces"].values()
        marks = [(e["about"], e["provenance"]["certified"]) for e in pieces if _certified(e)]
        told = [(a, c["difference"], c.get("why", "")) for a, c in marks if c["sampled"]]
        found.append(FiledAnew(study, len(pieces), len(marks), told))
    return found


def _certified(entry: Mapping) -> bool:
    return "certified" in entry["provenance"]


# --- into the package ---------------------------------------------------------------------------
def ship(folder: str | Path, into: Path | None = None) -> Path:
    """Take the pieces of a study that a run asked for into the package.

    Args:
        folder: `pieces/STUDY` of a run's folder.
        into: a folder of results, the package's unless given.

    Returns:
        The file.
    """
    folder = Path(folder)
    try:
        keys = json.loads((folder / INDEX).read_text("utf8"))
    except (OSError, ValueError):
        keys = None
    if not isinstance(keys, list) or not keys:
        raise ResultsError(f"{folder}: no pieces of a run there")
    entries = [_piece(folder / f"{str(key)[:32]}.json", key) for key in keys]
    data = lzma.compress(_text(_packed(folder.name, entries)).encode(), preset=9)
    into = into or shipped.ROOT / "results"
    seconds = sum(e["seconds"] or 0 for e in entries)
    _files.enter(into, folder.name + SHIPPED, data, pieces=len(entries), seconds=seconds)
    return into / (folder.name + SHIPPED)


def _piece(path: Path, key: str) -> dict:
    """A kept piece.

    Raises:
        ResultsError: something else is in its place.
    """
    try:
        entry = json.loads(path.read_text("utf8"))
        if entry["key"] == key and {"about", "value", "seconds", "provenance"} <= entry.keys():
            return entry
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise ResultsError(f"{path}: not the piece that belongs there; remove it")


def _packed(study: str, entries: list[dict]) -> dict:
    """Pieces with their provenances written once each."""
    sources: list[str] = []
    pieces = {}
    for entry in entries:
        text = json.dumps(entry["provenance"], sort_keys=True)
        if text not in sources:
            sources.append(text)
        about = {k: entry[k] for k in ("about", "value", "seconds")}
        pieces[entry["key"]] = about | dict(provenance=sources.index(text))
    return dict(study=study, provenance=[json.loads(t) for t in sources], pieces=pieces)


def _text(packed: dict) -> str:
    """As JSON without blanks, a piece in a line."""
    dumped = partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
    head = dumped({k: v for k, v in packed.items() if k != "pieces"})
    pieces = ",\n".join(f"{dumped(key)}:{dumped(piece)}" for key, piece in packed["pieces"].items())
    return f'{head[:-1]},"pieces":{{\n{pieces}}}}}\n'


def shipped_studies() -> list[str]:
    """The studies whose pieces ship."""
    return sorted(name.removesuffix(SHIPPED) for name in shipped.manifest("results"))


def _shipped(study: str) -> dict:
    """The pieces of a shipped study, each with its provenance."""
    found = json.loads(lzma.decompress(shipped.read(study + SHIPPED, "results")))
    for key, entry in found["pieces"].items():
        entry |= dict(key=key, provenance=found["provenance"][entry["provenance"]])
    return found
