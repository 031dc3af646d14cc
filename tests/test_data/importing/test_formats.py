"""The format of annotations is recognised by their content."""

import pytest
from annotation_files import convert

from deeplabctl.errors import DataError


def test_other_content_than_annotations_is_named(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"x\.zip: expected a folder of masks.*unpack it"):
        convert(tmp_path / "x.zip", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="named after their images, got no image file in this folder"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="expected labelme's JSON files"):
        convert(tmp_path / "empty", tmp_path / "out", format="labelme")
    with pytest.raises(DataError, match="expected one file of COCO instances, got none"):
        convert(tmp_path / "empty", tmp_path / "out", format="coco")
