"""YOLO's files for segmentation: a data.yaml, and for each image a text with a class and an outline in each line.

Ultralytics' names of folders hold: the text of ``images/train/a.jpg`` is ``labels/train/a.txt``. Roboflow has
``train/images`` and ``train/labels``; CVAT lists the images of a split in a text. Coordinates are shares of the size.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from deeplabctl.arrays import Label, Mask, Size
from deeplabctl.class_files import read_names
from deeplabctl.data.formats.annotations import (
    AnnotationFormat,
    Annotations,
    ImportSettings,
    Outlines,
    Region,
    drawn_outlines,
    first_object,
)
from deeplabctl.data.formats.documents import Source, head_of, naming, read_text, whole_number
from deeplabctl.data.formats.image_search import files_below
from deeplabctl.data.formats.outlines import TOLERANCE, box_corners, fill_shares
from deeplabctl.errors import DataError
from deeplabctl.reporting import Reporter

_YAML = (".yaml", ".yml")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # in a data.yaml: in a data set
_LINE = re.compile(r"""((?:'[^']*'|"[^"]*"|[^#]|(?<=\S)#)*)""")  # without a comment
_QUOTED = r"""(?:'(?:[^']|'')*'|"(?:[^"\\]|\\.)*")"""
_ITEM = re.compile(rf"""\s*((?:\w+\s*:\s*)?{_QUOTED}|[^\s,'"][^,]*?)\s*(,|$)""")  # of a list or a table in one line
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|U([0-9A-Fa-f]{8})|.)")  # the first two are YAML's, and not JSON's


class Yolo(AnnotationFormat):
    """Read the texts of a data.yaml: of overlapping objects the smaller lies on top, as where Ultralytics trains.

    Lines of five numbers are boxes without an outline: void, below all objects.
    """

    content, reads_below = "YOLO's data.yaml", True

    def recognises(self, source: Source) -> bool:
        """Tell whether it is a YAML file, or a folder with one of classes or with texts in its ``labels``."""
        if not source.path.is_dir():
            return source.path.suffix.lower() in _YAML
        path = _yaml_in(source.path)
        has_names = path is not None and re.search(rb"^names\s*:", head_of(path), re.MULTILINE)
        return bool(has_names or _texts_below(source.path / "labels"))

    def read(self, source: Source, settings: ImportSettings, report: Reporter) -> Annotations:
        """Read all texts; one that does not follow the format fails alone."""
        path = _yaml_in(source.path) if source.path.is_dir() else source.path
        root = source.path if path is None else path.parent
        names, parent, places = _read_classes(root) if path is None else _read_yaml(path)
        where = path or root
        counts = Counter[str]()
        outlines = Outlines(settings)
        taken: set[Path] = set()  # the folders or lists of splits
        for split, entry in places:
            place = _find_place(root, parent, entry)
            if place is None or place in taken:
                why = "not there" if place is None else "that of another split, too"
                outlines.notes.append(f"{where}: {split}: {entry} is {why}: left out")
                continue
            taken.add(place)
            is_list = place.suffix == ".txt"
            search = outlines.search(root if is_list else place, by_stem=True)
            texts = list(_list_texts(place, root))
            if not texts:
                outlines.notes.append(f"{where}: {split}: {entry} has no label files: left out")
            for short, name, text in texts:
                file = search.image_of(name if settings.images or is_list else short, text)
                with outlines.image(name, file) as image:
                    image.split = _SPLITS.get(split, "")
                    image.regions += _read_text(text, names, counts)
        if not counts["texts"]:
            why = f" ({'; '.join(outlines.notes)})" if outlines.notes else ""
            raise DataError(f"{where}: expected text files in labels folders, got none{why}; choose the set's folder")
        if counts["boxes"] and not counts["outlines"]:
            raise DataError(
                f"{where}: expected outlines, got only boxes: lines of five numbers, {counts['boxes']} of them; export "
                "the set for segmentation"
            )
        outlines.without_area = counts["points"]
        if counts["boxes"]:
            outlines.notes.append(f"boxes without an outline: {counts['boxes']} of {counts['lines']} lines, void")
        if counts["outlines"] and counts["of 4 corners"] == counts["outlines"]:
            outlines.notes.append(
                f"outlines of 4 corners, all {counts['outlines']}: taken as outlines, not as oriented boxes"
            )
        return outlines.annotations(where, [*names.values()], smaller_on_top=True)


def _yaml_in(folder: Path) -> Path | None:
    """Return a folder's data.yaml, or else its only YAML file."""
    found = sorted(path for path in folder.iterdir() if path.suffix in _YAML and path.is_file())
    return next((path for path in found if path.stem == "data"), found[0] if len(found) == 1 else None)


