"""Labels and predictions in, scores out: of an image, of a split, of a network, of another program's masks."""

from deeplabctl.evaluation.masks import score_masks
from deeplabctl.evaluation.metrics import ConfusionMatrix
from deeplabctl.evaluation.network import evaluate, score_network
from deeplabctl.evaluation.scores import SplitScores

__all__ = ["ConfusionMatrix", "SplitScores", "evaluate", "score_masks", "score_network"]
