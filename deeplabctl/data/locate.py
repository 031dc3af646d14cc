"""Find a data set by its path or its name, and draw the built-in one when it is first needed."""

from __future__ import annotations

from pathlib import Path

from deeplabctl.data.dataset import Dataset
from deeplabctl.data.dataset import open_dataset as open_folder
from deeplabctl.data.shapes import CLASSES, write_shapes
from deeplabctl.errors import OutputError
from deeplabctl.files import user_cache
from deeplabctl.reporting import Note, Reporter, silent

SHAPES = "shapes"
_SHAPES_VERSION = 1  # raised when the drawn images change
_USUAL_PLACES = (Path("VOCdevkit", "VOC2012"), Path("data", "VOCdevkit", "VOC2012"))


def find_dataset(given: str | None, report: Reporter) -> Dataset:
    """Return the given data set, else VOC 2012 in one of the usual places, else the built-in ``shapes``.

    Raises DataError if the given folder is not a data set.
    """
    if given and given != SHAPES:
        return open_folder(Path(given))
    if given and Path(SHAPES).is_dir():
        report(Note(f"data set: the built-in shapes; the folder here is `data=./{SHAPES}`", warning=True))
    if not given:
        for place in _USUAL_PLACES:
            if place.is_dir():
                report(Note(f"data set: {place}"))
                return open_folder(place)
        usual = " or ".join(f"./{place}" for place in _USUAL_PLACES)
        report(Note(f"data set: the built-in shapes, as `data` is not given and there is no {usual}"))
    return shapes_dataset(report)


def open_dataset(data: str | Path, report: Reporter = silent) -> Dataset:
    """Open a data set: a folder in VOC layout, or "shapes", the built-in one; raises DataError for anything else."""
    return find_dataset(str(data), report)


def shapes_dataset(report: Reporter) -> Dataset:
    """Return the built-in data set, drawn once into the user's cache folder."""
    root = _shapes_root()
    if not root.is_dir():
        report(Note(f"drawing the built-in data set into {root} (once)"))
        try:
            write_shapes(root)
        except OutputError:
            if not root.is_dir():  # else another process has drawn it meanwhile
                raise
    return open_folder(root)


def name_or_path(dataset: Dataset) -> str:
    """Return what finds a data set again from any folder: "shapes" for the built-in one, else its absolute path."""
    is_ours = user_cache() is not None and dataset.root == _shapes_root()
    return SHAPES if is_ours else str(dataset.root.resolve())


def is_shapes(dataset: Dataset) -> bool:
    """Tell whether a data set is the built-in one or another that `write_shapes` has drawn."""
    return dataset.classes == CLASSES


def _shapes_root() -> Path:
    folder = user_cache()
    if folder is None:
        raise OutputError(
            "the built-in data set: expected a home folder to draw it in, got none; set $HOME or $XDG_CACHE_HOME, or "
            "write it with deeplabctl data shapes"
        )
    return folder / f"shapes-v{_SHAPES_VERSION}" / SHAPES