def _read_classes(root: Path) -> tuple[dict[int, str], str, list[tuple[str, str]]]:
    """Return what `_read_yaml` does of a folder with ``images``, ``labels`` and a classes.txt, as Label Studio's."""
    path = root / "classes.txt"
    if not path.is_file():
        raise DataError(f"{root}: expected a data.yaml or a classes.txt with the classes of its labels, got neither")
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    has_ids = all(line[:1] in "#0123456789" for line in lines)
    for number, line in enumerate(lines):
        if not line or (line.startswith("#") and not has_ids):
            got = "a comment" if line else "none"
            raise DataError(f"{path}:{number + 1}: expected the name of class {number}, got {got}; remove the line")
    return dict(enumerate(read_names(path))), "", [("", "images")]


def _read_yaml(path: Path) -> tuple[dict[int, str], str, list[tuple[str, str]]]:
    """Return the classes of a data.yaml, its ``path``, and the folder, or the list of images, of each split.

    Only what such files have is read of YAML: texts, and lists and tables of texts.
    """
    found: dict[str, str] = {}
    key = ""
    for number, whole in enumerate(read_text(path).splitlines(), 1):
        line = (_LINE.match(whole) or [whole])[0].rstrip()
        if match := re.fullmatch(r"([A-Za-z_]\w*)\s*:(?:\s+(.*))?", line):
            key = match[1]
            if key in found:
                raise DataError(f"{path}:{number}: expected {key} once, got it again; remove one of them")
            found[key] = match[2] or ""
        elif line.strip() not in ("", "---", "..."):
            found[key] = f"{found.get(key, '')}\n{line}"
    if "kpt_shape" in found:
        raise DataError(f"{path}: expected outlines, got keypoints (kpt_shape); export the set for segmentation")
    with naming(f"{path}: names"):
        if not re.match(r"\s*[\[{]|\n", found["names"]):
            raise DataError(f"expected a list or a table, got {found['names']!r:.80}")
        names = {whole_number(index): name for index, name in _items(found["names"])}
        count = whole_number(found.get("nc", len(names)))
        if not names or sorted(names) != list(range(count)):
            raise DataError(f"expected {count} classes with the numbers from 0, got {names}")
    places = []
    for split in _SPLITS:
        with naming(f"{path}: {split}"):
            places += [(split, entry) for _, entry in _items(found.get(split, "")) if entry not in ("", "null", "~")]
    if not places and _texts_below(path.parent / "labels"):  # as supervision writes it
        places = [("", "images")]
    if not places:
        raise DataError(f"{path}: expected the folders of images (train, val), got none; complete the file")
    with naming(f"{path}: path"):
        return dict(sorted(names.items())), next((entry for _, entry in _items(found.get("path", ""))), ""), places


def _items(text: str) -> Iterator[tuple[str, str]]:
    """Yield what a value of YAML holds, with the keys of a table or the numbers from 0."""
    flat = " ".join(text.split())
    if flat[:1] in ("[", "{"):
        if flat[-1] != {"[": "]", "{": "}"}[flat[0]]:
            raise DataError(f"expected a list in brackets, got {flat!r:.80}")
        parts, rest, is_table = [], flat[1:-1], flat[0] == "{"
        while rest.strip():
            match = _ITEM.match(rest)
            if match is None:
                raise DataError(f"expected strings separated by commas, got {rest!r:.80}")
            parts.append(match[1])
            rest = rest[match.end() :]
    else:
        parts = [line.strip() for line in text.split("\n") if line.strip()]
        is_table = "\n" in text and not parts[0].startswith("-")
        if "\n" in text and not is_table:
            if wrong := next((part for part in parts if not part.startswith("-")), None):
                raise DataError(f"expected a list of strings, one per line, got {wrong!r:.80}")
            parts = [part[1:].strip() for part in parts]
    for number, part in enumerate(parts):
        key, value = str(number), part
        if is_table:
            key, colon, value = part.partition(":")
            if not colon:
                raise DataError(f"expected a number, a colon and a string, got {part!r:.80}")
        yield _text(key), _text(value)


def _text(scalar: str) -> str:
    scalar = scalar.strip()
    if scalar[:1] == '"':
        return str(json.loads(_ESCAPE.sub(_in_json, scalar)))
    if scalar[:1] == "'":
        return scalar[1:-1].replace("''", "'")
    if scalar[:1] in tuple("&*!|>@%`{["):
        raise DataError(f"expected a plain string, got {scalar!r:.80}")
    return scalar


