"""Pictures of your own: any folder as a class, or Imagenette from its folder."""

from functools import cache
from pathlib import Path

from learnit_utils import _files
from learnit_utils.signals.base import (
    SPLITS,
    SUFFIXES,
    DataError,
    Dataset,
    check_request,
    files_dataset,
    picture_files,
    picture_size,
    read_picture,
    split_of,
    spread,
)
from learnit_utils.signals.transforms import shrunk

PROPORTIONS = ("square", "common")
LEAST = len(SPLITS)  # different pictures, one for each side


def _files_under(folder: str | Path) -> list[Path]:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: not a folder")
    found = picture_files(root)
    if not found:
        raise DataError(f"{root}: no picture in it ({', '.join(SUFFIXES)}; hidden files apart)")
    return found


def _below(root):
    """The name of a file: its path below root."""
    return lambda path: path.relative_to(root).as_posix()


def sides(files: list[Path], root: Path, what: str = "pictures") -> dict[Path, str]:
    """The split of every file, by a hash of its content; no side is empty.

    Where one would be, a file of the fullest side moves there. In a folder of a few dozen
    files that does not happen, and a file's side is its own whatever else is added.

    Raises:
        DataError: fewer different files, called `what`, than sides.
    """
    content = {p: _files.sha256(p) for p in files}
    order = sorted(set(content.values()))
    if len(order) < LEAST:
        least = f"at least {LEAST} for {', '.join(SPLITS)}"
        raise DataError(f"{root}: different {what}: {len(order)}; {least}")
    side = {c: split_of(c) for c in order}
    for part in SPLITS:
        if part not in side.values():
            rich = max(SPLITS, key=list(side.values()).count)
            side[next(c for c in order if side[c] == rich)] = part
    return {p: side[c] for p, c in content.items()}


def folder(
    path: str | Path,
    split: str = "all",
    *,
    size: int = 178,
    gray: bool = False,
    limit: int | None = None,
    on_error: str = "raise",
    proportions: str = "square",
) -> Dataset:
    """Every picture file below a folder, all in one shape.

    Args:
        path: the folder; sub-folders are searched too. A link that leads out of it is refused;
            hidden files and folders are no data, see `base.hidden`.
        split: "all", or 70 / 15 / 15 by a hash of the file's content, so copies stay together; at
            least one different picture on each side.
        size: pixels of the longer side, whatever the files have; resampled (bicubic, antialiased).
        gray: one channel instead of three.
        limit: so many files, spread over the split.
        on_error: "raise" stops at the first file that cannot be used; "skip" leaves it out and
            notes it in provenance["skipped"].
        proportions: "square", or "common": those of most of the folder's pictures, of all splits;
            the median, where they differ. What lies outside of the largest central part is cut
            off; provenance["cropped"] counts the pictures that lose more than a pixel of the
            result.

    Raises:
        DataError: a folder or a file that cannot be used; see `base.read_picture`.
    """
    check_request(split, size)
    if proportions not in PROPORTIONS:
        raise DataError(f"proportions = {proportions!r:.60}: one of {', '.join(PROPORTIONS)}")
    root = Path(path).expanduser()
    files, name = _files_under(root), _below(root)
    left_out = {}
    for path in files:
        if not path.resolve().is_relative_to(root.resolve()):
            left_out[path] = f"{path}: a link that leads out of {root}"
        elif on_error == "skip" and (why := _problem(path, path.stat().st_mtime_ns)):
            left_out[path] = why
        if left_out and on_error == "raise":
            raise DataError(left_out[path])
    files = [p for p in files if p not in left_out]
    shape = (size, size) if proportions == "square" else _common(files, size)
    if split != "all":  # only what can be used counts, so that no side is empty
        side = sides(files, root)
        files = [p for p in files if side[p] == split]
    files = [files[i] for i in spread(len(files), limit)]
    where = dict(source=f"folder {root.name}", licence="the owner's", split=split)
    data = files_dataset(root, files, shape, gray, on_error, name, **where)
    data.provenance["skipped"] |= {name(p): why for p, why in left_out.items()}
    return data


@cache
def _problem(path, changed) -> str | None:
    """Why a file cannot be used; a file is looked at once until it changes."""
    del changed
    try:
        read_picture(path)
    except DataError as e:
        return str(e)
    return None


def _common(files: list[Path], size: int) -> tuple[int, int]:
    """Height and width of the median proportions of picture files, the longer one `size`."""
    sizes = sorted((picture_size(p, upright=True) for p in files), key=lambda s: s[0] / s[1])
    width, height = sizes[len(sizes) // 2]
    return shrunk(height, width, size)


def imagenette(
    path: str | Path,
    split: str = "train",
    *,
    size: int = 178,
    gray: bool = False,
    limit: int | None = None,
    on_error: str = "raise",
) -> Dataset:
    """Imagenette from its unpacked folder (imagenette2-160 or -320), class names kept in names.

    Args:
        path: the folder that holds `train` and `val`.
        split: its `val` is our "test"; an eighth of its `train`, by hash of the file name, is
            our "validation".
        limit: read no more than this many files, in an order that mixes the classes.
        size, gray, on_error: as in `folder`.

    Source: github fastai/imagenette (MD5 of imagenette2-320.tgz 3df6f0d01a2c9592104656642f5e78a3).
    """
    check_request(split, size)
    root = Path(path).expanduser()
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise DataError(f"{root}: no folder {part!r} in it, so this is not Imagenette unpacked")
    files = _files_under(root / ("val" if split == "test" else "train"))
    if split == "all":
        files += _files_under(root / "val")
    if split in ("train", "validation"):
        held = [_files.sha256(p.name.encode())[0] in "01" for p in files]
        held_out = split == "validation"
        files = [p for p, h in zip(files, held) if h == held_out]
    files = sorted(files, key=lambda p: _files.sha256(p.name.encode()))
    files = files[: len(spread(len(files), limit))]
    where = dict(source=f"Imagenette ({root.name})", split=split)
    where["licence"] = "research use; the photographs belong to their authors"
    return files_dataset(root, files, (size, size), gray, on_error, _below(root), **where)


from_folder = folder
