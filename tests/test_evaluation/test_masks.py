"""Scoring masks that anyone made: no weights, no TensorFlow."""

import csv
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from closed_folder import closed
from dataset_files import make_dataset
from PIL import Image

from deeplabctl.data.dataset import open_dataset
from deeplabctl.data.labels import read_label, read_label_and_palette, write_mask
from deeplabctl.errors import DataError
from deeplabctl.evaluation.boundaries import Trimap, boundary_f1
from deeplabctl.evaluation.masks import score_masks
from deeplabctl.evaluation.metrics import ConfusionMatrix
from deeplabctl.reporting import Advanced, Finished, Started


@pytest.fixture
def masks(tmp_path):
    """Make a data set and a mask for each of its five validation images, somewhat off."""
    root = make_dataset(tmp_path / "set", val=5)
    for number in range(5):
        label = read_label(root / "SegmentationClass" / f"v{number}.png")
        shifted = np.roll(np.where(label == 255, 0, label), number, 1).astype(np.uint8)
        write_mask(tmp_path / "masks" / f"v{number}.png", shifted)
    return tmp_path / "masks"


def run(deeplabctl, masks, *arguments):
    return deeplabctl("eval", "--data", masks.parent / "set", "--pred-dir", masks, *arguments)


def test_masks_are_scored_like_predictions_in_one_pass(masks):
    dataset = open_dataset(masks.parent / "set")
    events, seen = [], []
    scored = score_masks(
        masks, dataset, dataset.samples("val"), events.append, on_image=lambda image: seen.append(image.sample.id)
    )
    matrix, trimap, f1 = ConfusionMatrix(3), Trimap(3), []
    for sample in dataset.samples("val"):
        label, mask = read_label(sample.label), read_label(masks / f"{sample.id}.png")
        matrix.update(label, mask)
        trimap.update(label, mask)
        f1.append(np.nanmean(boundary_f1(label, mask, 3)))
    result = scored.to_dict()
    assert result["miou"] == matrix.mean_iou()
    assert result["boundary_f1"] == pytest.approx(np.mean(f1), rel=1e-12)
    np.testing.assert_array_equal(result["trimap"]["miou"], trimap.mean_iou())
    assert result["trimap"]["widths"] == list(range(1, 41))
    assert result["images"] == 5
    assert result["faults"] == []
    assert events == [Started("scoring masks", 5, "masks"), *[Advanced(1)] * 5, Finished()]
    assert seen == [f"v{number}" for number in range(5)]


def test_images_of_one_name_have_masks_of_their_own(masks, deeplabctl):
    root = masks.parent / "set"
    for number, folder in enumerate("xy"):
        (root / folder).mkdir()
        (root / "JPEGImages" / f"v{number}.png").rename(root / folder / "1.png")
        label = read_label(root / "SegmentationClass" / f"v{number}.png")
        write_mask(masks / folder / "1.png", np.where(label == 255, 0, label).astype(np.uint8))
    pairs = "x/1.png SegmentationClass/v0.png\ny/1.png SegmentationClass/v1.png\n"
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text(pairs)
    code, out, _ = run(deeplabctl, masks, "--json")
    assert (code, json.loads(out)["miou"]) == (0, 1.0)
    (masks / "y" / "1.png").unlink()
    code, _, err = run(deeplabctl, masks)
    assert code == 1
    assert "masks/y/1.png: there is no such file" in err


def test_palettes_are_compared_in_the_order_of_the_masks_whichever_is_read_first(masks, monkeypatch):
    for number in range(5):
        with Image.open(masks / f"v{number}.png") as mask:
            mask.putpalette([9, 80, 200, 30, 40, 50, 60, 70, 90] if number else [1, 2, 30, 4, 50, 6, 70, 8, 9])
            mask.save(masks / f"v{number}.png")

    def read(path):
        time.sleep(0.2 * (path.stem == "v0"))
        return read_label_and_palette(path)

    monkeypatch.setattr("deeplabctl.evaluation.masks.read_label_and_palette", read)
    dataset = open_dataset(masks.parent / "set")
    with pytest.raises(DataError, match=r"v1\.png: .* got \(9, 80, 200\) at index 0, which is \(1, 2, 30\) in v0\.png"):
        score_masks(masks, dataset, dataset.samples("val"))


