"""Make segmenters of a tiny network with Caffe's random weights."""

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.weights.model_info import ModelInfo


def segmenter(model, pad="tight", scales=(1.0,), flip=False, **settings):
    from deeplabctl.prediction import PredictionSettings, Segmenter

    chosen = PredictionSettings(pad, scales, flip, **settings)
    return Segmenter(model, ModelInfo(VOC_CLASSES, width=1 / 32), chosen)
