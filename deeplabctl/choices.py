"""List what a user chooses by name: the names, without loading numpy, and the classes that stand behind them.

Help, shell completion and recipes show the names and have no time to load the classes. A new engine, output, annotation
format, loss, optimizer or schedule is written in its room and has an entry here; its room loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

# Engines of prediction; "auto" takes the first one that will do.
ENGINES = {
    "onnxruntime": "prediction.engines.onnx:OnnxEngine",
    "numba": "prediction.engines.numba:NumbaEngine",
    "tensorflow": "prediction.engines.tensorflow:TensorFlowEngine",
}
# Outputs of `infer`, in the order of JSON. Files are written from the last to the first: a mask stands for a finished
# image.
OUTPUTS = {
    "mask": "prediction.outputs.image_files:Mask",
    "overlay": "prediction.outputs.image_files:Overlay",
    "scores": "prediction.outputs.image_files:ScoresFile",
    "json": "prediction.outputs.annotation_files:Areas",
    "csv": "prediction.outputs.annotation_files:Table",
    "coco": "prediction.outputs.annotation_files:CocoOutput",
    "cvat": "prediction.outputs.annotation_files:CvatOutput",
    "labelme": "prediction.outputs.annotation_files:LabelmeOutput",
    "yolo": "prediction.outputs.annotation_files:YoloOutput",
    "labelstudio": "prediction.outputs.annotation_files:LabelStudioOutput",
    "supervisely": "prediction.outputs.annotation_files:SuperviselyOutput",
    "via": "prediction.outputs.annotation_files:ViaOutput",
    "thumbnail": "prediction.outputs.image_files:ContactSheetImage",
}
OUTPUT_OPTIONS = {"overlay": "--overlay", "thumbnail": "--contact-sheet"}  # of outputs that --format does not name
OUTPUT_FORMATS = tuple(name for name in OUTPUTS if name not in OUTPUT_OPTIONS)
MASKS = dict.fromkeys(("colors", "ids", "binary"), "data.formats.masks:Masks")
# Formats of annotations, in the order in which they are tried; any folder may be one of masks.
ANNOTATIONS = {
    "labelme": "data.formats.labelme:Labelme",
    "coco": "data.formats.coco:Coco",
    "cvat": "data.formats.cvat:Cvat",
    "yolo": "data.formats.yolo:Yolo",
    "labelstudio": "data.formats.label_studio:LabelStudio",
    "supervisely": "data.formats.supervisely:Supervisely",
    "via": "data.formats.via:Via",
    **MASKS,
}
# Of trainings: losses, optimizers, and schedules of the learning rate.
LOSSES = {
    "cross-entropy": "training.losses:CrossEntropy",
    "focal": "training.losses:Focal",
    "dice": "training.losses:Dice",
    "lovasz": "training.losses:Lovasz",
    "cross-entropy+dice": "training.losses:CrossEntropyAndDice",
    "cross-entropy+lovasz": "training.losses:CrossEntropyAndLovasz",
}
OPTIMIZERS = {"sgd": "training.optimizers:SGD", "adam": "training.optimizers:ADAM"}
SCHEDULES = {
    "poly": "training.optimizers:poly",
    "step": "training.optimizers:step_down",
    "fixed": "training.optimizers:fixed",
}


class ExportKind(NamedTuple):
    """Say what a format of exports is.

    Its reader, engine and writer stand in three rooms: only writers may load TensorFlow, and weights are recognized
    without any of their packages.
    """

    words: str
    runtime: str  # the name of the engine
    reader: str
    engine: str
    writer: str


# Formats of exports.
EXPORTS = {
    "savedmodel": ExportKind(
        "SavedModel",
        "tensorflow",
        "weights.sources.exports:SavedModel",
        "prediction.engines.exported:SavedModelRuntime",
        "export.formats:SAVED_MODEL",
    ),
    "onnx": ExportKind(
        "ONNX file",
        "onnxruntime",
        "weights.sources.exports:OnnxFile",
        "prediction.engines.exported:OnnxRuntime",
        "export.formats:ONNX",
    ),
    "tflite": ExportKind(
        "TFLite file",
        "litert",
        "weights.sources.exports:TFLiteFile",
        "prediction.engines.exported:LiteRuntime",
        "export.formats:TFLITE",
    ),
}

DEFAULT_WEIGHTS = "deeplabv3-mnv2-voc"  # published ones, where none are named

# The number formats that a network can compute in, and those of weights in exports: int8 also of what layers compute.
Precision = Literal["float32", "bfloat16", "float16"]
TrainingPrecision = Literal["auto", Precision]
ExportPrecision = Literal["float32", "float16", "int8"]
# The share of an export's labels that must be the network's: float16 and int8 round the weights, and sums in another
# order change labels at ties only.
LEAST_AGREEMENT: dict[ExportPrecision, float] = {"float32": 0.9999, "float16": 0.999, "int8": 0.99}
Pad = Literal["paper", "tight"]
Strategy = Literal["auto", "single", "mirrored", "multi-worker"]
# Of annotations: what pixels outside of all outlines become, what colours and outlines of no class, and COCO's crowds.
Outside = Literal["background", "void"]
Unknown = Literal["error", "void", "background"]
Crowds = Literal["auto", "void", "objects"]

if TYPE_CHECKING:
    EngineName = str
    AnnotationName = str
    ExportFormat = str
    LossName = str
    OptimizerName = str
    ScheduleName = str
else:
    EngineName = Literal[("auto", *ENGINES)]
    AnnotationName = Literal[("auto", *ANNOTATIONS)]
    ExportFormat = Literal[tuple(EXPORTS)]
    LossName = Literal[tuple(LOSSES)]
    OptimizerName = Literal[tuple(OPTIMIZERS)]
    ScheduleName = Literal[tuple(SCHEDULES)]


def load(place: str) -> Any:
    """Return what stands at a place of these tables."""
    return resolve_name(f"deeplabctl.{place}")


def load_classes(places: Mapping[str, str]) -> dict[str, Any]:
    """Return the classes of one of these tables, by their names."""
    return {name: load(place) for name, place in places.items()}
