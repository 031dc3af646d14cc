import pytest

from deeplabctl.training.loop import StepAverages


def test_steps_that_compile_count_only_until_the_next_one():
    averages = StepAverages(2, [5.0])
    averages.add(3.0, 1.0, 10.0, compiles=True)
    assert (averages.loss, averages.step_seconds, averages.waiting) == (4.0, 10.0, 0.1)
    assert averages.compiled
    averages.add(2.0, 0.5, 1.0)
    assert not averages.compiled
    averages.add(1.0, 0.0, 3.0)
    assert (averages.loss, averages.step_seconds) == (1.5, 2.0)
    assert averages.waiting == pytest.approx(0.5 / 4)
    averages.add(1.0, 0.0, 20.0, compiles=True)  # layers that were frozen are trained from here on
    averages.add(1.0, 0.0, 4.0)
    assert averages.step_seconds == 4.0
