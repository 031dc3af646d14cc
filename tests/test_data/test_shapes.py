"""The built-in data set is the same everywhere, has right labels, and colour alone does not solve it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from deeplabctl.classes import voc_palette
from deeplabctl.data import shapes
from deeplabctl.data.shapes import AREA, CLASSES, SIZE, Shape, draw_sample, place_shapes, write_shapes
from deeplabctl.errors import OutputError


@cache
def samples() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw the first half of the training images and of the validation images."""
    drawn = [draw_sample(0, index) for index in (*range(120), *range(240, 270))]
    return np.stack([image for image, _ in drawn]), np.stack([label for _, label in drawn])


def test_only_the_same_seed_and_index_give_the_same_image():
    image, label = draw_sample(3, 7)
    again, label_again = draw_sample(3, 7)
    assert np.array_equal(image, again)
    assert np.array_equal(label, label_again)
    assert not np.array_equal(image, draw_sample(4, 7)[0])
    assert not np.array_equal(image, draw_sample(3, 8)[0])
    assert image.shape == (SIZE, SIZE, 3)
    assert label.shape == (SIZE, SIZE)
    assert image.dtype == label.dtype == np.uint8


def test_written_data_set_is_a_voc_tree_with_palette_labels(tmp_path: Path):
    root = tmp_path / "new" / "shapes"
    write_shapes(root, seed=5, train=3, val=2)
    names = [f"shapes_{index:04d}" for index in range(5)]
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert files == {
        "classes.txt",
        *(f"ImageSets/Segmentation/{split}.txt" for split in ("train", "val", "trainval")),
        *(f"JPEGImages/{name}.jpg" for name in names),
        *(f"SegmentationClass/{name}.png" for name in names),
    }
    lists = {path.stem: path.read_text().split() for path in (root / "ImageSets" / "Segmentation").iterdir()}
    assert lists == {"train": names[:3], "val": names[3:], "trainval": names}
    assert tuple((root / "classes.txt").read_text().splitlines()) == CLASSES
    image, label = draw_sample(5, 3)
    with Image.open(root / "SegmentationClass" / "shapes_0003.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.array(mask), label)
        assert np.array_equal(np.reshape(mask.getpalette(), (-1, 3)), voc_palette())
    with Image.open(root / "JPEGImages" / "shapes_0003.jpg") as jpeg:
        assert np.abs(np.asarray(jpeg).astype(int) - image).mean() < 4
    assert root.stat().st_mode & 0o777 == 0o777 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"not an empty folder") as error:
        write_shapes(tmp_path, train=1, val=1)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_data_set_is_replaced_with_overwrite(tmp_path: Path):
    write_shapes(tmp_path / "shapes", train=2, val=1)
    write_shapes(tmp_path / "shapes", train=1, val=1, overwrite=True)
    assert len(list((tmp_path / "shapes" / "JPEGImages").iterdir())) == 2


def test_empty_folder_is_filled(tmp_path: Path):
    write_shapes(str(tmp_path), train=1, val=1)
    assert (tmp_path / "classes.txt").is_file()


def test_interrupted_writing_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(seed: int, index: int):
        if index == 1:
            raise KeyboardInterrupt
        return draw_sample(seed, index)

    monkeypatch.setattr(shapes, "draw_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "shapes", train=2, val=1)
    assert list(tmp_path.iterdir()) == []


def test_every_class_is_in_both_splits():
    _, labels = samples()
    for split in (labels[:120], labels[120:]):
        assert set(np.unique(split)) == {*range(len(CLASSES)), 255}


def test_images_have_two_to_five_objects_of_4_to_25_percent():
    counts = set()
    for index in range(300):
        placed = place_shapes(np.random.default_rng(index))
        counts.add(len(placed))
        assert all(0.04 <= AREA[0] <= shape.area <= AREA[1] <= 0.25 for shape in placed)
        assert all(0 <= part < SIZE for shape in placed for part in (shape.center.real, shape.center.imag))
    assert counts == {2, 3, 4, 5}


@pytest.mark.parametrize("class_id", range(1, len(CLASSES)))
@pytest.mark.parametrize("area", [0.04, 0.25])
def test_shape_covers_its_share_of_the_image(class_id: int, area: float):
    coverage = Shape(class_id, area, complex(SIZE / 2, SIZE / 2), tilt=0.3).coverage()
    assert coverage.mean() == pytest.approx(area, rel=0.03)


def test_only_the_ring_is_open_in_the_middle():
    middle = complex(SIZE / 2, SIZE / 2)
    covered = {name: Shape(k, 0.1, middle, 0.0).coverage()[80, 80] for k, name in enumerate(CLASSES) if k}
    assert covered == {"disc": 1, "square": 1, "triangle": 1, "star": 1, "ring": 0, "cross": 1}


def test_void_separates_all_classes_and_covers_about_a_tenth_of_an_image():
    _, labels = samples()
    for first, second in ((labels[:, 1:], labels[:, :-1]), (labels[:, :, 1:], labels[:, :, :-1])):
        assert np.all((first == second) | (first == 255) | (second == 255))
    assert 0.05 < (labels == 255).mean() < 0.2


def test_label_names_the_object_that_lies_on_top():
    _, labels = samples()
    for index in range(20):
        *_, top = place_shapes(np.random.default_rng((0, index)))
        covered = labels[index][top.coverage() == 1]
        assert set(np.unique(covered)) == {top.class_id, 255}
        assert (covered == top.class_id).mean() > 0.5


def test_colour_alone_does_not_identify_the_classes():
    """Bayes' rule on a histogram of colours, learnt from the training pictures, stays far below the network."""
    images, labels = samples()
    colors = (images >> 4).astype(int) @ [256, 16, 1]
    seen = labels < 255
    histogram = np.zeros((16**3, len(CLASSES)))
    np.add.at(histogram, (colors[:120][seen[:120]], labels[:120][seen[:120]]), 1)
    for votes in (histogram, histogram / histogram.sum(0)):  # as often as they are; all classes as likely
        prediction, truth = votes.argmax(1)[colors[120:]][seen[120:]], labels[120:][seen[120:]]
        confusion = np.bincount(truth.astype(int) * 7 + prediction, minlength=49).reshape(7, 7)
        hits = np.diag(confusion)
        assert 0.15 < np.mean(hits / (confusion.sum(0) + confusion.sum(1) - hits)) < 0.55
