"""Make a release: the version, a heading in the changelog, a commit and a tag.

    python tools/release.py 0.2.0

The version stands in pyproject.toml alone; `learnit_utils.__version__` is read from the installed
package. CONTRIBUTING.md says what to do before and after.
"""

import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r"\d+\.\d+\.\d+")


class ReleaseError(ValueError):
    """A release that cannot be made; one line."""


def released(pyproject: str, changelog: str, version: str, date: str) -> tuple[str, str]:
    """pyproject.toml and CHANGELOG.md of a release.

    Raises:
        ReleaseError: not a version that is higher than the last, or nothing to release.
    """
    if not VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r}: expected MAJOR.MINOR.PATCH")
    current = re.search(r'^version = "(.*)"$', pyproject, re.M)[1]
    headings = re.findall(r"^## (\d\S*)", changelog, re.M)

    def number(v):
        return tuple(map(int, v.split(".")))

    if headings and number(version) <= max(map(number, headings)):
        raise ReleaseError(f"{version}: expected more than {max(headings, key=number)}")
    if not re.search(r"^## Unreleased\n\n(?!## )", changelog, re.M):
        raise ReleaseError("CHANGELOG.md: expected entries under `## Unreleased`")
    pyproject = pyproject.replace(f'version = "{current}"', f'version = "{version}"', 1)
    heading = f"## Unreleased\n\n## {version} ({date})"
    return pyproject, changelog.replace("## Unreleased", heading, 1)


def main(words: list[str]) -> int:
    """Change the files, commit and tag."""
    if len(words) != 1:
        print(__doc__)
        return 2
    files = [ROOT / "pyproject.toml", ROOT / "CHANGELOG.md"]
    git = ["git", "-C", str(ROOT)]
    try:
        if subprocess.run([*git, "status", "--porcelain"], capture_output=True).stdout:
            raise ReleaseError("the working tree: expected no uncommitted changes")
        today = datetime.date.today().isoformat()
        texts = released(*(f.read_text("utf8") for f in files), words[0], today)
    except ReleaseError as e:
        print(e)
        return 1
    for file, text in zip(files, texts):
        file.write_text(text, "utf8")
    for command in (["commit", "-am", f"Release {words[0]}"], ["tag", f"v{words[0]}"]):
        subprocess.run([*git, *command], check=True)
    print(f"now: git push --follow-tags origin main v{words[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
