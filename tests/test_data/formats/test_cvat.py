"""CVAT's XML becomes a data set."""

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_image, written_label

from deeplabctl.data.formats.cvat import cvat_file, cvat_shapes
from deeplabctl.errors import DataError

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
 <meta><task><labels><label><name>road</name></label><label><name>car</name></label></labels></task></meta>
 <image id="0" name="day 1/a.jpg" width="16" height="12">
  <mask label="car" rle="2,3,1" left="1" top="9" width="3" height="2" z_order="5"></mask>
  <polygon label="road" points="0.00,6.00;16.00,6.00;16.00,12.00;0.00,12.00" z_order="0"></polygon>
  <box label="car" xtl="2" ytl="1" xbr="6" ybr="3" z_order="1"></box>
  <ellipse label="car" cx="12.5" cy="3.5" rx="2" ry="1" z_order="1"></ellipse>
  <points label="car" points="1,2"></points>
 </image>
 <image id="1" name="b.jpg" width="16" height="12"><polygon label="road" points="0,0;9,0;9,9" z_order="0"/></image>
</annotations>"""


def test_cvats_shapes_lie_on_one_another_by_z_order(tmp_path):
    write_image(tmp_path / "task" / "images" / "day 1" / "a.jpg")
    write_image(tmp_path / "task" / "images" / "b.jpg")
    (tmp_path / "task" / "annotations.xml").write_text(CVAT)
    written, notes = convert(tmp_path / "task", tmp_path / "out")
    assert written.classes == ("background", "road", "car")  # as in the task
    expected = np.zeros(SIZE, int)
    expected[6:] = 1
    expected[1:3, 2:6] = 2
    expected[3, 10:15] = expected[2, 12] = expected[4, 12] = 2
    expected[9, 3] = expected[10, 1] = expected[10, 2] = 2  # 0 0 1 / 1 1 0 from (1, 9)
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)
    assert notes == ["lines, points and other shapes without an area: 1 skipped"]
    assert written.train == ["a", "b"]


def test_frames_of_a_video_are_found_which_cvat_names_without_a_suffix(tmp_path):
    text = CVAT.replace('"day 1/a.jpg"', '"frame_000000"').replace('"b.jpg"', '"frame_000001"')
    (tmp_path / "annotations.xml").write_text(text)
    write_image(tmp_path / "images" / "frame_000000.PNG")
    write_image(tmp_path / "images" / "frame_000001.PNG")
    written, notes = convert(tmp_path, tmp_path / "out")
    assert (written.train, written.failed) == (["frame_000000", "frame_000001"], [])
    assert notes == ["lines, points and other shapes without an area: 1 skipped"]
    assert written_label(tmp_path / "out", "frame_000000")[9, 3] == 2


def test_the_only_xml_of_cvats_in_a_folder_is_found_by_its_content(tmp_path):
    write_image(tmp_path / "images" / "day 1" / "a.jpg")
    write_image(tmp_path / "images" / "b.jpg")
    (tmp_path / "train.xml").write_text(CVAT)  # as Datumaro names it
    (tmp_path / "a.xml").write_text("<annotation><folder>VOC</folder></annotation>")
    written, _ = convert(tmp_path, tmp_path.parent / "out")
    assert written.train == ["a", "b"]
    (tmp_path / "test.xml").write_text(CVAT)
    with pytest.raises(DataError, match=r"one XML file of CVAT's, got test.xml, train.xml; choose the file itself"):
        convert(tmp_path, tmp_path.parent / "two")


def test_cvats_videos_and_other_xml_are_refused_with_what_to_export(tmp_path):
    path = tmp_path / "annotations.xml"
    for text, message in (
        ("<annotations><track id='0'/></annotations>", "tracks of a video; export the task as"),
        ("<annotation><object/></annotation>", "<annotation> without images"),
        ("<annotations>", "expected CVAT's XML"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            convert(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('z_order="5"', 'z_order="5.0"'), ('height="2"', 'height="2000000000"'), ('rle="2,3,1"', 'rle="2,x"'),
        ('width="16"', 'width="200000"'), ('width="16"', 'width="x"'), ('rx="2"', 'rx="nan"'), ('rx="2"', 'rx="-2"'),
        ('points="0.00,6.00;', 'points="1e308,6.00;'), ('xtl="2"', 'xtl="inf"'), ('points="0.00,6.00;', 'points=";'),
    ],
)  # fmt: skip
def test_one_odd_image_fails_alone(tmp_path, old, new):
    write_image(tmp_path / "images" / "day 1" / "a.jpg")
    write_image(tmp_path / "images" / "b.jpg")
    assert old in CVAT
    (tmp_path / "annotations.xml").write_text(CVAT.replace(old, new, 1))
    written, _ = convert(tmp_path, tmp_path / "out")
    assert written.train == ["b"]
    assert len(written.failed) == 1
    assert "a.jpg" in written.failed[0]
    assert "literal" not in written.failed[0]  # which is Python's word


@pytest.mark.parametrize("encoding", ["shift_jis", "x-unknown", "utf-16", "cp037"])
def test_xml_in_other_encodings_is_refused(tmp_path, encoding):
    (tmp_path / "annotations.xml").write_text(CVAT.replace("utf-8", encoding))
    with pytest.raises(DataError, match=r"expected CVAT's XML \(.*; export it again"):
        convert(tmp_path, tmp_path / "out")


def test_circle_without_a_radius_covers_no_pixel(tmp_path):
    write_image(tmp_path / "images" / "day 1" / "a.jpg")
    write_image(tmp_path / "images" / "b.jpg")
    (tmp_path / "annotations.xml").write_text(CVAT.replace('rx="2"', 'rx="0"'))
    convert(tmp_path, tmp_path / "out")
    assert (written_label(tmp_path / "out")[2:5, 10:15] == 0).all()


def test_parts_of_skeletons_and_labels_without_an_area_are_no_classes(tmp_path):
    write_image(tmp_path / "a.jpg")
    (tmp_path / "annotations.xml").write_text(
        "<annotations><meta><task><labels>"
        "<label><name>person</name><type>skeleton</type></label>"
        "<label><name>nose</name><type>points</type><parent>person</parent></label>"
        "<label><name>gaze</name><type>polyline</type></label>"
        "<label><name>car</name><type>any</type></label>"
        "</labels></task></meta>"
        '<image name="a.jpg" width="16" height="12"><box label="car" xtl="0" ytl="0" xbr="8" ybr="6"/>'
        '<skeleton label="person"><points label="nose" points="1,1"/></skeleton>'
        '<polygon label="car" points="1,1;3,3"/></image></annotations>'
    )
    written, notes = convert(tmp_path / "annotations.xml", tmp_path / "out")
    assert written.classes == ("background", "car")
    assert written.pixels == {0: 144, 1: 48}
    assert notes == ["lines, points and other shapes without an area: 2 skipped"]


def test_a_label_becomes_masks_and_these_the_label(tmp_path):
    label = np.zeros(SIZE, np.uint8)
    label[2:4, 3:6] = 1
    label[2, 4] = 255
    label[3, 5] = 2
    shapes = cvat_shapes(label, ("background", "a <car>", "tree"))
    assert shapes[0] == {
        "label": "a <car>", "rle": "0, 1, 1, 3, 1", "left": "3", "top": "2", "width": "3", "height": "2",
        "z_order": "0",
    }  # fmt: skip
    assert (shapes[1]["rle"], len(shapes)) == ("0, 1", 2)
    image = write_image(tmp_path / "photos" / "a&b.jpg")
    with cvat_file(tmp_path / "cvat.xml", ("background", "a <car>", "tree"), [image]) as add:
        add(image, SIZE, shapes)
    written, _ = convert(tmp_path / "cvat.xml", tmp_path / "out", images=tmp_path / "photos")
    assert written.classes == ("background", "a <car>", "tree")
    label[2, 4] = 0  # void is in no mask
    np.testing.assert_array_equal(written_label(tmp_path / "out", "a&b"), label)
