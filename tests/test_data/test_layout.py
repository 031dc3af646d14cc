import pytest

from deeplabctl.data.layout import check_new_dataset, make_layout, new_dataset, write_class_names, write_list
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
