"""Write names into images: a font that knows many scripts, and what to write where it does not."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_DEJAVU = Path("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")  # in matplotlib: Latin, Greek, Cyrillic, Arabic, ...
_NO_LETTER = "\U0010ffff"  # for which fonts draw what they draw for letters that they do not have


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
    """Return the name of a class, or its number where the font lacks a letter, as those of Chinese."""
    return name if all(map(_has, name)) else f"class {class_id}"


@cache
def _has(letter: str) -> bool:
    if letter.isspace() or letter.isascii():
        return True
    drawn, missing = (font(24).getmask(text) for text in (letter, _NO_LETTER))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)
