"""Threads: how many, and how far they run ahead."""

import ctypes
import os
import platform
import subprocess
import sys
import threading
import time

import pytest

from deeplabctl import parallel
from deeplabctl.parallel import (
    FairLock,
    available_cpus,
    free_memory,
    keep_freed_memory,
    map_ahead,
    memory_limit,
    signal_name,
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Stand on a machine of 64 CPUs whose control groups are the files that the test writes."""
    monkeypatch.setattr(parallel, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(parallel, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    def write(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    yield write
    parallel.limit_cpus(None)


def test_cpus_are_those_of_the_affinity_mask(machine, monkeypatch):
    machine("0::/\n", {"cpu.max": "max 100000\n"})
    assert available_cpus() == 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 7, 8})
    assert available_cpus() == 3


def test_process_can_be_given_fewer_cpus(machine):
    machine("0::/\n", {"cpu.max": "max 100000\n"})
    parallel.limit_cpus(2)
    assert available_cpus() == 2
    parallel.limit_cpus(100)
    assert available_cpus() == 64


@pytest.mark.parametrize(
    ("own", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/a.slice/b.scope\n", {"a.slice/b.scope/cpu.max": "max 100000\n", "a.slice/cpu.max": "400000 100000\n"}, 4),
        ("0::/of/the/host\n", {"cpu.max": "500000 100000\n"}, 5),
        ("0::/../../other\n", {"cpu.max": "600000 100000\n"}, 6),
        ("4:cpu,x:/docker/1a\n0::/\n", {"cpu.max": "700000 100000\n"}, 7),
        ("4:cpu:/\n", {"cpu.max": "100000 100000\n"}, 64),  # a group of version 1 only
    ],
)  # fmt: skip
def test_cpus_are_no_more_than_the_quota_of_the_control_groups(machine, own, files, cpus):
    machine(own, files)
    assert available_cpus() == cpus


@pytest.mark.parametrize(("number", "name"), [(9, "SIGKILL"), (40, "signal 40")])
def test_signal_without_a_name_has_its_number(number, name):
    assert signal_name(number) == name


def test_memory_is_no_more_than_the_control_groups_allow(machine):
    machine("0::/x\n", {"x/memory.max": "max\n"})
    whole = memory_limit()
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine("0::/x\n", {"x/memory.max": "1048576\n"})
    assert memory_limit() == 1048576


def test_machine_without_control_groups_has_its_cpus(machine):
    assert available_cpus() == 64


class Watched:
    """Hand out items, and note how many were taken but not yielded yet."""

    def __init__(self, count):
        self.count, self.taken, self.most = count, 0, 0

    def items(self):
        for number in range(self.count):
            self.taken += 1
            yield number

    def run(self, **options):
        for done, result in enumerate(map_ahead(lambda item: item, self.items(), **options)):
            self.most = max(self.most, self.taken - done)
            yield result


def test_items_wait_for_the_cpus_that_are_available_and_a_few_more(machine):
    machine("0::/\n", {"cpu.max": "300000 100000\n"})
    watched = Watched(500)
    assert list(watched.run()) == list(range(500))
    assert watched.most <= 3 + 16 + 1
    watched = Watched(500)
    assert list(watched.run(workers=5, ahead=2)) == list(range(500))
    assert watched.most <= 5 + 2 + 1


def test_items_that_are_large_wait_until_there_is_memory_for_them(machine):
    machine("0::/\n", {"memory.max": "4000\n"})
    watched = Watched(50)
    assert list(watched.run(size=lambda item: 300)) == list(range(50))
    assert watched.most <= 3 + 1
    alone = Watched(5)
    assert list(alone.run(size=lambda item: 10**9)) == list(range(5))  # one at a time
    assert alone.most <= 1 + 1


def test_items_wait_for_room_that_does_not_grow_with_the_machine(machine):
    machine("0::/\n", {"memory.max": "400000\n"})
    watched = Watched(50)
    assert list(watched.run(size=lambda item: 300, room=1000)) == list(range(50))
    assert watched.most <= 3 + 1


def test_memory_is_free_that_neither_the_machine_nor_a_group_uses(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "MEMORY", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal:  900 kB\nMemAvailable:  500 kB\nHugePages_Total: 0\n")
    machine("0::/x\n", {"x/memory.max": "max\n", "x/memory.current": "300000\n"})
    assert free_memory() == 500 << 10
    stat = "anon 250000\nactive_file 7000\ninactive_file 30000\n"
    machine("0::/x\n", {"x/memory.max": "400000\n", "x/memory.stat": stat})
    assert free_memory() == 400_000 - 300_000 + 37_000
    machine("0::/x\n", {"x/memory.max": "200000\n"})
    assert free_memory() == 0


def test_all_threads_work_at_once():
    together = threading.Barrier(4, timeout=60)
    assert list(map_ahead(lambda item: together.wait() >= 0, range(8), workers=4, ahead=0)) == [True] * 8


def test_consumer_that_stops_early_leaves_the_rest_undone():
    done = []

    def slow(item):
        time.sleep(0.01)
        done.append(item)
        return item

    results = map_ahead(slow, range(1000), workers=2, ahead=8)
    assert next(results) == 0
    results.close()
    assert len(done) < 20


def test_results_wait_for_room_or_come_promptly():
    def events(prompt):
        seen, computed = [], threading.Semaphore(0)

        def items():
            for number in range(4):
                seen.append(f"take {number}")
                yield number
                computed.acquire(timeout=60)
                time.sleep(0.05)  # while which its result is handed over

        def compute(number):
            computed.release()
            return number

        for result in map_ahead(compute, items(), workers=1, ahead=2, prompt=prompt):
            seen.append(f"have {result}")
        return seen

    assert events(prompt=False)[:4] == ["take 0", "take 1", "take 2", "take 3"]
    assert events(prompt=True)[:5] == ["take 0", "take 1", "have 0", "take 2", "have 1"]


def test_thread_that_comes_back_to_a_lock_lets_in_those_that_wait():
    lock, came = FairLock(), []

    def enter(name):
        with lock:
            came.append(name)

    with lock:
        threads = [threading.Thread(target=enter, args=(name,)) for name in "ab"]
        for waiting, thread in enumerate(threads, 2):
            thread.start()
            while len(lock._turns) < waiting:
                time.sleep(0.001)
    enter("back")
    for thread in threads:
        thread.join()
    assert came == ["a", "b", "back"]


def test_thread_that_is_interrupted_while_it_waits_leaves_its_turn(monkeypatch):
    lock = FairLock()
    monkeypatch.setattr(lock._changed, "wait_for", lambda condition: exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        lock.__enter__()
    monkeypatch.undo()
    with lock:
        pass


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept():
    code = """if True:
    import resource
    import numpy as np
    from deeplabctl.parallel import keep_freed_memory

    def pages():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.empty(1 << 21, np.uint8).fill(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    print(pages(), pages(), end=" ")
    keep_freed_memory()
    print(pages(), pages())
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second, _, kept = map(int, done.stdout.split())
    assert min(first, second) > 400 > 50 > kept


def test_other_c_libraries_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    keep_freed_memory()
