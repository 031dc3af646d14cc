"""Draw what a training sees: images with their labels laid over them, as stored and after augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from deeplabctl.arrays import Image, Label
from deeplabctl.data.augmentation import Augment, augment
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image, read_label
from deeplabctl.data.working_size import shrink, shrink_label
from deeplabctl.network.architecture import Preprocessing
from deeplabctl.render import contact_sheet


def choose_samples(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Choose ``count`` random samples, or all if there are fewer, and keep their order."""
    chosen = np.random.default_rng(seed).permutation(len(samples))[:count]
    return [samples[index] for index in sorted(chosen.tolist())]


def draw_samples(dataset: Dataset, samples: Sequence[Sample], columns: int) -> Image:
    """Draw a sheet of images with their labels laid over them, (H, W, 3) uint8 RGB."""
    cells = ((sample.id, *_read(sample)) for sample in samples)  # one is in memory at a time
    return contact_sheet(cells, columns, dataset.classes)


def draw_augmented(
    dataset: Dataset,
    samples: Sequence[Sample],
    settings: Augment,
    preprocessing: Preprocessing,
    crops: int,
    seed: int,
    max_side: int = 0,
) -> Image:
    """Draw a row per sample, (H, W, 3) uint8 RGB: the image itself, and ``crops`` crops as augmentation makes them.

    Larger images than ``max_side`` are drawn at their working size.
    """

    def cells() -> Iterator[tuple[str, Image, Label]]:
        for number, sample in enumerate(samples):
            image, label = _read(sample)
            image, label = shrink(image, max_side), shrink_label(label, max_side)
            yield f"{sample.id} {label.shape[1]}x{label.shape[0]}", image, label
            for crop in range(crops):
                rng = np.random.default_rng((seed, number, crop))
                pixels, cropped = augment(image, label, settings, rng, preprocessing)
                size = f"{settings.crop_size}x{settings.crop_size}"
                yield f"crop {crop + 1}, {size}", preprocessing.undo(pixels), cropped

    return contact_sheet(cells(), crops + 1, dataset.classes, width=240)


def _read(sample: Sample) -> tuple[Image, Label]:
    return read_image(sample.image), read_label(sample.label)
