"""Files of Caffe and its DeepLab fork in, arrays out: without Caffe, protobuf or TensorFlow."""

from deeplabctl.caffe.caffemodel import read_caffemodel
from deeplabctl.caffe.net import CaffeLayer, CaffeNet, convolution_weights, kernel_shapes

__all__ = ["CaffeLayer", "CaffeNet", "convolution_weights", "kernel_shapes", "read_caffemodel"]
