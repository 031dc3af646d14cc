"""Hold a weight file that was opened: what it is, and, read when they are asked for, its facts and arrays."""

from __future__ import annotations

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from deeplabctl.damage import refusing
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, DEFAULT_ARCHITECTURE, Shapes, Weights, layer_of, norm_epsilons
from deeplabctl.network.ops import KERNEL
from deeplabctl.network.ops.norm import VARIANCE
from deeplabctl.weights.model_info import ModelInfo

ZIP = b"PK\x03\x04"


class Beginning(NamedTuple):
    """Hold what the kind of a weight file is recognized by."""

    path: Path
    head: bytes  # its first bytes; none of a folder, and of a checkpoint that is given by its prefix
    entries: frozenset[str]  # the names of its entries, if it is a zip archive


class WeightFile(ABC):
    """Hold an opened weight file; a kind of file is a subclass, and an entry of `SOURCES`.

    The names of weights are those of our tables, where they are known. A kernel is HWIO, or (in, out) for a fully
    connected layer whose inputs are flattened as height, width, channel. Everything is read when it is first asked
    for, and raises WeightsError then for a file that is damaged.
    """

    words: str  # what the file is
    refused: ClassVar[str] = "the file is damaged"  # if it cannot be read
    entries: ClassVar[frozenset[str]] = frozenset()  # that a zip archive of this kind has, among others
    suffix: ClassVar[str] = ""  # of its files in folders and on the hub, where one is looked for by its name
    begins: ClassVar[re.Pattern[bytes] | None] = None  # the first bytes of a file of this kind that is no zip archive

    has_scales = False  # its weights, once they are read, are of a program that applies them at several scales

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether a file that begins like this is of this kind; a damaged one may be."""
        if cls.entries:
            return cls.entries <= start.entries
        return cls.begins is not None and cls.begins.match(start.head) is not None

    @cached_property
    def weights(self) -> Weights:
        """Return all arrays; raises WeightsError for an export, which has none that can be read."""
        with refusing(self.path, self.refused):
            return _with_our_epsilons(self._read_weights(), self.epsilons)

    @property
    def shapes(self) -> Shapes:
        """Return the shapes of the arrays."""
        return {name: array.shape for name, array in self.weights.items()}

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return the dilations of the layers for which the file states them."""
        return {}

    @cached_property
    def epsilons(self) -> Mapping[str, float]:
        """Return the epsilons of the norms for which the file states them."""
        return {}

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes, where they are stated beside the file."""
        return ()

    @cached_property
    def info(self) -> ModelInfo | None:
        """Return the facts that deeplabctl wrote into its own model files and exports; None for other files."""
        with refusing(self.path):
            return self._read_info()

    def release(self) -> None:
        """Let go of the arrays, which are read again if they are asked for."""
        vars(self).pop("weights", None)

    @abstractmethod
    def _read_weights(self) -> Weights: ...

    def _read_info(self) -> ModelInfo | None:
        return None

    def architecture(self) -> str:
        """Return the architecture that knows most of the layers; the first in the list, where several do.

        Architectures that differ by their dilations alone are told apart by those in the file. Of a file that has none,
        one that is trained at several output strides is taken at the first; raises WeightsError for others (aspp-s and
        aspp-l).
        """
        if self.info is not None:
            return self.info.architecture
        layers = set(map(layer_of, self.shapes))
        known = {name: len(layers & set(map(layer_of, one.weight_shapes(1)))) for name, one in ARCHITECTURES.items()}
        best = max(known, key=lambda name: known[name])  # the first of equals
        if not known[best]:
            return DEFAULT_ARCHITECTURE
        twins = _twins(best)
        fitting = [name for name in twins if self._fits(name)]
        if len(fitting) == 1:
            return fitting[0]
        if len(twins) == 1 or self.output_strides(best) or (best == DEFAULT_ARCHITECTURE and not fitting):
            return best
        other = self.other_dilation(best)
        raise WeightsError(
            f"weights {self.path}: {' and '.join(twins)} have the same layers, and the file "
            f"{f'is neither: expected {other}' if other else 'does not say which it is'}; name it in deeplabctl "
            "convert-caffe: `architecture=NAME`"
        )

    def output_strides(self, architecture: str) -> dict[str, int]:
        """Return the output stride of the body of an architecture and its twins, if the file states none of them."""
        if self.info is not None or self.dilations:
            return {}
        strides = {name: ARCHITECTURES[name].grid for name in _twins(architecture)}
        return strides if len(set(strides.values())) == len(strides) > 1 else {}

    def contradicts(self, architecture: str) -> str:
        """Say that the file states the dilations of a twin of the architecture, and not its own; else ""."""
        twins = _twins(architecture)
        if self._fits(architecture) or len({ARCHITECTURES[name].grid for name in twins}) == len(twins):
            return ""  # of one that is trained at several output strides, each can be meant
        texts = [f"{self.path} states the dilations of {name}" for name in twins if self._fits(name)]
        return f"{texts[0]}; {architecture} computes something else with the same weights" if texts else ""

    def _fits(self, architecture: str) -> bool:
        """Tell whether all stated dilations are the architecture's, and at least one of them is above 1."""
        dilated = {conv.name for conv in ARCHITECTURES[architecture].convolutions if conv.dilation > 1}
        return not dilated.isdisjoint(self.dilations) and not self.other_dilation(architecture)

    def other_dilation(self, architecture: str) -> str:
        """Say which dilation the file states that is not the architecture's, of the first such layer; else ""."""
        for conv in ARCHITECTURES[architecture].convolutions:
            stated = {*self.dilations.get(conv.name, ())}
            if conv.kernel > 1 and stated and stated != {conv.dilation}:
                return f"dilation {conv.dilation} of {conv.name}, got {' and '.join(map(str, sorted(stated)))}"
        return ""

    def width(self, architecture: str) -> float:
        """Return the width of the network, by the channels of its layers.

        Raises WeightsError if the layers are another network's.
        """
        body = [conv for conv in ARCHITECTURES[architecture].convolutions if conv.channels and not conv.classifier]
        if self.info is not None:
            own = self.info.architecture
            if {conv.name for conv in body} & {conv.name for conv in ARCHITECTURES[own].convolutions}:
                return self.info.width
            raise WeightsError(
                f"weights {self.path}: expected layers of {architecture}, got those of {own}; "
                f"model.architecture={own} trains that network"
            )
        kernels = [(conv.name, self.shapes.get(f"{conv.name}/{KERNEL}", ())) for conv in body]
        known = {name: shape[-1] for name, shape in kernels if len(shape) == 4}
        if not known:
            have = ", ".join(dict.fromkeys(map(layer_of, self.shapes))) or "none"
            raise WeightsError(
                f"weights {self.path}: expected layers {body[0].name} to {body[-1].name}, got {have[:200]}; "
                "these are weights of another architecture"
            )
        return ARCHITECTURES[architecture].width_of(known)

    @property
    def source(self) -> dict[str, str]:
        """Return the provenance of weights from this file."""
        return {"source": f"{self.path.name} ({self.words})"}

    @property
    def content(self) -> Path:
        """Return the file with the arrays, whose checksum tells these weights from others."""
        return self.path

    @property
    def sha256(self) -> str:
        """Return the checksum of the file with the arrays."""
        with self.content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _with_our_epsilons(weights: Weights, stated: Mapping[str, float]) -> Weights:
    """Return weights whose variances make up for epsilons other than our norms': only their sum counts."""
    ours = norm_epsilons()
    for norm, epsilon in stated.items():
        values = weights.get(f"{norm}/{VARIANCE}")
        if values is not None and norm in ours and not math.isclose(epsilon, ours[norm], rel_tol=1e-6):
            weights[f"{norm}/{VARIANCE}"] = (values.astype(np.float64) + (epsilon - ours[norm])).astype(np.float32)
    return weights


def _twins(architecture: str) -> list[str]:
    """Return the architectures that have the same weights, itself among them."""
    shapes = ARCHITECTURES[architecture].weight_shapes(1)
    return [name for name, network in ARCHITECTURES.items() if network.weight_shapes(1) == shapes]
