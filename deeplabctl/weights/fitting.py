"""Fit the weights of a file to an architecture.

VGG-16's fully connected layers become the convolutions of LargeFOV and of ASPP's branches (arXiv 1412.7062, section
3.1, and 1606.00915, section 4.1): of fc6's 7x7 kernel every third row and column is kept, and a random 1,024 of the
4,096 filters of fc6 and of fc7.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe.net import is_renamed
from deeplabctl.classes import IGNORE_LABEL, VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, Parameter, Weights, layer_of, part_of
from deeplabctl.network.ops import BIAS, KERNEL
from deeplabctl.network.ops.norm import VARIANCE
from deeplabctl.reporting import Note, Reporter, counted, silent
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.published import PublishedWeights, published_as
from deeplabctl.weights.sources.torch_names import CONFIG
from deeplabctl.weights.weight_file import WeightFile

_LISTED, _NAMED = 12, 3  # layers that do not fit, and that lack a bias, at most
_VGG_SHAPES = {"fc6": [(25088, 4096), (4096,)], "fc7": [(4096, 4096), (4096,)]}  # [kernel (in, out), bias]


@dataclass(frozen=True)
class Network:
    """Hold a network as arrays: facts and weights of every layer, ready to be built."""

    info: ModelInfo
    weights: Weights
    new_layers: list[str]  # start random: they are not in the file, or its classifier has another class count
    notes: list[str]  # what was done to the layers of the file, in words
    classes_in_file: int | None  # of the file's classifier; None without one
    assumed: list[str] = field(default_factory=list)  # what a file of another program does not state, in words


@dataclass(frozen=True)
class ExportedNetwork:
    """Hold a network that an exported file computes; it has no weights that can be read."""

    info: ModelInfo
    path: Path


def open_network(source: WeightFile | str | os.PathLike[str], report: Reporter = silent) -> Network | ExportedNetwork:
    """Read a whole network as `read_network` does, or an export; raises WeightsError."""
    file = source if isinstance(source, WeightFile) else open_weights(source)
    if file.info is not None and file.info.export is not None:
        return ExportedNetwork(file.info, file.path)
    return read_network(file, report)


def read_network(source: WeightFile | str | os.PathLike[str], report: Reporter = silent) -> Network:
    """Read a whole network from a weight file of any kind, which was opened or is opened here, or a run directory.

    Reports what the file does not state and is assumed. Raises WeightsError for a file without a classifier, for one
    that does not fit, and for an export.
    """
    file = source if isinstance(source, WeightFile) else open_weights(source)
    network = fit_weights(file)
    if network.classes_in_file is None:
        raise WeightsError(
            f"weights {file.path}: expected a whole network, got layers without a classifier "
            f"({', '.join(_layers(file.weights))}); train one from them: deeplabctl train with `init=FILE`"
        )
    if file.info is not None and len(file.info.classes) != network.classes_in_file:
        raise WeightsError(
            f"weights {file.path}: expected a classifier of {len(file.info.classes)} classes, "
            f"got {network.classes_in_file}"
        )
    if network.new_layers:
        raise WeightsError(
            f"weights {file.path}: expected a whole network, got one without {', '.join(network.new_layers)}"
        )
    for text in network.assumed:
        report(Note(f"weights {file.path}: {text}"))
    return network


def fit_weights(
    file: WeightFile,
    *,
    architecture: str | None = None,
    num_classes: int | None = None,
    width: float | None = None,
    seed: int = 0,
) -> Network:
    """Fit the weights of a file to an architecture.

    Architecture, width and class count are the file's, where they are not given; without a classifier there are VOC's
    21 classes. Layers that are not in the file, and a classifier of another class count, start random (`new_weights`).
    Class names are those that the file states, else those of published weights whose file has this name, else VOC's for
    21 classes, else numbers. Raises WeightsError, with an entry for each layer that does not fit, for other shapes,
    unknown layers and numbers that are not finite.
    """
    asked, architecture = architecture, architecture or file.architecture()
    weights, notes = _map_layers(file.weights, architecture, seed, file.path)
    classes_in_file = _classes_of(weights, architecture, file.path)
    if asked is None and classes_in_file and (other := file.other_dilation(architecture)):
        raise WeightsError(
            f"weights {file.path}: expected {other}; {architecture} computes something else with these weights; to "
            f"take them nevertheless, name it in deeplabctl convert-caffe: `architecture={architecture}`"
        )
    if classes_in_file == 1 and file.info is None and num_classes in (None, 1):
        raise WeightsError(
            f"weights {file.path}: expected a classifier of 2 classes or more, got one of 1: a sigmoid's, which is not "
            "computed here; train one of 2 classes, such as background and object, from it (`init=FILE`)"
        )
    if num_classes is None and file.classes and classes_in_file not in (None, len(file.classes)):
        raise WeightsError(
            f"weights {file.path}: expected the names of {classes_in_file} classes, as many as its classifier has, got "
            f"{len(file.classes)} in the {CONFIG} beside it; correct its id2label"
        )
    assumed = _assumptions(file, architecture if asked is None else None, classes_in_file if num_classes is None else 0)
    num_classes = num_classes or classes_in_file or len(VOC_CLASSES)
    width = file.width(architecture) if width is None else width
    weights, widened = _with_new_branches(weights, architecture, num_classes, width)
    notes += widened
    found = weights
    weights, new_layers = _complete(found, architecture, num_classes, width, seed, file.path)
    if biases := [layer for name in weights if name not in found and (layer := layer_of(name)) not in new_layers]:
        some = f"{', '.join(biases[:_NAMED])}{', ...' if biases[_NAMED:] else ''}"
        assumed.append(f"{counted(len(biases), 'layer')} without a bias in the file, taken as 0: {some}")
    known = published_as(file.path.name)
    if file.info is not None and len(file.info.classes) == num_classes:
        classes, provenance = file.info.classes, file.info.provenance
    else:
        stated = file.classes if len(file.classes) == num_classes else ()
        classes, provenance = stated or _default_classes(known, num_classes), {**file.source}
        if known is not None and known.max_side:
            provenance["recipe"] = {"data": {"max_side": known.max_side}}
    info = ModelInfo(classes, architecture, width, provenance)
    return Network(info, weights, new_layers, notes, classes_in_file, [] if file.info or known else assumed)


def _assumptions(file: WeightFile, architecture: str | None, num_classes: int | None) -> list[str]:
    """Return what a file does not state, in words: of an architecture and classes that were taken from it."""
    assumed = []
    if architecture and (strides := file.output_strides(architecture)):
        others = ", ".join(f"{name} at {stride}" for name, stride in strides.items() if name != architecture)
        assumed.append(
            f"the output stride is not stated: {architecture} computes at {strides[architecture]}, and {others} with "
            "the same weights (deeplabctl convert-caffe with `architecture`)"
        )
    scales = [f"{scale:g}" for scale in ARCHITECTURES[architecture].scales] if architecture and num_classes else []
    if len(scales) > 1 and not file.has_scales:
        assumed.append(f"the scales are not stated: taken as {', '.join(scales)} (`scales=1` for one)")
    if num_classes == len(VOC_CLASSES) and not file.classes:
        assumed.append(f"the names of the classes are not stated: taken as VOC's, as there are {num_classes}")
    return assumed


def _classes_of(weights: Weights, architecture: str, path: Path) -> int | None:
    """Return the class count of the classifiers in a file; None without any."""
    kernels = {name: weights.get(f"{name}/{KERNEL}", np.empty(())) for name in ARCHITECTURES[architecture].classifiers}
    counts = {name: kernel.shape[-1] for name, kernel in kernels.items() if kernel.shape}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} of {count}" for name, count in counts.items())
        raise WeightsError(f"weights {path}: expected classifiers of one class count, got {found}")
    return next(iter(counts.values()), None)


def _map_layers(weights: Weights, architecture: str, seed: int, path: Path) -> tuple[Weights, list[str]]:
    """Return the weights as the architecture names and shapes them, and notes of what was changed.

    VGG-16's fully connected layers become convolutions; classifiers may have other names. Other layers that the
    architecture does not know stay, for `_complete` to refuse.
    """
    notes: list[str] = []
    if weights.get("fc6/kernel", np.empty(0)).ndim == 2:  # fully connected, as VGG-16's is
        weights, notes = _vgg_to_deeplab(weights, architecture, seed, str(path))
    known, classifiers = _layers(ARCHITECTURES[architecture].parameters(1)), ARCHITECTURES[architecture].classifiers
    unused = ARCHITECTURES[architecture].unused_layers
    if outside := [name for name in _layers(weights) if re.fullmatch(unused, name)]:
        notes.append(f"left out: {', '.join(outside)}")
        weights = {name: array for name, array in weights.items() if layer_of(name) not in outside}
    others = [name for name in _layers(weights) if name not in known]
    missing = [name for name in classifiers if name not in _layers(weights)]
    if renamed := _other_classifiers(weights, architecture, missing, others):
        weights = {f"{renamed.get(layer_of(name), layer_of(name))}/{part_of(name)}": array
                   for name, array in weights.items()}  # fmt: skip
        notes += [f"{old} is used as the classifier {new}" for old, new in renamed.items()]
    elif len(missing) == len(classifiers) > 1 and len(others) == 1:
        count = weights.get(f"{others[0]}/{KERNEL}", np.empty(0)).shape[-1]
        weights = {name: array for name, array in weights.items() if layer_of(name) != others[0]}
        notes.append(f"{others[0]}, a classifier of {count} classes, is left out")
    return weights, notes


def _layers(weights: Mapping[str, object]) -> list[str]:
    """Return the layers of weights, in their order."""
    return list(dict.fromkeys(map(layer_of, weights)))


def _other_classifiers(weights: Weights, architecture: str, missing: list[str], others: list[str]) -> dict[str, str]:
    """Return which of the other layers are used as the missing classifiers."""
    names = ARCHITECTURES[architecture].classifiers
    if len(names) > 1:  # fc8_mine_2 in the place of fc8_voc12_2
        found = {name: [other for other in others if is_renamed(name, other)] for name in missing}
        return {matching[0]: name for name, matching in found.items() if len(matching) == 1}
    before = f"{ARCHITECTURES[architecture].convolutions[-2].name}/{KERNEL}"
    if missing and len(others) == 1 and before in weights:
        kernel = weights.get(f"{others[0]}/{KERNEL}", np.empty(0))
        if kernel.ndim == 4 and kernel.shape[:3] == (1, 1, weights[before].shape[-1]):
            return {others[0]: missing[0]}
    return {}


def _with_new_branches(given: Weights, architecture: str, num_classes: int, width: float) -> tuple[Weights, list[str]]:
    """Return the weights with kernels for branches that the file's network does not have, and notes of that.

    Where a network concatenates more results than the file's did, the kernel on them starts at 0 for the others: the
    network begins as the file's. (DeepLab v3's weights without atrous branches begin a v3+.)
    """
    table, found, notes = ARCHITECTURES[architecture], dict(given), []
    shapes, channels = table.weight_shapes(num_classes, width), table.channels(num_classes, width)
    layers, in_file = {*_layers(shapes)}, {*_layers(given)}

    def is_known(branch: str) -> bool:
        """Tell whether the file has the layer that a branch ends with."""
        while branch not in layers:
            branch = table.inputs[branch][0]
        return branch in in_file

    for row, inputs in table.inputs.items():
        name, branches = f"{row}/{KERNEL}", table.inputs.get(inputs[0], ())
        array = found.get(name)
        if name not in shapes or array is None or array.ndim != 4 or len(branches) < 2:
            continue
        known = np.repeat([is_known(branch) for branch in branches], [channels[branch] for branch in branches])
        more = known.size - np.count_nonzero(known)
        if not more or shapes[name][2] != known.size or array.shape[2] != known.size - more:
            continue
        found[name] = np.zeros((*array.shape[:2], known.size, array.shape[3]), array.dtype)
        found[name][:, :, known] = array
        notes.append(f"{row}: weights of 0 for the {more} channels of layers that the file does not have")
    return found, notes


def _complete(
    given: Weights, architecture: str, num_classes: int, width: float, seed: int, path: Path
) -> tuple[Weights, list[str]]:
    """Return the weights of every layer, and the names of those that start random."""
    facts = ARCHITECTURES[architecture].parameters(num_classes, width)
    if num_classes > IGNORE_LABEL:
        raise WeightsError(f"weights {path}: expected at most {IGNORE_LABEL} classes, got {num_classes}")
    in_file, in_network = _layers(given), _layers(facts)
    wrong = [f"+ {layer} (unexpected)" for layer in in_file if layer not in in_network]
    wrong += [f"+ {name} (unexpected)" for name in given if name not in facts and layer_of(name) in in_network]
    new = [layer for layer in in_network if layer not in in_file or _has_other_classes(layer, given, facts)]
    norms = [layer for layer in in_network if f"{layer}/{KERNEL}" not in facts]
    inputs = ARCHITECTURES[architecture].inputs
    if not {*in_file} & {*norms} and (lost := [norm for norm in norms if inputs[norm][0] in in_file]):
        wrong.append(
            f"- {lost[0]} and all other norms (missing); they may be folded into the kernels: take a file with them"
        )
    weights: Weights = {}
    for name, parameter in facts.items():
        array, layer = given.get(name), layer_of(name)
        if layer in new:
            weights[name] = parameter.new_array(seed)
        elif array is None and parameter.part == BIAS:  # Caffe's bias_term: false
            weights[name] = np.zeros(parameter.shape, np.float32)
        elif array is None:
            wrong.append(f"- {name} (missing)")
        elif array.shape != parameter.shape:
            what = layer if parameter.part in (KERNEL, BIAS) else name
            wrong.append(f"- {what}: expected {parameter.shape}, got {array.shape}")
        elif not np.isfinite(array).all():
            wrong.append(f"- {layer}: expected finite numbers, got some that are not; the training had diverged")
        elif parameter.part == VARIANCE and array.min() < 0:
            wrong.append(f"- {layer}: expected variances of 0 or more, got {array.min():g}; the file is damaged")
        else:
            weights[name] = array
    if wrong or len(new) == len(in_network):
        some = "; ".join(wrong[:_LISTED] or ["no layer"])
        more = f"; and {len(wrong) - _LISTED} more" if wrong[_LISTED:] else ""
        raise WeightsError(f"weights {path} do not fit {architecture} of width {width:g}: {some}{more}")
    return weights, new


def _has_other_classes(layer: str, given: Weights, facts: Mapping[str, Parameter]) -> bool:
    """Tell whether a layer is a classifier of another class count than the network's."""
    parameter, kernel = facts.get(f"{layer}/{KERNEL}"), given.get(f"{layer}/{KERNEL}")
    if parameter is None or kernel is None or not parameter.op.is_classifier:
        return False
    return kernel.shape[-1:] != parameter.shape[-1:]


