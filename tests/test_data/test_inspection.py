import json

import numpy as np
import pytest
from making import make_dataset
from PIL import Image

from deeplabctl.data import inspection as labels
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.images import read_label, write_mask
from deeplabctl.data.inspection import LabelFacts, check_labels, median_frequency_weights
from deeplabctl.errors import DataError
from deeplabctl.reporting import silent


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set")


def check(root):
    dataset = open_dataset(root)
    return check_labels(dataset, dataset.samples("train"), silent)


def label_path(root, name="t2"):
    return root / "SegmentationClass" / f"{name}.png"


def test_good_labels_pass_and_are_counted(root):
    facts = check(root)
    label = read_label(label_path(root, "t0"))
    assert (facts[0].height, facts[0].width) == (60, 80)
    assert facts[0].pixels == {int(v): int((label == v).sum()) for v in np.unique(label)}


def test_value_out_of_range_names_file_value_and_mend(root):
    label = read_label(label_path(root))
    label[5, 5] = 37
    write_mask(label_path(root), label)
    with pytest.raises(DataError, match=r"t2\.png: expected class ids 0 to 2, or 255 for void, got 37; mend"):
        check(root)


def test_grey_copy_of_a_palette_label_is_recognised(root):
    with Image.open(label_path(root)) as palette:
        palette.convert("L").save(label_path(root))
    with pytest.raises(DataError, match=r"t2\.png: a palette's colours turned into grey levels \(0, .*220\)"):
        check(root)


def test_binary_mask_is_recognised(root):
    label = read_label(label_path(root))
    Image.fromarray(((label > 0) * 255).astype(np.uint8)).save(label_path(root))
    with pytest.raises(DataError, match=r"t2\.png: a 0/255 mask, but 255 means void.*write 1 for the object"):
        check(root)


def test_coloured_label_and_unreadable_label_are_named(root):
    with Image.open(label_path(root)) as palette:
        palette.convert("RGB").save(label_path(root))
    with pytest.raises(DataError, match=r"t2\.png: expected one channel of class ids"):
        check(root)
    label_path(root).write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot read .*t2\.png"):
        check(root)


def test_label_of_another_size_than_its_image_is_refused(root):
    write_mask(label_path(root), np.zeros((80, 60), np.uint8))
    with pytest.raises(DataError, match=r"t2\.png: expected the size of its image t2\.png, 80x60, got 60x80"):
        check(root)


def test_unchanged_labels_are_not_opened_again_and_changed_ones_are(root, monkeypatch):
    first = check(root)
    opened = []
    original = labels.read_label
    monkeypatch.setattr(labels, "read_label", lambda path: opened.append(path.name) or original(path))
    assert check(root) == first
    assert opened == []
    label = read_label(label_path(root))
    label[:] = 1
    write_mask(label_path(root), label)
    assert check(root)[2].pixels == {1: 4800}
    assert opened == ["t2.png"]


def test_damaged_memory_is_made_anew(root):
    first = check(root)
    memory = labels._Memory(root)._path
    memory.write_text(json.dumps({"format": 1})[:-4])
    assert check(root) == first


def test_wrong_labels_are_refused_again_from_memory(root):
    write_mask(label_path(root), np.full((60, 80), 9, np.uint8))
    for _ in range(2):
        with pytest.raises(DataError, match="got 9"):
            check(root)


def test_median_frequency_weights_by_hand():
    # Class 0: 30 of 40 + 10 of 20 valid pixels -> 40/60; class 1: 10 of 40 -> 1/4; class 2: 10 of 20 -> 1/2; 3: absent.
    facts = [LabelFacts(10, 5, {0: 30, 1: 10, 255: 10}), LabelFacts(5, 4, {0: 10, 2: 10})]
    np.testing.assert_allclose(median_frequency_weights(facts, 4), [0.5 / (2 / 3), 2.0, 1.0, 0.0])
