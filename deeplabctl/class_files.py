"""Read and write lists of class names and palettes, as people and other programs write them."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES, ClassNames, Color, colored_names, is_void, voc_palette
from deeplabctl.errors import DataError
from deeplabctl.files import read_small_file


@dataclass(frozen=True)
class Palette:
    """Hold class names and the colour of each in masks; a grey level counts as a colour of three equal channels."""

    names: tuple[str, ...]
    colors: tuple[Color, ...]  # RGB, one per class
    void: tuple[Color, ...]  # RGB, of void

    def ids(self) -> dict[Color, int]:
        """Return the class id of each colour, 255 for those of void."""
        return {color: index for index, color in enumerate(self.colors)} | dict.fromkeys(self.void, IGNORE_LABEL)


def read_classes(path: Path) -> ClassNames:
    """Read a ``classes.txt``: one name per line, the first is class 0; empty lines and ``#`` comments are skipped.

    Numbered names (``0,background``; ``0 - background``) are in the order of their ids. A palette is such a list, too:
    its colours are kept if every name has one, and void is skipped, which must be last, or have an id. So is a table
    with a header (``id,name``; ``name,r,g,b``), and JSON: names with colours or ids, ids with names, a list of names.
    """
    names = read_names(path)
    return ClassNames(_check_names(path, [*names]), names.colors)


def read_names(path: Path) -> ClassNames:
    """Read names as `read_classes` does, one of them too, or the same name twice."""
    rows = _class_rows(_lines(path, "class names", "one name per line"), path)
    return colored_names((row.name for row in rows), [row.color for row in rows])


def format_classes(names: Sequence[str], where: Path) -> str:
    """Return the text of a ``classes.txt`` that `read_classes` reads back as these names.

    Names with colours stand behind these. A name that would be read as something else, as "#1 ship" or "lane 1 2 3",
    stands behind its colour, or that in VOC's map. Raises DataError for one that no line can hold, which comes from
    ``where``.
    """
    colors = getattr(names, "colors", ())
    pairs = zip(colors or voc_palette(), names, strict=False)
    colored = [f"{' '.join(map(str, color))} {name}" for color, name in pairs]
    mixed = [name if _reads_back(name, name) else line for name, line in zip(names, colored, strict=False)]
    first = [*colored[:1], *mixed[1:]]  # where the first may be a header, or all names have numbers
    for lines in (colored, mixed, first) if colors else (mixed, first, colored):
        text = "".join(f"{line}\n" for line in lines)
        if _reads_back(text, *names):
            return text
    index = next((index for index, line in enumerate(mixed) if not _reads_back(line, names[index])), 0)
    raise DataError(
        f"{where}: class {index}, {names[index][:80]!r}: expected a name that a line of classes.txt can hold, without "
        "spaces at its ends; rename the class"
    )


def _reads_back(text: str, *names: str) -> bool:
    try:
        return [row.name for row in _class_rows(_numbered_lines(text.encode("utf-8")))] == [*names]
    except (UnicodeEncodeError, DataError):  # half of a character, as JSON can hold it; what may be a header
        return False


def _class_rows(lines: list[tuple[int, str]], path: Path | None = None) -> list[_Row]:
    rows = _table(lines, path)
    if rows is None:
        rows = _plain_rows(lines)
        if wrong := next((row.line for row in rows if row.color is None and _STRUCTURE.match(row.name)), None):
            raise DataError(
                f"{path}:{wrong}: expected one class name per line, got what may be JSON, YAML, a table or other "
                "settings; write the names into a .txt file, in the order of their ids"
            )
    _check_numbers_behind(rows, path)
    for row in rows:
        if row.color and max(row.color) > 255:
            raise DataError(f"{path}:{row.line}: expected a colour of numbers up to 255, got {row.color}; correct it")
    names = [row for row in rows if not (is_void(row.name) and (row.color or row.id in (IGNORE_LABEL, -1)))]
    if names != rows[: len(names)] and all(row.id is None for row in rows):
        void = next(row for row in rows if row not in names)
        raise DataError(
            f"{path}:{void.line}: expected {void.name!r} after all classes, or ids before the names, got it before "
            "others, so it is not clear whether it has an id; write ids (0 road, 255 void), remove it if it has none, "
            "or use the file as `palette` for masks in colours"
        )
    if any(row.id is not None for row in names):
        names.sort(key=lambda row: -1 if row.id is None else row.id)
        for index, row in enumerate(names):
            if row.id != index:
                raise DataError(
                    f"{path}:{row.line}: expected the class ids 0 to {len(names) - 1}, each once, got {row.id} for "
                    f"{row.name!r} and none for {index}; name all classes, or renumber them"
                )
    return names


@dataclass(frozen=True)
class _Row:
    """Hold what a line of a table says of a class."""

    line: int
    name: str
    color: Color | None
    id: int | None = None


_HEADS = {  # what a column has, by the words of its header
    "name": "name", "class": "name", "label": "name", "category": "name", "classname": "name", "labelname": "name",
    "classes": "name", "names": "name", "labels": "name", "categoryname": "name",
    "id": "id", "index": "id", "idx": "id", "value": "id", "pixelvalue": "id", "classid": "id", "labelid": "id",
    "categoryid": "id", "pixel": "id", "classindex": "id", "number": "id", "classnumber": "id",
    "r": "red", "red": "red", "g": "green", "green": "green", "b": "blue", "blue": "blue",
    "color": "color", "colour": "color", "rgb": "color", "hex": "color", "colorrgb": "color", "colorhex": "color",
    "classcolor": "color",
}  # fmt: skip
# Of JSON, YAML, protobuf, XML, tables, code, colours in other notations, and the first lines of GIMP's and QGIS's
# palettes.
_STRUCTURE = re.compile(
    r"[\[\]{}]|.*([\[{:,;]|:\s*\[.*)$|([\"']).*\2$|- |<.*>$|.*(\t|rgba?\(|( [\d.]*\.\d+){3})"
    r"|.*[\s,;:=]#([\da-fA-F]{6}\b|(?=\d*[a-fA-F])[\da-fA-F]{3}$)|GIMP Palette$|INTERPOLATION:"
)
_NUMBERED = re.compile(  # "0: road", "0,road", "0. road", "(0) road", "0 - road"; not "3d-print", "0.5m", "2-lane"
    r"[(\[]?(-1|\d{1,9})(?:\s*([,;:\t])\s*|[.)\]]*(?:\s+(?:[-|=/]\s+)?|[|=/.)\]](?!\d)\s*))"
    r"((?!\d+(?:[\W_]|$)|#[0-9a-fA-F]{6})\S.*)"
)
_NUMBER_BEFORE = re.compile(r"(\d{1,9})[-_]")
_NUMBER_BEHIND = re.compile(r"(.*?)[\W_]+(\d{1,9})\W*")


def _table(lines: list[tuple[int, str]], path: Path | None) -> list[_Row] | None:
    """Return the rows of a table with a header, or of numbered names or a CSV file; None for a list of names.

    Raises DataError for columns of which it is not known what they have, and as `_numbered_rows` does.
    """
    if not lines:
        return None
    if (rows := _json_rows(lines) or _itk_snap_rows(lines)) is not None:
        return rows
    is_csv = path is not None and path.suffix.lower() in (".csv", ".tsv")
    number, first = lines[0]
    separator = next((each for each in "\t;," if each in first), ",")
    try:
        cells = [next(csv.reader([line], delimiter=separator, skipinitialspace=True)) for _, line in lines]
    except csv.Error:  # which no name has
        return None
    cells = [[cell.strip() for cell in row] for row in cells]
    heads = [_head(cell) for cell in cells[0]]
    is_header = "name" in heads and "" not in heads and (is_csv or len(heads) > 1)
    if not is_header and ((rows := _numbered_rows(lines, path, is_csv=is_csv)) or not is_csv):
        return rows
    columns = [list(column[is_header:]) for column in itertools.zip_longest(*cells, fillvalue="")]
    heads = _name_columns(heads if is_header else [""] * len(cells[0]), columns)
    if not heads:
        raise DataError(
            f"{path}:{number}: expected columns of names, ids and colours, or a header that says which "
            f"(id,name,r,g,b), got {first[:80]!r}; write such a header, or one name per line in a .txt file"
        )
    below = list(zip(lines, cells, strict=True))[is_header:]
    return [_row_of_cells(f"{path}:{number}", number, line, heads, row) for (number, line), row in below]


def _numbered_rows(lines: list[tuple[int, str]], path: Path | None, *, is_csv: bool) -> list[_Row] | None:
    """Return the rows of names with their ids before them; None for other lines.

    Raises DataError for a first name that may be a header, for ids from 1 on, and for what else numbers may mean.
    """
    number, first = lines[0]
    found = [_NUMBERED.fullmatch(line) for _, line in lines]
    counts = [match and int(match[1]) for match in found]
    words = [_head(word) for word in first.split()]
    is_header = ("name" in words and "" not in words) or first == str(len(lines) - 1)
    is_header |= counts[0] is None and _may_be_ids(counts) and not _STRUCTURE.match(first)
    if len(lines) > 1 and is_header:
        raise DataError(
            f"{path}:{number}: expected the name of class 0, got {first[:80]!r}, which may be a header; remove the "
            f"line, or write '0 0 0 {first[:80]}' for a class of this name"
        )
    _check_three_numbers([] if is_csv else lines, path)
    matches = [match for match in found if match]
    if len(matches) < max(len(lines), 2):
        return None
    if not ({0, -1} & {*counts} or all(match[2] for match in matches)):
        if _may_be_ids(counts):
            raise DataError(
                f"{path}:{number}: expected the name of class 0, got {first[:80]!r}, which counts from 1; add a "
                "line for class 0, without numbers, or remove the numbers"
            )
        return None
    found_rows = zip(lines, matches, strict=True)
    return [_Row(number, *_split_color(match[3]), int(match[1])) for (number, _), match in found_rows]


def _head(word: str) -> str:
    """Return what a column has by the word of its header, or nothing."""
    return _HEADS.get(re.sub(r"[\s_-]", "", word.casefold()), "")


def _may_be_ids(numbers: list[int | None]) -> bool:
    """Tell whether numbers of lines may be ids: they count from 0 or 1 on, in any order, perhaps below a header.

    Without a number in the first line, those from 1 on in their order are right. So are two names with 1 and 2.
    """
    given = [each for each in numbers[numbers[:1] == [None] :] if each != IGNORE_LABEL]
    known = sorted(each for each in given if each is not None)
    is_right = numbers in ([None, *range(1, len(numbers))], [1, 2])
    counts = ([*range(len(given))], [*range(1, len(given) + 1)])
    return len(given) > 1 and not is_right and known in counts


def _row_of_cells(where: str, number: int, line: str, heads: list[str], cells: list[str]) -> _Row:
    """Return the row of a line by what its columns have; raises DataError for cells that are missing or wrong."""
    if len(cells) < len(heads) or any(cells[len(heads) :]):
        fix = "complete the line" if len(cells) < len(heads) else "put names that contain separators in quotes"
        raise DataError(f"{where}: expected {len(heads)} columns, got {line[:80]!r}; {fix}")
    of = dict(zip(heads, cells, strict=False))
    color = of.get("color", ",".join(of.get(key, "") for key in ("red", "green", "blue")))
    known = _split_color(f"x {color.strip('()[] ')}")[1]
    if not of["name"] or (("color" in of or "red" in of) and known is None):
        raise DataError(f"{where}: expected a name, with its id and colour, got {line[:80]!r}; complete it")
    if "id" in of and not re.fullmatch(r"[0-9]{1,9}", of["id"]):
        raise DataError(f"{where}: expected a class id, got {of['id'][:80]!r}; correct the line")
    return _Row(number, of["name"], known, int(of["id"]) if "id" in of else None)


def _itk_snap_rows(lines: list[tuple[int, str]]) -> list[_Row] | None:
    """Return the rows of ITK-SNAP's label descriptions; None for other content."""
    found = [match for _, line in lines if (match := _ITK_SNAP.fullmatch(line))]
    if len(found) < len(lines):
        return None
    return [
        _Row(number, match[5], (int(match[2]), int(match[3]), int(match[4])), int(match[1]))
        for (number, _), match in zip(lines, found, strict=True)
    ]


