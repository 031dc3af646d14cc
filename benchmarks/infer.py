"""Measure infer: against the bare forward passes at the same sizes, and its memory over many photos of mixed sizes.

python benchmarks/infer.py [--photos 200] [--compared 16] [--architecture largefov] [--width 1.0] [--engine auto]
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data.images import read_image
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.tensorflow_startup import start_tensorflow
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.prediction.outputs.plan import OutputRequest, plan_outputs
from deeplabctl.prediction.run import run, segment_images
from deeplabctl.reporting import silent
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.model_info import ModelInfo

SIZES = ((500, 375), (375, 500), (500, 333), (480, 360), (640, 480), (320, 240))  # width, height
ROUNDS = 5


def make_photos(folder: Path, count: int) -> list[Path]:
    """Write photos of smooth noise, in turn of each size."""
    rng = np.random.default_rng(0)
    photos = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3)).astype(np.uint8))
        path = folder / f"photo_{number:04}.jpg"
        coarse.resize(SIZES[number % len(SIZES)], Image.Resampling.BICUBIC).save(path, quality=90)
        photos.append(path)
    return photos


def resident() -> int:
    """Return the memory of this process in MiB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def infer(segmenter: Segmenter, photos: list[Path], out: Path) -> list[int]:
    """Segment photos as the command does; returns the memory after each."""
    plan = plan_outputs(photos, OutputRequest(out, overwrite=True))
    memory = []
    images = segment_images(segmenter, plan.todo, plan.outputs)
    run(plan, images, (), VOC_CLASSES, silent, lambda result, seconds: memory.append(resident()))
    return memory


def compare(segmenter: Segmenter, photos: list[Path], out: Path) -> None:
    """Print the time of infer beside that of the network alone, on images that are in memory; both in turn."""
    images = [read_image(path) for path in photos]
    times: dict[str, list[float]] = {"forward passes": [], "images to labels": [], "infer": []}
    for number in range(ROUNDS + 1):
        begin = time.perf_counter()
        for image in images:
            segmenter.runner.coarse_logits(image)
        forward = time.perf_counter()
        for _ in segmenter.labels(enumerate(images)):
            pass
        labels = time.perf_counter()
        infer(segmenter, photos, out)
        end = time.perf_counter()
        if number:  # the first compiles
            for name, seconds in zip(times, (forward - begin, labels - forward, end - labels), strict=True):
                times[name].append(seconds)
    for name, seconds in times.items():
        print(f"{name}: {len(photos) / statistics.median(seconds):.2f} images/s, median of {ROUNDS}")
    ratios = [forward / whole for forward, whole in zip(times["forward passes"], times["infer"], strict=True)]
    print(f"infer's images/s over those of the forward passes: {statistics.median(ratios):.3f} ", end="")
    print(f"({min(ratios):.3f} to {max(ratios):.3f})")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--compared", type=int, default=16)
    parser.add_argument("--architecture", default="largefov")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    info = ModelInfo(VOC_CLASSES, options.architecture, options.width)
    network = Network(info, ARCHITECTURES[options.architecture].random_weights(21, options.width, 0), [], [], 21)
    segmenter = Segmenter.from_network(network, PredictionSettings(engine=options.engine))
    if segmenter.engine_class.loads_tensorflow:
        start_tensorflow()
    print(
        f"engine {segmenter.applied.engine}, {available_cpus()} CPUs, {options.architecture}, width {options.width:g}"
    )
    with tempfile.TemporaryDirectory() as folder:
        photos = make_photos(Path(folder), max(options.photos, options.compared))
        compare(segmenter, photos[: options.compared], Path(folder, "masks"))
        memory = infer(segmenter, photos[: options.photos], Path(folder, "masks"))
    quarters = [max(memory[: max(1, len(memory) * part // 4)]) for part in range(1, 5)]
    print(f"memory in MiB, highest up to each quarter of {len(memory)} photos: {quarters}")


if __name__ == "__main__":
    main()
