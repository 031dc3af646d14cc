"""Read the tensors of a ``.safetensors`` file.

It has the length of a header (8 bytes, little-endian), the header, a JSON object {name: {dtype, shape, data_offsets}},
and the numbers. Source: github.com/huggingface/safetensors, "Format".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe.wire import WireFile
from deeplabctl.network import Weights
from deeplabctl.weights.sources.torch_names import from_bfloat16, stated_dilations, weights_of_tensors
from deeplabctl.weights.weight_file import Beginning, WeightFile

_LENGTH = 8  # bytes
_LARGEST_HEADER = 16 << 20  # bytes; those of our networks have some ten thousands
_MOST_AXES = 8
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "u1",
}  # fmt: skip


class SafetensorsFile(WeightFile):
    """Hold the tensors of transformers' DeepLab v3, or of others that a ``.pth`` may have."""

    words = "safetensors file"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether a JSON object follows a length of fewer than 2^32."""
        return start.head[4:9] == b"\0\0\0\0{"

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return what is stated beside the file."""
        return stated_dilations(self.path)

    def _read_weights(self) -> Weights:
        wire = WireFile(self.path)
        size = int.from_bytes(wire.buffer[:_LENGTH], "little")
        begin = _LENGTH + size
        if size > _LARGEST_HEADER or begin > wire.size:
            raise wire.damaged(0, f"a header of {size} bytes in a file of {wire.size}")
        try:
            header = json.loads(bytes(wire.buffer[_LENGTH:begin]))
            facts = {str(name): entry for name, entry in header.items() if name != "__metadata__"}
            tensors, after = dict[str, npt.NDArray[Any]](), begin
            for name, entry in sorted(facts.items(), key=lambda item: item[1]["data_offsets"][0]):
                dtype, shape = str(entry["dtype"]), [int(size) for size in entry["shape"]]
                start, end = (begin + int(offset) for offset in entry["data_offsets"])
                if dtype not in _DTYPES or len(shape) > _MOST_AXES or min([1, *shape]) < 0:
                    raise ValueError(f"tensor {name[:80]} is of {dtype[:20]} and shape {shape[:_MOST_AXES]}")
                size = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
                if not after <= start <= end <= wire.size or end - start != size:
                    raise ValueError(f"tensor {name[:80]} of shape {shape} has the bytes {start} to {end} of the file")
                values = np.ndarray(tuple(shape), _DTYPES[dtype], wire.buffer, start)
                tensors[name], after = from_bfloat16(values) if dtype == "BF16" else values, end
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            raise wire.damaged(_LENGTH, f"its header: {type(error).__name__}: {str(error)[:200]}") from None
        return weights_of_tensors(tensors, self.path)
