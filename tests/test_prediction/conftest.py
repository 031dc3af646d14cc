"""A tiny network to predict with."""

import pytest
from caffe_files import DATA, read_blobs
from tiny_segmenter import segmenter


@pytest.fixture(scope="module")
def tiny():
    """Return a Keras model with Caffe's random weights."""
    from deeplabctl.network.keras_model import assign_weights, zero_model

    model = zero_model("largefov", 21, width=1 / 32)
    assign_weights(model, read_blobs(DATA / "lfov_tiny_v2.caffemodel"))
    return model


@pytest.fixture(scope="module")
def net(tiny):
    """Return a segmenter with the usual settings, whose graphs are compiled once."""
    return segmenter(tiny)
