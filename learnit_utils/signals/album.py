"""One photograph: of those that ship by its name, or a file of your own."""

from pathlib import Path

from learnit_utils.signals import photos
from learnit_utils.signals.base import (
    MIN_SIDE,
    DataError,
    Dataset,
    check_request,
    dataset,
    read_picture,
)
from learnit_utils.signals.transforms import cropped, shrunk


def photograph(
    photo: str | Path, size: int, *, gray: bool = False, square: bool = False
) -> Dataset:
    """A data set of one photograph, in its own proportions.

    Args:
        photo: the name of one that ships, which is square, or the path of a file.
        size: pixels of the longer side; resampled (bicubic, antialiased).
        gray: one channel instead of three.
        square: the central square alone.

    Raises:
        DataError: as `base.read_picture`, or one that would be less than 8 pixels high or wide.
    """
    check_request("all", size)
    book, path = photos.load("all"), Path(photo).expanduser()
    if str(photo) in book.names:
        name, whole, where = str(photo), book.get(str(photo)), book.provenance
    else:
        name, whole = path.name, read_picture(path)
        where = dict(source=f"file {name}", licence="the owner's", split="all")
    shape = (size, size) if square else shrunk(*whole.shape[:2], size)
    if min(shape) < MIN_SIDE:
        at = f"{shape[1]} x {shape[0]} pixels when the longer side has {size}"
        raise DataError(f"{path}: {at}, expected at least {MIN_SIDE}")
    about = {k: where[k] for k in ("source", "licence", "split")}
    return dataset([cropped(whole, shape, gray)], [name], **about)
