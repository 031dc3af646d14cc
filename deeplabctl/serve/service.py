"""Take a request through the service: a place, the upload, the check, the queue, the network."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request

from deeplabctl.errors import DataError
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.serve.answers import LimitFacts, Model, class_facts
from deeplabctl.serve.examples import Example
from deeplabctl.serve.limits import Limits
from deeplabctl.serve.metrics import Metrics
from deeplabctl.serve.pictures import FORMATS, check_picture
from deeplabctl.serve.request_error import RequestError
from deeplabctl.serve.uploads import Upload
from deeplabctl.serve.worker import Segmented, Worker
from deeplabctl.version import __version__


class Service:
    """Segment the pictures of requests with one network, within limits.

    The settings of ``segmenter`` have the parameters of the CRF for requests that ask for one; ``uses_crf`` says what
    those get that do not say. ``name`` is that of the weights, as people see it.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        limits: Limits,
        *,
        name: str,
        uses_crf: bool = False,
        examples: Sequence[Example] = (),
    ) -> None:
        self.limits, self.examples, self.uses_crf = limits, examples, uses_crf
        self.classes, self.metrics = segmenter.info.classes, Metrics()
        self.worker = Worker(segmenter, self.metrics.segmented)
        self._pad = segmenter.applied.pad
        self._places = 0
        self.metrics.watch(lambda: self.worker.waiting, lambda: self._places)
        self.model = _describe(segmenter, limits, name, uses_crf, len(examples))

    async def segment(self, request: Request, *, crf: bool | None) -> Segmented:
        """Return what the network makes of a request's picture; raises RequestError and ClientDisconnect."""
        with self._place():
            content = await Upload(request, self.limits).picture()
            await asyncio.to_thread(check_picture, content, self.limits, self._pad)
            try:
                return await self._turn(request, content, self.uses_crf if crf is None else crf)
            except DataError as error:
                raise RequestError(422, "unreadable_picture", str(error).replace("`", "")) from None

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take one of the places of the queue before a body is read, so that bodies cannot fill the memory."""
        if self._places >= self.limits.queue:
            message = f"all {self.limits.queue} places of the queue are taken; try again later"
            raise RequestError(429, "queue_full", message, retry_after=self._retry_after())
        if not self.worker.alive:
            raise RequestError(503, "stopped", "the network does not run; ask whoever runs this service")
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    async def _turn(self, request: Request, content: bytes, crf: bool) -> Segmented:
        """Wait for the picture's turn and its result; one whose sender goes, or waits too long, loses its turn."""
        future = self.worker.submit(content, crf=crf)
        result, gone = asyncio.wrap_future(future), asyncio.ensure_future(_disconnected(request))
        either: set[asyncio.Future[Any]] = {result, gone}
        try:
            await asyncio.wait(either, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            if future.cancel():
                if gone.done():
                    raise ClientDisconnect
                message = f"the picture's turn did not come within {self.limits.timeout:g} seconds; try again later"
                raise RequestError(503, "waited_too_long", message, retry_after=self._retry_after())
            return await result  # it runs already
        finally:
            gone.cancel()
            future.cancel()

    def _retry_after(self) -> int:
        return max(1, min(60, math.ceil(self.worker.seconds_left)))


async def _disconnected(request: Request) -> None:
    """Wait until the sender of a request goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _describe(segmenter: Segmenter, limits: Limits, name: str, uses_crf: bool, examples: int) -> Model:
    info = segmenter.info
    return Model(
        version=__version__,
        weights=name,
        architecture=info.architecture,
        width=info.width,
        classes=class_facts(info.classes),
        settings=segmenter.applied.to_dict(),
        crf=uses_crf,
        limits=LimitFacts(
            max_pixels=limits.max_pixels, max_body=limits.max_body, queue=limits.queue, formats=list(FORMATS.values())
        ),
        examples=[f"/examples/{number}" for number in range(examples)],
    )
