"""Standard streams that are closed or full: one line, and masks and data sets all the same."""

import os
import subprocess
import sys

import pytest
from annotation_files import write_labelme
from caffe_files import DATA
from PIL import Image

WEIGHTS = DATA / "lfov_tiny_v2.caffemodel"
CLOSED, FULL = "it is closed", "No space left on device"


def run(redirections, *arguments, cwd):
    """Run the command with the redirections of a shell; returns (exit code, stdout, stderr)."""
    script = f'exec "$0" -m deeplabctl "$@" {redirections}'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL, env=os.environ | {"COLUMNS": "80"}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("redirection", "reason"), [(">&-", CLOSED), (">/dev/full", FULL), ("<&- >&-", CLOSED)])
def test_data_set_is_written_and_the_lost_lines_are_said(tmp_path, redirection, reason):
    write_labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}])
    code, _, err = run(redirection, "data", "convert", "x", "--out", "set", "--quiet", cwd=tmp_path)
    assert (code, err) == (1, f"error: cannot write to stdout: {reason}; all files are complete\n")
    (label,) = (tmp_path / "set" / "SegmentationClass").iterdir()
    assert Image.open(label).getbbox()
    assert len(list((tmp_path / "set" / "ImageSets" / "Segmentation").iterdir())) >= 1


@pytest.mark.parametrize(("redirection", "reason"), [(">&-", CLOSED), (">/dev/full", FULL)])
def test_masks_are_written_to_the_last_and_the_lost_lines_are_said(tmp_path, redirection, reason):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 9), "red").save(tmp_path / name)
    options = ("--weights", WEIGHTS, "--engine", "numba")
    code, _, err = run(redirection, "infer", "a.png", "b.png", *options, cwd=tmp_path)
    assert code == 1
    assert err.splitlines()[-1] == f"error: cannot write to stdout: {reason}; all files are complete"
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.png", "b.png"]


def test_mask_that_does_not_reach_stdout_is_said_to_be_lost(tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    redirection = f"<{tmp_path / 'a.png'} >/dev/full"
    code, _, err = run(redirection, "infer", "-", "--weights", WEIGHTS, "--engine", "numba", cwd=tmp_path)
    assert code == 1
    assert err.splitlines()[-1] == f"error: cannot write the mask to stdout: {FULL}; choose another file"


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&-"])
def test_streams_that_are_not_needed_change_nothing(tmp_path, redirection):
    write_labelme(tmp_path / "x", [{"label": "lake", "points": [[0, 0], [8, 0], [8, 6]]}])
    code, out, _ = run(redirection, "data", "convert", "x", "--out", "set", cwd=tmp_path)
    assert code == 0
    assert "set" in out
    assert (tmp_path / "set" / "classes.txt").read_text().split() == ["background", "lake"]


def test_pipe_that_does_not_block_gets_everything(tmp_path):
    expected = run("", "train", "--help", cwd=tmp_path)[1].encode()
    read, write = os.pipe()
    os.set_blocking(write, False)
    fill = os.write(write, bytes(1 << 20))  # as much as it holds
    command = [sys.executable, "-m", "deeplabctl", "train", "--help"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        with open(read, "rb") as pipe:  # noqa: PTH123
            assert pipe.read()[fill:] == expected
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("data", "check", "set", "--help"), ("weights",)])
@pytest.mark.parametrize(("redirection", "reason"), [(">&-", CLOSED), (">/dev/full", FULL)])
def test_what_only_prints_says_that_it_could_not(tmp_path, arguments, redirection, reason):
    code, _, err = run(redirection, *arguments, cwd=tmp_path)
    assert (code, err) == (1, f"error: cannot write to stdout: {reason}; all files are complete\n")


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        ("<&-", "stdin is closed: expected an image from a file or a pipe; add < photo.jpg"),
        ("0>file", "cannot read stdin: Bad file descriptor; add < photo.jpg"),
        (">&-", "stdout is closed: expected a file or a pipe for the mask, a PNG; add > mask.png"),
    ],
)
def test_image_from_stdin_needs_both_streams_before_any_work(tmp_path, redirection, message):
    code, out, err = run(redirection, "infer", "-", "--weights", "nowhere.keras", cwd=tmp_path)
    assert (code, out, err) == (1, "", f"error: {message}\n")
