"""The operations that networks are made of: one file each, with everything there is to know of it."""

from deeplabctl.network.ops.activation import HARD_SIGMOID, HARD_SWISH, LINEAR, RELU, RELU6, Activation
from deeplabctl.network.ops.broadcast import Broadcast
from deeplabctl.network.ops.concatenation import Concatenation
from deeplabctl.network.ops.convolution import Convolution
from deeplabctl.network.ops.depthwise import DepthwiseConvolution
from deeplabctl.network.ops.dropout import Dropout
from deeplabctl.network.ops.image_mean import ImageMean
from deeplabctl.network.ops.norm import Norm
from deeplabctl.network.ops.operation import BIAS, INPUT, KERNEL, Field, Input, Node, Operation
from deeplabctl.network.ops.pooling import Pooling
from deeplabctl.network.ops.product import Product
from deeplabctl.network.ops.rectifier import Rectifier
from deeplabctl.network.ops.resize import Resize, resize
from deeplabctl.network.ops.sum import Sum

__all__ = [
    "BIAS", "HARD_SIGMOID", "HARD_SWISH", "INPUT", "KERNEL", "LINEAR", "RELU", "RELU6", "Activation", "Broadcast",
    "Concatenation", "Convolution", "DepthwiseConvolution", "Dropout", "Field", "ImageMean", "Input", "Node", "Norm",
    "Operation", "Pooling", "Product", "Rectifier", "Resize", "Sum", "resize",
]  # fmt: skip
