"""Draw data sets: images with their labels, as stored and after augmentation, and the statistics of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
from PIL import ImageDraw

from deeplabctl.arrays import Image, Label
from deeplabctl.classes import class_colors
from deeplabctl.data.augmentation import Augment, augment
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image, shrink
from deeplabctl.data.labels import read_label, shrink_label
from deeplabctl.data.stats import SplitCounts, Statistics
from deeplabctl.network.architecture import Preprocessing
from deeplabctl.render import INK, PAPER, contact_sheet, drawable_name, font
from deeplabctl.reporting import counted

_PALE_INK, _RULE = (120, 120, 120), (225, 225, 225)
_SHADES = ((46, 102, 168), (240, 150, 40), (80, 150, 90), (150, 90, 160), (130, 130, 130))  # of the splits
_TEXT, _TITLE, _GAP = 15, 22, 10  # pixels
_BAR, _PANEL = 14, 360  # height of a bar, width of a panel of bars


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


def draw_statistics(name: str, statistics: Statistics) -> Image:
    """Draw a chart, (H, W, 3) uint8 RGB: a row per class with a bar per split."""
    letters = font(_TEXT)
    splits, classes = statistics.splits, [drawable_name(*named) for named in enumerate(statistics.classes)]
    names = max(letters.getlength(text) for text in (*classes, "class"))
    left = round(_GAP * 3 + _BAR + names)
    number = round(letters.getlength("100.00 % ")) + _GAP
    columns = [left, left + _PANEL + number + 2 * _GAP]
    weight = columns[1] + _PANEL + number + 2 * _GAP
    row = len(splits) * _BAR + _GAP
    head = _GAP + _TITLE + _GAP + len(splits) * (_TEXT + 6) + 2 * _GAP + _TEXT + _GAP
    width = weight + round(letters.getlength("median-frequency")) + 2 * _GAP
    canvas = PIL.Image.new("RGB", (width, head + row * len(statistics.classes) + 2 * _GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, _GAP), name, INK, font(_TITLE))
    for index, counts in enumerate(splits):
        y = 2 * _GAP + _TITLE + index * (_TEXT + 6)
        draw.rectangle((_GAP, y + 2, _GAP + _BAR, y + 2 + _BAR), fill=_SHADES[index % len(_SHADES)])
        draw.text((_GAP * 2 + _BAR, y), _describe(counts), INK, letters)
    y = head - _TEXT - _GAP
    for x, text in zip((*columns, weight), ("share of the pixels", "share of the images", "weight"), strict=True):
        draw.text((x, y), text, _PALE_INK, letters)
    for class_id, class_name in enumerate(classes):
        y = head + class_id * row
        middle = y + (row - _GAP) / 2
        draw.line((_GAP, y - _GAP / 2, width - _GAP, y - _GAP / 2), fill=_RULE)
        color = tuple(map(int, class_colors(statistics.classes)[class_id]))
        draw.rectangle((_GAP, middle - _BAR / 2, _GAP + _BAR, middle + _BAR / 2), fill=color, outline=INK)
        draw.text((_GAP * 2 + _BAR, middle), class_name, INK, letters, anchor="lm")
        draw.text((weight, middle), f"{statistics.weights[class_id]:.3g}", INK, letters, anchor="lm")
        for index, counts in enumerate(splits):
            shares = (counts.shares[class_id], counts.images_with[class_id] / max(counts.images, 1))
            tops = (max(max(other.shares) for other in splits), 1.0)
            for x, share, top in zip(columns, shares, tops, strict=True):
                _bar(draw, (x, y + index * _BAR), share, top or 1.0, _SHADES[index % len(_SHADES)])
    return np.asarray(canvas)


def _bar(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], share: float, top: float, color: tuple[int, int, int]
) -> None:
    x, y = corner
    length = max(round(_PANEL * share / top), int(share > 0))
    if length:
        draw.rectangle((x, y + 1, x + length, y + _BAR - 2), fill=color)
    text = f"{share:.2%}" if share else "none"
    draw.text((x + length + 5, y + _BAR / 2), text, _PALE_INK, font(_BAR - 2), anchor="lm")


def _describe(counts: SplitCounts) -> str:
    low = f"{counts.widths[0]}x{counts.heights[0]}"
    high = f"{counts.widths[2]}x{counts.heights[2]}"
    sizes = f"of {low}" if low == high else f"from {low} to {high}"
    return f"{counts.split}: {counted(counts.images, 'image')} {sizes} pixels, {counts.void_share:.1%} void"