def _check_three_numbers(lines: list[tuple[int, str]], path: Path | None) -> None:
    """Raise DataError if each name has four numbers, of which one may be an id, an alpha, or part of the name.

    A name that begins with a number is one, behind its colour, unless first numbers are ids, or all fourth ones 255.
    """
    before = [match for _, line in lines if (match := _FOUR_THEN_NAME.fullmatch(line))]
    ids, fourth = [int(match[1]) for match in before], {match[4] for match in before}
    names = {match[4] for _, line in lines if (match := _NAME_THEN_FOUR.fullmatch(line))}
    if len(lines) > 1 and (ids in ([*range(len(lines))], [*range(1, len(lines) + 1)]) or fourth == {"255"}):
        names = {match[5] for match in before}
    if lines and len(names) == len(lines):
        number, line = lines[0]
        raise DataError(
            f"{path}:{number}: expected a name and the three numbers of its colour, got four: {line[:80]!r}; remove "
            "the ids or the alpha; of a name that ends in a number, write the colour first"
        )


def _check_numbers_behind(rows: list[_Row], path: Path | None) -> None:
    """Raise DataError if numbers behind the names of a list, different without them, may be ids.

    Or those in names such as 2-road that are not in their order.
    """
    if any(row.color or row.id is not None for row in rows):
        return
    behind = [_NUMBER_BEHIND.fullmatch(row.name) for row in rows]
    before = [int(match[1]) for row in rows if (match := _NUMBER_BEFORE.match(row.name))]
    names = {match[1] for match in behind if match}
    are_ids = len(names) == sum(map(bool, behind)) and _may_be_ids([match and int(match[2]) for match in behind])
    if are_ids or (len(before) == len(rows) and before != sorted(before) and _may_be_ids([*before])):
        row = rows[behind[0] is None and are_ids]
        raise DataError(
            f"{path}:{row.line}: expected one class name per line, got {row.name[:80]!r}, whose number may be "
            "its id; write the ids before the names (0 background), or a colour before a name that ends in a number"
        )


