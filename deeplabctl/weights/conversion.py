"""Convert weight files of every format to model files, and show what they contain."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe.prototxt import check_geometry, read_prototxt
from deeplabctl.class_files import read_classes
from deeplabctl.errors import OutputError, WeightsError
from deeplabctl.files import check_new_file
from deeplabctl.network import ARCHITECTURES, layer_of
from deeplabctl.network.keras_model import assign_weights, zero_model
from deeplabctl.reporting import Reporter
from deeplabctl.weights.fitting import Network, fit_weights
from deeplabctl.weights.locating import open_weights, weights_path
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.sources.keras_files import save_model
from deeplabctl.weights.weight_file import WeightFile


@dataclass(frozen=True)
class ConvertedModel(os.PathLike[str]):
    """Hold the facts of a conversion; it can be used as the path of the model file, once that is written."""

    path: Path
    file: WeightFile = field(repr=False)  # the source
    network: Network = field(repr=False)  # what it becomes
    checked_layers: int | None  # whose geometry agrees with the prototxt; None without one

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)

    __fspath__ = __str__

    @property
    def info(self) -> ModelInfo:
        """Return the facts of the model file."""
        return self.network.info

    @property
    def parameters(self) -> int:
        """Return the number of all weights."""
        return sum(array.size for array in self.network.weights.values())


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    architecture: str | None = None,
    prototxt: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | Sequence[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> ConvertedModel:
    """Convert a weight file of Caffe, TensorFlow, PyTorch or Keras to a model file, which plain Keras opens too.

    ``source`` may also be the name of published weights. ``out`` is by default the source's name with ``.keras``, in
    the working directory. ``architecture`` is by default the one that the file's layers belong to. The geometry of
    ``prototxt``, a net definition, is compared with the network's. ``classes`` are the class names, or a text file with
    one a line; by default those published with the weights, or VOC's for 21 classes. Layers that are not in the file
    are random, by ``seed``, as is the choice of VGG-16's filters. Every weight is read back and compared. Raises
    WeightsError for a file that cannot be read or does not fit, OutputError for a file that exists and is not to be
    overwritten.
    """
    model = plan_conversion(source, out, architecture, prototxt, classes, seed, overwrite)
    write_conversion(model)
    return model


def plan_conversion(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    architecture: str | None = None,
    prototxt: str | os.PathLike[str] | None = None,
    classes: str | os.PathLike[str] | Sequence[str] | None = None,
    seed: int = 0,
    overwrite: bool = False,
    *,
    report: Reporter | None = None,
) -> ConvertedModel:
    """Check the arguments of `convert`, read the file and fit it to its architecture, without TensorFlow.

    ``report`` is for `weights_path`.
    """
    source = Path(source)
    name = Path(os.path.abspath(source)).name  # noqa: PTH100 - of "." and ".." as well
    out = Path(f"{name.removesuffix('.caffemodel')}.keras" if out is None else out)
    if out.suffix.lower() == ".keras":
        out = out.with_suffix(".keras")  # Keras refuses .KERAS
    check_new_file(out, overwrite=overwrite, suffixes=(".keras",))
    if architecture not in (None, *ARCHITECTURES):
        raise WeightsError(f"`architecture`: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    source = weights_path(source, report)
    if out.resolve() == source.resolve():
        raise OutputError(f"{out} is the file that is read and would be lost; choose another `out`")
    if isinstance(classes, str | os.PathLike):
        classes = read_classes(Path(classes))
    file = open_weights(source)
    if architecture is not None and (text := file.contradicts(architecture)):
        raise WeightsError(f"`architecture`: {text}")
    network = fit_weights(
        file, architecture=architecture, num_classes=None if classes is None else len(classes), seed=seed
    )
    if classes is not None and network.classes_in_file not in (None, len(classes)):
        raise WeightsError(
            f"`classes`: expected {network.classes_in_file} names, as many as the classifier of {file.path} has, "
            f"got {len(classes)}"
        )
    names = network.info.classes if classes is None else classes
    for name in classes or ():
        if not isinstance(name, str) or not name or name != name.strip() or names.count(name) > 1:
            raise WeightsError(f"`classes`: expected different names, without spaces at their ends, got {name!r}")
    known = network.info.provenance
    if file.info is not None and file.info.architecture != network.info.architecture:  # whose scores are others
        known = {key: value for key, value in known.items() if key not in ("val_miou", "expect")}
    provenance = known | file.source | {"new_layers": network.new_layers, "seed": int(seed), "sha256": file.sha256}
    names = names if isinstance(names, tuple) else tuple(names)  # a tuple may have colours
    info = dataclasses.replace(network.info, classes=names, provenance=provenance)
    checked_layers = None
    if prototxt is not None:
        definition = read_prototxt(Path(prototxt))
        checked_layers = len(check_geometry(definition, info.architecture, num_classes=len(names), width=info.width))
    return ConvertedModel(out, file, dataclasses.replace(network, info=info), checked_layers)


def write_conversion(model: ConvertedModel) -> None:
    """Write the model file, and read it back to compare every weight."""
    info, weights = model.info, model.network.weights
    built = zero_model(info.architecture, len(info.classes), width=info.width)
    assign_weights(built, weights)
    save_model(model.path, built, info)
    written = open_weights(model.path).weights
    for name, array in weights.items():
        if not np.array_equal(written[name], array):
            raise WeightsError(f"{model.path}: {name} reads back with other values than were written; check the disk")


def inspect_weights(path: Path) -> dict[str, Any]:
    """Return what a weight file contains and what it would become, without TensorFlow."""
    file = open_weights(path)
    arrays_of: dict[str, list[npt.NDArray[Any]]] = {}
    for name, array in file.weights.items():
        arrays_of.setdefault(layer_of(name), []).append(array)
    layers = [
        {
            "name": name,
            "kernel": list(arrays[0].shape),
            "parameters": sum(array.size for array in arrays),
            "ranges": [[_number(array.min()), _number(array.max())] for array in arrays if array.size],  # of each array
        }
        for name, arrays in arrays_of.items()
    ]
    return {
        "file": str(file.path),
        "format": file.words,
        "sha256": file.sha256,
        "parameters": sum(layer["parameters"] for layer in layers),
        "layers": layers,
        "becomes": _becomes(file),
    }


def _number(value: np.generic) -> float | None:
    """Return a number as JSON has it: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def _becomes(file: WeightFile) -> str:
    """Describe the network that a file becomes."""
    try:
        network = fit_weights(file)
    except WeightsError as error:
        return f"nothing: {error}"
    info = network.info
    text = f"{info.architecture} of width {info.width:g} with {len(info.classes)} classes"
    text += f"; new: {', '.join(network.new_layers)}" if network.new_layers else ""
    return "; ".join([text, *network.notes, *network.assumed])
