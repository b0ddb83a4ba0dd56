"""Code and prose of every chapter, and whether it keeps the budgets of a chapter.

`python tools/chapter_budget.py` prints a table, with `06 07` of these chapters; the exit status is
1 if a budget is exceeded.
Lines are non-empty ones; a folded cell is one tagged hide-input, hide-cell, remove-input or
remove-cell; a figure is shown by `.show(`, `frame_slider(` or `display(`.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
SHOWS = (".show(", "frame_slider(", "display(")
VISIBLE, TOTAL, BEFORE, CELL, WORDS = 250, 400, 40, 25, 5


class Budget(NamedTuple):
    """What a chapter holds."""

    visible: int  # lines of code that are not folded
    total: int  # lines of code
    longest: int  # lines of the longest cell, the parameters aside
    before: int  # visible lines before the first figure
    words: float  # of prose, per line of code

    def problems(self) -> list[str]:
        """The budgets that are exceeded, in words."""
        limits = dict(visible=VISIBLE, total=TOTAL, longest=CELL, before=BEFORE)
        over = [f"{n} {getattr(self, n)} > {most}" for n, most in limits.items()]
        over = [text for text in over if int(text.split()[1]) > int(text.split()[3])]
        return over + ([f"words {self.words:.1f} < {WORDS}"] if self.words < WORDS else [])


def lines(cell: dict) -> int:
    """Non-empty lines of a cell."""
    return sum(bool(line.strip()) for line in "".join(cell["source"]).splitlines())


def measure(path: Path) -> Budget:
    """The budget of a chapter's notebook."""
    cells = json.loads(path.read_text("utf8"))["cells"]
    code = [c for c in cells if c["cell_type"] == "code"]
    tags = [set(c["metadata"].get("tags", [])) for c in code]
    seen = [0 if t & FOLDED else lines(c) for c, t in zip(code, tags)]
    shows = [any(word in "".join(c["source"]) for word in SHOWS) for c in code]
    first = shows.index(True) if True in shows else len(code)
    words = sum(len("".join(c["source"]).split()) for c in cells if c["cell_type"] == "markdown")
    total = sum(map(lines, code))
    longest = max(lines(c) for c, t in zip(code, tags) if "parameters" not in t)
    return Budget(sum(seen), total, longest, sum(seen[:first]), words / max(total, 1))


def main() -> int:
    """Print the table; 1 if a budget is exceeded."""
    failed = 0
    head = ("chapter", "visible", "all", "longest cell", "before figure", "words a line")
    print("{:20} {:>8} {:>5} {:>13} {:>14} {:>13}".format(*head))
    asked = tuple(sys.argv[1:]) or ("",)
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if not path.stem.startswith(asked):
            continue
        b = measure(path)
        row = (path.stem, b.visible, b.total, b.longest, b.before, b.words)
        print("{:20} {:8} {:5} {:13} {:14} {:13.1f}".format(*row), *b.problems(), sep="  ")
        failed |= bool(b.problems())
    return failed


if __name__ == "__main__":
    sys.exit(main())
