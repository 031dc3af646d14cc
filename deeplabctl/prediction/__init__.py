"""Image in, label out: how a network is applied to images."""

from deeplabctl.prediction.segmenter import Prediction, Segmentation, Segmenter, load
from deeplabctl.prediction.settings import PredictionSettings, SettingsRequest

__all__ = ["Prediction", "PredictionSettings", "Segmentation", "Segmenter", "SettingsRequest", "load"]
