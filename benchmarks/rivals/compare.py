"""Compare deeplabctl with PyTorch and runtimes: the same weights, the same images, in turns, as ratios.

pip install 'deeplabctl[bench]'
python benchmarks/rivals/compare.py [--architecture deeplabv3-mnv2] [--threads 1 2] [--sizes 321 513] [--rounds 5]
    [--parts predict train]

Every program has a process of its own; they run in turns, one at a time. A figure is a median over the rounds; the
first one does not count. Programs that are not installed are left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from prediction_engine import processor  # noqa: E402

PREDICTION = [
    "deeplabctl-numba:float32", "deeplabctl-onnxruntime:float32", "deeplabctl-tensorflow:float32", "pytorch:float32",
    "pytorch:bfloat16", "onnxruntime", "openvino", "litert",
]  # fmt: skip
EXPORTED = "onnxruntime", "openvino", "litert"
TRAINING = [
    "deeplabctl-numba:float32", "deeplabctl-tensorflow:float32", "pytorch:float32",
    "deeplabctl-numba:bfloat16", "deeplabctl-tensorflow:bfloat16", "pytorch:bfloat16",
]  # fmt: skip
PACKAGES = {
    "pytorch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert",
    "deeplabctl-tensorflow": "tensorflow", "deeplabctl-onnxruntime": "onnxruntime",
}  # fmt: skip
SIDE = 2048  # of the products, as in worker.py


def is_installed(program: str) -> bool:
    """Tell whether a program's package is there."""
    package = PACKAGES.get(program.partition(":")[0])
    if package is None or has_package(package):
        return True
    print(f"{program} is left out: {package} is not installed (pip install 'deeplabctl[bench]')")
    return False


def has_package(name: str) -> bool:
    """Tell whether a package is there."""
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


class Worker:
    """Run a program's tasks in a process of its own."""

    def __init__(self, program: str, threads: int, architecture: str, model: Path = Path()) -> None:
        command = [sys.executable, str(HERE / "worker.py"), program, "--threads", str(threads)]
        command += ["--architecture", architecture, "--model", str(model)]
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        environment = os.environ | limits | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self._line().strip() != "ready":
            raise SystemExit(f"{program} does not start")

    def run(self, **task: Any) -> dict[str, Any]:
        """Run a task and return what the worker says."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        line = self._line()
        if not line:
            raise SystemExit(f"a worker ended: {task}")
        found: dict[str, Any] = json.loads(line)
        return found

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def in_turns(workers: dict[str, Worker], rounds: int, **task: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the answers of each, round by round, without the first."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for _ in range(rounds + 1):
        for name, worker in workers.items():
            answers[name].append(worker.run(**task))
    return {name: found[1:] for name, found in answers.items()}


def table(answers: dict[str, list[dict[str, Any]]], notes: dict[str, str], base: str) -> None:
    """Print medians, their ratios to the base, and notes."""
    seconds = {name: statistics.median(answer["seconds"] for answer in found) for name, found in answers.items()}
    for name, median in seconds.items():
        spread = [answer["seconds"] for answer in answers[name]]
        memory = max(answer["megabytes"] for answer in answers[name])
        print(
            f"  {name:30} {median:7.3f} s ({min(spread):.3f} to {max(spread):.3f})  {median / seconds[base]:5.2f}  "
            f"{memory:6,.0f} MiB {notes.get(name, '')}"
        )


def predictions(threads: int, architecture: str, sizes: Sequence[int], rounds: int, folder: Path) -> None:
    """Compare predictions from an image to its label."""
    model = folder / "net.onnx"
    programs = [name for name in PREDICTION if is_installed(name) and (name not in EXPORTED or model.exists())]
    workers = {name: Worker(name, threads, architecture, model) for name in programs}
    for size in sizes:
        print(f"{architecture}, prediction {size}x{size}, {threads} thread(s), relative to deeplabctl:")
        labels, notes, answers = {}, {}, {name: [] for name in workers}
        for round_ in range(rounds + 1):
            for name, worker in workers.items():
                answer = worker.run(size=size, result=str(folder / "label.npy"))
                labels[name] = np.load(folder / "label.npy")
                if round_:
                    answers[name].append(answer)
        for name, label in labels.items():
            notes[name] = f"labels differ at {np.mean(label != labels[programs[0]]):.1e}"
        table(answers, notes, programs[0])
    for worker in workers.values():
        worker.end()


def training(threads: int, architecture: str, rounds: int) -> None:
    """Compare training steps at crop 321 with 4 images."""
    for precision in ("float32", "bfloat16"):
        programs = [name for name in TRAINING if name.endswith(precision) and is_installed(name)]
        workers = {name: Worker(name, threads, architecture) for name in programs}
        print(f"{architecture}, training step, 4 crops of 321, {precision}, {threads} thread(s), relative to the last:")
        table(in_turns(workers, rounds, train=321, batch=4), {}, programs[-1])
        for worker in workers.values():
            worker.end()


def roof(threads: int) -> None:
    """Print how fast the processor multiplies large matrices: what no direct convolution exceeds."""
    if not is_installed("pytorch"):
        return
    worker = Worker("pytorch:float32", threads, "largefov")
    for precision in ("float32", "bfloat16"):
        best = min(worker.run(product=precision)["seconds"] for _ in range(6))
        print(f"product of matrices, {precision}, {threads} thread(s): {2 * SIDE**3 / best / 1e9:,.0f} GFLOP/s")
    worker.end()


def export(folder: Path, architecture: str) -> None:
    """Write the network as models of runtimes, in a process of its own."""
    command = [sys.executable, str(HERE / "worker.py"), "export", "--threads", "2", "--architecture", architecture]
    command += ["--model", str(folder / "net.onnx")]
    subprocess.run(command, check=True, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"})


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", default="largefov")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--sizes", type=int, nargs="+", default=[321, 513])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--parts", nargs="+", choices=["roof", "predict", "train"], default=["roof", "predict", "train"]
    )
    options = parser.parse_args()
    names = ("tensorflow", "torch", "onnxruntime", "openvino", "ai-edge-litert", "numba", "numpy")
    versions = [f"{name} {version(name)}" for name in names if has_package(name)]
    print(f"{processor()}; {', '.join(versions)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "predict" in options.parts and any(is_installed(name) for name in EXPORTED):
            export(folder, options.architecture)
        for threads in options.threads:
            if "roof" in options.parts:
                roof(threads)
            if "predict" in options.parts:
                predictions(threads, options.architecture, options.sizes, options.rounds, folder)
            if "train" in options.parts:
                training(threads, options.architecture, options.rounds)


if __name__ == "__main__":
    main()
