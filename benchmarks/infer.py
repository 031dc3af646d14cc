"""Measure infer: against bare predictions of the same images in memory, and its memory over many photos.

python benchmarks/infer.py [--photos 200] [--compared 16] [--weights FILE] [--engine auto] [PHOTO...]
python benchmarks/infer.py [--photos 200] [--compared 16] [--architecture largefov] [--width 1.0] [--engine auto]

Without photos, smooth noise of six sizes is made. A network with random weights finds many small regions in it, which
makes masks larger than those of photos.
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
from deeplabctl.prediction import PredictionSettings, Segmenter, load
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


def random_segmenter(architecture: str, width: float, engine: str) -> Segmenter:
    """Build a network of VOC's classes with random weights."""
    info = ModelInfo(VOC_CLASSES, architecture, width)
    network = Network(info, ARCHITECTURES[architecture].random_weights(21, width, 0), [], [], 21)
    segmenter = Segmenter.from_network(network, PredictionSettings(engine=engine))
    if segmenter.engine_class.loads_tensorflow:
        start_tensorflow()
    return segmenter


def infer(segmenter: Segmenter, photos: list[Path], out: Path) -> list[int]:
    """Segment photos as the command does; returns the memory after each."""
    plan = plan_outputs(photos, OutputRequest(out, overwrite=True))
    memory = []
    images = segment_images(segmenter, plan.todo, plan.outputs)
    run(plan, images, (), segmenter.info.classes, silent, lambda result, seconds: memory.append(resident()))
    return memory


def compare(segmenter: Segmenter, photos: list[Path], out: Path) -> None:
    """Print the time of infer beside that of the labels alone, of images that are in memory; both in turn."""
    images = [read_image(path) for path in photos]
    times: dict[str, list[float]] = {"images to labels": [], "infer": []}
    for number in range(ROUNDS + 1):
        begin = time.perf_counter()
        for _ in segmenter.labels(enumerate(images)):
            pass
        labels = time.perf_counter()
        infer(segmenter, photos, out)
        end = time.perf_counter()
        if number:  # the first compiles
            for name, seconds in zip(times, (labels - begin, end - labels), strict=True):
                times[name].append(seconds)
    for name, seconds in times.items():
        print(f"{name}: {len(photos) / statistics.median(seconds):.2f} images/s, median of {ROUNDS}")
    ratios = [labels / whole for labels, whole in zip(*times.values(), strict=True)]
    print(f"infer's images/s over those of the labels alone: {statistics.median(ratios):.3f} ", end="")
    print(f"({min(ratios):.3f} to {max(ratios):.3f})")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path, metavar="PHOTO")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--compared", type=int, default=16)
    parser.add_argument("--weights")
    parser.add_argument("--architecture", default="largefov")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    if options.weights:
        segmenter = load(options.weights, engine=options.engine)
    else:
        segmenter = random_segmenter(options.architecture, options.width, options.engine)
    info = segmenter.info
    print(f"engine {segmenter.applied.engine}, {available_cpus()} CPUs, {info.architecture}, width {info.width:g}")
    with tempfile.TemporaryDirectory() as folder:
        photos = options.files or make_photos(Path(folder), max(options.photos, options.compared))
        compare(segmenter, photos[: options.compared], Path(folder, "masks"))
        memory = infer(segmenter, photos[: options.photos], Path(folder, "masks"))
    quarters = [max(memory[: max(1, len(memory) * part // 4)]) for part in range(1, 5)]
    print(f"memory in MiB, highest up to each quarter of {len(memory)} photos: {quarters}")


if __name__ == "__main__":
    main()
