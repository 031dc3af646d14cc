"""Trainings without drawn curves, which take a third of a small one: tests/test_cli has trainings with them."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_curves():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deeplabctl.training.recorder.draw_curves", lambda run: None)
        patch.setattr("deeplabctl.reports.training_run.curves_png", lambda *_: b"")
        yield
