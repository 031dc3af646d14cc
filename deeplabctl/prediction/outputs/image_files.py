"""Write what is a file for each image or video: masks, overlays, scores, the small overlays of a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deeplabctl.data.labels import write_mask
from deeplabctl.files import whole_file
from deeplabctl.prediction.outputs.output import Labelled, Output, RunFile, VideoFile
from deeplabctl.prediction.video_files import lossless_writer, overlay_writer
from deeplabctl.render import overlay, overlay_with_legend, thumbnail, write_image

THUMBNAIL = 320  # pixels of the longer side
_STEPS = 65535  # of a score
_PNG = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG, _ZIP = (b"\xff\xd8", b"\xff\xd9"), (b"PK\3\4", b"PK\5\6")


class Mask(Output):
    """Class ids: a palette PNG, or a lossless video of grey values."""

    image_file, marks = "{stem}.png", _PNG
    video = VideoFile("{stem}_masks.mkv", lossless_writer, lambda image, label, classes: label)

    def write(self, path: Path, labelled: Labelled) -> None:
        write_mask(path, labelled.label, labelled.classes)


class Overlay(Output):
    """The classes' colours over the image; a video has no legend."""

    image_file, marks = "{stem}_overlay.png", _PNG
    video = VideoFile("{stem}_overlay.mp4", overlay_writer, overlay)

    def write(self, path: Path, labelled: Labelled) -> None:
        write_image(path, overlay_with_legend(labelled.image, labelled.label, labelled.classes))


class ScoresFile(Output):
    """The classes' scores: ``scores`` (H, W, C) uint16 in steps of 1/65535, and ``classes``, their names.

    A score is off by half a step, 7.6e-6, at most; float16 would be by 2.4e-4.
    """

    image_file, marks, needs_scores = "{stem}.npz", _ZIP, True

    def write(self, path: Path, labelled: Labelled) -> None:
        assert labelled.scores is not None
        steps = np.rint(labelled.scores * _STEPS).astype(np.uint16)
        with whole_file(path) as temporary:
            np.savez_compressed(temporary, scores=steps, classes=np.array(list(labelled.classes)))


class ContactSheetImage(Output):
    """A small overlay for the page of all results, which the room `reports` makes."""

    image_file, marks = "thumbnails/{stem}.jpg", _JPEG
    listed = False
    run = RunFile("index.html", "page", "contact sheet", images=True)

    def write(self, path: Path, labelled: Labelled) -> None:
        write_image(path, thumbnail(labelled.image, labelled.label, labelled.classes, THUMBNAIL))
