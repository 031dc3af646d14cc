import zipfile

import numpy as np
import pytest
from caffe_bytes import blobs_of, block, number, packed, same_blobs, v1
from caffe_files import DATA, TINY, shared
from PIL import Image

from deeplabctl.caffe import convolution_weights, read_caffemodel
from deeplabctl.caffe.sniff import is_caffemodel, looks_like_solverstate
from deeplabctl.errors import WeightsError


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


@pytest.fixture
def h5_net(h5py, tmp_path):
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
    converted = convolution_weights(net)
    same_blobs({name: converted[name] for name in expected}, convolution_weights(read_caffemodel(TINY)))
    assert is_caffemodel(h5_net)
    assert not looks_like_solverstate(h5_net)


def test_hdf5_matrix_is_an_inner_product_and_doubles_stay_doubles(h5py, tmp_path):
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["data/fc/0"], file["data/fc/1"] = np.ones((2, 3)), np.zeros(2)
    net = read_caffemodel(path)
    assert net.layers[0].blobs[0].dtype == np.float64
    assert [blob.shape for blob in convolution_weights(net)["fc"]] == [(2, 3), (2,)]


def test_cut_off_and_changed_hdf5_is_one_line(h5_net, tmp_path):
    whole = h5_net.read_bytes()
    random = np.random.default_rng(0)
    for trial in range(60):
        broken = bytearray(whole[: random.integers(8, len(whole))] if trial % 2 else whole)
        for at in random.integers(8, min(len(broken), 4000), 4 if trial % 2 == 0 and len(broken) > 4000 else 0):
            broken[at] = random.integers(256)
        path = tmp_path / f"{trial}.h5"
        path.write_bytes(broken)
        said = ""
        try:
            convolution_weights(read_caffemodel(path))
        except WeightsError as error:
            said = str(error)
        assert "\n" not in said


def write_h5(h5py, path, make):
    with h5py.File(path, "w") as file:
        make(file)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
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
def test_other_hdf5_files_are_refused(h5py, tmp_path, make, said):
    path = write_h5(h5py, tmp_path / "a.h5", make)
    with pytest.raises(WeightsError, match=said):
        read_caffemodel(path)


def test_links_out_of_an_hdf5_file_are_not_followed(h5py, h5_net, tmp_path):
    def make(file):
        file["data/a/0"] = [1.0]
        file["data/out"] = h5py.ExternalLink(str(h5_net), "/data/fc6")

    assert [layer.name for layer in read_caffemodel(write_h5(h5py, tmp_path / "a.h5", make)).layers] == ["a"]
    path = write_h5(h5py, tmp_path / "b.h5", lambda file: file.update(data=h5py.ExternalLink(str(h5_net), "/data")))
    assert not is_caffemodel(path)


# ---- solver states and mean images ----


def test_solver_state_is_named_with_its_iteration_and_net(tmp_path):
    path = tmp_path / "a.caffemodel"  # the name does not help
    blob = packed(5, [1.0]) + b"".join(number(axis, 1) for axis in (1, 2, 3, 4))
    path.write_bytes(number(1, 20000) + block(2, "snap/train_iter_20000.caffemodel") + block(3, blob) + number(4, 2))
    assert looks_like_solverstate(path)
    assert not is_caffemodel(path)
    with pytest.raises(
        WeightsError, match=r"solver state of iteration 20000 for the net snap/train_iter_20000.caffemodel"
    ):
        read_caffemodel(path)


def test_caffes_own_solver_state_is_named_and_so_is_its_beginning(tmp_path):
    path = shared("train_tiny_step_f32_iter_8.solverstate")
    (tmp_path / "cut").write_bytes(path.read_bytes()[:3000])
    for file in (path, tmp_path / "cut"):
        assert looks_like_solverstate(file)
        with pytest.raises(WeightsError, match=r"iteration 8 for the net .*iter_8.caffemodel; give the .caffemodel"):
            read_caffemodel(file)


def test_mean_image_is_named(tmp_path):
    path = tmp_path / "mean.binaryproto"
    path.write_bytes(number(1, 1) + number(2, 3) + number(3, 1) + number(4, 1) + packed(5, [104, 117, 123]))
    with pytest.raises(WeightsError, match="this is a mean image"):
        read_caffemodel(path)
    assert not looks_like_solverstate(path)


# ---- sniffing ----


@pytest.mark.parametrize("name", ["lfov_tiny_v1", "lfov_tiny_v2", "lfov_slim_v1", "lfov_tiny_train_init_v1"])
def test_caffemodels_are_recognised_whole_and_cut_off(tmp_path, name):
    path = DATA / f"{name}.caffemodel"
    assert is_caffemodel(path)
    assert not looks_like_solverstate(path)
    for size in (100, 200, 1000, 50_000):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:size])
        assert is_caffemodel(tmp_path / "cut")


def test_net_with_unknown_fields_in_front_is_recognised(tmp_path):
    (tmp_path / "a").write_bytes(number(500, 1) + block(501, "?") + v1("conv1_1"))
    assert is_caffemodel(tmp_path / "a")


def other_files(folder):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for suffix in ("jpg", "png", "bmp", "gif", "tiff", "webp", "ppm"):
        picture.save(folder / f"a.{suffix}")
    with zipfile.ZipFile(folder / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    np.save(folder / "a.npy", np.zeros(9))
    np.savez(folder / "a.npz", a=np.zeros(9))
    texts = {
        "a.prototxt": 'name: "net"\nlayers { name: "conv1_1" type: CONVOLUTION }\n',
        "list.txt": "2007_000032\n2007_000039\n",
        "blank.txt": "\n\n\n\n",
        "page.html": "<!DOCTYPE html><html><body>404</body></html>",
        "pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 82\n",
        "pickle0": "(dp0\nVconv1_1/w\np1\n",
        "empty": "",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    import pickle

    for protocol in range(2, 6):
        weights = {"conv1_1/w": np.random.default_rng(0).normal(size=(3, 3, 3, 64)).astype(np.float32)}
        (folder / f"pickle{protocol}").write_bytes(pickle.dumps(weights, protocol))
    for seed in range(200):
        (folder / f"noise{seed}").write_bytes(np.random.default_rng(seed).bytes(3000))
    # TensorFlow's graphs and saved models are protobuf messages too.
    (folder / "graph.pb").write_bytes(block(1, block(1, "conv1"), block(2, "Conv2D"), block(3, "data")) * 3)
    (folder / "library.pb").write_bytes(block(2, block(2, block(1, "gradient")), block(3, block(1, "more"))))
    (folder / "varint_as_name.pb").write_bytes(number(1, 1) + number(5, 0) + block(2, block(4, "conv1")) + number(6, 1))
    (folder / "saved_model.pb").write_bytes(number(1, 1) + block(2, block(1, block(1, "serve"))))
    return sorted(folder.iterdir())


def test_other_files_are_not_taken_for_caffemodels_and_are_one_line(tmp_path):
    for path in [*other_files(tmp_path), tmp_path / "missing", tmp_path]:
        assert not is_caffemodel(path), path
        assert not looks_like_solverstate(path), path
        with pytest.raises(WeightsError) as caught:
            read_caffemodel(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_error_tells_a_damaged_caffemodel_from_another_file(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(TINY.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"a\.caffemodel: the file is damaged or cut off at byte"):
        read_caffemodel(path)
    Image.new("RGB", (9, 9)).save(path, format="jpeg")
    with pytest.raises(WeightsError, match=r"this does not begin like a \.caffemodel; read as one, the file is"):
        read_caffemodel(path)
