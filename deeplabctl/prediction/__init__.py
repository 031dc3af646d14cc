"""Image in, label out: how a network is applied to images."""

from deeplabctl.prediction.segmenter import Segmentation, Segmenter, load
from deeplabctl.prediction.settings import PredictionSettings

__all__ = ["PredictionSettings", "Segmentation", "Segmenter", "load"]
