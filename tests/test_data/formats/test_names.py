"""Names of classes: those that hardly differ, other names for them, and images that nobody annotated."""

from dataclasses import replace

import numpy as np
import pytest
from annotation_files import SIZE, convert, write_image, write_labelme, written_label
from PIL import Image

from deeplabctl.data.convert import write_dataset
from deeplabctl.data.formats import read_annotations
from deeplabctl.data.formats.annotations import ImportSettings, similar_names
from deeplabctl.errors import DataError
from deeplabctl.reporting import silent

SQUARE = {"points": [[0, 0], [8, 0], [8, 6], [0, 6]]}
OTHER = {"points": [[8, 0], [16, 0], [16, 6], [8, 6]]}


@pytest.mark.parametrize(
    ("one", "other", "is_like"),
    [
        ("Car", "car", True), ("traffic light", "Traffic-Light", True), ("building", "buildng", True),
        ("vegetation", "vegetaiton", True), ("pavement", "pavements", True), ("é toile", "É toile", True),
        ("car", "cat", False), ("horse", "house", False), ("tree", "street", False), ("class 1", "class 2", False),
        ("lane12", "lane1", False), ("boat", "boats", False), ("wall", "walls", False),
    ],
)  # fmt: skip
def test_slips_of_the_keys_are_told_from_other_words(one, other, is_like):
    notes = similar_names(["sky", one, other])
    assert bool(notes) == is_like
    if is_like:
        assert notes == similar_names(["sky", one, other], {})
        assert notes[0].startswith(f"{one!r} and {other!r} are different classes, although their names hardly differ")


def slips(folder):
    source = write_labelme(folder / "x", [SQUARE | {"label": "building"}, OTHER | {"label": "buildng"}])
    return write_labelme(source, [SQUARE | {"label": "building"}], name="b")


def test_names_that_hardly_differ_are_said_with_their_numbers_and_files(tmp_path):
    written, notes = convert(slips(tmp_path), tmp_path / "out")
    assert written.classes == ("background", "building", "buildng")
    (note,) = notes
    assert note.startswith("'building' (2 outlines: a, b) and 'buildng' (1 outline: a) are different")
    assert note.endswith("use `rename` to make them one")


def test_two_names_become_one_class(tmp_path):
    written, notes = convert(slips(tmp_path), tmp_path / "out", rename={"buildng": "building"})
    assert (written.classes, notes) == (("background", "building"), [])
    assert written_label(tmp_path / "out")[0, [0, 15]].tolist() == [1, 1]
    written, _ = convert(slips(tmp_path), tmp_path / "new", rename={"buildng": "house", "building": "house"})
    assert written.classes == ("background", "house")
    classes = ("background", "road", "buildng")
    written, _ = convert(slips(tmp_path), tmp_path / "all", classes=classes, rename={"buildng": "building"})
    assert (written.classes, written_label(tmp_path / "all")[0, 15]) == (("background", "road", "building"), 2)


def test_names_of_composed_and_decomposed_letters_are_one_class(tmp_path):
    source = write_labelme(tmp_path / "x", [SQUARE | {"label": "for\u00eat"}, OTHER | {"label": "fore\u0302t"}])
    for number, more in enumerate(({}, {"classes": ("background", "fore\u0302t")}, {"rename": {"fore\u0302t": "x"}})):
        written, notes = convert(source, tmp_path / str(number), **more)
        assert (written.classes, notes) == (("background", "x" if "rename" in more else "for\u00eat"), [])
        assert written_label(tmp_path / str(number))[0, [0, 15]].tolist() == [1, 1]


def test_name_that_no_outline_has_is_said(tmp_path):
    _, notes = convert(slips(tmp_path), tmp_path / "out", rename={"biulding": "house"})
    assert notes[0] == "no outlines of class 'biulding' to rename to 'house'; did you mean 'building'?"


def test_classes_of_masks_become_one(tmp_path):
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) % 4
    Image.fromarray(values.astype(np.uint8)).save(tmp_path / "masks" / "a.png")
    classes = ("background", "car", "tree", "Car")
    written, notes = convert(tmp_path / "masks", tmp_path / "out", classes=classes, rename={"Car": "car"})
    assert (written.classes, notes) == (("background", "car", "tree"), [])
    np.testing.assert_array_equal(written_label(tmp_path / "out"), np.where(values == 3, 1, values))


def write_ids(folder, values):
    write_image(folder / "images" / "a.jpg")
    (folder / "masks").mkdir()
    values = np.broadcast_to(np.resize(values, SIZE[1]), SIZE)
    Image.fromarray(values.astype(np.uint8)).save(folder / "masks" / "a.png")
    return folder / "masks"


