"""Write the files of one picture, and say what was seen in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.data.formats.coco import Segment, segments
from deeplabctl.data.formats.labelme import labelme_document
from deeplabctl.data.images import read_label, write_image, write_mask
from deeplabctl.errors import DataError
from deeplabctl.files import whole_file, write_text
from deeplabctl.prediction.outputs.plan import PictureJob, VideoJob
from deeplabctl.render import overlay_with_legend, thumbnail

THUMBNAIL = 320  # pixels of the longer side
_STEPS = 65535  # of a score


@dataclass(frozen=True)
class Failure:
    """Say why a picture or a video has no files."""

    job: PictureJob | VideoJob
    message: str


@dataclass(frozen=True)
class PictureResult:
    """Hold what was seen in a picture: the pixels of each class id, the largest first, and COCO's segments if asked."""

    job: PictureJob
    height: int
    width: int
    pixels: dict[int, int]
    segments: list[Segment]

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the picture, its files and its classes as JSON has them."""
        job = self.job
        written = {name: getattr(job, name) for name in ("mask", "overlay", "scores", "labelme")}
        return {
            "image": str(job.image),
            **{name: None if path is None else str(path) for name, path in written.items()},
            "width": self.width,
            "height": self.height,
            "classes": classes_in_json(self.pixels, classes),
        }


def classes_in_json(pixels: dict[int, int], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the classes of a picture, or of all frames of a video, as JSON has them."""
    total = sum(pixels.values())
    return [
        {"id": index, "name": classes[index], "pixels": count, "share": count / total}
        for index, count in pixels.items()
    ]


def count_pixels(label: Label) -> dict[int, int]:
    """Return the number of pixels of each class id in a label, the largest first."""
    counts = np.bincount(label.ravel())
    order = np.argsort(-counts, kind="stable").tolist()
    return {index: int(counts[index]) for index in order if counts[index]}


def write_files(
    job: PictureJob, image: Image, label: Label, scores: Scores | None, classes: Sequence[str], *, with_segments: bool
) -> PictureResult:
    """Write the files of a picture, each whole or not at all; raises OutputError."""
    if job.scores is not None and scores is not None:
        write_scores(job.scores, scores, classes)
    if job.labelme is not None:
        document = labelme_document(label, classes, job.image, job.labelme.parent)
        write_text(job.labelme, json.dumps(document) + "\n")
    if job.overlay is not None:
        write_image(job.overlay, overlay_with_legend(image, label, classes))
    if job.thumbnail is not None:
        write_image(job.thumbnail, thumbnail(image, label, classes, THUMBNAIL))
    if job.mask is not None:
        write_mask(job.mask, label)
    return result_of(job, label, classes, with_segments=with_segments)


def result_of(job: PictureJob, label: Label, classes: Sequence[str], *, with_segments: bool) -> PictureResult:
    """Return what is seen in a label."""
    found = segments(label, classes) if with_segments else []
    return PictureResult(job, label.shape[0], label.shape[1], count_pixels(label), found)


def result_of_mask(job: PictureJob, classes: Sequence[str], *, with_segments: bool) -> PictureResult | Failure:
    """Return what is seen in the mask of a picture that was segmented before; a Failure if it does not fit."""
    assert job.mask is not None
    try:
        label = read_label(job.mask)
        check_class_ids(job.mask, count_pixels(label), classes)
    except DataError as error:
        return Failure(job, f"{error}; use `overwrite` to segment it again")
    return result_of(job, label, classes, with_segments=with_segments)


def check_class_ids(mask: Path, pixels: dict[int, int], classes: Sequence[str]) -> None:
    """Raise DataError for a mask with ids that are not of these classes."""
    if (largest := max(pixels)) >= len(classes):
        raise DataError(f"{mask} is of another network: expected class ids below {len(classes)}, got {largest}")


def write_scores(path: Path, scores: Scores, classes: Sequence[str]) -> None:
    """Write scores (H, W, C) as npz: ``scores`` (H, W, C) uint16 in steps of 1/65535, and ``classes``, their names.

    A score is off by half a step, 7.6e-6, at most; float16 would be by 2.4e-4.
    """
    steps = np.rint(scores * _STEPS).astype(np.uint16)
    with whole_file(path) as temporary:
        np.savez_compressed(temporary, scores=steps, classes=np.array(list(classes)))
