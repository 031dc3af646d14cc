"""What a terminal shows of a job."""

import os
import re
import sys
import time
from contextlib import contextmanager

import pytest

from deeplabctl.cli import console
from deeplabctl.cli.console import PlainReporter
from deeplabctl.cli.live import LiveReporter
from deeplabctl.reporting import Advanced, Finished, Note, Started, Trained, pace


@pytest.mark.parametrize(
    ("encoding", "curve"), [("utf-8", True), ("ascii", False), ("latin-1", False), ("cp437", False)]
)
def test_training_is_shown_on_a_terminal_of_any_encoding(tmp_path, monkeypatch, encoding, curve):
    with (tmp_path / "terminal").open("w", encoding=encoding) as file:
        monkeypatch.setattr(sys, "stderr", file)
        with LiveReporter() as report:
            report(Started("training", 2, "steps"))
            for step in (1, 2):
                report(Trained(step, 2, 1.0 / step, 0.1, 1.0, 0.0, None if step == 1 else 1.0, True))
            report(Note(f"data set: {os.fsdecode(bytes([255]))} ☃", warning=True))
            report(Finished())
    shown = (tmp_path / "terminal").read_bytes().decode(encoding)
    assert "loss" in shown
    assert ("█▁" in shown) == curve
    assert r"\udcff" in shown


def test_pace_is_a_speed_and_the_time_left():
    assert pace(10, 90, 5.0, "images") == "2.0 images/s, 0:45 left"
    assert pace(2, 30, 8.0, "images") == "4.0 s each, 2:00 left"
    assert pace(0, 30, 8.0, "images") == ""
    assert pace(5, -2, 1.0, "frames") == "5.0 frames/s, 0:00 left"


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    """Return a function that gives the path of a terminal of some columns, and what reports to it."""

    @contextmanager
    def opened(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        path = tmp_path / "terminal"
        with path.open("w", encoding="utf-8") as file:
            monkeypatch.setattr(sys, "stderr", file)
            with LiveReporter() as report:
                yield path, report

    return opened


def advance(report, steps):
    for _ in range(steps):
        time.sleep(0.02)
        report(Advanced(1))


def test_task_shows_its_pace_on_a_terminal(terminal):
    with terminal(160) as (path, report):
        report(Started("segmenting", 100, "images"))
        advance(report, 4)
        for _ in range(500):  # until the bar is drawn again
            if " left" in path.read_text("utf-8"):
                break
            time.sleep(0.02)
        report(Finished())
    assert re.search(r"4/100.*\d images/s, \d:\d\d left", path.read_text("utf-8"))


def test_lines_of_a_narrow_terminal_are_whole(terminal):
    with terminal(80) as (path, report):
        report(Started("reading the values of masks", 1070, "masks"))
        advance(report, 4)
        report._live.refresh()
        report(Finished())
        report(Started("training", 90, "steps"))
        for step in range(1, 61):
            report(Trained(step, 90, 1.0 / step, 0.1, 11.0, 0.0, 100.0, True))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", path.read_text("utf-8"))
    assert re.search(r"reading the values of masks \(ma… ━+ +4/1070   0% +\S+ masks/s, \d:\d\d left\n", shown)
    assert re.search(r"loss 0\.0167  lr 1\.00e-01  11\.0 images/s  waiting for data 0\.0%  1:40 left  \S+\n", shown)
    assert max(map(len, shown.splitlines())) <= 80


def test_task_shows_its_pace_in_plain_lines(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    report = PlainReporter()
    report(Started("segmenting \x1b[2J", 50, "images", 10))
    for _ in range(5):
        now += 2.0
        report(Advanced(2))
    assert capsys.readouterr().err == "segmenting \\x1b[2J: 16 of 50 images, 1.0 images/s, 0:34 left\n"
    report(Started("downloading", 5, "MB"))
    now += 6.0
    report(Advanced(0))
    assert capsys.readouterr().err == "downloading: 0 of 5 MB\n"
    now += 6.0
    report(Advanced(5))
    assert capsys.readouterr().err == ""
