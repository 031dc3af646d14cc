"""DeepLab semantic segmentation on TensorFlow, exact to the original Caffe program.

    import deeplabctl as dl

    net = dl.load("runs/x")              # a run directory or any weight file; callable
    result = net("photo.jpg", crf=True)  # .label, .scores, .classes, .areas, .overlay(), .save(path)

Numpy in and out; a path or a PIL image will do for an image. Each name is loaded at its first use, TensorFlow at the
first use of a network.
"""

from __future__ import annotations

from deeplabctl.version import __version__

TYPE_CHECKING = False  # as typing has it, whose import takes longer than all else here
if TYPE_CHECKING:
    from deeplabctl.crf import CrfParams, refine
    from deeplabctl.data.dataset import Dataset, open_dataset
    from deeplabctl.errors import DeepLabError
    from deeplabctl.evaluation import ConfusionMatrix, evaluate
    from deeplabctl.network import preprocess
    from deeplabctl.prediction import PredictionSettings, Segmentation, Segmenter, load
    from deeplabctl.reporting import silent, tqdm_reporter
    from deeplabctl.training.loop import TrainedRun
    from deeplabctl.training.run import train
    from deeplabctl.weights import build_model, convert

__all__ = [
    "ConfusionMatrix", "CrfParams", "Dataset", "DeepLabError", "PredictionSettings", "Segmentation", "Segmenter",
    "TrainedRun", "__version__", "build_model", "convert", "evaluate", "load", "open_dataset", "preprocess", "refine",
    "silent", "tqdm_reporter", "train",
]  # fmt: skip

_HOMES = {
    "deeplabctl.crf": ("CrfParams", "refine"),
    "deeplabctl.data.dataset": ("Dataset", "open_dataset"),
    "deeplabctl.errors": ("DeepLabError",),
    "deeplabctl.evaluation": ("ConfusionMatrix", "evaluate"),
    "deeplabctl.network": ("preprocess",),
    "deeplabctl.prediction": ("PredictionSettings", "Segmentation", "Segmenter", "load"),
    "deeplabctl.reporting": ("silent", "tqdm_reporter"),
    "deeplabctl.training.loop": ("TrainedRun",),
    "deeplabctl.training.run": ("train",),
    "deeplabctl.weights": ("build_model", "convert"),
}


def __getattr__(name: str) -> object:
    """Load a public name from its room (PEP 562)."""
    import importlib

    for home, names in _HOMES.items():
        if name in names:
            value = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'deeplabctl' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted(__all__)
