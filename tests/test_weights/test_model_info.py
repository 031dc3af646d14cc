import json
import zipfile
from pathlib import Path

import pytest
from tiny_weights import read_weights

from deeplabctl.classes import VOC_CLASSES, ClassNames, voc_palette
from deeplabctl.errors import WeightsError
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.model_info import ModelInfo


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0", b"PK\x03\x04 cut off", b"<html>"])
def test_files_that_are_not_models_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"expected a model file \(\.keras\)") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "provenance",
    [
        {"expect": {}, "recipe": {"eval": 3}}, {"expect": {"miou": 0.5}}, {"expect": [1]}, {"recipe": [1]},
        {"expect": {"miou": "x", "tolerance": 0.1, "images": 2, "source": "a"}},
        {"expect": {"miou": float("nan"), "tolerance": 0.1, "images": 2, "source": "a"}},
        {"data": ["a"]}, {"split": 3}, {"recipe": {"data": "a"}}, {"note": "\ud800"}, {"note": float("inf")},
    ],
)  # fmt: skip
def test_facts_that_no_training_writes_are_refused(tmp_path, provenance):
    facts = {"classes": ["a", "b"], "architecture": "largefov", "width": 1.0, "provenance": provenance}
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("deeplabctl.json", json.dumps(facts))
    with pytest.raises(WeightsError, match=r"net\.keras: the file is damaged"):
        assert open_weights(tmp_path / "net.keras").info


@pytest.mark.parametrize(
    "odd",
    [
        {"classes": "background"}, {"classes": []}, {"classes": ["a", 2]}, {"classes": ["a", "\udc80"]},
        {"classes": ["a"] * 256}, {"classes": {"a": 1}}, {"width": "1.0"}, {"width": True}, {"width": float("nan")},
        {"width": -1}, {"width": 10**400}, {"architecture": ["largefov"]}, {"provenance": []}, {"export": 3},
    ],
    ids=str,
)  # fmt: skip
def test_facts_of_other_types_are_refused_in_one_line(odd):
    facts = {"classes": ["a", "b"], "architecture": "largefov", "width": 1.0, "provenance": {}} | odd
    with pytest.raises(WeightsError, match=r"net\.keras: the file is damaged") as caught:
        ModelInfo.from_json(json.dumps(facts).encode(), Path("net.keras"))
    assert "\n" not in str(caught.value)


def test_colours_of_classes_are_kept_in_model_files_and_those_by_default_are_not_taken_for_them():
    for colors in ((70, 130, 180), (128, 64, 128)), tuple(map(tuple, voc_palette()[:2].tolist())):
        names = ClassNames(("sky", "road"), colors)
        stored = ModelInfo(names).to_json()
        assert json.loads(stored)["palette"] == [list(color) for color in colors]
        found = ModelInfo.from_json(stored.encode(), Path("a.keras")).classes
        assert (found, found.colors) == (names, colors)
    for classes in (VOC_CLASSES, ("sky", "road")):
        text = ModelInfo(classes).to_json()
        assert not hasattr(ModelInfo.from_json(text.encode(), Path("a.keras")).classes, "colors")


@pytest.mark.parametrize(
    "palette", [[[0, 0, 0]], [[0, 0], [1, 1, 1]], [[0, 0, 300], [1, 1, 1]], "red", [[0, 0, 0.5], [1, 1, 1]]]
)
def test_damaged_palette_of_a_model_file_is_refused(palette):
    text = json.dumps(json.loads(ModelInfo(("sky", "road")).to_json()) | {"palette": palette})
    with pytest.raises(WeightsError, match="the file is damaged"):
        ModelInfo.from_json(text.encode(), Path("a.keras"))
