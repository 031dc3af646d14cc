"""Give PyTorch's tensors our names: those of the ports of DeepLab-ResNet, of torchvision and of transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, Weights
from deeplabctl.network.ops import DepthwiseConvolution

# kazuto1011/deeplab-pytorch: (base.)layer4.block8.conv3x3.conv.weight is res4b7_branch2b's kernel.
_KAZUTO = re.compile(r"layer([2-5])\.block(\d{1,2})\.(reduce|conv3x3|increase|shortcut)\.(conv|bn)")
_KAZUTO_BRANCHES = {"reduce": "branch2a", "conv3x3": "branch2b", "increase": "branch2c", "shortcut": "branch1"}
_KAZUTO_REST = {"layer1.conv1.conv": "conv1", "layer1.conv1.bn": "bn_conv1", "fc": "fc"}
_KAZUTO_HEADS = re.compile(r"aspp\.c([0-3])")

# isht7/pytorch-deeplab-resnet: Scale.layer3.7.conv2.weight is the same; torchvision's names.
_ISHT = re.compile(r"layer([1-4])\.(\d{1,2})\.(conv|bn|downsample\.)([0-3])")
_ISHT_REST = {"conv1": "conv1", "bn1": "bn_conv1"}
_ISHT_HEADS = re.compile(r"layer5\.conv2d_list\.([0-3])")

# torchvision's DeepLab v3: our tables are named after its modules. Its ResNets, and timm's, have the backbone's names
# without that word, which are those of isht7's body; but their strides and their preprocessing are the backbone's.
_TORCHVISION = re.compile(r"(backbone|classifier|aux_classifier)(\.\w+)+")

# transformers' MobileNetV2ForSemanticSegmentation: mobilenet_v2.layer.0.expand_1x1.convolution.weight is the kernel of
# expanded_conv_1_expand.
_TRANSFORMERS = re.compile(
    r"((?:mobilenet_v2|segmentation_head)\.\w+)(?:\.(\d{1,3}))?(?:\.(expand_1x1|conv_3x3|reduce_1x1))?"
    r"(?:\.first_conv)?\.(convolution|normalization)"
)
_BRANCHES = {"expand_1x1": "expand", "conv_3x3": "depthwise", "reduce_1x1": "project"}
_TRANSFORMERS_REST = {
    "mobilenet_v2.conv_stem": "Conv", "mobilenet_v2.conv_1x1": "Conv_1",
    "segmentation_head.conv_pool": "image_pooling", "segmentation_head.conv_aspp": "aspp0",
    "segmentation_head.conv_projection": "concat_projection", "segmentation_head.classifier": "logits_semantic",
}  # fmt: skip

# transformers writes the settings of a network beside its weights.
CONFIG, _LARGEST_CONFIG = "config.json", 1 << 20  # bytes; it has some thousands
LAST_BLOCK, _WITHOUT_DILATIONS = "expanded_conv_16_depthwise", 32  # MobileNet's output stride

# What the programs that apply DeepLab-ResNet at several scales put before all names.
_SCALES = re.compile(r"(base|Scale)\.")

# What training programs put before all names.
_PREFIX = re.compile(r"((module|model|net|network|_orig_mod)\.)*")

_NORM_PARTS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_CONV_PARTS = {"weight": "kernel", "bias": "bias"}
_COUNTER = "num_batches_tracked"


def weights_of_tensors(tensors: Mapping[str, npt.NDArray[Any]], path: Path) -> Weights:
    """Return the tensors by our names, kernels HWIO, float32; raises WeightsError for another network's."""
    depthwise = _depthwise_layers()
    inner = [_PREFIX.sub("", name, count=1) for name in tensors]
    stages = {name.partition(".")[0] for name in inner}
    is_resnet = "layer4" in stages and "layer5" not in stages
    found: Weights = {}
    unknown: list[str] = []
    for full, name, tensor in zip(tensors, inner, tensors.values(), strict=True):
        module, _, part = full.rpartition(".")
        if part == _COUNTER:
            continue
        name = _SCALES.sub("", name, count=1).rpartition(".")[0]
        name = _layer(f"backbone.{name}" if is_resnet else name)
        is_norm = name.startswith("bn") or f"{module}.running_mean" in tensors
        ours = (_NORM_PARTS if is_norm else _CONV_PARTS).get(part)
        if not name or ours is None:
            unknown.append(full)
            continue
        if f"{name}/{ours}" in found:
            raise WeightsError(f"weights {path}: tensor {full[:80]}: expected one {name}/{ours}, got several")
        if tensor.dtype.kind != "f":
            raise WeightsError(
                f"weights {path}: tensor {full[:80]}: expected floats, got {tensor.dtype}; quantized networks are not "
                "read, take the one that it was made from"
            )
        axes = None
        if ours == "kernel":
            if tensor.ndim not in (2, 4):
                raise WeightsError(
                    f"weights {path}: tensor {full[:80]}: expected a kernel, got the shape {tensor.shape}"
                )
            axes = (1, 0) if tensor.ndim == 2 else (2, 3, 0, 1) if name in depthwise else (2, 3, 1, 0)
        with np.errstate(over="ignore"):  # a double beyond float32 becomes infinite, and is refused
            found[f"{name}/{ours}"] = np.array(tensor.transpose(axes), np.float32, order="C")
    if unknown or not found:
        some = ", ".join(name[:80] for name in unknown[:3]) or "none"
        raise WeightsError(
            f"weights {path}: expected the tensors of DeepLab-ResNet in PyTorch (base.layer1.conv1.conv.weight or "
            "Scale.conv1.weight, ...), of torchvision's DeepLab v3 (backbone.conv1.weight, ...) or of transformers' "
            f"(mobilenet_v2.conv_stem...), got others: {some}{', ...' if len(unknown) > 3 else ''}"
        )
    return found


