"""Chapters side by side, each in a process of its own, so that one that is killed ends alone."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from learnit_utils.book import runner
from learnit_utils.book.runner import ChapterFailed, Job

LAST = 5  # lines of what a kernel that died wrote to its standard error


def cores() -> int:
    """CPU cores this process may use."""
    can_tell = hasattr(os, "sched_getaffinity")  # Linux
    return len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1


def execute_all(jobs: Iterable[Job], workers: int = 2, cached: bool = False) -> bool:
    """Run chapters, `workers` at a time, with progress. Returns whether all went through.

    Args:
        cached: leave out chapters whose outcome is already that of this very run.
    """
    todo = []
    for job in jobs:
        if workers > 1:
            job.options["one_thread"] = True
        if cached and job.is_current():
            print(f"{job.name}: unchanged, not run again", flush=True)
        else:
            todo.append(job)
    running: dict[Connection, _Chapter] = {}
    ok = True
    try:
        while todo or running:
            while todo and len(running) < workers:
                chapter = _Chapter(todo.pop(0))
                running[chapter.told] = chapter
            for told in wait(list(running)):
                done = running[told].listen()
                if done is not None:
                    ok &= done
                    del running[told]
    finally:
        for chapter in running.values():
            chapter.process.terminate()
    return ok


class _Chapter:
    """A chapter that runs in another process, and its bar here."""

    def __init__(self, job: Job):
        from tqdm import tqdm

        spawn = multiprocessing.get_context("spawn")
        self.job, self.bar, self.tqdm = job, None, tqdm
        self.told, tells = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_work, args=(job, tells))
        self.process.start()
        tells.close()  # the other process has its own; when that ends, `told` does

    def listen(self) -> bool | None:
        """Take what the process tells; whether it went through, once that is known."""
        try:
            kind, value = self.told.recv()
        except EOFError:
            self.process.join()
            kind, value = "failed", runner.given_up(self.job, self._ending())
        if kind == "cell":
            self._progress(*value)
            return None
        if self.bar is not None:
            self.bar.close()
        self.process.join()
        self.told.close()
        text = value if kind == "failed" else f"{self.job.name}: {value:.0f} s"
        self.tqdm.write(text, file=sys.stdout)
        return kind == "done"

    def _progress(self, done: int, total: int) -> None:
        if self.bar is None:
            quiet = 1 if sys.stderr.isatty() else 15
            how = dict(desc=self.job.name, unit="cell", mininterval=quiet)
            self.bar = self.tqdm(total=total, **how)
        self.bar.update(done + 1 - self.bar.n)

    def _ending(self) -> str:
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process ended by itself, with status {code}"
        killed = code == -signal.SIGKILL
        why = "; when memory runs out, the system does that" if killed else ""
        return f"its process was ended by {signal.Signals(-code).name}{why}"


def _work(job: Job, tells: Connection) -> None:
    """What the other process does."""
    log = job.out / f".{job.name}.stderr"
    try:
        with _stderr_to(log):
            seconds = runner.execute(job, lambda done, total: tells.send(("cell", (done, total))))
        tells.send(("done", seconds))
    except ChapterFailed as e:
        tells.send(("failed", "\n".join([str(e), *_last_words(str(e), log)])))
    finally:
        log.unlink(missing_ok=True)
        tells.close()


def _last_words(problem: str, log: Path) -> list[str]:
    """Of a kernel that died, the end of what it wrote to its standard error."""
    if "DeadKernelError" not in problem:
        return []
    lines = log.read_text("utf8", errors="replace").splitlines()
    return [f"    {line}" for line in lines[-LAST:]]


@contextmanager
def _stderr_to(path: Path) -> Any:
    """Standard error of this process and of those it starts goes to a file.

    Libraries in a kernel write there when the kernel is ended, on top of the report.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(path, "wb") as file:
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
