"""Serve in several processes on one port, each with a network of its own; one that ends is replaced."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from deeplabctl.errors import DeepLabError
from deeplabctl.parallel import available_cpus, limit_cpus, signal_name
from deeplabctl.reporting import Note, Reporter

Facts = dict[str, Any]
# What a worker does: it is given its number, the shared socket, a function that it calls with facts of itself as soon
# as it answers requests, and an event after which it completes what runs, and returns.
Work = Callable[[int, socket.socket, Callable[[Facts], None], threading.Event], None]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_TICK = 0.2  # seconds
_LONGEST_PAUSE = 30.0  # seconds before a worker that ends again and again is replaced


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection  # closed at this end, it lets the worker end
    facts: Facts | None = None  # once it answers


class Workers:
    """Run ``work``, which must be picklable, in ``count`` processes that accept from one listening socket."""

    def __init__(self, count: int, bound: socket.socket, work: Work, report: Reporter) -> None:
        self._bound, self._work, self._report = bound, work, report
        self._workers: list[_Worker | None] = [None] * count
        self._failures, self._due = [0] * count, [0.0] * count
        self._signals: list[int] = []
        self._all_answer = False

    def run(self, ready: Callable[[Facts], None]) -> None:
        """Serve until SIGINT or SIGTERM, then let all workers complete what runs; a second signal ends them at once.

        ``ready`` is called with a worker's facts when all answer. Raises DeepLabError if one cannot begin.
        """
        before = {number: signal.signal(number, lambda got, _: self._signals.append(got)) for number in _SIGNALS}
        try:
            while not self._signals:
                self._start_missing()
                self._listen()
                answering = self._answering()
                if not self._all_answer and len(answering) == len(self._workers):
                    self._all_answer = True
                    ready(answering[0])
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        if not self._all_answer:  # nothing was served yet: the command is interrupted as any other
            signal.raise_signal(self._signals[0])

    def _start_missing(self) -> None:
        """Start the workers that are due; the first alone, as it may compile what all others only load."""
        context = multiprocessing.get_context("spawn")
        cpus = max(1, available_cpus() // len(self._workers))
        first = self._workers[0]
        for number, worker in enumerate(self._workers):
            may = number == 0 or self._all_answer or (first is not None and first.facts is not None)
            if worker is None and may and time.monotonic() >= self._due[number]:
                ours, theirs = context.Pipe()
                arguments = (self._work, number, self._bound, theirs, cpus)
                process = context.Process(target=_work_in_process, args=arguments, name=f"worker {number + 1}")
                process.start()
                theirs.close()
                self._workers[number] = _Worker(process, ours)

    def _listen(self) -> None:
        """Wait a moment for what workers say, and for their ends."""
        running = {worker.connection: (number, worker) for number, worker in enumerate(self._workers) if worker}
        for connection in wait(list(running), timeout=_TICK):
            number, worker = running[connection]  # type: ignore[index]
            try:
                said = worker.connection.recv()
            except (EOFError, OSError):
                self._ended(number, worker)
                continue
            if isinstance(said, str) and not (self._all_answer and self._answering()):
                raise DeepLabError(said)
            if isinstance(said, str):
                self._report(Note(f"worker {number + 1}: {said}", warning=True))
            else:
                worker.facts, self._failures[number] = said, 0

    def _ended(self, number: int, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"by {signal_name(-code)}" if code < 0 else f"with exit code {code}"
        name = f"worker {number + 1} (process {worker.process.pid})"
        self._workers[number] = None
        if self._signals:
            return
        if not self._all_answer:
            raise DeepLabError(f"{name} was ended {how} before it answered requests; try `workers=1`")
        pause = min(_LONGEST_PAUSE, 2.0 ** self._failures[number] - 1)
        self._failures[number] += 1
        self._due[number] = time.monotonic() + pause
        self._report(Note(f"{name} was ended {how}; it is being replaced", warning=True))

    def _answering(self) -> list[Facts]:
        return [worker.facts for worker in self._workers if worker is not None and worker.facts]

    def _stop(self) -> None:
        self._bound.close()
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.connection.close()
            if worker.facts is None:
                worker.process.kill()
        while any(worker.process.is_alive() for worker in workers):
            if len(self._signals) > 1:
                for worker in workers:
                    worker.process.kill()
            wait([worker.process.sentinel for worker in workers if worker.process.is_alive()], timeout=_TICK)


def _work_in_process(work: Work, number: int, bound: socket.socket, connection: Connection, cpus: int) -> None:
    for each in _SIGNALS:  # a terminal, or systemd, sends them to all processes: the parent alone decides
        signal.signal(each, signal.SIG_IGN)
    limit_cpus(cpus)
    ended, answers = threading.Event(), threading.Event()

    def watch() -> None:
        with suppress(EOFError, OSError):
            connection.recv()  # nothing comes: it returns when the parent closes its end, or is gone
        ended.set()
        if not answers.is_set():
            os._exit(1)

    def ready(facts: Facts) -> None:
        connection.send(facts)
        answers.set()

    threading.Thread(target=watch, daemon=True).start()
    try:
        work(number, bound, ready, ended)
    except DeepLabError as error:
        with suppress(OSError):
            connection.send(str(error))
        raise SystemExit(1) from None
