"""Read labels as numpy arrays, (H, W) uint8 class ids, 255 void, make large ones smaller, and write them as masks."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import PIL.Image

from deeplabctl.arrays import Image, Label, Mask, Size
from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES, Color, class_colors, voc_palette
from deeplabctl.data.findings import LABEL_COLORS, Finding, FindingError
from deeplabctl.data.image_files import open_image, orientation
from deeplabctl.data.images import SAMPLE_FORMAT, TURNS, WIDE_GREY_MODES, several_frames, working_size
from deeplabctl.data.palettes import palette_of
from deeplabctl.errors import DataError
from deeplabctl.files import whole_file

_COLOR_CODE = np.array([1 << 16, 1 << 8, 1], np.int32)  # turns RGB into one number


def read_label(path: str | Path) -> Label:
    """Read a label PNG as (H, W) uint8 class ids: palette PNGs by index, grey ones by value, of any number of bits.

    What is transparent does not count. Raises DataError for an image with colours instead of ids, for ids over 255, a
    JPEG, several frames, and for one that EXIF turns.
    """
    return read_label_and_palette(Path(path))[0]


def read_label_and_palette(path: Path) -> tuple[Label, str]:
    """Read a label as `read_label` does, and its palette for `Palettes`, which tells whether its indices are ids."""
    with open_image(path) as opened:
        if is_lossy(opened):
            raise FindingError(lossy_label(path))
        if opened.format == "GIF":
            got, fix = "a GIF, whose writers choose the order of its colours", "write its class ids as PNG"
            raise FindingError(Finding("label-palette", path, "a PNG of class ids", got, fix))
        check_label(opened, path)
        ids = stored_values(opened)
        if opened.mode == "LA":
            check_transparency(opened, path)
            ids = ids[..., 0]
        if opened.mode in WIDE_GREY_MODES:
            return as_8_bits(ids, path), ""
        if opened.mode not in ("P", "L", "LA", "1"):
            expected, got = "one channel of class ids (palette or grey PNG)", f"{opened.mode} colours"
            fix = (
                "write each pixel's class id instead of its colour: deeplabctl data check with `fix` does it for VOC's "
                "colours and the set's palette PNGs, deeplabctl data convert with `palette` for any colours"
            )
            raise FindingError(Finding(LABEL_COLORS, path, expected, got, fix))
        return ids.astype(np.uint8), palette_of(opened)


def as_8_bits(values: np.ndarray[Any, Any], path: Path) -> Label:
    """Return the values of a label as uint8; raises DataError for others than whole numbers from 0 to 255."""
    if not np.array_equal(values, np.clip(np.rint(values), 0, 255)):
        low, high = values.min(), values.max()
        got = f"{low:g}" if low < 0 else f"{high:g}" if high > 255 else "fractions or NaN"
        raise FindingError(Finding("label-range", path, "values from 0 to 255", got, "write 8-bit labels"))
    return values.astype(np.uint8)


def check_label(label: PIL.Image.Image, path: Path) -> None:
    """Raise DataError for a label of several frames, and one that EXIF turns: some programs turn it, others do not.

    Also for several channels of 16 bits, of which Pillow drops those that ids have, and for signed values of 8 bits, of
    which it makes others.
    """
    if len(label.getbands()) > 1 and ";16" in str(getattr(label, "tile", "")):
        raise FindingError(Finding("label-range", path, "values of 8 bits", "16 bits", "write 8-bit labels"))
    if label.mode == "L" and 2 in getattr(label, "tag_v2", {}).get(SAMPLE_FORMAT, ()):
        raise FindingError(Finding("label-range", path, "values from 0 to 255", "signed ones", "write 8-bit labels"))
    if several := several_frames(label):
        raise FindingError(Finding("label-frames", path, "one label", several, "save the one that is meant as PNG"))
    if (turn := orientation(label)) > 1:
        expected, fix = "a label that is stored upright", "save it as its image is shown, without EXIF"
        raise FindingError(Finding("label-orientation", path, expected, f"EXIF orientation {turn}", fix))


def check_transparency(label: PIL.Image.Image, path: Path) -> None:
    """Raise DataError for a label with values that nobody sees: programs keep what was drawn below erased pixels.

    Below the transparent background of a drawing is black, or white that is nowhere else. A label that is black in all
    places, and transparent in some, says with this what nothing else in it does.
    """
    pixels = np.asarray(label.convert("RGBA")).reshape(-1, 4)
    seen, hidden = pixels[pixels[:, 3] > 0, :3], pixels[pixels[:, 3] == 0, :3]
    if hidden.any() and not (hidden.min() == 255 and not (seen == 255).all(1).any()):
        expected, got = "black below transparent pixels", f"other colours there, {len(hidden) / len(pixels):.2%} of all"
        fix = "save it without transparency, in the colours that are meant"
        raise FindingError(Finding("label-transparent", path, expected, got, fix))
    if len(seen) and len(hidden) and not seen.any():
        got = f"black in all pixels, {len(hidden) / len(pixels):.2%} of which are transparent"
        fix = "save it without transparency, in the values that are meant"
        raise FindingError(Finding("label-transparent", path, "values in the colours of a label", got, fix))


def is_lossy(image: PIL.Image.Image) -> bool:
    """Tell whether the compression of an opened file changes values, as JPEG's does, also in a TIFF, and WebP's can."""
    file = getattr(image, "fp", None)
    if image.format == "WEBP" and file is not None:
        return _is_lossy_webp(file)
    compression = image.info.get("compression")
    return image.format in ("JPEG", "MPO", "AVIF", "HEIF") or compression in ("jpeg", "tiff_jpeg", "webp")


def _is_lossy_webp(file: BinaryIO) -> bool:
    """Tell whether the chunk of a WebP's pixels is lossy; a profile or the transparency may stand before it."""
    place = 12
    while True:
        file.seek(place)
        kind, length = file.read(4), file.read(4)
        if kind in (b"VP8 ", b"VP8L") or len(length) < 4:
            return kind == b"VP8 "
        place += 8 + int.from_bytes(length, "little") + length[0] % 2  # chunks have even lengths


