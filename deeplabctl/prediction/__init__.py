"""Image in, label out: how a network is applied to pictures."""

from deeplabctl.prediction.segmentation import Segmentation
from deeplabctl.prediction.segmenter import Prediction, Segmenter, load
from deeplabctl.prediction.settings import PredictionSettings, SettingsRequest

__all__ = ["Prediction", "PredictionSettings", "Segmentation", "Segmenter", "SettingsRequest", "load"]
