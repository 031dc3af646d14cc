"""The file for the VOC server."""

from zipfile import ZipFile

import numpy as np

from deeplabctl.evaluation.voc_submission import voc_zip


def test_image_that_is_twice_in_a_list_is_once_in_the_file(tmp_path):
    with voc_zip(tmp_path / "v.zip", "val") as add:
        for name in ("a", "b", "a"):
            add(name, np.zeros((2, 3), np.uint8))
    with ZipFile(tmp_path / "v.zip") as archive:
        assert archive.namelist() == [f"results/VOC2012/Segmentation/comp6_val_cls/{name}.png" for name in "ab"]
