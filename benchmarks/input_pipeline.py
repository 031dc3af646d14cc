"""Measure the input pipeline alone: images of VOC's size to augmented 321x321 crops. No network runs.

python benchmarks/input_pipeline.py
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabctl.data.augmentation import Augment
from deeplabctl.data.dataset import Sample
from deeplabctl.data.labels import write_mask
from deeplabctl.network.architecture import CAFFE_PREPROCESSING
from deeplabctl.training.input_pipeline import TrainingPipeline

SIZE = (375, 500)  # VOC's most frequent
TARGET = 40  # images per second on two cores


def make_samples(folder: Path, count: int = 24) -> list[Sample]:
    """Write pictures with the detail of photographs, and labels with a few objects."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8))
        image = np.asarray(coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC)).astype(int)
        image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
        label = np.zeros(SIZE, np.uint8)
        label[50:200, 60:240], label[120:300, 200:420] = 3, 15
        path = folder / f"{number}.jpg"
        Image.fromarray(image).save(path, quality=92)
        write_mask(folder / f"{number}.png", label)
        samples.append(Sample(str(number), path, folder / f"{number}.png"))
    return samples


def images_per_second(samples: list[Sample], settings: Augment, batches: int = 30) -> float:
    """Draw batches of 10 as fast as they come."""
    pipeline = TrainingPipeline(samples, settings, batch_size=10, seed=0, preprocessing=CAFFE_PREPROCESSING)
    stream = iter(pipeline.batches(0, batches + 2))
    next(stream)
    begin = time.perf_counter()
    for _ in range(batches):
        next(stream)
    return batches * 10 / (time.perf_counter() - begin)


def main() -> None:
    """Print the median of five for the papers' augmentation and for random scales."""
    with tempfile.TemporaryDirectory() as folder:
        samples = make_samples(Path(folder))
        for name, settings in {
            "crop and mirror (paper-v1, paper-v2)": Augment(),
            "scale 0.5-1.5, crop, mirror": Augment(scale=(0.5, 1.5)),
        }.items():
            rate = statistics.median(images_per_second(samples, settings) for _ in range(5))
            print(f"{name}: {rate:.0f} images/s, {rate / TARGET:.1f} times the {TARGET} aimed at")


if __name__ == "__main__":
    main()
