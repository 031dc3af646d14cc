"""Measure how cost grows, and draw it: over the images of a set, the batch of a training step, the size of an image.

python benchmarks/growth.py [--out growth.png] [--parts images batch size]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from prediction_engine import processor

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction import PredictionSettings, Segmenter
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.model_info import ModelInfo

Points = list[tuple[float, float]]


def segmenter(width: float) -> Segmenter:
    """Return a LargeFOV of a width with random weights."""
    info = ModelInfo(VOC_CLASSES, width=width)
    network = Network(info, ARCHITECTURES["largefov"].random_weights(21, width, 0), [], [], 21)
    return Segmenter.from_network(network, PredictionSettings())


def smooth(height: int, width: int) -> np.ndarray:
    """Return a picture without fine detail."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def images() -> Points:
    """Return images/s of the job behind `infer`, from files to masks, for sets of more and more images."""
    with tempfile.TemporaryDirectory() as folder:
        return images_in(Path(folder))


def images_in(folder: Path) -> Points:
    """Return what `images` does, with the files in a folder."""
    from deeplabctl.prediction.inputs import find_images
    from deeplabctl.prediction.outputs.plan import OutputRequest, plan_outputs
    from deeplabctl.prediction.run import run, segment_images
    from deeplabctl.reporting import silent

    network, found = segmenter(0.125), []
    network.label(smooth(120, 160))
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(5000):
        Image.fromarray(smooth(120, 160)).save(pictures / f"{number}.jpg")
        if number + 1 in (10, 50, 200, 1000, 5000):
            plan = plan_outputs(find_images([str(pictures)]), OutputRequest(folder / f"masks{number}"))
            begin = time.perf_counter()
            results = segment_images(network, plan.todo, plan.outputs)
            run(plan, results, (), network.info.classes, silent, lambda *shown: None)
            found.append((number + 1, (number + 1) / (time.perf_counter() - begin)))
    return found


def batches() -> Points:
    """Return seconds of a training step of 1 to 8 images at full width, crop 321, float32."""
    import tensorflow as tf

    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.recipe import recipe_from_dict
    from deeplabctl.training.step import TrainingStep

    model, found = zero_model("largefov", 21, dropout=0.5), []
    assign_weights(model, ARCHITECTURES["largefov"].random_weights(21, 1.0, 0))
    rng = np.random.default_rng(0)
    for count in (1, 2, 4, 8):
        step = TrainingStep(model, recipe_from_dict({"solver": {"batch_size": count}}, "benchmark"), [1.0] * 21)
        pixels = tf.constant(rng.normal(0, 50, (count, 321, 321, 3)).astype(np.float32))
        labels = tf.constant(rng.integers(0, 21, (count, 321, 321)).astype(np.int32))
        found.append((count, timed(3, step, pixels, labels, tf.range(count, dtype=tf.int64), 0)))
    return found


def sizes() -> Points:
    """Return seconds of predictions of 0.1 to 24 megapixels at full width, 3:2 as photos are."""
    network, found = segmenter(1.0), []
    for megapixels in (0.1, 0.25, 0.5, 1, 2, 4, 8, 12, 24):
        height = round((megapixels * 1e6 / 1.5) ** 0.5)
        image = smooth(height, round(height * 1.5))
        found.append((megapixels, timed(3 if megapixels < 4 else 1, network.label, image)))
    return found


def timed(repetitions: int, function: Callable, *arguments: object) -> float:
    """Return the median seconds of some calls after a first one."""
    function(*arguments)
    seconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        function(*arguments)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


PARTS: dict[str, tuple[str, str, Callable[[], Points]]] = {
    "images": ("images of 160x120, width 0.125", "images/s", images),
    "batch": ("images in a training step, crop 321", "seconds", batches),
    "size": ("megapixels of an image", "seconds", sizes),
}


def draw(measured: dict[str, Points], path: Path) -> None:
    """Draw each part over its own axis: rates from 0, times on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    figure, axes = pyplot.subplots(1, len(measured), figsize=(4 * len(measured), 3.2), squeeze=False)
    for axis, (part, points) in zip(axes[0], measured.items(), strict=True):
        across, up, _ = PARTS[part]
        axis.plot(*zip(*points, strict=True), marker="o")
        axis.set_xscale("log")
        axis.set_xticks([x for x, _ in points], minor=False)
        axis.set_xticks([], minor=True)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if up == "seconds":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.yaxis.set_minor_formatter(
                FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
            )
        else:
            axis.set_ylim(bottom=0)
        axis.set(xlabel=across, ylabel=up)
        axis.grid(alpha=0.3)
    figure.suptitle(processor())
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Print and draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("growth.png"))
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    options = parser.parse_args()
    measured = {}
    for part in options.parts:
        across, up, measure = PARTS[part]
        measured[part] = measure()
        print(f"{up} over {across}: " + ", ".join(f"{x:g}: {y:.3g}" for x, y in measured[part]))
    draw(measured, options.out)


if __name__ == "__main__":
    main()
