"""Labels and predictions in, scores out: of an image, of a split, of a network, of another program's masks."""

from deeplabctl.evaluation.mask_scores import score_masks
from deeplabctl.evaluation.metrics import ConfusionMatrix
from deeplabctl.evaluation.network_scores import score_network
from deeplabctl.evaluation.scoring import evaluate
from deeplabctl.evaluation.split_scores import SplitScores

__all__ = ["ConfusionMatrix", "SplitScores", "evaluate", "score_masks", "score_network"]
