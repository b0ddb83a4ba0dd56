"""A chapter's report: results beside published numbers, claims, and where they come from.

Under `learnit run` the report is written to results/NN_name.json as it grows; in a live session
it is only kept in memory. `summary()` shows it at the end of the page.
"""

import json
import math
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

RUN = "LEARNIT_RUN"  # set by the runner: JSON with profile, parameters, commit, results (a path)

KINDS = ("paper", "law", "finding")

LISTED = 20  # files that were left out, by name

_report: dict[str, Any] = {}
_told: set[str] = set()  # lines on a user's data


class LawError(AssertionError):
    """A law that does not hold, which stops the build."""


def running() -> dict[str, Any] | None:
    """The run this kernel belongs to, or None in a live session."""
    return json.loads(os.environ[RUN]) if RUN in os.environ else None


def folder() -> Path:
    """Where a chapter keeps what it makes: beside the results of its run, or in runs/."""
    run = running()
    return Path(run["results"]).parent.parent if run and run.get("results") else Path("runs")


def open(name: str) -> None:
    """Open the report of a chapter, forgetting what this kernel reported before."""
    import jax

    run = running() or {}
    device = jax.devices()[0]
    _report.clear()
    _told.clear()
    _report.update(
        chapter=name,
        profile=run.get("profile", "live"),
        parameters=run.get("parameters", {}),
        provenance=dict(
            commit=run.get("commit", ""),
            jax=version("jax"),
            numpy=version("numpy"),
            device=f"{device.platform}: {device.device_kind}",
            data_sha256={},
        ),
        results=[],
        claims=[],
    )
    _write()


def uses(data) -> Any:
    """Note a data set's source, split, size and hash in the report; returns the data set.

    What was left out of a user's files, and why, and how many were cropped, is printed once.
    A set of the same name and other content gets the beginning of its hash into its name.
    """
    where = data.provenance
    arrays = getattr(data, "arrays", getattr(data, "pictures", None))
    size = "" if arrays is None else f", {arrays.shape[-3]}x{arrays.shape[-2]}"
    name = f"{where['source']}, {where['split']}{size} ({where['count']})"
    noted, sha = _opened()["provenance"]["data_sha256"], where["data_sha256"]
    if noted.get(name, sha) != sha:
        name += f" {sha[:8]}"
    noted[name] = sha
    _write()
    for line in _told_of(data):
        if line not in _told:
            print(line)
            _told.add(line)
    return data


def _told_of(data) -> list[str]:
    """What happened to a user's files, line by line."""
    where = data.provenance
    lines = [f"left out: {why}" for why in where.get("skipped", {}).values()]
    if len(lines) > LISTED:
        lines[LISTED:] = [f"left out of {where['source']}: {len(lines) - LISTED} more"]
    if where.get("cropped"):
        high, wide = data.arrays.shape[1:3]
        of = f"{where['source']}, {where['split']}: {where['cropped']} of {where['count']}"
        lines.append(f"{of} cropped to the proportions of {wide} x {high} pixels")
    return lines


def record(
    name: str,
    value: float,
    unit: str,
    *,
    scale: str,
    paper: float | None = None,
    source: str | None = None,
    kept: Mapping[str, Any] | None = None,
) -> None:
    """Report a measured number, beside the published one where there is one.

    Args:
        name: words separated by "/", for example "psnr_after_2_steps/meta/sgd".
        value: the measurement; refused unless finite.
        unit: "dB", "bit/pixel", ... or "" for a pure number.
        scale: the data and size it was measured at, for example "one photograph, 64x64 RGB".
        paper: the published value; needs a `source` that says where it stands.
        kept: where the number was measured, if not in this run; see `results.Results.origin`.

    Raises:
        ValueError: a value that is not finite, or a published value without source.
    """
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{name} = {value}: expected a finite number")
    if (paper is None) != (source is None):
        raise ValueError(f"{name}: a published value and its source go together")
    entry = dict(name=name, value=value, unit=unit, paper=paper, source=source, scale=scale)
    _replace("results", "name", entry | dict(kept=dict(kept) if kept else None))


