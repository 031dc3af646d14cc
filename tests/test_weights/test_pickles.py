import pickle
import struct

import numpy as np
import pytest
from tiny_weights import read_weights, same_as_variables, tiny_variables

from deeplabctl.errors import WeightsError
from deeplabctl.weights.fitting import read_network
from deeplabctl.weights.locating import open_weights
from deeplabctl.weights.sources.pickles import WeightPickle


def python2_pickle(arrays):
    """Pickle arrays as Python 2's cPickle does with protocol 2: names and data as byte strings."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value):
        return b"J" + struct.pack("<i", value)

    def array(values):
        data = values.astype("<f4").tobytes()
        shape = b"(" + b"".join(map(number, values.shape)) + b"t"
        dtype = (
            b"cnumpy\ndtype\n"
            + text("f4")
            + b"K\x00K\x01\x87R(K\x03"
            + text("<")
            + b"NNN"
            + number(-1) * 2
            + b"K\x00tb"
        )
        start = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text("b") + b"\x87R"
        return start + b"(K\x01" + shape + dtype + b"\x89" + b"T" + struct.pack("<i", len(data)) + data + b"tb"

    items = b"".join(text(name) + array(values) for name, values in arrays.items())
    return b"\x80\x02}(" + items + b"u."


def test_python_2_pickle_of_arrays_comes_back_equal(tmp_path):
    (tmp_path / "net_weights.ckpt").write_bytes(python2_pickle(tiny_variables()))
    file = open_weights(tmp_path / "net_weights.ckpt")
    assert isinstance(file, WeightPickle)
    same_as_variables(file.weights, tiny_variables())
    assert read_network(tmp_path / "net_weights.ckpt").info.width == 1 / 32


def test_python_2_pickle_as_text_comes_back_equal(tmp_path):
    """Protocol 0, in which Python 2 writes bytes as a text with escapes."""
    values = np.float32([-1.5, 3e-5, 7.25]).reshape(1, 1, 1, 3)
    data = "".join(f"\\x{byte:02x}" for byte in values.tobytes())
    dtype = "cnumpy\ndtype\np8\n(S'f4'\np9\nI0\nI1\ntp10\nRp11\n(I3\nS'<'\np12\nNNNI-1\nI-1\nI0\ntp13\nb"
    array = "cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\np4\ntp5\nRp6\n"
    array += f"(I1\n(I1\nI1\nI1\nI3\ntp7\n{dtype}I00\nS'{data}'\np14\ntp15\nb"
    (tmp_path / "w").write_text(f"(dp0\nS'conv/w'\np16\n{array}s.")
    np.testing.assert_array_equal(read_weights(tmp_path / "w")["conv/kernel"], values)


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_of_any_protocol_comes_back_equal(tmp_path, protocol):
    (tmp_path / "w").write_bytes(pickle.dumps(tiny_variables(), protocol))
    same_as_variables(read_weights(tmp_path / "w"), tiny_variables())


class Caller:
    """Pickle as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("where", ["whole", "value", "name"])
def test_pickle_that_calls_a_function_is_refused_and_nothing_is_called(tmp_path, where):
    import os

    victim = tmp_path / "victim"
    bad = Caller(os.mkdir, str(victim))
    content = {"whole": bad, "value": {"conv1_1/w": bad}, "name": {"conv1_1/w": np.zeros(2), bad: 1}}[where]
    (tmp_path / "w").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(WeightsError, match=r"the pickle is refused: it asks to call \S+mkdir"):
        read_weights(tmp_path / "w")
    assert not victim.exists()


def test_pickles_of_other_things_are_refused(tmp_path):
    for content in ([1, 2], {"a": "text"}, {"a": np.array(["x"], object)}, {1: np.zeros(2)}):
        (tmp_path / "w").write_bytes(pickle.dumps(content, 2))
        with pytest.raises(WeightsError, match="pickle"):
            read_weights(tmp_path / "w")
    (tmp_path / "w").write_bytes(pickle.dumps({"other": np.zeros(2)}, 2))
    with pytest.raises(WeightsError, match="expected variables named like conv1_1/w"):
        read_weights(tmp_path / "w")
    (tmp_path / "w").write_bytes(b"\x80\x04}\x8e" + (1 << 46).to_bytes(8, "little"))  # claims 64 TiB
    with pytest.raises(WeightsError, match="the pickle is refused: the pickle is damaged"):
        read_weights(tmp_path / "w")
    whole = pickle.dumps(tiny_variables(), 2)
    (tmp_path / "w").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="the pickle is refused"):
        read_weights(tmp_path / "w")


def test_big_endian_pickle_reads_its_numbers(tmp_path):
    swapped = {name: value.astype(">f4") for name, value in tiny_variables().items()}
    (tmp_path / "w").write_bytes(pickle.dumps(swapped, 2))
    same_as_variables(read_weights(tmp_path / "w"), tiny_variables())
