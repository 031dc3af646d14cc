"""Draw what a report shows: where a prediction is wrong, and the confusion matrix. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from deeplabctl.arrays import Counts, Image, Label
from deeplabctl.classes import IGNORE_LABEL

_WRONG = np.array((222, 45, 38), np.float32)
_INK, _PAPER, _EMPTY = (34, 34, 34), (255, 255, 255), (232, 232, 232)
_FULL = np.array((8, 69, 148), np.float32)  # of a cell that holds all of its row
_MOST_NUMBERS = 40  # classes up to which cells have room for their numbers


def error_map(image: Image, label: Label, prediction: Label) -> Image:
    """Return the image in pale grey, (H, W, 3) uint8, with wrong pixels in red and void in white."""
    grey = image.astype(np.float32).mean(-1, keepdims=True)
    drawn = np.repeat(140 + 0.35 * grey, 3, -1)
    wrong = (label != prediction)[..., None]
    drawn = np.where(wrong, 0.2 * grey + 0.8 * _WRONG, drawn)
    drawn[label == IGNORE_LABEL] = 255
    errors: Image = np.rint(drawn).astype(np.uint8)
    return errors


def confusion_picture(counts: Counts, classes: Sequence[str]) -> Image:
    """Draw a confusion matrix (C, C): a row a labelled class, shares of the row in percent, the diagonal is right.

    Rows without a pixel are grey.
    """
    cell = 34 if len(classes) <= _MOST_NUMBERS else 12
    font = ImageFont.load_default(13 if len(classes) <= _MOST_NUMBERS else 9)
    small = ImageFont.load_default(11)
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name in classes]
    margin = 12
    side = round(max(font.getlength(name) for name in names)) + 2 * margin
    size = side + cell * len(classes) + margin
    canvas = PillowImage.new("RGB", (size + 18, size + 18), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((18 + side, 9), "predicted", _INK, font, anchor="lm")
    _draw_upright(canvas, "labelled", (9, 18 + side), font, below=True)
    left = top = 18 + side
    totals = counts.sum(1)
    for row, name in enumerate(names):
        y = top + row * cell
        draw.text((left - margin / 2, y + cell / 2), name, _INK, font, anchor="rm")
        _draw_upright(canvas, name, (left + row * cell + cell // 2, top - margin // 2), font)
        for column in range(len(names)):
            x = left + column * cell
            share = counts[row, column] / totals[row] if totals[row] else 0.0
            shade = _PAPER if totals[row] else _EMPTY
            color = tuple(int(value) for value in np.rint(np.array(shade) * (1 - share) + _FULL * share))
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=color, outline=_EMPTY)
            if len(classes) <= _MOST_NUMBERS and share >= 0.005:
                ink = _PAPER if share > 0.5 else _INK
                draw.text((x + cell / 2 - 1, y + cell / 2 - 1), f"{100 * share:.0f}", ink, small, anchor="mm")
    return np.asarray(canvas)


def shrunk(picture: Image, width: int) -> Image:
    """Return a picture of at most this width."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(PillowImage.fromarray(picture).resize((width, height), PillowImage.Resampling.BOX))


def _draw_upright(
    canvas: PillowImage.Image, text: str, at: tuple[int, int], font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    *, below: bool = False,
) -> None:  # fmt: skip
    """Draw a text from below to above, centred on ``at`` across; it ends there, or (below) begins."""
    length, height = round(font.getlength(text)) + 2, 18
    strip = PillowImage.new("RGB", (length, height), _PAPER)
    ImageDraw.Draw(strip).text((0, height / 2), text, _INK, font, anchor="lm")
    turned = strip.transpose(PillowImage.Transpose.ROTATE_90)
    canvas.paste(turned, (at[0] - height // 2, at[1] if below else at[1] - length))
