"""Declare settings with their limits: a setting is one line of a dataclass, with its default and its range."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field, fields
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

_T = TypeVar("_T")


class Limit(NamedTuple):
    """Say which values a setting may have, in words for a message, and by a check."""

    expected: str
    holds: Callable[[Any], bool]


_LARGEST = 3.4e38  # of float32
AT_LEAST_0 = Limit("at least 0", lambda value: 0 <= value < _LARGEST)
COUNT = Limit("1 to 2147483647", lambda value: 0 < value < 2**31)
ABOVE_0 = Limit("above 0", lambda value: 0 < value < _LARGEST)
FACTOR = Limit("a number above 0, at most 4", lambda value: 0 < value <= 4)
FACTORS = Limit("numbers above 0, at most 4", lambda values: all(map(FACTOR.holds, values)))
SMALLEST_SIDE = 64  # pixels of the longer side to which images are scaled down
SIDE = Limit(f"0 or at least {SMALLEST_SIDE}", lambda value: value == 0 or value >= SMALLEST_SIDE)
SHARE = Limit("a share of at least 0 and below 1", lambda value: 0 <= value < 1)


class Auto(int):
    """Stand for a number that is found out when the training is planned; in a recipe it is written "auto"."""


AUTO = Auto(-1)


class Reach(IntEnum):
    """Say how far a change of a setting reaches in a training, from nothing to its weights."""

    PLACE = 0  # where its files are and who computes
    OUTPUT = 1  # what it says, and what comes after it
    BEST = 2  # when it validates, and so which weights are the best
    WEIGHTS = 3  # what is computed


def limited(
    default: _T, expected: str, holds: Callable[[Any], bool], *, auto: bool = False, reach: Reach = Reach.WEIGHTS
) -> _T:
    """Return a field of a dataclass with a default and a limit; with ``auto`` its value may also be "auto"."""
    limit = Limit(expected, (lambda value: isinstance(value, Auto) or holds(value)) if auto else holds)
    declared: _T = field(default=default, metadata={"limit": limit, "auto": auto, "reach": reach})
    return declared


def limits(settings: Any) -> dict[str, Limit]:
    """Return the limits of a dataclass of settings, by name."""
    return {item.name: item.metadata["limit"] for item in fields(settings) if "limit" in item.metadata}


def beyond_limits(settings: Any) -> Iterator[str]:
    """Yield what is wrong with each value that is beyond its limit: "name: expected ..., got ..."."""
    for name, limit in limits(settings).items():
        value = getattr(settings, name)
        try:
            holds = limit.holds(value)
        except TypeError:  # a value of another type, which cannot be compared
            holds = False
        if not holds:
            yield f"{name}: expected {limit.expected}, got {value!r}"