def _json_rows(lines: list[tuple[int, str]]) -> list[_Row] | None:
    """Return the rows of {name: colour or id}, of {id: name} and of a list of names in JSON; None for other content."""
    try:
        pairs = json.loads("\n".join(text for _, text in lines), object_pairs_hook=lambda found: [*found])
    except (ValueError, RecursionError):
        return None
    rows = []
    for pair in pairs if isinstance(pairs, list) else [None]:
        color: Color | None = None
        number: int | None = None
        match (pair, None) if isinstance(pair, str) else pair:
            case (str(key), str(name)) if key.isdecimal():
                number = int(key)
            case (str(name), int(number)) if not isinstance(number, bool) and number >= 0:
                pass
            case (str(name), [int(red), int(green), int(blue)]) if max(red, green, blue) < 256:
                color = red, green, blue
            case (str(name), str(text)) if color := _split_color(f"x {text}")[1]:
                pass
            case (str(name), None):
                pass
            case _:
                return None
        if not name.strip() or min(color or (0,)) < 0:
            return None
        rows.append(_Row(lines[0][0], name.strip(), color, number))
    return rows


def _name_columns(heads: list[str], columns: list[list[str]]) -> list[str]:
    """Return what each column of a table has, by its header, or by its numbers; nothing if that is not clear."""
    is_number = [all(re.fullmatch(r"[0-9]{1,3}", cell) for cell in column) for column in columns]
    if "name" in heads:  # "label,name" has ids and names, and "name,color" may have grey levels
        levels = {"name"} if heads.count("name") > 1 else set() if "id" in heads else {"color"}
        heads = ["id" if number and head in levels else head for head, number in zip(heads, is_number, strict=False)]
    else:
        numbers = {0: [], 1: ["id"], 3: ["red", "green", "blue"], 4: ["id", "red", "green", "blue"]}
        rest = iter(numbers.get(sum(is_number), []))
        heads = [next(rest, "") if number else "name" for number in is_number]
    return heads if "name" in heads and "" not in heads and len(set(heads)) == len(heads) else []


