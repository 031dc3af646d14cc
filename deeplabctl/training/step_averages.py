"""Average losses and times over the last steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class StepAverages:
    """Hold the losses and times of the last ``window`` steps; ``losses`` are those of before a resumption."""

    def __init__(self, window: int, losses: Sequence[float]) -> None:
        self._losses = deque(losses, maxlen=window)
        self._waits: deque[float] = deque(maxlen=max(20, window))
        self._seconds: deque[float] = deque(maxlen=max(20, window))
        self._compiled = False

    def add(self, loss: float, waited: float, seconds: float, *, compiles: bool = False) -> None:
        """Add a step: its loss, and how long it waited for data of how long it took in all.

        The times up to a step that ``compiles`` count only until the next one.
        """
        if self._compiled:
            self._waits.clear()
            self._seconds.clear()
        self._compiled = compiles
        self._losses.append(loss)
        self._waits.append(waited)
        self._seconds.append(seconds)

    @property
    def losses(self) -> list[float]:
        """Return the losses of the last steps."""
        return list(self._losses)

    @property
    def loss(self) -> float:
        """Return the mean loss."""
        return sum(self._losses) / len(self._losses)

    @property
    def step_seconds(self) -> float:
        """Return the mean time of a step."""
        return sum(self._seconds) / len(self._seconds)

    @property
    def waiting(self) -> float:
        """Return the share of the time that was spent waiting for data."""
        return sum(self._waits) / sum(self._seconds)
