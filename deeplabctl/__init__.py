"""DeepLab semantic segmentation on TensorFlow, exact to the original Caffe program."""

__version__ = "0.1.0"
