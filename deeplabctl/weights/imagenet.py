"""Download the weights of ImageNet that a training starts from."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES, Weights
from deeplabctl.weights.sources.keras_files import KerasHdf5, weights_of_model
from deeplabctl.weights.weight_file import WeightFile


class ImageNet(WeightFile):
    """Hold VGG-16, ResNet-101 or MobileNet v2 trained on ImageNet, as keras.applications has it.

    Its preprocessing is ours. VGG-16 comes with its classifier. It is downloaded once, when its weights are first asked
    for (530 MB; ResNet-101 170 MB, MobileNet v2 9 MB); raises WeightsError without an internet connection, and for an
    architecture that has no weights there.
    """

    words = KerasHdf5.words

    def __init__(self, architecture: str) -> None:
        super().__init__(Path("imagenet"))
        self._name = ARCHITECTURES[architecture].imagenet
        if not self._name:
            raise WeightsError(
                f"init: there are no ImageNet weights for {architecture}; start from published weights "
                f"(`init={ARCHITECTURES[architecture].start}`), from a file, or from random weights (`init=random`)"
            )

    def width(self, architecture: str) -> float:
        """Return 1, without a download."""
        return 1.0

    def _read_weights(self) -> Weights:
        import keras

        try:
            with redirect_stdout(sys.stderr):  # keras prints that it downloads
                model = getattr(keras.applications, self._name)(include_top=self._name == "VGG16", weights="imagenet")
        except Exception as error:
            raise WeightsError(
                f"{self.path}: the {self._name} weights of keras.applications could not be downloaded; start from a "
                "weight file (`init=FILE`) or from random weights (`init=random`)"
            ) from error
        return weights_of_model(model)
