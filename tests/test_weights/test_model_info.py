import pytest

from deeplabctl.errors import WeightsError
from deeplabctl.weights.model_info import read_info


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0", b"PK\x03\x04 cut off", b"<html>"])
def test_files_that_are_not_models_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"expected a \.keras model file") as caught:
        read_info(path)
    assert "\n" not in str(caught.value)
