"""Write the book's public address everywhere it has to stand.

    python tools/address.py https://github.com/NAME/REPOSITORY     change it
    python tools/address.py                                        check that all places agree

The one place that counts is [project.urls] Source in pyproject.toml.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    "_config.yml",
    "README.md",
    "CITATION.cff",
    "environment.yml",
    "book/*.md",
    "notebooks/*.ipynb",
)
FORM = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+)")


def address() -> str:
    """The address that pyproject.toml states."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]["urls"]["Source"]


def places() -> list[Path]:
    """Files that may hold the address."""
    return [ROOT / "pyproject.toml", *(p for glob in FILES for p in sorted(ROOT.glob(glob)))]


def replace(old: str, new: str) -> list[Path]:
    """Put new for old, also in Colab's form of it. Returns the files that changed."""
    changed = []
    short_old, short_new = ("/".join(FORM.fullmatch(u).groups()) for u in (old, new))
    colab = "colab.research.google.com/github/"
    pairs = [(old, new), (colab + short_old, colab + short_new)]
    for path in places():
        text = was = path.read_text("utf8")
        for a, b in pairs:
            text = re.sub(re.escape(a) + r"(?![\w-])", b, text)
        if text != was:
            path.write_text(text, "utf8")
            changed.append(path)
    return changed


def problems() -> list[str]:
    """Places where the address is missing or another one stands."""
    here, found = address(), []
    name = here.split("github.com/")[1]
    config = (ROOT / "_config.yml").read_text("utf8")
    if f"url: {here}\n" not in config:
        found.append("_config.yml: repository url")
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        cells = ["".join(c["source"]) for c in json.loads(path.read_text("utf8"))["cells"]]
        badge = f"https://colab.research.google.com/github/{name}/blob/main/notebooks/{path.name}"
        if badge not in cells[0]:
            found.append(f"{path.name}: the Colab link of its first cell")
        if f"git+{here}@main" not in cells[1]:
            found.append(f"{path.name}: the install line of its second cell")
    for file in ("CITATION.cff", "README.md"):
        if here not in (ROOT / file).read_text("utf8"):
            found.append(f"{file}: the address")
    return found


def main(argv: list[str]) -> int:
    """Change or check; returns the exit status."""
    if argv:
        if len(argv) > 1 or not FORM.fullmatch(argv[0]):
            print("usage: python tools/address.py https://github.com/NAME/REPOSITORY")
            return 2
        for path in replace(address(), argv[0]):
            print(path.relative_to(ROOT))
    for problem in (found := problems()):
        print(f"not {address()}: {problem}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
