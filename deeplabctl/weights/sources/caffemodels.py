"""Read the weights of Caffe's files, whose layers our tables are named after."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from deeplabctl.caffe import CaffeNet, caffe_kind, net_weights, read_caffemodel
from deeplabctl.caffe.net import SCALE_COPY
from deeplabctl.network import Weights
from deeplabctl.weights.weight_file import Beginning, WeightFile


class CaffeModel(WeightFile):
    """Hold a ``.caffemodel`` of any version, or of HDF5."""

    words = "caffemodel"
    suffix = ".caffemodel"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether it is a net, or a solver state, which `read_caffemodel` refuses with a hint."""
        return bool(start.head) and caffe_kind(start.path) is not None

    @cached_property
    def net(self) -> CaffeNet:
        """Return the layers, whose blobs are views of the file where it allows that."""
        return read_caffemodel(self.path)

    def _read_weights(self) -> Weights:
        weights = net_weights(self.net)
        self.has_scales = any(SCALE_COPY.search(layer.name) for layer in self.net.layers)
        for name, kernel in weights.items():
            if kernel.ndim == 2:  # InnerProduct: (out, in), inputs flattened as channel, height, width
                out, incoming = kernel.shape
                if name == "fc6/kernel" and incoming == 512 * 7 * 7:
                    kernel = kernel.reshape(out, 512, 7, 7).transpose(0, 2, 3, 1).reshape(out, incoming)
                weights[name] = kernel.T
        return weights

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return the dilations of V2's convolutions."""
        return {layer.name: layer.dilations for layer in self.net.layers if layer.dilations}

    @cached_property
    def epsilons(self) -> Mapping[str, float]:
        """Return the epsilons of V2's norms that are not Caffe's default."""
        return {layer.name: layer.epsilon for layer in self.net.layers if layer.epsilon is not None}
