"""Turn outlines and run lengths into masks.

Coordinates are continuous, x to the right and y downwards: the pixel in row r and column c covers [c, c + 1) x
[r, r + 1). A pixel belongs to an outline if its centre lies inside it by the even-odd rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from deeplabctl.arrays import Mask
from deeplabctl.errors import DataError

_FARTHEST = 1e9  # pixels from the image's corner
Size = tuple[int, int]  # height, width
Point = tuple[float, float]  # x, y


def fill_polygon(size: Size, points: Sequence[Point]) -> Mask:
    """Return the mask (H, W) of a polygon; parts outside of the image are cut off.

    Raises DataError for coordinates that are no places in an image.
    """
    _check_coordinates(value for point in points for value in point)
    height, width = size
    crossed = np.zeros((height, width + 1), np.bool_)  # where a row's inside begins or ends
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], *points[:1]], strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(math.ceil(y0 - 0.5), 0), min(math.ceil(y1 - 0.5), height))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            crossed[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)] ^= True
    inside: Mask = np.logical_xor.accumulate(crossed[:, :width], axis=1)
    return inside


def fill_ellipse(size: Size, center: Point, radii: Point, degrees: float = 0.0) -> Mask:
    """Return the mask (H, W) of an ellipse, turned clockwise about its centre.

    Raises DataError for coordinates that are no places in an image, and for negative radii.
    """
    _check_coordinates([*center, *radii])
    if min(radii) < 0:
        raise DataError(f"expected an ellipse with radii above 0, got {radii[0]:g} and {radii[1]:g}")
    if min(radii) < 1e-6:
        return np.zeros(size, np.bool_)
    y, x = np.ogrid[: size[0], : size[1]]
    turn = math.radians(degrees)
    right, down = x + 0.5 - center[0], y + 0.5 - center[1]
    along = right * math.cos(turn) + down * math.sin(turn)
    across = down * math.cos(turn) - right * math.sin(turn)
    inside: Mask = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return inside


def _check_coordinates(values: Iterable[float]) -> None:
    if (wrong := next((value for value in values if not abs(value) <= _FARTHEST), None)) is not None:
        raise DataError(f"expected coordinates in pixels, got {wrong:g}")


def box_corners(left: float, top: float, right: float, bottom: float, degrees: float = 0.0) -> list[Point]:
    """Return the corners of a rectangle, turned clockwise about its centre."""
    x, y = (left + right) / 2, (top + bottom) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(left - x, top - y), (right - x, top - y), (right - x, bottom - y), (left - x, bottom - y)]
    return [(x + dx * cos - dy * sin, y + dx * sin + dy * cos) for dx, dy in corners]


def fill_runs(runs: Sequence[int], size: Size, *, by_columns: bool) -> Mask:
    """Return the mask (H, W) of run lengths, the first of them outside: by columns as in COCO or by rows as in CVAT.

    Raises DataError if the runs do not fill the mask.
    """
    if any(run < 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise DataError(f"expected run lengths that add up to {size[0]}x{size[1]} pixels, got {sum(runs)}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(size, order="F" if by_columns else "C")


def decode_coco_runs(text: str) -> list[int]:
    """Return the run lengths in COCO's compressed text.

    Each number is written in groups of five bits, the lowest first, as characters from "0"; bit 5 says that another
    group follows, and bit 4 of the last group is the sign. From the fourth number on, each is the difference to the
    number two places before. Raises DataError for other characters and for incomplete numbers.
    """
    runs: list[int] = []
    number, shift = 0, 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise DataError(f"expected run lengths in COCO's characters, got {character!r}")
        number |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                number -= 1 << shift
            runs.append(number + runs[-2] if len(runs) > 2 else number)
            number, shift = 0, 0
    if shift:
        raise DataError("expected complete run lengths, got a text that is cut off")
    return runs
