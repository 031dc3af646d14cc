"""From another program's annotations to masks with their names: convert, check, train, eval, infer."""

import json

import numpy as np
import pytest
from PIL import Image

from deeplabctl.data.labels import read_label
from deeplabctl.weights.locating import open_weights

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("shallow", "no_curves")]

TINY = [
    "--recipe", "shapes", "--width", "0.03", "--crop-size", "33", "--batch-size", "2", "--steps", "4", "-q",
    "--set", "run.val_every=4", "--set", "run.preview_every=4",
]  # fmt: skip
NAMES = ["background", "red boat", "zebra"]


def scene(number):
    """A grey image of 48x40 pixels with a red and a striped rectangle, and their corners."""
    rng = np.random.default_rng(number)
    picture = rng.integers(60, 110, (40, 48, 3)).astype(np.uint8)
    boat, zebra = (int(rng.integers(2, 12)), 4), (int(rng.integers(24, 30)), 18)
    picture[boat[1] : boat[1] + 12, boat[0] : boat[0] + 16] = (200, 30, 30)
    picture[zebra[1] : zebra[1] + 14, zebra[0] : zebra[0] + 14 : 2] = 250
    corners = [(x, y, x + wide, y + high) for (x, y), wide, high in ((boat, 16, 12), (zebra, 14, 14))]
    return picture, corners


def labelme_files(folder, count):
    folder.mkdir()
    for number in range(count):
        picture, corners = scene(number)
        Image.fromarray(picture).save(folder / f"s{number}.png")
        shapes = [
            {"label": label, "shape_type": "polygon", "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}
            for label, (x0, y0, x1, y1) in zip(NAMES[1:], corners, strict=True)
        ]
        document = {"version": "5.5.0", "imagePath": f"s{number}.png", "imageHeight": 40, "imageWidth": 48}
        (folder / f"s{number}.json").write_text(json.dumps({**document, "imageData": None, "shapes": shapes}))
    return folder


def coco_file(folder, count):
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        picture, corners = scene(number)
        Image.fromarray(picture).save(folder / "images" / f"s{number}.png")
        images.append({"id": number, "file_name": f"s{number}.png", "height": 40, "width": 48})
        for category, (x0, y0, x1, y1) in zip((10, 20), corners, strict=True):
            if category == 10:
                segmentation = [[x0, y0, x1, y0, x1, y1, x0, y1]]
            else:  # run lengths down the columns
                inside = [y1 - y0, 40 - (y1 - y0)] * (x1 - x0)
                inside[-1] = 40 * 48 - (40 * x0 + y0) - sum(inside[:-1])
                segmentation = {"size": [40, 48], "counts": [40 * x0 + y0, *inside]}
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": category, "segmentation": segmentation}
            )
    categories = [{"id": 20, "name": "zebra"}, {"id": 10, "name": "red boat"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("write", [labelme_files, coco_file])
def test_annotated_images_become_a_network_that_predicts_their_classes(deeplabctl, tmp_path, write):
    write(tmp_path / "annotated", 8)
    code, out, err = deeplabctl("data", "convert", "annotated", "--out", "set", "--val", 0.25)
    assert (code, err) == (0, "")
    assert "red boat" in out
    for number in range(8):
        _, corners = scene(number)
        expected = np.zeros((40, 48), np.uint8)
        for class_id, (x0, y0, x1, y1) in enumerate(corners, 1):
            expected[y0:y1, x0:x1] = class_id
        np.testing.assert_array_equal(read_label(tmp_path / "set" / "SegmentationClass" / f"s{number}.png"), expected)
    assert deeplabctl("data", "check", "set")[0] == 0

    code, out, _ = deeplabctl("train", "--data", "set", *TINY, "--run-dir", "run")
    assert code == 0
    assert "zebra" in out
    assert open_weights(tmp_path / "run" / "best.keras").info.classes == tuple(NAMES)

    code, out, _ = deeplabctl("eval", "--weights", "run", "--json", "-q")
    assert code == 0
    assert [entry["name"] for entry in json.loads(out)["classes"]] == NAMES
    assert json.loads(out)["images"] == 2

    code, out, _ = deeplabctl("infer", "annotated/images" if write is coco_file else "annotated", "--weights", "run")
    assert code == 0
    masks = sorted((tmp_path / "masks").iterdir())
    assert [path.name for path in masks] == [f"s{number}.png" for number in range(8)]
    assert all(read_label(path).shape == (40, 48) and read_label(path).max() <= 2 for path in masks)
    assert any(name in out for name in NAMES)
