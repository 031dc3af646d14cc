"""Write labels as labelme's documents, one for a picture: outlines that a person can correct."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplabctl.arrays import Label
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.exporting.outlines import TOLERANCE, outlines
from deeplabctl.data.importing.annotations import BACKGROUND
from deeplabctl.data.importing.labelme import LABELME_BACKGROUND, LABELME_IGNORE

_VERSION = "5.5.0"  # of the format


def labelme_document(
    label: Label, classes: Sequence[str], image: Path, folder: Path, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """Return labelme's document of a label (H, W) uint8, to be written to a folder.

    labelme draws later shapes over earlier ones, and knows no holes: a region in another one is a shape over it, parts
    of the background too, which is otherwise what lies in no shape. The document names the image by its path from the
    folder.
    """
    names = dict(enumerate(classes)) | {IGNORE_LABEL: LABELME_IGNORE}
    has_background = classes[0] == BACKGROUND
    if has_background:
        names[0] = LABELME_BACKGROUND
    shapes = [
        {
            "label": names[outline.class_id],
            "points": outline.points.tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for outline in outlines(label, tolerance)
        if not (has_background and outline.class_id == 0 and outline.touches_frame)
    ]
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": _path_from(folder, image),
        "imageData": None,
        "imageHeight": label.shape[0],
        "imageWidth": label.shape[1],
    }


def _path_from(folder: Path, image: Path) -> str:
    """Return the path of an image from a folder; its whole path from another drive."""
    try:
        return Path(os.path.relpath(image.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return image.absolute().as_posix()
