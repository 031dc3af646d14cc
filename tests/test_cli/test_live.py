"""What a terminal shows of a job."""

import os
import sys

import pytest

from deeplabctl.cli.live import LiveReporter
from deeplabctl.reporting import Finished, Note, Started, Trained


@pytest.mark.parametrize(
    ("encoding", "curve"), [("utf-8", True), ("ascii", False), ("latin-1", False), ("cp437", False)]
)
def test_training_is_shown_on_a_terminal_of_any_encoding(tmp_path, monkeypatch, encoding, curve):
    with (tmp_path / "terminal").open("w", encoding=encoding) as file:
        monkeypatch.setattr(sys, "stderr", file)
        with LiveReporter() as report:
            report(Started("training", 2, "steps"))
            for step in (1, 2):
                report(Trained(step, 2, 1.0 / step, 0.1, 1.0, 0.0, 1.0, True))
            report(Note(f"data set: {os.fsdecode(bytes([255]))} ☃", warning=True))
            report(Finished())
    shown = (tmp_path / "terminal").read_bytes().decode(encoding)
    assert "loss" in shown
    assert ("█▁" in shown) == curve
    assert r"\udcff" in shown
