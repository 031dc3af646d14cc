"""Draw the built-in data set: images of six kinds of shapes, made from a seed, in PASCAL VOC's layout.

Each kind prefers a range of hues, which overlaps those of its neighbours, and the ground has any colour: colour helps,
but only the outline identifies a kind. Every image is a function of the seed and its index, drawn from uniform random
numbers with simple arithmetic, so that it is the same on every machine.
"""

from __future__ import annotations

import cmath
import colorsys
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFilter

from deeplabctl.arrays import Floats, Image, Label
from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.labels import mask_bytes
from deeplabctl.data.layout import IMAGES, LABELS, make_layout, new_dataset, write_class_names, write_list

CLASSES: tuple[str, ...] = ("background", "disc", "square", "triangle", "star", "ring", "cross")
SIZE = 160  # pixels, height and width
OBJECTS = (2, 5)  # per image, least and most
AREA = (0.07, 0.24)  # share of the image that an object covers, including its hidden parts
_ALL_AREAS = 0.65  # share that all objects of an image may cover together

# How often a kind repeats some corners around the origin, and these corners as complex numbers, y downwards.
_CORNERS: dict[str, tuple[int, tuple[complex, ...]]] = {
    "disc": (72, (-1j,)),
    "square": (4, (-1 - 1j,)),
    "triangle": (3, (-1j,)),
    "star": (5, (-1j, -0.52j * cmath.exp(0.2j * math.pi))),
    "ring": (72, (-1j,)),
    "cross": (4, (-0.42 - 1j, 0.42 - 1j, 0.42 - 0.42j)),
}
_HOLE = 0.42  # of the ring's radius
_TILT = math.radians(25)  # largest, to each side
_HUE_SPREAD = 0.10  # largest distance of a hue from that of its kind; the kinds are 1/6 apart
_ANY_HUE = 0.05  # share of the objects with a random hue
_VOID_WINDOW = 5  # pixels; leaves 2 pixels of void on each side of a border
_OVERSAMPLING = 4


@dataclass(frozen=True)
class Shape:
    """Place an object: ``area`` is a share of the image, ``center`` is x + iy in pixels, ``tilt`` is in radians."""

    class_id: int
    area: float
    center: complex
    tilt: float

    @property
    def length(self) -> float:
        """Return the side in pixels of a square of the same area."""
        return math.sqrt(self.area) * SIZE

    def coverage(self) -> Floats:
        """Return the share of each pixel that it covers, (SIZE, SIZE) in [0, 1], ignoring other objects."""
        name = CLASSES[self.class_id]
        repeats, corners = _CORNERS[name]
        outline = np.array([c * cmath.exp(2j * math.pi * k / repeats) for k in range(repeats) for c in corners])
        hole = _HOLE if name == "ring" else 0.0
        area = np.sum(np.imag(outline.conj() * np.roll(outline, -1))) / 2 * (1 - hole**2)
        outline *= self.length / math.sqrt(area) * cmath.exp(1j * self.tilt)
        canvas = PIL.Image.new("L", (SIZE * _OVERSAMPLING, SIZE * _OVERSAMPLING))
        for points, ink in ((outline, 255), (outline * hole, 0)):
            points = (points + self.center) * _OVERSAMPLING
            if ink or hole:
                ImageDraw.Draw(canvas).polygon(list(zip(points.real, points.imag, strict=True)), fill=ink)
        return np.asarray(canvas.reduce(_OVERSAMPLING)) / 255.0


def place_shapes(rng: np.random.Generator) -> list[Shape]:
    """Choose 2 to 5 objects, the largest first, so that smaller ones lie on top and none is hidden."""
    count = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    largest = min(AREA[1], _ALL_AREAS / count)
    areas = rng.uniform(AREA[0], largest, count)
    shapes: list[Shape] = []
    for area in sorted(areas.tolist(), reverse=True):
        margin = 0.5 * math.sqrt(area) * SIZE
        candidates = [complex(x, y) for x, y in rng.uniform(margin, SIZE - margin, (3, 2))]
        # The one of three places that is farthest from the others: objects often overlap, but seldom hide each other.
        distances = [min((abs(place - other.center) for other in shapes), default=0.0) for place in candidates]
        center = candidates[int(np.argmax(distances))]
        shapes.append(Shape(int(rng.integers(1, len(CLASSES))), area, center, float(rng.uniform(-_TILT, _TILT))))
    return shapes


