"""Fuzz the readers in a process of its own, with limits of time and memory.

To run one case again, and look at its files:

    PYTHONPATH=tests/support python tests/support/fuzz.py coco 37 --keep /tmp/case
"""

import argparse
import contextlib
import faulthandler
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

MEMORY = 2 << 30  # bytes that a reader may take beside the program
WALL_SECONDS = 120  # without any work; then it hangs
HERE = Path(__file__).parent


def run_readers(counts, folder):
    """Run the first cases of each reader; returns {reader: {"sound": n, "refused": n, "failures": [...], ...}}.

    A case that ends the process is a failure, and the others are continued after it.
    """
    results = {}
    for name in counts:
        results[name] = {"sound": 0, "refused": 0, "failures": [], "slowest": 0.0}
    left = {name: [0, count] for name, count in counts.items()}
    progress = folder / "progress"
    while left:
        progress.write_text("")
        arguments = [f"{name}:{first}:{last}" for name, (first, last) in left.items()]
        command = [sys.executable, str(HERE / "fuzz.py"), "--many", *arguments, "--progress", str(progress)]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]), "MALLOC_ARENA_MAX": "2",
            "OPENBLAS_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"), "MPLCONFIGDIR": str(folder / "cache"),
        }  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        for line in done.stdout.splitlines():
            part = json.loads(line)
            result = results[part["reader"]]
            for key in ("sound", "refused"):
                result[key] += part[key]
            result["failures"] += part["failures"]
            result["slowest"] = max(result["slowest"], part["slowest"])
            del left[part["reader"]]
        if left:  # the process has ended in a case
            name, _, number = progress.read_text().rpartition(" ")
            if name not in left or "Traceback" in done.stderr:  # the fuzz itself has failed
                raise AssertionError(f"the fuzz ended with {done.returncode}: {done.stderr[-3000:]}")
            number = int(number)
            how = f"case {number}: the process ended with {done.returncode}: {done.stderr[-3000:]}"
            results[name]["failures"].append(how + replay(name, number))
            left[name][0] = number + 1
            if left[name][0] >= left[name][1]:
                del left[name]
    return results


def replay(name, number):
    """Return how to run a case again."""
    return f"\nto run it again: PYTHONPATH=tests/support python tests/support/fuzz.py {name} {number}"


def run_range(reader, first, last, progress=None, root=None):
    """Run the cases of a reader; returns what `run_readers` does."""
    from fuzz_case import Sandbox, Watch, run_case

    result = {"reader": reader.name, "sound": 0, "refused": 0, "failures": [], "slowest": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(Path(root or folder), reader).make()
        os.chdir(sandbox.folder)
        cache = os.environ.get("XDG_CACHE_HOME", folder)
        watch = Watch([sandbox.out, sandbox.out.with_name(".out."), cache])
        for number in range(first, last):
            if progress:
                Path(progress).write_text(f"{reader.name} {number}")
            faulthandler.dump_traceback_later(WALL_SECONDS, exit=True)
            begin = time.process_time()
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    result[run_case(sandbox, watch, number)] += 1
            except AssertionError as error:
                result["failures"].append(f"case {number}: {error}{replay(reader.name, number)}")
            result["slowest"] = max(result["slowest"], time.process_time() - begin)
            if root is None:
                sandbox.restore()
        faulthandler.cancel_dump_traceback_later()
        os.chdir("/")
    return result


def limit_memory():
    """Let this process take no more than MEMORY beside what it has already."""
    used = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    limit = int(used.split()[1]) * 1024 + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def main():
    from fuzz_readers import READERS

    parser = argparse.ArgumentParser()
    parser.add_argument("reader", nargs="?", choices=[reader.name for reader in READERS])
    parser.add_argument("case", nargs="?", type=int)
    parser.add_argument("--keep", type=Path, help="a new folder to leave the case's files in")
    parser.add_argument("--many", nargs="*", help="READER:FIRST:LAST, for the tests")
    parser.add_argument("--progress")
    arguments = parser.parse_args()
    readers = {reader.name: reader for reader in READERS}
    warnings.simplefilter("error")  # what a user would see on the terminal
    for category in (DeprecationWarning, ResourceWarning, ImportWarning):
        warnings.simplefilter("ignore", category)
    faulthandler.enable()
    limit_memory()
    if arguments.many is None:
        if arguments.keep:
            shutil.rmtree(arguments.keep, ignore_errors=True)
        result = run_range(readers[arguments.reader], arguments.case, arguments.case + 1, root=arguments.keep)
        print("\n".join(result["failures"]) or result)  # noqa: T201
        return
    for part in arguments.many:
        name, first, last = part.split(":")
        print(json.dumps(run_range(readers[name], int(first), int(last), arguments.progress)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
