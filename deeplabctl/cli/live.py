"""Draw the events of a job on a terminal: progress bars, the numbers of a training, and notes above them."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType  # noqa: TID253 - loaded only on a terminal
from rich.live import Live  # noqa: TID253
from rich.progress import (  # noqa: TID253
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column  # noqa: TID253
from rich.text import Text  # noqa: TID253

from deeplabctl.cli.formatting import describe
from deeplabctl.errors import printable
from deeplabctl.reporting import (
    Advanced,
    Event,
    Finished,
    Note,
    Started,
    Trained,
    Validated,
    duration,
    pace,
    percent,
)

_SPARKS = "▁▂▃▄▅▆▇█"
_HISTORY = 40  # losses in the small curve


class _NameColumn(ProgressColumn):
    """Name a task, as far as there is room."""

    def render(self, task: Task) -> Text:
        """Return the name; the column may be narrower."""
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _PaceColumn(ProgressColumn):
    """Show how fast a task goes and how much time is left; a training has its own line for them."""

    def render(self, task: Task) -> Text:
        """Return the speed over the last half minute and the time that is left at it; else the time it has taken."""
        unit = task.fields["unit"]
        if unit == "steps" or task.total is None or not task.speed:
            return Text(duration(task.elapsed or 0), style="progress.elapsed")
        return Text(pace(1, round(task.total - task.completed), 1 / task.speed, unit), style="cyan")


class LiveReporter:
    """Draw events at the bottom of the terminal while the block lasts; notes stay above."""

    def __init__(self) -> None:
        # A copy of the descriptor: while TensorFlow starts, descriptor 2 leads into the log.
        self._file = os.fdopen(
            os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="backslashreplace"
        )
        self._console = Console(file=self._file, force_terminal=True, highlight=False, soft_wrap=True)
        self._progress = Progress(
            _NameColumn(),
            BarColumn(None, table_column=Column(ratio=1, width=8)),  # at least 8
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            _PaceColumn(table_column=Column(no_wrap=True)),
            console=self._console,
            expand=True,
        )
        self._tasks: list[TaskID] = []
        self._trained: Trained | None = None
        self._validated: Validated | None = None
        self._best: Validated | None = None
        self._losses: list[float] = []
        self._live = Live(self._view(), console=self._console, transient=True, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._file.close()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case Started(task, total, unit, done):
                self._tasks.append(
                    self._progress.add_task(f"{printable(task)} ({unit})", total=total, completed=done, unit=unit)
                )
            case Advanced(parts):
                self._progress.advance(self._tasks[-1], parts)
            case Finished():
                self._progress.remove_task(self._tasks.pop())
            case Trained():
                self._trained = event
                self._progress.update(self._tasks[0], completed=event.step, total=event.steps)
                if event.logged:
                    self._losses = [*self._losses, event.loss][-_HISTORY:]
            case Validated():
                self._validated = event
                if event.best:
                    self._best = event
                self._print(event)
            case _:
                self._print(event)
        self._live.update(self._view())

    def _print(self, event: Event) -> None:
        style = "yellow" if isinstance(event, Note) and event.warning else ""
        self._console.print(Text(describe(event) or "", style=style))

    def _view(self) -> RenderableType:
        lines: list[RenderableType] = [self._progress]
        if (trained := self._trained) is not None:
            line = Text.assemble(
                "loss ", (f"{trained.loss:.4f}", "bold cyan"), "  ",
                "lr ", (f"{trained.learning_rate:.2e}", "bold"), "  ",
                (f"{trained.images_per_second:.1f}", "bold"), " images/s  ",
                "waiting for data ", (f"{trained.waiting:.1%}", "bold"),
                *(() if (left := trained.seconds_left) is None else ("  ", (duration(left), "bold"), " left")),
            )  # fmt: skip
            room = max(self._console.width - len(line) - 2, 1)
            lines.append(line.append(f"  {_sparkline(self._losses[-room:], self._file.encoding)}"))
            if self._validated is not None and self._best is not None:
                lines.append(
                    Text.assemble(
                        "val mIoU ", (percent(self._validated.miou), "bold green"),
                        f" at step {self._validated.step}, ",
                        "best ", (percent(self._best.miou), "bold green"), f" at step {self._best.step}",
                    )
                )  # fmt: skip
        return Group(*lines)


def _sparkline(values: list[float], encoding: str) -> str:
    """Draw a curve in a line of text; none in an encoding that has no blocks."""
    try:
        _SPARKS.encode(encoding)
    except UnicodeEncodeError:
        return ""
    if not values:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(_SPARKS[int((value - low) / span * (len(_SPARKS) - 1))] for value in values)
