"""Read what Caffe and its DeepLab fork wrote, without Caffe, protobuf or TensorFlow."""

from deeplabctl.caffe.caffemodel import read_caffemodel
from deeplabctl.caffe.net import CaffeLayer, CaffeNet, convolution_weights

__all__ = ["CaffeLayer", "CaffeNet", "convolution_weights", "read_caffemodel"]
