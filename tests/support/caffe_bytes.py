"""Write Caffe's files byte by byte: a tiny protobuf writer, layers of both versions, and what is read back."""

import numpy as np

from deeplabctl.protobuf import BYTES, FIXED32, FIXED64, VARINT


def varint(value):
    value &= 0xFFFFFFFFFFFFFFFF
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def number(field, value):
    return varint(field << 3 | VARINT) + varint(value)


def block(field, *parts):
    content = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return varint(field << 3 | BYTES) + varint(len(content)) + content


def packed(field, values, dtype="<f4"):
    return block(field, np.asarray(values, dtype).tobytes())


def unpacked(field, values, dtype="<f4"):
    values = np.asarray(values, dtype).ravel()
    tag = varint(field << 3 | (FIXED32 if values.itemsize == 4 else FIXED64))
    return b"".join(tag + value.tobytes() for value in values)


def blobs_of(net):
    return {layer.name: layer.blobs for layer in net.layers if layer.blobs}


def same_blobs(one, other, reshaped=False):
    assert list(one) == list(other)
    for name in one:
        assert len(one[name]) == len(other[name])
        for a, b in zip(one[name], other[name], strict=True):
            np.testing.assert_array_equal(a.reshape(b.shape) if reshaped else a, b, strict=True)


def dims(*values, packed_=True):
    if packed_:
        return block(7, block(1, *[varint(value) for value in values]))
    return block(7, *[number(1, value) for value in values])


def legacy(*values):
    return b"".join(number(axis + 1, value) for axis, value in enumerate(values))


def v1(name, *blobs, type_=4):
    return block(2, block(2, "bottom"), block(3, name), block(4, name), number(5, type_), *[block(6, b) for b in blobs])


def v2(name, *blobs, type_="Convolution"):
    return block(100, block(1, name), block(2, type_), *[block(7, blob) for blob in blobs])
