"""A small network and set to score."""

import pytest
from caffe_files import read_blobs
from dataset_files import make_dataset
from eval_command import CAFFEMODEL

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.data.dataset import open_dataset
from deeplabctl.weights.model_info import ModelInfo


@pytest.fixture(scope="module")
def segmenter():
    from deeplabctl.network.keras_model import assign_weights, zero_model
    from deeplabctl.prediction.segmenter import Segmenter

    model = zero_model("largefov", 21, width=1 / 32)
    assign_weights(model, read_blobs(CAFFEMODEL))
    return Segmenter(model, ModelInfo(VOC_CLASSES, width=1 / 32))


@pytest.fixture
def dataset(tmp_path):
    """Make a set whose labels have VOC's classes."""
    root = make_dataset(tmp_path / "set", val=5, size=(50, 71), classes=VOC_CLASSES)
    return open_dataset(root)


@pytest.fixture
def here(dataset, deeplabctl, tmp_path, monkeypatch):
    """Stand in the folder of the set, whose classes are VOC's by default."""
    (dataset.root / "classes.txt").unlink()
    monkeypatch.setenv("DEEPLABCTL_WEIGHTS", str(CAFFEMODEL))
    return tmp_path
