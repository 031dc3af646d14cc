"""A folder to run commands in."""

import pytest
from dataset_files import make_dataset


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Stand in an empty folder with a small data set, "set"."""
    make_dataset(tmp_path / "set", train=6, val=3)
    monkeypatch.chdir(tmp_path)
    return tmp_path
