"""Data sets are found by their path, in the usual places, or are the built-in one."""

import pytest
from dataset_files import make_dataset

from deeplabctl.data import locate
from deeplabctl.data.locate import find_dataset, name_or_path
from deeplabctl.errors import OutputError
from deeplabctl.reporting import Note


def test_folder_with_the_name_of_the_built_in_set_is_not_taken_unsaid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / "shapes")
    monkeypatch.setattr(locate, "shapes_dataset", lambda report: "the built-in set")
    events = []
    assert find_dataset("shapes", events.append) == "the built-in set"
    text = "data set: the built-in shapes; the folder here is `data=./shapes`"
    assert events == [Note(text, warning=True)]
    assert find_dataset("./shapes", events.append).root.resolve() == tmp_path / "shapes"
    (tmp_path / "shapes").rename(tmp_path / "other")
    events.clear()
    find_dataset("shapes", events.append)
    assert events == []


def test_user_without_a_home_can_use_a_data_set_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "user_cache", lambda: None)
    dataset = find_dataset(str(make_dataset(tmp_path / "set")), [].append)
    assert name_or_path(dataset) == str(tmp_path / "set")
    with pytest.raises(OutputError, match=r"expected a home folder to draw it in, got none; set \$HOME"):
        find_dataset("shapes", [].append)
