"""CVAT's XML becomes a data set."""

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_image, written_label

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
    assert notes == ["1 lines, points, tags, cuboids and skeletons have no outline: skipped"]
    assert written.train == ["a", "b"]


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
