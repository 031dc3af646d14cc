"""Process many items in threads, a few ahead of their use, so that memory stays flat."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None, ahead: int = 4
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed by as many threads as there are cores, ``ahead`` items each."""
    workers = workers or os.cpu_count() or 1
    queue: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                queue.append(pool.submit(function, item))
                if len(queue) > workers * ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:  # of a consumer that stopped early
                future.cancel()
