"""Find the images that annotations name. A name is a path: what it says of folders must not contradict a file's place.

A file fits a name if one of the two paths, below the folder that is searched, ends with the other: ``left/1.png`` fits
``data/left/1.png`` and ``1.png``, but not ``right/1.png``. Composed and decomposed letters are the same, and so are
``.JPG`` and ``.jpg``. A name that no file has may be that of a URL: ``a%20b.png`` fits ``a b.png``, and so do
``https://host/a%20b.png?key=1`` and ``?d=a%20b.png``, as Label Studio names files of local storage.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import unquote

from deeplabctl.data.image_files import IMAGE_SUFFIXES
from deeplabctl.data.layout import IMAGES
from deeplabctl.errors import DataError
from deeplabctl.files import composed, is_hidden
from deeplabctl.reporting import counted

Parts = tuple[str, ...]  # of a path, from the folder that is searched
_USUAL_FOLDERS = ("images", IMAGES)


class ImageSearch:
    """Find files by their names in folders and all folders below them, or in those beside a file of annotations.

    With ``by_stem``, names are without suffixes, and only image files are found, whose names have ``suffix`` behind
    what is searched. Nothing outside of the folders is read: of a name that leads out of them only what follows counts.
    """

    def __init__(self, folders: Sequence[Path], *, by_stem: bool = False, suffix: str = "") -> None:
        self._roots = [*{folder.resolve(): folder for folder in folders if folder.is_dir()}.values()]
        self._by_stem = by_stem
        self._suffix = suffix
        self._split = ""  # the folder in which files of equal names are meant, as CVAT's frames of a video
        self._beside: ImageSearch | None = None  # where to find what these folders do not have
        self._files: dict[str, dict[Path, list[Parts]]] | None = None  # last part of a name: file: its parts from roots
        self._by_a_part: dict[str, Path] = {}  # names that say more of folders than could be compared

    @classmethod
    def beside(cls, annotations: Path, images: Path | None) -> ImageSearch:
        """Search the folder that was named, or else that of the annotations and the usual ones in and beside it."""
        folder = annotations.parent
        search = cls([images] if images else [folder, *(folder / name for name in _USUAL_FOLDERS)])
        if images is None:
            search._beside = cls([folder.parent / name for name in _USUAL_FOLDERS])
        for each in filter(None, (search, search._beside)):
            each._split = annotations.stem.removeprefix("instances_")
        return search

    def find(self, name: str) -> list[Path]:
        """Return the file that a name means, several if it is not clear which one, or none."""
        parts = _parts(name)
        if not parts:
            return []
        if not self._by_stem:
            exact = [root.joinpath(*parts) for root in self._roots]
            exact = [path for path in exact if path.suffix.lower() != ".json" and os.path.isfile(path)]  # noqa: PTH113
            if len(exact) == 1:
                return exact
        if self._files is None:
            self._files = self._list_files()
        wanted = _comparable(parts, by_stem=self._by_stem)
        ranks: dict[Path, tuple[int, bool, bool]] = {}
        for path, places in self._files.get(wanted[-1], {}).items():
            for place in places:
                common = _common_end(wanted, place)
                if common in (len(wanted), len(place)):
                    rank = common, place == wanted, composed(path.name) == composed(parts[-1])
                    ranks[path] = max(ranks.get(path, rank), rank)
        if not ranks and self._beside and (found := self._beside.find(name)):
            return found
        if not ranks:
            plain = name.rpartition("?d=")[2]
            plain = unquote(plain.partition("?")[0] if "://" in plain else plain)
            return [] if plain == name else self.find(plain)
        highest = max(ranks.values())
        best = [path for path, rank in ranks.items() if rank == highest]
        if len(best) > 1:
            best = [path for path in best if path.parent.name == self._split] or best
        if len(best) == 1 and ranks[best[0]][0] < len(wanted):
            whole = _comparable(best[0].absolute().parts, by_stem=self._by_stem)
            if self._by_stem or _common_end(wanted, whole) < len(wanted):
                self._by_a_part[name] = best[0]
        return best

    def has(self, name: str) -> bool:
        """Tell whether one of the folders has a file at this very path."""
        return any(os.path.isfile(root / name) for root in self._roots) or (  # noqa: PTH113
            self._beside is not None and self._beside.has(name)
        )

    def image_of(self, name: str, where: object) -> Path | Callable[[], bytes]:
        """Return the image file that a name means, or a function that raises DataError if that is not clear."""
        found = self.find(name)
        return found[0] if len(found) == 1 else failing(not_found(found, where))

    def notes(self) -> list[str]:
        """Say which names had to be compared without their first folders, as the folders that are searched end."""
        if not self._by_a_part:
            return []
        name, path = next(iter(self._by_a_part.items()))
        images = counted(len(self._by_a_part), "image")
        return [f"{images} found in other folders than the annotations say: {name} is {path}"]

    def _list_files(self) -> dict[str, dict[Path, list[Parts]]]:
        files: dict[str, dict[Path, list[Parts]]] = defaultdict(dict)
        for root in self._roots:
            for path in files_below(root):
                if self._by_stem:
                    if path.suffix.lower() not in IMAGE_SUFFIXES or not path.stem.endswith(self._suffix):
                        continue
                    place = path.relative_to(root).with_name(path.stem.removesuffix(self._suffix) or path.stem)
                elif path.suffix.lower() == ".json":  # labelme's own example names itself
                    continue
                else:
                    place = path.relative_to(root)
                parts = _comparable(PurePosixPath(str(place).replace("\\", "/")).parts, by_stem=self._by_stem)
                files[parts[-1]].setdefault(path, []).append(parts)
        return files


def _parts(name: str) -> Parts:
    """Return the parts of a path of any system, without drives and what leads out of a folder."""
    parts: list[str] = []
    for part in PurePosixPath(name.replace("\\", "/")).parts:
        if part == "..":
            parts = parts[:-1]
        elif not (part.startswith("/") or part.endswith(":") or "\0" in part):
            parts.append(part)
    return tuple(parts)


def _comparable(parts: Parts, *, by_stem: bool) -> Parts:
    """Return the parts of a path with composed letters, and the suffix in small letters."""
    last = PurePosixPath(composed(parts[-1]))
    return *map(composed, parts[:-1]), last.name if by_stem else last.stem + last.suffix.lower()


def _common_end(one: Parts, other: Parts) -> int:
    """Return how many last parts two paths have in common."""
    common = 0
    for here, there in zip(reversed(one), reversed(other), strict=False):
        if here != there:
            break
        common += 1
    return common


def files_below(folder: Path) -> list[Path]:
    """Return the files in a folder and in those below it, sorted, without hidden ones; links are followed once.

    Raises DataError for a folder that this user may not read; there are none in one that is missing.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse_closed):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else sorted(name for name in folders if not is_hidden(name))
        if real not in seen:
            found += [Path(place, name) for name in sorted(names) if not is_hidden(name)]
        seen.add(real)
    return found


def _refuse_closed(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise DataError(f"cannot read the folder {error.filename}: {error.strerror}; change its permissions")


def not_found(found: Sequence[Path], where: object) -> str:
    """Say why a name does not mean one file."""
    if found:
        return f"{where}: the name fits {found[0]} and {found[1]}; use `images` to name the folder of one of them"
    return f"{where}: there is no such image; use `images` to name the folder of the images"


def failing(message: str) -> Callable[..., NoReturn]:
    """Return a function that raises DataError, in the place of an image."""

    def fail(*_: object) -> NoReturn:
        raise DataError(message)

    return fail
