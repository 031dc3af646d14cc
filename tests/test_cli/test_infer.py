"""``deeplabctl infer``: masks, and what is wrong with the inputs."""

import json

import pytest
from caffe_files import DATA
from command_process import fails_with_one_line
from PIL import Image
from small_training import SMALL

from deeplabctl.data.images import read_label

CAFFEMODEL = DATA / "lfov_tiny_v2.caffemodel"  # 21 classes, random weights


@pytest.mark.tf
def test_unreadable_image_is_named_and_the_others_are_segmented(here, deeplabctl):
    deeplabctl("train", "--data", "set", *SMALL, "--steps", 2, "-q")
    pictures = here / "pictures"
    pictures.mkdir()
    Image.new("CMYK", (41, 23)).save(pictures / "a.jpg")
    (pictures / "b.jpg").write_bytes(b"no picture")
    Image.new("I;16", (10, 90), 30000).save(pictures / "c.png")
    code, out, err = deeplabctl("infer", "pictures", "--out", "out", "--json")
    assert code == 1
    assert read_label(here / "out" / "a.png").shape == (23, 41)
    assert read_label(here / "out" / "c.png").shape == (90, 10)
    assert not (here / "out" / "b.png").exists()
    result = json.loads(out)
    assert [entry["width"] for entry in result["images"]] == [41, 10]
    assert len(result["failed"]) == 1
    assert "error: 1 of 3 images failed" in err
    assert "b.jpg" in err


@pytest.mark.tf
def test_picture_that_cannot_be_segmented_is_named_and_the_others_go_on(here, deeplabctl, monkeypatch):
    from deeplabctl.data import images

    weights = ["--weights", CAFFEMODEL, "--json"]
    for name, size in (("a", (30, 20)), ("b", (300, 400)), ("c", (30, 20))):
        Image.new("RGB", size).save(here / f"{name}.png")
    code, out, err = deeplabctl("infer", "a.png", "b.png", "c.png", "--crf", "--crf-params", "bi_xy_std=0.1", *weights)
    assert code == 1
    assert [entry["image"] for entry in json.loads(out)["images"]] == ["a.png", "c.png"]
    assert "error: 1 of 3 images failed, the first: image b.png: cannot refine this image of 300x400 pixels: CRF" in err
    assert sorted(path.name for path in (here / "masks").iterdir()) == ["a.png", "c.png"]

    read = images.read_image

    def read_image(path):
        if path.name == "b.png":
            raise MemoryError
        return read(path)

    monkeypatch.setattr(images, "read_image", read_image)
    code, out, err = deeplabctl("infer", "a.png", "b.png", "c.png", "--out", "more", *weights)
    assert code == 1
    assert [entry["image"] for entry in json.loads(out)["images"]] == ["a.png", "c.png"]
    assert "image b.png: there is not enough memory" in err


def test_missing_weights_and_inputs_are_one_line(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    fails_with_one_line("there are no weights", "infer", "a.png", cwd=tmp_path)
    fails_with_one_line("gone.jpg: there is no such file", "infer", "gone.jpg", cwd=tmp_path)
    fails_with_one_line("got a PNG picture", "infer", "a.png", "--weights", "a.png", cwd=tmp_path)