def have_scales(tensors: Mapping[str, object]) -> bool:
    """Tell whether tensors of these names are of a program that applies them at several scales."""
    return any(_SCALES.match(_PREFIX.sub("", name, count=1)) for name in tensors)


def stated_facts(path: Path) -> tuple[dict[str, tuple[int, int]], tuple[str, ...]]:
    """Return what transformers' config.json beside a file states of a MobileNet v2.

    That is the dilation of the last block, by the output stride, and the names of the classes. Both are empty without
    such a text, and for another network's.
    """
    beside = path.parent / CONFIG
    try:
        if not beside.is_file() or beside.stat().st_size > _LARGEST_CONFIG:
            return {}, ()
        config = json.loads(beside.read_bytes())
        if config["model_type"] != "mobilenet_v2":
            return {}, ()
        stride, names = int(config.get("output_stride", 0)), config.get("id2label", {})
        classes = tuple(str(names[str(number)]) for number in range(len(names)))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}, ()
    if len(set(classes)) < len(classes) or all(re.fullmatch(r"LABEL_\d+", name) for name in classes):
        classes = ()  # as transformers calls them where nobody named them
    return {LAST_BLOCK: (_WITHOUT_DILATIONS // stride,) * 2} if stride > 0 else {}, classes


def _layer(name: str) -> str:
    """Return our name of a layer; "" for an unknown one."""
    if match := _KAZUTO.fullmatch(name):
        stage, block, branch, kind = match.groups()
        return _body(stage, int(block), _KAZUTO_BRANCHES[branch], kind)
    if match := _ISHT.fullmatch(name):
        stage, block, kind, number = match.groups()
        if kind == "downsample.":
            branch, kind = "branch1", {"0": "conv", "1": "bn"}.get(number, "")
        else:
            branch = {"1": "branch2a", "2": "branch2b", "3": "branch2c"}.get(number, "")
        return _body(str(int(stage) + 1), int(block) + 1, branch, kind) if kind and branch else ""
    if match := _KAZUTO_HEADS.fullmatch(name) or _ISHT_HEADS.fullmatch(name):
        return f"fc1_voc12_c{match[1]}"
    if _TORCHVISION.fullmatch(name):
        return name.replace(".", "_")
    if match := _TRANSFORMERS.fullmatch(name):
        module, number, branch, kind = match.groups()
        block = "" if number is None else f"_{int(number) + 1}"
        layer = f"expanded_conv{block}_{_BRANCHES[branch]}" if branch else _TRANSFORMERS_REST.get(module, "")
        return f"{layer}_BatchNorm" if layer and kind == "normalization" else layer
    return (_KAZUTO_REST | _ISHT_REST).get(name, "")


def _body(stage: str, block: int, branch: str, kind: str) -> str:
    """Return the name of a layer in a block; ``block`` counts from 1."""
    letter = "abc"[block - 1 : block] if stage in "25" else "a" if block == 1 else f"b{block - 1}"
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{letter}_{branch}"


@cache
def _depthwise_layers() -> frozenset[str]:
    """Return the names of our depthwise convolutions, whose kernels are (channels, 1, height, width) in PyTorch."""
    rows = (row for network in ARCHITECTURES.values() for row in network.rows)
    return frozenset(row.name for row in rows if isinstance(row, DepthwiseConvolution))


def from_bfloat16(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return numbers of bfloat16, given as integers, as float32, whose upper halves they are."""
    return (values.astype(np.uint32) << 16).view(np.float32)
