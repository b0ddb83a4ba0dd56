"""Measurements that take longer than a page may: made piece by piece, kept, and shipped.

A chapter names its pieces and says how each is made; a piece is kept as soon as it is there. So a
run that was stopped goes on where it was, and several runs in one folder share the work.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from learnit_utils import assets, chapter

FOLDER = "measurements"  # of the package


class MeasuredError(ValueError):
    """Measurements that are missing or were made with other settings; the message is one line."""


def obtain(
    choice: str, name: str, settings: Mapping[str, Any], make: Mapping[str, Callable[[], Any]]
) -> dict[str, Any]:
    """What a chapter's parameter asks for: {piece: its value}, in the order of `make`.

    Args:
        choice: "book" for the values that ship; "run" to make them now, in the run's folder
            `measured`; else a file that such a run left there.
        name: of the measurement.
        settings: whatever the values depend on, as JSON; values made with others are refused.
        make: piece -> function that makes its value, which has to be JSON.

    Raises:
        MeasuredError: no such values, some missing, or made with other settings.
    """
    settings = json.loads(json.dumps(settings))
    if choice == "run":
        return _run(name, settings, make)
    try:
        if choice == "book":
            text = assets.read(f"{name}.json", FOLDER).decode()
        else:
            path = Path(choice).expanduser()
            text = (path / f"{name}.json" if path.is_dir() else path).read_text("utf8")
        found = json.loads(text)
        theirs, values = found["settings"], found["values"]
    except assets.AssetError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise MeasuredError(f"{choice}: no measurements there ({type(e).__name__})") from None
    for key in sorted({*settings, *theirs}):
        if settings.get(key) != theirs.get(key):
            there, here = str(theirs.get(key))[:40], str(settings.get(key))[:40]
            raise MeasuredError(
                f"{name}: measured with {key} = {there}, this run has {here}; measure with 'run'"
            )
    if missing := [piece for piece in make if piece not in values]:
        raise MeasuredError(f"{name}: {len(missing)} pieces are missing, the first is {missing[0]}")
    return {piece: values[piece] for piece in make}


def _run(name, settings, make):
    """Make what is missing; pieces that another process is making are left to it."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    folder = chapter.folder() / "measured" / f"{name}_{digest}"

    def place(piece):
        return folder / (hashlib.sha256(piece.encode()).hexdigest()[:16] + ".json")

    quiet = chapter.running() is not None  # a page shows how it ended instead
    with tqdm(total=len(make), unit="piece", desc=name, disable=quiet) as bar:
        while missing := [piece for piece in make if not place(piece).exists()]:
            bar.update(len(make) - len(missing) - bar.n)
            made = False
            for piece in missing:
                try:
                    with assets.locked(place(piece).with_suffix(".lock")):
                        if not place(piece).exists():
                            value = json.dumps(dict(piece=piece, value=make[piece]()))
                            assets.write(place(piece), value.encode())
                            bar.update()
                        made = True
                except BlockingIOError:
                    continue
            if not made:
                time.sleep(1)
        bar.update(len(make) - bar.n)
    values = {piece: json.loads(place(piece).read_text("utf8"))["value"] for piece in make}
    told = dict(jax=version("jax"), settings=settings, values=values)
    text = json.dumps(told, ensure_ascii=False) + "\n"
    path = folder.parent / f"{name}.json"
    with suppress(BlockingIOError), assets.locked(path.with_suffix(".lock")):
        assets.write(path, text.encode())  # another process that is there writes the same
    return values


def ship(path: str | Path) -> None:
    """Take a file that a run left in its folder `measured` into the package."""
    path = Path(path)
    data = path.read_bytes()
    if not {"settings", "values"} <= set(json.loads(data)):
        raise MeasuredError(f"{path.name}: not a file of measurements")
    assets.enter(assets.PACKAGE / FOLDER, path.name, data)
