"""Bad files and big files: one clear line, no long wait, no more memory than the file explains."""

import re
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from caffe_bytes import blobs_of, block, dims, legacy, packed, unpacked, v1, v2
from caffe_files import TINY

from deeplabctl.caffe import caffe_kind, net_weights, read_caffemodel
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES

ENOUGH_MEMORY = 5_000_000  # bytes, for a file of 86 kB


@pytest.fixture
def attempt(tmp_path):
    """Read given bytes as a net; return the error, or None if it was a net."""
    path = tmp_path / "a.caffemodel"

    def read(content):
        path.unlink(missing_ok=True)  # a new file, in case a view of the last one still lives
        path.write_bytes(content)
        start, message = time.process_time(), None
        caffe_kind(path)
        try:
            net_weights(read_caffemodel(path))
        except WeightsError as error:
            message = str(error)
            assert str(path) in message
            assert "\n" not in message
            assert len(message) < 2000
        assert time.process_time() - start < 2
        return message

    return read


@pytest.fixture
def little_memory():
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < ENOUGH_MEMORY


def mutated(whole, random):
    """Change, insert, remove, repeat and cut bytes; headers, where it hurts most, more often than weights."""
    content = bytearray(whole)
    kinds = random.choice([3, 8])  # of which three leave everything in its place, to get past the lengths
    for _ in range(random.integers(1, 6)):
        at = int(random.integers(len(content))) if random.random() < 0.3 else _header(content, random)
        match random.integers(kinds):
            case 0:
                content[at] = random.integers(256)
            case 1:
                content[at] ^= 1 << random.integers(8)
            case 2:
                content[at] += 1 if content[at] < 255 else -1
            case 3:
                content[at:at] = random.bytes(int(random.integers(1, 12)))
            case 4:
                del content[at : at + int(random.integers(1, 12))]
            case 5:
                content[at : at + 10] = b"\xff" * int(random.integers(1, 11))
            case 6:
                content[at:at] = content[at : at + int(random.integers(1, 2000))]
            case _:
                del content[max(at, len(content) * 3 // 4) :]
        if not content:
            content = bytearray(whole)
    return bytes(content)


def _header(content, random):
    names = [match.start() for match in re.finditer(rb"conv|fc", content)] or [0]
    return min(max(0, int(random.choice(names)) + int(random.integers(-20, 40))), len(content) - 1)


def test_every_cut_is_an_error_or_a_shorter_net(attempt):
    whole = TINY.read_bytes()
    assert attempt(whole) is None
    errors = [attempt(whole[:size]) for size in range(0, len(whole), 97)]
    assert errors[0].endswith("the file is empty; download or copy it again")
    assert sum("truncated at byte" in text for text in errors if text) > 0.98 * len(errors)


@pytest.mark.usefixtures("little_memory")
def test_a_hundred_mutations_end_in_one_line_or_a_net(attempt):
    random = np.random.default_rng(97)
    errors = [attempt(mutated(TINY.read_bytes(), random)) for _ in range(100)]
    assert len({text for text in errors if text}) > 50


@pytest.mark.slow
@pytest.mark.usefixtures("little_memory")
def test_five_thousand_mutations_end_in_one_line_or_a_net(attempt):
    random = np.random.default_rng(2024)
    for _ in range(5000):
        attempt(mutated(TINY.read_bytes(), random))


@pytest.mark.parametrize(
    "content",
    [
        b"\x12\xff\xff\xff\xff\x07" + b"\0" * 50,  # a layer of 2 GB
        block(2, block(4, "a"), b"\x32\xff\xff\xff\xff\x0f"),  # a blob of 4 GB
        block(2, block(4, "a"), block(6, b"\x2a\x80\x80\x80\x80\x80\x80\x80\x80\x40")),  # 4 EB of data
        v1("a", legacy(2**30, 2**30, 2**30, 2**30)),
        v2("a", dims(2**31 - 1) + packed(5, [1])),
        v2("a", block(7, block(1, b"\x01" * 50_000))),
        v1("a", b"\x3b" * 80_000),
        b"\x0b" * 80_000,
        b"\x12\x00" * 10_000,
        block(2, b"\x32\x00" * 10_000),
        v1("a", legacy(1, 1, 1, 20_000), (b"\x2d\0\0\0\0" + b"\x48\0") * 10_000),
        v1("a", legacy(1, 1, 1, 20_000), (b"\x2a\x00") * 20_000),
        block(1, "n" * 80_000) + block(2, block(4, "m" * 80_000), block(6, packed(5, [1, 2]))),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_malicious_files_cost_little_time_and_memory(attempt, content):
    attempt(content)


def full_size(path, version="V1", write=packed):
    """Write a whole LargeFOV net with random weights; return its kernels as they were written (OIHW)."""
    random = np.random.default_rng(0)
    kernels = {}
    with path.open("wb") as file:
        file.write(block(1, "full size"))
        shapes = ARCHITECTURES["largefov"].weight_shapes(21)
        for name in dict.fromkeys(name.rpartition("/")[0] for name in shapes):
            height, wide, incoming, outgoing = shapes[f"{name}/kernel"]
            kernel = random.standard_normal((outgoing, incoming, height, wide), np.float32)
            bias = random.standard_normal(outgoing, np.float32)
            if version == "V1":
                blobs = [legacy(*kernel.shape) + write(5, kernel), legacy(1, 1, 1, outgoing) + write(5, bias)]
                file.write(v1(name, *blobs))
            else:
                file.write(v2(name, dims(*kernel.shape) + write(5, kernel), dims(outgoing) + write(5, bias)))
            kernels[name] = kernel
    return kernels


def fast_unpacked(field, values):
    """Write as ``unpacked`` does, for millions of values."""
    written = np.empty((values.size, 5), np.uint8)
    written[:, 0] = field << 3 | 5
    written[:, 1:] = values.reshape(-1, 1).view(np.uint8).reshape(-1, 4)
    return written.tobytes()


# Not getrusage: its peak is that of the parent too.
MEMORY = """
import sys
from pathlib import Path
from deeplabctl.caffe import net_weights, read_caffemodel

def kilobytes(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))

before = kilobytes("VmRSS")
weights = net_weights(read_caffemodel(sys.argv[1]))
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.process
@pytest.mark.parametrize(("version", "write"), [("V1", packed), ("V2", fast_unpacked)])
def test_full_size_net_is_read_without_a_copy_and_converted_with_one(tmp_path, version, write):
    assert fast_unpacked(5, np.float32([1, -2])) == unpacked(5, [1, -2])
    path = tmp_path / "full.caffemodel"
    kernels = full_size(path, version, write)
    size = path.stat().st_size
    assert size > 80_000_000

    tracemalloc.start()
    start = time.process_time()
    net = read_caffemodel(path)
    assert time.process_time() - start < 2  # loosely: it takes a hundredth of that
    read_peak = tracemalloc.get_traced_memory()[1]
    weights = net_weights(net)
    assert time.process_time() - start < 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read_peak < 30_000_000  # no value is copied: what remains are the masks of long unpacked runs
    assert peak < 1.2 * size

    for name, kernel in kernels.items():
        np.testing.assert_array_equal(blobs_of(net)[name][0], kernel)
        np.testing.assert_array_equal(weights[f"{name}/kernel"], kernel.transpose(2, 3, 1, 0))
    if sys.platform == "linux":
        run = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
        assert int(run.stdout) < 2.2 * size
