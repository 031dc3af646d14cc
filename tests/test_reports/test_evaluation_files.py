"""Results are printed before they are written, and where they cannot be written is known at the start."""

import errno
import json
import os

import numpy as np
import pytest
from caffe_files import TINY
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.classes import VOC_CLASSES


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def arguments(tmp_path, monkeypatch):
    """Make a set of VOC's classes, and return how to score its labels themselves."""
    monkeypatch.setenv("DEEPLABCTL_WEIGHTS", str(TINY))
    root = make_dataset(tmp_path / "set", val=2, size=(24, 32), classes=VOC_CLASSES)
    (root / "classes.txt").unlink()
    (tmp_path / "masks").mkdir()
    for path in (root / "SegmentationClass").glob("v*.png"):
        with Image.open(path) as mask:
            Image.fromarray(np.asarray(mask) % 255).save(tmp_path / "masks" / path.name)
    return ["eval", "--data", "set", "--pred-dir", "masks"]


def test_scores_are_printed_before_they_are_written(arguments, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.files.os.fsync", full_disk)
    code, out, err = deeplabctl(*arguments, "--out", "scores")
    assert code == 1
    assert "mIoU" in out
    assert err.splitlines()[-1].startswith("error: cannot write scores/scores.json: No space left on device")
    code, out, err = deeplabctl(*arguments, "--out", "scores", "--json")
    assert (code, json.loads(out)["images"]) == (1, 2)


@pytest.mark.tf
def test_scores_of_a_network_are_printed_before_they_are_written(arguments, deeplabctl, monkeypatch):
    monkeypatch.setattr("deeplabctl.files.os.fsync", full_disk)
    code, out, err = deeplabctl(*arguments[:3], "--out", "scores", "--pad", "tight")
    assert code == 1
    assert "mIoU" in out
    assert err.splitlines()[-1].startswith("error: cannot write scores/scores.json: No space left on device")


@pytest.mark.parametrize("more", [["--pred-dir", "masks"], [], ["--crf-search"]])
def test_folder_of_results_that_cannot_be_written_is_refused_before_anything_is_scored(
    arguments, deeplabctl, monkeypatch, more
):
    monkeypatch.setattr("deeplabctl.files.tempfile.TemporaryFile", full_disk)
    monkeypatch.setattr("deeplabctl.evaluation.mask_scores.score_masks", None)
    monkeypatch.setattr("deeplabctl.evaluation.target.open_target", None)
    code, out, err = deeplabctl(*arguments[:3], *more, "--out", "new/scores")
    assert (code, out) == (1, "")
    assert "error: cannot write new/scores: No space left on device" in err
