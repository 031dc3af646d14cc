"""Give the engine memory and threads: arrays that start at a cache line and are used again, and workers for parts."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import Any

from deeplabctl.arrays import LINE, Float32, aligned

_PARTS = 4  # for each thread

Use = tuple[int, int, int]  # of an array: its floats, and the first and the last moment at which it is needed


def padded(channels: int) -> int:
    """Return the channels that an array has room for: whole cache lines."""
    return -(-channels // LINE) * LINE


class Buffers:
    """Lend flat arrays; what is given back is lent again."""

    def __init__(self) -> None:
        self._free: list[Float32] = []  # the smallest first

    def take(self, size: int) -> Float32:
        """Return an array of at least ``size`` floats, with what its last use left in it."""
        place = bisect.bisect_left(self._free, size, key=len)
        if place < len(self._free):
            return self._free.pop(place)
        if self._free:  # the largest will not be needed beside a larger one
            self._free.pop()
        return aligned(size)

    def give(self, array: Float32) -> None:
        """Take an array back."""
        bisect.insort(self._free, array, key=len)


class Arena:
    """Hold arrays in one piece of memory, which grows with what is asked for."""

    def __init__(self) -> None:
        self._floats = aligned(0)

    def arrays(self, uses: Sequence[Use]) -> list[Float32]:
        """Return an array for each use; those that are needed at the same moment do not overlap.

        They are valid until the next call; what is in them is left over from earlier ones.
        """
        places, size = placed(tuple(uses))
        if self._floats.size < size:
            self._floats = aligned(0)  # given back before more is taken
            self._floats = aligned(size)
        return [self._floats[place : place + floats] for place, (floats, _, _) in zip(places, uses, strict=True)]


@lru_cache(maxsize=64)
def placed(uses: tuple[Use, ...]) -> tuple[tuple[int, ...], int]:
    """Return where each array begins, and the floats that all of them take together.

    The largest is placed first, each at the first place that is free while it is needed. The chains and branches of the
    networks here get as few floats as are needed at one moment.
    """
    found: dict[int, tuple[int, int]] = {}
    for index in sorted(range(len(uses)), key=lambda index: -uses[index][0]):
        floats, first, last = uses[index]
        begin = 0
        for other, end in sorted(found[at] for at in found if uses[at][1] <= last and first <= uses[at][2]):
            if begin + floats <= other:
                break
            begin = max(begin, end)
        found[index] = begin, begin + floats
    return tuple(found[index][0] for index in range(len(uses))), max(end for _, end in found.values())


class Workers:
    """Run parts of a layer in threads, each with a work array of its own."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1) if threads > 1 else None
        self._work: list[Float32] = []

    @property
    def pieces(self) -> int:
        """Return how many parts to split a layer into: some for each thread, so that none waits long for the last."""
        return 1 if self.threads == 1 else _PARTS * self.threads

    def run(self, function: Callable[[Any, Float32], None], parts: Iterable[Any], size: int = 0) -> None:
        """Call a function with each part and a work array of at least ``size`` floats.

        Each thread, the caller's too, takes the next part that no other has: a hundred small layers take 8 ms less than
        with a task for each part.
        """
        parts = list(parts)
        waiting = iter(parts)

        def some() -> None:
            try:
                work = self._work.pop()
            except IndexError:
                work = aligned(size)
            try:
                if work.size < size:
                    work = aligned(size)
                for part in waiting:
                    function(part, work)
            finally:
                self._work.append(work)

        count = min(self.threads, len(parts)) - 1
        others = [] if self._pool is None else [self._pool.submit(some) for _ in range(count)]
        try:
            some()
        finally:
            begun = [other for other in others if not other.cancel()]
            wait(begun)  # also after an error: they write into the caller's arrays
            for other in begun:
                other.result()

    def run_ranges(self, function: Callable[[int, int], None], count: int) -> None:
        """Call a function with (first, last) of ranges that split range(count), some for each thread."""
        pieces = min(count, self.pieces)
        ranges = itertools.pairwise(count * i // pieces for i in range(pieces + 1))
        self.run(lambda bounds, work: function(*bounds), ranges)
