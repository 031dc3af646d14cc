"""Hold one program in a process of its own: read a task a line, run it once, print its seconds and its peak of memory.

Tasks are JSON: {"size": 513} predicts an image, {"train": 321, "batch": 4} makes a training step, and
{"product": "float32"} multiplies two matrices. TensorFlow and PyTorch do not go into one process.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.network import ARCHITECTURES

SIDE = 2048  # of the matrices


def noisy_image(size: int) -> np.ndarray:
    """Return a smooth image with noise (size, size, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (size // 32 + 2, size // 32 + 2, 3))
    smooth = np.kron(coarse, np.ones((32, 32, 1)))[:size, :size]
    return np.clip(smooth + rng.normal(0, 16, smooth.shape), 0, 255).astype(np.uint8)


def batch(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return preprocessed images (N, S, S, 3) float32, and labels (N, S, S) with some void."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 21, (count, size, size))
    labels[:, :9] = 255
    return rng.normal(0, 0.5, (count, size, size, 3)).astype(np.float32), labels


def deeplabctl(engine: str, precision: str, threads: int, architecture: str) -> dict[str, Callable]:
    """Return what deeplabctl does, with an engine."""
    from deeplabctl.prediction import PredictionSettings, Segmenter
    from deeplabctl.weights.fitting import Network
    from deeplabctl.weights.model_info import ModelInfo

    weights = ARCHITECTURES[architecture].random_weights(21, 1.0, 0)
    if engine == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    network = Network(ModelInfo(VOC_CLASSES, architecture=architecture), weights, [], [], 21)
    steps = {}

    @cache
    def segmenter() -> Segmenter:
        return Segmenter.from_network(network, PredictionSettings(engine=engine, precision=precision))

    def train(size: int, count: int) -> float:
        import tensorflow as tf

        from deeplabctl.network.keras_model import POLICIES, assign_weights, zero_model
        from deeplabctl.recipe import recipe_from_dict
        from deeplabctl.training.step import TrainingStep

        if not steps:
            dropout = ARCHITECTURES[architecture].dropout
            model = zero_model(architecture, 21, dtype=POLICIES[precision], dropout=dropout)
            assign_weights(model, weights)
            solver = {
                "batch_size": count, "learning_rate": 1e-3, "label_stride": ARCHITECTURES[architecture].label_stride,
            }  # fmt: skip
            settings = {"model": {"architecture": architecture}, "solver": solver, "run": {"engine": engine}}
            recipe = recipe_from_dict(settings, "benchmark")
            images, labels = batch(size, count)
            tensors = tf.constant(images), tf.constant(labels.astype(np.int32)), tf.range(count, dtype=tf.int64)
            steps["step"], steps["data"] = TrainingStep(model, recipe, [1.0] * 21), tensors
        return steps["step"](*steps["data"], 0)

    return {"predict": lambda image: segmenter().label(image), "train": train}


def torch(precision: str, threads: int, architecture: str) -> dict[str, Callable]:
    """Return what PyTorch does, with weights and images in channels_last."""
    import torch as pytorch
    from torch_network import Network, TrainingStep, label

    pytorch.set_num_threads(threads)
    dtype = getattr(pytorch, precision)
    weights = ARCHITECTURES[architecture].random_weights(21, 1.0, 0)
    network = Network(architecture, weights).eval().to(dtype)
    steps = {}

    def train(size: int, count: int) -> float:
        if not steps:
            images, labels = batch(size, count)
            x = pytorch.from_numpy(images.transpose(0, 3, 1, 2)).to(memory_format=pytorch.channels_last)
            steps["data"] = x, pytorch.from_numpy(labels)
            steps["step"] = TrainingStep(Network(architecture, weights), dtype)
        return steps["step"](*steps["data"])

    def product(name: str) -> float:
        a = pytorch.ones((SIDE, SIDE), dtype=getattr(pytorch, name))
        return float((a @ a)[0, 0])

    return {"predict": lambda image: label(network, image, dtype), "train": train, "product": product}


def onnxruntime(model: Path, threads: int) -> dict[str, Callable]:
    """Return what ONNX Runtime does with a model that `deeplabctl export` wrote."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    return {"predict": lambda image: session.run([output], {name: image[None]})[0][0]}


def openvino(model: Path, threads: int) -> dict[str, Callable]:
    """Return what OpenVINO does with the same ONNX model, in float32."""
    from openvino import Core

    core = Core()
    core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
    request = core.compile_model(core.read_model(str(model)), "CPU").create_infer_request()
    return {"predict": lambda image: request.infer({"image": image[None]})["label"][0]}


def litert(model: Path, threads: int) -> dict[str, Callable]:
    """Return what LiteRT does, by XNNPACK, with a TFLite model that `deeplabctl export` wrote."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model.with_suffix(".tflite")), num_threads=threads)
    signature = interpreter.get_signature_runner()
    return {"predict": lambda image: signature(image=image[None])["label"][0]}


def export(path: Path, architecture: str) -> None:
    """Write the network as an ONNX and as a TFLite model."""
    from deeplabctl.cli.app import app
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.weights.model_info import ModelInfo
    from deeplabctl.weights.sources.keras_files import save_model

    model = zero_model(architecture, 21)
    assign_weights(model, ARCHITECTURES[architecture].random_weights(21, 1.0, 0))
    weights = path.with_suffix(".keras")
    save_model(weights, model, ModelInfo(VOC_CLASSES, architecture=architecture))
    for kind in ("onnx", "tflite"):
        command = ["export", str(weights), "--to", kind, "--out", str(path.with_suffix(f".{kind}")), "--quiet"]
        app(command, standalone_mode=False)


def main() -> None:
    """Answer the tasks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--architecture", default="largefov")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    kind, _, precision = options.program.partition(":")
    if kind == "export":
        export(options.model, options.architecture)
        return
    exported = {"onnxruntime": onnxruntime, "openvino": openvino, "litert": litert}
    if kind in exported:
        runs = exported[kind](options.model, options.threads)
    elif kind == "pytorch":
        runs = torch(precision, options.threads, options.architecture)
    else:
        runs = deeplabctl(kind.removeprefix("deeplabctl-"), precision, options.threads, options.architecture)
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        image = noisy_image(task["size"]) if "size" in task else None
        begin = time.perf_counter()
        if image is not None:
            result = runs["predict"](image)
        elif "train" in task:
            result = runs["train"](task["train"], task["batch"])
        else:
            result = runs["product"](task["product"])
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        answer = {"seconds": seconds, "megabytes": peak}
        if image is not None:
            np.save(task["result"], np.asarray(result, np.uint8))
        else:
            answer["result"] = result
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