def _default_classes(known: PublishedWeights | None, count: int) -> tuple[str, ...]:
    if known is not None and len(known.class_names) == count:
        return known.class_names
    return VOC_CLASSES if count == len(VOC_CLASSES) else tuple(f"class {number}" for number in range(count))


def _vgg_to_deeplab(weights: Weights, architecture: str, seed: int, source: str) -> tuple[Weights, list[str]]:
    """Return VGG-16's layers with fc6 and fc7 as convolutions and without its ImageNet classifier, and notes of that.

    ``seed`` chooses the filters, for each branch of ASPP others. A network without fc6 takes the convolutions alone.
    Raises WeightsError for fully connected layers of other shapes.
    """
    parts = (KERNEL, BIAS)
    found = {name: [weights[f"{name}/{part}"] for part in parts if f"{name}/{part}" in weights] for name in _VGG_SHAPES}
    for name, expected in _VGG_SHAPES.items():
        if (shapes := [array.shape for array in found[name]]) != expected:
            raise WeightsError(
                f"weights {source}: layer {name}: expected VGG-16's {expected[0]}, "
                f"got {shapes[0] if shapes else 'no such layer'}"
            )
    kept = {name: array for name, array in weights.items() if layer_of(name) not in ("fc6", "fc7", "fc8")}
    firsts = [conv for conv in ARCHITECTURES[architecture].convolutions if conv.name.startswith("fc6")]
    for branch, conv in enumerate(firsts):
        chosen = decimate(found["fc6"], found["fc7"], seed, conv.channels, branch)
        for layer, (kernel, bias) in zip(("fc6", "fc7"), chosen, strict=True):
            name = conv.name.replace("fc6", layer)
            kept |= {f"{name}/{KERNEL}": kernel, f"{name}/{BIAS}": bias}
    if not firsts:
        return kept, ["fc6, fc7 and the ImageNet classifier are left out"]
    others = ", for each branch others" if len(firsts) > 1 else ""
    note = (
        f"fc6 and fc7: {firsts[0].channels} of {found['fc6'][1].size} filters chosen by seed {seed}{others}, "
        "fc6's 7x7 kernel decimated to 3x3; the ImageNet classifier is left out"
    )
    return kept, [note]


def decimate(
    fc6: list[npt.NDArray[Any]], fc7: list[npt.NDArray[Any]], seed: int, filters: int, branch: int = 0
) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Return convolutions [kernel HWIO, bias] made of fully connected fc6 and fc7, [kernel (in, out), bias].

    fc6's inputs are flattened as height 7, width 7, channel 512. The inputs of the new fc7 are the chosen filters of
    fc6.
    """
    rng = np.random.default_rng((seed, 6, branch) if branch else (seed, 6))
    first = np.sort(rng.choice(fc6[0].shape[1], filters, replace=False))
    second = np.sort(rng.choice(fc7[0].shape[1], filters, replace=False))
    kernel = fc6[0].reshape(7, 7, 512, -1)[::3, ::3][..., first]
    return [kernel, fc6[1][first]], [fc7[0][np.ix_(first, second)][None, None], fc7[1][second]]
