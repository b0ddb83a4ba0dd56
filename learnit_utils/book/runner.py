"""Run chapters through papermill: one, or all of them several at a time, only where needed.

A run of CHAPTER into DIR writes DIR/CHAPTER.ipynb and DIR/results/CHAPTER.json. A run that fails
leaves both as they were, and the failed notebook in DIR/CHAPTER.failed.ipynb.
"""

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from learnit_utils._files import content, sha256
from learnit_utils.book import report
from learnit_utils.book.parameters import ParameterError, implied, nearest, read_schema, resolve

PACKAGE = Path(__file__).parent.parent
# Several chapters at a time get a thread each: more of them wait for each other and gain nothing.
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
READING = 60  # seconds to read what a cell has printed when it ended
TAKES_LONG = {"weights": ("train",), "table": ("run", "recertify")}
# A smoke run compiles for longer than it computes.
QUICKLY_COMPILED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


# --- what there is to run ---------------------------------------------------------------------
def book_root() -> Path:
    """The book's folder: the working directory, a parent of it, or the package's checkout."""
    for place in (Path.cwd(), *Path.cwd().parents, PACKAGE.parent):
        if (place / "notebooks").is_dir() and (place / "book" / "_toc.yml").is_file():
            return place
    raise ParameterError("no book here: run this inside a clone of the book's repository")


def chapters(root: Path) -> dict[str, Path]:
    """Chapter name -> notebook, in order."""
    found = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return {p.stem: p for p in found if not p.stem.endswith(".failed")}


def find(root: Path, name: str) -> Path:
    """The notebook of a chapter, or a ParameterError with the nearest name."""
    known = chapters(root)
    if name not in known:
        names = ", ".join(known)
        raise ParameterError(f"no chapter {name!r:.60}{nearest(name, known)}: one of {names}")
    return known[name]


def profile_values(root: Path, profile: str, chapter: str) -> dict[str, Any]:
    """What a profile sets for a chapter: notebooks/profiles/PROFILE.yaml, nothing for "book"."""
    import yaml

    known = ["book", *sorted(p.stem for p in (root / "notebooks/profiles").glob("*.yaml"))]
    if profile not in known:
        raise ParameterError(
            f"no profile {profile!r:.60}{nearest(profile, known)}: one of {', '.join(known)}"
        )
    if profile == "book":
        return {}
    path = root / "notebooks/profiles" / f"{profile}.yaml"
    try:
        values = (yaml.safe_load(path.read_text("utf8")) or {}).get(chapter) or {}
        return dict(values)
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        raise ParameterError(f"{path.name}: not a mapping of chapter: {{name: value}}") from None


