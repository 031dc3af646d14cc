"""Measure eval: against the bare forward pass, its memory over 1,449 images, and the scoring of 1,449 masks.

python benchmarks/evaluation.py [--compared 8] [--architecture largefov] [--width 1.0] [--engine auto]
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
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image, write_mask
from deeplabctl.evaluation.masks import score_masks
from deeplabctl.evaluation.network import score_network
from deeplabctl.evaluation.scores import METRICS
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.tensorflow_startup import start_tensorflow
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.model_info import ModelInfo

VOC_VAL = 1449  # images
ROUNDS = 3


def make_samples(folder: Path, count: int = 24) -> list[Sample]:
    """Write images and labels of VOC's size: blobs of several classes with void rims, and masks that are a bit off."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:375, :500]
    samples = []
    for number in range(count):
        objects = np.zeros((375, 500), np.uint8)
        void = np.zeros((375, 500), bool)
        for _ in range(4):
            distance = np.hypot(rows - rng.integers(60, 315), columns - rng.integers(60, 440))
            radius = rng.integers(30, 110)
            objects[distance < radius] = rng.integers(1, 21)
            void |= abs(distance - radius) < 2.5
        sample = Sample(f"image{number}", folder / f"image{number}.jpg", folder / f"label{number}.png")
        noise = rng.integers(0, 40, (375, 500, 3))
        Image.fromarray((objects[..., None] * 10 + noise).astype(np.uint8)).save(sample.image, quality=90)
        write_mask(sample.label, np.where(void, 255, objects).astype(np.uint8))
        write_mask(folder / "masks" / f"{sample.id}.png", np.roll(objects, 4, 1))
        samples.append(sample)
    return samples


def make_segmenter(architecture: str, width: float, engine: str) -> Segmenter:
    """Build a network of VOC's classes with random weights."""
    info = ModelInfo(VOC_CLASSES, architecture, width)
    network = Network(info, ARCHITECTURES[architecture].random_weights(21, width, 0), [], [], 21)
    segmenter = Segmenter.from_network(network, PredictionSettings(engine=engine))
    if segmenter.engine_class.loads_tensorflow:
        start_tensorflow()
    return segmenter


def compare(dataset: Dataset, samples: list[Sample], segmenter: Segmenter) -> None:
    """Print images a second of the bare forward pass and of the evaluation, alternating, and their ratio."""
    image = read_image(samples[0].image)
    forward, whole = [], []
    segmenter.label(image)
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in samples:
            segmenter.runner.coarse_logits(image)
        forward.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        score_network(segmenter, dataset, samples, kinds=METRICS)
        whole.append(time.perf_counter() - begin)
    ratio = statistics.median(bare / all_ for bare, all_ in zip(forward, whole, strict=True))
    speeds = [len(samples) / statistics.median(times) for times in (forward, whole)]
    print(f"{segmenter.applied.engine}, {len(samples)} images: bare forward pass {speeds[0]:.2f} images/s")
    print(f"eval with trimap and boundary F1: {speeds[1]:.2f} images/s, {ratio:.3f} of it")


def memory(dataset: Dataset, samples: list[Sample], segmenter: Segmenter) -> None:
    """Print the resident memory on the way through 1,449 images."""
    seen: list[int] = []

    def note(image: object) -> None:
        seen.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20)

    many = (samples * (VOC_VAL // len(samples) + 1))[:VOC_VAL]
    score_network(segmenter, dataset, many, kinds=METRICS, on_image=note)
    at = [100, 400, 700, 1000, 1300, VOC_VAL]
    print(f"resident memory after {', '.join(map(str, at))} images: {', '.join(str(seen[n - 1]) for n in at)} MiB")


def masks(dataset: Dataset, samples: list[Sample], folder: Path) -> None:
    """Print the time that 1,449 masks take."""
    many = (samples * (VOC_VAL // len(samples) + 1))[:VOC_VAL]
    begin = time.perf_counter()
    score_masks(folder, dataset, many)
    seconds = time.perf_counter() - begin
    print(f"{VOC_VAL} masks of 500x375 with trimap and boundary F1: {seconds:.1f} s on {available_cpus()} cores")


def main() -> None:
    """Print all of it, with the machine's load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--compared", type=int, default=8)
    parser.add_argument("--architecture", default="largefov")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, samples = Dataset(folder, VOC_CLASSES), make_samples(folder)
        masks(dataset, samples, folder / "masks")
        memory(dataset, samples, make_segmenter("largefov", 1 / 16, options.engine))
        segmenter = make_segmenter(options.architecture, options.width, options.engine)
        compare(dataset, (samples * (options.compared // 24 + 1))[: options.compared], segmenter)


if __name__ == "__main__":
    main()
