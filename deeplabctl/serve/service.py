"""Segment the images of requests: a place in the queue, the upload, its check, the turn, the network."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect, Request

from deeplabctl.arrays import Image, Label
from deeplabctl.errors import DataError
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction.results import Result
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.serve import Limits
from deeplabctl.serve.examples import Example
from deeplabctl.serve.metrics import Metrics
from deeplabctl.serve.uploads import RequestError, Upload, check_image, decode_upload


@dataclass(frozen=True)
class Segmented:
    """Hold an image (H, W, 3) uint8 RGB, its label (H, W) uint8, and the seconds that both took."""

    image: Image
    label: Label
    crf: bool
    waited: float  # seconds in the queue
    ran: float  # seconds of decoding, network and CRF
    note: str = ""  # on what was assumed to read the image


class Service:
    """Segment the images of requests with one network, within limits.

    The settings of ``segmenter`` have the parameters of the CRF for requests that ask for one, or no CRF, and then such
    requests are refused; ``uses_crf`` says whether requests that do not say get one. ``name`` is that of the weights,
    as people see it, ``worker`` that of one of several processes.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        limits: Limits,
        *,
        name: str,
        uses_crf: bool = False,
        examples: Sequence[Example] = (),
        worker: str = "",
    ) -> None:
        self.info, self.settings = segmenter.info, segmenter.applied
        self.limits, self.name, self.uses_crf, self.examples = limits, name, uses_crf, examples
        self.offers_crf = self.settings.crf is not None
        self.metrics = Metrics(lambda: self.worker.waiting, lambda: self._places, worker)
        self.worker = Worker(segmenter, self._count)
        self._places = 0
        self._uploads: list[Upload] = []  # that run, the oldest first

    async def segment(self, request: Request, *, crf: bool | None) -> Segmented:
        """Return what the network makes of a request's image; raises RequestError and ClientDisconnect."""
        if crf and not self.offers_crf:
            raise RequestError(422, "crf_off", "this service has no CRF; ask without crf")
        with self._place():
            upload = Upload(request, self.limits)
            self._uploads.append(upload)
            try:
                content = await upload.read()
            finally:
                if upload in self._uploads:
                    self._uploads.remove(upload)
            await asyncio.to_thread(check_image, content, self.limits, self.info.architecture, self.settings.pad)
            try:
                return await self._turn(request, content, self.uses_crf if crf is None else crf)
            except DataError as error:
                raise RequestError(422, "unreadable_picture", str(error).replace("`", "")) from None

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Take one of the places of the queue before a body is read, so that bodies cannot fill the memory.

        If there is none, an upload that has stalled leaves its own.
        """
        if self._places >= self.limits.queue and (stalled := [each for each in self._uploads if each.is_stalled]):
            stalled[0].give_up()
            self._uploads.remove(stalled[0])
        elif self._places >= self.limits.queue:
            message = "the queue is full; try again later"
            raise RequestError(429, "queue_full", message, retry_after=self._retry_after())
        if not self.worker.alive:
            raise RequestError(503, "stopped", "the network is not running; ask whoever runs this service")
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    async def _turn(self, request: Request, content: bytes, crf: bool) -> Segmented:
        """Wait for the image's turn and its result; one whose sender goes, or waits too long, loses its turn."""
        future = self.worker.submit(content, crf=crf)
        result, gone = asyncio.wrap_future(future), asyncio.ensure_future(_disconnected(request))
        either: set[asyncio.Future[Any]] = {result, gone}
        try:
            await asyncio.wait(either, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
            if not result.done() and future.cancel():
                if gone.done():
                    raise ClientDisconnect
                message = f"the image's turn did not come within {self.limits.timeout:g} seconds; try again later"
                raise RequestError(503, "waited_too_long", message, retry_after=self._retry_after())
            return await result  # it is there, or it runs already
        finally:
            gone.cancel()
            future.cancel()

    def _retry_after(self) -> int:
        return max(1, min(60, math.ceil(self.worker.seconds_left)))

    def _count(self, segmented: Segmented) -> None:
        self.metrics.segmented(segmented.label.size, segmented.waited, segmented.ran, crf=segmented.crf)


async def _disconnected(request: Request) -> None:
    """Wait until the sender of a request goes away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@dataclass
class _Turn:
    content: bytes
    future: Future[Segmented] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)
    begun: float = 0.0


_TOGETHER = 8  # images for each CPU that are handed over one after the other before all of them must be done


class Worker:
    """Segment images in two lanes, those with a CRF and those without, each in the order in which they come.

    So an image does not wait for the CRFs of others, which may take seconds. Without a CRF one thread hands those that
    wait to `Segmenter.segment` together; with it each CPU has a thread that takes one after another, as the CRF uses
    one. They take turns at the network. The settings of ``segmenter`` have the CRF's parameters. ``done`` is called
    with each result.
    """

    def __init__(self, segmenter: Segmenter, done: Callable[[Segmented], None] = lambda segmented: None) -> None:
        without = segmenter.with_settings(replace(segmenter.applied, crf=None, crf_adaptive=False))
        self._lanes = {True: _Lane(segmenter, done, threads=available_cpus(), batch=1),
                       False: _Lane(without, done, threads=1, batch=_TOGETHER * available_cpus())}  # fmt: skip

    def warm_up(self) -> None:
        """Run the network and the CRF once: what they compile or load, no request has to wait for."""
        for lane in self._lanes.values():
            lane.segmenter.label(np.zeros((33, 33, 3), np.uint8))

    def start(self) -> None:
        """Begin to work."""
        for lane in self._lanes.values():
            for thread in lane.threads:
                thread.start()

    def stop(self) -> None:
        """Finish what waits, and end."""
        for lane in self._lanes.values():
            lane.stop()

    @property
    def alive(self) -> bool:
        """Tell whether images are worked on."""
        return all(thread.is_alive() for lane in self._lanes.values() for thread in lane.threads)

    @property
    def waiting(self) -> int:
        """Return the number of images whose turn has not come."""
        return sum(len(lane.queue) for lane in self._lanes.values())

    @property
    def seconds_left(self) -> float:
        """Return an estimate of the seconds that the waiting images take."""
        return max(lane.seconds * (len(lane.queue) // len(lane.threads) + 1) for lane in self._lanes.values())

    def submit(self, content: bytes, *, crf: bool) -> Future[Segmented]:
        """Queue the content of an image file; the future raises DataError for one that cannot be segmented.

        A future that is cancelled before its turn costs nothing.
        """
        return self._lanes[crf].submit(content)


class _Lane:
    """Segment images in the order in which they come, at most ``batch`` in each thread at once."""

    def __init__(self, segmenter: Segmenter, done: Callable[[Segmented], None], *, threads: int, batch: int) -> None:
        self.segmenter, self._done, self.batch = segmenter, done, batch
        self.queue: deque[_Turn] = deque()
        self.seconds = 0.0  # of an image, the mean of the last ones
        self._changed = threading.Condition()
        self._stopping = False
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def submit(self, content: bytes) -> Future[Segmented]:
        turn = _Turn(content)
        with self._changed:
            self.queue.append(turn)
            self._changed.notify()
        return turn.future

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self.threads:
            thread.join()

    def _run(self) -> None:
        while turns := self._next_turns():
            try:
                self._segment(self._with_others(turns))
            except BaseException:
                for turn in turns:  # one after the other, so that the one that fails fails alone
                    self._segment_alone(turn)

    def _segment_alone(self, turn: _Turn) -> None:
        try:
            self._segment([turn])
        except BaseException as error:  # whatever it is, who waits must hear of it
            with suppress(InvalidStateError):  # of a future that was cancelled meanwhile
                turn.future.set_exception(error)

    def _next_turns(self) -> list[_Turn]:
        """Wait for the first in the queue and return it, or none at the end."""
        with self._changed:
            while not self.queue and not self._stopping:
                self._changed.wait()
            return [self.queue.popleft()] if self.queue else []

    def _with_others(self, turns: list[_Turn]) -> Iterator[_Turn]:
        """Yield turns, to which those that wait are added one after the other, up to a batch."""
        for turn in turns:
            with self._changed:
                if self.queue and len(turns) < self.batch:
                    turns.append(self.queue.popleft())
            yield turn

    def _segment(self, turns: Iterable[_Turn]) -> None:
        def images() -> Iterator[Result[_Turn]]:
            for turn in turns:
                if not turn.future.done() and (turn.begun or turn.future.set_running_or_notify_cancel()):
                    turn.begun = time.monotonic()
                    notes: list[str] = []
                    try:
                        image = decode_upload(turn.content, notes.append)
                        yield Result(turn, image, note="; ".join(notes))
                    except DataError as error:
                        yield Result(turn, error=error)
                    except Exception as error:  # a bug, or a new kind of damage: the others go on
                        turn.future.set_exception(error)

        last, crf = time.monotonic(), self.segmenter.settings.crf is not None
        for result in self.segmenter.segment(images()):
            turn = result.item
            if result.error is not None or result.image is None:
                turn.future.set_exception(result.error)
                continue
            now = time.monotonic()
            waited, ran = turn.begun - turn.submitted, now - turn.begun
            segmented = Segmented(result.image, result.found(), crf, waited, ran, result.note)
            self.seconds = 0.8 * self.seconds + 0.2 * (now - last) if self.seconds else now - last
            last = now
            self._done(segmented)
            turn.future.set_result(segmented)
