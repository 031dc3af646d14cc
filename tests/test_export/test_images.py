import numpy as np
import pytest
from dataset_files import make_dataset
from exports import CLASSES, write_images
from PIL import Image

from deeplabctl.data.dataset import open_dataset
from deeplabctl.errors import DataError
from deeplabctl.export.exporter import ExampleImages, images_to_calibrate, images_to_compare
from deeplabctl.reporting import silent
from deeplabctl.weights.model_info import ModelInfo


@pytest.fixture
def trained(tmp_path):
    """Return the facts of a network that was trained on a data set."""
    make_dataset(tmp_path / "set", train=3, val=2)
    return ModelInfo(CLASSES, provenance={"data": str(tmp_path / "set"), "split": "train"})


def names(images):
    return [path.stem for path in images.files]


def test_set_of_the_training_is_used_val_to_compare_and_the_split_trained_on_to_calibrate(trained, tmp_path):
    compared, calibrated = (find(trained, None, silent) for find in (images_to_compare, images_to_calibrate))
    assert (names(compared), compared.source) == (["v0", "v1"], f"val of {tmp_path / 'set'}")
    assert (names(calibrated), calibrated.source) == (["t0", "t1", "t2"], f"train of {tmp_path / 'set'}")


def test_given_set_and_folder_come_first(trained, tmp_path):
    make_dataset(tmp_path / "other", train=1, val=1)
    write_images(tmp_path / "photos", 2)
    for find in (images_to_compare, images_to_calibrate):
        assert find(trained, str(tmp_path / "other"), silent).source.endswith("other")
        assert names(find(trained, str(tmp_path / "photos"), silent)) == ["0", "1"]


def test_training_split_of_a_given_set_is_calibrated_on(trained, tmp_path):
    (tmp_path / "set" / "ImageSets" / "Segmentation" / "train_aug.txt").write_text("t1\n")
    assert names(images_to_calibrate(trained, str(tmp_path / "set"), silent)) == ["t1"]
    assert names(images_to_calibrate(trained, None, silent)) == ["t0", "t1", "t2"]


def test_built_in_images_are_compared_on_where_nothing_is_known_but_never_calibrated_on(tmp_path, monkeypatch):
    built_in = open_dataset(make_dataset(tmp_path / "set"))
    monkeypatch.setattr("deeplabctl.export.exporter.open_dataset", lambda name, report: {"shapes": built_in}[name])
    assert images_to_compare(ModelInfo(CLASSES), None, silent).source == "val of shapes"
    for provenance in ({}, {"data": "/nowhere", "split": "train"}, {"data": 3}):
        with pytest.raises(DataError, match="calibration: expected the data set that the weights were trained on"):
            images_to_calibrate(ModelInfo(CLASSES, provenance=provenance), None, silent)


def test_set_without_the_split_is_refused(trained, tmp_path):
    (tmp_path / "set" / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(DataError, match="expected the split val, got train"):
        images_to_compare(trained, None, silent)


def test_images_to_calibrate_on_are_cut_to_the_size_that_all_have_from_the_middle(tmp_path):
    for name, (width, height) in {"a": (600, 300), "b": (700, 520)}.items():
        Image.new("RGB", (width, height), "red").save(tmp_path / f"{name}.png")
    values = np.asarray(Image.linear_gradient("L").resize((640, 400)))
    Image.fromarray(np.stack([values] * 3, -1)).save(tmp_path / "c.png")
    images = ExampleImages(tuple(sorted(tmp_path.glob("*.png"))), "images").calibrated()
    assert {image.shape for image in images} == {(300, 513, 3)}
    np.testing.assert_array_equal(images[2][:, :, 0], values[50:350, 63:576])
