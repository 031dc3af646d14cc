"""labelme's documents: what its readers expect, and read back by `data convert`."""

import json
from pathlib import Path

import numpy as np
import pytest
from annotation_files import convert, write_image, written_label

from deeplabctl.data.exporting.labelme import labelme_document

CLASSES = ("background", "car", "tree")


def hollow_label():
    """Return a label with a car that has a hole of background and a tree in it, and a tree at the frame."""
    label = np.zeros((40, 50), np.uint8)
    label[5:30, 5:35] = 1
    label[10:25, 10:30] = 0
    label[14:20, 14:22] = 2
    label[32:, 40:] = 2
    return label


def test_document_has_what_labelme_reads(tmp_path):
    document = labelme_document(hollow_label(), CLASSES, tmp_path / "photos" / "a.jpg", tmp_path / "out")
    assert document["imagePath"] == "../photos/a.jpg"
    assert (document["imageHeight"], document["imageWidth"], document["imageData"]) == (40, 50, None)
    assert [shape["label"] for shape in document["shapes"]] == ["car", "_background_", "tree", "tree"]
    assert {shape["shape_type"] for shape in document["shapes"]} == {"polygon"}
    assert all(len(point) == 2 for shape in document["shapes"] for point in shape["points"])
    assert {"version", "flags"} <= document.keys()
    json.dumps(document)


def test_class_0_of_another_name_has_shapes():
    label = np.zeros((6, 6), np.uint8)
    label[:3] = 255
    document = labelme_document(label, ("sky", "road"), Path("a.jpg"), Path())
    assert sorted(shape["label"] for shape in document["shapes"]) == ["__ignore__", "sky"]


@pytest.mark.parametrize("tolerance", [0, 0.75])
def test_converter_reads_the_label_again(tmp_path, tolerance):
    labels = {"a": hollow_label(), "b": hollow_label()[::-1].copy()}
    (tmp_path / "out").mkdir()
    for name, label in labels.items():
        image = write_image(tmp_path / "photos" / f"{name}.jpg", size=label.shape)
        document = labelme_document(label, CLASSES, image, tmp_path / "out", tolerance)
        (tmp_path / "out" / f"{name}.json").write_text(json.dumps(document))
    written, _ = convert(tmp_path / "out", tmp_path / "set", images=tmp_path / "photos", classes=CLASSES)
    assert not written.failed
    for name, label in labels.items():
        agreement = (written_label(tmp_path / "set", name) == label).mean()
        assert agreement == 1 if tolerance == 0 else agreement > 0.99
