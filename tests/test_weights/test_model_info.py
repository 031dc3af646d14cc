import json
import zipfile

import pytest
from tiny_weights import read_weights

from deeplabctl.errors import WeightsError
from deeplabctl.weights.locating import open_weights


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
    ],
)  # fmt: skip
def test_facts_that_no_training_writes_are_refused(tmp_path, provenance):
    facts = {"classes": ["a", "b"], "architecture": "largefov", "width": 1.0, "provenance": provenance}
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("deeplabctl.json", json.dumps(facts))
    with pytest.raises(WeightsError, match=r"net\.keras: the file is damaged"):
        assert open_weights(tmp_path / "net.keras").info
