import dataclasses
import re

import numpy as np
import pytest
from caffe_files import TINY, read_blobs
from family_files import family
from tiny_weights import weight_file

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.model_info import ModelInfo
from deeplabctl.weights.starting import build_model, open_start, start_weights, start_width

FIVE = ("a", "b", "c", "d", "e")


def test_random_start_is_new_in_every_layer():
    weights, new_layers, notes = start_weights(None, "largefov", FIVE, 0.1, seed=3)
    expected = ARCHITECTURES["largefov"].random_weights(5, 0.1, seed=3)
    assert (new_layers, notes) == ([conv.name for conv in ARCHITECTURES["largefov"].convolutions], [])
    np.testing.assert_array_equal(weights["fc6/kernel"], expected["fc6/kernel"])


def test_start_from_a_file_keeps_its_layers_and_notes_what_is_new():
    weights, new_layers, notes = start_weights(open_weights(TINY), "largefov", FIVE, 1 / 32, seed=3)
    said = [f"weights from {TINY}: 15 of 16 layers", "new and random: the classifier fc8_voc12"]
    assert (new_layers, notes) == (["fc8_voc12"], said)
    np.testing.assert_array_equal(weights["fc7/kernel"], read_blobs(TINY)["fc7/kernel"])
    assert start_weights(open_weights(TINY), "largefov", VOC_CLASSES, 1 / 32, seed=3)[1:] == (
        [],
        [f"weights from {TINY}: all 16 layers"],
    )


@pytest.mark.parametrize("architecture", ["largefov", "aspp-s"])
def test_classifier_of_the_same_classes_in_another_order_is_taken_by_name(architecture):
    table, order = ARCHITECTURES[architecture], [3, 0, 4, 1, 2]
    found = table.random_weights(5, 1 / 32, seed=1)
    for number, name in enumerate(table.classifiers):
        found[f"{name}/bias"] = np.arange(5, dtype=np.float32) + 10 * number
    file = weight_file(found)
    file.info = ModelInfo(FIVE, architecture, 1 / 32)
    weights, new, notes = start_weights(file, architecture, [FIVE[place] for place in order], 1 / 32, seed=3)
    assert (new, notes[1:]) == ([], ["its classes are the same in another order, and are matched by name"])
    for name, array in found.items():
        is_classifier = name.split("/")[0] in table.classifiers
        np.testing.assert_array_equal(weights[name], array[..., order] if is_classifier else array)
    file.weights = found
    others = (FIVE, 0), (("a", "b", "c", "d", "x"), 1), (("e", "d", "c", "b", "x"), 4)
    for classes, renamed in others:
        weights, _, notes = start_weights(file, architecture, classes, 1 / 32, seed=3)
        said = f"its classifier is kept by number, though {renamed} of 5 classes had other names"
        assert notes[1:] == ([said] if renamed else [])
        assert all(np.array_equal(weights[name], array) for name, array in found.items())
        file.weights = found


def test_width_is_the_files_unless_it_starts_random(tmp_path):
    (tmp_path / "best.keras").write_bytes(TINY.read_bytes())
    assert start_width(open_start("random", "largefov"), "largefov", 0.25) == 0.25
    assert start_width(open_start("random", "largefov"), "largefov") == 1
    assert start_width(open_start("imagenet", "largefov"), "largefov") == 1
    assert start_width(open_start(str(TINY), "largefov"), "largefov") == 1 / 32
    assert start_width(open_start(str(tmp_path), "largefov"), "largefov", 1 / 32) == 1 / 32  # a run directory


def test_model_of_another_network_is_refused_with_the_setting_that_trains_it():
    file = weight_file(ARCHITECTURES["largefov"].random_weights(5, 1 / 32, seed=1))
    file.info = ModelInfo(FIVE, "largefov", 1 / 32)
    assert start_width(file, "msc-largefov") == 1 / 32  # whose layers it has
    with pytest.raises(WeightsError, match=r"got those of largefov; model\.architecture=largefov trains"):
        start_width(file, "deeplabv3plus-mnv2")


@pytest.mark.parametrize(("init", "found"), [("imagenet", "1"), (str(TINY), r"0\.03125")])
def test_another_width_than_the_files_is_refused(init, found):
    with pytest.raises(WeightsError, match=rf"expected weights of width 0\.25, got width {found}.*`init=random`"):
        start_width(open_start(init, "largefov"), "largefov", 0.25)


@pytest.mark.parametrize("start", ["published", "random"])
def test_network_that_imagenets_weights_do_not_fit_is_refused_before_a_download(monkeypatch, start):
    monkeypatch.setitem(ARCHITECTURES, "own", dataclasses.replace(ARCHITECTURES["deeplabv3-resnet50"], start=start))
    others = {"published": "`init=published` or `init=random`", "random": "`init=random`"}[start]
    with pytest.raises(WeightsError, match=f"no ImageNet weights for own; start from a file, or from {others}$"):
        open_start("imagenet", "own")


def test_twin_whose_dilations_the_file_states_is_noted_in_a_training_and_refused_to_be_built():
    file = family("aspp_s_d16.caffemodel")
    notes = start_weights(open_weights(file), "aspp-l", VOC_CLASSES, 1 / 16, seed=1)[2]
    text = f"{file} states the dilations of aspp-s; aspp-l computes something else with the same weights"
    assert notes[1:] == [text]
    with pytest.raises(WeightsError, match=f"architecture: {re.escape(text)}"):
        build_model("aspp-l", weights=file)


def test_norm_that_its_kernel_comes_without_is_noted_as_new():
    found = ARCHITECTURES["deeplabv3-mnv2"].random_weights(21, 0.25, seed=1)
    found = {name: array for name, array in found.items() if not name.startswith(("Conv_BatchNorm", "aspp0"))}
    notes = start_weights(weight_file(found), "deeplabv3-mnv2", VOC_CLASSES, 0.25, seed=1)[2]
    assert notes[1:] == ["new and random: Conv_BatchNorm, aspp0"]


def test_many_new_layers_are_counted():
    found = ARCHITECTURES["deeplabv3-mnv2"].random_weights(21, 0.25, seed=1)
    _, new, notes = start_weights(weight_file(found), "deeplabv3plus-mnv2", FIVE, 0.25, seed=1)
    assert "aspp1_depthwise" in new
    assert re.fullmatch(r"weights from \S+: 54 of 66 layers", notes[0])
    assert notes[1:] == [
        "new and random: 12 layers, which log.txt names",
        "concat_projection: weights of 0 for the 768 channels of layers that the file does not have",
    ]
