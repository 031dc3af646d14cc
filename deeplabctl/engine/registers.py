"""Choose the vectors of this processor, and give the kernels what they do with one vector.

A form is the type of a tuple: its first member has as many members as a vector has lanes, and each other as many as the
product kernel holds rows of sums, from most to least (see product). So one code is compiled for any processor. Numba
loads with this module: import it inside functions only.
"""

# mypy: disable-error-code="misc, untyped-decorator, import-untyped"
# (numba and llvmlite have no types)

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types  # noqa: TID253 (see above)
from numba.core.registry import cpu_target  # noqa: TID253
from numba.extending import intrinsic  # noqa: TID253

Form = tuple[tuple[int, ...], ...]

REGISTERS = 2  # of outputs, beside each other, in the product kernel
LINE = 16  # float32 of a cache line: arrays start at one, and channels are padded to whole ones
FLOAT, INT, SIZE = ir.FloatType(), ir.IntType(32), ir.IntType(64)

# The feature of the processor, lanes, rows: rows * REGISTERS sums, REGISTERS weights and a pixel fill its registers.
_FORMS = (("+avx512f", 16, 14), ("+avx2", 8, 6), ("+avx", 8, 6), ("+neon", 4, 12), ("", 4, 6))


def form_of(lanes: int, rows: int) -> Form:
    """Return the form of vectors of so many lanes, and at most so many rows of sums."""
    counts = [lanes, rows]
    while counts[-1] > 1:
        counts.append((counts[-1] + 1) // 2)
    return tuple((0,) * count for count in (*counts[:4], 1))


def best_form() -> Form:
    """Return the form for the processor that numba compiles for ($NUMBA_CPU_NAME, $NUMBA_CPU_FEATURES, else ours)."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return next(form_of(lanes, rows) for feature, lanes, rows in _FORMS if not feature or feature in features)


class Vectors:
    """Emit instructions on vectors of so many lanes: float32 in memory, and double between if ``is_double``."""

    def __init__(self, builder: Any, lanes: int, *, is_double: bool = False) -> None:
        self.builder, self.lanes, self._is_double = builder, lanes, is_double
        self._stored = ir.VectorType(FLOAT, lanes)
        self.type = ir.VectorType(ir.DoubleType(), lanes) if is_double else self._stored

    def read(self, pointer: Any) -> Any:
        """Emit a load from a pointer to the first float."""
        value = self.builder.load(self.builder.bitcast(pointer, self._stored.as_pointer()))
        value.align = 4
        return self.builder.fpext(value, self.type) if self._is_double else value

    def write(self, value: Any, pointer: Any) -> None:
        """Emit a store."""
        value = self.builder.fptrunc(value, self._stored) if self._is_double else value
        self.builder.store(value, self.builder.bitcast(pointer, self._stored.as_pointer())).align = 4

    def every(self, value: Any) -> Any:
        """Emit a vector with a number in all lanes."""
        undefined = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(INT, 0))
        return self.builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(INT, self.lanes), [0] * self.lanes)
        )

    def constant(self, value: float) -> Any:
        """Return a vector with a known number in all lanes."""
        return ir.Constant(self.type, [value if self._is_double else float(np.float32(value))] * self.lanes)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """Emit a * b + c, rounded once where the processor can."""
        kind = ir.FunctionType(self.type, [self.type] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.v{self.lanes}f32")
        return self.builder.call(function, [a, b, c])

    def affine(self, context: Any, kind: Any, array: Any, output: Any) -> tuple[Any, Any]:
        """Emit loads of the scale and the bias of a vector of outputs, from an array [outputs / lanes][2][lanes]."""
        start = pointer(context, self.builder, kind, array, self.builder.mul(output, size(2)))
        return self.read(start), self.read(self.builder.gep(start, [size(self.lanes)]))

    def finished(self, value: Any, terms: tuple[Any, Any], least: Any) -> Any:
        """Emit the larger of ``least`` and value * scale + bias; what is not a number stays."""
        value = self.fused(value, *terms)
        return self.builder.select(self.builder.fcmp_ordered(">", least, value), least, value)


def size(value: int) -> Any:
    """Return a constant index."""
    return ir.Constant(SIZE, value)


def pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Emit the address of an element of a C-contiguous float32 array, by its flat index."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def fetch(builder: Any, address: Any) -> None:
    """Ask for a cache line ahead of its use; an address outside of the array does no harm."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, INT, INT, INT])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(address, byte), INT(0), INT(2), INT(1)])  # to read, into the second cache


def lanes_of(form: Any) -> int:
    """Return the lanes of a form's type."""
    return int(form.types[0].count)


@intrinsic
def finish(
    typing: Any, sums: Any, at: Any, affine: Any, output: Any, result: Any, to: Any, least: Any, form: Any
) -> Any:  # fmt: skip
    """Write the sums at an index as the vector of the outputs from one on (see `Vectors.finished`)."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = Vectors(builder, lanes_of(form))
        source, goal = (pointer(context, builder, signature.args[i], values[i], values[i + 1]) for i in (0, 4))
        terms = vectors.affine(context, signature.args[2], values[2], values[3])
        vectors.write(vectors.finished(vectors.read(source), terms, vectors.every(values[6])), goal)
        return context.get_dummy_value()

    return types.void(sums, types.intp, affine, types.intp, result, types.intp, types.float32, form), lower
