"""Compare the networks of the family: parameters, products, time and memory of a prediction and of a training step.

python benchmarks/architectures.py [--networks largefov aspp-l] [--precision float32]

Each network has a process of its own, one after another. Ratios are to the first.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from prediction_engine import noise, processor

from deeplabctl.arrays import Size
from deeplabctl.classes import VOC_CLASSES
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import KERNEL, Operation
from deeplabctl.network.ops.operation import fold

CLASSES = len(VOC_CLASSES)


def multiplications(architecture: str, size: int) -> float:
    """Return how many products the convolutions of a prediction of size x size pixels take, by their definition."""
    shapes, facts = ARCHITECTURES[architecture].weight_shapes(CLASSES), ARCHITECTURES[architecture]
    total = 0.0

    def side(row: Operation, inputs: list[Size]) -> Size:
        nonlocal total
        after = row.size(inputs)
        total += math.prod(after) * math.prod(shapes.get(f"{row.name}/{KERNEL}", (0,)))
        return after

    for scale in facts.scales:
        scaled = facts.scaled_size(size, scale)
        fold(facts.prediction_rows, (scaled, scaled), side)
    return total


def seconds_of(function, *arguments: object) -> float:
    """Return the median of three calls after a first one."""
    function(*arguments)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def megabytes() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def predict(architecture: str, engine: str) -> dict[str, float]:
    """Return seconds and megabytes of a prediction of 513x513 pixels, at the network's scales."""
    from deeplabctl.prediction import PredictionSettings, Segmenter
    from deeplabctl.weights.fitting import Network
    from deeplabctl.weights.model_info import ModelInfo

    weights = ARCHITECTURES[architecture].random_weights(CLASSES, 1.0, 0)
    network = Network(ModelInfo(VOC_CLASSES, architecture), weights, [], [], CLASSES)
    settings = PredictionSettings(scales=ARCHITECTURES[architecture].scales, engine=engine)
    found = seconds_of(Segmenter.from_network(network, settings).label, noise(513))
    return {"seconds": found, "megabytes": megabytes()}


def train(architecture: str, precision: str, batch: int) -> dict[str, float]:
    """Return seconds and megabytes of a training step of crops of 321, at the network's scales."""
    import tensorflow as tf

    from deeplabctl.network.keras_model import POLICIES, assign_weights, zero_model
    from deeplabctl.recipe import recipe_from_dict
    from deeplabctl.training.step import TrainingStep

    recipe = recipe_from_dict({"model": {"architecture": architecture}, "solver": {"batch_size": batch}}, "benchmark")
    model = zero_model(architecture, CLASSES, dropout=0.5, dtype=POLICIES[precision])
    assign_weights(model, ARCHITECTURES[architecture].random_weights(CLASSES, 1.0, 0))
    step = TrainingStep(model, recipe, [1.0] * CLASSES)
    images = tf.constant(np.random.default_rng(0).normal(0, 50, (batch, 321, 321, 3)).astype(np.float32))
    labels = tf.constant(np.random.default_rng(0).integers(0, CLASSES, (batch, 321, 321)).astype(np.int32))
    found = seconds_of(step, images, labels, tf.range(batch, dtype=tf.int64), 0)
    return {"seconds": found, "megabytes": megabytes()}


def measured(part: str, architecture: str, options: argparse.Namespace) -> dict[str, float]:
    """Return what a process of its own measures."""
    command = [sys.executable, __file__, "--measure", part, "--networks", architecture]
    command += ["--precision", options.precision, "--engine", options.engine, "--batch", str(options.batch)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--engine", choices=["numba", "tensorflow"], default="numba", help="of predictions")
    parser.add_argument("--batch", type=int, default=1, help="crops of a training step")
    parser.add_argument("--measure", choices=["predict", "train"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name = options.networks[0]
        is_prediction = options.measure == "predict"
        found = predict(name, options.engine) if is_prediction else train(name, options.precision, options.batch)
        print(json.dumps(found))
        return
    print(f"{processor()}; prediction by {options.engine}, training in {options.precision} on {options.batch}")
    first: dict[str, float] = {}
    for name in options.networks:
        parameters = sum(np.prod(shape) for shape in ARCHITECTURES[name].weight_shapes(CLASSES).values())
        products = multiplications(name, 513)
        line = f"{name}: {parameters / 1e6:.1f} million parameters, {products / 1e9:.1f} G products at 513"
        for part in ("predict", "train"):
            found = measured(part, name, options)
            seconds, memory = found["seconds"], found["megabytes"]
            ratio = seconds / first.setdefault(part, seconds)
            line += f"; {part} {seconds:.2f} s ({ratio:.2f}), {memory:,.0f} MiB"
        print(line, flush=True)


if __name__ == "__main__":
    main()
