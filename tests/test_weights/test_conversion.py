import json
import os
import pickle
import re

import numpy as np
import pytest
from caffe_bytes import legacy, packed, v1
from caffe_files import DATA, TINY, fixture, read_blobs
from tiny_weights import tiny_variables, weight_file

from deeplabctl.errors import OutputError, WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.prediction.settings import own_settings
from deeplabctl.weights import convert, read_network
from deeplabctl.weights.conversion import inspect_weights, plan_conversion
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.published import published


def test_inspection_shows_format_layers_ranges_and_the_resulting_network():
    found = inspect_weights(TINY)
    assert found["format"] == "caffemodel"
    assert found["parameters"] == 20_939
    assert len(found["sha256"]) == 64
    assert found["becomes"].startswith("largefov of width 0.03125 with 21 classes; the names of the cl")
    blobs = read_blobs(TINY)
    ranges = [[blob.min(), blob.max()] for blob in (blobs["conv1_1/kernel"], blobs["conv1_1/bias"])]
    np.testing.assert_array_equal(found["layers"][0]["ranges"], ranges)


def test_inspection_of_numbers_that_are_not_finite_is_valid_json(tmp_path, deeplabctl):
    variables = tiny_variables()
    variables["conv1_1/w"][0, 0, 0, 0] = np.nan
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(variables))
    found = inspect_weights(tmp_path / "net.pkl")
    assert found["layers"][0]["ranges"][0] == [None, None]
    assert "NaN" not in json.dumps(found)
    code, out, _ = deeplabctl("convert-caffe", "net.pkl", "--inspect")
    assert code == 0
    assert "not finite to not finite" in out


def test_network_with_other_kinds_of_layers_is_listed_not_a_crash(tmp_path):
    batch_norm = v1("bn1", *[legacy(1, 1, 1, 2) + packed(5, [1, 2])] * 3, type_=5)
    prelu = v1("slope", legacy(1, 1, 1, 2) + packed(5, [1, 2]), type_=6)
    (tmp_path / "net.caffemodel").write_bytes(TINY.read_bytes() + batch_norm + prelu)
    with pytest.raises(WeightsError, match=r"\+ bn1 \(unexpected\); \+ slope \(unexpected\)"):
        plan_conversion(tmp_path / "net.caffemodel", tmp_path / "net.keras")
    assert inspect_weights(tmp_path / "net.caffemodel")["becomes"].startswith("nothing: ")


def test_conversion_refuses_a_file_that_exists_and_another_number_of_names(tmp_path):
    (tmp_path / "a.keras").write_text("mine")
    with pytest.raises(OutputError, match="use `overwrite` to replace it"):
        plan_conversion(TINY, tmp_path / "a.keras")
    with pytest.raises(OutputError, match=r"expected a name that ends in \.keras"):
        plan_conversion(TINY, tmp_path / "a.h5")
    with pytest.raises(WeightsError, match=r"`classes`: expected 21 names, .* got 2"):
        plan_conversion(TINY, tmp_path / "b.keras", classes=["a", "b"])
    for name in (1, "", "a ", "a\n", "0"):
        with pytest.raises(WeightsError, match=f"`classes`: expected different names, .* got {re.escape(repr(name))}"):
            plan_conversion(TINY, tmp_path / "b.keras", classes=[name, *map(str, range(20))])
    assert (tmp_path / "a.keras").read_text() == "mine"


def test_default_output_is_the_sources_name_in_the_working_directory():
    assert str(plan_conversion(TINY)) == "lfov_tiny_v1.keras"
    assert str(plan_conversion(TINY, "a.KERAS")) == "a.keras"  # Keras refuses the other


@pytest.mark.parametrize("name", [".", "../mine", "..//mine/x/.."])
def test_default_output_of_a_folder_has_the_folders_name(tmp_path, monkeypatch, name):
    folder = tmp_path / "mine"
    (folder / "x").mkdir(parents=True)
    (folder / "net.caffemodel").write_bytes(TINY.read_bytes())
    monkeypatch.chdir(folder)
    assert str(plan_conversion(name)) == "mine.keras"