def test_grey_masks_are_as_good_as_palette_masks(masks, deeplabctl):
    _, palette, _ = run(deeplabctl, masks, "--json")
    for path in masks.iterdir():
        Image.fromarray(read_label(path)).save(path)
    _, grey, _ = run(deeplabctl, masks, "--json")
    assert json.loads(palette)["classes"] == json.loads(grey)["classes"]


def spoil_missing(path):
    path.unlink()


def spoil_size(path):
    write_mask(path, read_label(path)[:, :-1])


def spoil_bytes(path):
    path.write_bytes(path.read_bytes()[:90])


def spoil_colours(path):
    Image.open(path).convert("RGB").save(path)


def spoil_range(path):
    mask = read_label(path)
    mask[0, 7] = 3  # of 3 classes
    write_mask(path, mask)


def spoil_void(path):
    mask = read_label(path)
    mask[0, 7] = 255  # where the label is not void
    write_mask(path, mask)


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (spoil_missing, "missing", "v3.png: there is no such file"),
        (spoil_size, "size", "v3.png: expected the size of its label, 80x60, got 79x60"),
        (spoil_bytes, "unreadable", "v3.png: expected a complete"),
        (spoil_colours, "unreadable", "v3.png: expected one channel of class ids"),
        (
            spoil_range,
            "range",
            "v3.png: expected class ids 0 to 2 where the label is not void, got 3 at row 0, column 7",
        ),
        (spoil_void, "range", "got 255 at row 0, column 7 (1 such pixels)"),
    ],
)
def test_mask_at_fault_is_named_and_nothing_is_scored_without_allow_missing(masks, deeplabctl, spoil, kind, said):
    spoil(masks / "v3.png")
    code, out, err = run(deeplabctl, masks)
    assert code == 1
    assert out == ""
    assert said in err
    assert f"warning: mask {masks}/v3.png: " in err
    assert err.splitlines()[-1].startswith("error: 1 of 5 masks cannot be scored: 1 ")
    code, out, _ = run(deeplabctl, masks, "--json")
    document = json.loads(out)
    assert code == 1
    assert "miou" not in document
    assert [(fault["id"], fault["kind"]) for fault in document["faults"]] == [("v3", kind)]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(spoil_missing, 0), (spoil_size, 1), (spoil_bytes, 1), (spoil_colours, 1), (spoil_range, 1), (spoil_void, 1)],
)
def test_with_allow_missing_the_others_are_scored_and_only_missing_masks_are_no_failure(masks, deeplabctl, spoil, code):
    matrix = ConfusionMatrix(3)
    for number in (0, 1, 2, 4):
        name = f"v{number}.png"
        matrix.update(read_label(masks.parent / "set" / "SegmentationClass" / name), read_label(masks / name))
    spoil(masks / "v3.png")
    exit_code, out, _ = run(deeplabctl, masks, "--allow-missing", "--json")
    result = json.loads(out)
    assert exit_code == code
    assert result["images"] == 4
    assert result["miou"] == matrix.mean_iou()
    assert [fault["id"] for fault in result["faults"]] == ["v3"]


def test_all_faults_are_counted_by_kind(masks, deeplabctl):
    for number, spoil in enumerate([spoil_missing, spoil_missing, spoil_size, spoil_bytes, spoil_range]):
        spoil(masks / f"v{number}.png")
    code, _, err = run(deeplabctl, masks)
    assert code == 1
    assert "5 of 5 masks cannot be scored: 2 missing, 1 unreadable, 1 of another size, 1 out of range" in err
    assert all(f"warning: mask {masks}/v{number}.png" in err or f"v{number}.png" in err for number in range(5))


def test_ids_out_of_range_do_not_matter_on_void(masks, deeplabctl):
    _, before, _ = run(deeplabctl, masks, "--json")
    label = read_label(masks.parent / "set" / "SegmentationClass" / "v2.png")
    mask = read_label(masks / "v2.png")
    mask[label == 255] = 200
    write_mask(masks / "v2.png", mask)
    code, after, _ = run(deeplabctl, masks, "--json")
    assert code == 0
    assert json.loads(after) == json.loads(before)


def test_folder_without_any_of_the_masks_is_one_line(masks, deeplabctl):
    for folder in (masks.parent / "nowhere", masks.parent / "set", masks / "v1.png"):
        code, out, err = deeplabctl("eval", "--data", masks.parent / "set", "--pred-dir", folder, "--allow-missing")
        assert (code, out) == (1, "")
        assert err.splitlines()[-1].startswith(f"error: masks {folder}: expected ")