@dataclass(frozen=True)
class Job:
    """One run: a chapter's notebook with its parameters, and where the results go."""

    notebook: Path
    parameters: dict[str, Any]  # every parameter
    injected: dict[str, Any]  # those that differ from the notebook's defaults
    profile: str
    out: Path
    commit: str = ""
    options: dict[str, Any] = field(default_factory=dict)  # cell_timeout, kernel
    places: tuple[str, ...] = ()  # parameters whose values are files or folders

    @property
    def name(self) -> str:
        """The chapter's name."""
        return self.notebook.stem

    def implied(self, given: Mapping[str, Any]) -> str:
        """A line that says what the given parameters set beside themselves, or ""."""
        found = implied(read_schema(self.notebook), self.parameters, self.parameters)
        new = {
            n: v for n, (v, why) in found.items() if self.injected.get(n) == v and n not in given
        }
        why = [n for n in given if n in {w for _, w in found.values()}]
        what = ", ".join(f"{n} = {v}" for n, v in new.items())
        return f"{self.name}: {', '.join(why)} implies {what}" if what and why else ""

    @property
    def cell_timeout(self) -> int:
        """Seconds a cell may take: what is asked for, else minutes for a page, a day for training.

        A page is quick, and a cell that takes longer hangs. Where parameters ask for training or
        measuring, that is what takes its time.
        """
        if given := self.options.get("cell_timeout"):
            return given
        asks = any(self.injected.get(name) in words for name, words in TAKES_LONG.items())
        quick = self.profile == "smoke" or (self.profile == "book" and not asks)
        return 600 if quick else 24 * 3600

    def fingerprint(self) -> str:
        """Hash of all the outcome depends on: notebook, parameters, data, package, environment."""
        h = hashlib.sha256(self.notebook.read_bytes())
        h.update(json.dumps([self.parameters, self.options.get("kernel")], sort_keys=True).encode())
        for name in self.places:
            h.update(f"{name} {content(Path(self.parameters[name]))}".encode())
        for path in sorted(PACKAGE.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                h.update(f"{path.relative_to(PACKAGE)} {sha256(path)}".encode())
        packages = sorted({f"{d.name}=={d.version}" for d in distributions()})
        h.update(f"{sys.version} {packages}".encode())
        return h.hexdigest()

    def is_current(self) -> bool:
        """Whether the outcome in `out` is that of this very run."""
        try:
            done = json.loads((self.out / f"{self.name}.ipynb").read_text("utf8"))
            results = (self.out / "results" / f"{self.name}.json").exists()
            return results and done["metadata"]["learnit"]["fingerprint"] == self.fingerprint()
        except (OSError, ValueError, KeyError):
            return False


def plan(
    root: Path, name: str, profile: str, given: Mapping[str, Any], out: Path, **options
) -> Job:
    """A checked run, nothing started yet.

    Raises:
        ParameterError: anything about chapter, profile, parameters or folder that does not fit.
    """
    notebook = find(root, name)
    schema = read_schema(notebook)
    values = profile_values(root, profile, name)
    try:
        parameters = resolve(schema, given, values)
        parameters |= {n: schema[n].placed(parameters[n], Path.cwd()) for n in given}
        named = [n for n, p in schema.items() if p.is_place and parameters[n] not in p.words]
        for n in named:
            if not os.path.lexists(parameters[n]):
                raise schema[n].missing(parameters[n])
    except ParameterError as e:
        raise ParameterError(f"{name}: {e}") from None
    injected = {n: v for n, v in parameters.items() if v != schema[n].default}
    at = out.absolute(), commit(root)
    return Job(notebook, parameters, injected, profile, *at, options, tuple(named))


def check_kernel(name: str) -> None:
    """Refuse a Jupyter kernel that is not installed, naming those that are."""
    from jupyter_client.kernelspec import KernelSpecManager

    known = sorted(KernelSpecManager().find_kernel_specs())
    if name not in known:
        there = ", ".join(known) or "none"
        raise ParameterError(f"no kernel {name!r:.60}{nearest(name, known)}: installed are {there}")


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be written, leaving nothing behind."""
    made = [p for p in (out, *out.parents) if not p.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or str(e)
        shown = repr(str(out))
        raise ParameterError(f"out = {shown}: not a folder that can be written ({why})") from None
    finally:
        for p in made:
            if p.is_dir() and not any(p.iterdir()):
                p.rmdir()


def commit(root: Path) -> str:
    """The short hash of the checkout, "-dirty" behind it where files differ, "" without git."""
    git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


# --- running ----------------------------------------------------------------------------------
class ChapterFailed(RuntimeError):
    """A chapter that did not run through; the message is the report to print."""


def execute(job: Job, on_cell: Callable[[int, int], None] = lambda done, total: None) -> float:
    """Run one chapter. Returns its wall time in seconds.

    Raises:
        ChapterFailed: which cell of which chapter, and the tail of its traceback.
    """
    from papermill.exceptions import PapermillExecutionError

    began, fingerprint = time.perf_counter(), job.fingerprint()  # of the sources as they are now
    (job.out / "results").mkdir(parents=True, exist_ok=True)
    part = job.out / f"{job.name}.running.ipynb"
    results = job.out / "results" / f"{job.name}.running"
    run = dict(profile=job.profile, parameters=job.parameters, commit=job.commit)
    os.environ[report.RUN] = json.dumps({**run, "results": str(results)})
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    reached = Reached()
    try:
        variables = ONE_THREAD if job.options.get("one_thread") else {}
        variables = variables | (QUICKLY_COMPILED if job.profile == "smoke" else {})
        with _environment(variables):
            _papermill(job, part, reached, on_cell)
        nb = json.loads(part.read_text("utf8"))
        nb["metadata"].pop("papermill", None)
        nb["metadata"]["learnit"] = dict(fingerprint=fingerprint, **run)
        part.write_text(json.dumps(nb, indent=1, ensure_ascii=False), "utf8")
    except PapermillExecutionError as e:
        message = _failure(job, part, reached.cell, f"{e.ename}: {e.evalue}", e.traceback)
        raise ChapterFailed(message) from None
    except Exception as e:
        raise ChapterFailed(_failure(job, part, reached.cell, _reason(e, job), [])) from None
    finally:
        os.environ.pop(report.RUN, None)
    if results.exists():
        results.replace(results.with_suffix(".json"))
    part.replace(job.out / f"{job.name}.ipynb")
    (job.out / f"{job.name}.failed.ipynb").unlink(missing_ok=True)
    return time.perf_counter() - began


@contextmanager
def _environment(values: Mapping[str, str]):
    """Environment variables while the body runs; those that are set already stay."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ |= new
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


@dataclass
class Reached:
    """The cell that runs."""

    cell: int | None = None


def _papermill(job: Job, part: Path, reached: Reached, on_cell: Callable) -> None:
    """Execute a chapter's notebook into `part`, telling of every cell that begins."""
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
            start, total = nb_man.cell_start, len(nb_man.nb.cells)

            def cell_start(cell, cell_index=None, **kw):
                reached.cell = cell_index
                on_cell(cell_index or 0, total)
                return start(cell, cell_index, **kw)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("learnit", Engine)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    papermill.execute_notebook(
        job.notebook,
        part,
        parameters=job.injected,
        engine_name="learnit",
        kernel_name=job.options.get("kernel", "python3"),
        cwd=str(job.notebook.parent),
        execution_timeout=job.cell_timeout,
        iopub_timeout=READING,
        progress_bar=False,
        extra_arguments=["--IPKernelApp.log_level=40"],
    )


def _reason(e: Exception, job: Job) -> str:
    """Why a run ended that no cell's own error ended."""
    if "Timeout waiting for IOPub" in str(e):
        what = f"it prints more than can be read within {READING} s; see where it prints in a loop"
    elif type(e).__name__ == "CellTimeoutError":
        what = f"over its limit of {job.cell_timeout} s (--cell-timeout)"
    else:
        what = str(e)[:500]
    return f"{type(e).__name__}: {what}"


def _cells(notebook: Path) -> list[dict]:
    return json.loads(notebook.read_text("utf8"))["cells"]


def _failure(job: Job, part: Path, at: int | None, error: str, traceback: list[str]) -> str:
    """Keep what there is of a failed run; returns chapter, cell and the end of the traceback."""
    (job.out / "results" / f"{job.name}.running").unlink(missing_ok=True)
    failed = job.out / f"{job.name}.failed.ipynb"
    where = ""
    if part.exists():
        part.replace(failed)
        if at is not None:
            tagged = [(c, c["metadata"].get("tags", [])) for c in _cells(failed)]
            ran = [(c, t) for c, t in tagged if "papermill-error-cell-tag" not in t]
            cell = ran[at][0]
            own = [c for c, t in ran if "injected-parameters" not in t]  # as in the notebook
            first = "".join(cell["source"]).strip().partition("\n")[0]
            number = own.index(cell) + 1 if cell in own else 0
            where = f", cell {number} of {len(own)} ({first or 'empty'})"
    tail = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traceback)).splitlines()[-12:]
    lines = [f"{job.name}{where} failed: {error}", *(f"    {line}" for line in tail)]
    return "\n".join([*lines, f"    the notebook as far as it came: {failed}"])


def given_up(job: Job, why: str) -> str:
    """The report of a run whose process ended before it could make one."""
    return _failure(job, job.out / f"{job.name}.running.ipynb", None, why, [])