def draw_sample(seed: int, index: int) -> tuple[Image, Label]:
    """Draw an image (160, 160, 3) uint8 RGB and its label (160, 160) uint8; borders of objects are 255, void."""
    rng = np.random.default_rng((seed, index))
    shapes = place_shapes(rng)
    image = _surface(rng, _color(rng, rng.random(), (0.1, 0.85)), contrast=0.8)
    on_top = np.zeros((SIZE, SIZE), np.uint8)  # number of the visible object, 0 for the ground
    for number, shape in enumerate(shapes, 1):
        hue = (shape.class_id - 1) / (len(CLASSES) - 1) + _HUE_SPREAD * rng.uniform(-1, 1, 2).mean()
        if rng.random() < _ANY_HUE:
            hue = rng.random()
        surface = _surface(rng, _color(rng, hue, (0.4, 1.0)), contrast=0.12) * _shading(shape)
        coverage = shape.coverage()
        image += coverage[..., None] * (surface - image)
        on_top[coverage > 0.5] = number
    image += rng.uniform(-6, 6, image.shape)  # grain
    label = np.array([0, *(shape.class_id for shape in shapes)], np.uint8)[on_top]
    highest = PIL.Image.fromarray(on_top).filter(ImageFilter.MaxFilter(_VOID_WINDOW))
    lowest = PIL.Image.fromarray(on_top).filter(ImageFilter.MinFilter(_VOID_WINDOW))
    label[np.asarray(highest) != np.asarray(lowest)] = IGNORE_LABEL
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), label


def _color(rng: np.random.Generator, hue: float, saturation: tuple[float, float]) -> Floats:
    """Return a random colour of this hue, (3,) in [0, 255]."""
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(*saturation), rng.uniform(0.45, 1.0)))


def _surface(rng: np.random.Generator, color: Floats, contrast: float) -> Floats:
    """Return a colour mixed with some of another in clouds or stripes: (SIZE, SIZE, 3) in [0, 255]."""
    if rng.random() < 0.5:
        cells = int(rng.integers(8, 25))
        clouds = PIL.Image.fromarray(rng.random((cells, cells), np.float32))
        share = np.asarray(clouds.resize((SIZE, SIZE), PIL.Image.Resampling.BICUBIC), np.float64)
    else:
        direction = cmath.exp(1j * rng.uniform(0, math.pi)) / rng.uniform(5, 12)
        y, x = np.mgrid[:SIZE, :SIZE]
        share = np.abs((x * direction.real + y * direction.imag) % 2 - 1)
    other = _color(rng, rng.random(), (0.1, 0.85))
    mixed: Floats = color + contrast * share[..., None] * (other - color)
    return mixed


def _shading(shape: Shape) -> Floats:
    """Return the light on an object from the upper left: (SIZE, SIZE, 1) factors around 1."""
    y, x = np.mgrid[:SIZE, :SIZE]
    slope = (shape.center.real - x + shape.center.imag - y) / shape.length
    light: Floats = np.clip(1 + 0.22 * slope, 0.7, 1.3)[..., None]
    return light


def write_shapes(root: str | Path, *, seed: int = 0, train: int = 240, val: int = 60, overwrite: bool = False) -> None:
    """Write the data set in VOC's layout to ``root``, whole or not at all.

    Training images have the indices from 0, validation images those that follow. Raises OutputError if ``root`` is not
    empty; with ``overwrite`` a data set is replaced.
    """
    with new_dataset(Path(root), overwrite=overwrite) as folder:
        make_layout(folder)
        names = [f"shapes_{index:04d}" for index in range(train + val)]
        for index, name in enumerate(names):
            image, label = draw_sample(seed, index)
            PIL.Image.fromarray(image).save(folder / IMAGES / f"{name}.jpg", quality=95, subsampling=0)
            (folder / LABELS / f"{name}.png").write_bytes(mask_bytes(label))
        write_list(folder, "train", names[:train])
        write_list(folder, "val", names[train:])
        write_list(folder, "trainval", names)
        write_class_names(folder, CLASSES)
