"""Find the fixtures of the other networks of the family, and build these networks with Caffe's weights."""

from functools import lru_cache

import numpy as np
from caffe_files import ROOT, fixture

from deeplabctl.caffe import net_weights, read_caffemodel

DATA = ROOT / "family"
MEAN = np.array([104.008, 116.669, 122.675], np.float32)

# Name of the fixtures: architecture, width, and the file with the weights.
NETS = {
    "aspp_s_d16": ("aspp-s", 1 / 16, "aspp_s_d16.caffemodel"),
    "aspp_l_d16": ("aspp-l", 1 / 16, "aspp_l_d16.caffemodel"),
    "r101_d16": ("resnet101", 1 / 16, "r101_d16.caffemodel"),
    "r101_d32": ("resnet101", 1 / 32, "r101_d32_train_init.caffemodel"),
}


def family(name):
    """Return the path of a fixture of another network of the family."""
    return fixture(name, "family")


@lru_cache(maxsize=1)
def family_model(net, dtype="float32"):
    """Build a network of the fixtures with its weights, those of the norms divided in the model's own precision."""
    from deeplabctl.network.keras_model import assign_weights, zero_model

    architecture, width, file = NETS[net]
    model = zero_model(architecture, 21, width=width, dropout=0, dtype=dtype)
    assign_weights(model, net_weights(read_caffemodel(family(file)), np.dtype(dtype)))
    return model


def photo(size):
    """Return a photo of the fixtures as the networks take it, (1, H, W, 3) float32."""
    return np.load(DATA.parent / "caffe" / "inputs_u8.npz")[size].astype(np.float32)[None] - MEAN


def blobs(name):
    """Return the blobs of a fixture, NHWC."""
    file = np.load(family(name))
    return {key: file[key].transpose(0, 2, 3, 1) if file[key].ndim == 4 else file[key] for key in file.files}


def deviation(ours, reference):
    """Return the largest difference, as a share of the blob's largest value."""
    return np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max()
