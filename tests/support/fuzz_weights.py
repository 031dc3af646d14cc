"""Write small weight files of every format for the fuzz, read changed ones, and check what is made of them."""

import io
import json
import pickle
import shutil
import zipfile

import h5py
import numpy as np
from caffe_bytes import block, legacy, number, packed, v1, v2
from caffe_files import DATA, TINY
from tensorflow_bytes import frozen_graph, write_checkpoint
from tflite_bytes import tflite
from torch_bytes import isht_name, kazuto_name, port_tensors, safetensors, zipped
from torch_bytes import legacy as legacy_torch

from deeplabctl.caffe.prototxt import check_geometry, read_prototxt
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction.segmenter import Segmenter
from deeplabctl.prediction.settings import expected_score, resolve
from deeplabctl.recipe import read_recipe
from deeplabctl.weights.conversion import inspect_weights, plan_conversion
from deeplabctl.weights.fitting import open_network, read_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.model_info import ModelInfo

CLASSES = ("background", "car", "tree")


def layers():
    """Return {layer: (kernel, bias)}."""
    weights = ARCHITECTURES["largefov"].random_weights(len(CLASSES), 1 / 32, seed=5)
    names = dict.fromkeys(name.rpartition("/")[0] for name in weights)
    return {name: (weights[f"{name}/kernel"], weights[f"{name}/bias"]) for name in names}


def write_keras_files(folder):
    from dataclasses import asdict

    recipe = asdict(read_recipe("shapes"))
    expect = {"miou": 0.5, "tolerance": 0.01, "images": 2, "source": "a test"}
    provenance = {"data": "shapes", "split": "train", "recipe": recipe, "expect": expect, "step": 9, "miou": 0.4}
    info = ModelInfo(CLASSES, "largefov", 1 / 32, provenance)
    with zipfile.ZipFile(folder / "net.keras", "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", _hdf5())
        archive.writestr("deeplabctl.json", info.to_json())


def write_keras_hdf5(folder):
    (folder / "net.weights.h5").write_bytes(_hdf5())
    with h5py.File(folder / "vgg.h5", "w") as file:
        names = [f"block{n}_conv" for n in range(13)]
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel", b"bias"]
            group["kernel"], group["bias"] = np.zeros((3, 3, 2, 2), np.float32), np.zeros(2, np.float32)


def _hdf5():
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for index, (kernel, bias) in enumerate(layers().values()):
            values = file.create_group(f"layers/conv2d{f'_{index}' if index else ''}/vars")
            values["0"], values["1"] = kernel, bias
    return buffer.getvalue()


def write_caffemodels(folder):
    (folder / "tiny.caffemodel").write_bytes(TINY.read_bytes())
    kernel, bias = legacy(2, 3, 1, 1) + packed(5, range(6)), legacy(1, 1, 1, 2) + packed(5, [1, 2])
    (folder / "v1.caffemodel").write_bytes(block(1, "net") + v1("conv1_1", kernel, bias))
    (folder / "v2.caffemodel").write_bytes(block(1, "net") + v2("conv1_1", kernel, bias))
    (folder / "a.solverstate").write_bytes(number(1, 100) + block(2, "net.caffemodel") + block(3, kernel))
    with h5py.File(folder / "net.caffemodel.h5", "w") as file:
        for name, (kernel, bias) in layers().items():
            file[f"data/{name}/0"], file[f"data/{name}/1"] = kernel.transpose(3, 2, 0, 1), bias


def write_prototxts(folder):
    for path in sorted(DATA.glob("*.prototxt"))[:3]:
        shutil.copyfile(path, folder / path.name)


def check_prototxt(folder, path, out):
    names = check_geometry(read_prototxt(path), width=0.125)
    assert names


def write_pickles(folder):
    for protocol in (0, 2, 4):
        (folder / f"protocol{protocol}.pkl").write_bytes(pickle.dumps(_variables(), protocol))


def write_tf_checkpoint(folder):
    """Write net.index and net.data-00000-of-00001 as tf.train.Saver does."""
    write_checkpoint(folder / "net", _variables())


def write_frozen_graphs(folder):
    (folder / "frozen_inference_graph.pb").write_bytes(frozen_graph(_variables(), {"conv1_1/w": 2}))


def _variables():
    return {f"{name}/{part}": array for name, pair in layers().items() for part, array in zip("wb", pair, strict=True)}


def write_torch_files(folder):
    """Write a narrow network as PyTorch does, in both containers and with both ports' names."""
    weights = ARCHITECTURES["resnet101"].random_weights(len(CLASSES), 1 / 64, seed=5)
    (folder / "old.pth").write_bytes(legacy_torch(port_tensors(weights, kazuto_name)))
    zipped(folder / "new.pth", port_tensors(weights, isht_name))


def write_safetensors(folder):
    weights = ARCHITECTURES["resnet101"].random_weights(len(CLASSES), 1 / 64, seed=5)
    (folder / "net.safetensors").write_bytes(safetensors(port_tensors(weights, kazuto_name)))


def write_tflite_graphs(folder):
    """Write a network, every second layer of integers."""
    rows = []
    for index, (name, (kernel, bias)) in enumerate(layers().items()):
        kernel, quantization = kernel.transpose(3, 0, 1, 2), (None, None)
        if index % 2:
            kernel, bias = np.uint8(128 + 100 * kernel.clip(-1, 1)), bias.astype(np.int32)
            quantization = (0.01, 128), (0.005, 0)
        rows.append((f"MobilenetV2/{name}/weights", kernel, bias, False, 1, quantization))
    (folder / "net.tflite").write_bytes(tflite(rows))


def write_exports(folder):
    from exports import write_lookalike, write_onnx

    write_onnx(folder / "net.onnx")
    write_lookalike(folder / "net.tflite", "tflite")
    write_lookalike(folder / "net.savedmodel", "savedmodel")


def read_export(folder, path, out):
    """Read an export's facts, and run the ONNX file, whose graph is as it was if it was not refused."""
    from exports import noise

    root = folder / path.relative_to(folder).parts[0]
    network = open_network(root)
    assert 1 <= len(network.info.classes) <= 255
    settings = resolve({}, network.info)
    json.dumps(settings.to_dict(), allow_nan=False)
    if network.info.export is not None and network.info.export.format == "onnx":
        Segmenter.from_network(network, settings).label(noise(9, 9))


def write_other_files(folder):
    (folder / "a.txt").write_text("2007_000032\n")
    (folder / "a.json").write_text("{}")
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "a.html").write_text("<!DOCTYPE html><html></html>")
    np.savez(folder / "a.npz", a=np.zeros(3))
    np.save(folder / "a.npy", np.zeros(3))


def read_weights(folder, path, out):
    """Read a weight file in every way: its shapes, as a whole network, to convert it, to train from it."""
    shapes = open_weights(path).shapes
    found = inspect_weights(path)
    json.dumps(found, allow_nan=False)
    first = {name.rpartition("/")[0]: list(shape) for name, shape in reversed(shapes.items())}
    assert first == {layer["name"]: layer["kernel"] for layer in found["layers"]}
    conversion = plan_conversion(path, out / "net.keras")
    for array in conversion.network.weights.values():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    network = read_network(path)
    info = network.info
    assert 1 <= len(info.classes) <= 255
    json.dumps(resolve({}, info).to_dict(), allow_nan=False)
    expected_score(info, "val", 2, resolve({}, info))
