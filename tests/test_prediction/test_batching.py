"""Batches of equal kind: results in order, and only a few items taken ahead."""

import threading

import numpy as np
import pytest

from deeplabctl.prediction import batching
from deeplabctl.prediction.batching import Batches


def batches(run, *, largest=4, on_device=False, size=lambda item: 1):
    return Batches(run, kind=lambda item: item[1], size=size, largest=largest, on_device=on_device)


@pytest.mark.parametrize("on_device", [False, True])
def test_results_are_in_the_order_of_the_items_and_batches_are_of_one_kind(on_device):
    kinds = np.random.default_rng(3).integers(0, 3, 101).tolist()
    items = list(enumerate(kinds))
    seen = []

    def run(batch):
        seen.append(batch)
        return [10 * number for number, _ in batch]

    found = list(batches(run, on_device=on_device).results(items))
    assert found == [(item, 10 * item[0]) for item in items]
    assert all(len({kind for _, kind in batch}) == 1 and len(batch) <= 4 for batch in seen)
    assert np.mean([len(batch) for batch in seen]) > 3  # of 4


def test_without_batches_each_item_runs_alone_when_it_comes():
    events = []

    def items():
        for number in range(3):
            events.append(f"take {number}")
            yield number, "kind"

    def run(batch):
        events.append(f"run {batch[0][0]}")
        return batch

    for (number, _), _ in batches(run, largest=1).results(items()):
        events.append(f"have {number}")
    assert events == [f"{word} {number}" for number in range(3) for word in ("take", "run", "have")]


@pytest.mark.parametrize("on_device", [False, True])
def test_items_are_taken_a_few_batches_ahead_only(on_device):
    taken = handed_out = most = 0

    def items():
        nonlocal taken, most
        for number in range(200):
            taken += 1
            most = max(most, taken - handed_out)
            yield number, number % 7  # more kinds than there is room for

    for _ in batches(list, largest=2, on_device=on_device).results(items()):
        handed_out += 1
    assert handed_out == 200
    assert most <= (4 + 3 * on_device) * 2


def test_items_take_a_quarter_of_the_memory(monkeypatch):
    monkeypatch.setattr(batching, "available_memory", lambda: 400)
    taken = handed_out = most = 0

    def items():
        nonlocal taken, most
        for number in range(40):
            taken += 1
            most = max(most, taken - handed_out)
            yield number, number % 2

    for _ in batches(list, largest=8, size=lambda item: 30).results(items()):
        handed_out += 1
    assert most <= 4  # 3 of 30 bytes, and the one that was too much


def test_two_batches_run_at_a_time_on_a_device():
    both = threading.Barrier(2, timeout=10)

    def run(batch):
        both.wait()  # passes only if another batch runs meanwhile
        return batch

    items = [(number, "kind") for number in range(16)]
    assert len(list(batches(run, on_device=True).results(items))) == 16


def test_error_of_a_batch_comes_out():
    def run(batch):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(batches(run).results([(0, 0)]))
