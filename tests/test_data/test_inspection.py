import numpy as np
import pytest
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.file_facts import inspect_image
from deeplabctl.data.images import read_label, write_mask
from deeplabctl.data.inspection import check_samples
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


def test_good_labels_pass_and_are_counted(root):
    facts = check(root)
    label = read_label(label_path(root, "t0"))
    assert (facts[0].height, facts[0].width) == (60, 80)
    assert facts[0].pixels == {int(v): int((label == v).sum()) for v in np.unique(label)}


def test_value_out_of_range_names_file_value_and_fix(root):
    label = read_label(label_path(root))
    label[5, 5] = 37
    write_mask(label_path(root), label)
    with pytest.raises(DataError, match=r"t2\.png: expected class ids 0 to 2, or 255 for void, got 37; correct"):
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


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (1, 50), (50, 3), (8, 1), (9, 17)])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_images_of_any_size_can_be_inspected(tmp_path, size, suffix):
    Image.new("RGB", size).save(tmp_path / f"a.{suffix}")
    facts = inspect_image(tmp_path / f"a.{suffix}")
    assert (facts.width, facts.height) == size
