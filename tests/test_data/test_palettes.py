"""Labels whose palettes show that their indices are not class ids, and sets with one palette of their own."""

from dataclasses import replace

import numpy as np
import pytest
from dataset_damage import label_file
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.classes import ClassNames, voc_palette
from deeplabctl.data.check import check_dataset
from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.formats import read_annotations
from deeplabctl.data.formats.annotations import ImportSettings
from deeplabctl.data.inspection import check_samples
from deeplabctl.data.labels import read_label
from deeplabctl.errors import DataError
from deeplabctl.evaluation.masks import score_masks
from deeplabctl.reporting import silent

VOC, GREY = voc_palette().tolist(), [[level] * 3 for level in range(256)]
OWN = [[250, 250, 250], [255, 0, 0], [0, 90, 200], *[[9, 9, 9]] * 253]
BLACK_WHITE = [[0, 0, 0], [255, 255, 255]]


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "set")


def labels(root):
    return sorted((root / "SegmentationClass").iterdir())


def write(path, label, colors, order=None):
    """Write a label with these colours of its ids; ``order`` are the ids by their new indices."""
    if order is None:
        image = Image.fromarray(label)
        image.putpalette(np.array(colors, np.uint8).tobytes())
        image.save(path)
        return
    new = np.zeros(256, np.uint8)
    new[order] = range(len(order))
    write(path, new[label], [colors[index] for index in order])


def by_frequency(label):
    """Return the ids of a label, the most frequent first, as optimizers order palettes."""
    ids, counts = np.unique(label, return_counts=True)
    return ids[np.argsort(-counts, kind="stable")].tolist()


def refusals(root):
    """Yield what check, a training and a conversion say of the labels of a set."""
    dataset = open_dataset(root)
    yield [found.text for found in check_dataset(dataset, silent).findings if found.kind == "label-palette"]
    for use in (
        lambda: check_samples(dataset, dataset.samples("train") + dataset.samples("val"), silent),
        lambda: read_annotations(root, ImportSettings(format="ids", classes=dataset.classes), silent),
    ):
        try:
            use()
            yield []
        except DataError as error:
            yield [str(error)]


@pytest.mark.parametrize("colors", [VOC, GREY, OWN, BLACK_WHITE], ids=["VOC", "grey", "own", "black and white"])
def test_one_palette_in_all_labels_is_right(root, colors):
    for path in labels(root):
        label = read_label(path)
        write(path, np.minimum(label, 1) if colors is BLACK_WHITE else label, colors)
    assert list(refusals(root)) == [[], [], []]


@pytest.mark.parametrize("colors", [VOC, GREY], ids=["VOC", "grey"])
def test_labels_without_palettes_may_stand_beside_those_of_ids(root, colors):
    first, second, *_ = labels(root)
    write(first, read_label(first), colors)
    Image.fromarray(read_label(second)).save(second)
    assert list(refusals(root)) == [[], [], []]


@pytest.mark.parametrize("some", [False, True], ids=["all labels", "one label"])
@pytest.mark.parametrize(("colors", "name"), [(VOC, "VOC's colours"), (GREY, "the grey levels of class ids")])
def test_known_colours_at_other_indices_are_an_error(root, colors, name, some):
    for path in labels(root)[: 1 if some else None]:
        label = read_label(path)
        write(path, label, colors, by_frequency(label)[::-1])
    for said in refusals(root):
        assert len(said) == 1
        assert f"got {name} at other indices" in said[0]
        assert f"in {1 if some else 6} (" in said[0]


def test_the_same_order_in_all_labels_is_an_error_where_the_colours_are_vocs(root):
    for path in labels(root):
        write(path, read_label(path) % 255, VOC, [0, 2, 1])
    assert all("VOC's colours at other indices" in text for (text,) in refusals(root))


def test_labels_that_contradict_each_other_are_an_error(root):
    for path in labels(root):
        label = read_label(path)
        write(path, label, OWN, by_frequency(label)[::-1])
    for (text,) in refusals(root):
        assert "expected one palette in all labels, got" in text


def test_label_with_another_palette_than_vocs_is_an_error_beside_those(root):
    path = labels(root)[0]
    write(path, read_label(path), OWN)
    assert all("expected one palette in all labels" in text for (text,) in refusals(root))


def test_colour_that_a_palette_has_twice_is_no_contradiction(root):
    for path in labels(root):
        write(path, read_label(path), [[1, 1, 1], *[[7, 7, 7]] * 255])
    assert list(refusals(root)) == [[], [], []]


def test_masks_to_be_scored_are_checked_alike(root, tmp_path):
    dataset, folder = open_dataset(root), tmp_path / "masks"
    folder.mkdir()
    for sample in dataset.samples("val"):
        write(folder / f"{sample.id}.png", read_label(sample.label), VOC, [1, 0, 2, 255])
    with pytest.raises(DataError, match="VOC's colours at other indices"):
        score_masks(folder, dataset, dataset.samples("val"))
    for sample in dataset.samples("val"):
        write(folder / f"{sample.id}.png", read_label(sample.label), OWN)
    assert score_masks(folder, dataset, dataset.samples("val")).scores.matrix.mean_iou() == 1
    for sample in dataset.samples("val"):
        write(folder / f"{sample.id}.png", np.minimum(read_label(sample.label), 2), OWN[:3])
    names = ClassNames(dataset.classes, [(*OWN[index],) for index in (0, 2, 1)])
    with pytest.raises(DataError, match="the colours of the classes at other indices"):
        score_masks(folder, replace(dataset, classes=names), dataset.samples("val"))


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1]])
def test_indices_must_be_those_of_the_named_classes_colours(root, tmp_path, order):
    """The colours are neither VOC's nor grey: only the list of classes tells that they are at other indices."""
    names = ClassNames(open_dataset(root).classes, [(*color,) for color in OWN[:3]])
    settings = ImportSettings(format="ids", classes=names)
    for path in labels(root):
        write(path, np.minimum(read_label(path), 2), OWN[:3], order)
    if order == [0, 1, 2]:
        assert read_annotations(root, settings, silent).classes == names
    else:
        with pytest.raises(DataError, match="the colours of the classes at other indices"):
            read_annotations(root, settings, silent)


def test_colours_of_such_labels_can_be_converted(root):
    expected = {path.stem: read_label(path) for path in labels(root)}
    for path in labels(root):
        write(path, read_label(path), VOC, by_frequency(read_label(path))[::-1])
    settings = ImportSettings(format="colors", classes=open_dataset(root).classes)
    for image in read_annotations(root, settings, silent).images:
        np.testing.assert_array_equal(image.draw_label((60, 80)), expected[image.name])


def test_facts_remember_the_palette(root):
    write(label_file(root, "t0"), read_label(label_file(root, "t0")) % 255, VOC, [2, 1, 0])
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError, match="VOC's colours at other indices"):
            check_samples(open_dataset(root), open_dataset(root).samples("train"), silent)
