"""COCO's run lengths: those of pycocotools, and read back by `data convert` exactly."""

import json

import numpy as np
import pytest

from deeplabctl.data.exporting.coco import encode_runs, run_lengths, segments
from deeplabctl.data.importing.outlines import decode_coco_runs, fill_runs

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
pycocotools = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


def masks():
    rng = np.random.default_rng(4)
    yield np.zeros((3, 4), bool)
    yield np.ones((3, 4), bool)
    yield np.array([[True]])
    for height, width in ((1, 9), (9, 1), (40, 30), (300, 500)):
        yield rng.random((height, width)) < 0.5
        yield np.add.outer(np.arange(height), np.arange(width)) % 97 < 60  # long runs, large differences


@pytest.mark.parametrize("mask", list(masks()), ids=lambda mask: f"{mask.shape}-{mask.sum()}")
def test_run_lengths_are_those_of_pycocotools(mask):
    text = encode_runs(run_lengths(mask))
    encoded = pycocotools.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert text.encode() == encoded["counts"]
    assert decode_coco_runs(text) == run_lengths(mask)
    np.testing.assert_array_equal(fill_runs(decode_coco_runs(text), mask.shape, by_columns=True), mask)


def test_run_lengths_of_a_small_mask():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)  # by columns: 0 0, 1 0, 1 1
    assert run_lengths(mask) == [2, 1, 1, 2]
    assert run_lengths(~mask) == [0, 2, 1, 1, 2]


def test_segments_have_areas_and_boxes_of_pycocotools():
    label = np.random.default_rng(0).integers(0, 4, (31, 17)).astype(np.uint8)
    label[label == 3] = 255
    found = segments(label, ("background", "a", "b"))
    assert [segment["class_id"] for segment in found] == [1, 2]  # neither the background nor void
    for segment in found:
        runs = {**segment["segmentation"], "counts": segment["segmentation"]["counts"].encode()}
        np.testing.assert_array_equal(pycocotools.decode(runs), label == segment["class_id"])
        assert segment["area"] == pycocotools.area(runs)
        assert segment["bbox"] == pycocotools.toBbox(runs).tolist()


def test_class_0_of_another_name_is_a_segment():
    label = np.zeros((4, 4), np.uint8)
    assert [segment["class_id"] for segment in segments(label, ("sky", "road"))] == [0]
    assert segments(label, ("background", "road")) == []
    json.dumps(segments(label, ("sky", "road")))
