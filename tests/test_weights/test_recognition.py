import zipfile
from pathlib import Path

import pytest

from deeplabctl.errors import WeightsError
from deeplabctl.training.checkpoint import Checkpoint, Progress
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.torch_files import TorchFile


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG image"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"name: 'LargeFOV'\nlayers { name: 'conv1_1' }\n", "a prototxt"),
        (b"# comment\n\nlayer {\n", "a prototxt"),
        (b"PK\x05\x06" + b"\x00" * 18, "an unknown format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b"", "an empty file"),
        (b"2007_000032\n2007_000039\n", "a text file"),
        (b"\x00\x01\x02" * 100, "an unknown format"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b'{"weights": []}', "a JSON text"),
        (b'<?xml version="1.0"?>\n<net name="deeplab">', "an XML file"),
        (b"\x93NUMPY\x01\x00v\x00", "a file of NumPy"),
        (b"model.ckpt.index".ljust(257, b"\0") + b"ustar\x0000", "a tar archive that is not packed"),
    ],
)
def test_file_without_weights_is_named_for_what_it_is(tmp_path, content, what):
    path = tmp_path / "model.caffemodel"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=what) as caught:
        open_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.ckpt-5.data-00000-of-00001", "model.ckpt-5.meta"])
def test_part_of_a_checkpoint_asks_for_its_index(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00\x01\x02" * 100)
    with pytest.raises(WeightsError, match=r"a part of a TensorFlow checkpoint without its \.index"):
        open_weights(tmp_path / name)


def test_zip_archives_are_told_apart(tmp_path):
    for name in ("a.txt", "net/data.pkl"):
        with zipfile.ZipFile(tmp_path / f"{Path(name).stem}.keras", "w") as archive:
            archive.writestr(name, "x")
    with pytest.raises(WeightsError, match="a zip archive; unpack"):
        open_weights(tmp_path / "a.keras")
    assert type(open_weights(tmp_path / "data.keras")) is TorchFile
    Checkpoint(Progress(), {}, [], {}, {}).write(tmp_path)
    with pytest.raises(WeightsError, match="a checkpoint of a training; name the run directory"):
        open_weights(tmp_path / "step-000000.npz")
    whole = (tmp_path / "a.keras").read_bytes()
    (tmp_path / "a.keras").write_bytes(whole[:20])
    with pytest.raises(WeightsError, match="damaged or truncated"):
        open_weights(tmp_path / "a.keras")
