"""Files and folders are written whole or not at all, and nothing is replaced unasked."""

import ctypes
import errno
import io
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from deeplabctl import files
from deeplabctl.errors import OutputError
from deeplabctl.files import (
    check_folder,
    check_new_file,
    check_new_folder,
    check_writable,
    locked_folder,
    user_cache,
    whole_file,
    whole_folder,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(path):
    path.write_text("half")
    raise ZeroDivisionError


def write_after_removal(folder):
    folder.rmdir()
    write_text(folder / "lists" / "train.txt", "")  # makes its folder again


def test_existing_files_need_overwrite_and_folders_are_never_files(tmp_path):
    check_new_file(tmp_path / "a.png", overwrite=False)
    (tmp_path / "a.png").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("a.png", "link"):
        with pytest.raises(OutputError, match=f"{name} exists; use `overwrite`"):
            check_new_file(tmp_path / name, overwrite=False)
        check_new_file(tmp_path / name, overwrite=True)
    with pytest.raises(OutputError, match="got a folder"):
        check_new_file(tmp_path, overwrite=True)
    with pytest.raises(OutputError, match=r"a\.txt: expected a name that ends in \.png, \.jpg"):
        check_new_file(tmp_path / "a.txt", overwrite=True, suffixes=(".png", ".jpg"))


def test_folders_of_results_are_not_files(tmp_path):
    check_folder(tmp_path)
    check_folder(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: expected a folder, got a file"):
        check_folder(tmp_path / "file")


def test_folder_that_is_not_empty_needs_overwrite(tmp_path):
    check_new_folder(tmp_path, overwrite=False)
    check_new_folder(tmp_path / "new", overwrite=False)
    (tmp_path / "a").touch()
    for path in (tmp_path, tmp_path / "a"):
        with pytest.raises(OutputError, match="exists and is not an empty folder; use `overwrite`"):
            check_new_folder(path, overwrite=False)
        check_new_folder(path, overwrite=True)


def test_file_replaces_the_old_one_at_the_end_only(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".txt"
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "a.txt") as temporary:
        write_half(temporary)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_folder_is_no_name_of_a_file():
    with pytest.raises(OutputError, match=r"cannot write \.: expected the name of a file"), whole_file(Path()):
        pass


def test_folder_appears_when_it_is_complete_and_leaves_nothing_if_it_fails(tmp_path):
    with whole_folder(tmp_path / "deep" / "set") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "deep" / "set").exists()
    assert names(tmp_path / "deep") == ["set"]
    assert names(tmp_path / "deep" / "set") == ["a"]
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "deep" / "other") as folder:
        write_half(folder / "a")
    assert names(tmp_path / "deep") == ["set"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_folder_can_be_read_by_those_whom_the_user_lets_read(tmp_path, umask):
    before = os.umask(umask)
    try:
        with whole_folder(tmp_path / "set"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "set").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("letter", ["a", "é", "字", "🙂"])
def test_longest_names_can_be_written(tmp_path, letter):
    name = letter * (250 // len(letter.encode()))
    write_text(tmp_path / f"{name}.txt", "a")
    with whole_folder(tmp_path / name) as folder:
        (folder / "a").touch()
    assert names(tmp_path) == [name, f"{name}.txt"]


def test_what_a_killed_process_left_of_a_folder_is_removed_and_what_another_one_writes_is_not(tmp_path):
    for name in (".set.unfinished-0123abcd", ".set.original", ".settings.unfinished-0123abcd"):
        (tmp_path / name).mkdir()
    with whole_folder(tmp_path / "set", overwrite=True) as folder:
        assert names(tmp_path) == [".set.original", folder.name, ".settings.unfinished-0123abcd"]
        with whole_folder(tmp_path / "set") as second:
            (second / "a").touch()
            assert folder.is_dir()
    assert names(tmp_path) == [".set.original", ".settings.unfinished-0123abcd", "set"]


@pytest.mark.parametrize("stem", ["a", "a" * 240, "é" * 110])
def test_what_a_killed_process_left_of_a_file_is_removed_unless_another_one_writes_beside_it(tmp_path, stem):
    target = tmp_path / f"{stem}.png"
    left = files.temporary_name(target)
    for path in (left, tmp_path / ".b.0123abcd.png", tmp_path / ".a.png"):
        path.touch()
    with whole_file(tmp_path / "c.txt") as temporary:
        temporary.touch()
        check_new_file(target, overwrite=False)
        assert left.exists()
    check_new_file(target, overwrite=False)
    assert names(tmp_path) == [".a.png", ".b.0123abcd.png", "c.txt"]


@pytest.mark.parametrize("moment", ["locked_folder", "sync"])
def test_new_folder_is_not_removed_before_it_is_locked_nor_when_it_is_complete(tmp_path, monkeypatch, moment):
    real, begun = getattr(files, moment), []

    def beside_another_process(folder, *, alone=False):
        if not begun and not alone:
            begun.append(folder)
            with whole_folder(tmp_path / "set", overwrite=True) as theirs:
                (theirs / "theirs").touch()
        return real(folder, alone=alone) if moment == "locked_folder" else real(folder)

    monkeypatch.setattr(files, moment, beside_another_process)
    with whole_folder(tmp_path / "set", overwrite=True) as folder:
        (folder / "ours").touch()
    assert begun
    assert names(tmp_path / "set") == ["ours"]
    assert names(tmp_path) == ["set"]


def test_folder_is_replaced_as_a_whole_with_overwrite_only(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    with pytest.raises(OutputError, match="not an empty folder"), whole_folder(tmp_path / "set"):
        pytest.fail("the block must not run")
    with whole_folder(tmp_path / "set", overwrite=True) as folder:
        (folder / "new").touch()
        assert names(tmp_path / "set") == ["old"]
    assert names(tmp_path / "set") == ["new"]
    assert names(tmp_path) == ["set"]


def test_folder_that_was_removed_while_it_was_written_replaces_nothing(tmp_path):
    write_text(tmp_path / "set" / "old", "old")
    with (
        pytest.raises(OutputError, match=r"cannot write .*set: another program has removed .*unfinished"),
        whole_folder(tmp_path / "set", overwrite=True) as folder,
    ):
        write_after_removal(folder)
    assert names(tmp_path / "set") == ["old"]
    assert names(tmp_path) == ["set"]


def test_folder_that_another_process_has_filled_meanwhile_is_kept(tmp_path):
    with pytest.raises(OutputError, match="cannot write"), whole_folder(tmp_path / "set"):
        write_text(tmp_path / "set" / "theirs", "theirs")
    assert names(tmp_path / "set") == ["theirs"]
    assert names(tmp_path) == ["set"]


@pytest.mark.parametrize("at_once", [True, False])
def test_folder_is_exchanged_at_once_or_by_renames(tmp_path, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(files, "renameat2", lambda one, other: False)
    write_text(tmp_path / "set" / "old", "old")
    with whole_folder(tmp_path / "set", overwrite=True) as folder:
        (folder / "new").touch()
    assert names(tmp_path / "set") == ["new"]
    assert names(tmp_path) == ["set"]


@pytest.mark.parametrize("renames", [0, 1])
def test_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch, renames):
    monkeypatch.setattr(files, "renameat2", lambda one, other: False)
    done, real = [], os.rename

    def rename(source, target):
        if len(done) == renames:
            done.append("failed")
            raise OSError(errno.EIO, "Input/output error")
        done.append("renamed")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    write_text(tmp_path / "set" / "old", "old")
    with (
        pytest.raises(OutputError, match="no partial file was left"),
        whole_folder(tmp_path / "set", overwrite=True) as folder,
    ):
        (folder / "new").touch()
    assert names(tmp_path / "set") == ["old"]
    assert names(tmp_path) == ["set"]


def test_folder_that_cannot_be_written_is_refused_and_a_probe_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_writable(tmp_path / "new" / "folder")
    check_writable(Path("new"))
    check_writable(tmp_path)
    assert names(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*file/a/b: Not a directory .*; choose another folder"):
        check_writable(tmp_path / "file" / "a" / "b")


def test_full_disk_is_found_where_empty_files_are_still_possible(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    for check in (check_writable, lambda path: check_new_file(path / "a.zip", overwrite=False)):
        with pytest.raises(OutputError, match=r"No space left on device; choose another folder"):
            check(tmp_path)


def test_folder_is_alone_only_while_nobody_else_holds_it(tmp_path):
    def alone():
        with locked_folder(tmp_path, alone=True) as is_locked:
            return is_locked

    with locked_folder(tmp_path) as first, locked_folder(tmp_path) as second:
        assert first
        assert second
        assert not alone()
    assert alone()
    with locked_folder(tmp_path / "missing") as is_locked:
        assert not is_locked
    assert names(tmp_path) == []


def test_names_that_are_not_utf8_become_escapes_in_text_files(tmp_path):
    write_text(tmp_path / "a.txt", f"crème {os.fsdecode(bytes([255]))}")
    assert (tmp_path / "a.txt").read_text("utf-8") == r"crème \udcff"


@pytest.mark.parametrize("behaviour", ["pathlib", "os.path"])
def test_user_without_a_home_has_no_cache(monkeypatch, behaviour):
    def without_home(*_):
        if behaviour == "pathlib":
            raise RuntimeError("Could not determine home directory.")
        return Path("~/.cache/deeplabctl")

    monkeypatch.setattr("platformdirs.user_cache_path", without_home)
    assert user_cache() is None


@pytest.mark.parametrize("write", ["file", "new folder", "replaced folder"])
def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, write):
    order = []

    def noting(owner, name):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments: order.append(name) or real(*arguments))

    noting(os, "fsync")
    noting(files, "sync")
    noting(Path, "replace")
    noting(Path, "rename")
    noting(files, "_exchange")
    if write == "file":
        write_text(tmp_path / "a.txt", "a")
        assert order == ["fsync", "replace"]
    else:
        path = tmp_path / "set"
        if write == "replaced folder":
            path.mkdir()
            (path / "old").touch()
        with whole_folder(path, overwrite=True) as folder:
            (folder / "a.txt").write_text("a")
        assert order == ["sync", "rename" if write == "new folder" else "_exchange"]
        assert (path / "a.txt").read_text() == "a"


@pytest.mark.parametrize("function", [None, "fails"])
def test_folder_is_synced_on_every_system_and_an_error_of_the_disk_is_named(tmp_path, monkeypatch, function):
    synced = []
    library = SimpleNamespace()
    if function:
        library.syncfs = lambda descriptor: ctypes.set_errno(errno.EIO) or -1
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: library)
    monkeypatch.setattr(os, "sync", lambda: synced.append(1))
    if function:
        with (
            pytest.raises(OutputError, match=r"cannot write .*set: Input/output error"),
            whole_folder(tmp_path / "set"),
        ):
            pass
        assert names(tmp_path) == []
    else:
        with whole_folder(tmp_path / "set"):
            pass
        assert synced == [1]
