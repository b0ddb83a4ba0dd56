"""Put the teaser of every chapter, as `make book` drew it, into the README's table.

    make book && python tools/readme_figures.py

Reads _build/executed, writes book/figures/CHAPTER.webp and the table between the README's marks.
"""

import base64
import io
import json
import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
WIDE, QUALITY = 360, 80  # pixels
MARKS = "<!-- chapters -->\n", "<!-- end of chapters -->"


def first_figure(notebook: dict) -> tuple[bytes, str]:
    """The PNG of the teaser, else of the first figure, and the sentence that says what it shows."""
    teasers = [c for c in notebook["cells"] if "teaser" in c["metadata"].get("tags", [])]
    for cell in (*teasers, *notebook["cells"]):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                return base64.b64decode("".join(data["image/png"])), "".join(data["text/plain"])
    raise SystemExit("a chapter without a figure")


def main() -> None:
    """Write the figures and the table."""
    lines = ["| chapter | asks | its first figure |", "|---|---|---|"]
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        executed = json.loads((ROOT / "_build/executed" / path.name).read_text("utf8"))
        png, alt = first_figure(executed)
        text = "".join(executed["cells"][0]["source"])
        title = re.search(r"^# (.*)$", text, re.M)[1]
        question = re.search(r"^\*\*Question\.\*\* (.*)$", text, re.M)[1]
        image = Image.open(io.BytesIO(png)).convert("RGB")
        image = image.resize(
            (WIDE, round(image.height * WIDE / image.width)), Image.Resampling.LANCZOS
        )
        target = ROOT / "book/figures" / f"{path.stem}.webp"
        target.parent.mkdir(exist_ok=True)
        image.save(target, "WEBP", quality=QUALITY, method=6)
        alt = " ".join(alt.split()).replace("|", "/")
        shown = f"![{alt}](book/figures/{target.name})"
        lines.append(f"| [{title}](notebooks/{path.name}) | {question} | {shown} |")
    readme = ROOT / "README.md"
    before, rest = readme.read_text("utf8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    readme.write_text(before + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + after, "utf8")


if __name__ == "__main__":
    main()
