"""Batches of equal kind: results in order, and only a few items taken ahead."""

import threading

import numpy as np
import pytest

from deeplabctl.errors import DataError
from deeplabctl.prediction import results
from deeplabctl.prediction.results import Result, in_batches


def image_of(kind):
    return np.full((1, 1, 3), kind, np.uint8)


def batches(compute, numbers_and_kinds, *, largest=4, on_device=False, bytes_of_pixel=1):
    images = (Result(number, image_of(kind)) for number, kind in numbers_and_kinds)
    return in_batches(
        images, compute, lambda image: image[0, 0, 0], largest=largest, bytes_of_pixel=bytes_of_pixel,
        on_device=on_device,
    )  # fmt: skip


def nothing(batch):
    pass


@pytest.mark.parametrize("on_device", [False, True])
def test_results_are_in_the_order_of_the_items_and_batches_are_of_one_kind(on_device):
    kinds = np.random.default_rng(3).integers(0, 3, 101).tolist()
    seen = []

    def compute(batch):
        seen.append(batch)
        for result in batch:
            result.label = 10 * result.item

    found = list(batches(compute, enumerate(kinds), on_device=on_device))
    assert [(result.item, result.label) for result in found] == [(number, 10 * number) for number in range(101)]
    assert all(len({result.image[0, 0, 0] for result in batch}) == 1 and len(batch) <= 4 for batch in seen)
    assert np.mean([len(batch) for batch in seen]) > 3  # of 4


def test_without_batches_each_item_runs_alone_when_it_comes():
    events = []

    def items():
        for number in range(3):
            events.append(f"take {number}")
            yield number, 0

    def compute(batch):
        events.append(f"run {batch[0].item}")

    for result in batches(compute, items(), largest=1):
        events.append(f"have {result.item}")
    assert events == [f"{word} {number}" for number in range(3) for word in ("take", "run", "have")]


def most_held(kinds, **options):
    """Return how many items were taken beyond those that came back, at most."""
    taken = handed_out = most = 0

    def items():
        nonlocal taken, most
        for number, kind in enumerate(kinds):
            taken += 1
            most = max(most, taken - handed_out)
            yield number, kind

    for _ in batches(nothing, items(), **options):
        handed_out += 1
    assert handed_out == len(kinds)
    return most


@pytest.mark.parametrize("on_device", [False, True])
def test_items_are_taken_a_few_batches_ahead_only(on_device):
    kinds = [number % 7 for number in range(200)]  # more kinds than there is room for
    assert most_held(kinds, largest=2, on_device=on_device) <= 4 * 2


def test_items_take_a_quarter_of_the_memory(monkeypatch):
    monkeypatch.setattr(results, "memory_limit", lambda: 400)
    # 3 of 30 bytes, and the one that was too much
    assert most_held([number % 2 for number in range(40)], largest=8, bytes_of_pixel=30) <= 4


def test_two_batches_run_at_a_time_on_a_device():
    both = threading.Barrier(2, timeout=60)

    def compute(batch):
        both.wait()  # passes only if another batch runs meanwhile

    assert len(list(batches(compute, [(number, 0) for number in range(16)], on_device=True))) == 16


def test_failed_items_are_never_computed_and_keep_their_place():
    error = DataError("unreadable")
    images = [Result(0, error=error), Result(1, image_of(1)), Result(2, error=error), Result(3, image_of(1))]
    seen = []
    for largest in (1, 2):
        found = in_batches(images, seen.extend, lambda image: 0, largest=largest, bytes_of_pixel=1, on_device=False)
        assert [result.item for result in found] == [0, 1, 2, 3]
    assert [result.item for result in seen] == [1, 3] * 2


@pytest.mark.parametrize("largest", [1, 4])
def test_error_of_a_batch_comes_out(largest):
    def compute(batch):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(batches(compute, [(0, 0)], largest=largest))
