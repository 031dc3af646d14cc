"""What the names that a user gives stand for."""

import io
import os
import re
import shlex

import pytest
from PIL import Image

from deeplabctl.data.images import read_image
from deeplabctl.errors import DataError
from deeplabctl.prediction.inputs import find_images, is_video


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    for name in ("a.jpg", "b.PNG", "notes.txt", "clip.mp4", "deep/c.tif", "deep/a.jpg"):
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
    assert names(find_images(["in/*.mp4"])) == ["in/clip.mp4"]
    assert names(find_images(["in/notes.txt"])) == ["in/notes.txt"]  # named by hand: reading it will tell


def test_names_without_a_picture_are_refused(pictures):
    with pytest.raises(DataError, match=r"gone\.jpg: there is no such file or folder"):
        find_images(["in/a.jpg", "gone.jpg"])
    with pytest.raises(DataError, match=r"https://a\.org/b\.jpg: expected a file or a folder, got an address; down"):
        find_images(["https://a.org/b.jpg"])
    (pictures.parent / "here.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"got an empty one; for this folder give \.$"):
        find_images([""])
    assert names(find_images(["."])) == ["here.jpg"]
    (pictures / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected images in this folder.*got no file; choose the folder of"):
        find_images(["in/empty"])
    (pictures / "empty" / "x.json").write_bytes(b"")
    with pytest.raises(DataError, match=r"got 1 \.json; choose the folder of the images \(folders below are not"):
        find_images(["in/empty"])
    (pictures / "empty" / "x.MP4").write_bytes(b"")
    with pytest.raises(DataError, match=r"got 1 MP4 file \(name them: 'in/empty/\*\.MP4'\)"):
        find_images(["in/empty"])


def test_names_too_long_for_the_system_are_refused_in_one_line(tmp_path):
    with pytest.raises(DataError, match="there is no such file or folder"):
        find_images(["a" * 300 + ".jpg"])


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF"])
def test_pictures_are_not_taken_for_videos(tmp_path, format_):
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, format_)
    (tmp_path / "a.mp4").write_bytes(content.getvalue())
    assert not is_video(tmp_path / "a.mp4")
    assert not is_video(tmp_path / "gone.mp4")


def test_raw_photos_of_canon_are_not_taken_for_videos(tmp_path):
    (tmp_path / "a.cr3").write_bytes(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(64))  # as the cameras begin them
    assert not is_video(tmp_path / "a.cr3")


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "mpeg4"), (".mov", "mpeg4"), (".mkv", "mpeg4"), (".avi", "mpeg4"), (".webm", "libvpx"),
        (".mpg", "mpeg2video"), (".m2v", "mpeg2video"), (".ts", "mpeg2video"), (".m2ts", "mpeg2video"),
        (".wmv", "wmv2"), (".flv", "flv"), (".ogv", "libvpx"),
    ],
)  # fmt: skip
def test_videos_are_known_by_their_content(tmp_path, suffix, codec):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode())
    assert is_video(path.rename(tmp_path / "a.jpg"))


def test_hidden_files_and_pipes_of_a_folder_are_left_out(pictures):
    for name in ("._a.jpg", ".hidden.png", "~$b.jpg"):
        (pictures / name).write_bytes(b"")
    os.mkfifo(pictures / "pipe.jpg")
    assert names(find_images(["in"])) == ["in/a.jpg", "in/b.PNG"]


def test_file_that_is_named_in_several_ways_is_taken_once(pictures):
    (pictures / "c.jpg").symlink_to("a.jpg")  # which has a mask of its own
    given = ["in/a.jpg", "./in/a.jpg", str(pictures / "a.jpg"), "in"]
    assert names(find_images(given)) == ["in/a.jpg", "in/b.PNG", "in/c.jpg"]


def test_pipe_that_is_named_is_refused(pictures):
    os.mkfifo(pictures / "pipe")
    with pytest.raises(DataError, match=r"in/pipe: expected a file, got a pipe; .*infer - reads one image from stdin"):
        find_images(["in/pipe"])


def test_link_to_nothing_is_an_error_of_that_image(pictures):
    (pictures / "c.jpg").symlink_to("/nowhere/c.jpg")
    assert names(find_images(["in"])) == ["in/a.jpg", "in/b.PNG", "in/c.jpg"]
    with pytest.raises(DataError, match=r"a link to /nowhere/c\.jpg, which does not exist"):
        read_image(pictures / "c.jpg")


def test_photos_of_phones_in_a_folder_are_taken(pictures):
    for name in ("x.HEIC", "y.heif", "z.AVIF"):
        (pictures / name).write_bytes(b"")
    assert names(find_images(["in"]))[2:] == ["in/x.HEIC", "in/y.heif", "in/z.AVIF"]


@pytest.mark.parametrize("suffix", [".ico", ".JPE", ".pbm", ".wmv", ".ts", ".MTS"])
def test_no_image_or_video_of_a_folder_is_left_out_silently(pictures, suffix):
    (pictures / f"d{suffix}").write_bytes(b"")
    events = []
    assert names(find_images(["in"], events.append)) == ["in/a.jpg", "in/b.PNG"]
    assert f"1 {suffix[1:].upper()} file (name them: 'in/*{suffix}')" in events[0].text


def test_pattern_of_those_left_out_finds_them_in_any_folder(pictures):
    folder = pictures.rename(pictures.with_name("Ann's [2024]"))
    events = []
    find_images([str(folder)], events.append)
    (pattern,) = re.findall(r"name them: (.*)\)", events[0].text)
    assert find_images(shlex.split(pattern)) == [folder / "clip.mp4"]


def test_images_of_other_formats_in_a_folder_are_counted(pictures):
    for name in ("a.gif", "b.gif", "c.dng"):
        (pictures / name).write_bytes(b"")
    events = []
    assert names(find_images(["in"], events.append)) == ["in/a.jpg", "in/b.PNG"]
    (note,) = events
    assert note.text.startswith("in: skipped 1 DNG file (convert them to JPEG or PNG), 2 GIF files (name them:")
    assert note.text.endswith("1 MP4 file (name them: 'in/*.mp4')")
    for name in ("a.jpg", "b.PNG", "clip.mp4"):
        (pictures / name).unlink()
    with pytest.raises(DataError, match=r"expected images in this folder.*got 1 DNG file"):
        find_images(["in"])
