"""Run commands in forks of a process that has loaded modules already, also on disks that fail or end them.

Loading the command line takes a third of a second and TensorFlow some, a fork milliseconds. The process that is forked
has one thread of its own and never starts TensorFlow, so that each fork starts it anew.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
LIGHT = ("deeplabctl.cli.app",)
WHOLE = (
    "tensorflow", "keras", "h5py", "matplotlib.backends.backend_agg", "matplotlib.pyplot", "numba", "onnxruntime",
    "PIL.PngImagePlugin", "PIL.JpegImagePlugin", "pydantic.type_adapter", "small_training", "deeplabctl.cli.app",
    "deeplabctl.data.check", "deeplabctl.engine.convolution", "deeplabctl.engine.winograd_transforms",
    "deeplabctl.export.exporter", "deeplabctl.prediction.run", "deeplabctl.prediction.segmenter",
    "deeplabctl.training.run",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """Hold how a command ended."""

    code: int  # 137: killed
    out: str
    err: str
    modules: list  # those that are loaded at the end, without their submodules
    operations: list  # [kind, path] on the disk

    @property
    def errors(self):
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


class CommandServer:
    """Run ``deeplabctl`` in forks of a process that has loaded ``modules``; use it in a ``with`` block."""

    def __init__(self, modules):
        command = [sys.executable, str(HERE / "forked_commands.py"), *modules]
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

    def run(self, *arguments, cwd, environment=None, shallow=False, **disk):
        """Run a command in ``cwd``, in the environment in which this server was started or in another one.

        ``shallow``: with `small_training.shallow_network`.
        ``disk``: the arguments of `FailingDisk`; ``kill=True`` for `KillingDisk`; ``fail_at=None`` to count only.
        """
        job = {
            "argv": [str(argument) for argument in arguments], "cwd": str(cwd), "environment": environment,
            "shallow": shallow, **disk,
        }  # fmt: skip
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
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr", "facts")]
        for line in sys.stdin:
            for file in files:
                file.write_text("")
            child = os.fork()
            if child == 0:
                _run(json.loads(line), *files)
            _, status = os.waitpid(child, 0)
            out, err, facts = (file.read_text("utf-8", "replace") for file in files)
            ended = {"code": os.waitstatus_to_exitcode(status), "out": out, "err": err}
            print(json.dumps({"modules": [], "operations": [], **ended, **json.loads(facts or "{}")}), flush=True)  # noqa: T201


def _run(job, out, err, facts):
    """Run a command in this process and end it."""
    os.chdir(job.pop("cwd"))
    for descriptor, file, way in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        os.dup2(os.open(file, way), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    sys.argv = ["deeplabctl", *job.pop("argv")]
    if environment := job.pop("environment"):
        os.environ.clear()
        os.environ.update(environment)
    disk, code = None, 1
    try:
        from deeplabctl.cli.app import main

        with ExitStack() as around:
            if job.pop("shallow"):
                from small_training import shallow_network

                around.enter_context(shallow_network())
            if job:
                from failing_disk import FailingDisk, KillingDisk

                disk = (KillingDisk if job.pop("kill", False) else FailingDisk)(Path.cwd(), **job)
                around.enter_context(disk.inserted())
            main()
    except SystemExit as exit_:
        code = exit_.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        modules = sorted({name.partition(".")[0] for name in sys.modules})
        facts.write_text(json.dumps({"modules": modules, "operations": disk.operations if disk else []}))
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1:])
