"""Define the points of the search for CRF parameters: the papers' grids, their refinement, and the table of scores.

Both papers fix pos_w and pos_xy_std and search bi_w, bi_xy_std and bi_rgb_std on 100 images of the validation set,
from coarse to fine (arXiv 1412.7062, section 5.1, and 1606.00915, section 4.1.3).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from deeplabctl.crf.params import CrfParams
from deeplabctl.errors import RecipeError, RunError
from deeplabctl.files import read_small_file, write_text
from deeplabctl.limits import limits

AXES = ("bi_w", "bi_xy_std", "bi_rgb_std", "pos_w", "pos_xy_std")
MAX_VALUES = 1000  # of a range
Grid = dict[str, tuple[float, ...]]  # the values of each axis that is searched, in the order of AXES

GRIDS: dict[str, Grid] = {
    "v1": {"bi_w": (5, 6, 7, 8, 9, 10), "bi_xy_std": (50, 60, 70, 80, 90, 100), "bi_rgb_std": tuple(range(3, 11))},
    "v2": {"bi_w": (3, 4, 5, 6), "bi_xy_std": tuple(range(30, 101, 10)), "bi_rgb_std": (3, 4, 5, 6)},
}
_LIMITS = limits(CrfParams)
_MIOU = "miou %"  # the last column


def parse_grid(texts: Sequence[str]) -> Grid:
    """Return the grid in texts: the name ``v1`` or ``v2`` (the default), and values of axes.

    Values are ``bi_w=3:6`` or ``bi_xy_std=30:10:100`` (first, step, last: MATLAB's notation, which the papers use), or
    ``pos_w=1``, or ``bi_w=3,5``. An axis that the papers fix, pos_w or pos_xy_std, is searched if it is named. Raises
    RecipeError for anything else.
    """
    grid = dict(GRIDS["v2"])
    for text in texts:
        key, equals, value = (word.strip() for word in text.partition("="))
        if not equals and text in GRIDS:
            grid = dict(GRIDS[text])
        elif key in AXES:
            grid[key] = _values(text, key, value)
        else:
            raise RecipeError(f"expected {' or '.join(GRIDS)}, or {'=..., '.join(AXES)}=..., got {text!r}")
    return {axis: grid[axis] for axis in AXES if axis in grid}


def _values(text: str, axis: str, value: str) -> tuple[float, ...]:
    try:
        numbers = [[float(word) for word in part.split(":")] for part in value.split(",")]
    except ValueError:
        numbers = []
    values: list[float] = []
    for part in numbers:
        first, step, last = (part[0], part[1] if len(part) == 3 else 1.0, part[-1])
        are_possible = all(_LIMITS[axis].holds(round(end, 9)) for end in (first, last)) and 0 < step < math.inf
        if len(part) > 3 or not are_possible or first > last:
            values.clear()
            break
        if last - first >= MAX_VALUES * step:
            raise RecipeError(f"{text}: expected at most {MAX_VALUES} values; use a larger step")
        values += [round(first + index * step, 9) for index in range(int((last - first) / step + 1e-9) + 1)]
    if not values:
        expected = f"numbers {_LIMITS[axis].expected}: first:last, first:step:last, or a list with commas"
        raise RecipeError(f"{text}: expected {expected}")
    return tuple(dict.fromkeys(values))


def points(grid: Grid, base: CrfParams) -> list[CrfParams]:
    """Return the points of a grid, the last axis fastest; what is not searched is the base's."""
    return [_changed(base, grid, map(float, values)) for values in product(*grid.values())]


def finer(grid: Grid, best: CrfParams, level: int) -> list[CrfParams]:
    """Return the neighbours of the best point at a half (level 1), a quarter (2), ... of the grid's steps.

    An axis with one value keeps it.
    """
    near: Grid = {}
    for axis, values in grid.items():
        value = getattr(best, axis)
        step = min((b - a for a, b in pairwise(sorted(values))), default=0.0) / 2**level
        numbers = [value - step, value, value + step] if step else [value]
        near[axis] = tuple(round(number, 9) for number in numbers if _LIMITS[axis].holds(number))
    return [point for point in points(near, best) if point != best]


def at_border(point: CrfParams, grid: Grid, tried: Collection[CrfParams]) -> list[str]:
    """Return the searched axes on which a point has the lowest or the highest value tried, and could be beyond it."""
    values_tried = {axis: sorted(getattr(each, axis) for each in tried) for axis in grid}
    ends = {axis: {values[0], values[-1]} - {0.0} for axis, values in values_tried.items()}  # no weight is below 0
    return [axis for axis, values in grid.items() if len(values) > 1 and getattr(point, axis) in ends[axis]]


def point_text(point: CrfParams, axes: Iterable[str], between: str) -> str:
    """Return the searched parameters of a point in words."""
    return between.join(f"{axis} {getattr(point, axis):g}" for axis in axes)


def _percent(miou: float) -> str:
    return f"{100 * miou:.12g}"


class SearchTable:
    """Keep the mean IoU of each point in a CSV file, written whole after each point, so that a search can be resumed.

    It has a column for each axis of the grid. Its first line is a comment with the search's settings and the parameters
    that are not searched. Raises RunError for a file with the table of another search.
    """

    def __init__(
        self, path: Path, base: CrfParams, grid: Grid, settings: Mapping[str, Any], *, overwrite: bool = False
    ) -> None:
        self.path, self.base, self.grid = path, base, grid
        self._head = {"fixed": {k: v for k, v in asdict(base).items() if k not in grid}, **settings}
        self._replaces = overwrite
        self.rows = self._read()

    def _read(self) -> dict[CrfParams, float]:
        """Return the rows of the file, none of one that is replaced; raises RunError for those of another search."""
        if self._replaces or not self.path.exists():
            return {}
        head, rows = _read_table(self.path)
        for key in [*self._head, *head]:
            if head.get(key) != json.loads(json.dumps(self._head.get(key))):
                raise RunError(
                    f"{self.path} is the table of another search ({key}: expected {self._head.get(key)}, got "
                    f"{head.get(key)}); use `overwrite` to replace it, or choose another `out`"
                )
        return rows

    def add(self, point: CrfParams, miou: float) -> None:
        """Add a row and write the table, with the rows that another process has added to it.

        The row has the score that is read back, so that ties stay ties. Raises RunError if another search has begun
        the table meanwhile.
        """
        self.rows = self._read() | self.rows | {point: float(_percent(miou)) / 100}
        self._replaces = False
        lines = [f"# {json.dumps(self._head)}", ",".join([*self.grid, _MIOU])]
        for params, score in self.rows.items():
            words = [repr(getattr(params, axis)) for axis in self.grid]
            lines.append(",".join([*words, _percent(score)]))
        write_text(self.path, "\n".join(lines) + "\n")

    def best(self) -> tuple[CrfParams, float]:
        """Return the row with the highest mean IoU."""
        best = best_point(self.rows)
        return best, self.rows[best]


def best_point(scores: Mapping[CrfParams, float]) -> CrfParams:
    """Return the point with the highest mean IoU; of equal ones, the first."""
    return max(scores, key=lambda point: scores[point])


def best_of_table(path: Path) -> CrfParams:
    """Return the parameters of the best row of a search's table."""
    rows = _read_table(path)[1]
    if not rows:
        raise RecipeError(f"{path}: expected the table of a search with at least one row, got none")
    best = best_point(rows)
    try:
        best.check()
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{path}: {error}; search again") from None
    return best


def _read_table(path: Path) -> tuple[dict[str, Any], dict[CrfParams, float]]:
    try:
        first, columns, *lines = read_small_file(path).decode("utf-8").splitlines()
        head = json.loads(first.removeprefix("# "))
        *axes, last = columns.split(",")
        if not set(axes) <= set(AXES) or last not in (_MIOU, "miou"):
            raise ValueError(f"expected columns of {', '.join(AXES)}, and {_MIOU}, got {columns!r}")
        if sorted([*axes, *head["fixed"]]) != sorted(asdict(CrfParams())):
            raise ValueError(f"the columns {', '.join(axes)} and the settings do not give all of the CRF's parameters")
        scale = 100 if last == _MIOU else 1  # older tables have fractions
        return head, dict(_rows(lines, axes, CrfParams(**head["fixed"]), scale))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecipeError(
            f"{path}: expected the table of a search (a comment with its settings, then a column for each parameter, "
            f"and {_MIOU}): {error}"
        ) from None


def _rows(lines: Sequence[str], axes: Sequence[str], base: CrfParams, scale: int) -> Iterator[tuple[CrfParams, float]]:
    for line in lines:
        *point, miou = (float(word) for word in line.split(","))
        if not 0 <= miou <= scale:
            raise ValueError(f"expected a mean IoU of 0 to {scale}, got {miou:g}")
        yield _changed(base, axes, point), miou / scale


def _changed(base: CrfParams, axes: Iterable[str], values: Iterable[float]) -> CrfParams:
    changes: dict[str, Any] = dict(zip(axes, values, strict=True))
    return replace(base, **changes)
