import pickle

import h5py
import numpy as np
import pytest
from caffe_bytes import legacy, packed, v1
from caffe_files import TINY
from tiny_weights import read_weights, tiny_variables

from deeplabctl.caffe import read_caffemodel
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.locating import open_weights


def test_caffes_inner_product_is_flattened_by_channel_first(tmp_path):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(2, 512, 7, 7)).astype(np.float32)  # out, channel, height, width
    fc6 = v1(
        "fc6", legacy(1, 1, 2, 25088) + packed(5, matrix.ravel()), legacy(1, 1, 1, 2) + packed(5, [0, 0]), type_=14
    )
    (tmp_path / "vgg.caffemodel").write_bytes(fc6)
    kernel = read_weights(tmp_path / "vgg.caffemodel")["fc6/kernel"]
    np.testing.assert_array_equal(kernel.reshape(7, 7, 512, 2), matrix.transpose(2, 3, 1, 0))


def kernel_shapes(width):
    return [
        shape for name, shape in ARCHITECTURES["largefov"].weight_shapes(21, width).items() if name.endswith("kernel")
    ]


def keras_h5(path):
    """Write a tiny network as Keras 3 does."""
    with h5py.File(path, "w") as root:
        for index, shape in enumerate(kernel_shapes(1 / 32)):
            root[f"layers/conv2d{f'_{index}' * (index > 0)}/vars/0"] = np.zeros(shape, np.float32)
            root[f"layers/conv2d{f'_{index}' * (index > 0)}/vars/1"] = np.zeros(shape[-1], np.float32)


def caffe_h5(path):
    """Write a tiny network as Caffe's Net::ToHDF5 does."""
    with h5py.File(path, "w") as root:
        for layer in read_caffemodel(TINY).layers:
            for index, blob in enumerate(layer.blobs):
                root[f"data/{layer.name}/{index}"] = blob if index == 0 else blob.ravel()


WRITERS = {
    "caffemodel": lambda path: path.write_bytes(TINY.read_bytes()),
    "caffe hdf5": caffe_h5,
    "keras hdf5": keras_h5,
    "pickle": lambda path: path.write_bytes(pickle.dumps(tiny_variables())),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_kernel_shapes_are_those_of_the_whole_file(tmp_path, kind):
    WRITERS[kind](tmp_path / "w")
    assert open_weights(tmp_path / "w").shapes == ARCHITECTURES["largefov"].weight_shapes(21, 1 / 32)
