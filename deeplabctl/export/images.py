"""Choose the images on which an export is calibrated, and those on which it is compared with its network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabctl.arrays import Image
from deeplabctl.data.dataset import SHAPES, open_dataset, spread_evenly
from deeplabctl.data.images import read_working_image
from deeplabctl.data.layout import LISTS
from deeplabctl.errors import DataError
from deeplabctl.network.architecture import PAPER_SIZE
from deeplabctl.prediction.inputs import find_images
from deeplabctl.reporting import Reporter
from deeplabctl.weights.model_info import ModelInfo

COMPARED, CALIBRATED = 8, 32  # images, at most
_LARGEST = 1024  # pixels of a side; larger images are cut


@dataclass(frozen=True)
class ExampleImages:
    """Name image files, and where they are from in words."""

    files: tuple[Path, ...]
    source: str

    def compared(self, max_side: int = 0) -> list[Image]:
        """Return images to compare on, at their working size: every second one cut to another size, odd or even.

        Raises DataError for one that cannot be read.
        """
        files = spread_evenly(self.files, COMPARED)
        images = [_cut(read_working_image(path, max_side), _LARGEST, _LARGEST) for path in files]
        return [
            _cut(image, max(1, image.shape[0] * 4 // 5 - n), max(1, image.shape[1] * 3 // 4 + n // 2))
            if n % 2
            else image
            for n, image in enumerate(images)
        ]

    def calibrated(self, max_side: int = 0) -> list[Image]:
        """Return images to calibrate on, at their working size, and all of one size of at most 513 pixels."""
        images = [read_working_image(path, max_side) for path in spread_evenly(self.files, CALIBRATED)]
        height, width = (min(PAPER_SIZE, *(image.shape[axis] for image in images)) for axis in (0, 1))
        return [_cut(image, height, width) for image in images]


def images_to_compare(info: ModelInfo, given: str | None, report: Reporter) -> ExampleImages:
    """Return the given images, else validation images of the training's data set, else those of the built-in one.

    ``given`` is a data set in VOC layout, "shapes", or images as `find_images` takes them. Raises DataError.
    """
    return _images(given or _trained_on(info) or SHAPES, ("val",), report)


def images_to_calibrate(info: ModelInfo, given: str | None, report: Reporter) -> ExampleImages:
    """Return the given images, of a data set its training split; by default those that the weights were trained on.

    Raises DataError where there are none.
    """
    trained_on = _trained_on(info)
    if given is None and trained_on is None:
        raise DataError(
            "calibration: expected the data set that the weights were trained on, which is not known or no longer "
            "there; name one, or a folder of images: `calibrate`"
        )
    split = info.provenance.get("split") if given is None else None
    splits = tuple(name for name in (split, "train_aug", "train") if isinstance(name, str))
    return _images(given or trained_on or SHAPES, splits, report)


def _trained_on(info: ModelInfo) -> str | None:
    """Return the data set that the weights were trained on, where it is still there."""
    data = info.provenance.get("data")
    return data if isinstance(data, str) and (data == SHAPES or _is_dataset(data)) else None


def _is_dataset(name: str) -> bool:
    return os.path.isdir(Path(name) / LISTS)  # noqa: PTH112 - Path.is_dir raises for names that are too long


def _images(name: str, splits: Sequence[str], report: Reporter) -> ExampleImages:
    """Return the images of a data set's first split of these that it has, or of all; or those of a folder."""
    if name != SHAPES and not _is_dataset(name):
        return ExampleImages(tuple(find_images([name], report)), name)
    dataset = open_dataset(name, report)
    split = next((split for split in splits if split in dataset.splits), None)
    if split is None:
        raise DataError(f"data set {name}: expected the split {splits[-1]}, got {', '.join(dataset.splits) or 'none'}")
    return ExampleImages(tuple(sample.image for sample in dataset.samples(split)), f"{split} of {name}")


def _cut(image: Image, height: int, width: int) -> Image:
    """Return the middle of an image, at most of this size."""
    top, left = (max(0, side - most) // 2 for side, most in zip(image.shape[:2], (height, width), strict=True))
    return image[top : top + height, left : left + width]
