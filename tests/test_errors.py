"""Messages are one line that may go to any terminal."""

import pytest

from deeplabctl.errors import DataError


def test_message_shows_what_cannot_be_printed_as_escapes():
    quoted = "a\nb\x1b[31m\x00 \u2028 \ud800 \udc80 é 字.png"
    assert str(DataError(f"cannot read {quoted}")) == (r"cannot read a\nb\x1b[31m\x00 \u2028 \ud800 \udc80 é 字.png")


@pytest.mark.parametrize("length", [3000, 3001, 100_000])
def test_long_message_keeps_its_beginning_and_its_end(length):
    message = str(DataError("begin " + "x" * (length - 10) + " end"))
    assert len(message) <= 3000
    assert message.startswith("begin x")
    assert message.endswith("x end")
