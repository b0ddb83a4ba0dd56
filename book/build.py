"""Build the HTML book from executed chapters, warnings as errors.

    python book/build.py [--executed _build/executed] [--html _build/html] [--fresh]

Sphinx works in a stage beside the target; only a build without a warning replaces the target, so
a broken one leaves the pages that were there alone.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(executed: Path, html: Path, fresh: bool = False) -> int:
    """Returns the exit status of jupyter-book."""
    html = html.absolute()
    stage = html.parent / f".stage-{html.name}"
    if fresh:
        shutil.rmtree(stage, ignore_errors=True)
    log = html.parent / f"{html.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(ROOT)]
    command += ["--toc", str(ROOT / "book/_toc.yml"), "--config", str(ROOT / "_config.yml")]
    command += ["--path-output", str(stage), "-W", "-n", "--keep-going"]
    environment = {**os.environ, "LEARNIT_EXECUTED": str(executed.absolute())}
    with log.open("w") as out:
        status = subprocess.run(command, env=environment, stdout=out, stderr=out).returncode
    if status:
        lines = log.read_text("utf8", "replace").splitlines()
        told = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-30:]
        print("\n".join(told), f"\nthe book was not built; everything Sphinx said: {log}")
        return status
    new, old = html.with_suffix(".new"), html.with_suffix(".old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    shutil.copytree(stage / "_build" / "html", new)
    if html.exists():
        html.rename(old)
    new.rename(html)
    shutil.rmtree(old, ignore_errors=True)
    print(f"the book: {html / 'index.html'}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executed", type=Path, default=ROOT / "_build" / "executed")
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier builds cached")
    arguments = parser.parse_args()
    sys.exit(build(arguments.executed, arguments.html, arguments.fresh))