def records(
    name: str,
    values: Mapping[str, Any],
    unit: str,
    *,
    scale: str,
    kept: Mapping[str, Any] | None = None,
) -> None:
    """Report several measured numbers, each as NAME/KEY.

    Args:
        values: key -> number, or an `evaluate.Interval`, whose half width joins the scale.
        name, unit, scale, kept: as in `record`.
    """
    for key, value in values.items():
        half = getattr(value, "half", None)
        if half is None:
            record(f"{name}/{key}", value, unit, scale=scale, kept=kept)
        else:
            where = f"{scale}, {value.level:.0%} interval ± {half:.2g}".replace("%", " %")
            record(f"{name}/{key}", value.mean, unit, scale=where, kept=kept)


def claim(id: str, statement: str, holds: bool, kind: str = "finding") -> None:
    """Report whether a claim holds here. One that does not is shown as such, never hidden.

    Args:
        id: a short name.
        statement: the claim, as a sentence.
        holds: whether it does.
        kind: "paper" for what a paper claims, "finding" for what this book found, "law" for what
            must hold.

    Raises:
        LawError: a law that does not hold.
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: expected one of {', '.join(KINDS)}")
    _replace("claims", "id", dict(id=id, statement=statement, holds=bool(holds), kind=kind))
    if kind == "law" and not holds:
        raise LawError(f"{id}: {statement}: does not hold")


def claims(found: Mapping[str, tuple[str, bool]], kind: str = "finding") -> None:
    """Report several claims of one kind, id -> (statement, holds); see `claim`."""
    for id, (statement, holds) in found.items():
        claim(id, statement, holds, kind)


def table(head: list[str], rows: list[list], note: str = ""):
    """A table for the page, with a paragraph under it.

    Args:
        head: the names of the columns.
        rows: cells, shown as text; Markdown in them works.
        note: Markdown that follows the table.
    """
    from IPython.display import Markdown

    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    return Markdown(text + (f"\n\n{note}" if note else ""))


def words(name: str) -> str:
    """The name of a result as a reader sees it: psnr_after/maml is "psnr after: maml"."""
    return name.replace("_", " ").replace("/", ": ")


def summary():
    """The report as tables, for the end of the page: claims, and the numbers folded."""
    from IPython.display import Markdown

    report = _opened()
    claims = [
        [c["kind"], c["statement"], "yes" if c["holds"] else "**no**"] for c in report["claims"]
    ]
    results = []
    for r in report["results"]:
        paper = "" if r["paper"] is None else f"{r['paper']:g} ({r['source']})"
        where = "here" if r["kept"] is None else f"{r['kept']['date']}, {r['kept']['commit']}"
        ours = f"{r['value']:.4g} {r['unit']}"
        results.append([words(r["name"]), ours, paper, r["scale"], where])
    held = table(["kind", "claim", "holds here"], claims)
    numbers = table(["quantity", "ours", "published", "scale", "measured"], results)
    folded = f"<details><summary>All {len(results)} numbers of this chapter</summary>"
    return Markdown(f"{held.data}\n\n{folded}\n\n{numbers.data}\n\n</details>")


def _opened() -> dict[str, Any]:
    if not _report:
        raise RuntimeError('report.open("NN_name") comes first')
    return _report


def _replace(kind: str, key: str, entry: dict) -> None:
    entries = _opened()[kind]
    entries[:] = [e for e in entries if e[key] != entry[key]] + [entry]
    _write()


def _write() -> None:
    run = running()
    if run and run.get("results"):
        path = Path(run["results"])
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")  # two runs may share a folder
        part.write_text(json.dumps(_report, indent=1, ensure_ascii=False) + "\n", "utf8")
        part.replace(path)
