"""YOLO's texts become data sets, and labels become texts."""

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_image, written_label

from deeplabctl.data.formats.yolo import yolo_settings, yolo_text
from deeplabctl.errors import DataError

SQUARE = "0 0 0 0.5 0 0.5 0.5 0 0.5"  # the upper left quarter: 6x8 pixels of 12x16


def write_yolo(folder, texts, yaml="train: images\nnames: [car, tree]\n"):
    """Write images with these texts, by their paths below images and labels; returns the folder."""
    for name, text in texts.items():
        write_image(folder / "images" / f"{name}.jpg", shade=len(name) + ord(name[-1]))
        path = folder / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "data.yaml").write_text(yaml)
    return folder


def test_shares_of_the_size_are_outlines_and_the_smaller_lies_on_top(tmp_path):
    small = "1 0.125 0.25 0.25 0.25 0.25 0.5 0.125 0.5"  # columns 2 and 3, rows 3 to 5
    written, notes = convert(write_yolo(tmp_path / "x", {"a": f"{small}\n{SQUARE}\n"}), tmp_path / "out")
    expected = np.zeros(SIZE, int)
    expected[:6, :8] = 1
    expected[3:6, 2:4] = 2
    assert written.classes == ("background", "car", "tree")
    np.testing.assert_array_equal(written_label(tmp_path / "out"), expected)
    assert notes == ["outlines of 4 corners, all 2: taken as outlines, not as oriented boxes"]


def test_a_data_yaml_that_names_no_folders_means_those_beside_it(tmp_path):
    source = write_yolo(tmp_path / "x", {"a": SQUARE}, yaml="nc: 1\nnames: [car]\n")  # as supervision writes it
    written, _ = convert(source, tmp_path / "out")
    assert written.pixels == {0: 144, 1: 48}
    (source / "labels" / "a.txt").unlink()
    with pytest.raises(DataError, match=r"data\.yaml: expected the folders of images \(train, val\), got none"):
        convert(source, tmp_path / "none")


def test_boxes_are_void_below_outlines_and_alone_refused(tmp_path):
    box = "1 0.5 0.5 1 0.5"  # centre and size: rows 3 to 8
    triangle = "0 0 0 0 1 1 1"
    _, notes = convert(write_yolo(tmp_path / "x", {"a": f"{box}\n{triangle}\n0 0.5 0.5\n"}), tmp_path / "out")
    label = written_label(tmp_path / "out")
    rows, columns = np.indices(SIZE) + 0.5
    inside = columns / 16 < rows / 12
    assert (label[inside] == 1).all()
    assert (label[3:9][~inside[3:9]] == 255).all()
    assert (label == 0).sum() == (~inside).sum() - (~inside[3:9]).sum()
    assert notes == [
        "boxes without an outline: 1 of 3 lines, void",
        "lines, points and other shapes without an area: 1 skipped",
    ]
    with pytest.raises(DataError, match="expected outlines, got only boxes: lines of five numbers, 1 of them; export"):
        convert(write_yolo(tmp_path / "boxes", {"a": box}), tmp_path / "no")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 10 10 20 10 20 20", r"a\.txt:2: expected places from 0 to 1 of the image's width and height, got 10"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.9", r"a\.txt:2: expected a class and pairs of x and y, got 8 numbers"),
        ("0 0.5 0.5 0.2 0.2 0.9", r"a\.txt:2: expected a class and pairs of x and y, got 6 numbers"),
        ("2 0 0 0 1 1 1", r"a\.txt:2: expected the number of a class, 0 to 1, got 2"),
        ("car 0 0 0 1 1 1", r"a\.txt:2: could not convert"),
        ("0 0 0 0 nan 1 1", r"a\.txt:2: expected places"),
        ("0.5 0 0 0 1 1 1", r"a\.txt:2: expected the number of a class, 0 to 1, got 0\.5"),
    ],
)  # fmt: skip
def test_text_that_does_not_follow_the_format_fails_alone(tmp_path, line, message):
    source = write_yolo(tmp_path / "x", {"a": f"{SQUARE}\n{line}\n", "b": SQUARE})
    written, _ = convert(source, tmp_path / "out")
    assert written.train == ["b"]
    (failed,) = written.failed
    with pytest.raises(DataError, match=message):
        raise DataError(failed)


