"""Show what a training would see: images under their labels, as they lie there and as augmentation makes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from deeplabctl.data.augmentation import Augment, augment
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image, read_label
from deeplabctl.network.preprocessing import MEAN_BGR
from deeplabctl.render import contact_sheet

Image8 = npt.NDArray[np.uint8]


def choose(samples: Sequence[Sample], count: int, seed: int) -> list[Sample]:
    """Draw ``count`` of the samples, or all if there are fewer, and keep their order."""
    drawn = np.random.default_rng(seed).permutation(len(samples))[:count]
    return [samples[index] for index in sorted(drawn.tolist())]


def draw_samples(dataset: Dataset, samples: Sequence[Sample], columns: int) -> Image8:
    """Draw a sheet of images (H, W, 3) uint8 RGB under their labels."""
    cells = [(sample.id, *_read(sample)) for sample in samples]
    return contact_sheet(cells, columns, dataset.classes)


def draw_augmented(dataset: Dataset, samples: Sequence[Sample], settings: Augment, times: int, seed: int) -> Image8:
    """Draw a row for each sample: itself, and ``times`` crops that augmentation makes of it."""
    cells = []
    for number, sample in enumerate(samples):
        image, label = _read(sample)
        cells.append((f"{sample.id} {label.shape[1]}x{label.shape[0]}", image, label))
        for attempt in range(times):
            rng = np.random.default_rng((seed, number, attempt))
            pixels, cropped = augment(image, label, settings, rng)
            size = f"{settings.crop_size}x{settings.crop_size}"
            cells.append((f"crop {attempt + 1}, {size}", _shown(pixels), cropped))
    return contact_sheet(cells, times + 1, dataset.classes, width=240)


def _read(sample: Sample) -> tuple[Image8, Image8]:
    return read_image(sample.image), read_label(sample.label)


def _shown(pixels: npt.NDArray[np.float32]) -> Image8:
    """Turn what the network takes, BGR minus the mean, back into a picture."""
    return np.clip(np.rint(pixels + np.array(MEAN_BGR, np.float32)), 0, 255).astype(np.uint8)[..., ::-1]