def parse_class_names(text: str) -> tuple[str, ...]:
    """Return the class names that a text stands for: "voc", the path of a file for `read_classes`, or "a,b,c"."""
    if text == "voc":
        return VOC_CLASSES
    if os.path.isfile(text):  # noqa: PTH113 - Path.is_file raises for texts that are too long for a path
        return read_classes(Path(text))
    names = tuple(map(str.strip, text.strip().removesuffix(",").split(",")))
    if not 2 <= len(names) <= IGNORE_LABEL or len(set(names)) < len(names) or "" in names:
        raise DataError(
            f"classes {text!r}: expected voc, a file with one name per line, or 2 to {IGNORE_LABEL} different names "
            "separated by commas (background,road,tree)"
        )
    return names


def read_palette(path: Path) -> Palette:
    """Read a palette file: one name and colour per line, in the order of the class ids.

    A colour is ``128 64 128``, ``128,64,128`` or ``#804080`` after the name, or ``128 64 128`` or ``#804080`` before
    it; a single number is a grey level. In JSON a colour is ``[128, 64, 128]`` or ``"#804080"``. The names void, ignore
    and unlabeled stand for void (255). CVAT's ``labelmap.txt`` and CamVid's ``label_colors.txt`` are such files. Raises
    DataError with the line number.
    """
    names: list[str] = []
    colors: list[Color] = []
    void: list[Color] = []
    taken: dict[Color, str] = {}
    lines = _lines(path, "palette", "one name and colour per line")
    texts, table = dict(lines), _table(lines, path)
    rows = _plain_rows(lines, grey=True) if table is None else table
    if all(row.color and row.id is not None for row in rows):
        rows.sort(key=lambda row: row.id or 0)
    for row in rows:
        color = row.color or (None if row.id is None else (row.id, row.id, row.id))
        if color is None or max(color) > 255:
            raise DataError(
                f"{path}:{row.line}: expected a name and a colour (road 128 64 128, road #804080, or a grey level: "
                f"road 128), got {texts[row.line][:80]!r}; complete the line"
            )
        if color in taken:
            raise DataError(
                f"{path}:{row.line}: expected different colours for {row.name!r} and {taken[color]!r}, got {color} for "
                "both; give each class its own colour"
            )
        taken[color] = row.name
        if is_void(row.name):
            void.append(color)
        else:
            names.append(row.name)
            colors.append(color)
    return Palette(colored_names(_check_names(path, names), colors), tuple(colors), tuple(void))


