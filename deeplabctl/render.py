"""Draw labels over images: overlays with a legend, and rows of panels, with names of any script. Pillow only."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL.Image
from PIL import ImageDraw, ImageFont

from deeplabctl.arrays import Image, Label, Mask
from deeplabctl.classes import IGNORE_LABEL, class_colors
from deeplabctl.files import whole_file

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_DEJAVU = Path("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")  # in matplotlib: Latin, Greek, Cyrillic, Arabic, ...
_NO_LETTER = "\U0010ffff"  # for which fonts draw what they draw for letters that they do not have
_OPACITY = 0.6
_PNG_LEVEL = 1  # of zlib: a third of the time of Pillow's 6, and 4% more bytes
_ROWS = 64  # that are mixed at once: a place in a table takes eight times the memory of a pixel's value
_PANEL = 640  # pixels of the longer side
_GAP = 6  # pixels between panels and around texts
_LARGEST_TEXT = 28  # pixels, in a picture of a screen's width
PAPER, INK = (255, 255, 255), (34, 34, 34)  # of drawings and their texts


def overlay(image: Image, label: Label, classes: Sequence[str]) -> Image:
    """Lay the colours of the classes over an image, (H, W, 3) uint8 RGB, and draw borders between classes in white.

    Class 0 stays clear if its name is "background"; void gets a grey tint.
    """
    opacity = np.full((256, 1, 1), _OPACITY, np.float32)
    if classes[0] == "background":
        opacity[0] = 0
    values = np.arange(256, dtype=np.float32)[:, None]
    mixed = np.rint(values * (1 - opacity) + class_colors(classes)[:, None] * opacity).astype(np.uint8)
    tables = [mixed[..., channel].ravel() for channel in range(3)]  # of what becomes of each class's pixel values
    drawn = np.empty(image.shape, np.uint8)
    for top in range(0, len(label), _ROWS):
        part = slice(top, top + _ROWS)
        begins = label[part].astype(np.intp) * 256  # of the class, in the tables
        for channel, table in enumerate(tables):
            drawn[part, :, channel] = table[begins + image[part, :, channel]]
    drawn[_borders(label)] = 255
    return drawn


def overlay_with_legend(image: Image, label: Label, classes: Sequence[str]) -> Image:
    """Lay the classes' colours over an image, as `overlay` does, and name them below it."""
    return with_legend(overlay(image, label, classes), [label], classes)


def overlay_png(image: Image, label: Label, classes: Sequence[str]) -> bytes:
    """Return what `overlay_with_legend` draws as a PNG."""
    content = io.BytesIO()
    PIL.Image.fromarray(overlay_with_legend(image, label, classes)).save(content, "PNG", compress_level=_PNG_LEVEL)
    return content.getvalue()


