"""Outlines and run lengths of regions: turn them into masks, and a label into outlines that fit without gaps.

Coordinates are continuous, x to the right and y downwards: the pixel in row r and column c covers [c, c + 1) x
[r, r + 1). A pixel belongs to an outline if its centre lies inside it by the even-odd rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Counts, Floats, Label, Mask, Size
from deeplabctl.errors import DataError

Point = tuple[float, float]  # x, y

TOLERANCE = 0.75  # pixels between a border and its simplified line
_FARTHEST = 1e9  # pixels from the image's corner
SLACK = 0.05  # of the image's size, around it, where nothing else says that it is the size of the outlines
# Steps along the borders of pixels: east, south, west, north, as (row, column). A region is on the right hand.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def fill_polygon(size: Size, points: Sequence[Point], *, from_shares: bool = False, farthest: float = 1) -> Mask:
    """Return the mask (H, W) of a polygon; parts outside of the image are cut off.

    Raises DataError for coordinates that are no places in an image of this size, as `_check_extent` does, also for
    shares of it, unless the coordinates were made ``from_shares``.
    """
    inside = np.zeros(size, np.bool_)
    if not points:
        return inside
    _check_coordinates(value for point in points for value in point)
    _check_extent(size, [x for x, _ in points], [y for _, y in points], from_shares=from_shares, farthest=farthest)
    left, right = _range((x for x, _ in points), size[1])
    top, bottom = _range((y for _, y in points), size[0])
    crossed = np.zeros((bottom - top, right - left + 1), np.bool_)  # where a row's inside begins or ends
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], *points[:1]], strict=True):
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(math.ceil(y0 - 0.5), top), min(math.ceil(y1 - 0.5), bottom))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            crossed[rows - top, np.clip(np.ceil(x - 0.5), left, right).astype(np.int64) - left] ^= True
    inside[top:bottom, left:right] = np.logical_xor.accumulate(crossed[:, :-1], axis=1)
    return inside


def _range(values: Iterable[float], side: int) -> tuple[int, int]:
    """Return the first pixel of a side that coordinates reach, and the one behind the last."""
    reached = list(values)
    first = min(max(math.floor(min(reached)), 0), side)
    return first, min(max(math.ceil(max(reached)), first), side)


def fill_shares(size: Size, points: Sequence[Point]) -> Mask:
    """Return the mask (H, W) of a polygon whose coordinates are shares of the image's width and height.

    Raises DataError for places that are not in the image, with some slack: they are pixels, or of another image.
    """
    if wrong := [value for point in points for value in point if not -SLACK <= value <= 1 + SLACK]:
        raise DataError(f"expected places from 0 to 1 of the image's width and height, got {wrong[0]:g}")
    return fill_polygon(size, [(x * size[1], y * size[0]) for x, y in points], from_shares=True)


def fill_ellipse(size: Size, center: Point, radii: Point, degrees: float = 0.0) -> Mask:
    """Return the mask (H, W) of an ellipse, turned clockwise about its centre.

    Raises DataError for coordinates that are no places in an image of this size, and for negative radii.
    """
    _check_coordinates([*center, *radii])
    if min(radii) < 0:
        raise DataError(f"expected an ellipse with radii above 0, got {radii[0]:g} and {radii[1]:g}")
    reach = [(middle - max(radii), middle + max(radii)) for middle in center]
    _check_extent(size, *reach)
    inside = np.zeros(size, np.bool_)
    if min(radii) < 1e-6:
        return inside
    box = tuple(slice(*_range(ends, side)) for ends, side in zip(reach[::-1], size, strict=True))
    y, x = np.ogrid[box]
    turn = math.radians(degrees)
    right, down = x + 0.5 - center[0], y + 0.5 - center[1]
    along = right * math.cos(turn) + down * math.sin(turn)
    across = down * math.cos(turn) - right * math.sin(turn)
    inside[box] = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1
    return inside


def _check_coordinates(values: Iterable[float]) -> None:
    if (wrong := next((value for value in values if not abs(value) <= _FARTHEST), None)) is not None:
        raise DataError(f"expected coordinates in pixels, got {wrong:g}")


def _check_extent(
    size: Size, x: Sequence[float], y: Sequence[float], *, from_shares: bool = False, farthest: float = math.inf
) -> None:
    """Raise DataError for coordinates that belong to another size.

    They are shares of it, all outside of the image, or one is more than ``farthest`` times its side away from it.
    """
    got = f"got x from {min(x):g} to {max(x):g}, y from {min(y):g} to {max(y):g}"
    in_a_pixel = min(size) > 2 and min(*x, *y) >= 0 and max(*x, *y) <= 1
    if in_a_pixel and not from_shares and (any(value % 1 for value in (*x, *y)) or len(x) > 5):
        raise DataError(f"expected coordinates in pixels, {got}; if these are shares of the size, multiply them by it")
    if any(
        high < -1 or low > length + 1 or max(-low, high - length) > max(farthest * length, 2)
        for low, high, length in ((min(y), max(y), size[0]), (min(x), max(x), size[1]))
    ):
        raise DataError(
            f"expected an outline in the image of {size[1]}x{size[0]} pixels, {got}; if the image was resized after it "
            "was annotated, use the one of before; otherwise remove the outline"
        )


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


def run_lengths(mask: Mask) -> list[int]:
    """Return the lengths of the runs of a mask (H, W), column by column, the first of them outside (perhaps 0)."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(ends, prepend=0, append=flat.size).tolist()
    return [0, *runs] if flat[0] else runs


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and the columns that a mask (H, W) with any pixel covers."""
    rows = np.flatnonzero(mask.any(1)).tolist()
    covered = slice(rows[0], rows[-1] + 1)
    columns = np.flatnonzero(mask[covered].any(0)).tolist()  # the rest of a large photo is not looked at
    return covered, slice(columns[0], columns[-1] + 1)


def paste_mask(part: Mask, size: Size, left: int, top: int) -> Mask:
    """Return the mask (H, W) of a smaller or larger one whose upper left corner lies at (left, top).

    Raises DataError if nothing of it lies in the image.
    """
    _check_extent(size, [left, left + part.shape[1]], [top, top + part.shape[0]])
    mask = np.zeros(size, np.bool_)
    target = mask[max(top, 0) : max(top + part.shape[0], 0), max(left, 0) : max(left + part.shape[1], 0)]
    target[:] = part[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    return mask


@dataclass(frozen=True)
class Outline:
    """Hold the outer outline of a region, a connected part of a class: what lies in it is of the class or drawn later.

    Pixels that touch at a corner only are not connected.
    """

    class_id: int
    points: Floats  # (N, 2): x, y
    touches_frame: bool  # the region lies at a side of the image


def outlines(label: Label, tolerance: float = TOLERANCE) -> list[Outline]:
    """Return the outer outlines of all regions of a label (H, W) uint8, the largest first.

    Drawn in this order, each over those before, they give the label again: holes are filled by the regions in them.
    Lines are simplified by Douglas and Peucker's method to within ``tolerance`` pixels. A line between two regions is
    simplified once, so that their outlines share it. Regions that are hardly wider than the tolerance vanish, or lose
    a pixel to what is around them. With a tolerance of 0 the label is given again exactly, by any program that fills
    the pixels whose centres lie inside.
    """
    found = [(area, outline) for area, outline, _ in _rings(label, tolerance) if area > 0]
    return [outline for _, outline in sorted(found, key=lambda entry: -entry[0])]


def outlines_with_holes(label: Label, tolerance: float = TOLERANCE) -> list[Outline]:
    """Return `outlines` for programs that do not draw one over another: those of regions with holes go around them.

    They walk to a hole and back on the same line, which nothing lies in by the even-odd rule.
    """
    from scipy import ndimage

    parts: dict[tuple[int, int], int] = {}  # the number of a region in which a pixel is, by class id and part
    connected = {int(index): ndimage.label(label == index)[0] for index in np.unique(label)}
    found: list[tuple[float, Outline]] = []
    holes: list[tuple[tuple[int, int], Floats]] = []
    for area, outline, (row, column) in _rings(label, tolerance):
        part = outline.class_id, int(connected[outline.class_id][row, column])
        if area > 0:
            parts[part] = len(found)
            found.append((area, outline))
        else:
            holes.append((part, outline.points))
    for part, hole in holes:
        if part in parts:
            area, outline = found[parts[part]]
            nearest = int(np.argmin(np.sum((outline.points - hole[0]) ** 2, axis=1)))
            before, after = outline.points[: nearest + 1], outline.points[nearest:]
            points = np.concatenate([before, hole, hole[:1], after])
            found[parts[part]] = area, replace(outline, points=points)
    return [outline for _, outline in sorted(found, key=lambda entry: -entry[0])]


def _rings(label: Label, tolerance: float) -> Iterator[tuple[float, Outline, tuple[int, int]]]:
    """Yield the area, the simplified line and a pixel of each border of a region, then of holes, with areas below 0."""
    height, width = label.shape
    borders = _Borders(label)
    lines: dict[bytes, Floats] = {}
    rings = [(_signed_area(ring), class_id, ring) for class_id, ring in borders.rings()]
    for area, class_id, ring in sorted(rings, key=lambda entry: entry[0] <= 0):
        parts = [_shared_line(arc, tolerance, lines) for arc in borders.arcs(ring)]
        points = np.concatenate([part[:-1] for part in parts])
        if len(points) >= 3:
            at_frame = bool(np.any((ring == 0) | (ring == (width, height))))
            (x, y), (right, down) = ring[0].tolist(), (ring[1] - ring[0]).tolist()
            inside = y - (right < 0 or down < 0), x - (right < 0 or down > 0)  # on the right hand of the first step
            yield area, Outline(class_id, points, at_frame), inside


class _Borders:
    """Hold the borders between the pixels of a label as steps from corner to corner.

    A corner of pixels is its row and column from 0 to the label's height and width; a step is its corner and one of the
    four directions, and exists where the pixel on its left is of another class than that on its right, or outside.
    """

    def __init__(self, label: Label) -> None:
        framed = np.pad(label.astype(np.int16), 1, constant_values=-1)
        quarters = framed[:-1, :-1], framed[:-1, 1:], framed[1:, 1:], framed[1:, :-1]  # around each corner, clockwise
        right = [quarters[number] for number in (2, 3, 0, 1)]
        left = [quarters[number] for number in (1, 2, 3, 0)]
        self._exists = np.stack([(one != other) & (one >= 0) for one, other in zip(right, left, strict=True)])
        self._class_ids = right
        differ = sum((one != other).astype(np.uint8) for one, other in zip(right, left, strict=True))
        self._is_end = differ > 2  # corners where more than two regions meet
        self._is_end[[0, 0, -1, -1], [0, -1, 0, -1]] = True  # and those of the image

    def rings(self) -> Iterator[tuple[int, Counts]]:
        """Yield the class id and the corners (N, 2), as x and y, of each closed border of a region."""
        unseen = self._exists.copy()
        starts = np.argwhere(self._exists)
        for direction, row, column in starts.tolist():
            if not unseen[direction, row, column]:
                continue
            class_id = int(self._class_ids[direction][row, column])
            corners = []
            while unseen[direction, row, column]:
                unseen[direction, row, column] = False
                corners.append((column, row))
                down, along = _STEPS[direction]
                row, column = row + down, column + along
                direction = self._turn(direction, row, column)
            yield class_id, np.array(corners)

    def _turn(self, direction: int, row: int, column: int) -> int:
        """Return the next direction around the same region: right, else straight on, else left."""
        for turn in (1, 0):
            if self._exists[(direction + turn) % 4, row, column]:
                return (direction + turn) % 4
        return (direction + 3) % 4

    def arcs(self, ring: Counts) -> list[Counts]:
        """Split a ring where more than two regions meet; an arc has the corners at both of its ends."""
        cuts = np.flatnonzero(self._is_end[ring[:, 1], ring[:, 0]])
        if not cuts.size:
            ring = np.roll(ring, -int(np.lexsort((ring[:, 0], ring[:, 1]))[0]), axis=0)  # the same for both sides
            return [np.concatenate([ring, ring[:1]])]
        ring = np.roll(ring, -cuts[0], axis=0)
        cuts = np.append(cuts - cuts[0], len(ring))
        ring = np.concatenate([ring, ring[:1]])
        return [ring[begin : end + 1] for begin, end in pairwise(cuts.tolist())]


def _signed_area(ring: Counts) -> float:
    """Return the area in a ring of corners (x, y), negative if it runs around a hole."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _shared_line(arc: Counts, tolerance: float, lines: dict[bytes, Floats]) -> Floats:
    """Return the simplified line of an arc; that of the region on the other side is the same one, backwards.

    It runs through the middles of the pixels' sides, which lie on both sides of a slanted border in turn less than
    their corners do.
    """
    key, back = arc.tobytes(), arc[::-1].tobytes()
    if back in lines:
        return lines[back][::-1]
    middles: Floats = (arc[:-1] + arc[1:]) / 2
    if np.array_equal(arc[0], arc[-1]):
        lines[key] = _simplify_closed(middles, tolerance)
    else:
        lines[key] = _simplify(np.concatenate([arc[:1], middles, arc[-1:]]), tolerance)
    return lines[key]


