"""Draw the built-in data set: pictures of six kinds of shapes, made from a seed, in PASCAL VOC's layout.

Each kind tends to a family of colours, which strays into its neighbours', and the ground has any colour at all: colour
helps, but only the outline tells a kind for certain. Every picture is a function of the seed and its index, drawn from
uniform numbers with simple arithmetic, so that it comes out the same everywhere.
"""

from __future__ import annotations

import cmath
import colorsys
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from deeplabctl.classes import IGNORE_LABEL
from deeplabctl.data.images import write_mask
from deeplabctl.errors import DataError

CLASSES: tuple[str, ...] = ("background", "disc", "square", "triangle", "star", "ring", "cross")
SIZE = 160  # pixels, height and width
OBJECTS = (2, 5)  # in a picture
AREA = (0.07, 0.24)  # share of the picture that an object covers, its hidden parts counted in
_ALL_AREAS = 0.65  # share that all objects together cover, at most: many are smaller than few

# The corners of a kind as complex numbers, y downwards, and how often they are repeated round the origin.
_CORNERS: dict[str, tuple[int, tuple[complex, ...]]] = {
    "disc": (72, (-1j,)),
    "square": (4, (-1 - 1j,)),
    "triangle": (3, (-1j,)),
    "star": (5, (-1j, -0.52j * cmath.exp(0.2j * math.pi))),
    "ring": (72, (-1j,)),
    "cross": (4, (-0.42 - 1j, 0.42 - 1j, 0.42 - 0.42j)),
}
_HOLE = 0.42  # of the ring's radius
_TILT = math.radians(25)  # at most, to each side
_STRAY = 0.10  # at most, of the hue from that of its kind, to each side; the kinds stand 1/6 apart
_ANY_HUE = 0.05  # share of the objects whose hue says nothing
_VOID_WINDOW = 5  # pixels; leaves 2 pixels of void on each side of a border
_OVERSAMPLING = 4

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Place an object: ``area`` is a share of the picture, ``center`` is x + iy in pixels, ``tilt`` in radians."""

    class_id: int
    area: float
    center: complex
    tilt: float

    @property
    def length(self) -> float:
        """Return the side, in pixels, of the square that has its area."""
        return math.sqrt(self.area) * SIZE

    def coverage(self) -> Floats:
        """Return the share of each pixel that it covers, (SIZE, SIZE) in [0, 1], as if nothing stood before it."""
        name = CLASSES[self.class_id]
        repeats, corners = _CORNERS[name]
        outline = np.array([c * cmath.exp(2j * math.pi * k / repeats) for k in range(repeats) for c in corners])
        hole = _HOLE if name == "ring" else 0.0
        area = np.sum(np.imag(outline.conj() * np.roll(outline, -1))) / 2 * (1 - hole**2)
        outline *= self.length / math.sqrt(area) * cmath.exp(1j * self.tilt)
        canvas = Image.new("L", (SIZE * _OVERSAMPLING, SIZE * _OVERSAMPLING))
        for points, ink in ((outline, 255), (outline * hole, 0)):
            points = (points + self.center) * _OVERSAMPLING
            if ink or hole:
                ImageDraw.Draw(canvas).polygon(list(zip(points.real, points.imag, strict=True)), fill=ink)
        return np.asarray(canvas.reduce(_OVERSAMPLING)) / 255.0


def place_shapes(rng: np.random.Generator) -> list[Shape]:
    """Choose 2 to 5 objects, the largest first, so that the small ones lie on top and none is lost from sight."""
    count = int(rng.integers(OBJECTS[0], OBJECTS[1] + 1))
    largest = min(AREA[1], _ALL_AREAS / count)
    areas = rng.uniform(AREA[0], largest, count)
    shapes: list[Shape] = []
    for area in sorted(areas.tolist(), reverse=True):
        margin = 0.5 * math.sqrt(area) * SIZE
        candidates = [complex(x, y) for x, y in rng.uniform(margin, SIZE - margin, (3, 2))]
        # Of three places the one farthest from the others: they overlap often, but seldom hide each other.
        distances = [min((abs(place - other.center) for other in shapes), default=0.0) for place in candidates]
        center = candidates[int(np.argmax(distances))]
        shapes.append(Shape(int(rng.integers(1, len(CLASSES))), area, center, float(rng.uniform(-_TILT, _TILT))))
    return shapes


def draw_sample(seed: int, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw a picture (160, 160, 3) uint8 RGB and its label (160, 160) uint8; borders of objects are 255, void."""
    rng = np.random.default_rng((seed, index))
    shapes = place_shapes(rng)
    picture = _surface(rng, _color(rng, rng.random(), (0.1, 0.85)), contrast=0.8)
    on_top = np.zeros((SIZE, SIZE), np.uint8)  # number of the object that is seen, 0 the ground
    for number, shape in enumerate(shapes, 1):
        hue = (shape.class_id - 1) / (len(CLASSES) - 1) + _STRAY * rng.uniform(-1, 1, 2).mean()
        if rng.random() < _ANY_HUE:
            hue = rng.random()
        surface = _surface(rng, _color(rng, hue, (0.4, 1.0)), contrast=0.12) * _shading(shape)
        coverage = shape.coverage()
        picture += coverage[..., None] * (surface - picture)
        on_top[coverage > 0.5] = number
    picture += rng.uniform(-6, 6, picture.shape)  # grain
    label = np.array([0, *(shape.class_id for shape in shapes)], np.uint8)[on_top]
    highest = Image.fromarray(on_top).filter(ImageFilter.MaxFilter(_VOID_WINDOW))
    lowest = Image.fromarray(on_top).filter(ImageFilter.MinFilter(_VOID_WINDOW))
    label[np.asarray(highest) != np.asarray(lowest)] = IGNORE_LABEL
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), label