YAMLS = {
    "a list in a line": "names: ['car', \"big tree\" ]",
    "a table": "names:\n  0: car # of any colour\n  1: 'big tree'",
    "a table in any order": "names:\n  1: big tree\n  0: car",
    "a list": "names:\n- car\n- big tree\nnc: 2",
    "a table in a line": "nc: 2\nnames: {0: car, 1: big tree}",
    "a list of several lines": "names: [car,\n  'big tree']",
}


@pytest.mark.parametrize("yaml", YAMLS.values(), ids=YAMLS)
def test_classes_are_read_as_yaml_writes_them(tmp_path, yaml):
    yaml = f"# a set\npath: ../x  # here\ntrain: images\nval:\ndownload: |\n  any: text\n{yaml}\n"
    written, _ = convert(write_yolo(tmp_path / "x", {"a": SQUARE}, yaml), tmp_path / "out")
    assert written.classes == ("background", "car", "big tree")


def test_written_settings_lead_ultralytics_to_the_images_beside_them():
    # check_det_dataset: data.get("path") or Path(data["yaml_file"]).parent, and "." is the working directory
    lines = yolo_settings(["car"]).splitlines()
    assert lines == ["train: images", "val: images", "names:", '  0: "car"']


def test_names_may_have_any_characters(tmp_path):
    names = ["bird's nest", "# 1, of 2", "café: é", "no", 'a "b" \\ c']
    source = write_yolo(tmp_path / "x", {"a": SQUARE}, yolo_settings(names))
    written, _ = convert(source, tmp_path / "out")
    assert written.classes == ("background", *names)
    in_a_line = """train: images\nnames: {0: "# 1, of 2", 1: 'bird''s, nest', 2: driver's seat}\n"""
    written, _ = convert(write_yolo(tmp_path / "y", {"a": SQUARE}, in_a_line), tmp_path / "other")
    assert written.classes == ("background", "# 1, of 2", "bird's, nest", "driver's seat")
    by_pyyaml = r"""names: ["caf\xE9", "\u65E5", "\U0001F600", 'C:\x41', "D:\\x41"]""" + "\n"
    written, _ = convert(write_yolo(tmp_path / "z", {"a": SQUARE}, by_pyyaml), tmp_path / "third")
    assert written.classes == ("background", "café", "日", "😀", r"C:\x41", r"D:\x41")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: [car, tree\n", "names: expected a list in brackets"),
        ("names: [car, tree]\nnc: 3\n", "names: expected 3 classes with the numbers from 0"),
        ("names: {0: car, 2: tree}\n", "names: expected 2 classes with the numbers from 0"),
        ("nc: 2\n", "names: expected 'names', got none"),
        ("names: [*other, car]\n", "names: expected a plain string, got"),
        ("names: 2\n", "names: expected a list or a table, got '2'"),
        ("names:\n- car\n  and\n- tree\n", "names: expected a list of strings, one per line, got 'and'"),
        ("names: [car]\nnames: [tree]\n", r"data\.yaml:3: expected names once"),
        ("names: [car]\nkpt_shape: [17, 3]\n", "expected outlines, got keypoints"),
        ("names:\n  car\n", "names: expected a number, a colon and a string"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_understood_are_refused(tmp_path, yaml, message):
    source = write_yolo(tmp_path / "x", {"a": SQUARE}, f"train: images\n{yaml}")
    with pytest.raises(DataError, match=message):
        convert(source, tmp_path / "out")


def test_splits_are_kept_as_roboflow_cvat_and_ultralytics_lay_them_out(tmp_path):
    tree = SQUARE.replace("0 ", "1 ", 1)
    texts = {"train": {"a": SQUARE, "b": tree}, "valid": {"a": tree}, "test": {"c": SQUARE}}
    roboflow, ultralytics, cvat = (tmp_path / name for name in ("roboflow", "ultralytics", "cvat"))
    for split, labels in texts.items():
        write_yolo(roboflow / split, labels)
        for name, text in labels.items():
            write_yolo(ultralytics, {f"{split}/{name}": text})
            write_yolo(cvat, {f"{split}/{name}": text})
        lines = [f"data/images/{split}/{name}.jpg\n" for name in labels]
        (cvat / f"{split}.txt").write_text("".join(lines))
    names = "names: [car, tree]\n"
    folders = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (roboflow / "data.yaml").write_text(folders + names)
    folders = "path: /elsewhere\ntrain: images/train\nval: images/valid\ntest: images/test\n"
    (ultralytics / "data.yaml").write_text(folders + names)
    (cvat / "data.yaml").write_text("path: ./\ntrain: train.txt\nval: valid.txt\ntest: test.txt\n" + names)
    for source in (roboflow, ultralytics, cvat):
        written, notes = convert(source, tmp_path / f"{source.name}-out", val=None)
        assert (written.train, written.val, written.test) == (["b", "train_a"], ["valid_a"], ["c"])
        labels = [written_label(tmp_path / f"{source.name}-out", name)[0, 0] for name in ("train_a", "valid_a")]
        assert labels == [1, 2]
        assert notes[1] == "splits as in the source: train 2, val 1, test 1; use `val` for others"
    written, _ = convert(roboflow, tmp_path / "anew", val=0.5)
    assert (len(written.train), len(written.val), written.test) == (1, 2, ["c"])
    (roboflow / "test" / "labels" / "c.txt").unlink()
    (roboflow / "test" / "labels").rmdir()
    (roboflow / "test" / "images" / "c.jpg").unlink()
    (roboflow / "test" / "images").rmdir()
    _, notes = convert(roboflow, tmp_path / "without", val=None)
    assert any("test: ../test/images is not there: left out" in note for note in notes)


def test_same_folder_for_two_splits_is_split_anew(tmp_path):
    source = write_yolo(tmp_path / "x", dict.fromkeys("abcde", SQUARE), "train: images\nval: images\nnames: [car]\n")
    written, notes = convert(source, tmp_path / "out", val=None)
    assert (len(written.train), len(written.val)) == (4, 1)
    assert any("val: images is that of another split, too: left out" in note for note in notes)


def test_labels_without_their_images_are_paired_with_those_of_another_folder(tmp_path):
    source = write_yolo(tmp_path / "x", {"train/a": SQUARE}, "train: images/train\nnames: [car]\n")
    (tmp_path / "x" / "images").rename(tmp_path / "photos")
    written, _ = convert(source, tmp_path / "out", images=tmp_path / "photos")
    assert written.train == ["a"]


def test_label_studios_folder_has_its_classes_in_a_text(tmp_path):
    source = write_yolo(tmp_path / "x", {"a": SQUARE})
    (source / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"expected a data\.yaml or a classes\.txt with the classes"):
        convert(source, tmp_path / "no")
    (source / "classes.txt").write_text("lake\nwood\n")
    written, _ = convert(source, tmp_path / "out")
    assert written.classes == ("background", "lake", "wood")


def test_text_of_a_ring_walks_around_its_hole():
    label = np.zeros((6, 6), np.uint8)
    label[1:5, 1:5] = 1
    label[2:4, 2:4] = 0
    (line,) = yolo_text(label, ("background", "ring"), 0).splitlines()
    index, *shares = line.split()
    assert index == "0"
    x, y = np.array(shares, float)[::2] * 6, np.array(shares, float)[1::2] * 6
    area = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    assert area == pytest.approx(4 * 4 - 2 * 2 - 4 / 8 + 4 / 8, abs=1e-4)  # corners are cut: both of the ring and hole


@pytest.mark.parametrize("seed", range(6))
def test_texts_are_read_back_as_the_same_label(tmp_path, seed):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2], (9, 13), p=[0.4, 0.4, 0.2]).astype(np.uint8).repeat(1 + seed % 2, 0)
    names = ("background", "car", "tree") if seed % 3 else ("sky", "car", "tree")
    source = write_yolo(tmp_path / "x", {"a": yolo_text(label, names, 0)}, yolo_settings(names[int(seed % 3 > 0) :]))
    write_image(source / "images" / "a.jpg", size=label.shape)
    convert(source, tmp_path / "out", **({} if seed % 3 else {"classes": names, "outside": "void"}))
    np.testing.assert_array_equal(written_label(tmp_path / "out"), label)


