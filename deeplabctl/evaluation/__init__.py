"""Labels and predictions in, scores out: of an image, of a split, of a network, of another program's masks."""

from deeplabctl.evaluation.metrics import ConfusionMatrix
from deeplabctl.evaluation.network import evaluate

__all__ = ["ConfusionMatrix", "evaluate"]
