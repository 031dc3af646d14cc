"""Run the parts of a layer in threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deeplabctl.arrays import Float32
from deeplabctl.engine.buffers import aligned

_PARTS = 4  # for each thread


class Workers:
    """Run parts of a layer in threads, each with a work array of its own."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._work = [aligned(0) for _ in range(threads)]

    @property
    def pieces(self) -> int:
        """Return how many parts a layer should have: some for each thread, so that none waits long for the last."""
        return 1 if self.threads == 1 else _PARTS * self.threads

    def run(self, function: Callable[[Any, Float32], None], parts: Iterable[Any], size: int = 0) -> None:
        """Call a function with each part and a work array of at least ``size`` floats."""

        def one(part: Any) -> None:
            work = self._work.pop()
            try:
                if work.size < size:
                    work = aligned(size)
                function(part, work)
            finally:
                self._work.append(work)

        for _ in map(one, parts) if self._pool is None else self._pool.map(one, parts):
            pass

    def ranges(self, count: int) -> list[tuple[int, int]]:
        """Split a number of equal things into ranges, some for each thread."""
        pieces = min(count, self.pieces)
        return list(itertools.pairwise(count * i // pieces for i in range(pieces + 1)))