def with_legend(picture: Image, labels: Sequence[Label], classes: Sequence[str]) -> Image:
    """Add a strip below a picture with the classes (and void) that appear in the labels, largest first."""
    counts = np.sum([PIL.Image.fromarray(label).histogram() for label in labels], axis=0)
    present = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
    names = ["void" if index == IGNORE_LABEL else drawable_name(int(index), classes[index]) for index in present]
    box = _font_size(picture.shape[1])
    gap = max(_GAP, box * 2 // 5)
    letters = font(box)
    widths = [box + 2 * gap + round(letters.getlength(name)) + gap for name in names]
    width = max(picture.shape[1], max(widths) + gap)
    lines: list[list[int]] = [[]]
    for index, wide in enumerate(widths):
        if lines[-1] and gap + sum(widths[i] for i in lines[-1]) + wide > width:
            lines.append([])
        lines[-1].append(index)
    line_height = box + 2 * gap
    canvas = PIL.Image.new("RGB", (width, picture.shape[0] + len(lines) * line_height + gap), PAPER)
    canvas.paste(PIL.Image.fromarray(picture), ((width - picture.shape[1]) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        x, y = gap, picture.shape[0] + gap + row * line_height
        for index in line:
            color = tuple(map(int, class_colors(classes)[present[index]]))
            draw.rectangle((x, y, x + box, y + box), fill=color, outline=INK, width=max(1, box // _LARGEST_TEXT))
            draw.text((x + box + gap, y + box / 2), names[index], INK, letters, anchor="lm")
            x += widths[index]
    return np.asarray(canvas)


def write_image(path: Path, image: Image) -> None:
    """Write (H, W, 3) uint8 RGB in the format that the suffix names, whole or not at all."""
    with whole_file(path) as temporary:
        PIL.Image.fromarray(image).save(temporary, compress_level=_PNG_LEVEL)


def panels(rows: Iterable[tuple[Image, Label, Label]], classes: Sequence[str]) -> Image:
    """Draw rows of (image, label, prediction) side by side under titles, with a legend at the bottom.

    Larger pictures are scaled down to fit into a square of 640 pixels.
    """
    titles = ("image", "label", "prediction")
    scaled = [row if max(row[0].shape[:2]) <= _PANEL else _fit(_PANEL, *row) for row in rows]
    cell_height = max(image.shape[0] for image, _, _ in scaled)
    cell_width = max(image.shape[1] for image, _, _ in scaled)
    text_size = _font_size(3 * cell_width)
    letters = font(text_size)
    top = text_size + 2 * _GAP
    size = (3 * cell_width + 4 * _GAP, top + len(scaled) * (cell_height + _GAP))
    canvas = PIL.Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * (cell_width + _GAP), top / 2), title, INK, letters, anchor="lm")
    for number, (image, label, prediction) in enumerate(scaled):
        pictures = (image, overlay(image, label, classes), overlay(image, prediction, classes))
        for column, picture in enumerate(pictures):
            canvas.paste(
                PIL.Image.fromarray(picture), (_GAP + column * (cell_width + _GAP), top + number * (cell_height + _GAP))
            )
    return with_legend(np.asarray(canvas), [part for row in scaled for part in row[1:]], classes)


def contact_sheet(
    cells: Iterable[tuple[str, Image, Label]], columns: int, classes: Sequence[str], width: int = 320
) -> Image:
    """Draw (caption, image, label) in rows of ``columns`` cells, labels over images, with a legend at the bottom.

    Images are scaled to fit into a square of ``width`` pixels, labels by the nearest pixel.
    """
    scaled = [(caption, _fit(width, image, label)) for caption, image, label in cells]
    height = max(image.shape[0] for _, (image, _) in scaled)
    text_size = _font_size(columns * width // 2)
    letters = font(text_size)
    row_height = height + text_size + 3 * _GAP
    rows = -(-len(scaled) // columns)
    columns = min(columns, len(scaled))
    canvas = PIL.Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * row_height + _GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (caption, (image, label)) in enumerate(scaled):
        row, column = divmod(number, columns)
        x, y = _GAP + column * (width + _GAP), _GAP + row * row_height
        drawn = PIL.Image.fromarray(overlay(image, label, classes))
        canvas.paste(drawn, (x + (width - drawn.width) // 2, y + height - drawn.height))
        draw.text((x + width / 2, y + height + _GAP), _shorten(caption, letters, width), INK, letters, anchor="ma")
    return with_legend(np.asarray(canvas), [label for _, (_, label) in scaled], classes)


def thumbnail(image: Image, label: Label, classes: Sequence[str], width: int) -> Image:
    """Lay the classes' colours over an image that is scaled down to fit into a square of ``width`` pixels."""
    if max(image.shape[:2]) > width:
        image, label = _fit(width, image, label)
    return overlay(image, label, classes)


def _fit(width: int, image: Image, *labels: Label) -> tuple[Image, ...]:
    """Scale an image, and labels of its size, to fit into a square."""
    scale = width / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    smooth = PIL.Image.Resampling.LANCZOS if scale < 1 else PIL.Image.Resampling.BICUBIC
    parts = [(image, smooth), *((label, PIL.Image.Resampling.NEAREST) for label in labels)]
    return tuple(np.asarray(PIL.Image.fromarray(part).resize(size, method)) for part, method in parts)


def _shorten(text: str, letters: Font, width: int) -> str:
    """Remove the middle of a text until it fits."""
    short, keep = text, len(text)
    while letters.getlength(short) > width and keep > 4:
        keep -= 2
        short = f"{text[: keep // 2]}...{text[-(keep // 2) :]}"
    return short


def _borders(label: Label) -> Mask:
    """Mark the pixels whose right or lower neighbour has a different class."""
    borders = np.zeros(label.shape, np.bool_)
    borders[:-1] |= label[:-1] != label[1:]
    borders[:, :-1] |= label[:, :-1] != label[:, 1:]
    return borders


def _font_size(width: int) -> int:
    """Return a text size that suits a picture of this width, also one of a camera that is shown smaller."""
    return int(np.clip(width / 36, 11, max(_LARGEST_TEXT, width / 80)))


@cache
def font(size: int) -> Font:
    """Return a font of this size in pixels: matplotlib's DejaVu Sans, or else the one that Pillow has."""
    matplotlib = find_spec("matplotlib")  # which this does not import
    if matplotlib is not None and matplotlib.origin is not None:
        file = Path(matplotlib.origin).parent / _DEJAVU
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


def drawable_name(class_id: int, name: str) -> str:
    """Return the name of a class, or its number where the font lacks a letter, or a line ends."""
    return name if all(map(_has, name)) else f"class {class_id}"


@cache
def _has(letter: str) -> bool:
    if letter.isspace() or letter.isascii():
        return unicodedata.category(letter) not in ("Cc", "Zl", "Zp")  # of which some cannot be laid out
    drawn, missing = (font(24).getmask(text) for text in (letter, _NO_LETTER))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)
