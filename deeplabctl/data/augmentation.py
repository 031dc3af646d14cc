"""Turn a training image and its label into what the network takes.

``augment`` follows Caffe's data layer (IMAGE_SEG_DATA): pad at the bottom and right (the image with the mean, which is
0 after preprocessing; the label with void), crop at a uniformly random position, mirror. Scaling and brightness jitter
come first; the papers' recipes do not use them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image

from deeplabctl.arrays import Image, Label, Pixels
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.network.layers import OUTPUT_STRIDE
from deeplabctl.network.preprocessing import preprocess


@dataclass(frozen=True)
class Augment:
    """Hold the settings of augmentation."""

    crop_size: int = 321  # pixels; 8k + 1
    scale: tuple[float, float] = (1.0, 1.0)  # range of a uniformly random factor
    mirror: bool = True  # with probability 1/2
    shuffle: bool = True  # the samples, differently in each epoch
    jitter: float = 0.0  # brightness times a uniformly random factor in [1 - jitter, 1 + jitter]


def augment(image: Image, label: Label, settings: Augment, rng: np.random.Generator) -> tuple[Pixels, Label]:
    """Scale, jitter, crop and mirror a sample.

    Takes (H, W, 3) uint8 RGB and (H, W) uint8; returns the crop as float32 BGR minus the mean and its label at full
    resolution. Random numbers are always drawn in the same order, so that a setting does not change those of another.
    """
    scale = rng.uniform(*settings.scale)
    brightness = 1 + settings.jitter * rng.uniform(-1, 1)
    down, right, flip = rng.random(3)
    if scale != 1:
        image, label = rescale(image, label, scale)
    if brightness != 1:
        image = np.clip(np.rint(image * np.float32(brightness)), 0, 255).astype(np.uint8)
    top = int(down * (max(label.shape[0] - settings.crop_size, 0) + 1))
    left = int(right * (max(label.shape[1] - settings.crop_size, 0) + 1))
    return crop(image, label, settings.crop_size, top, left, mirror=settings.mirror and flip < 0.5)


def crop(image: Image, label: Label, size: int, top: int, left: int, *, mirror: bool) -> tuple[Pixels, Label]:
    """Take a square crop, preprocess it, pad it where it goes beyond the image, and mirror it left to right."""
    window = np.s_[top : top + size, left : left + size]
    pixels, label = preprocess(image[window]), label[window]
    below, beside = size - label.shape[0], size - label.shape[1]
    if below or beside:
        pixels = np.pad(pixels, ((0, below), (0, beside), (0, 0)))
        label = np.pad(label, ((0, below), (0, beside)), constant_values=IGNORE_LABEL)
    if mirror:
        pixels, label = pixels[:, ::-1], label[:, ::-1]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(label)


def rescale(image: Image, label: Label, scale: float) -> tuple[Image, Label]:
    """Resize an image bilinearly and its label by the nearest pixel, to ``scale`` times its size."""
    height, width = (max(1, round(side * scale)) for side in label.shape)
    resized = PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BILINEAR)
    nearest = PIL.Image.fromarray(label).resize((width, height), PIL.Image.Resampling.NEAREST)
    return np.asarray(resized), np.asarray(nearest)


def shrink_label(label: Label) -> Label:
    """Shrink (..., 8h - 7, 8w - 7) to (..., h, w) by taking pixel 8i, which lies on cell i of the logits."""
    return label[..., ::OUTPUT_STRIDE, ::OUTPUT_STRIDE]
