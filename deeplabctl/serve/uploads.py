"""Read the image in a request, within limits of size and time and in memory only, and check it before it is decoded."""

from __future__ import annotations

import asyncio
import io
import math
import re
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from deeplabctl.arrays import Image
from deeplabctl.data.findings import TOO_LARGE, FindingError
from deeplabctl.data.image_files import open_image
from deeplabctl.data.images import decode_image
from deeplabctl.errors import DataError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.architecture import PAPER_SIZE
from deeplabctl.serve import Limits

FIELD = "image"  # of a form
# By Pillow's names. Of its other formats, some start programs or write files (EPS).
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "BMP": "image/bmp", "TIFF": "image/tiff"}
FORM_TYPE, BYTES_TYPE = "multipart/form-data", "application/octet-stream"
_LINGER = 1.0  # seconds for which the rest of a refused body is read, so that its sender can read the answer
_STALL, _PIECE = 1.0, 4096  # seconds and bytes: an upload that brings less in that time may lose its place to others
_NAME = "the image"  # in messages
# Of a JPEG; each costs the time of a whole image, in as little as 100 bytes. Only with these lengths is it one.
_SCAN, _MOST_SCANS = re.compile(rb"\xff\xda\0[\6\x08\n\f\x0e][\0-\4]"), 256


class Parameters(BaseModel, extra="forbid"):
    """Hold the parameters in the URL of a segmentation; others are refused, as they would have no effect."""

    crf: bool | None = Field(None, description="Sharpen the result with the dense CRF.")
    format: Literal["json", "mask", "overlay"] = Field(
        "json", description="json: areas and mask; mask: the PNG that `infer` writes; overlay: that of --overlay."
    )


class RequestError(Exception):
    """Refuse a request that cannot be done, or not now.

    ``status`` is that of HTTP, ``code`` a short name that stays the same, ``message`` one line. ``retry_after`` are the
    seconds after which the same request may succeed; None if it never will.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after


class Upload:
    """Read the body of one request: the image file itself, or a form that has it."""

    def __init__(self, request: Request, limits: Limits) -> None:
        self._request, self._limits = request, limits
        self._complete = False
        self._timer = asyncio.timeout(limits.timeout)
        self._moved, self._piece = time.monotonic(), 0  # when a piece was complete, and the bytes of the next one

    @property
    def is_stalled(self) -> bool:
        """Tell whether hardly anything has come for a while."""
        return time.monotonic() - self._moved > _STALL

    def give_up(self) -> None:
        """Let `read` end as if the time was over."""
        if not self._timer.expired():
            self._timer.reschedule(0)

    async def read(self) -> bytes:
        """Return the bytes of the image file; raises RequestError, and ClientDisconnect if the sender has gone."""
        try:
            async with self._timer:
                return await self._read()
        except TimeoutError:
            late = "while others waited" if self._timer.when() == 0 else f"within {self._limits.timeout:g} seconds"
            message = f"the request did not arrive {late}; send it again, or smaller"
            raise RequestError(408, "upload_timed_out", message) from None
        except RequestError:
            self._moved = math.inf  # it leaves its place soon
            await self._discard()
            raise

    async def _read(self) -> bytes:
        kind = self._request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (FORM_TYPE, BYTES_TYPE) and not kind.startswith("image/"):
            got = f"got {kind[:80]!r}" if kind else "got none"
            raise RequestError(415, "unsupported_type", f"expected the content type image/* or {FORM_TYPE}, {got}")
        declared = self._request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._limits.max_body:
            raise self._too_large()
        content = await self._from_form() if kind == FORM_TYPE else b"".join([chunk async for chunk in self._chunks()])
        if not content:
            raise RequestError(422, "missing_picture", "expected an image, got an empty file")
        return content

    async def _from_form(self) -> bytes:
        parser = _FormInMemory(self._request.headers, self._chunks(), max_files=1, max_fields=16, max_part_size=1 << 14)
        try:
            form = await parser.parse()
        except (MultiPartException, FormParserError) as error:  # older versions of Starlette let the second through
            reason = getattr(error, "message", str(error)).rstrip(".")
            raise RequestError(422, "invalid_form", f"cannot read the form: {reason[:200]}") from None
        try:
            parts = form.getlist(FIELD)
            if not parts and not parser.is_complete:
                raise RequestError(422, "invalid_form", "expected a whole form, got one that is cut off; send it again")
            if len(parts) != 1 or not isinstance(part := parts[0], UploadFile):
                got = "a text" if len(parts) == 1 else f"{len(parts)} fields of this name" if parts else "none"
                message = f"expected a form with a file in its field {FIELD!r}, got {got}"
                raise RequestError(422, "missing_picture", message)
            if misplaced := [name for name in Parameters.model_fields if name in form]:
                message = f"expected {misplaced[0]} in the URL, as ?{misplaced[0]}=..., got a field of the form"
                raise RequestError(422, "invalid_form", message)
            return await part.read()
        finally:
            parser.close()

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives; raises RequestError as soon as it is too large."""
        size = 0
        while not self._complete:
            message = await self._request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._complete = not message.get("more_body", False)
            chunk = message.get("body", b"")
            size += len(chunk)
            self._piece += len(chunk)
            if self._piece >= _PIECE:
                self._moved, self._piece = time.monotonic(), 0
            if size > self._limits.max_body:
                raise self._too_large()
            yield chunk

    async def _discard(self) -> None:
        """Read on for a while: a connection that is closed with bytes unread may lose the answer on its way."""
        if "expect" in self._request.headers and not self._complete:
            return  # the sender waits for an interim answer before it sends the body
        try:
            async with asyncio.timeout(_LINGER):
                while not self._complete:
                    message = await self._request.receive()
                    self._complete = not message.get("more_body", False)  # also where the sender has gone
        except TimeoutError:
            pass

    def _too_large(self) -> RequestError:
        most = f"{self._limits.max_body / (1 << 20):g} MiB"
        message = f"expected a request of at most {most}, got more; send a smaller image"
        return RequestError(413, "body_too_large", message)


