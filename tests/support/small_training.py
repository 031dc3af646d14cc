"""Trainings that take seconds: their options, and a network that is quick to compile."""

import re
from contextlib import contextmanager
from dataclasses import replace

import pytest

SMALL = [
    "--recipe", "shapes", "--width", "0.05", "--crop-size", "33", "--batch-size", "2",
    "--set", "run.val_every=4", "--set", "run.preview_every=4", "--set", "run.log_every=2",
]  # fmt: skip


@contextmanager
def without_curves():
    """Draw no curves, which take a third of a small training: tests/test_reports and tests/test_cli have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deeplabctl.training.recorder.draw_curves", lambda run: None)
        patch.setattr("deeplabctl.reports.training_run.curves_png", lambda *_: b"")
        yield


@contextmanager
def shallow_network():
    """Leave "largefov" 6 of its 16 convolutions: for tests of what is around a network.

    Compiling a step is most of a small training. The strides, the dilation and the dropout stay.
    """
    from deeplabctl.network import ARCHITECTURES

    whole = ARCHITECTURES["largefov"]
    rows = tuple(row for row in whole.rows if not re.fullmatch(r"conv([123]_[23]|[45]_.)|pool[45]a?", row.name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "largefov", replace(whole, rows=rows))
        yield
