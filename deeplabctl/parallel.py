"""Process many items in threads, a few ahead of their use, with the CPUs and the memory that this process may use."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_limit: int | None = None  # of `limit_cpus`
MEMORY, OWN_CGROUPS, CGROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def map_ahead(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    ahead: int = 16,
    size: Callable[[Item], int] | None = None,
    room: int | None = None,
    prompt: bool = False,
) -> Iterator[Result]:
    """Yield ``function(item)`` in order, computed by as many threads as there are CPUs available, or ``workers``.

    At most ``ahead`` items more than there are threads wait to be computed or to be yielded. With ``size``, the bytes
    that an item takes until it is yielded, they take a quarter of the `memory_limit` at most, or ``room`` if that is
    less, unless one takes more.

    A result is yielded when there is no room for another item. With ``prompt`` it is also yielded at the next item
    after it was computed: for items that come slowly, and results that somebody waits for.
    """
    workers = workers or available_cpus()
    room = min(memory_limit() // 4, room or sys.maxsize)
    queue: deque[tuple[Future[Result], int]] = deque()
    taken = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                needed = size(item) if size else 0
                while queue and (
                    len(queue) >= workers + ahead or taken + needed > room or (prompt and queue[0][0].done())
                ):
                    future, freed = queue.popleft()
                    yield future.result()
                    taken -= freed
                queue.append((pool.submit(function, item), needed))
                taken += needed
            while queue:
                yield queue.popleft()[0].result()
        finally:
            for future, _ in queue:  # of a consumer that stopped early
                future.cancel()


class FairLock:
    """Let one thread at a time into a block, in the order in which they come.

    Of `threading.Lock` a thread that always comes back can keep the others out.
    """

    def __init__(self) -> None:
        self._turns: deque[object] = deque()
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        turn = object()
        with self._changed:
            self._turns.append(turn)
            try:
                self._changed.wait_for(lambda: self._turns[0] is turn)
            except BaseException:  # Ctrl-C
                self._turns.remove(turn)
                self._changed.notify_all()
                raise

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._turns.popleft()
            self._changed.notify_all()


def available_cpus() -> int:
    """Return the number of CPUs that this process may use: those of its affinity mask, and no more than its quota.

    The quota is that of its control groups (Linux, version 2), rounded up. Never more than `limit_cpus` allows.
    """
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for folder in _control_groups():
        if limits := _numbers(folder / "cpu.max"):  # microseconds of CPU in each period, and those of the period
            counts.append(math.ceil(limits[0] / limits[1]))
    return min(counts) if _limit is None else min(*counts, _limit)


def limit_cpus(count: int | None) -> None:
    """Let this process take no more CPUs than these from now on, as others have been given theirs; None lifts that."""
    global _limit
    _limit = count


def signal_name(number: int) -> str:
    """Return the name of a signal; real-time ones have none."""
    return next((each.name for each in signal.Signals if each == number), f"signal {number}")


def memory_limit() -> int:
    """Return the bytes of memory that this process may use: the machine's, or what its control groups allow."""
    limits = [_installed_memory()]
    for folder in _control_groups():
        limits += _numbers(folder / "memory.max")
    return min(limits)


def _installed_memory() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import ctypes

    kilobytes = ctypes.c_ulonglong()
    ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))  # type: ignore[attr-defined]
    return kilobytes.value << 10


def free_memory() -> int:
    """Return the bytes of memory that are free, or cache files only, on the machine and in its control groups."""
    counts = [memory_limit()]
    kibibytes = _named_numbers(MEMORY)
    counts += [kibibytes["MemAvailable:"] << 10] if "MemAvailable:" in kibibytes else []
    for folder in _control_groups():
        limits, used = _numbers(folder / "memory.max"), _numbers(folder / "memory.current")
        if limits and used:
            facts = _named_numbers(folder / "memory.stat")
            counts.append(limits[0] - used[0] + facts.get("active_file", 0) + facts.get("inactive_file", 0))
    return max(0, min(counts))


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for later, in one heap for all threads that begin from now on.

    glibc gives large arrays back to the system, which clears them when they are taken again, and has a heap for each
    thread. A training takes the same arrays in every step. Other C libraries are left as they are.
    """
    import ctypes

    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    arena_max, mmap_threshold, trim_threshold = -8, -3, -1  # as in malloc.h
    for option, value in ((arena_max, 1), (mmap_threshold, 1 << 30), (trim_threshold, (1 << 31) - 1)):
        set_option(option, value)


def _control_groups() -> Iterator[Path]:
    """Yield the folder of this process's control group of version 2, and those of the groups that it is in.

    In a container the path of a group may be that of its host, which is not there; the container's is the root then.
    """
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, _, path = line.split(":", 2)
        if number == "0":
            group = Path(*(part for part in Path(path).parts if part not in ("/", "..")))
            yield from (CGROUPS / folder for folder in (group, *group.parents))


def _named_numbers(path: Path) -> dict[str, int]:
    """Return the numbers in a file that has a name and a number in each line; nothing for a file that is not there."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines}


def _numbers(path: Path) -> list[int]:
    """Return the whole numbers in a file; nothing for a file that is not there, or where one is "max"."""
    try:
        return [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return []
