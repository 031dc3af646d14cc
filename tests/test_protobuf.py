import tracemalloc

import numpy as np
import pytest
from caffe_bytes import block, number, packed, unpacked, varint

from deeplabctl.errors import WeightsError
from deeplabctl.protobuf import BYTES, DOUBLE, FIXED32, FIXED64, FLOAT, VARINT, WireFile, signed


@pytest.fixture
def wire(tmp_path):
    def write(*parts):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.bin"
        path.write_bytes(b"".join(parts))
        return WireFile(path)

    return write


def test_every_kind_of_field_is_read_with_its_offsets(wire):
    file = wire(number(1, 300), block(2, "abc"), unpacked(3, [1.5]), unpacked(400, [2.5], "<f8"))
    fields = list(file.fields())
    assert [(field.number, field.kind) for field in fields] == [(1, VARINT), (2, BYTES), (3, FIXED32), (400, FIXED64)]
    assert fields[0].value == 300
    assert file.text(fields[1]) == "abc"
    assert [field.position for field in fields] == [0, 3, 8, 13]
    assert fields[-1].end == file.size


@pytest.mark.parametrize("value", [0, 1, -1, 127, 128, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)])
def test_negative_numbers_come_back_from_ten_bytes(wire, value):
    file = wire(number(1, value), block(2, varint(value) * 2))
    single, several = file.fields()
    assert signed(single.value, 64) == value
    assert list(file.integers(several)) == [value, value]
    if abs(value) < 2**31:
        assert signed(single.value, 32) == value


def test_number_of_more_than_ten_bytes_is_refused(wire):
    assert next(wire(b"\x08", b"\x80" * 9, b"\x01").fields()).value == 1 << 63
    with pytest.raises(WeightsError, match="at byte 1: a number is longer than 10 bytes"):
        list(wire(b"\x08", b"\x80" * 10, b"\x01").fields())


def test_unpacked_numbers_are_one_run_and_a_view(wire):
    values = np.arange(1000, dtype=np.float32)
    file = wire(number(1, 5), unpacked(5, values), number(2, 7), unpacked(5, values[:3]))
    first, run, between, last = file.fields()
    array = file.array(run, FLOAT)
    np.testing.assert_array_equal(array, values)
    np.testing.assert_array_equal(file.array(last, FLOAT), values[:3])
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert (first.value, between.value) == (5, 7)


def test_run_ends_where_the_message_ends_not_where_the_next_one_goes_on(wire):
    inner = unpacked(5, [1, 2])
    file = wire(block(1, inner), unpacked(5, [3]))
    outer, after = file.fields()
    (run,) = file.fields(outer.start, outer.end)
    np.testing.assert_array_equal(file.array(run, FLOAT), [1, 2])
    np.testing.assert_array_equal(file.array(after, FLOAT), [3])


def test_packed_numbers_are_a_view_wherever_they_lie(wire):
    for padding in range(1, 9):
        file = wire(block(1, b"x" * padding), packed(8, [1.25, -2.5], "<f8"))
        array = file.array(list(file.fields())[1], DOUBLE)
        np.testing.assert_array_equal(array, [1.25, -2.5])
        assert not array.flags.owndata


def test_packed_numbers_of_a_broken_length_are_refused(wire):
    file = wire(block(5, b"12345"))
    with pytest.raises(WeightsError, match="multiple of 4 bytes, got 5"):
        file.array(next(file.fields()), FLOAT)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x08\x01" * 500_001, "at byte 1000000: expected at most 500000 fields"),
        (b"\x3b\x3c", "expected the tag"),  # a group
        (b"\x00\x01", "expected the tag"),  # field 0
        (b"\x0e\x01", "expected the tag"),  # kind 6
        (b"\x80\x80\x80\x80\x10\x01", "expected the tag"),  # beyond 32 bits
        (b"\x08", "the file ends inside a number"),
        (b"\x0a\x05abc", "expected 5 bytes in field 1, got 3"),
        (b"\x0d\x01\x02", "expected 4 bytes in field 1, got 2"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "expected 18446744073709551615 bytes"),
    ],
)
def test_bytes_that_are_not_a_message_are_refused_with_file_and_offset(wire, content, message):
    file = wire(content)
    with pytest.raises(WeightsError, match=message) as caught:
        list(file.fields())
    assert f"weights {file.path}: " in str(caught.value)
    assert " at byte " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("claimed", [2**31 - 1, 2**32, 2**40, 2**63])
def test_length_of_gigabytes_is_refused_before_anything_is_allocated(wire, claimed):
    file = wire(b"\x2a", varint(claimed), b"\0" * 100)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=f"expected {claimed} bytes in field 5, got 100"):
        list(file.fields())
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_names_are_shown_on_one_short_line(wire):
    file = wire(block(1, "a\nb\x1b[31m\u2028c"), block(1, b"\xff\xfe"), block(1, "x" * 9999), block(1, "中文"))
    assert [file.text(field) for field in file.fields()] == [
        "a\ufffdb\ufffd[31m\ufffdc",
        "\ufffd\ufffd",
        "x" * 256,
        "中文",
    ]


def test_missing_empty_and_odd_files_are_refused(tmp_path):
    (tmp_path / "empty").touch()
    for name, message in [("none", "No such file"), ("empty", "the file is empty"), (".", "got a folder")]:
        with pytest.raises(WeightsError, match=message):
            WireFile(tmp_path / name)
