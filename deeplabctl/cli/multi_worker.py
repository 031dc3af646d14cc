"""Watch over the worker of a training on several machines: TensorFlow may abort its process when another one dies."""

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
from types import FrameType

from deeplabctl.errors import DeepLabError

_LIFELINE = "DEEPLABCTL_LIFELINE"  # a pipe from the watching process, which closes when that dies

_PATIENCE = 600  # seconds to wait for the other workers
_ALONE = 75  # exit code of a worker that waited in vain


@dataclass(frozen=True)
class Worker:
    """Hold what TF_CONFIG says of this worker."""

    index: int
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"worker {self.index} of {len(self.addresses)} ({self.addresses[self.index]})"


def worker_of_environment() -> Worker | None:
    """Return this worker if TF_CONFIG names several, else None; raises DeepLabError for one that cannot be meant."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        kind, index = task.get("type", "worker"), int(task.get("index", 0))
        addresses = {name: [host for host in group if ":" in host] for name, group in cluster.items()}
        if any(not isinstance(group, list) or len(addresses[name]) < len(group) for name, group in cluster.items()):
            raise ValueError("an address is no HOST:PORT")
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
            f"TF_CONFIG: expected workers alone (and a chief), got {', '.join(sorted(addresses))} and a task of type "
            f"{kind!r}; there are no parameter servers"
        )
    if not 0 <= index < len(addresses.get(kind, [])):
        raise DeepLabError(
            f"TF_CONFIG: expected a task index of 0 to {len(addresses.get(kind, [])) - 1} for {kind}, got {index}"
        )
    return Worker(index + (len(addresses.get("chief", [])) if kind == "worker" else 0), everyone)


def is_watched() -> bool:
    """Tell whether this process is the worker itself; then it ends as soon as the watching process is gone."""
    lifeline = os.environ.pop(_LIFELINE, None)
    if lifeline is None:
        return False

    def end_with_the_watcher() -> None:
        os.read(int(lifeline), 1)  # returns when the other end closes
        os._exit(1)

    threading.Thread(target=end_with_the_watcher, daemon=True).start()
    return True


@contextmanager
def not_alone() -> Iterator[None]:
    """End this process if the block, in which it waits for the other workers, takes too long."""
    timer = threading.Timer(_PATIENCE, os._exit, [_ALONE])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def watch(worker: Worker) -> int:
    """Run this same command as a process of its own and return its exit code; raises DeepLabError if it was killed."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "deeplabctl", *sys.argv[1:]],
        env=os.environ | {_LIFELINE: str(reading)},
        pass_fds=[reading],
        start_new_session=True,  # a terminal's Ctrl-C comes to the worker through this process alone
    )
    os.close(reading)

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    code = process.wait()
    os.close(writing)
    if -code in (signal.SIGINT, signal.SIGTERM):
        return 128 - code
    if code == _ALONE:
        raise DeepLabError(
            f"{worker}: the other workers did not come within {_PATIENCE // 60} minutes: expected all of "
            f"{', '.join(worker.addresses)}; look there, then start all workers again"
        )
    if code < 0:
        name = signal.Signals(-code).name
        raise DeepLabError(
            f"{worker} ended by {name}{', as TensorFlow does when' if name == 'SIGABRT' else '; perhaps'} another "
            "worker died or cannot be reached; look there, then start all workers again with --resume"
        )
    return code
