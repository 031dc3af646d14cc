import h5py
import numpy as np
import pytest
from caffe_bytes import blobs_of, same_blobs
from caffe_files import DATA, TINY

from deeplabctl.caffe import caffe_kind, net_weights, read_caffemodel
from deeplabctl.errors import WeightsError


@pytest.fixture
def h5_net(tmp_path):
    """Write the tiny net as Caffe's Net::ToHDF5 does: a group for every layer, data and diff."""
    path = tmp_path / "net.caffemodel.h5"
    with h5py.File(path, "w") as file:
        for layer in read_caffemodel(DATA / "lfov_tiny_v2.caffemodel").layers:
            for top in ("data", "diff"):
                group = file.create_group(f"{top}/{layer.name}")
                for index, blob in enumerate(layer.blobs):
                    group[str(index)] = blob if top == "data" else blob * 0 + 9
    return path


def test_hdf5_net_has_the_same_kernels_and_biases(h5_net):
    net = read_caffemodel(h5_net)
    assert (net.version, net.layers[0].type) == ("HDF5", "")
    expected = blobs_of(read_caffemodel(DATA / "lfov_tiny_v2.caffemodel"))
    same_blobs({name: blobs_of(net)[name] for name in expected}, expected)
    converted, other = net_weights(net), net_weights(read_caffemodel(TINY))
    same_blobs({name: [converted[name]] for name in other}, {name: [array] for name, array in other.items()})
    assert caffe_kind(h5_net) == "net"


def test_hdf5_matrix_is_an_inner_product_and_doubles_stay_doubles(tmp_path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["data/fc/0"], file["data/fc/1"] = np.ones((2, 3)), np.zeros(2)
    net = read_caffemodel(path)
    assert net.layers[0].blobs[0].dtype == np.float64
    assert [array.shape for array in net_weights(net).values()] == [(2, 3), (2,)]


def test_cut_off_and_changed_hdf5_is_one_line(h5_net, tmp_path):
    whole = h5_net.read_bytes()
    random = np.random.default_rng(0)
    for trial in range(60):
        broken = bytearray(whole[: random.integers(8, len(whole))] if trial % 2 else whole)
        for at in random.integers(8, min(len(broken), 4000), 4 if trial % 2 == 0 and len(broken) > 4000 else 0):
            broken[at] = random.integers(256)
        path = tmp_path / f"{trial}.h5"
        path.write_bytes(broken)
        message = ""
        try:
            net_weights(read_caffemodel(path))
        except WeightsError as error:
            message = str(error)
        assert "\n" not in message


def write_h5(path, make):
    with h5py.File(path, "w") as file:
        make(file)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f.create_dataset("data/a/0", (10**6, 10**6), "f4"), "claims 4000000000000 bytes"),
        (lambda f: f.create_dataset("data/a/0", data=np.arange(3)), "expected floats in the file itself, got int64"),
        (
            lambda f: (f.create_dataset("data/a/0", data=[1.0]), f.create_dataset("data/a/2", data=[1.0])),
            "expected blobs",
        ),
        (lambda f: f.create_dataset("model_weights/conv/0", data=[1.0]), "got another HDF5 file"),
        (lambda f: (f.create_dataset("iter", data=8), f.create_group("history")), "this is a solver state"),
        (lambda f: f.create_dataset("data", data=[1.0]), "got another HDF5 file"),
    ],
)
def test_other_hdf5_files_are_refused(tmp_path, make, message):
    path = write_h5(tmp_path / "a.h5", make)
    with pytest.raises(WeightsError, match=message):
        read_caffemodel(path)


def test_links_out_of_an_hdf5_file_are_not_followed(h5_net, tmp_path):
    def make(file):
        file["data/a/0"] = [1.0]
        file["data/out"] = h5py.ExternalLink(str(h5_net), "/data/fc6")

    assert [layer.name for layer in read_caffemodel(write_h5(tmp_path / "a.h5", make)).layers] == ["a"]
    path = write_h5(tmp_path / "b.h5", lambda file: file.update(data=h5py.ExternalLink(str(h5_net), "/data")))
    assert caffe_kind(path) is None