def _in_json(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return json.dumps(chr(int(code, 16)))[1:-1] if code else escape[0]


def _find_place(root: Path, parent: str, entry: str) -> Path | None:
    """Return the folder or the list of a split, which may have no images, only labels; None if it is not there."""
    entry, parent = entry.replace("\\", "/"), parent.replace("\\", "/")
    inside = entry.removeprefix("../")  # Roboflow's paths lead out of the folder in which they are
    parts = PurePosixPath(entry).parts  # of another machine, the last two or more may be here
    moved = (root.joinpath(*parts[first:]) for first in range(1, len(parts) - 1))
    for place in (root / parent / inside, root / inside, root / parent / entry, root / entry, *moved):
        if os.path.exists(place) or os.path.isdir(_labels_of(place)):  # noqa: PTH110, PTH112 - names that are too long
            return place
    return None


def _labels_of(images: Path) -> Path:
    """Return the path of labels beside that of images: the last folder ``images`` is ``labels``."""
    parts = [*images.parts]
    last = next((index for index in reversed(range(len(parts))) if parts[index] == "images"), None)
    return images if last is None else Path(*parts[:last], "labels", *parts[last + 1 :])


def _texts_below(folder: Path) -> list[Path]:
    return [path for path in files_below(folder) if path.suffix == ".txt" and path.name != "classes.txt"]


def _list_texts(place: Path, root: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield the names of images, from their folder and from the set's, and their texts; not those without a text."""
    labels = root if place.suffix == ".txt" else _labels_of(place)
    for text in _texts_in(place, root) if place.suffix == ".txt" else _texts_below(labels):
        inside = text.parts[len(root.parts) :] if root in text.parents else text.parts[-1:]
        name = PurePosixPath(*(part for part in inside if part not in ("labels", ".."))).with_suffix("").as_posix()
        yield text.relative_to(labels).with_suffix("").as_posix(), name, text


def _texts_in(listed: Path, root: Path) -> Iterator[Path]:
    """Yield the texts of the images that a list names; its paths may begin with folders that are not there."""
    for line in read_text(listed).splitlines():
        parts = PurePosixPath(line.strip().replace("\\", "/")).parts
        paths = (_labels_of(root.joinpath(*parts[first:])).with_suffix(".txt") for first in range(len(parts)))
        if text := next((path for path in paths if path.is_file()), None):
            yield text


def _read_text(path: Path, names: dict[int, str], counts: Counter[str]) -> Iterator[Region]:
    """Yield the regions of a text; raises DataError with the line for what is neither an outline nor a box."""
    counts["texts"] += 1
    for number, line in enumerate(read_text(path).splitlines(), 1):
        where, cells = f"{path}:{number}", line.split()
        if not cells:
            continue
        with naming(where):
            counts["lines"] += 1
            if (index := float(cells[0])) not in names:
                raise DataError(f"expected the number of a class, 0 to {len(names) - 1}, got {cells[0]}")
            if len(cells) % 2 == 0 or len(cells) == 1:
                raise DataError(f"expected a class and pairs of x and y, got {len(cells)} numbers")
        kind = {3: "points", 5: "boxes"}.get(len(cells), "outlines")
        counts.update([kind] + ["of 4 corners"] * (len(cells) == 9))
        if kind != "points":
            yield Region(names[int(index)], where, partial(_fill, line), is_below=kind == "boxes")


def _fill(line: str, size: Size) -> Mask:
    _, *shares = map(float, line.split())
    points = [*zip(shares[::2], shares[1::2], strict=True)]
    if len(points) == 2:
        (x, y), (width, height) = points
        points = box_corners(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return fill_shares(size, points)


def yolo_text(label: Label, classes: Sequence[str], tolerance: float = TOLERANCE) -> str:
    """Return YOLO's text of a label (H, W) uint8: its regions, without void and a class 0 that is the background."""
    lines = []
    for outline in drawn_outlines(label, classes, tolerance):
        shares = (outline.points / label.shape[::-1]).ravel().tolist()
        number = outline.class_id - first_object(classes)
        lines.append(" ".join([str(number), *(f"{share:.6f}" for share in shares)]))
    return "".join(f"{line}\n" for line in lines)


def yolo_settings(classes: Sequence[str]) -> str:
    """Return a data.yaml for texts of `yolo_text` in ``labels``, whose images are to lie in ``images``.

    It has no ``path``: without one, Ultralytics looks beside the file, and takes "." as the working directory.
    """
    names = classes[first_object(classes) :]
    lines = [f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(names)]
    return "".join(["train: images\nval: images\nnames:\n", *lines])
