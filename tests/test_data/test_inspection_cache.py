"""Unchanged files are not opened again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from dataset_files import make_dataset

from deeplabctl.data import inspection_cache
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_label, write_mask
from deeplabctl.data.inspection import check_samples
from deeplabctl.data.inspection_cache import InspectionCache
from deeplabctl.errors import DataError
from deeplabctl.reporting import silent


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set")


def check(root):
    dataset = open_dataset(root)
    return check_samples(dataset, dataset.samples("train"), silent)


def label_path(root, name="t2"):
    return root / "SegmentationClass" / f"{name}.png"


def test_unchanged_labels_are_not_opened_again_and_changed_ones_are(root, monkeypatch):
    first = check(root)
    opened = []
    original = inspection_cache.inspect_label
    monkeypatch.setattr(inspection_cache, "inspect_label", lambda path: opened.append(path.name) or original(path))
    assert check(root) == first
    assert opened == []
    label = read_label(label_path(root))
    label[:] = 1
    write_mask(label_path(root), label)
    assert check(root)[2].pixels == {1: 4800}
    assert opened == ["t2.png"]


def test_damaged_cache_is_replaced(root):
    first = check(root)
    path = InspectionCache(root).path
    stored = json.loads(path.read_text())
    for damaged in ([7], {"format": 1}, {**stored, "files": "x"}, {**stored, "files": [1]}):
        path.write_text(json.dumps(damaged))
        assert check(root) == first
    path.write_text(json.dumps({"format": 1})[:-4])
    assert check(root) == first


@pytest.mark.parametrize("facts", [[60], [60, "x", []], [60, 80, [["a", 1]]], [60, 80, 7], None, [1e999, 80, []]])
def test_damaged_entry_of_the_cache_is_read_again(root, facts):
    first = check(root)
    path = InspectionCache(root).path
    stored = json.loads(path.read_text())
    for key, text in stored["files"].items():
        stored["files"][key] = json.dumps([json.loads(text)[0], facts])
    path.write_text(json.dumps(stored))
    assert check(root) == first


def test_wrong_labels_are_refused_again_from_the_cache(root):
    write_mask(label_path(root), np.full((60, 80), 9, np.uint8))
    for _ in range(2):
        with pytest.raises(DataError, match="got 9"):
            check(root)


def test_data_set_whose_name_is_not_utf8_is_remembered_as_any_other(tmp_path, monkeypatch):
    root = make_dataset(tmp_path / os.fsdecode(b"set \xff"))
    first = check(root)
    assert InspectionCache(root).path.exists()
    monkeypatch.setattr(inspection_cache, "inspect_label", None)
    assert check(root) == first


def test_user_without_a_home_checks_a_data_set_each_time(root, monkeypatch):
    monkeypatch.setattr(inspection_cache, "user_cache", lambda: None)
    assert check(root) == check(root)
    assert not Path("~").exists()
