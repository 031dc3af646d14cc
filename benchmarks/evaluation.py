"""Measure eval: against the bare forward pass, its memory over 1,449 images, and the scoring of 1,449 masks.

python benchmarks/evaluation.py [images]     # of each pass that is compared; 8 by default
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.cli.tensorflow_startup import start_tensorflow
from deeplabctl.data.dataset import Dataset, Sample
from deeplabctl.data.images import read_image, write_mask
from deeplabctl.evaluation.masks import score_masks
from deeplabctl.network import ARCHITECTURES
from deeplabctl.parallel import available_cpus
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


def make_segmenter(width: float, pad: str):
    """Build a random net of VOC's classes."""
    from deeplabctl.network.keras_model import assign_weights, build_model
    from deeplabctl.prediction import PredictionSettings, Segmenter

    model = build_model("largefov", 21, width=width)
    assign_weights(model, ARCHITECTURES["largefov"].random_weights(21, width, 0))
    return Segmenter(model, ModelInfo(VOC_CLASSES, width=width), PredictionSettings(pad))


def compare(dataset: Dataset, samples: list[Sample], width: float) -> None:
    """Print images a second of the bare forward pass and of the evaluation, alternating, and their ratio."""
    from deeplabctl.evaluation.network import score_network
    from deeplabctl.evaluation.scores import METRICS

    segmenter = make_segmenter(width, "paper")
    image = read_image(samples[0].image)
    prepared = segmenter._prepared(image)
    forward, whole = [], []
    segmenter.label(image)
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in samples:
            segmenter._label(*prepared, image.shape[:2]).numpy()
        forward.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        score_network(segmenter, dataset, samples, kinds=METRICS)
        whole.append(time.perf_counter() - begin)
    ratio = statistics.median(bare / all_ for bare, all_ in zip(forward, whole, strict=True))
    speeds = [len(samples) / statistics.median(times) for times in (forward, whole)]
    print(f"width {width:g} at 513x513, {len(samples)} images: bare forward pass {speeds[0]:.2f} images/s")
    print(f"eval with trimap and boundary F1: {speeds[1]:.2f} images/s, {ratio:.3f} of it")


def memory(dataset: Dataset, samples: list[Sample]) -> None:
    """Print the resident memory on the way through 1,449 images."""
    from deeplabctl.evaluation.network import score_network
    from deeplabctl.evaluation.scores import METRICS

    seen: list[int] = []

    def note(image: object) -> None:
        seen.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20)

    many = (samples * (VOC_VAL // len(samples) + 1))[:VOC_VAL]
    score_network(make_segmenter(1 / 16, "tight"), dataset, many, kinds=METRICS, on_image=note)
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
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset, samples = Dataset(folder, VOC_CLASSES), make_samples(folder)
        masks(dataset, samples, folder / "masks")
        start_tensorflow()
        memory(dataset, samples)
        compare(dataset, (samples * 4)[: 4 * count], 0.25)
        compare(dataset, (samples * (count // 24 + 1))[:count], 1.0)


if __name__ == "__main__":
    main()
