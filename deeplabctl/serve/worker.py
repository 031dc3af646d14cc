"""Run the network in one thread; pictures wait in a queue for their turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from deeplabctl.arrays import Image, Label
from deeplabctl.errors import DataError, DeepLabError
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.serve.pictures import decode_picture


@dataclass(frozen=True)
class Segmented:
    """Hold a picture (H, W, 3) uint8 RGB, its label (H, W) uint8, and the seconds that both took."""

    image: Image
    label: Label
    crf: bool
    waited: float  # seconds in the queue
    ran: float  # seconds of decoding, network and CRF


@dataclass
class _Job:
    content: bytes
    crf: bool
    future: Future[Segmented] = field(default_factory=Future)
    begun: float = field(default_factory=time.monotonic)
    waited: float = 0.0


class Worker:
    """Segment pictures in the order in which they come, in one thread.

    Requests that wait are handed to `Segmenter.labels` together, those with a CRF and those without apart: it refines
    several pictures at once on all cores. The settings of ``segmenter`` have the CRF's parameters. ``done`` is called
    with each result.
    """

    def __init__(self, segmenter: Segmenter, done: Callable[[Segmented], None] | None = None) -> None:
        without = replace(segmenter.applied, crf=None, crf_adaptive=False)
        self._segmenters = {True: segmenter, False: segmenter.with_settings(without)}
        self._done = done or (lambda segmented: None)
        self._jobs: deque[_Job] = deque()
        self._ready = threading.Condition()
        self._stopping = False
        self._batch = available_cpus()
        self._seconds = 0.0  # of a picture, the mean of the last ones
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)

    def warm_up(self) -> None:
        """Run the network and the CRF once: what they compile or load, no request has to wait for."""
        for segmenter in self._segmenters.values():
            segmenter.label(np.zeros((33, 33, 3), np.uint8))

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, and end."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Tell whether pictures are worked on."""
        return self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """Return the number of pictures whose turn has not come."""
        return len(self._jobs)

    @property
    def seconds_left(self) -> float:
        """Return an estimate of the seconds that the waiting pictures take."""
        return self._seconds * (self.waiting + 1)

    def submit(self, content: bytes, *, crf: bool) -> Future[Segmented]:
        """Queue the content of a picture file; the future raises DataError for one that cannot be segmented.

        A future that is cancelled before its turn costs nothing.
        """
        job = _Job(content, crf)
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()
        return job.future

    def _run(self) -> None:
        while jobs := self._next_jobs():
            try:
                self._segment(jobs)
            except BaseException as error:  # whatever it is, those who wait must hear of it
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(error)

    def _next_jobs(self) -> list[_Job]:
        """Wait for jobs, and return the first and those behind it that go with it; none when all is done."""
        with self._ready:
            while not self._jobs and not self._stopping:
                self._ready.wait()
            jobs: list[_Job] = []
            while self._jobs and len(jobs) < self._batch and self._jobs[0].crf == (jobs or self._jobs)[0].crf:
                jobs.append(self._jobs.popleft())
            return jobs

    def _segment(self, jobs: list[_Job]) -> None:
        def images() -> Iterator[tuple[tuple[_Job, Image], Image]]:
            for job in jobs:
                if not job.future.set_running_or_notify_cancel():
                    continue
                job.waited = time.monotonic() - job.begun
                try:
                    image = decode_picture(job.content)
                except DeepLabError as error:
                    job.future.set_exception(error)
                else:
                    yield (job, image), image

        def failed(tag: tuple[_Job, Image], error: DataError) -> None:
            tag[0].future.set_exception(error)

        segmenter, last = self._segmenters[jobs[0].crf], time.monotonic()
        for (job, image), label in segmenter.labels(images(), failed):
            now = time.monotonic()
            segmented = Segmented(image, label, job.crf, job.waited, now - job.begun - job.waited)
            self._seconds = 0.8 * self._seconds + 0.2 * (now - last) if self._seconds else now - last
            last = now
            self._done(segmented)
            job.future.set_result(segmented)
