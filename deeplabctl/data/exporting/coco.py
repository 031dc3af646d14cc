"""Write labels as COCO's annotations: the area of each class in a picture, as compressed run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deeplabctl.arrays import Label, Mask
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.importing.annotations import BACKGROUND

Segment = dict[str, Any]  # class_id, area (pixels), bbox [x, y, width, height], segmentation {size, counts}


def segments(label: Label, classes: Sequence[str]) -> list[Segment]:
    """Return the segment of each class in a label (H, W) uint8, by class id, without void and the background.

    The background is a class 0 of that name: readers of COCO's files fill what lies in no segment with it.
    """
    present = np.flatnonzero(np.bincount(label.ravel(), minlength=256)).tolist()
    left_out = {IGNORE_LABEL, *([0] if classes[0] == BACKGROUND else [])}
    return [_segment(label == index, index) for index in present if index not in left_out]


def _segment(mask: Mask, class_id: int) -> Segment:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "class_id": class_id,
        "area": int(np.count_nonzero(mask)),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "segmentation": {"size": list(mask.shape), "counts": encode_runs(run_lengths(mask))},
    }


def run_lengths(mask: Mask) -> list[int]:
    """Return the lengths of the runs of a mask (H, W), column by column, the first of them outside (perhaps 0)."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs: list[int] = np.diff(ends, prepend=0, append=flat.size).tolist()
    return [0, *runs] if flat[0] else runs


def encode_runs(runs: Sequence[int]) -> str:
    """Return run lengths as COCO's compressed text, which `importing.outlines.decode_coco_runs` describes."""
    text = []
    for index, run in enumerate(runs):
        number = run - runs[index - 2] if index > 2 else run
        while True:
            group, number = number & 31, number >> 5
            is_last = number == (-1 if group & 16 else 0)
            text.append(chr(48 + (group if is_last else group | 32)))
            if is_last:
                break
    return "".join(text)


def categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return COCO's categories: ids are class ids, so that readers keep the order of the classes."""
    return [{"id": index, "name": name} for index, name in enumerate(classes)]
