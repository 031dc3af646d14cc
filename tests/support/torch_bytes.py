"""Write ``.pth`` files as torch.save does, byte by byte, without PyTorch."""

import json
import pickle
import struct
import zipfile

import numpy as np

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "f2": "HalfStorage"}


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<i", len(raw)) + raw


def number(value):
    return b"J" + struct.pack("<i", value)


def numbers(values):
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(key, array):
    """Return the pickle of a tensor: a call of _rebuild_tensor_v2 with a storage, an offset, sizes and strides."""
    array = np.asarray(array)
    strides = [stride // array.itemsize for stride in np.zeros(array.shape, array.dtype).strides]
    storage = (
        b"(" + text("storage") + b"ctorch\n" + STORAGES[array.dtype.str[1:]].encode() + b"\n" + text(key) + text("cpu")
        + number(array.size) + b"tQ"
    )  # fmt: skip
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + number(0) + numbers(array.shape) + numbers(strides) + b"\x89" + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def state_dict(arrays, extra=b""):
    """Return the pickle of an OrderedDict of tensors, and the arrays by their storages' keys."""
    keys = {str(index): array for index, array in enumerate(arrays.values())}
    items = b"".join(text(name) + tensor(key, array) for key, (name, array) in zip(keys, arrays.items(), strict=True))
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + extra + b"u.", keys


def legacy(arrays, extra=b""):
    tree, keys = state_dict(arrays, extra)
    sizes = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)
    content = MAGIC + pickle.dumps(1001, 2) + sizes + tree + pickle.dumps(list(keys), 2)
    for array in keys.values():
        content += struct.pack("<q", array.size) + np.ascontiguousarray(array).tobytes()
    return content


def zipped(path, arrays, extra=b""):
    tree, keys = state_dict(arrays, extra)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", tree)
        archive.writestr("net/byteorder", "little")
        for key, array in keys.items():
            archive.writestr(f"net/data/{key}", np.ascontiguousarray(array).tobytes())
        archive.writestr("net/version", "3\n")


def safetensors(arrays):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        dtype = {"float32": "F32", "float16": "F16", "int64": "I64", "uint16": "BF16"}[array.dtype.name]
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += np.ascontiguousarray(array).tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


PARTS = {
    "kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias", "moving_mean": "running_mean",
    "moving_variance": "running_var",
}  # fmt: skip


def block_of(stage, letters):
    return 1 if letters == "a" else ord(letters) - ord("a") + 1 if stage in "25" else int(letters[1:]) + 1


def kazuto_name(layer, part, base="base."):
    if layer in ("conv1", "bn_conv1"):
        return f"{base}layer1.conv1.{'conv' if layer == 'conv1' else 'bn'}.{PARTS[part]}"
    if layer.startswith("fc1"):
        return f"{base}aspp.{layer[-2:]}.{PARTS[part]}"
    kind, stage, rest = ("conv", layer[3], layer[4:]) if layer.startswith("res") else ("bn", layer[2], layer[3:])
    letters, branch = rest.split("_")
    inside = {"branch1": "shortcut", "branch2a": "reduce", "branch2b": "conv3x3", "branch2c": "increase"}[branch]
    return f"{base}layer{stage}.block{block_of(stage, letters)}.{inside}.{kind}.{PARTS[part]}"


def isht_name(layer, part):
    if layer in ("conv1", "bn_conv1"):
        return f"Scale.{'conv1' if layer == 'conv1' else 'bn1'}.{PARTS[part]}"
    if layer.startswith("fc1"):
        return f"Scale.layer5.conv2d_list.{layer[-1]}.{PARTS[part]}"
    kind, stage, rest = ("conv", layer[3], layer[4:]) if layer.startswith("res") else ("bn", layer[2], layer[3:])
    letters, branch = rest.split("_")
    place = f"Scale.layer{int(stage) - 1}.{block_of(stage, letters) - 1}"
    if branch == "branch1":
        return f"{place}.downsample.{'0' if kind == 'conv' else '1'}.{PARTS[part]}"
    return f"{place}.{kind}{'abc'.index(branch[-1]) + 1}.{PARTS[part]}"


def port_tensors(weights, name_of):
    """Return a network's weights as the tensors of a PyTorch port, whose names ``name_of`` (layer, part) returns."""
    found = {}
    for name, array in weights.items():
        layer, part = name.split("/")
        found[name_of(layer, part)] = array.transpose(3, 2, 0, 1) if part == "kernel" else array
        if part == "moving_variance":
            counter = name_of(layer, part).replace("running_var", "num_batches_tracked")
            found[counter] = np.array(7, np.int64)
    return found
