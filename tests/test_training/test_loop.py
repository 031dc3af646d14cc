from types import SimpleNamespace

import pytest

from deeplabctl.recipe import read_recipe
from deeplabctl.training.loop import StepAverages, _out_of_memory


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
    for seconds in range(1, 101):
        averages.add(1.0, 0.0, float(seconds))
    assert averages.take_step_seconds() == (1.0 + 3.0 + 5050.0) / 102  # all of them, not the last few
    averages.add(1.0, 0.0, 6.0)
    assert averages.take_step_seconds() == 6.0
    averages.add(1.0, 0.0, 20.0, compiles=True)  # layers that were frozen are trained from here on
    averages.add(1.0, 0.0, 4.0)
    assert averages.step_seconds == 4.0


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ([], "4 images; halve solver.batch_size and double solver.accumulate (the same result), or lower"),
        (["solver.normalization=batch"], "4 images; halve solver.batch_size and double solver.accumulate, or lower"),
        (["solver.hard_pixels=0.5"], "4 images; halve solver.batch_size and double solver.accumulate, or lower"),
        (["solver.batch_size=1"], "1 image; lower"),
    ],
)
def test_advice_for_a_full_memory_can_be_taken_and_says_what_it_changes(settings, advice):
    plan = SimpleNamespace(recipe=read_recipe("own", settings))
    said = f"out of memory with batches of {advice} augment.crop_size; TensorFlow: full"
    assert str(_out_of_memory(plan, MemoryError("full\nof tensors"))) == said
