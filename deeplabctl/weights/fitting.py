"""Find weight files, tell what they are, and fit weights to an architecture. No TensorFlow."""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.classes import IGNORE_LABEL, voc_palette
from deeplabctl.errors import WeightsError
from deeplabctl.network.layers import ARCHITECTURES, Weights, convolutions, weight_shapes
from deeplabctl.network.preprocessing import MEAN_BGR

# What zipfile and json raise for an archive that is damaged, cut off, packed otherwise or encrypted.
DAMAGED_ZIP = (zipfile.BadZipFile, OSError, zlib.error, RuntimeError, ValueError, KeyError, TypeError, EOFError)

INFO_ENTRY = "deeplabctl.json"  # in the .keras archive, beside Keras' own entries
BEST, LAST = "best.keras", "last.keras"

NEW_LAYER_STD = 0.01  # the gaussian filler of the original prototxt

# The start of a whole random net. Pixels minus the mean have a standard deviation of about 70: the first layer brings
# them to about 10, and the gain of each layer below 1 brings that down on the way to the classifier.
_FIRST_SCALE = 1 / 7
_GAIN = 0.8
_DIRAC_SHARE = 0.5  # of a kernel's variance


@dataclass(frozen=True)
class ModelInfo:
    """Hold what a model file says of itself beside its weights."""

    classes: tuple[str, ...]
    architecture: str = "largefov"
    width: float = 1.0
    provenance: dict[str, Any] = field(default_factory=dict)  # source, recipe, data set, split trained on, step, mIoU

    def to_json(self) -> str:
        """Return the text of the archive's own entry, with palette and preprocessing for other readers."""
        palette = voc_palette()[: len(self.classes)].tolist()
        preprocessing = {"channels": "BGR", "mean": MEAN_BGR, "scale": 1}
        return json.dumps(asdict(self) | {"palette": palette, "preprocessing": preprocessing}, indent=1)


def find_weights(given: str | None, runs: Path = Path("runs")) -> Path:
    """Return the model file: as given (a file or a run directory), else the best of the newest run under ``runs``."""
    if given:
        return model_file(Path(given))
    found = [
        path.parent
        for path in runs.glob("*/recipe.toml")
        if any((path.parent / name).is_file() for name in (BEST, LAST))
    ]
    if not found:
        raise WeightsError(
            "there are no weights: train some (deeplabctl train), name some (--weights FILE.keras or a run directory), "
            "or set $DEEPLABCTL_WEIGHTS"
        )
    return model_file(max(found, key=lambda run: (run / "recipe.toml").stat().st_mtime_ns))


def model_file(path: Path) -> Path:
    """Return the model file that a path names: itself, or the best one of a run directory."""
    if not os.path.isdir(path):  # noqa: PTH112 - which, unlike Path's, raises for no name
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    raise WeightsError(f"weights {path}: expected a run directory with {BEST}, got a folder without one")


def read_info(path: Path) -> ModelInfo:
    """Read what a model file says of itself; raises WeightsError if it is not one of ours."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if INFO_ENTRY not in names:
                what = (
                    "a Keras model without class names" if "config.json" in names else "a zip archive of something else"
                )
                raise WeightsError(f"weights {path}: expected a model file written by deeplabctl, got {what}")
            stored = json.loads(archive.read(INFO_ENTRY))
        classes = tuple(str(name) for name in stored["classes"])
        architecture, width, provenance = stored["architecture"], float(stored["width"]), dict(stored["provenance"])
    except zipfile.BadZipFile:
        raise WeightsError(
            f"weights {path}: expected a .keras model file or a run directory, got something else"
        ) from None
    except DAMAGED_ZIP as error:
        raise WeightsError(f"weights {path}: the file is damaged ({type(error).__name__}: {error})") from None
    if architecture not in ARCHITECTURES:
        raise WeightsError(
            f"weights {path}: expected the architecture {' or '.join(ARCHITECTURES)}, got {architecture!r}; "
            "the file is of a newer deeplabctl"
        )
    return ModelInfo(classes, architecture, width, provenance)


def random_weights(architecture: str, num_classes: int, width: float, seed: int) -> Weights:
    """Draw the start of a net that begins from nothing: a function of the seed alone. Biases are 0.

    Kernels are gaussian by He's rule (arXiv 1502.01852). A plain net of 16 layers without normalisation hardly learns
    from that, so half of each kernel's variance is given to one that passes its input through (a Dirac kernel, arXiv
    1706.00388), and the gaussian part has mean 0 for each output channel. The classifier is gaussian 0.01.
    """
    weights: Weights = {}
    shapes = weight_shapes(architecture, num_classes, width)
    for index, (name, shape) in enumerate(shapes.items()):
        height, wide, incoming, outgoing = shape
        if index == len(shapes) - 1:
            weights[name] = _gaussian(shape, NEW_LAYER_STD, seed, index)
            continue
        kernel, bias = _gaussian(shape, math.sqrt(2 / (height * wide * incoming)), seed, index)
        if index == 0:
            kernel *= _FIRST_SCALE
        else:
            dirac = np.zeros_like(kernel)
            channels = np.arange(outgoing)
            dirac[height // 2, wide // 2, channels % incoming, channels] = 1
            noise = kernel - kernel.mean((0, 1, 2), keepdims=True)
            kernel = _GAIN * (math.sqrt(1 - _DIRAC_SHARE) * noise + math.sqrt(_DIRAC_SHARE) * dirac)
        weights[name] = [kernel.astype(np.float32), bias]
    return weights


def fit_weights(
    found: Weights, architecture: str, num_classes: int, width: float, seed: int, source: str
) -> tuple[Weights, list[str]]:
    """Return weights for every layer, and the names of those that are new: gaussian 0.01 and biases 0.

    New are layers that are not in ``found``, and a classifier of another class count. Raises WeightsError, with a line
    for each layer that does not fit, for other shapes and unknown names.
    """
    shapes = weight_shapes(architecture, num_classes, width)
    classifier = convolutions(architecture)[-1].name
    if num_classes > IGNORE_LABEL:
        raise WeightsError(f"weights {source}: expected at most {IGNORE_LABEL} classes, got {num_classes}")
    wrong = [f"+ {name} (unexpected)" for name in found if name not in shapes]
    weights: Weights = {}
    new: list[str] = []
    for index, (name, shape) in enumerate(shapes.items()):
        given = found.get(name)
        if given is None or (name == classifier and given[0].shape[-1:] != (num_classes,)):
            weights[name] = _gaussian(shape, NEW_LAYER_STD, seed, index)
            new.append(name)
        elif [array.shape for array in given] != [shape, shape[-1:]]:
            wrong.append(f"- {name}: expected {shape}, got {given[0].shape}")
        elif not all(np.isfinite(array).all() for array in given):
            wrong.append(f"- {name}: expected finite numbers, got some that are not; the training had diverged")
        else:
            weights[name] = given
    if wrong or len(new) == len(shapes):
        raise WeightsError(
            f"weights {source} do not fit {architecture} of width {width:g}: {'; '.join(wrong or ['no layer'])}"
        )
    return weights, new


def _gaussian(shape: Sequence[int], std: float, seed: int, index: int) -> list[npt.NDArray[Any]]:
    kernel = np.random.default_rng((seed, index)).normal(0, std, shape).astype(np.float32)
    return [kernel, np.zeros(shape[-1], np.float32)]
