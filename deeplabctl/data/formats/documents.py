"""Documents of other programs: read JSON, say what is wrong in a part, write entries as they come, name the unknown."""

from __future__ import annotations

import csv
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from deeplabctl.data.findings import join_some
from deeplabctl.data.image_files import unreadable
from deeplabctl.errors import DataError
from deeplabctl.files import file_names, read_small_file

# What a document of another program raises where it does not follow its format.
MALFORMED = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, csv.Error, zlib.error,
)  # fmt: skip
_NOT_IN_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Programs whose own files are not read, by what these have in them, and what to use instead.
_PROGRAMS = (
    (b'"schema_ref"', "V7's Darwin JSON", "make COCO's JSON of it (darwin convert coco), and use `crowds=objects`"),
    (b'"export_format_version"', "Hasty's JSON", "export the project as COCO"),
    (b'"task_attributes"', "a release of Segments.ai", "export it with its SDK (export_dataset) as coco-instance"),
    (b'"source-ref"', "a manifest of SageMaker Ground Truth", "name its PNGs after their images, and use their folder"),
    (b'"Labeled Data"', "an export of Labelbox", "make COCO's JSON of it"),
    (b'"data_row"', "an export of Labelbox", "make COCO's JSON of it"),
    (b'"poly2d"', "Scalabel's JSON, as of BDD100K", "make masks of it (python -m bdd100k.label.to_mask)"),
    (b'"jsonResponse"', "Kili's JSON", "export the project as COCO"),
    (b'"className"', "SuperAnnotate's JSON", "make COCO's JSON of it with its SDK (export_annotation)"),
    (b'"FeatureCollection"', "GeoJSON, as of QuPath", "export labeled images as PNG"),
    (b'"imgHeight"', "Cityscapes' polygons", "choose the folder of its masks, with `mask_suffix=_gtFine_labelIds`"),
    (b"<bndbox>", "VOC's boxes", "annotate outlines or masks"),
)
_ARRAYS = (".npy", ".npz", ".mat", ".h5", ".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".dcm")


class Source:
    """Give the JSON documents of a file, or of a folder and its ``annotations``; only the last one stays in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: dict[Path, str] = {}  # files that are not JSON, and why
        self._last: tuple[Path, Any] | None = None

    def documents(self) -> Iterator[tuple[Path, Any]]:
        """Yield the path and the content of each JSON file; raises DataError if none of them can be read."""
        if self.path.is_dir():
            folders = (self.path, self.path / "annotations")
            files = sorted(folder / name for folder in folders for name in file_names(folder))
            paths = [path for path in files if path.suffix.lower() == ".json"]
        else:
            paths = [self.path] if self.path.suffix.lower() == ".json" else []
        found = 0
        for path in paths:
            try:
                document = self.document(path)
            except DataError as error:
                self.damaged[path] = str(error)
                continue
            found += 1
            yield path, document
        if self.damaged and not found:
            raise DataError(next(iter(self.damaged.values())))

    def document(self, path: Path) -> Any:
        """Return the content of a JSON file."""
        if self._last is None or self._last[0] != path:
            self._last = None  # not two of them at a time
            self._last = path, read_json(path)
        return self._last[1]

    def only(self, kind: str, is_of_kind: Callable[[Path, Any], bool]) -> Path:
        """Return the one file of a kind; raises DataError if there is none, are several, or one may be damaged."""
        paths = [path for path, document in self.documents() if is_of_kind(path, document)]
        if len(paths) != 1 or self.damaged:
            names = join_some([path.name for path in [*paths, *self.damaged]]) or "none"
            raise DataError(f"{self}: expected one file of {kind}, got {names}; choose the file itself")
        return paths[0]

    def __str__(self) -> str:
        """Return the path, as messages show it."""
        return str(self.path)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Turn what a malformed part of a document raises into a DataError that names the part."""
    try:
        yield
    except KeyError as error:
        raise DataError(f"{where}: expected {error}, got none") from None
    except (*MALFORMED, DataError) as error:
        raise DataError(f"{where}: {error}") from None


def whole_number(value: Any) -> int:
    """Return a value of a document as a whole number; raises DataError for anything else."""
    try:
        number = int(value)
        if isinstance(value, str) or number == value:
            return number
    except MALFORMED:
        pass
    raise DataError(f"expected a whole number, got {value!r:.80}")


def read_json(path: Path) -> Any:
    """Read a JSON document; raises DataError for anything else."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot read {path}: expected JSON ({error}); export it again") from None


def read_text(path: Path) -> str:
    """Read a text in UTF-8; raises DataError for anything else."""
    try:
        return read_small_file(path).decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}: expected text in UTF-8 ({error}); export it again") from None


def common_folder(images: Sequence[Path]) -> Path:
    """Return the folder from which annotations of several images name them."""
    return Path(os.path.commonpath([image.absolute().parent for image in images])) if images else Path()


def path_from(folder: Path, image: Path) -> str:
    """Return the path of an image from a folder; its whole path from another drive."""
    try:
        return Path(os.path.relpath(image.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return image.absolute().as_posix()


def xml_text(text: str) -> str:
    """Return a document of XML with what it cannot have, controls and halves of characters, as Python escapes these."""
    return _NOT_IN_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Entries:
    """Write the entries of a list or an object of JSON, with commas between them."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.count = 0

    def add(self, text: str) -> None:
        """Write an entry; ``count`` has its number afterwards, from 1."""
        self._file.write(f",\n{text}" if self.count else f"\n{text}")
        self.count += 1


def head_of(path: Path) -> bytes:
    """Return the beginning of a file, which shows what it is."""
    with path.open("rb") as file:
        return file.read(1 << 16)


def other_program(paths: Iterable[Path]) -> str:
    """Say what the first of these files is that is known, or else JSON, and what to do; nothing if none is."""
    unknown = ""
    for path in filter(Path.is_file, paths):
        if path.name.lower().endswith(_ARRAYS):
            return f"arrays ({path.name}); save each mask as a PNG of class ids, named after its image"
        head = head_of(path)
        for mark, content, advice in _PROGRAMS:
            if mark in head:
                return f"{content} ({path.name}); {advice}"
        if path.suffix.lower() == ".json":
            unknown = unknown or f"JSON of an unknown program ({path.name}); export the annotations as COCO"
    return unknown
