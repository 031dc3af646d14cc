import os

import pytest

from deeplabctl.errors import WeightsError
from deeplabctl.weights.fitting import read_network
from deeplabctl.weights.locating import find_weights, open_weights


def make_run(path, age):
    path.mkdir(parents=True)
    for name in ("best.keras", "recipe.toml"):
        (path / name).write_text(name)
        os.utime(path / name, (1e9 - age, 1e9 - age))


def test_weights_are_the_best_of_the_newest_run(tmp_path):
    make_run(tmp_path / "runs" / "z-old", age=100)
    make_run(tmp_path / "runs" / "a-new", age=1)
    (tmp_path / "runs" / "newest-without-weights").mkdir()
    assert find_weights(None, tmp_path / "runs") == tmp_path / "runs" / "a-new" / "best.keras"
    assert find_weights(str(tmp_path / "runs" / "z-old"), tmp_path) == tmp_path / "runs" / "z-old" / "best.keras"


def test_no_weights_name_the_three_ways_to_get_some(tmp_path):
    with pytest.raises(WeightsError, match=r"deeplabctl train.*`weights=FILE`.*DEEPLABCTL_WEIGHTS"):
        find_weights(None, tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        read_network(find_weights(str(tmp_path / "gone.keras")))
    with pytest.raises(WeightsError, match="expected a run directory"):
        find_weights(str(tmp_path))
    with pytest.raises(WeightsError, match="no such file"):
        open_weights("long" * 100)


def test_file_whose_name_is_the_ending_of_a_checkpoint_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"weights \.index: there is no such file"):
        open_weights(".index")


def test_pipe_is_refused_and_not_waited_for(tmp_path):
    for name in ("pipe", "pipe.index"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(WeightsError, match=f"{name}: expected a file, got a pipe or a device; choose"):
            open_weights(tmp_path / name)


def test_folder_with_one_weight_file_or_export_stands_for_it(tmp_path):
    (tmp_path / "notes.txt").write_text("not weights")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert find_weights(str(tmp_path)) == tmp_path / "pytorch_model.bin"
    (tmp_path / "net.onnx").write_bytes(b"")
    for left in (".net.0123abcd.keras", "._net.onnx"):  # by a killed process, and by macOS
        (tmp_path / left).write_bytes(b"")
    assert find_weights(str(tmp_path)) == tmp_path / "net.onnx"
    saved = tmp_path / "other" / "net"
    saved.mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"")
    assert find_weights(str(saved.parent)) == saved
    (tmp_path / "net.keras").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"one weight file in it, got 2 \(net.keras, net.onnx\); name one"):
        find_weights(str(tmp_path))
    (tmp_path / "best.keras").write_bytes(b"")
    assert find_weights(str(tmp_path)) == tmp_path / "best.keras"
