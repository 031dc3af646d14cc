"""Find the Caffe fixtures and read their weights."""

from pathlib import Path

import pytest

from deeplabctl.caffe import net_weights, read_caffemodel

DATA = Path(__file__).parents[1] / "data" / "caffe"
SHARED = Path(__file__).parents[3] / "shared" / "fixtures"
TINY = DATA / "lfov_tiny_v1.caffemodel"


def shared(name):
    if not (SHARED / "caffe" / name).is_file():
        pytest.skip(f"{name} is only in ../shared")
    return SHARED / "caffe" / name


def read_blobs(path):
    """Return the weights of a ``.caffemodel``: {"layer/kernel": HWIO, "layer/bias": ...}."""
    return net_weights(read_caffemodel(path))
