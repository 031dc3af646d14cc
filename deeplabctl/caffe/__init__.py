"""Files of Caffe and its DeepLab fork in, arrays out: without Caffe, protobuf or TensorFlow."""

from deeplabctl.caffe.caffemodel import caffe_kind, read_caffemodel
from deeplabctl.caffe.net import CaffeLayer, CaffeNet, net_weights

__all__ = ["CaffeLayer", "CaffeNet", "caffe_kind", "net_weights", "read_caffemodel"]
