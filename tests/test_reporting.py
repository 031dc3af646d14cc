import pytest

from deeplabctl.cli.console import PlainReporter
from deeplabctl.cli.formatting import describe
from deeplabctl.reporting import (
    Advanced,
    Finished,
    Note,
    Started,
    Trained,
    Validated,
    area,
    duration,
    percent,
    task,
    tqdm_reporter,
)


def trained(step, logged=True, seconds_left=75.0):
    return Trained(step, 10, 1.25, 1e-3, 7.5, 0.01, seconds_left, logged)


EVENTS = [
    Note("hello"),
    Started("training", 10, "steps"),
    trained(1),
    Started("scoring", 2, "images"),
    Advanced(2),
    Finished(),
    Validated(1, 0.5, 0.75, True, 2, 3, []),
    Finished(),
]


def test_notebooks_get_bars_and_notes(capsys):
    report = tqdm_reporter()
    for event in EVENTS:
        report(event)
    err = capsys.readouterr().err
    assert "hello" in err
    assert "scoring" in err
    assert "1/10" in err
    assert "loss=1.2500" in err
    assert "step 1: mIoU 50.00" in err


def test_pipes_get_plain_lines_of_logged_steps(capsys):
    report = PlainReporter()
    for event in [*EVENTS[:3], trained(2, logged=False), *EVENTS[3:]]:
        report(event)
    assert capsys.readouterr().err.splitlines() == [
        "hello",
        "step 1/10  loss 1.2500  lr 0.001  7.5 images/s  waiting for data 1.0%  1:15 left",
        "step 1: val mIoU 50.00  pixel accuracy 75.00  predicts 2 of 3 classes  (best so far)",
    ]


def test_no_time_is_left_before_steps_were_measured():
    line = "step 1/10  loss 1.2500  lr 0.001  7.5 images/s  waiting for data 1.0%"
    assert describe(trained(1, seconds_left=None)) == line


def test_area_that_is_there_is_not_none():
    assert [area(share) for share in (0, 1e-9, 0.0009, 0.001, 0.12345, 1)] == [
        "0.0%", "< 0.1%", "< 0.1%", "0.1%", "12.3%", "100.0%",
    ]  # fmt: skip


def test_numbers_are_put_into_words():
    assert describe(Note("careful", warning=True)) == "warning: careful"
    assert [duration(seconds) for seconds in (5, 65, 3725)] == ["0:05", "1:05", "1:02:05"]
    assert [percent(share) for share in (0.12345, 1.0, None)] == ["12.35", "100.00", "-"]


def test_task_ends_also_where_the_work_fails():
    events = []

    def work():
        with task(events.append, "scoring", 3, "images", 1) as advance:
            advance()
            advance(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert events == [Started("scoring", 3, "images", 1), Advanced(1), Advanced(2), Finished()]
