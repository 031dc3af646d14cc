"""Turn a weight file of any origin into a model file, and tell what it contains."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network.keras_model import assign_weights, build_model
from deeplabctl.network.layers import Weights, convolutions
from deeplabctl.weights.fitting import ModelInfo, fit_weights, model_file, read_info
from deeplabctl.weights.formats import Format
from deeplabctl.weights.model_file import save_model
from deeplabctl.weights.reading import Origin, default_classes, read_origin, to_architecture, width_of
from deeplabctl.weights.tf_checkpoint import checkpoint_prefix


@dataclass(frozen=True)
class Conversion:
    """Hold what a file will become."""

    origin: Origin
    info: ModelInfo
    weights: Weights
    new: list[str]  # layers that are not in the file and start random
    said: list[str]  # what was done to the others, in words


def plan_conversion(path: Path, classes: Sequence[str] | None = None, seed: int = 0) -> Conversion:
    """Read a weight file and fit it to LargeFOV, without TensorFlow.

    ``classes`` names the classes; without it they are VOC's where there are 21, or no classifier at all. Layers that
    are not in the file start gaussian 0.01. Raises WeightsError for what does not fit.
    """
    return _fit(read_origin(model_file(path)), classes, seed)


def _fit(origin: Origin, classes: Sequence[str] | None, seed: int) -> Conversion:
    path, architecture = origin.path, "largefov"
    layers, said = to_architecture(origin, architecture, seed)
    width = read_info(path).width if origin.format is Format.OURS else width_of(layers, architecture, path)
    classifier = convolutions(architecture)[-1].name
    count = layers[classifier][0].shape[-1] if classifier in layers else len(classes or VOC_CLASSES)
    if classes is not None and len(classes) != count:
        raise WeightsError(
            f"--classes: expected {count} names, as many as the classifier of {path} has, got {len(classes)}"
        )
    weights, new = fit_weights(layers, architecture, count, width, seed, str(path))
    provenance = {"source": f"{path.name} ({origin.format.value})", "new_layers": new, "seed": seed}
    names = tuple(classes) if classes is not None else default_classes(origin, count)
    return Conversion(origin, ModelInfo(names, architecture, width, provenance), weights, new, said)


def write_conversion(conversion: Conversion, out: Path) -> int:
    """Write the model file, read it back to compare every weight, and return the number of its parameters."""
    provenance = conversion.info.provenance | {"sha256": sha256(conversion.origin.path)}
    info = dataclasses.replace(conversion.info, provenance=provenance)
    model = build_model(info.architecture, len(info.classes), width=info.width)
    assign_weights(model, conversion.weights)
    save_model(out, model, info)
    written = read_origin(out).layers
    for name, arrays in conversion.weights.items():
        if not all(np.array_equal(ours, theirs) for ours, theirs in zip(written[name], arrays, strict=True)):
            raise WeightsError(f"{out}: layer {name} reads back otherwise than it was written; the disk is failing")
    return sum(array.size for arrays in written.values() for array in arrays)


def inspect(path: Path) -> dict[str, Any]:
    """Return what a weight file contains and what it would become, without TensorFlow."""
    origin = read_origin(model_file(path))
    layers = [
        {
            "name": name,
            "kernel": list(arrays[0].shape),
            "parameters": sum(array.size for array in arrays),
            "ranges": [[float(array.min()), float(array.max())] for array in arrays if array.size],  # of each blob
        }
        for name, arrays in origin.layers.items()
    ]
    try:
        conversion = _fit(origin, None, seed=0)
        info = conversion.info
        becomes = f"{info.architecture} of width {info.width:g} with {len(info.classes)} classes"
        becomes += f"; new: {', '.join(conversion.new)}" if conversion.new else ""
        becomes = "; ".join([becomes, *conversion.said])
    except WeightsError as error:
        becomes = f"nothing: {error}"
    return {
        "file": str(origin.path),
        "format": origin.format.value,
        "sha256": sha256(origin.path),
        "parameters": sum(layer["parameters"] for layer in layers),
        "layers": layers,
        "becomes": becomes,
    }


def sha256(path: Path) -> str:
    """Return the checksum of a file; of a TensorFlow checkpoint, of its data file."""
    prefix = checkpoint_prefix(path)
    if prefix is not None:
        path = next(prefix.parent.glob(f"{prefix.name}.data-00000-of-*"), path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
