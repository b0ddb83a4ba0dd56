"""What the benchmarks share: shortest times, threads, and the report as table, JSON or record."""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import jax

from learnit_utils.experiments import flops


def seconds(call, repeat):
    """The shortest of `repeat` calls: what the machine needs when nothing disturbs it."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def jitted(f, *args):
    """A call of the compiled f that waits for its result, warmed up."""
    compiled = jax.jit(f)
    jax.block_until_ready(compiled(*args))
    return lambda: jax.block_until_ready(compiled(*args))


def main(name, doc, rounds, measure, peer=True):
    """Print the table, or JSON; --record keeps it for the book's page.

    Args:
        name: of the record, benchmarks/recorded/NAME.json.
        doc: its first line describes the command.
        rounds: how often everything is measured.
        measure: () -> [(what, value, unit), ...].
        peer: whether it has rows that need PyTorch.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", action="store_true", help=f"into recorded/{name}.json")
    arguments = parser.parse_args()
    device = jax.devices()[0]
    machine = f"{flops.cores()} cores of {platform.machine()}"
    machine = machine if device.platform == "cpu" else device.device_kind
    rows = [dict(what=w, value=float(f"{v:.3g}"), unit=u) for w, v, u in measure()]
    report = dict(machine=machine, jax=jax.__version__, rounds=rounds, peer=peer, rows=rows)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if arguments.record:
        path = Path(__file__).parent / "recorded" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf8")
    print(text if arguments.json else table(report), end="")


def table(report):
    """A report for people."""
    lines = [f"{row['value']:>8g} {row['unit']:8} {row['what']}" for row in report["rows"]]
    if report.get("peer", True) and not any("PyTorch" in row["what"] for row in report["rows"]):
        lines.append('PyTorch is not installed; pip install "learnit-utils[peer]" adds its rows')
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text("utf8"))), end="")
