"""Check a picture by the head of its file, decode it, and encode what is made of it."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image

from deeplabctl.arrays import Image, Label
from deeplabctl.data.findings import FindingError
from deeplabctl.data.images import decode_image, mask_picture, open_picture
from deeplabctl.errors import DataError
from deeplabctl.network.geometry import PAPER_SIZE, padded_size
from deeplabctl.serve.limits import Limits
from deeplabctl.serve.request_error import RequestError

# The names of Pillow. Of its other formats, some start programs or write files (EPS).
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff"}
_NAME = "the picture"
_SCAN, _MOST_SCANS = b"\xff\xda", 256  # of a JPEG; each costs the time of a whole picture, in as little as 100 bytes


def check_picture(content: bytes, limits: Limits, pad: str) -> str:
    """Return the format of a picture file, by Pillow's name, without decoding it.

    Raises RequestError for another format, and for more pixels than ``limits`` has, also with the zeros of ``pad``.
    """
    try:
        with open_picture(Path(_NAME), io.BytesIO(content), tuple(FORMATS)) as picture:
            (width, height), format_ = picture.size, str(picture.format)
    except FindingError as error:
        if error.finding.kind == "too-large":
            raise RequestError(422, "too_many_pixels", str(error)) from None
        raise RequestError(415, "unsupported_type", str(error)) from None
    if width * height > limits.max_pixels:
        raise RequestError(
            422,
            "too_many_pixels",
            f"expected a picture of at most {limits.max_pixels:,} pixels, got {width}x{height}; scale it down",
        )
    if padded_size(width, pad) * padded_size(height, pad) > 2 * limits.max_pixels + PAPER_SIZE**2:
        raise RequestError(422, "too_many_pixels", f"{_NAME} of {width}x{height} pixels is too narrow for the network")
    if format_ in ("JPEG", "MPO") and content.count(_SCAN) > _MOST_SCANS:
        raise RequestError(422, "unreadable_picture", f"expected a JPEG of at most {_MOST_SCANS} scans, got more")
    return format_


def decode_picture(content: bytes) -> Image:
    """Return (H, W, 3) uint8 RGB as ``deeplabctl infer`` reads a file with this content; raises DataError."""
    try:
        return decode_image(content, _NAME, tuple(FORMATS))
    except MemoryError:
        raise DataError(f"there is not enough memory for {_NAME}; make it smaller") from None


def encode_mask(label: Label) -> bytes:
    """Return the bytes of the mask's PNG, the same as ``deeplabctl infer`` writes."""
    return _png(mask_picture(label))


def encode_picture(image: Image) -> bytes:
    """Return the bytes of a PNG of (H, W, 3) uint8 RGB."""
    return _png(PIL.Image.fromarray(image))


def _png(picture: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