def _plain_rows(lines: list[tuple[int, str]], *, grey: bool = False) -> list[_Row]:
    return [_Row(number, *_split_color(line, grey=grey)) for number, line in lines]


_NUMBERS = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
_NAME_THEN_RGB = re.compile(rf"(.*?[^\s,;:=])[\s,;:=]+{_NUMBERS}(?:[\s,;:]*|:[^:]*:[^:]*)")  # CVAT: parts, actions
_RGB_THEN_NAME = re.compile(rf"{_NUMBERS}[\s,;:]+(\S.*)")
_NAME_THEN_FOUR = re.compile(rf"(?!{_NUMBERS}[\s,;:]+\S)(.*?[^\s,;:=])[\s,;:=]+\d{{1,3}}[\s,;]+{_NUMBERS}")
_FOUR_THEN_NAME = re.compile(rf"(\d{{1,3}})[\s,;]+{_NUMBERS}[\s,;:]+(\S.*)")
_ITK_SNAP = re.compile(rf'(\d{{1,9}})\s+{_NUMBERS}\s+[\d.]+\s+[01]\s+[01]\s+"(.+)"')  # id, colour, alpha, two flags
_NAME_THEN_HEX = re.compile(r"(.*?[^\s,;:=])[\s,;:=]+#([0-9a-fA-F]{6})(?:[fF]{2})?")  # perhaps with an alpha
_HEX_THEN_NAME = re.compile(r"#([0-9a-fA-F]{6})(?:[fF]{2})?[\s,;:=]+(\S.*)")
_NAME_THEN_GREY = re.compile(r"(.*?[^\s,;:=])[\s,;:=]+(\d{1,3})")


def _split_color(line: str, *, grey: bool = False) -> tuple[str, Color | None]:
    """Return the name in a line and its colour, or None for the colour if there is none."""
    if match := _RGB_THEN_NAME.fullmatch(line):
        return match[4], (int(match[1]), int(match[2]), int(match[3]))
    if match := _NAME_THEN_RGB.fullmatch(line):
        return match[1], (int(match[2]), int(match[3]), int(match[4]))
    if match := _HEX_THEN_NAME.fullmatch(line):
        red, green, blue = bytes.fromhex(match[1])
        return match[2], (red, green, blue)
    if match := _NAME_THEN_HEX.fullmatch(line):
        red, green, blue = bytes.fromhex(match[2])
        return match[1], (red, green, blue)
    if grey and (match := _NAME_THEN_GREY.fullmatch(line)):
        return match[1], (int(match[2]),) * 3
    return line, None


def _lines(path: Path, what: str, expected: str) -> list[tuple[int, str]]:
    """Return (number, text) of the lines, without empty ones and comments."""
    try:
        return _numbered_lines(read_small_file(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the {what} {path}: {error}; expected a text file, {expected}") from None


def _numbered_lines(content: bytes) -> list[tuple[int, str]]:
    lines = [(number, line.strip()) for number, line in enumerate(content.decode("utf-8-sig").splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not re.fullmatch("sep=.", line)]  # Excel's
    others = [line for _, line in lines if not line.startswith("#")]
    heads = all(map(_head, re.split(r"[\s,;]+", others[0]))) if others else False
    colored = all(_split_color(line)[1] for line in others[heads:])  # so that "#804080 road" is no comment
    return [pair for pair in lines if not pair[1].startswith("#") or (colored and _HEX_THEN_NAME.fullmatch(pair[1]))]


def _check_names(path: Path, names: list[str]) -> tuple[str, ...]:
    if not 2 <= len(names) <= IGNORE_LABEL:
        raise DataError(f"{path}: expected 2 to {IGNORE_LABEL} class names, one per line, got {len(names)}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{path}: expected each class once, got {twice[0]!r} more than once; remove the repeated line")
    return tuple(names)
