"""The operations that networks are made of: one file each, with everything there is to know of it."""

from deeplabctl.network.ops.activation import LINEAR, RELU, Activation
from deeplabctl.network.ops.convolution import Convolution
from deeplabctl.network.ops.norm import Norm
from deeplabctl.network.ops.operation import BIAS, INPUT, KERNEL, Field, Input, Node, Operation
from deeplabctl.network.ops.pooling import Pooling
from deeplabctl.network.ops.resize import Resize, resize
from deeplabctl.network.ops.sum import Sum

__all__ = [
    "BIAS", "INPUT", "KERNEL", "LINEAR", "RELU", "Activation", "Convolution", "Field", "Input", "Node", "Norm",
    "Operation", "Pooling", "Resize", "Sum", "resize",
]  # fmt: skip
