"""Counts of a small set and weights of its classes worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.inspection import LabelFacts, count_neighbours
from deeplabctl.data.labels import write_mask
from deeplabctl.data.stats import (
    count_splits,
    default_splits,
    median_frequency_weights,
    shows_upright,
)
from deeplabctl.errors import DataError
from deeplabctl.reporting import silent

CLASSES = ("background", "disc", "square")


@pytest.fixture
def root(tmp_path):
    """Two images to train on, of 4x5 and 6x5 pixels, and one to validate."""
    labels = {"a": np.zeros((4, 5), np.uint8), "b": np.zeros((6, 5), np.uint8), "v": np.full((4, 5), 2, np.uint8)}
    labels["a"][0] = 255
    labels["a"][1] = 1
    labels["b"][:2] = 1
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for name, label in labels.items():
        write_mask(tmp_path / "set" / "SegmentationClass" / f"{name}.png", label)
        Image.new("RGB", label.shape[::-1]).save(tmp_path / "set" / "JPEGImages" / f"{name}.png")
    (tmp_path / "set" / "ImageSets" / "Segmentation" / "train.txt").write_text("a\nb\n")
    (tmp_path / "set" / "ImageSets" / "Segmentation" / "val.txt").write_text("v\n")
    (tmp_path / "set" / "classes.txt").write_text("\n".join(CLASSES))
    return tmp_path / "set"


def test_counts_by_hand(root):
    dataset = open_dataset(root)
    assert default_splits(dataset) == ["train", "val"]
    counted = count_splits(dataset, ["train", "val"], silent)
    train, val = counted.splits
    assert (train.images, train.pixels, train.images_with, train.void) == (2, [30, 15, 0], [2, 2, 0], 5)
    assert train.shares == [30 / 45, 15 / 45, 0.0]
    assert train.void_share == 5 / 50
    assert (train.heights, train.widths) == ((4, 5.0, 6), (5, 5.0, 5))
    assert (val.pixels, val.images_with, val.void) == ([0, 0, 20], [0, 0, 1], 0)
    # Frequencies 30/45 and 15/45 of the valid pixels of the images that have the class; their median is 1/2.
    np.testing.assert_allclose(counted.weights, [0.75, 1.5, 0.0])


def test_json_has_names_numbers_and_the_split_of_the_weights(root):
    found = count_splits(open_dataset(root), ["val", "train"], silent).to_dict()
    assert [split["name"] for split in found["splits"]] == ["val", "train"]
    assert found["splits"][0]["classes"][2] == {"name": "square", "pixels": 20, "share": 1.0, "images": 1}
    assert found["splits"][1]["height"] == {"min": 4, "median": 5.0, "max": 6}
    assert found["median_frequency_weights"] == {"split": "val", "weights": [0.0, 0.0, 1.0]}


def test_labels_with_errors_are_not_counted(root):
    write_mask(root / "SegmentationClass" / "a.png", np.full((4, 5), 9, np.uint8))
    with pytest.raises(DataError, match=r"a\.png: expected class ids 0 to 2"):
        count_splits(open_dataset(root), ["train"], silent)


def test_set_without_lists_is_refused(root):
    for path in (root / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    dataset = open_dataset(root)
    with pytest.raises(DataError, match=r"no split 'train': .*got the splits: none; write that list"):
        count_splits(dataset, default_splits(dataset), silent)


def test_median_frequency_weights_by_hand():
    # Class 0: 30 of 40 + 10 of 20 valid pixels -> 40/60; class 1: 10 of 40 -> 1/4; class 2: 10 of 20 -> 1/2; 3: absent.
    facts = [LabelFacts(10, 5, {0: 30, 1: 10, 255: 10}), LabelFacts(5, 4, {0: 10, 2: 10})]
    np.testing.assert_allclose(median_frequency_weights(facts, 4), [0.5 / (2 / 3), 2.0, 1.0, 0.0])


def test_labels_without_a_valid_pixel_give_no_weights():
    assert median_frequency_weights([LabelFacts(2, 5, {255: 10})], 3) == [0.0, 0.0, 0.0]


def facts_of(*labels):
    return [LabelFacts(*label.shape, {}, "", count_neighbours(label)) for label in labels]


def test_neighbours_by_hand():
    label = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 255]], np.uint8)
    assert count_neighbours(label) == ((0, 1, 0, 2), (0, 2, 2, 0), (1, 2, 1, 0))


def test_places_that_are_the_same_from_all_sides_do_not_show_which_is_up():
    rng = np.random.default_rng(0)
    fields = [np.repeat(np.repeat(rng.integers(0, 4, (12, 12)), 9, 0), 9, 1).astype(np.uint8) for _ in range(40)]
    assert shows_upright(facts_of(*fields)) is False
    assert shows_upright(facts_of(*(np.sort(field, axis=0) for field in fields)))  # one class always above another
    wide = [np.repeat(np.repeat(rng.integers(0, 4, (24, 6)), 5, 0), 20, 1).astype(np.uint8) for _ in range(40)]
    assert shows_upright(facts_of(*wide))
    assert shows_upright(facts_of(*(np.minimum(field, 1) for field in fields))) is None  # of two classes
    assert shows_upright([]) is None
