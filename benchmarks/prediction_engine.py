"""Compare the engines of prediction, TensorFlow's graphs and numba's kernels, at full width on random weights.

python benchmarks/prediction_engine.py [--repetitions 9] [--sizes 321 513]
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.network import ARCHITECTURES
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.model_info import ModelInfo

COMMAND = "import sys; sys.argv[0] = 'deeplabctl'; from deeplabctl.cli.app import main; main()"


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def noise(size: int) -> np.ndarray:
    """Return a picture of noise."""
    return np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)


def compare(threads: int, sizes: list[int], repetitions: int) -> None:
    """Print seconds from image to label, each engine in turn, with this many threads."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    info = ModelInfo(VOC_CLASSES)
    network = Network(info, ARCHITECTURES["largefov"].random_weights(21, 1.0, 0), [], [], 21)
    segmenter = Segmenter.from_network(network, PredictionSettings(engine="numba"))
    engines = [segmenter, segmenter.with_settings(PredictionSettings(engine="tensorflow"))]
    for size in sizes:
        image = noise(size)
        logits = [engine.runner.coarse_logits(image)[0] for engine in engines]
        labels = [engine.label(image) for engine in engines]
        error = np.abs(logits[0] - logits[1]).max() / np.abs(logits[1]).max()
        times: list[list[float]] = [[], []]
        for _ in range(repetitions):
            for engine, seconds in zip(engines, times, strict=True):
                begin = time.perf_counter()
                engine.label(image)
                seconds.append(time.perf_counter() - begin)
        ours, theirs = (statistics.median(seconds) for seconds in times)
        least = min(times[0]) / min(times[1])
        print(
            f"{size}x{size}, {threads} thread{'s' * (threads > 1)}: numba {ours * 1e3:.0f} ms / tensorflow "
            f"{theirs * 1e3:.0f} ms = {ours / theirs:.2f} (of the least times {least:.2f}); logits differ by "
            f"{error:.1e} of the largest, labels at {np.mean(labels[0] != labels[1]):.1e} of the pixels"
        )


def cold_start(repetitions: int) -> None:
    """Print the seconds of the command `infer` on one picture, in a process of its own, with kernels compiled."""
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.weights.sources.keras_files import save_model

    with tempfile.TemporaryDirectory() as folder:
        model = zero_model("largefov", 21)
        assign_weights(model, ARCHITECTURES["largefov"].random_weights(21, 1.0, 0))
        save_model(Path(folder, "net.keras"), model, ModelInfo(VOC_CLASSES))
        Image.fromarray(noise(321)).save(Path(folder, "one.jpg"))
        times: dict[str, list[float]] = {"numba": [], "tensorflow": []}
        for round_ in range(1 + repetitions):
            for engine, seconds in times.items():
                begin = time.perf_counter()
                arguments = ["infer", "one.jpg", "--weights", "net.keras", "--engine", engine, "--overwrite", "-q"]
                subprocess.run([sys.executable, "-c", COMMAND, *arguments], cwd=folder, check=True, capture_output=True)
                if round_:  # the first compiles
                    seconds.append(time.perf_counter() - begin)
        ours, theirs = (statistics.median(seconds) for seconds in times.values())
        print(f"infer one.jpg, cold: numba {ours:.1f} s / tensorflow {theirs:.1f} s = {ours / theirs:.2f}")


def main() -> None:
    """Print the processor, the versions and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="+", default=[321, 513])
    parser.add_argument("--threads", type=int, help="only this comparison, in this process")
    arguments = parser.parse_args()
    if arguments.threads:
        compare(arguments.threads, arguments.sizes, arguments.repetitions)
        return
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "numba", "numpy"))
    load = os.getloadavg()[0]
    print(f"{processor()}, {available_cpus()} CPUs, Python {platform.python_version()}, {versions}; load {load:.1f}")
    for threads in sorted({1, available_cpus()}):
        options = [f"--threads={threads}", f"--repetitions={arguments.repetitions}"]
        sizes = ["--sizes", *map(str, arguments.sizes)]
        # TensorFlow's threads are set once for a process.
        subprocess.run([sys.executable, __file__, *options, *sizes], check=True)
    cold_start(max(1, arguments.repetitions // 3))


if __name__ == "__main__":
    main()
