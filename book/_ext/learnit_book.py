"""Sphinx hooks of this book: executed chapters, generated tables, no script twice.

The executed chapters and their results are read from the folder in LEARNIT_EXECUTED
(_build/executed unless set). In a page, a line `<!-- generate: NAME -->` is replaced by the table
that GENERATED holds under NAME.
"""

import json
import lzma
import os
import re
import sys
from pathlib import Path

from learnit_utils import shipped
from learnit_utils.book import report, results
from learnit_utils.experiments import shared_training, store
from learnit_utils.experiments.registry import FINDINGS
from learnit_utils.signals import faces, landmarks, objects, photos, sdf, shapes, text
from learnit_utils.signals.base import SPLITS, DataError

sys.path.insert(0, str(Path(__file__).parent))
import api
import drawings


def executed(app) -> Path:
    """Where the runner left the executed chapters."""
    return Path(os.environ.get("LEARNIT_EXECUTED") or Path(app.srcdir) / "_build" / "executed")


def _cell(text) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _table(head: list[str], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _reports(app) -> list[dict]:
    files = sorted((executed(app) / "results").glob("*.json"))
    return [json.loads(p.read_text("utf8")) for p in files]


KINDS = {
    "paper": "The papers' claims",
    "finding": "Findings of this book",
    "law": "Laws, which stop the build if they fail",
}


def claims(app) -> str:
    """Every claim of every chapter by kind, and whether it held in this build."""
    tables = []
    for kind, title in KINDS.items():
        rows = []
        for r in _reports(app):
            link = f"[{r['chapter']}](../notebooks/{r['chapter']}.ipynb)"
            mine = [c for c in r["claims"] if c["kind"] == kind]
            rows += [[link, c["statement"], "yes" if c["holds"] else "**no**"] for c in mine]
        held = sum(row[-1] == "yes" for row in rows)
        table = _table(["chapter", "claim", "held"], rows)
        fold = "" if kind == "paper" else f"{held} of {len(rows)}"
        tables.append(_folded(f"{title}: {fold}", table) if fold else f"### {title}\n\n{table}")
    return "\n\n".join(tables)


def _folded(title: str, content: str) -> str:
    return f"````{{dropdown}} {title}\n{content}\n````"


def _number(r: dict, x: dict) -> list[str]:
    paper = "not published" if x["paper"] is None else f"{x['paper']:g} ({x['source']})"
    kept = x["kept"]
    where = "in this build" if kept is None else f"shipped: {kept['date']}, commit {kept['commit']}"
    ours = f"{x['value']:.4g} {x['unit']}"
    return [r["chapter"], report.words(x["name"]), paper, ours, x["scale"], where]


def numbers(app) -> str:
    """Every recorded number: those with a published value in sight, the others folded."""
    found = [(r, x) for r in _reports(app) for x in r["results"]]
    head = ["chapter", "quantity", "published", "ours", "scale", "measured"]
    beside = _table(head, [_number(r, x) for r, x in found if x["paper"] is not None])
    others = _table(head, [_number(r, x) for r, x in found if x["paper"] is None])
    return f"{beside}\n\n{_folded('Every other number', others)}"


def shipped_or_not(app) -> str:
    """How many numbers of this build were computed in it."""
    kept = [x["kept"] for r in _reports(app) for x in r["results"]]
    now = sum(k is None for k in kept)
    dates = sorted({k["date"] for k in kept if k})
    when = f" between {dates[0]} and {dates[-1]}" if dates else ""
    return (
        f"Of the {len(kept)} numbers on this page {now} were computed in this build; the other "
        f"{len(kept) - now} were measured before{when}, ship with the book, and are filed under "
        "the content of everything they depend on, code included. Of each such file the cheapest "
        "measurement was made again in this build."
    )


def filed_anew(app) -> str:
    """The shipped measurements that are older than the code around them, and what samples said."""
    rows, beyond = [], []
    for found in results.filed_anew():
        gaps = [gap for _, gap, _ in found.samples]
        largest = f"{max(gaps):.2g}" if gaps else ""
        rows.append([found.study, found.pieces, found.filed, len(gaps), largest])
        for about, gap, why in found.samples:
            if gap > results.TOLERANCE:
                what = ", ".join(f"{k} {v}" for k, v in about.items())
                beyond.append([found.study, what, f"{gap:.2f}", why])
    head = ["study", "measurements", "filed anew", "of these sampled", "largest difference"]
    table = _table(head, rows)
    if beyond:
        text = f"Samples that differ by more than {results.TOLERANCE:g}, and why they stand:"
        table += f"\n\n{text}\n\n{_table(['study', 'measurement', 'difference', 'why'], beyond)}"
    return table


def provenance(app) -> str:
    """What each chapter of this build was run with."""
    rows = []
    for r in _reports(app):
        p = r["provenance"]
        data = "; ".join(f"{k}: {v[:12]}…" for k, v in p["data_sha256"].items())
        commit = p["commit"] or "unknown"
        rows.append([r["chapter"], r["profile"], commit, p["jax"], p["device"], data])
    head = ["chapter", "profile", "commit", "JAX", "device", "SHA-256 of the data"]
    return _table(head, rows)


def _sets(signals, what) -> str:
    rows = []
    for split in ("train", "validation", "test"):
        d = signals.load(split)
        p = d.provenance
        rows.append(
            [split, p["count"], "×".join(map(str, d.arrays.shape[1:])), p["data_sha256"][:16]]
        )
    return _table(["split", what, "size", "SHA-256 of the arrays (first 16 digits)"], rows)


def photo_sets(app) -> str:
    """The splits of the shipped photographs, with the hash of their arrays."""
    return _sets(photos, "photographs")


def photo_credits(app) -> str:
    """Who took each shipped photograph."""
    rows = []
    for c in photos.credits():
        name = re.sub(r"[_*\[\]`]", " ", c["file"].removesuffix(".webp"))
        author = re.sub(r"[_*\[\]`]", " ", c["author"])
        source = c["source"]
        page = f"[source]({source})" if source.startswith("http") and " " not in source else source
        rows.append([name, author, c["licence"], page])
    lines = [["photograph", "author", "licence", "source"], ["---"] * 4, *rows]
    return "\n".join("| " + " | ".join(str(x).replace("|", "\\|") for x in r) + " |" for r in lines)


def object_sets(app) -> str:
    """The splits of the objects, with the hash of their pictures and poses."""
    rows = []
    for kind in objects.KINDS:
        for split in SPLITS:
            try:
                told = [objects.load(split, kind=kind, variants=v) for v in (False, True)]
            except DataError:  # sofas are there for the test only
                continue
            counts = [d.provenance["count"] for d in told]
            digest = told[-1].provenance["data_sha256"][:16]
            rows.append([kind, split, counts[0], counts[1] - counts[0] or "", f"`{digest}…`"])
    return _table(["class", "split", "models", "altered copies", "SHA-256 of the data"], rows)


def object_credits(app) -> str:
    """Who made each model."""
    rows = [
        [c["title"], c["author"], c["licence"], c["source"].removeprefix("Sweet Home 3D 1.8, ")]
        for kind in objects.KINDS
        for c in objects.credits(kind)
    ]
    return _table(["model", "author", "licence", "library and file"], rows)


def landmark_sets(app) -> str:
    """The splits of the photographs of landmarks, with the hash of their arrays."""
    rows = []
    for landmark in landmarks.LANDMARKS:
        for split in SPLITS:
            told = landmarks.load(split, landmark=landmark).provenance
            digest = f"`{told['data_sha256'][:16]}…`"
            photos = landmarks.table(landmark)["photos"].values()
            others = sum(p["split"] == split and "light_of" in p for p in photos)
            rows.append([landmark, split, told["count"], others or "", digest])
    head = ["landmark", "split", "photographs", "others in their light", "SHA-256 of the first"]
    return _table(head, rows)


def landmark_credits(app) -> str:
    """Who made the models that stand in the scenes."""
    rows = [
        [c["title"], c["author"], c["licence"], c["source"].removeprefix("Sweet Home 3D 1.8; ")]
        for c in landmarks.credits("gate")
    ]
    return _table(["model", "author", "licence", "library and file"], rows)


def idea(app) -> str:
    """The picture of the first page."""
    return drawings.idea()


def benchmarks(app) -> str:
    """What `make bench` measured when it was last recorded."""
    pages = []
    for path in sorted((Path(app.srcdir) / "benchmarks/recorded").glob("*.json")):
        recorded = json.loads(path.read_text("utf8"))
        rows = [[r["what"], r["value"], r["unit"]] for r in recorded["rows"]]
        head = f"**`benchmarks/{path.stem}.py`**, recorded on {recorded['machine']}, "
        head += f"JAX {recorded['jax']}, medians of {recorded['rounds']} rounds.\n\n"
        pages.append(head + _table(["measured", "value", "unit"], rows))
    return "\n\n".join(pages)


def face_sets(app) -> str:
    """The splits of the ORL faces, with the hash of their arrays."""
    return _sets(faces, "faces")


DRAWN = ((text, "pages"), (sdf, "distance fields"), (shapes, "distances"))


def drawn_sets(app) -> str:
    """The splits of the classes drawn from a seed, at the size the chapters use."""
    return "\n\n".join(_sets(s, what) for s, what in DRAWN)


def _learned_from(settings: dict, count: int) -> str:
    """What an init was learned from, in words."""
    kind = settings["options"].get("kind") or settings["options"].get("landmark")
    if settings["forward"] == "tomography":
        return f"{count} {settings['signals']}, each from {settings['views']} random views"
    if settings["forward"] == "object_views":
        views = settings["options"].get("views", 25)
        return f"{count} {kind}, {'one view' if views == 1 else f'{views} views'} of each"
    if settings["forward"] == "photographs":
        return f"{count} photographs of the {kind}"
    return f"{count} {settings['signals']}"


def inits(app) -> str:
    """Every shipped init: how it was learned, in how long, its scores, what was found."""
    rows, devices = [], {}
    for name in store.names():
        trained = store.load(name)
        i, s = trained.info, trained.trained_by().settings()
        devices.setdefault(i["device"], []).append(f"`{name}`")
        outer = f"Adam {s['outer_lr']:g}, {s['decay']}, {i['steps']} x {s['batch']}"
        inner = f"{s['inner_steps']} x SGD {s['inner_lr']:g}"
        fraction = s["context_fraction"]
        inner += f", on {fraction:.0%} of the pixels" if fraction else ""
        inner += f", learned per {s['step_sizes'].replace('_', ' and ')}" if s["step_sizes"] else ""
        scores = [f"{i['scores'][f'{split}_psnr']:.2f}" for split in ("validation", "test")]
        wall = f"{i['wall_seconds'] / 60:.0f} min"
        source = _learned_from(s, i["data"]["train"]["count"])
        rows.append([f"`{name}`", source, f"{i['method']}, {inner}; {outer}", wall, *scores])
    head = ["init", "learned from", "inner loop; outer steps x batch", "time", "validation", "test"]
    where = "; ".join(f"{device}: {', '.join(names)}" for device, names in devices.items())
    found = "\n".join(f"- `{name}`: {text}" for name, text in FINDINGS.items())
    found = _folded("What was found when the settings were chosen, on validation tasks", found)
    return (
        f"{_table(head, rows)}\n\nScores: PSNR in dB after the inner loop. Devices. {where}."
        f"\n\n{found}"
    )


def shared_networks(app) -> str:
    """Every shipped network that many signals share: how it was learned, and its scores."""
    rows = []
    for name in sorted(Path(n).stem for n in shipped.manifest(shared_training.FOLDER)):
        trained = shared_training.load(name)
        i, r = trained.info, trained.recipe
        how = f"{r.training}, Adam {r.outer_lr:g}; {r.steps} x {r.batch}"
        wall = f"{i['wall_seconds'] / 60:.0f} min"
        source = f"{i['data']['train']['count']} {r.signals}"
        scores = [f"{i['scores'][f'{split}_psnr']:.2f}" for split in ("validation", "test")]
        kind = trained.network.spec["kind"]
        rows.append([f"`{name}`", kind, source, how, wall, *scores])
    head = ["network", "kind", "learned from", "training; outer steps x batch", "time"]
    table = _table([*head, "validation", "test"], rows)
    return f"{table}\n\nScores: PSNR in dB, see `experiments.shared_training.score`."


def api_pages(app) -> str:
    """Every public module with its functions, from their docstrings."""
    return api.page()


def rooms(app) -> str:
    """The drawing of the rooms, and of the way of a task and an init through them."""
    return drawings.rooms()


GENERATED = dict(
    idea=idea,
    benchmarks=benchmarks,
    claims=claims,
    numbers=numbers,
    provenance=provenance,
    photo_sets=photo_sets,
    face_sets=face_sets,
    drawn_sets=drawn_sets,
    inits=inits,
    shared_networks=shared_networks,
    shipped_or_not=shipped_or_not,
    filed_anew=filed_anew,
    api=api_pages,
    rooms=rooms,
    photo_credits=photo_credits,
    object_sets=object_sets,
    object_credits=object_credits,
    landmark_sets=landmark_sets,
    landmark_credits=landmark_credits,
)


def _answer_first(text: str) -> str:
    """A chapter as its page shows it: the cells tagged `teaser` stand right below the title.

    In the notebook they come after the set-up, which has to run before them.
    """
    notebook = json.loads(text)

    def is_teaser(cell):
        return "teaser" in cell["metadata"].get("tags", [])

    title, *rest = notebook["cells"]
    teaser = [c for c in rest if is_teaser(c)]
    notebook["cells"] = [title, *teaser, *(c for c in rest if not is_teaser(c))]
    return json.dumps(notebook)


def read_source(app, docname, source):
    """Read a chapter's executed copy, and fill in the generated tables of a page."""
    if docname.startswith("notebooks/"):
        copy = executed(app) / f"{Path(docname).name}.ipynb"
        if not copy.exists():
            raise FileNotFoundError(f"{copy}: run the chapter first (make book does)")
        source[0] = _answer_first(copy.read_text("utf8"))
        app.env.note_dependency(str(copy))
        return
    found = re.findall(r"<!-- generate: (\w+) -->", source[0])
    for name in found:
        source[0] = source[0].replace(f"<!-- generate: {name} -->", GENERATED[name](app))
    if found:
        for path in (executed(app) / "results").glob("*.json"):
            app.env.note_dependency(str(path))


def tidy(app, pagename, templatename, context, doctree):
    """Drop scripts that stand twice and the unused thebe, both console errors otherwise.

    The list of citations says role="list" but its entries are no list items: drop the role.
    """
    seen, kept = set(), []
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        body = attributes.get("body") or ""
        key = (str(getattr(script, "filename", script)), body)
        if key in seen or "THEBE_JS_URL" in body or "sphinx-thebe" in key[0]:
            continue
        seen.add(key)
        kept.append(script)
    context["script_files"] = kept
    if "body" in context:
        wrong, right = '<div role="list" class="citation-list">', '<div class="citation-list">'
        context["body"] = context["body"].replace(wrong, right)


def unpack(app, error):
    """Unpack what is vendored compressed (*.xz), where it was copied to."""
    for packed in [] if error else Path(app.outdir, "_static").rglob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
        packed.unlink()


def setup(app):
    """Register the hooks."""
    app.connect("source-read", read_source)
    app.connect("html-page-context", tidy, priority=900)
    app.connect("build-finished", unpack)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
