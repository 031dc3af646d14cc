"""The format of annotations is recognised by their content."""

import pytest
from annotation_files import convert

from deeplabctl.errors import DataError


def test_other_content_than_annotations_is_named(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    kinds = r"labelme's JSON files, COCO's JSON, CVAT's XML, YOLO's data\.yaml, Label Studio's JSON, "
    kinds += "Supervisely's project, VIA's regions or a folder of masks"
    message = rf"x\.zip: expected {kinds}, got a zip.*unpack it"
    with pytest.raises(DataError, match=message):
        convert(tmp_path / "x.zip", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="named after their images, got no image file in this folder"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="expected labelme's JSON files"):
        convert(tmp_path / "empty", tmp_path / "out", format="labelme")
    with pytest.raises(DataError, match="expected one file of COCO instances, got none"):
        convert(tmp_path / "empty", tmp_path / "out", format="coco")
    names = "auto, labelme, coco, cvat, yolo, labelstudio, supervisely, via, colors"
    with pytest.raises(DataError, match=f"unknown format 'voc': expected one of {names}"):
        convert(tmp_path / "empty", tmp_path / "out", format="voc")
    with pytest.raises(DataError, match=r"x\.zip: expected a folder of masks, got a file"):
        convert(tmp_path / "x.zip", tmp_path / "out", format="ids")
    with pytest.raises(DataError, match=r"gone: there is no such file or folder$"):
        convert(tmp_path / "gone", tmp_path / "out")