class _FormInMemory(MultiPartParser):
    """Read a form without temporary files, which Starlette uses for parts of more than 1 MiB."""

    spool_max_size = sys.maxsize
    is_complete = False

    def on_end(self) -> None:
        """Note the boundary that closes the form."""
        self.is_complete = True

    def close(self) -> None:
        """Free the files, also one that is cut off."""
        for file in self._files_to_close_on_error:
            file.close()


def check_image(content: bytes, limits: Limits, architecture: str, pad: str) -> str:
    """Return the format of an image file, by Pillow's name, from its header.

    Raises RequestError for another format, and for more pixels than the limits allow, before or after the network's
    padding.
    """
    try:
        with open_image(Path(_NAME), io.BytesIO(content), tuple(FORMATS)) as image:
            (width, height), format_ = image.size, str(image.format)
    except FindingError as error:
        if error.finding.kind == TOO_LARGE:
            raise RequestError(422, "too_many_pixels", str(error)) from None
        raise RequestError(415, "unsupported_type", str(error)) from None
    if width * height > limits.max_pixels:
        message = f"expected an image of at most {limits.max_pixels:,} pixels, got {width}x{height}; scale it down"
        raise RequestError(422, "too_many_pixels", message)
    padded_size = ARCHITECTURES[architecture].padded_size
    if padded_size(width, pad) * padded_size(height, pad) > 2 * limits.max_pixels + PAPER_SIZE**2:
        raise RequestError(422, "too_many_pixels", f"{_NAME} of {width}x{height} pixels is too narrow for the network")
    if format_ in ("JPEG", "MPO") and len(_SCAN.findall(content)) > _MOST_SCANS:
        raise RequestError(422, "unreadable_picture", f"expected a JPEG of at most {_MOST_SCANS} scans, got more")
    return format_


def decode_upload(content: bytes, say: Callable[[str], object]) -> Image:
    """Return (H, W, 3) uint8 RGB as ``deeplabctl infer`` reads a file with this content; raises DataError.

    ``say`` gets a line on what had to be assumed.
    """
    try:
        return decode_image(content, _NAME, tuple(FORMATS), say)
    except MemoryError:
        raise DataError(f"there is not enough memory for {_NAME}; make it smaller") from None
