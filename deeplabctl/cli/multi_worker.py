"""Run a worker of a training on several machines in a process of its own, and say how it ended.

TensorFlow may abort a worker's process when another worker dies.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from deeplabctl.cli.json_output import leave_document_to_child
from deeplabctl.errors import DeepLabError
from deeplabctl.parallel import signal_name

_LIFELINE = "DEEPLABCTL_LIFELINE"  # the descriptor of a pipe that closes when the parent process dies
_WAIT = 600  # seconds to wait for the other workers
_OTHERS_MISSING = 75  # exit code of a worker whose wait was too long


@dataclass(frozen=True)
class Worker:
    """Hold what TF_CONFIG says of this worker."""

    index: int
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"worker {self.index} of {len(self.addresses)} ({self.addresses[self.index]})"


def worker_from_environment() -> Worker | None:
    """Return this worker if TF_CONFIG names several, else None; raises DeepLabError if TF_CONFIG is not valid."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
        addresses = {name: [host for host in group if ":" in host] for name, group in cluster.items()}
        if any(not isinstance(group, list) or len(addresses[name]) < len(group) for name, group in cluster.items()):
            raise ValueError("an address is not HOST:PORT")
    except (ValueError, TypeError, AttributeError) as error:
        raise DeepLabError(
            f"TF_CONFIG: expected JSON with cluster and task, got {text[:120]!r} ({error}); "
            'write {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
        ) from None
    everyone = tuple(addresses.get("chief", []) + addresses.get("worker", []))
    if len(everyone) < 2:
        return None
    if kind not in ("chief", "worker") or set(addresses) - {"chief", "worker"}:
        raise DeepLabError(
            f"TF_CONFIG: expected only workers (and a chief), got {', '.join(sorted(addresses))} and a task of type "
            f"{kind!r}; there are no parameter servers"
        )
    if not 0 <= index < len(addresses.get(kind, [])):
        raise DeepLabError(
            f"TF_CONFIG: expected a task index of 0 to {len(addresses.get(kind, [])) - 1} for {kind}, got {index}"
        )
    return Worker(index + (len(addresses.get("chief", [])) if kind == "worker" else 0), everyone)


def is_worker_process() -> bool:
    """Tell whether `run_worker` started this process; it then ends as soon as its parent is gone."""
    lifeline = os.environ.pop(_LIFELINE, None)
    if lifeline is None:
        return False

    def end_with_parent() -> None:
        os.read(int(lifeline), 1)  # returns when the other end closes
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    return True


@contextmanager
def limited_wait() -> Iterator[None]:
    """End this process if the block, in which it waits for the other workers, takes more than ten minutes."""
    timer = threading.Timer(_WAIT, os._exit, [_OTHERS_MISSING])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def run_worker(worker: Worker) -> int:
    """Run this same command in a child process and return its exit code; raises DeepLabError if it was killed."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "deeplabctl", *sys.argv[1:]],
        env=os.environ | {_LIFELINE: str(reading)},
        pass_fds=[reading],
        start_new_session=True,  # a terminal's Ctrl-C reaches the worker only through this process
    )
    os.close(reading)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: process.send_signal(got))
    code = process.wait()
    os.close(writing)
    if -code in (signal.SIGINT, signal.SIGTERM):
        return 128 - code
    if code == _OTHERS_MISSING:
        raise DeepLabError(
            f"{worker}: the other workers did not connect within {_WAIT // 60} minutes: expected all of "
            f"{', '.join(worker.addresses)}; check them, then start all workers again"
        )
    if code < 0:
        name = signal_name(-code)
        raise DeepLabError(
            f"{worker} was ended by {name}{', as happens when' if name == 'SIGABRT' else '; perhaps'} another "
            "worker died or cannot be reached; check the others, then start all workers again with --resume"
        )
    leave_document_to_child()
    return code
