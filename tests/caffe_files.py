"""Read the blobs of the V1 and V2 fixtures: just enough of the protobuf wire format for these files."""

from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data" / "caffe"


def fields(buffer):
    """Yield (number, value) of one message: an int, or the bytes of a length-delimited field."""
    position = 0

    def varint():
        nonlocal position
        value = shift = 0
        while True:
            byte = buffer[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(buffer):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or varint()
        yield key >> 3, buffer[position : position + size]
        position += size


def read_blobs(path):
    """Return {layer: [kernel HWIO, bias]} of a ``.caffemodel``."""
    weights = {}
    for number, layer in fields(memoryview(path.read_bytes())):
        if number not in (2, 100):  # V1 `layers`, V2 `layer`
            continue
        name_field, blob_field = (4, 6) if number == 2 else (1, 7)
        content = list(fields(layer))
        blobs = [list(fields(value)) for field, value in content if field == blob_field]
        if blobs:
            name = next(bytes(value).decode() for field, value in content if field == name_field)
            weights[name] = [np.frombuffer(next(v for f, v in blob if f == 5), np.float32) for blob in blobs]
    for name, (kernel, bias) in weights.items():
        size = {"fc7": 1, "fc8_voc12": 1}.get(name, 3)
        weights[name] = [kernel.reshape(len(bias), -1, size, size).transpose(2, 3, 1, 0), bias]
    return weights
