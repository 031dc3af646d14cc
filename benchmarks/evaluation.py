"""Measure eval: against bare predictions of the same images, its memory over 1,449 images, and 1,449 masks' scores.

python benchmarks/evaluation.py [--compared 8] [--weights FILE --data DIR] [--engine auto]
python benchmarks/evaluation.py [--compared 8] [--architecture largefov] [--width 1.0] [--engine auto]

Without a data set, blobs on noise are made. The boundary F1 of a network with random weights, which finds many small
regions, takes ten times as long as that of a trained one.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from infer import random_segmenter
from PIL import Image

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data.dataset import Dataset, Sample, open_dataset
from deeplabctl.data.images import read_image
from deeplabctl.data.labels import write_mask
from deeplabctl.evaluation.masks import score_masks
from deeplabctl.evaluation.network import score_network
from deeplabctl.evaluation.scores import METRICS
from deeplabctl.parallel import available_cpus
from deeplabctl.prediction import Segmenter, load

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


def compare(dataset: Dataset, samples: list[Sample], segmenter: Segmenter) -> None:
    """Print images a second of bare predictions and of the evaluation, alternating, and their ratio."""
    images = [read_image(sample.image) for sample in samples]
    bare, whole = [], []
    for number in range(ROUNDS + 1):
        begin = time.perf_counter()
        for _ in segmenter.labels(enumerate(images)):
            pass
        labels = time.perf_counter()
        score_network(segmenter, dataset, samples, kinds=METRICS)
        end = time.perf_counter()
        if number:  # the first compiles
            bare.append(labels - begin)
            whole.append(end - labels)
    ratio = statistics.median(labels / all_ for labels, all_ in zip(bare, whole, strict=True))
    speeds = [len(samples) / statistics.median(times) for times in (bare, whole)]
    print(f"{segmenter.applied.engine}, {len(samples)} images: labels alone {speeds[0]:.2f} images/s")
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
    parser.add_argument("--weights")
    parser.add_argument("--data")
    parser.add_argument("--architecture", default="largefov")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, samples = Dataset(folder, VOC_CLASSES), make_samples(folder)
        masks(dataset, samples, folder / "masks")
        memory(dataset, samples, random_segmenter("largefov", 1 / 16, options.engine))
        if options.weights:
            segmenter = load(options.weights, engine=options.engine)
        else:
            segmenter = random_segmenter(options.architecture, options.width, options.engine)
        if options.data:
            dataset = open_dataset(options.data)
            samples = dataset.samples("val")
        compare(dataset, (samples * (options.compared // len(samples) + 1))[: options.compared], segmenter)


if __name__ == "__main__":
    main()