def test_masks_for_validation_keep_their_numbers_where_classes_become_one(tmp_path):
    settings = ImportSettings(classes=("background", "car", "Car", "tree"), rename={"Car": "car"})
    train = read_annotations(write_ids(tmp_path / "x", range(4)), settings, silent)
    val = read_annotations(write_ids(tmp_path / "y", range(3)), settings, silent, like=train)
    assert val.classes == ("background", "car", "tree")
    write_dataset(train, tmp_path / "out", silent, val=val)
    assert written_label(tmp_path / "out", "a")[0, :4].tolist() == [0, 1, 1, 2]
    assert written_label(tmp_path / "out", "a-2")[0, :3].tolist() == [0, 1, 1]
    with pytest.raises(DataError, match=r"y.masks: expected the classes of .*x.masks, background, car, tree, got"):
        read_annotations(tmp_path / "y" / "masks", replace(settings, rename={}), silent, like=train)


def test_masks_of_a_class_that_is_renamed_to_void_are_void(tmp_path):
    classes = ("background", "car", "tree")
    masks = write_ids(tmp_path, range(3))
    written, notes = convert(masks, tmp_path / "out", classes=classes, rename={"car": "void", "Tree": "bush"})
    assert written.classes == ("background", "tree")
    assert written_label(tmp_path / "out")[0, :3].tolist() == [0, 255, 1]
    assert notes == ["no class 'Tree' to rename to 'bush'"]
    written, notes = convert(masks, tmp_path / "named", classes=(*classes, "void"), rename={"car": "void"})
    assert (written.classes, written_label(tmp_path / "named")[0, 1]) == (("background", "void", "tree"), 1)
    assert notes == ["'void' is a class to train on, as the masks' classes name it; `rename=void=ignore` makes it void"]
    written, notes = convert(
        masks, tmp_path / "ids", classes=("unlabeled", "car", "tree"), rename={"unlabeled": "void"}
    )
    assert (written.classes, written_label(tmp_path / "ids")[0, :3].tolist(), notes) == (
        ("car", "tree"),
        [255, 0, 1],
        [],
    )


def test_masks_of_which_one_class_is_left_are_refused(tmp_path):
    rename = {"car": "background", "tree": "void"}
    with pytest.raises(DataError, match="masks: expected 2 classes or more, got background; rename fewer of them"):
        convert(write_ids(tmp_path, range(3)), tmp_path / "out", classes=("background", "car", "tree"), rename=rename)


def test_outlines_of_a_class_that_is_renamed_to_void_are_void(tmp_path):
    classes = ("background", "building", "buildng")
    written, _ = convert(slips(tmp_path), tmp_path / "out", classes=classes, rename={"buildng": "ignore"})
    assert written.classes == ("background", "building")
    assert written_label(tmp_path / "out")[0, [0, 15]].tolist() == [1, 255]


def test_outlines_that_no_class_takes_are_said_with_their_files(tmp_path):
    message = r"got others: 2 of building \(a, b\), 1 of buildng \(a\); add these to `classes`"
    with pytest.raises(DataError, match=message):
        convert(slips(tmp_path), tmp_path / "out", classes=("background", "road"))
    message = r"got others: 2 of building .*; did you mean 'building' by 'bulding'\? Otherwise add these to "
    with pytest.raises(DataError, match=message):
        convert(slips(tmp_path), tmp_path / "out", classes=("background", "bulding", "buildng"))


def test_names_with_commas_are_in_quotes_in_lists(tmp_path):
    shapes = [{"label": name, "points": [[0, 0], [8, 0], [8, 6]]} for name in ("bus, car", "tree")]
    message = "expected outlines of background, 'a, b', got others: 1 of 'bus, car' .a., 1 of tree .a.;"
    with pytest.raises(DataError, match=message):
        convert(write_labelme(tmp_path / "x", shapes), tmp_path / "out", classes=("background", "a, b"))


def test_images_that_nobody_annotated_are_named(tmp_path):
    source = slips(tmp_path)
    write_image(source / "c.jpg")
    write_labelme(source, [], name="d")
    _, notes = convert(source, tmp_path / "out", rename={"buildng": "building"})
    assert notes == [
        f"images without an annotation: 1 left out ({source / 'c.jpg'})",
        "images that are all background: 1 (d); leave them out if nobody annotated them",
    ]


def test_photos_without_a_mask_and_images_that_failed_are_told_apart(tmp_path):
    for name in ("a", "b", "c"):
        write_image(tmp_path / "images" / f"{name}.jpg", shade=ord(name))
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.eye(*SIZE, dtype=np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "masks" / "b.png").write_bytes((tmp_path / "masks" / "b.png").read_bytes()[:40])
    written, notes = convert(tmp_path / "masks", tmp_path / "out", classes=("background", "line"))
    assert len(written.failed) == 1
    assert f"images without an annotation: 1 left out ({tmp_path / 'images' / 'c.jpg'})" in notes


def test_masks_beside_their_images_are_no_images_without_an_annotation(tmp_path):
    write_image(tmp_path / "x" / "a.jpg")
    Image.fromarray(np.eye(*SIZE, dtype=np.uint8)).save(tmp_path / "x" / "a_mask.png")
    _, notes = convert(tmp_path / "x", tmp_path / "out", classes=("background", "line"), mask_suffix="_mask")
    assert notes == []