def test_names_of_files_that_are_not_utf8_are_written_as_far_as_they_can_be_read(tmp_path):
    source = tmp_path / os.fsdecode("größe ".encode() + b"\xff.caffemodel")
    source.write_bytes(TINY.read_bytes())
    info = plan_conversion(source, tmp_path / "a.keras").info
    read = ModelInfo.from_json(info.to_json().encode(), tmp_path / "a.keras")
    assert read.provenance["source"] == "größe ?.caffemodel (caffemodel)"
    assert (read.classes, read.provenance["sha256"]) == (info.classes, info.provenance["sha256"])


def test_converted_published_weights_are_applied_at_the_size_of_their_images(tmp_path):
    published_file = tmp_path / published()["deeplabv3-mnv2-voc"].file
    published_file.write_bytes(TINY.read_bytes())
    before, after = read_network(published_file).info, plan_conversion(published_file, tmp_path / "a.keras").info
    assert own_settings(before).image_size == own_settings(after).image_size == 513


def test_facts_of_a_training_are_kept_in_a_conversion_and_scores_by_the_same_architecture_only(tmp_path, monkeypatch):
    trained = {"recipe": {"data": {"max_side": 640}}, "step": 7, "val_miou": 0.5, "expect": None}
    for architecture, kept in (("deeplabv3-mnv2", trained), ("deeplabv3-mnv2-os8", {**trained, "val_miou": None})):
        file = weight_file(ARCHITECTURES["deeplabv3-mnv2"].random_weights(2, 0.25, seed=1), TINY)
        file.info = ModelInfo(("a", "b"), "deeplabv3-mnv2", 0.25, trained)
        monkeypatch.setattr("deeplabctl.weights.conversion.open_weights", lambda path, file=file: file)
        found = plan_conversion(TINY, tmp_path / "a.keras", architecture=architecture).info.provenance
        assert {name: found.get(name) for name in trained} == kept
        assert found["source"] == "lfov_tiny_v1.caffemodel (weight pickle)"


@pytest.mark.tf
def test_converted_model_is_a_path_with_the_facts_of_the_network(tmp_path):
    names = tuple(f"thing {number}" for number in range(21))
    prototxt = DATA / "lfov_slim_v1_deploy.prototxt"
    converted = convert(fixture("lfov_slim_v1.caffemodel"), tmp_path / "a.keras", prototxt=prototxt, classes=names)
    assert os.fspath(converted) == str(tmp_path / "a.keras")
    assert (converted.file.words, converted.network.new_layers, converted.network.notes) == ("caffemodel", [], [])
    assert converted.checked_layers == 22
    assert len(repr(converted)) < 300
    network = read_network(converted)
    assert network.info == converted.info
    assert network.info.classes == names
    assert network.info.provenance["source"] == "lfov_slim_v1.caffemodel (caffemodel)"
    assert len(network.info.provenance["sha256"]) == 64
    assert converted.parameters == sum(array.size for array in network.weights.values())
    np.testing.assert_array_equal(
        network.weights["fc6/kernel"], read_blobs(fixture("lfov_slim_v1.caffemodel"))["fc6/kernel"]
    )


@pytest.mark.parametrize("link", [False, True])
def test_weights_are_never_replaced_by_what_is_made_of_them(tmp_path, link):
    source = tmp_path / "net.keras"
    source.write_bytes(TINY.read_bytes())
    (tmp_path / "link.keras").symlink_to(source)
    with pytest.raises(OutputError, match=r"\.keras is the file that is read and would be lost"):
        convert(source, tmp_path / "link.keras" if link else source, overwrite=True)
    assert source.read_bytes() == TINY.read_bytes()
