"""The format of annotations is recognized by their content."""

import json
from pathlib import Path

import numpy as np
import pytest
from annotation_files import convert, write_coco, write_image
from closed_folder import closed

from deeplabctl.choices import ANNOTATIONS
from deeplabctl.data.formats import FORMATS, documents, read_annotations
from deeplabctl.data.formats.annotations import ImportSettings
from deeplabctl.data.labels import write_mask
from deeplabctl.errors import DataError
from deeplabctl.reporting import silent


def test_settings_of_other_formats_are_refused(tmp_path):
    """They would do nothing."""
    left, right = ([[x, 0, x + 8, 0, x + 8, 12, x, 12]] for x in (0, 8))
    source = write_coco(tmp_path, [{"category_id": 1, "segmentation": left}, {"category_id": 3, "segmentation": right}])
    wrong = {"attribute": "kind", "mask_suffix": "_mask", "image_suffix": "_rgb"}
    for name, value in wrong.items():
        with pytest.raises(DataError, match=rf"`{name}` has no effect on .*instances\.json, which is COCO's JSON"):
            convert(source, tmp_path / "out", **{name: value})
    with pytest.raises(DataError, match=r"`attribute` has .* it is for via; remove it, or choose another `format`$"):
        convert(source, tmp_path / "out", attribute="kind")
    masks = tmp_path / "images"  # a folder of images is one of masks
    for name, value in {"outside": "void", "crowds": "void"}.items():
        with pytest.raises(DataError, match=rf"`{name}` has no effect on .*images, which is a folder of masks"):
            convert(masks, tmp_path / "out", **{name: value})
    written, _ = convert(source, tmp_path / "out", outside="void", crowds="objects")
    assert written.pixels == {0: 96, 1: 96}


def test_files_that_this_user_may_not_read_are_named(tmp_path):
    source = write_coco(tmp_path / "x", []).rename(tmp_path / "x" / "instances.JSON")
    for path, what in ((source, "a file that this user may read, got 'Permission denied'"), (source.parent, "a file")):
        with closed(path), pytest.raises(DataError, match=rf"instances\.JSON: expected {what}"):
            read_annotations(source, ImportSettings(), silent)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"schema_ref": "x", "item": {}}', r"V7's Darwin JSON \(a\.json\); make COCO's JSON"),
        ("a.ndjson", '{"data_row": {}}', r"an export of Labelbox \(a\.ndjson\)"),
        ("output.manifest", '{"source-ref": "s3://a.jpg"}', "a manifest of SageMaker Ground Truth .* name its PNGs"),
        ("a.geojson", '{"type": "FeatureCollection", "features": []}', "GeoJSON, as of QuPath .* export labeled"),
        ("a_gtFine_polygons.json", '{"imgHeight": 12, "objects": []}', "Cityscapes' polygons .* folder of its masks"),
        ("a.json", '{"info": {}, "objects": []}', r"JSON of an unknown program \(a\.json\); export the annotations as"),
        ("a.nii.gz", "", r"arrays \(a\.nii\.gz\); save each mask as a PNG of class ids, named after its image"),
    ],
)
def test_files_of_other_programs_are_named_with_what_can_be_used_instead(tmp_path, name, content, message):
    write_image(tmp_path / "x" / "a.jpg")
    (tmp_path / "x" / name).write_text(content)
    for source in (tmp_path / "x", tmp_path / "x" / name):
        with pytest.raises(DataError, match=f"got {message}"):
            convert(source, tmp_path / "out")


def test_a_file_of_json_is_parsed_once(tmp_path, monkeypatch):
    """A large one takes seconds to parse."""
    source = write_coco(tmp_path, [{"category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 12]]}])
    parsed = []
    monkeypatch.setattr(documents, "read_json", lambda path: parsed.append(path) or json.loads(path.read_bytes()))
    convert(source, tmp_path / "out")
    assert parsed == [source]


def test_a_large_file_beside_masks_is_no_reason_to_refuse_them(tmp_path):
    write_image(tmp_path / "set" / "a.jpg")
    write_mask(tmp_path / "set" / "a.png", np.eye(12, 16, dtype=np.uint8))
    (tmp_path / "set" / "log.yaml").write_bytes(b"#" * (17 << 20))
    written, _ = convert(tmp_path / "set", tmp_path / "out", classes=("background", "line"))
    assert written.pixels == {0: 180, 1: 12}


def test_other_content_than_annotations_is_named(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"PK")
    kinds = f"{', '.join(known.content for known in FORMATS[:-1])} or a folder of masks"
    message = rf"x\.zip: expected {kinds}, got a zip.*unpack it"
    with pytest.raises(DataError, match=message):
        convert(tmp_path / "x.zip", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="named after their images, or annotations of another program, got no file"):
        convert(tmp_path / "empty", tmp_path / "out")
    for name in ("a.xml", "b.xml", "c.txt"):
        (tmp_path / "empty" / name).write_text("?")
    with pytest.raises(DataError, match=r"of another program, got 2 \.xml, 1 \.txt; choose their folder$"):
        convert(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match="expected labelme's JSON files"):
        convert(tmp_path / "empty", tmp_path / "out", format="labelme")
    with pytest.raises(DataError, match="expected one file of COCO instances, got none"):
        convert(tmp_path / "empty", tmp_path / "out", format="coco")
    with pytest.raises(DataError, match="empty: expected one XML file of CVAT's, got none; choose the file itself"):
        convert(tmp_path / "empty", tmp_path / "out", format="cvat")
    for name in ("IMG_1", "IMG_12", "b"):
        write_image(tmp_path / "photos" / f"{name}.jpg")
    message = r"photos: expected photos with masks or annotations, got 3 images without; outline .* use `images` for"
    with pytest.raises(DataError, match=message):
        convert(tmp_path / "photos", tmp_path / "out")
    names = ", ".join(("auto", *ANNOTATIONS))
    with pytest.raises(DataError, match=f"unknown format 'voc': expected one of {names}"):
        convert(tmp_path / "empty", tmp_path / "out", format="voc")
    with pytest.raises(DataError, match=r"x\.zip: expected a folder of masks, got a file"):
        convert(tmp_path / "x.zip", tmp_path / "out", format="ids")
    with pytest.raises(DataError, match=r"gone: there is no such file or folder$"):
        convert(tmp_path / "gone", tmp_path / "out")
    with pytest.raises(DataError, match=r"^https://example\.org/a\.json: expected a file or a folder, got an address"):
        convert(Path("https://example.org/a.json"), tmp_path / "out")
