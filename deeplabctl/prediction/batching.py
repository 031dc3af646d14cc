"""Put items of equal kind together into batches, and hand out the results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from deeplabctl.parallel import available_memory, map_ahead

Item = TypeVar("Item")
Result = TypeVar("Result")

_WINDOW = 4  # batches of items among which those of equal kind are sought


@dataclass(frozen=True)
class Batches(Generic[Item, Result]):
    """Say how items are put together.

    ``run`` returns a result for each item of a batch, which are at most ``largest`` items of equal ``kind``; ``size``
    is the bytes that an item takes with its result. Batches run one after another in this thread, or, where a device
    computes, two at a time in threads, so that one is prepared while the other is computed.
    """

    run: Callable[[Sequence[Item]], Sequence[Result]]
    kind: Callable[[Item], Hashable]
    size: Callable[[Item], int]
    largest: int
    on_device: bool

    def results(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
        """Yield (item, result) in the order of the items.

        Only a few batches of items are taken before their results are handed out, and no more than a quarter of the
        available memory holds, unless one item takes more.
        """
        if self.largest == 1 and not self.on_device:
            for item in items:
                yield item, self.run([item])[0]
            return
        pending = _Pending(self)
        formed = pending.batches(items)
        done = map_ahead(self._run, formed, workers=2, ahead=0) if self.on_device else map(self._run, formed)
        for batch in done:
            yield from pending.in_order(batch)

    def _run(self, batch: Sequence[tuple[int, Item]]) -> list[tuple[int, Item, Result]]:
        results = self.run([item for _, item in batch])
        return [(number, item, result) for (number, item), result in zip(batch, results, strict=True)]


class _Pending(Generic[Item, Result]):
    """Hold the items that were taken and whose results were not yet handed out."""

    def __init__(self, how: Batches[Item, Result]) -> None:
        self._how = how
        self._most = _WINDOW * how.largest
        self._room = available_memory() // 4
        self._waiting: deque[tuple[int, Item]] = deque()
        self._done: dict[int, tuple[Item, Result]] = {}
        self._next = 0  # number of the item whose result is handed out next
        self._bytes = 0

    def batches(self, items: Iterable[Item]) -> Iterator[list[tuple[int, Item]]]:
        """Yield batches of numbered items; the oldest item that waits is in the next one."""
        for number, item in enumerate(items):
            self._waiting.append((number, item))
            self._bytes += self._how.size(item)
            while self._waiting and (number - self._next + 1 >= self._most or self._bytes > self._room):
                yield self._batch()
        while self._waiting:
            yield self._batch()

    def _batch(self) -> list[tuple[int, Item]]:
        kind = self._how.kind(self._waiting[0][1])
        chosen = [entry for entry in self._waiting if self._how.kind(entry[1]) == kind][: self._how.largest]
        numbers = {number for number, _ in chosen}
        self._waiting = deque(entry for entry in self._waiting if entry[0] not in numbers)
        return chosen

    def in_order(self, batch: Sequence[tuple[int, Item, Result]]) -> Iterator[tuple[Item, Result]]:
        """Keep the results of a batch, and yield those that are next."""
        self._done |= {number: (item, result) for number, item, result in batch}
        while self._next in self._done:
            item, result = self._done.pop(self._next)
            self._next += 1
            self._bytes -= self._how.size(item)
            yield item, result
