"""Write TensorFlow 1's checkpoints and frozen graphs byte by byte, without TensorFlow."""

import struct

import numpy as np
from caffe_bytes import block, number, varint

from deeplabctl.weights.sources.tensorflow_checkpoints import MAGIC

_TYPES = {"float32": 1, "int32": 3, "int64": 9}


def write_checkpoint(prefix, variables):
    """Write PREFIX.index and PREFIX.data-00000-of-00001 as tf.train.Saver does."""
    data, entries = b"", [(b"", number(1, 1))]
    for name, array in sorted(variables.items()):
        place = number(4, len(data)) + number(5, array.nbytes)
        entries.append((name.encode(), number(1, _TYPES[array.dtype.name]) + _shape(array) + place))
        data += array.tobytes()
    table = _table_block(entries)
    metaindex = _table_block([])
    index = _table_block([(b"z", varint(0) + varint(len(table) - 5))])
    footer = varint(len(table)) + varint(len(metaindex) - 5)
    footer += varint(len(table) + len(metaindex)) + varint(len(index) - 5)
    prefix.with_name(f"{prefix.name}.index").write_bytes(table + metaindex + index + footer.ljust(40, b"\0") + MAGIC)
    prefix.with_name(f"{prefix.name}.data-00000-of-00001").write_bytes(data)


def _table_block(entries):
    """Return a block of LevelDB's table: entries, the place of a restart, no compression, a checksum."""
    parts = [varint(0) + varint(len(key)) + varint(len(value)) + key + value for key, value in entries]
    return b"".join(parts) + struct.pack("<II", 0, 1) + bytes(5)


def _shape(array, shape=None):
    return block(2, *[block(2, number(1, size)) for size in shape or array.shape])


def node(name, operation, inputs=(), **attributes):
    """Return a NodeDef in a GraphDef; attributes are AttrValues."""
    entries = [block(5, block(1, key), block(2, value)) for key, value in attributes.items()]
    return block(1, block(1, name), block(2, operation), *[block(3, each) for each in inputs], *entries)


def constant(name, array, shape=None, field=4):
    """Return a constant, which claims another shape than the array's if it is given."""
    array = np.asarray(array)
    tensor = number(1, _TYPES[array.dtype.name]) + _shape(array, shape) + block(field, array.tobytes())
    return node(name, "Const", dtype=number(6, 1), value=block(8, tensor))


def frozen_graph(variables, dilations=None):
    """Return a GraphDef: constants, and convolutions of their kernels, dilated as TensorFlow 1 does it."""
    parts = [node("ImageTensor", "Placeholder")]
    for name, array in variables.items():
        parts += [constant(name, array), node(f"{name}/read", "Identity", [name])]
        if array.ndim != 4:
            continue
        scope, below = name.rpartition("/")[0], "ImageTensor"
        if rate := (dilations or {}).get(name):
            below = f"{scope}/SpaceToBatchND"
            parts += [constant(f"{below}/block_shape", np.array([rate, rate], np.int32)),
                      node(below, "SpaceToBatchND", ["ImageTensor", f"{below}/block_shape"])]  # fmt: skip
        operation = "DepthwiseConv2dNative" if name.endswith("depthwise_weights") else "Conv2D"
        ones = block(1, block(3, bytes([1, 1, 1, 1])))
        parts.append(node(f"{scope}/convolution", operation, [below, f"{name}/read"], dilations=ones))
    return b"".join(parts)
