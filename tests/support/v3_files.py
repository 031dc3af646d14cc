"""Name the weights of DeepLab v3's and v3+'s networks as their own programs do, and draw them by a rule."""

import json
import lzma
import re
import zlib
from functools import cache

import numpy as np
from caffe_files import ROOT

# Networks of the original programs: ours, the names of its weights, and the depth multiplier.
NETS = {
    "mnv2_dm05_os16": ("deeplabv3-mnv2", "mnv2_dm05", 0.5),
    "mnv2_dm05_os8": ("deeplabv3-mnv2-os8", "mnv2_dm05", 0.5),
    "mnv2_dm10_os16": ("deeplabv3-mnv2", "mnv2_dm10", 1.0),
    "mnv2_dm10_os8": ("deeplabv3-mnv2-os8", "mnv2_dm10", 1.0),
    "mnv2_dm10_os16_plus": ("deeplabv3plus-mnv2", "mnv2_dm10_plus", 1.0),
    "tv_mnv3": ("deeplabv3-mobilenetv3", "tv_mnv3", 1.0),
    "tv_r50": ("deeplabv3-resnet50", "tv_r50", 1.0),
    "tv_r101": ("deeplabv3-resnet101", "tv_r101", 1.0),
    "xc65_os16": ("deeplabv3plus-xception65", "xc65", 1.0),
    "xc65_os8": ("deeplabv3plus-xception65-os8", "xc65", 1.0),
}

# Values between whose names are not the beginning of our row's.
_ROWS = {
    "expanded_conv_output": "expanded_conv_project_BatchNorm",
    "image_pooling": "image_pooling_BatchNorm",
    "backbone_relu": "backbone_bn1",
    "classifier_3": "classifier_2",
}


def row_of(tensor, rows):
    """Return the name of our row that computes a tensor of the authors' program, or a module of torchvision."""
    name = re.sub(r"^(MobilenetV2|xception_65)/|/xception_module", "", tensor)
    name = re.sub(r"(/BatchNorm)?/(Relu6?|add|FusedBatchNormV3)$", "", name).replace("depthwise_output", "depthwise")
    name = re.sub("[/.]", "_", name)
    name = _ROWS.get(name, name.removesuffix("_output"))
    return [row.name for row in rows if f"{row.name}_".startswith(f"{name}_")][-1]


def deviation(found, expected):
    """Return the largest difference as a share of the largest value."""
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


@cache
def names():
    """Return the names and shapes of the original programs' weights: see tests/data/README.md."""
    return json.loads(lzma.decompress((ROOT / "v3" / "names.json.xz").read_bytes()))


def rule_weights(net, narrow=1):
    """Return the weights of a network by their names in its program; channels are divided by ``narrow``."""
    rule = names()[net]
    shapes = {name: [size // narrow if size > 21 else size for size in shape]
              for name, shape in rule["variables"].items()}  # fmt: skip
    return {name: draw(name, shape, rule["gains"]) for name, shape in shapes.items()}


def draw(name, shape, gains):
    """Return one variable: a function of its name. The first pattern of ``gains`` that is in the name holds."""
    seed = zlib.crc32(name.encode())
    rng, leaf = np.random.default_rng(seed), re.split(r"[/.]", name)[-1]
    if leaf == "num_batches_tracked":
        return np.array(seed % 100000, np.int64)
    if leaf in ("moving_variance", "running_var"):
        return rng.uniform(0.7, 1.3, shape).astype(np.float32)
    if leaf == "gamma" or (leaf == "weight" and len(shape) == 1):
        return rng.uniform(0.8, 1.2, shape).astype(np.float32)
    if len(shape) == 1:  # beta, bias, means
        return rng.normal(0, 0.1, shape).astype(np.float32)
    fan = (1, 2, 3) if leaf == "weight" else (0, 1, 3) if leaf == "depthwise_weights" else (0, 1, 2)
    gain = next((factor for pattern, factor in gains if re.search(pattern, name)), 1)
    values = rng.normal(0, abs(gain) * np.sqrt(2 / np.prod([shape[axis] for axis in fan])), shape)
    return (values - (values.mean(fan, keepdims=True) if gain < 0 else 0)).astype(np.float32)


def our_name(variable):
    """Return our name of a variable of the authors' TensorFlow program."""
    *scope, part = variable.split("/")
    if scope[0] in ("MobilenetV2", "xception_65"):
        del scope[0]
    kept = [each for each in scope if each != "xception_module"]
    ours = {"weights": "kernel", "depthwise_weights": "kernel", "biases": "bias"}.get(part, part)
    return f"{'_'.join(kept)}/{ours}"


@cache
def our_weights(net):
    """Return the weights of a network by our names, without counters and torchvision's auxiliary classifier."""
    given = rule_weights(net)
    if not net.startswith("tv_"):
        return {our_name(name): array for name, array in given.items()}
    norms = {name.rpartition(".")[0] for name in given if name.endswith("running_mean")}
    norm_parts = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    found = {}
    for name, array in given.items():
        layer, _, part = name.rpartition(".")
        if part == "num_batches_tracked" or layer.startswith("aux_classifier"):
            continue
        part = norm_parts[part] if layer in norms else {"weight": "kernel"}.get(part, part)
        if array.ndim == 4:  # OIHW; a depthwise kernel has one input, and becomes HWC1
            array = array.transpose((2, 3, 0, 1) if array.shape[1] == 1 and array.shape[2] > 1 else (2, 3, 1, 0))
        found[f"{layer.replace('.', '_')}/{part}"] = array
    return found


def transformers_tensors(net, narrow=1):
    """Return the weights of a network as transformers has them, with its last layer, and counters."""
    variables = rule_weights(net, narrow)
    found = {}
    for name, entry in names()["hf_mnv2"].items():
        variable = entry["tf"] or ""
        if variable in variables:
            axes = (2, 3, 0, 1) if variable.endswith("depthwise_weights") else (3, 2, 0, 1)
            array = variables[variable]
            found[name] = array.transpose(axes) if array.ndim == 4 else array
        else:
            found[name] = np.ones([2] * len(entry["shape"]), np.float32) if variable else np.array(7, np.int64)
    return found
