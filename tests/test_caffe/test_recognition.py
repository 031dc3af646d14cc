import zipfile

import numpy as np
import pytest
from caffe_bytes import block, number, packed, v1
from caffe_files import TINY, fixture
from PIL import Image

from deeplabctl.caffe import caffe_kind, read_caffemodel
from deeplabctl.errors import WeightsError


def test_solver_state_is_named_with_its_iteration_and_net(tmp_path):
    path = tmp_path / "a.caffemodel"  # the name does not help
    blob = packed(5, [1.0]) + b"".join(number(axis, 1) for axis in (1, 2, 3, 4))
    path.write_bytes(number(1, 20000) + block(2, "snap/train_iter_20000.caffemodel") + block(3, blob) + number(4, 2))
    assert caffe_kind(path) == "solver"
    with pytest.raises(
        WeightsError, match=r"solver state of iteration 20000 for the net snap/train_iter_20000.caffemodel"
    ):
        read_caffemodel(path)


def test_caffes_own_solver_state_is_named_and_so_is_its_beginning(tmp_path):
    path = fixture("train_tiny_step_f32_iter_8.solverstate")
    (tmp_path / "cut").write_bytes(path.read_bytes()[:3000])
    for file in (path, tmp_path / "cut"):
        assert caffe_kind(file) == "solver"
        with pytest.raises(WeightsError, match=r"iteration 8 for the net .*iter_8.caffemodel; give the .caffemodel"):
            read_caffemodel(file)


@pytest.mark.parametrize("name", ["lfov_tiny_v1", "lfov_tiny_v2", "lfov_slim_v1", "lfov_tiny_train_init_v1"])
def test_caffemodels_are_recognised_whole_and_cut_off(tmp_path, name):
    path = fixture(f"{name}.caffemodel")
    assert caffe_kind(path) == "net"
    for size in (20_000, 50_000):
        (tmp_path / "cut").write_bytes(path.read_bytes()[:size])
        assert caffe_kind(tmp_path / "cut") == "net"


def test_net_with_unknown_fields_in_front_is_recognized(tmp_path):
    (tmp_path / "a").write_bytes(number(500, 1) + block(501, "?") + v1("conv1_1"))
    assert caffe_kind(tmp_path / "a") == "net"


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


def test_other_files_are_refused_in_one_line(tmp_path):
    for path in [*other_files(tmp_path), tmp_path / "missing", tmp_path]:
        assert caffe_kind(path) is None, path
        with pytest.raises(WeightsError) as caught:
            read_caffemodel(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_damaged_caffemodel_is_named(tmp_path):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(TINY.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"a\.caffemodel: the file is damaged or truncated at byte"):
        read_caffemodel(path)
