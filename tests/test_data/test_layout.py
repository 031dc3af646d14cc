import pytest

from deeplabctl.data.layout import (
    check_new_dataset,
    check_outside,
    make_layout,
    new_dataset,
    write_class_names,
    write_list,
)
from deeplabctl.errors import OutputError


def test_new_data_set_may_replace_a_data_set_but_no_other_folder_or_file(tmp_path):
    check_new_dataset(tmp_path / "missing", overwrite=False)
    (tmp_path / "empty").mkdir()
    check_new_dataset(tmp_path / "empty", overwrite=False)
    make_layout(tmp_path / "set")
    with pytest.raises(OutputError, match="exists and is not an empty folder; use `overwrite`"):
        check_new_dataset(tmp_path / "set", overwrite=False)
    check_new_dataset(tmp_path / "set", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    for path in (tmp_path / "mine", tmp_path / "mine" / "thesis.tex"):
        with pytest.raises(OutputError, match="expected a data set in VOC layout to replace"):
            check_new_dataset(path, overwrite=True)


def test_lists_and_class_names_have_a_name_per_line(tmp_path):
    with new_dataset(tmp_path / "set") as root:
        make_layout(root)
        write_list(root, "train", ["a", "b"])
        write_class_names(root, ["background", "crème"])
    assert (tmp_path / "set" / "ImageSets" / "Segmentation" / "train.txt").read_bytes() == b"a\nb\n"
    assert (tmp_path / "set" / "classes.txt").read_text("utf-8") == "background\ncrème\n"


@pytest.mark.parametrize(
    "name",
    [
        "labelmap.txt", "notes/todo.md", "runs/a/best.keras", "JPEGImages/a.txt", "JPEGImages/old/a.jpg",
        "SegmentationClass/a.psd",
        "ImageSets/Main/train.txt", "ImageSets/Segmentation/.hidden", "best.keras",
    ],
)  # fmt: skip
def test_folder_with_anything_beside_a_data_set_is_never_replaced(tmp_path, name):
    make_layout(tmp_path)
    for own in ("JPEGImages/a.JPG", "SegmentationClass/a.png", "ImageSets/Segmentation/train.txt", "classes.txt"):
        (tmp_path / own).touch()
    for made_by_systems in (".DS_Store", "JPEGImages/Thumbs.db"):
        (tmp_path / made_by_systems).touch()
    check_new_dataset(tmp_path, overwrite=True)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(OutputError, match=r"a data set with nothing else in it to replace, got .*; move it away"):
        check_new_dataset(tmp_path, overwrite=True)


def test_data_set_that_is_read_or_holds_what_is_read_or_is_in_it_is_not_replaced(tmp_path):
    make_layout(tmp_path / "a" / "set")
    for source in (tmp_path / "a" / "set", tmp_path / "a" / "set" / "JPEGImages", tmp_path / "a", tmp_path):
        with pytest.raises(OutputError, match="expected a folder outside what is read"):
            check_outside(tmp_path / "a" / "set", [tmp_path / "other", source])
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError, match="expected a folder outside what is read"):
        check_outside(tmp_path / "link" / "set", [tmp_path / "a" / "set"])
    check_outside(tmp_path / "a" / "set", [tmp_path / "a" / "settings", tmp_path / "missing"])
    check_outside(tmp_path / "a" / "new", [tmp_path / "a"])  # nothing is replaced
