"""Hold what an exported file says of the graph in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

ExportFormat = Literal["savedmodel", "onnx", "tflite"]
ExportPrecision = Literal["float32", "float16", "int8"]  # of the weights; int8 also of what the layers compute
Runtime = Literal["tensorflow", "onnxruntime", "litert"]

RUNTIMES: dict[ExportFormat, Runtime] = {"savedmodel": "tensorflow", "onnx": "onnxruntime", "tflite": "litert"}
WORDS: dict[ExportFormat, str] = {"savedmodel": "SavedModel", "onnx": "ONNX file", "tflite": "TFLite file"}


@dataclass(frozen=True)
class ExportFacts:
    """Hold the facts of an exported graph.

    It takes ``image`` (N, H, W, 3) uint8 RGB and gives ``label`` (N, H, W) uint8 and ``scores`` (N, H, W, C) float32
    after softmax. The test size is "tight".
    """

    format: ExportFormat
    precision: ExportPrecision
    scales: tuple[float, ...]
    flip: bool
    agreement: dict[str, Any] = field(default_factory=dict)  # with the network: share of equal labels, pixels, ...
    sha256: dict[str, str] = field(default_factory=dict)  # of the parts of the file, the facts apart

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> ExportFacts:
        """Return the facts as a file stores them; raises ValueError, KeyError or TypeError for other texts."""
        format_, precision, flip = stored["format"], stored["precision"], stored["flip"]
        if format_ not in RUNTIMES or precision not in get_args(ExportPrecision) or not isinstance(flip, bool):
            raise ValueError("facts of another kind of export")
        scales = tuple(float(scale) for scale in stored["scales"])
        if not scales or not all(0 < scale <= 4 for scale in scales):
            raise ValueError("scales that there are not")
        sha256 = {str(name): str(value) for name, value in dict(stored["sha256"]).items()}
        return cls(format_, precision, scales, flip, dict(stored["agreement"]), sha256)

    @property
    def runtime(self) -> Runtime:
        """Return what computes the graph."""
        return RUNTIMES[self.format]

    @property
    def words(self) -> str:
        """Return the name of the format."""
        return WORDS[self.format]
