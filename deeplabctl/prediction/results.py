"""Carry images on their way to labels: a record of each, and batches of those that are computed together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from deeplabctl.arrays import Image, Label, Scores
from deeplabctl.errors import DeepLabError
from deeplabctl.parallel import memory_limit

Item = TypeVar("Item")

_WINDOW = 4  # batches of images among which those of equal kind are sought


@dataclass(eq=False)
class Result(Generic[Item]):
    """Hold an image, and what was made of it so far, or the error that ended that; ``item`` says which one it is."""

    item: Item
    image: Image | None = None  # (H, W, 3) uint8 RGB; None if it could not be read
    label: Label | None = None  # (H, W) uint8
    scores: Scores | None = None  # (H, W, C) float32, if they were asked for
    error: DeepLabError | None = None
    whole: Image | None = None  # the image at its own size, while ``image`` has its working size
    note: str = ""  # on what was assumed to read the image

    def found(self) -> Label:
        """Return the label; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        assert self.label is not None
        return self.label

    @property
    def pixels(self) -> int:
        """Return the number of the image's pixels; 0 without an image."""
        return 0 if self.image is None else self.image.shape[0] * self.image.shape[1]


@dataclass(eq=False)
class _Held(Generic[Item]):
    result: Result[Item]
    kind: Hashable
    batch: Future[None] | None = None  # None: it waits for its batch


def in_batches(
    results: Iterable[Result[Item]],
    compute: Callable[[Sequence[Result[Item]]], None],
    kind: Callable[[Image], Hashable],
    *,
    largest: int,
    bytes_of_pixel: int,
    on_device: bool,
) -> Iterator[Result[Item]]:
    """Yield results in order, filled in by ``compute``, which gets at most ``largest`` images of equal ``kind``.

    Batches run one after another, or, where a device computes, two at a time in threads, so that one is prepared while
    the other is computed. A few batches of images are held, and no more than a quarter of the `memory_limit` has room
    for, with their results of ``bytes_of_pixel``, unless one image takes more.
    """
    if largest == 1 and not on_device:
        for result in results:
            if result.error is None:
                compute([result])
            yield result
        return
    threads, room = 2 if on_device else 1, memory_limit() // 4
    window: deque[_Held[Item]] = deque()

    def ready(most: int) -> Iterator[Result[Item]]:
        """Yield what is done, and compute more while the window has ``most`` images, or too many bytes."""
        while window:
            first = window[0]
            waiting = [held for held in window if held.batch is None and held.result.error is None]
            is_done = first.result.error is not None or (first.batch is not None and first.batch.done())
            if not is_done:
                if len(window) < most and bytes_of_pixel * sum(held.result.pixels for held in window) <= room:
                    return
                if waiting and len({held.batch for held in window if held.batch and not held.batch.done()}) < threads:
                    alike = [held for held in waiting if held.kind == waiting[0].kind][:largest]
                    batch = pool.submit(compute, [held.result for held in alike])
                    for held in alike:
                        held.batch = batch
                    continue
            # A batch begins with the first result that waits: while that is the first of all, no batch of others runs
            # that could keep it from its own.
            assert first.batch is not None or first.result.error is not None
            if first.batch is not None:
                first.batch.result()
            yield window.popleft().result

    with ThreadPoolExecutor(threads) as pool:
        for result in results:
            window.append(_Held(result, None if result.image is None else kind(result.image)))
            yield from ready(_WINDOW * largest)
        yield from ready(0)
