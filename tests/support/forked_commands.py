"""Run commands in forks of a process that has loaded the packages already, on disks that fail or end them.

Loading TensorFlow takes seconds, a fork milliseconds. The process that is forked has one thread of its own and never
starts TensorFlow, so that each fork starts it anew.
"""

import json
import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MODULES = [
    "tensorflow", "keras", "h5py", "matplotlib.pyplot", "PIL.PngImagePlugin", "PIL.JpegImagePlugin",
    "deeplabctl.cli.app", "deeplabctl.data.check", "deeplabctl.prediction.segmenter", "deeplabctl.training.run",
]  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """Hold how a command ended."""

    code: int  # 137: killed
    out: str
    err: str
    operations: list  # [kind, path] on the disk

    @property
    def errors(self):
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class CommandServer:
    """Run ``deeplabctl`` in forks; use it in a ``with`` block."""

    def __init__(self):
        command = [sys.executable, str(HERE / "forked_commands.py")]
        path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
        environment = os.environ | {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def run(self, *arguments, cwd, **disk):
        """Run a command in ``cwd``; ``disk``: the arguments of `FailingDisk`, and ``kill=True`` for `KillingDisk`."""
        job = {"argv": [str(argument) for argument in arguments], "cwd": str(cwd), **disk}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def spread(numbers, count):
    """Return ``count`` of the numbers, from the first to the last."""
    numbers = list(numbers)
    count = min(count, len(numbers))
    return [numbers[round(index * (len(numbers) - 1) / max(count - 1, 1))] for index in range(count)]


def serve(modules):
    """Read jobs from stdin, run each in a fork, and write how it ended to stdout."""
    for module in modules:
        __import__(module)
    for line in sys.stdin:
        job = json.loads(line)
        files = [Path(job["cwd"], name) for name in (".stdout", ".stderr", ".operations")]
        child = os.fork()
        if child == 0:
            _run(job, *files)
        _, status = os.waitpid(child, 0)
        texts = [file.read_text("utf-8", "replace") if file.exists() else "" for file in files]
        for file in files:
            file.unlink(missing_ok=True)
        operations = [json.loads(text) for text in texts[2].splitlines()]
        ended = {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1], "operations": operations}
        print(json.dumps(ended), flush=True)  # noqa: T201


def _run(job, out, err, operations):
    """Run a command in this process and end it."""
    from failing_disk import FailingDisk, KillingDisk

    from deeplabctl.cli.app import main

    os.chdir(job.pop("cwd"))
    for descriptor, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.argv = ["deeplabctl", *job.pop("argv")]
    disk = (KillingDisk if job.pop("kill", False) else FailingDisk)(Path.cwd(), **job)
    code = 99
    try:
        with disk.inserted():
            main()
    except SystemExit as exit_:
        code = exit_.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        operations.write_text("".join(json.dumps(entry) + "\n" for entry in disk.operations))
        os._exit(code)


if __name__ == "__main__":
    serve(MODULES)