def _color(rng: np.random.Generator, hue: float, saturation: tuple[float, float]) -> Floats:
    """Draw a colour of this hue, (3,) in [0, 255]."""
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(*saturation), rng.uniform(0.45, 1.0)))


def _surface(rng: np.random.Generator, color: Floats, contrast: float) -> Floats:
    """Mix a colour with some of another one in clouds or in stripes: (SIZE, SIZE, 3) in [0, 255]."""
    if rng.random() < 0.5:
        cells = int(rng.integers(8, 25))
        clouds = Image.fromarray(rng.random((cells, cells), np.float32))
        share = np.asarray(clouds.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float64)
    else:
        direction = cmath.exp(1j * rng.uniform(0, math.pi)) / rng.uniform(5, 12)
        y, x = np.mgrid[:SIZE, :SIZE]
        share = np.abs((x * direction.real + y * direction.imag) % 2 - 1)
    other = _color(rng, rng.random(), (0.1, 0.85))
    mixed: Floats = color + contrast * share[..., None] * (other - color)
    return mixed


def _shading(shape: Shape) -> Floats:
    """Return the light on an object, from above left: (SIZE, SIZE, 1), about 1."""
    y, x = np.mgrid[:SIZE, :SIZE]
    slope = (shape.center.real - x + shape.center.imag - y) / shape.length
    light: Floats = np.clip(1 + 0.22 * slope, 0.7, 1.3)[..., None]
    return light


def write_shapes(root: Path, *, seed: int = 0, train: int = 240, val: int = 60) -> None:
    """Write the data set in VOC's layout to ``root``, all of it or nothing.

    Training pictures are the indices from 0, validation pictures those that follow. Raises DataError if ``root`` exists
    and is not an empty folder.
    """
    root = root.resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"cannot write the shapes to {root}: it exists and is not an empty folder; choose a new one")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    except OSError as error:
        raise DataError(f"cannot write the shapes to {root}: {error.strerror}; choose another folder") from None
    try:
        temporary.chmod(0o755)  # mkdtemp's folders are their owner's alone
        for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
            (temporary / folder).mkdir(parents=True)
        names = [f"shapes_{index:04d}" for index in range(train + val)]
        for index, name in enumerate(names):
            picture, label = draw_sample(seed, index)
            jpeg = temporary / "JPEGImages" / f"{name}.jpg"
            Image.fromarray(picture).save(jpeg, quality=95, subsampling=0)
            write_mask(temporary / "SegmentationClass" / f"{name}.png", label)
        for split, members in (("train", names[:train]), ("val", names[train:]), ("trainval", names)):
            listing = temporary / "ImageSets" / "Segmentation" / f"{split}.txt"
            listing.write_text("".join(f"{name}\n" for name in members))
        (temporary / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
        temporary.rename(root)
    except OSError as error:
        raise DataError(f"cannot write the shapes to {root}: {error.strerror}; choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already if all went well
