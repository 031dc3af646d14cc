"""The file for the VOC server."""

import errno
import os
from zipfile import ZipFile

import numpy as np
import pytest

from deeplabctl.cli.eval import _Outputs
from deeplabctl.data.dataset import Sample
from deeplabctl.errors import OutputError
from deeplabctl.evaluation.scores import ImageScores
from deeplabctl.evaluation.voc_submission import voc_zip


@pytest.mark.parametrize("full_at", [2, None])
def test_scores_are_there_before_the_error_of_a_disk_that_filled_up(tmp_path, monkeypatch, full_at):
    from deeplabctl.cli.console import Console

    counted = []

    def write(self, *arguments):
        counted.append(arguments)
        if len(counted) == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ZipFile, "writestr", write)
    if full_at is None:
        monkeypatch.setattr(os, "fsync", sync)
    outputs = _Outputs(None, tmp_path / "v.zip", "val", overwrite=False)
    with outputs.images() as add:
        for name in "abcd":
            sample = Sample(name, tmp_path / "image", tmp_path / "label")
            add(ImageScores(sample, np.zeros((2, 3), np.uint8), 0.5, ()))
    assert len(counted) == (full_at or 4)
    with pytest.raises(OutputError, match=r"cannot write .*v\.zip: No space left on device"):
        outputs.say(Console())
    assert list(tmp_path.iterdir()) == []


def test_error_of_the_scoring_is_not_taken_for_one_of_the_file(tmp_path):
    outputs = _Outputs(None, tmp_path / "v.zip", "val", overwrite=False)
    with pytest.raises(OutputError, match="another"), outputs.images():
        raise OutputError("another")


def test_image_that_is_twice_in_a_list_is_once_in_the_file(tmp_path):
    with voc_zip(tmp_path / "v.zip", "val") as add:
        for name in ("a", "b", "a"):
            add(name, np.zeros((2, 3), np.uint8))
    with ZipFile(tmp_path / "v.zip") as archive:
        assert archive.namelist() == [f"results/VOC2012/Segmentation/comp6_val_cls/{name}.png" for name in "ab"]
