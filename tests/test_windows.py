"""Windows, as far as it can be simulated: what only Unix has is missing."""

import errno
import os
import subprocess
import sys
import types

import pytest
from caffe_files import DATA as CAFFE

from deeplabctl.files import lock

# Of the modules and names that Windows lacks, those that our own code must not need; other packages' modules look at
# sys.platform while they load, so what they would load from Windows is not simulated.
WINDOWS = """
import importlib.abc, os, signal, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource", "termios", "pwd", "grp", "pty", "tty"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

# The standard library takes its branches before: it was made for this system.
import asyncio, ctypes, ctypes.util, multiprocessing, platform, select, shutil, subprocess, tempfile, threading, types
import numba, numpy, platformdirs, typer, urllib.request, PIL.Image
def installed(kilobytes):
    kilobytes._obj.value = 8 << 20
ctypes.windll = types.SimpleNamespace(kernel32=types.SimpleNamespace(GetPhysicallyInstalledSystemMemory=installed))
for name in ("fcntl", "resource", "termios", "pwd", "grp", "pty", "tty"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Blocked())
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "SIGPIPE"):
    delattr(signal, name)
for name in ("sched_getaffinity", "sysconf", "getuid", "geteuid", "uname", "fork", "killpg", "mkfifo", "statvfs",
             "sync"):
    if hasattr(os, name):
        delattr(os, name)
unix_open = os.open
def no_folders(path, flags, *rest, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return unix_open(path, flags, *rest, **more)
os.open = no_folders
shutil._use_fd_functions = False
unix_fsync = os.fsync
def fsync_of_writable(descriptor):
    os.write(descriptor, b"")
    unix_fsync(descriptor)
os.fsync = fsync_of_writable
unix_rename = os.rename
def rename(source, target):
    if os.path.lexists(target):
        raise FileExistsError(17, "File exists", source)
    unix_rename(source, target)
os.rename = rename
load_library = ctypes.CDLL.__init__
def load_named_library(self, name, *rest, **more):
    if name is None:
        raise TypeError("argument of type 'NoneType' is not iterable")
    load_library(self, name, *rest, **more)
ctypes.CDLL.__init__ = load_named_library
sys.platform = "win32"
"""


def on_windows(program, cwd):
    done = subprocess.run(
        [sys.executable, "-c", WINDOWS + program], cwd=cwd, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_simulation_lacks_what_windows_lacks(tmp_path):
    program = "try:\n    import fcntl\nexcept ImportError:\n    print('missing', hasattr(signal, 'SIGHUP'))\n"
    assert on_windows(program, tmp_path) == "missing False\n"


def test_package_and_its_modules_are_imported(tmp_path):
    on_windows(
        "import deeplabctl as dl, pkgutil, importlib\n"
        "for name in ('files', 'downloads', 'parallel', 'cli.app', 'training.run', 'training.run_directory', "
        "'prediction.run', 'serve.uploads', 'reports.comparison', 'weights.locating', 'data.convert'):\n"
        "    importlib.import_module(f'deeplabctl.{name}')\n"
        "dl.CrfParams, dl.ConfusionMatrix\n",
        tmp_path,
    )


@pytest.mark.parametrize("words", [["--version"], ["infer", "--help"], ["train", "--help"], ["weights"]])
def test_commands_answer(words, tmp_path):
    program = f"sys.argv[1:] = {words!r}\nfrom deeplabctl.cli.app import main\nmain()\n"
    assert "deeplab" in on_windows(program, tmp_path)


def test_infer_writes_a_mask(tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30), "green").save(tmp_path / "a.png")
    words = ["infer", "a.png", "--weights", str(CAFFE / "lfov_tiny_v2.caffemodel"), "--engine", "numba"]
    on_windows(f"sys.argv[1:] = {words!r}\nfrom deeplabctl.cli.app import main\nmain()\n", tmp_path)
    with Image.open(tmp_path / "masks" / "a.png") as mask:
        assert mask.size == (40, 30)


def test_folders_are_written_whole_and_replaced(tmp_path):
    (tmp_path / "set").mkdir()
    program = "from deeplabctl.cli.app import main\n"
    for seed in ("0", "1"):
        words = ["data", "shapes", "set", "--train", "1", "--val", "1", "--seed", seed, "--overwrite"]
        program += f"sys.argv[1:] = {words!r}\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
    assert on_windows(program, tmp_path).count("set: 1 training and 1 validation images") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("wait", [False, True])
def test_locks_of_windows_are_of_a_byte_beyond_the_content(tmp_path, monkeypatch, wait):
    held, places = [True], []

    def locking(descriptor, mode, count):
        places.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, count))
        if held and (held.pop() if wait else True):
            raise OSError(errno.EACCES, "held")

    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr("deeplabctl.files.sys", types.SimpleNamespace(platform="win32"))
    (tmp_path / "a").write_bytes(b"abc")
    with (tmp_path / "a").open("r+b") as file:
        file.seek(2)
        assert lock(file.fileno(), wait=wait) == wait
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == file.tell()
    assert places == [(1 << 30, 2, 1)] * (2 if wait else 1)


def test_locks_are_seen_by_others_until_they_are_closed(tmp_path):
    (tmp_path / "a").touch()
    with (tmp_path / "a").open("a") as other:
        with (tmp_path / "a").open("a") as first:
            assert lock(first.fileno())
            assert not lock(other.fileno())
        assert lock(other.fileno())
