"""Turn a training image and its label into what the network takes.

``augment`` follows Caffe's data layer (IMAGE_SEG_DATA): pad at the bottom and right (the image with the mean, which is
0 after preprocessing; the label with void), crop at a uniformly random position, mirror. What the papers' recipes do
not use is off by default: scaling, crops around classes, and changes of light and colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.arrays import Image, Label, Pixels
from deeplabctl.classes import IGNORE_LABEL, LUMA
from deeplabctl.data.images import resize_image
from deeplabctl.data.labels import resize_label
from deeplabctl.limits import SHARE, Auto, limited
from deeplabctl.network.architecture import Preprocessing

_LUMA = np.array(LUMA, np.float32)
_LEVELS = np.arange(256, dtype=np.float32)
_OPENCV_BITS = 11  # of the weights of neighbours, which OpenCV rounds to integers


@dataclass(frozen=True)
class Augment:
    """Hold the settings of augmentation."""

    # "auto": nine tenths of the shorter side, at most 321. Which sizes there are, the architecture says.
    crop_size: int = field(default=321, metadata={"auto": True})
    # Range of a uniformly random factor.
    scale: tuple[float, float] = limited(
        (1.0, 1.0), "[smallest, largest] above 0, at most 16", lambda v: 0 < v[0] <= v[1] <= 16
    )
    # Instead: one of these factors, equally likely, as in the second paper's data layer.
    scales: tuple[float, ...] = limited(
        (), "numbers above 0, at most 16", lambda v: all(0 < scale <= 16 for scale in v)
    )
    mirror: bool = True  # with probability 1/2
    # By 0, 90, 180 or 270 degrees, each equally likely; "auto": unless labels show which side is up.
    turns: bool | Auto = field(default=False, metadata={"auto": True})
    shuffle: bool = True  # the samples, differently in each epoch
    # Of crops around a pixel of a class, drawn evenly among those of the image.
    class_crops: float = limited(0.0, "a share of 0 to 1", lambda v: 0 <= v <= 1)
    # Changes of light and colour; "auto": stronger where labels show which side is up.
    jitter: float = limited(0.0, *SHARE, auto=True)  # brightness times a random factor in [1 - jitter, 1 + jitter]
    gamma: float = limited(0.0, "0 to 2", lambda v: 0 <= v <= 2, auto=True)  # exponent exp(u), |u| at most gamma
    contrast: float = limited(0.0, *SHARE, auto=True)  # factor as jitter's, about the crop's mean grey
    saturation: float = limited(0.0, *SHARE, auto=True)  # factor as jitter's, about each pixel's grey
    channel_gain: float = limited(0.0, *SHARE, auto=True)  # factor as jitter's, of each channel by itself

    def at_scale(self, scale: float) -> Augment:
        """Return the settings for images that are worked on at ``scale`` times their size."""
        smallest, largest = self.scale
        return replace(self, scale=(scale * smallest, scale * largest), scales=tuple(scale * s for s in self.scales))


def augment(
    image: Image,
    label: Label,
    settings: Augment,
    rng: np.random.Generator,
    preprocessing: Preprocessing,
) -> tuple[Pixels, Label]:
    """Scale, crop, mirror and recolour a sample.

    Takes (H, W, 3) uint8 RGB and (H, W) uint8; returns the preprocessed crop as float32 and its label at full
    resolution. Random numbers are always drawn in the same order, so that a setting does not change those of another.
    """
    chance, (smallest, largest) = rng.random(), settings.scale
    scale = smallest + (largest - smallest) * chance
    brightness = 1 + settings.jitter * rng.uniform(-1, 1)
    down, right, flip, around_class, which_class, which_pixel = rng.random(6)
    bend, contrast, saturation, *gains = rng.uniform(-1, 1, 6)
    turns = int(rng.random() * 4) if settings.turns else 0
    if settings.scales:
        scale = settings.scales[int(chance * len(settings.scales))]
        image, label = rescale_as_opencv(image, label, scale)
    elif scale != 1:
        image, label = rescale(image, label, scale)
    size = settings.crop_size
    top = int(down * (max(label.shape[0] - size, 0) + 1))
    left = int(right * (max(label.shape[1] - size, 0) + 1))
    if around_class < settings.class_crops:
        top, left = _corner_around_class(label, size, which_class, which_pixel) or (top, left)
    window = np.s_[top : top + size, left : left + size]
    red, green, blue = (1 + settings.channel_gain * gain for gain in gains)
    changed = change_colors(
        image[window],
        brightness=brightness,
        gamma=math.exp(settings.gamma * bend),
        contrast=1 + settings.contrast * contrast,
        saturation=1 + settings.saturation * saturation,
        gains=(red, green, blue),
    )
    mirror = settings.mirror and flip < 0.5
    return prepare_crop(changed, label[window], size, preprocessing, mirror=mirror, turns=turns)


def _corner_around_class(label: Label, size: int, which_class: float, which_pixel: float) -> tuple[int, int] | None:
    """Return the top left corner of a crop with a pixel of one of the label's classes at its centre.

    The two numbers in [0, 1) choose the class, each one that is present alike, and the pixel among those of the class.
    Near a border the crop moves into the image. None for a label that is all void.
    """
    flat = label.ravel()
    present = np.flatnonzero(np.bincount(flat, minlength=IGNORE_LABEL + 1)[:IGNORE_LABEL])
    if not present.size:
        return None
    pixels = np.flatnonzero(flat == present[int(which_class * present.size)])
    row, column = divmod(int(pixels[int(which_pixel * pixels.size)]), label.shape[1])
    return _start(row, size, label.shape[0]), _start(column, size, label.shape[1])


def _start(centre: int, size: int, length: int) -> int:
    """Return where a window about a centre starts, moved into an axis of this length."""
    return min(max(centre - size // 2, 0), max(length - size, 0))


def change_colors(
    image: Image,
    *,
    brightness: float = 1.0,
    gamma: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Image:
    """Change the light and colour of an image (H, W, 3) uint8 RGB, as weather and cameras do.

    First ``gamma``, an exponent of the values as shares of 255 (below 1 brightens dark parts most); then ``brightness``
    and ``gains`` multiply all channels, and R, G and B; then ``contrast`` multiplies the distance from the mean grey of
    the image, and ``saturation`` that from the pixel's own grey. Values are clipped to 0..255 and rounded once, at the
    end.
    """
    if (brightness, gamma, contrast, saturation, *gains) == (1,) * 7:
        return image
    factors = np.float32(brightness) * np.array(gains, np.float32)
    curve = _LEVELS if gamma == 1 else 255 * (_LEVELS / 255) ** np.float32(gamma)
    changed = (curve[:, None] * factors)[image, np.arange(3)]
    if contrast != 1:
        mean = (changed @ _LUMA).mean()
        changed = mean + np.float32(contrast) * (changed - mean)
    if saturation != 1:
        grey = (changed @ _LUMA)[..., None]
        changed = grey + np.float32(saturation) * (changed - grey)
    return np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def prepare_crop(
    image: Image, label: Label, size: int, preprocessing: Preprocessing, *, mirror: bool, turns: int = 0
) -> tuple[Pixels, Label]:
    """Preprocess a crop, pad it at the bottom and right to a square of ``size``, mirror it left to right, and turn it.

    ``turns`` counts quarter turns to the left.
    """
    pixels = preprocessing(image)
    below, beside = size - label.shape[0], size - label.shape[1]
    if below or beside:
        pixels = np.pad(pixels, ((0, below), (0, beside), (0, 0)))
        label = np.pad(label, ((0, below), (0, beside)), constant_values=IGNORE_LABEL)
    if mirror:
        pixels, label = pixels[:, ::-1], label[:, ::-1]
    pixels, label = np.rot90(pixels, turns), np.rot90(label, turns)
    return np.ascontiguousarray(pixels), np.ascontiguousarray(label)


def rescale(image: Image, label: Label, scale: float) -> tuple[Image, Label]:
    """Resize an image bilinearly and its label by the nearest pixel, to ``scale`` times their size."""
    height, width = (max(1, round(side * scale)) for side in label.shape)
    return resize_image(image, (height, width)), resize_label(label, (height, width))


def rescale_as_opencv(image: Image, label: Label, scale: float) -> tuple[Image, Label]:
    """Resize an image (H, W, 3) and its label to ``scale`` times their size, rounded down, by OpenCV's rules.

    As the second paper's data layer does by INTER_LINEAR and INTER_NEAREST: bilinear between the two nearest pixel
    centres, also where the image becomes smaller, in OpenCV's fixed-point arithmetic; the label takes pixel
    ``floor(i * H / H')``.
    """
    sizes = [max(1, int(side * scale)) for side in label.shape]
    if sizes == list(label.shape):
        return image, label
    (above, below, upper, lower), (left, right, near, far) = map(_neighbours, label.shape, sizes)
    columns = image[:, left].astype(np.int64) * near[:, None] + image[:, right].astype(np.int64) * far[:, None]
    columns >>= 4
    rows = (columns[above] * upper[:, None, None] >> 16) + (columns[below] * lower[:, None, None] >> 16)
    nearest = [np.arange(after) * before // after for before, after in zip(label.shape, sizes, strict=True)]
    return ((rows + 2) >> 2).astype(np.uint8), label[np.ix_(*nearest)]


def _neighbours(before: int, after: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the two pixels that each new one lies between, and their weights."""
    centre = ((np.arange(after) + 0.5) * (before / after) - 0.5).astype(np.float32).clip(0, before - 1)
    first = centre.astype(int)
    share = centre - first
    weights = (np.rint(part * 2**_OPENCV_BITS).astype(np.int64) for part in (1 - share, share))
    return first, np.minimum(first + 1, before - 1), *weights
