"""Make exports of small networks without training, for the tests."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from deeplabctl.export.exporter import ExampleImages, ExportPlan, ExportRequest
from deeplabctl.export.onnx_graph import build_onnx
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.ops import LINEAR, Norm
from deeplabctl.prediction.settings import PredictionSettings
from deeplabctl.weights.fitting import Network
from deeplabctl.weights.model_info import ExportFacts, ModelInfo
from deeplabctl.weights.sources import READERS

CLASSES = ("background", "car", "tree", "road", "sky")


def small_network(architecture="largefov", width=0.05, seed=3):
    """Return a random network of five classes."""
    info = ModelInfo(CLASSES, architecture, width)
    return Network(info, ARCHITECTURES[architecture].random_weights(len(CLASSES), width, seed), [], [], len(CLASSES))


def settled_network(architecture, width=0.1):
    """Return a random network with norms that have the statistics of some images, as those of a trained network.

    Its classes are about equally likely. The scores hardly differ, as many such layers make a lot of a rounding.
    """
    import tensorflow as tf

    from deeplabctl.network.keras_model import assign_weights, model_variables, zero_model
    from deeplabctl.network.ops.operation import ForwardPass, fold

    table, weights = ARCHITECTURES[architecture], small_network(architecture, width).weights
    model = zero_model(architecture, len(CLASSES), width=width)
    assign_weights(model, {name: np.ones_like(array) if "gamma" in name else array for name, array in weights.items()})
    norms = {above.name: row for above, row in pairwise(table.rows) if isinstance(row, Norm)}
    layers = {layer.name: layer for layer in model.layers}
    forward = ForwardPass(layers, norms)
    linear = ForwardPass(layers, {name: dataclasses.replace(norm, activation=LINEAR) for name, norm in norms.items()})
    pixels = np.stack([table.preprocessing(smooth(97, 129, seed)) for seed in range(4)])

    def compute(row, inputs):
        values = row.compute(inputs, linear)
        if row.name not in norms and not row.is_classifier:
            return values
        mean, variance = (found.numpy() for found in tf.nn.moments(values, [0, 1, 2]))
        if values.shape[1] == 1:  # means of whole images: too few for statistics
            mean, variance = np.zeros_like(mean), mean**2 + variance
        if row.is_classifier:
            kernel, bias = model.get_layer(row.name).weights
            bias.assign((bias - mean) * (factor := 0.1 / np.sqrt(variance)))
            kernel.assign(kernel * factor)
        else:
            layer = model.get_layer(norms[row.name].name)
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
        return row.compute(inputs, forward)

    fold(table.rows, pixels, compute)
    info = ModelInfo(CLASSES, architecture, width)
    arrays = {name: variable.numpy() for name, variable in model_variables(model).items()}
    return Network(info, arrays, [], [], len(CLASSES))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def smooth(height, width, seed=0):
    """Return an image of a few colours that pass into each other."""
    coarse = Image.fromarray(noise(3, 4, seed))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def write_images(folder, count=3):
    """Write images of different sizes; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        paths.append(folder / f"{number}.png")
        Image.fromarray(smooth(70 + number, 90 + 7 * number, number)).save(paths[-1])
    return paths


def export_plan(folder, format_, architecture="largefov", precision="float32", flip=False, network=None, **changes):
    """Return the plan of an export of a random network into a folder."""
    request = ExportRequest(format_, precision=precision, out=Path(folder, f"net.{format_}"), **changes)
    settings = PredictionSettings(scales=ARCHITECTURES[architecture].scales, flip=flip)
    images = ExampleImages(tuple(write_images(Path(folder, "images"))), "images")
    calibration = images if precision == "int8" else None
    return ExportPlan(
        request, Path("net.keras"), network or small_network(architecture), settings, request.out, images, calibration
    )


def write_onnx(path, network=None, scales=(1.0,), flip=False):
    """Write an ONNX file with facts, as the command does, but without running it; returns the facts."""
    network = network or small_network()
    net = ARCHITECTURES[network.info.architecture].graph(network.weights)
    path.write_bytes(build_onnx(net, ARCHITECTURES[network.info.architecture], scales, flip=flip).SerializeToString())
    facts = ExportFacts("onnx", "float32", scales, flip)
    return READERS["onnx"](path).write_facts(dataclasses.replace(network.info, export=facts))


def write_lookalike(path, format_):
    """Write a TFLite file or a SavedModel with facts, whose graph no runtime could read; returns the facts."""
    network = small_network()
    if format_ == "tflite":
        path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(256)))
    else:
        (path / "variables").mkdir(parents=True)
        (path / "saved_model.pb").write_bytes(b"\x08\x01graph")
        (path / "variables" / "variables.index").write_bytes(b"index")
    facts = ExportFacts(format_, "float32", (1.0,), False)
    return READERS[format_](path).write_facts(dataclasses.replace(network.info, export=facts))