def lossy_label(path: Path) -> Finding:
    """Return the finding of a label with such a compression."""
    got = "a JPEG or another lossy file, whose compression changes the ids at every border"
    return Finding("label-lossy", path, "a PNG of class ids", got, "create it again from its source and save it as PNG")


def stored_values(image: PIL.Image.Image) -> np.ndarray[Any, Any]:
    """Load a Pillow image and return its values as its file has them: of one channel (H, W), of others (H, W, C).

    Pillow spreads grey values of 2 and 4 bits over 0 to 255, as is right for brightness, and turns TIFFs round in which
    0 is white; here they stay 0 to 3 and 15.
    """
    tiles = getattr(image, "tile", [])[:1]  # there are none after loading
    raw_mode, is_turned = re.search(r"'L;([24]?)(I?)", str(tiles)), zero_is_white(image)
    image.load()
    values = np.asarray(image)
    if is_turned:
        return ~values
    if raw_mode is None:
        return values
    return (255 - values if raw_mode[2] else values) // {"2": 85, "4": 17, "": 1}[raw_mode[1]]


def zero_is_white(image: PIL.Image.Image) -> bool:
    """Tell whether an opened file is a TIFF of 1 bit in which 0 is white, as tifffile and scikit-image write masks."""
    return "'1;I'" in str(getattr(image, "tile", ""))


def turn_upright(label: Label, orientation: int) -> Label:
    """Turn a label that was drawn on the stored pixels of an image as its EXIF orientation turns the image."""
    turn = TURNS.get(orientation)
    return label if turn is None else np.asarray(PIL.Image.fromarray(label).transpose(turn))


def decode_colors(mask: Image, ids: Mapping[Color, int]) -> tuple[Label, Mask]:
    """Turn a mask in colours, (H, W, 3) uint8 RGB, into class ids (H, W), void where a colour is not in the table.

    Also returns where it is.
    """
    codes = np.array(list(ids), np.int32) @ _COLOR_CODE
    order = np.argsort(codes)
    pixels = mask @ _COLOR_CODE
    places = np.clip(np.searchsorted(codes[order], pixels), 0, len(codes) - 1)
    known = codes[order][places] == pixels
    label = np.array(list(ids.values()), np.uint8)[order][places]
    label[~known] = IGNORE_LABEL
    return label, known


def color_ids(classes: Sequence[str]) -> dict[Color, int]:
    """Return the class id of each class's colour, which is VOC's if the classes have none, and of VOC's void.

    Raises DataError where two classes have the same colour.
    """
    colors = (class_colors(classes) if getattr(classes, "colors", ()) else voc_palette()).tolist()
    found = {tuple(colors[index]): index for index in (IGNORE_LABEL, *range(len(classes)))}
    for index, name in enumerate(classes):
        if (other := found[tuple(colors[index])]) != index:
            raise DataError(
                f"classes: expected different colours for {name!r} and {classes[other]!r}, got {tuple(colors[index])} "
                "for both; give each class its own colour"
            )
    return found


def shrink_label(label: Label, max_side: int) -> Label:
    """Return a label (H, W) at its working size, by the nearest pixel."""
    return resize_label(label, working_size(label.shape, max_side))


def resize_label(label: Label, size: Size) -> Label:
    """Return a label in another size (H, W), by the nearest pixel."""
    return np.asarray(PIL.Image.fromarray(label).resize((size[1], size[0]), PIL.Image.Resampling.NEAREST))


def count_values(label: Label) -> dict[int, int]:
    """Return the number of pixels of each value that a label (H, W) uint8 has."""
    counts = PIL.Image.fromarray(label).histogram()
    return {value: count for value, count in enumerate(counts) if count}


def write_mask(path: Path, label: Label, classes: Sequence[str] = VOC_CLASSES) -> None:
    """Write (H, W) uint8 class ids as an 8-bit palette PNG in the colours of the classes, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(mask_bytes(label, classes))


def mask_bytes(label: Label, classes: Sequence[str] = VOC_CLASSES) -> bytes:
    """Return (H, W) uint8 class ids as the content of the file that `write_mask` writes.

    Labels are runs of equal values: looking for nothing else takes half the time, and makes smaller files.
    """
    mask = PIL.Image.fromarray(label)
    mask.putpalette(class_colors(classes).tobytes())  # turns mode L into P, the values stay
    content = io.BytesIO()
    mask.save(content, format="PNG", compress_type=zlib.Z_RLE)
    return content.getvalue()
