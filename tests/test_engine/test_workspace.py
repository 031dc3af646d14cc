"""Arrays that are needed at different moments share memory, and those that are needed together never do."""

import itertools
import threading
import time

import numpy as np
import pytest

from deeplabctl.arrays import LINE
from deeplabctl.engine.workspace import Arena, Workers, placed


def overlapping(uses, places):
    ends = [place + floats for place, (floats, _, _) in zip(places, uses, strict=True)]
    return [
        (a, b)
        for a, b in itertools.combinations(range(len(uses)), 2)
        if uses[a][1] <= uses[b][2] and uses[b][1] <= uses[a][2] and places[a] < ends[b] and places[b] < ends[a]
    ]


def test_arrays_of_a_chain_take_the_memory_of_its_two_largest_neighbours():
    chain = ((16, 1, 2), (64, 2, 3), (48, 3, 4), (16, 4, 5), (16, 5, 6))
    places, size = placed(chain)
    assert (len(places), size) == (5, 112)
    assert not overlapping(chain, places)


def test_array_of_a_branch_is_kept_until_it_is_needed():
    uses = ((32, 1, 5), (64, 2, 3), (64, 3, 4), (32, 4, 5))  # the first is added to the last
    places, size = placed(uses)
    assert size == 32 + 64 + 64
    assert not overlapping(uses, places)


@pytest.mark.parametrize("seed", range(20))
def test_arrays_that_are_needed_together_do_not_overlap(seed):
    random = np.random.default_rng(seed)
    firsts, sizes = random.integers(0, 30, 40), 16 * random.integers(1, 50, 40)
    uses = tuple(
        (int(floats), int(first), int(first + lasting))
        for floats, first, lasting in zip(sizes, firsts, random.integers(0, 9, 40), strict=True)
    )
    places, size = placed(uses)
    assert not overlapping(uses, places)
    assert size == max(place + floats for place, (floats, _, _) in zip(places, uses, strict=True))
    needed = max(sum(floats for floats, first, last in uses if first <= moment <= last) for moment in range(40))
    assert needed <= size <= sum(floats for floats, _, _ in uses)


def test_arena_grows_and_its_arrays_start_at_cache_lines():
    arena = Arena()
    for floats in (16, 160, 32):
        arrays = arena.arrays([(floats, 1, 2), (floats, 2, 3)])
        assert [array.size for array in arrays] == [floats, floats]
        assert all(array.ctypes.data % (4 * LINE) == 0 for array in arrays)
        arrays[0][:], arrays[1][:] = 1, 2
        assert (arrays[0] == 1).all()


def test_error_of_a_part_is_raised_when_no_other_part_is_computed_any_more():
    begun, ended = threading.Barrier(3), []

    def compute(part, work):
        begun.wait()
        name = threading.current_thread().name
        if name.endswith("_0"):
            raise MemoryError
        time.sleep(0.2 if name.endswith("_1") else 0)
        ended.append(part)

    with pytest.raises(MemoryError):
        Workers(3).run(compute, range(3))
    assert len(ended) == 2
