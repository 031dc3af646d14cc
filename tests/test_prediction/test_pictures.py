import pytest

from deeplabctl.errors import DataError, OutputError
from deeplabctl.prediction.pictures import find_images, plan_outputs


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    for name in ("a.jpg", "b.PNG", "notes.txt", "deep/c.tif", "deep/a.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def names(paths):
    return [str(path) for path in paths]


def test_files_folders_and_patterns_are_found_once_each(pictures):
    assert names(find_images(["in"])) == ["in/a.jpg", "in/b.PNG"]
    assert names(find_images(["in/*.jpg", "in/a.jpg"])) == ["in/a.jpg"]
    assert names(find_images(["in/**/*.tif"])) == ["in/deep/c.tif"]
    assert names(find_images(["in/notes.txt"])) == ["in/notes.txt"]  # named by hand: reading it will tell


def test_names_without_a_picture_are_refused(pictures):
    with pytest.raises(DataError, match=r"gone\.jpg: there is no such file or folder"):
        find_images(["in/a.jpg", "gone.jpg"])
    (pictures / "empty").mkdir()
    with pytest.raises(DataError, match="expected pictures in this folder"):
        find_images(["in/empty"])


def test_masks_are_named_after_their_pictures(pictures, tmp_path):
    (job,) = plan_outputs(find_images(["in/a.jpg"]), tmp_path / "masks", overlay=True, overwrite=False)
    assert job.mask == tmp_path / "masks" / "a.png"
    assert job.overlay == tmp_path / "masks" / "a_overlay.png"


def test_nothing_is_overwritten_unasked(pictures, tmp_path):
    images = find_images(["in/a.jpg"])
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"a\.png exists; use `overwrite`"):
        plan_outputs(images, tmp_path, overlay=False, overwrite=False)
    assert plan_outputs(images, tmp_path, overlay=False, overwrite=True)


def test_colliding_names_are_refused_before_any_work(pictures, tmp_path):
    with pytest.raises(OutputError, match="would both be written to"):
        plan_outputs(find_images(["in/a.jpg", "in/deep/a.jpg"]), tmp_path, overlay=False, overwrite=True)
    (pictures / "x.png").write_bytes(b"")
    with pytest.raises(OutputError, match="is one of the pictures and would be overwritten"):
        plan_outputs(find_images(["in/x.png"]), pictures, overlay=False, overwrite=True)
    with pytest.raises(OutputError, match="expected a folder, got a file"):
        plan_outputs(find_images(["in/a.jpg"]), pictures / "a.jpg", overlay=False, overwrite=False)


def test_names_too_long_for_the_system_are_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match="there is no such file or folder"):
        find_images(["a" * 300 + ".jpg"])
