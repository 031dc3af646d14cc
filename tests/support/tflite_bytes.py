"""Write TFLite files with the flatbuffers package: convolutions alone, which nothing connects."""

import flatbuffers
import numpy as np

_TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9}


class _Writer(flatbuffers.Builder):
    def table(self, fields):
        """Write a table: {number: offset (int), (kind, number) or nothing}."""
        self.StartObject(8)
        for slot, value in fields.items():
            if isinstance(value, tuple):
                kind, number = value
                getattr(self, f"Prepend{kind}Slot")(slot, number, 0 if kind != "Int32" else -1)
            else:
                self.PrependUOffsetTRelativeSlot(slot, value, 0)
        return self.EndObject()

    def vector(self, tables):
        self.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            self.PrependUOffsetTRelative(table)
        return self.EndVector()

    def numbers(self, values, dtype):
        return self.CreateNumpyVector(np.asarray(values, dtype))

    def tensor(self, name, array, buffer, quantization):
        fields = {0: self.numbers(array.shape, np.int32), 1: ("Int8", _TYPES[array.dtype.name]),
                  2: ("Uint32", buffer), 3: self.CreateString(name)}  # fmt: skip
        if quantization:
            scale, zero = quantization
            fields[4] = self.table(
                {2: self.numbers(np.atleast_1d(scale), np.float32), 3: self.numbers(np.atleast_1d(zero), np.int64)}
            )
        return self.table(fields)


def tflite(convolutions, shared=False, codes=(3, 4)):
    """Return a file of convolutions: name, kernel OHWI (or 1HWC), bias, depthwise, dilation, both quantizations.

    ``shared`` is for equal constants that are stored once; ``codes`` are those of the operators, the second depthwise.
    """
    writer = _Writer(1 << 20)
    buffers, tensors, operators = [writer.table({})], [], []
    places = {}

    def constant(name, array, quantization):
        raw = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        if not shared or raw.tobytes() not in places:
            places[raw.tobytes()] = len(buffers)
            buffers.append(writer.table({0: writer.numbers(raw, np.uint8)}))
        tensors.append(writer.tensor(name, array, places[raw.tobytes()], quantization))
        return len(tensors) - 1

    tensors.append(writer.tensor("image", np.empty((1, 9, 9, 3), np.float32), 0, None))
    for name, kernel, bias, depthwise, dilation, quantizations in convolutions:
        inputs = [0, constant(name, kernel, quantizations[0]), constant(f"{name}/bias", bias, quantizations[1])]
        place = 5 if depthwise else 4
        options = writer.table({place: ("Int32", dilation), place + 1: ("Int32", dilation)})
        fields = {0: ("Uint32", int(depthwise)), 1: writer.numbers(inputs, np.int32), 3: ("Uint8", 1), 4: options}
        operators.append(writer.table(fields))
    codes = [writer.table({0: ("Int8", code), 3: ("Int32", code)}) for code in codes]
    graph = writer.table({0: writer.vector(tensors), 3: writer.vector(operators)})
    model = {0: ("Uint32", 3), 1: writer.vector(codes), 2: writer.vector([graph]), 4: writer.vector(buffers)}
    writer.Finish(writer.table(model), b"TFL3")
    return bytes(writer.Output())
