"""Find the Caffe fixtures and read their weights."""

from pathlib import Path

from deeplabctl.caffe import convolution_weights, read_caffemodel

DATA = Path(__file__).parent / "data" / "caffe"


def read_blobs(path):
    """Return {layer: [kernel HWIO, bias]} of a ``.caffemodel``."""
    return convolution_weights(read_caffemodel(path))
