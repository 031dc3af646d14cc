"""Score what lies near boundaries: the trimap of the papers, and the boundary F1.

Labels and predictions are (H, W) uint8 class ids of one shape; 255 is void in the label. On void pixels the prediction
does not count: it is taken for void there.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Counts, Floats, Int64, Label, Mask
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.evaluation.metrics import ConfusionMatrix, Curve, Metric, as_json, ratio
from deeplabctl.reporting import percent

BANDS = 40  # the widest trimap, in pixels
BF_TOLERANCE = 0.0075  # of the image's diagonal
MARGIN = 18  # pixels: the offsets up to this length are tried one by one
_SHOWN_WIDTHS = (1, 5, 10, 20, 40)  # of the trimap, in text


def band_of(label: Label, *, has_void: bool) -> npt.NDArray[np.int32]:
    """Return (H, W) the width of the narrowest trimap that holds each pixel; 0 for void and where there is none.

    In a set with void, it is the trimap of arXiv 1606.00915, Figure 10, as the authors' MATLAB script has it
    (MyVOCevalsegBoundary): the trimap of width w holds the pixels that a dilation of void by a square of 2w + 1 pixels
    reaches. In a set without void, width 1 holds the pixels beside one of another class, on either side, and each
    further one dilates that by a pixel.
    """
    from scipy import ndimage

    void = label == IGNORE_LABEL
    start = void if has_void else _beside_another(label)
    if not start.any():
        return np.zeros(label.shape, np.int32)
    bands: npt.NDArray[np.int32] = ndimage.distance_transform_cdt(~start, "chessboard")
    if not has_void:
        bands += 1
        bands[void] = 0
    return bands


class Trimap(Metric):
    """Count pixels by (width of the narrowest trimap that holds them, label, prediction), up to a width of 40."""

    def __init__(self, num_classes: int, *, has_void: bool = True) -> None:
        super().__init__(num_classes, has_void=has_void)
        self.counts = np.zeros((BANDS, num_classes, num_classes), np.int64)

    def update(self, label: Label, prediction: Label) -> None:
        band = band_of(label, has_void=self.has_void)
        near = np.flatnonzero((band > 0) & (band <= BANDS))
        rows, columns = label.ravel()[near].astype(np.int64), prediction.ravel()[near]
        cells = ((band.ravel()[near] - 1) * self.num_classes + rows) * self.num_classes + columns
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    def mean_iou(self) -> Floats:
        """Return (40,) the mean IoU inside the trimaps of 1 to 40 pixels; NaN for one without pixels."""
        matrix = ConfusionMatrix(self.num_classes)
        scores = np.empty(BANDS)
        for width, counts in enumerate(self.counts):
            matrix.counts += counts
            scores[width] = matrix.mean_iou()
        return scores

    def pixels(self) -> Counts:
        """Return (40,) the pixels inside the trimaps of 1 to 40 pixels."""
        sums: Counts = self.counts.sum((1, 2)).cumsum()
        return sums

    def to_dict(self) -> dict[str, Any]:
        trimap = {
            "around": "void" if self.has_void else "boundaries",
            "widths": list(range(1, BANDS + 1)),
            "miou": [as_json(value) for value in self.mean_iou()],
            "pixels": self.pixels().tolist(),
        }
        return {"trimap": trimap}

    def conventions(self) -> dict[str, str]:
        around_void = "width w: the pixels that void dilated by a square of 2w + 1 reaches (as the script of arXiv "
        between = "width 1: the pixels beside one of another class; each further one dilates that by a pixel"
        return {"trimap": f"{around_void}1606.00915)" if self.has_void else between}

    def line(self) -> str:
        scores = self.mean_iou()
        shown = ", ".join(f"{width} px {percent(as_json(scores[width - 1]))}" for width in _SHOWN_WIDTHS)
        return f"mIoU of pixels near {self._around} only (trimap): within {shown}"

    def curve(self) -> Curve:
        points = [(width, as_json(score)) for width, score in enumerate(self.mean_iou(), 1)]
        caption = f"width of the trimap around {self._around}, pixels"
        return Curve("Mean IoU near boundaries, %", caption, "px", (1, 10, 20, 30, 40), points)

    @property
    def _around(self) -> str:
        return "void" if self.has_void else "label boundaries"


def boundary_f1(label: Label, prediction: Label, num_classes: int, tolerance: float = BF_TOLERANCE) -> Floats:
    """Return (C,) the boundary F1 of an image; NaN for a class that the label does not have, 0 for one not predicted.

    Csurka et al. (BMVC 2013): the contour of a class consists of the pixels of its binary map that have one of the four
    neighbours outside of it. Precision is the share of the predicted contour that lies nearer than ``tolerance`` times
    the image's diagonal to the label's, recall the reverse, and F1 their harmonic mean. What the paper leaves open is
    done as MATLAB's evaluateSemanticSegmentation does it: pixels at the image's edge belong to the contour, and void
    pixels are removed from the prediction, too.
    """
    masked = np.where(label == IGNORE_LABEL, np.uint8(IGNORE_LABEL), prediction)
    distance = tolerance * math.hypot(*label.shape)
    wanted, found = _contours(label), _contours(masked)
    predicted, right = _matched(found, wanted, distance, num_classes)
    labelled, hit = _matched(wanted, found, distance, num_classes)
    f1 = np.full(num_classes, np.nan)
    for index in np.flatnonzero(labelled):
        recall = hit[index] / labelled[index]
        precision = right[index] / predicted[index] if predicted[index] else 0.0
        f1[index] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return f1


class BoundaryF1(Metric):
    """Average the boundary F1 of images as CamVid's tables do (SegNet, arXiv 1511.00561, section 3.3).

    Over the classes that are present in an image's label, then over the images; for a class over the images that it is
    present in. An image of void only does not count. ``counts`` are (2, C + 1): the sums and the numbers of images, for
    each class and at last for the means of images.
    """

    totals: ClassVar = {"boundary_f1": "boundary F1"}
    columns: ClassVar = {"boundary_f1": "boundary F1"}

    def __init__(self, num_classes: int, *, has_void: bool = True) -> None:
        super().__init__(num_classes, has_void=has_void)
        self.counts = np.zeros((2, num_classes + 1))

    def update(self, label: Label, prediction: Label) -> None:
        f1 = boundary_f1(label, prediction, self.num_classes)
        present = np.flatnonzero(~np.isnan(f1))
        if present.size:
            self.counts[0, present] += f1[present]
            self.counts[0, -1] += f1[present].mean()
            self.counts[1, present] += 1
            self.counts[1, -1] += 1

    def to_dict(self) -> dict[str, Any]:
        return {"boundary_f1": as_json(ratio(*self.counts)[-1])}

    def of_classes(self) -> dict[str, Floats | Counts]:
        return {"boundary_f1": ratio(*self.counts)[:-1]}

    def conventions(self) -> dict[str, str]:
        tolerance = f"Csurka et al. 2013, tolerance {BF_TOLERANCE:g} of the diagonal"
        mean = "mean over the classes of an image's label, then over the images (as SegNet)"
        return {"boundary_f1": f"{tolerance}; {mean}"}


def _beside_another(ids: Label) -> Mask:
    """Mark the pixels with a value other than that of one of their four neighbours."""
    marked = np.zeros(ids.shape, np.bool_)
    down, right = ids[:-1] != ids[1:], ids[:, :-1] != ids[:, 1:]
    marked[:-1] |= down
    marked[1:] |= down
    marked[:, :-1] |= right
    marked[:, 1:] |= right
    return marked


@lru_cache(maxsize=64)
def _nearest_offsets(distance: float) -> tuple[tuple[int, int], ...]:
    """Return the (down, right) shorter than ``distance``, the shortest first, that lie within `MARGIN`."""
    reach = range(-MARGIN, MARGIN + 1)
    squares = {(down, right): down**2 + right**2 for down in reach for right in reach}
    near = [offset for offset, square in squares.items() if square < distance**2 and square <= MARGIN**2]
    return tuple(sorted(near, key=squares.__getitem__))


def _contours(ids: Label) -> Label:
    """Return the ids of contour pixels, and void elsewhere, with a margin of void around."""
    padded = np.pad(ids, 1, constant_values=IGNORE_LABEL)
    contour = _beside_another(padded)[1:-1, 1:-1]
    return np.pad(np.where(contour, ids, np.uint8(IGNORE_LABEL)), MARGIN, constant_values=IGNORE_LABEL)


def _matched(points: Label, others: Label, distance: float, num_classes: int) -> tuple[Counts, Counts]:
    """Count (C,) the contour pixels of each class, and those of them nearer than ``distance`` to the other contour.

    Nearly all pixels match at a short offset, and those are tried first. Of images in which the distance is longer, the
    nearest pixel is searched for what is left then: trying all offsets would take time with its square.
    """
    flat, target = points.ravel(), others.ravel()
    alone = np.flatnonzero(flat != IGNORE_LABEL)
    own = flat[alone]
    total = np.bincount(own, minlength=num_classes)
    for down, right in _nearest_offsets(distance):
        still = target[alone + (down * points.shape[1] + right)] != own
        alone, own = alone[still], own[still]
        if not alone.size:
            break
    missed = np.bincount(own, minlength=num_classes)
    if distance > MARGIN:
        for index in np.flatnonzero(missed):
            rows = np.argwhere(others == index)
            columns = np.unravel_index(alone[own == index], points.shape)
            missed[index] -= _count_near(np.stack(columns, -1), rows, distance)
    return total, total - missed


def _count_near(points: Int64, others: Int64, distance: float) -> int:
    """Count the points (N, 2) with one of the others (M, 2) nearer than ``distance``; all are whole numbers."""
    from scipy.spatial import KDTree

    if not len(others):
        return 0
    tree = KDTree(others, balanced_tree=False, compact_nodes=False)
    found = tree.query(points, distance_upper_bound=distance + 1)[1]
    within = found < len(others)
    offsets = others[found[within]] - points[within]  # whole numbers: their length is compared exactly
    return int(np.count_nonzero((offsets**2).sum(1) < distance**2))
