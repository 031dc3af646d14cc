"""The operations that networks are made of, with everything there is to know of each."""

from deeplabctl.network.ops.activation import (
    HARD_SIGMOID,
    HARD_SWISH,
    LINEAR,
    RELU,
    RELU6,
    Activation,
    Dropout,
    Rectifier,
)
from deeplabctl.network.ops.convolution import Convolution, DepthwiseConvolution
from deeplabctl.network.ops.joins import Broadcast, Concatenation, Product, Sum
from deeplabctl.network.ops.norm import Norm
from deeplabctl.network.ops.operation import BIAS, INPUT, KERNEL, Field, Input, Node, Operation
from deeplabctl.network.ops.pooling import ImageMean, Pooling
from deeplabctl.network.ops.resize import Resize, resize

__all__ = [
    "BIAS", "HARD_SIGMOID", "HARD_SWISH", "INPUT", "KERNEL", "LINEAR", "RELU", "RELU6", "Activation", "Broadcast",
    "Concatenation", "Convolution", "DepthwiseConvolution", "Dropout", "Field", "ImageMean", "Input", "Node", "Norm",
    "Operation", "Pooling", "Product", "Rectifier", "Resize", "Sum", "resize",
]  # fmt: skip
