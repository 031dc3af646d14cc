"""Read the picture in a request: as the whole body or in a form, within limits of size and time, in memory only."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from deeplabctl.serve.limits import Limits
from deeplabctl.serve.request_error import RequestError

FIELD = "image"  # of a form
_FORM = "multipart/form-data"
_LINGER = 1.0  # seconds in which the rest of a refused body is read, so that its sender gets to read the answer


class _FormInMemory(MultiPartParser):
    """Read a form without temporary files, which Starlette uses for parts of more than 1 MiB."""

    spool_max_size = sys.maxsize


class Upload:
    """Read the body of one request."""

    def __init__(self, request: Request, limits: Limits) -> None:
        self._request, self._limits = request, limits
        self._complete = False

    async def picture(self) -> bytes:
        """Return the bytes of the picture file; raises RequestError, and ClientDisconnect if the sender has gone."""
        try:
            async with asyncio.timeout(self._limits.timeout):
                return await self._picture()
        except TimeoutError:
            message = f"the request did not arrive within {self._limits.timeout:g} seconds; send it again, or smaller"
            raise RequestError(408, "upload_timed_out", message) from None
        except RequestError:
            await self._discard()
            raise

    async def _picture(self) -> bytes:
        kind = self._request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _FORM and kind != "application/octet-stream" and not kind.startswith("image/"):
            got = f"got {kind[:80]!r}" if kind else "got none"
            raise RequestError(415, "unsupported_type", f"expected the content type image/* or {_FORM}, {got}")
        declared = self._request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._limits.max_body:
            raise self._too_large()
        content = await self._from_form() if kind == _FORM else b"".join([chunk async for chunk in self._chunks()])
        if not content:
            raise RequestError(422, "missing_picture", "expected a picture, got an empty one")
        return content

    async def _from_form(self) -> bytes:
        parser = _FormInMemory(self._request.headers, self._chunks(), max_files=1, max_fields=16, max_part_size=1 << 14)
        try:
            form = await parser.parse()
        except (MultiPartException, FormParserError) as error:  # older versions of Starlette let the second through
            reason = getattr(error, "message", str(error)).rstrip(".")
            raise RequestError(422, "invalid_form", f"cannot read the form: {reason[:200]}") from None
        try:
            part = form.get(FIELD)
            if not isinstance(part, UploadFile):
                raise RequestError(
                    422, "missing_picture", f"expected a form with a file in its field {FIELD!r}, got none"
                )
            return await part.read()
        finally:
            await form.close()

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
            if size > self._limits.max_body:
                raise self._too_large()
            yield chunk

    async def _discard(self) -> None:
        """Read on for a while: a connection that is closed with bytes unread may lose the answer on its way."""
        if "expect" in self._request.headers and not self._complete:
            return  # the sender waits for a word before it sends the body
        try:
            async with asyncio.timeout(_LINGER):
                while not self._complete:
                    message = await self._request.receive()
                    self._complete = not message.get("more_body", False)  # also where the sender has gone
        except TimeoutError:
            pass

    def _too_large(self) -> RequestError:
        most = f"{self._limits.max_body / (1 << 20):g} MiB"
        return RequestError(
            413, "body_too_large", f"expected a request of at most {most}, got more; send a smaller picture"
        )
