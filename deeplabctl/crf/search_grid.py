"""Define the points of the search for CRF parameters: the papers' grids, their refinement, and the table of scores.

Both papers fix pos_w and pos_xy_std and search bi_w, bi_xy_std and bi_rgb_std on 100 images of the validation set,
from coarse to fine (arXiv 1412.7062, section 5.1, and 1606.00915, section 4.1.3).
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

from deeplabctl.crf.params import CrfParams
from deeplabctl.errors import RecipeError, RunError
from deeplabctl.files import read_small_file, write_text

AXES = ("bi_w", "bi_xy_std", "bi_rgb_std")
Point = tuple[float, ...]  # a value for each axis
Grid = dict[str, tuple[float, ...]]

GRIDS: dict[str, Grid] = {
    "v1": {"bi_w": (5, 6, 7, 8, 9, 10), "bi_xy_std": (50, 60, 70, 80, 90, 100), "bi_rgb_std": tuple(range(3, 11))},
    "v2": {"bi_w": (3, 4, 5, 6), "bi_xy_std": tuple(range(30, 101, 10)), "bi_rgb_std": (3, 4, 5, 6)},
}


def parse_grid(texts: Sequence[str]) -> Grid:
    """Return the grid in texts: the name ``v1`` or ``v2`` (the default), and values of axes.

    Values are ``bi_w=3:6`` or ``bi_xy_std=30:10:100`` (first, step, last: MATLAB's notation, which the papers use), or
    ``bi_w=4``, or ``bi_w=3,5``. Raises RecipeError for anything else.
    """
    grid = dict(GRIDS["v2"])
    for text in texts:
        key, equals, value = (word.strip() for word in text.partition("="))
        if not equals and text in GRIDS:
            grid = dict(GRIDS[text])
        elif key in AXES:
            grid[key] = _values(text, value)
        else:
            raise RecipeError(f"expected {' or '.join(GRIDS)}, or {'=..., '.join(AXES)}=..., got {text!r}")
    return grid


def _values(text: str, value: str) -> tuple[float, ...]:
    try:
        numbers = [[float(word) for word in part.split(":")] for part in value.split(",")]
    except ValueError:
        numbers = []
    values: list[float] = []
    for part in numbers:
        first, step, last = (part[0], part[1] if len(part) == 3 else 1.0, part[-1])
        if len(part) > 3 or not 0 < first <= last or step <= 0 or (last - first) / step > 1000:
            values.clear()
            break
        values += [round(first + index * step, 9) for index in range(int((last - first) / step + 1e-9) + 1)]
    if not values:
        raise RecipeError(f"{text}: expected numbers above 0: first:last, first:step:last, or a list with commas")
    return tuple(dict.fromkeys(values))


def points(grid: Grid) -> list[Point]:
    """Return the points of a grid, the last axis fastest."""
    return list(itertools.product(*(map(float, grid[axis]) for axis in AXES)))


def finer(grid: Grid, best: Point, level: int) -> list[Point]:
    """Return the neighbours of the best point at a half (level 1), a quarter (2), ... of the grid's steps.

    An axis with one value keeps it.
    """
    axes = []
    for axis, value in zip(AXES, best, strict=True):
        ordered = sorted(grid[axis])
        step = min((b - a for a, b in itertools.pairwise(ordered)), default=0.0) / 2**level
        near = [value - step, value, value + step] if step else [value]
        axes.append([round(number, 9) for number in near if number > 0])
    return [point for point in itertools.product(*axes) if point != best]


def params_at(point: Point, base: CrfParams) -> CrfParams:
    """Return the parameters of a point; those that are not searched are the base's."""
    bi_w, bi_xy_std, bi_rgb_std = point
    return replace(base, bi_w=bi_w, bi_xy_std=bi_xy_std, bi_rgb_std=bi_rgb_std)


class SearchTable:
    """Keep the mean IoU of each point in a CSV file, written whole after each point, so that a search can be resumed.

    Its first line is a comment with the search's settings. Raises RunError for a file with the table of another search.
    """

    def __init__(self, path: Path, base: CrfParams, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = path
        self.rows: dict[Point, float] = {}
        self._head = {"fixed": {k: v for k, v in asdict(base).items() if k not in AXES}, **settings}
        if path.exists() and not overwrite:
            head, self.rows = _read_table(path)
            for key in [*self._head, *head]:
                if head.get(key) != json.loads(json.dumps(self._head.get(key))):
                    raise RunError(
                        f"{path} is the table of another search ({key}: expected {self._head.get(key)}, got "
                        f"{head.get(key)}); use `overwrite` to replace it, or choose another `out`"
                    )

    def add(self, point: Point, miou: float) -> None:
        """Add a row and write the table."""
        self.rows[point] = miou
        text = StringIO()
        text.write(f"# {json.dumps(self._head)}\n")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*AXES, "miou"])
        writer.writerows(map(repr, (*point, miou)) for point, miou in self.rows.items())
        write_text(self.path, text.getvalue())

    def best(self) -> tuple[Point, float]:
        """Return the row with the highest mean IoU; of equal ones, the first."""
        return max(self.rows.items(), key=lambda row: row[1])


def best_of_table(path: Path) -> CrfParams:
    """Return the parameters of the best row of a search's table."""
    head, rows = _read_table(path)
    if not rows:
        raise RecipeError(f"{path}: expected the table of a search with at least one row, got none")
    point = max(rows.items(), key=lambda row: row[1])[0]
    try:
        params = params_at(point, CrfParams(**head["fixed"]))
        params.check()
    except (KeyError, TypeError):
        raise RecipeError(f"{path}:1: expected the settings of a search in a comment, got something else") from None
    except ValueError as error:
        raise RecipeError(f"{path}: {error}; search again") from None
    return params


def _read_table(path: Path) -> tuple[dict[str, Any], dict[Point, float]]:
    try:
        first, *lines = read_small_file(path).decode("utf-8").splitlines()
        head = json.loads(first.removeprefix("# "))
        if not isinstance(head, dict) or lines[0].split(",") != [*AXES, "miou"]:
            raise ValueError("other columns")
        return head, dict(_rows(lines[1:]))
    except (OSError, ValueError, IndexError) as error:
        raise RecipeError(
            f"{path}: expected the table of a search (a comment with its settings, then {','.join(AXES)},miou): {error}"
        ) from None


def _rows(lines: Sequence[str]) -> Iterator[tuple[Point, float]]:
    for line in lines:
        *point, miou = (float(word) for word in line.split(","))
        if len(point) != len(AXES):
            raise ValueError(f"row {line!r}")
        yield tuple(point), miou