@pytest.mark.parametrize(
    "arguments",
    [["--crf"], ["--crf-adaptive"], ["--scales", "1"], ["--flip"], ["--pad", "tight"], ["--weights", "x"],
     ["--voc-zip", "x.zip"], ["--crf-params", "v2-vgg"]],
)  # fmt: skip
def test_options_of_a_network_are_usage_errors_with_masks(masks, deeplabctl, arguments):
    code, _, err = run(deeplabctl, masks, *arguments)
    assert code == 2
    assert "has no effect with --pred-dir" in " ".join(err.split())


def test_masks_need_a_data_set_and_allow_missing_needs_masks(masks, deeplabctl):
    code, _, err = deeplabctl("eval", "--pred-dir", masks)
    assert code == 2
    assert "--data" in err
    code, _, err = deeplabctl("eval", "--allow-missing")
    assert code == 2


def test_set_without_void_has_its_trimap_around_label_boundaries(masks, deeplabctl):
    _, out, _ = run(deeplabctl, masks, "--json")
    assert json.loads(out)["trimap"]["around"] == "void"
    for path in (masks.parent / "set" / "SegmentationClass").iterdir():
        label = read_label(path)
        write_mask(path, np.where(label == 255, 0, label).astype(np.uint8))
    _, out, _ = run(deeplabctl, masks, "--json")
    assert json.loads(out)["trimap"]["around"] == "boundaries"
    assert "label boundaries" in run(deeplabctl, masks)[1]


def test_absent_classes_are_null_and_the_convention_is_said(masks, deeplabctl):
    (masks.parent / "set" / "classes.txt").write_text("background\ndisc\nsquare\nstar\n")
    _, out, _ = run(deeplabctl, masks, "--json")
    result = json.loads(out)
    assert result["classes"][3]["iou"] is None
    assert result["classes"][3]["boundary_f1"] is None
    assert "left out of the means" in result["settings"]["absent_classes"]
    assert "1 class in neither labels nor predictions is left out of the means" in run(deeplabctl, masks)[1]


def test_results_are_written_and_nothing_is_overwritten_without_a_word(masks, deeplabctl):
    code, out, _ = run(deeplabctl, masks, "--out", "scores")
    assert code == 0
    folder = masks.parent / "scores"
    assert "report scores/report.html" in out
    names = ["classes.csv", "confusion.csv", "confusion.png", "report.html", "scores.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    scores = json.loads((folder / "scores.json").read_text())
    rows = list(csv.DictReader((folder / "classes.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["background", "disc", "square"]
    assert rows[0]["iou"] == f"{100 * scores['classes'][0]['iou']:.4f}"
    matrix = [row[1:] for row in csv.reader((folder / "confusion.csv").read_text().splitlines())][1:]
    assert sum(int(count) for row in matrix for count in row) == sum(entry["pixels"] for entry in scores["classes"])
    (folder / "report.html").write_text("mine")
    code, out, err = run(deeplabctl, masks, "--out", "scores")
    assert (code, out) == (1, "")
    assert "use --overwrite" in err
    assert (folder / "report.html").read_text() == "mine"
    assert run(deeplabctl, masks, "--out", "scores", "--overwrite")[0] == 0
    assert (folder / "report.html").read_text() != "mine"


@pytest.mark.process
def test_scoring_masks_loads_neither_tensorflow_nor_numba(masks):
    script = (
        "import sys; sys.argv[1:] = sys.argv[1:]\n"
        "import atexit; atexit.register(lambda: print('LOADED', {'tensorflow', 'keras', 'numba'} & set(sys.modules)))\n"
        "from deeplabctl.cli.app import main; main()"
    )
    command = [sys.executable, "-c", script, "eval", "--data", str(masks.parent / "set"), "--pred-dir", str(masks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "mIoU" in done.stdout
    assert done.stdout.endswith("LOADED set()\n")


def test_folder_that_may_not_be_entered_is_an_error_in_one_line(masks):
    dataset = open_dataset(masks.parent / "set")
    samples = dataset.samples("val")
    with closed(masks), pytest.raises(DataError, match="masks: cannot read this folder: Permission denied"):
        score_masks(masks, dataset, samples)