@pytest.mark.parametrize("folder", ["/content/far/x/", "C:\\far\\x\\", "../far/x/"])
def test_folders_of_another_machine_are_those_beside_the_yaml(tmp_path, folder):
    yaml = f"train: {folder}images/train\nval: {folder}images/val\ntest: {folder}images/test\nnames: [car, tree]\n"
    source = write_yolo(tmp_path / "x", {"train/a": SQUARE, "val/b": SQUARE}, yaml)
    written, notes = convert(source, tmp_path / "out", val=None)
    assert (written.train, written.val) == (["a"], ["b"])
    assert any("images/test is not there: left out" in note for note in notes)


def test_bytes_and_paths_as_windows_writes_them_are_read(tmp_path):
    source = write_yolo(tmp_path / "x", {"train/a": SQUARE, "val/b": SQUARE})
    (source / "labels" / "train" / "a.txt").write_bytes(f"\ufeff{SQUARE}\r\n".encode())
    yaml = "\ufefftrain: ..\\x\\images\\train\r\nval: .\\images\\val\r\nnames: [car, tree]\r\n"
    (source / "data.yaml").write_bytes(yaml.encode())
    written, _ = convert(source, tmp_path / "out", val=None)
    assert (written.train, written.val) == (["a"], ["b"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("\ufeffcar\r\ntree\r\n\r\n".encode(), "car tree"),
        (b"# car or tree\r\n1 tree\r\n0 car\r\n", "car tree"),
        (b"# tag\ncar\ntree\n", r"classes\.txt:1: expected the name of class 0, got a comment"),
        (b"car\n\ntree\n", r"classes\.txt:2: expected the name of class 1, got none"),
        ("caf\xe9\ntree\n".encode("latin-1"), r"classes\.txt: expected text in UTF-8 \(.*; export it again"),
    ],
)
def test_lines_of_classes_txt_are_the_numbers_of_classes(tmp_path, content, expected):
    source = write_yolo(tmp_path / "x", {"a": SQUARE})
    (source / "data.yaml").unlink()
    (source / "classes.txt").write_bytes(content)
    if b"car\r" in content:
        assert convert(source, tmp_path / "out")[0].classes == ("background", *expected.split())
    else:
        with pytest.raises(DataError, match=expected):
            convert(source, tmp_path / "out")


def test_splits_without_texts_and_equal_names_are_said(tmp_path):
    yaml = "train: images/train\nval: images/val\nnames: [car, car]\n"
    source = write_yolo(tmp_path / "x", {"train/a": SQUARE}, yaml)
    write_image(source / "images" / "val" / "b.jpg", shade=7)
    written, notes = convert(source, tmp_path / "out")
    assert written.classes == ("background", "car")
    assert notes[:2] == [
        "classes with the same name are merged: 2 of 'car'",
        f"{source / 'data.yaml'}: val: images/val has no label files: left out",
    ]
    (source / "labels" / "train" / "a.txt").unlink()
    with pytest.raises(DataError, match=r"got none .*train: images/train has no label files"):
        convert(source, tmp_path / "out", overwrite=True)


def test_paths_that_no_system_has_are_not_there(tmp_path):
    source = write_yolo(tmp_path / "x", {"a": SQUARE}, f"train: images\nval: {'x' * 300}\nnames: [car, tree]\n")
    assert "is not there: left out" in convert(source, tmp_path / "out")[1][0]