def _simplify_closed(points: Floats, tolerance: float) -> Floats:
    """Simplify a closed line between its first point and the one farthest from that; the first is also the last."""
    points = np.concatenate([points, points[:1]])
    farthest = int(np.argmax(np.sum((points - points[0]) ** 2, axis=1)))
    halves = _simplify(points[: farthest + 1], tolerance), _simplify(points[farthest:], tolerance)
    return np.concatenate([halves[0][:-1], halves[1]])


def _simplify(points: Floats, tolerance: float) -> Floats:
    """Return the points (N, 2) of a line that Douglas and Peucker's method keeps; both ends are among them."""
    keep = np.zeros(len(points), np.bool_)
    keep[[0, -1]] = True
    pieces = [(0, len(points) - 1)]
    while pieces:
        begin, end = pieces.pop()
        if end - begin < 2:
            continue
        distances = _distances(points[begin + 1 : end], points[begin], points[end])
        farthest = int(np.argmax(distances))
        if distances[farthest] > tolerance:
            keep[begin + 1 + farthest] = True
            pieces += [(begin, begin + 1 + farthest), (begin + 1 + farthest, end)]
    return points[keep]


def _distances(points: Floats, begin: npt.NDArray[np.float64], end: npt.NDArray[np.float64]) -> Floats:
    """Return the distances of points from the piece of a line between two others."""
    along = end - begin
    length = float(along @ along)
    shares = np.clip((points - begin) @ along / length, 0, 1) if length else np.zeros(len(points))
    distances: Floats = np.linalg.norm(points - (begin + shares[:, None] * along), axis=1)
    return distances
