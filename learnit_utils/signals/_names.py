"""Files by the names that others gave them: on another machine, by another system."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from learnit_utils.signals.base import SUFFIXES, DataError, picture_files


class Files:
    """The pictures of a folder by the names that models and tables give them.

    A name may have parts in front (images/x.jpg, C:\\place\\x.jpg, ../x.jpg), back-slashes, another
    case or suffix than the file, or none. No file is found by two names: then it is that of the
    one which it has exactly, or of none. Nothing outside of the folder is found.
    """

    def __init__(self, folder: Path, names: Iterable[str]):
        self.folder = folder
        self.all = {p.relative_to(folder).as_posix(): p for p in picture_files(folder)}
        self._loose: dict[str, list[str]] = {}
        for name in self.all:
            for key in {name.lower(), _stem(name)}:
                self._loose.setdefault(key, []).append(name)
        self._found = {name: self._of(name) for name in names}
        self._names: dict[str | None, list[str]] = {}
        for name, file in self._found.items():
            self._names.setdefault(file, []).append(name)

    def __getitem__(self, name: str) -> Path:
        """The file of a name.

        Raises:
            DataError: missing, led out of the folder, or that of another name, too.
        """
        found = self._found[name]
        if found is None and ".." not in name.replace("\\", "/").split("/"):
            raise DataError(f"{self.folder / name}: missing")
        if found is None or not self.all[found].resolve().is_relative_to(self.folder.resolve()):
            raise DataError(f"{self.folder}: {name!r:.60} leads out of its folder")
        others = [other for other in self._names[found] if other != name]
        if others and "/".join(parts(name)) != found:
            raise DataError(f"{name!r:.60} and {others[0]!r:.60}: one file, {self.all[found]}")
        return self.all[found]

    def _of(self, name: str) -> str | None:
        """The file of a name, below the folder: as it is called, else as nearly."""
        for key in _tails(name):
            if key in self.all:
                return key
            for loose in (key.lower(), _stem(key)):
                if len(near := self._loose.get(loose, ())) == 1:
                    return near[0]
        return None


def parts(name: str) -> tuple[str, ...]:
    """The parts of a path of POSIX or Windows, those behind drive, root and dots."""
    path = PureWindowsPath(name) if "\\" in name else PurePosixPath(name)
    its = [p for p in path.parts if p != path.anchor]
    up = [i for i, p in enumerate(its) if p == ".."]
    return tuple(its[up[-1] + 1 :] if up else its)


def _tails(name: str) -> Iterator[str]:
    its = parts(name)
    return ("/".join(its[i:]) for i in range(len(its)))


def _stem(name: str) -> str:
    """A name without the suffix of a picture, in lower case, marked as such."""
    path = PurePosixPath(name)
    bare = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    return bare.as_posix().lower() + "/"
