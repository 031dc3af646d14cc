"""Multiply groups of pixels by panels of weights in the vector registers of this processor, and what that is made of.

    pixels    [depth / lanes][rows][lanes]    a group
    weights   [depth][WIDTH]                  a panel; WIDTH = REGISTERS * lanes outputs
    sums      [rows][WIDTH]

The product is where nearly all of the time goes: its inner loop reads from two pointers that run straight through
memory, and all sums stay in registers. Numba loads with this module: import it inside functions only.
"""

# mypy: disable-error-code="misc, untyped-decorator, import-untyped"
# (numba and llvmlite have no types)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types  # noqa: TID253 (see above)
from numba.core.registry import cpu_target  # noqa: TID253
from numba.extending import intrinsic  # noqa: TID253

REGISTERS = 2  # vectors of outputs, side by side, in the product
FLOAT, INT, SIZE = ir.FloatType(), ir.IntType(32), ir.IntType(64)

# The feature of the processor, lanes, rows: rows * REGISTERS sums, REGISTERS weights and a pixel fill its registers.
_PROCESSORS = (("+avx512f", 16, 14), ("+avx2", 8, 6), ("+avx", 8, 6), ("+neon", 4, 12), ("", 4, 6))

Constant = tuple[int, ...]  # of zeros; its length is a constant of the compiled kernel


class Simd(NamedTuple):
    """Give kernels the sizes of the processor's vectors as compile-time constants.

    Numba compiles a kernel for the types of its arguments, and the length of a tuple is part of its type. So the
    constants are lengths: ``len(simd.lanes)`` float32 of a vector, and ``len(simd.rows)`` pixels that the product takes
    at once, or fewer where no more are left.
    """

    lanes: Constant
    rows: Constant
    half: Constant
    quarter: Constant
    one: Constant


def simd_of(lanes: int, rows: int) -> Simd:
    """Return the constants for vectors of ``lanes`` float32 and products of at most ``rows`` pixels."""
    half = (rows + 1) // 2
    return Simd(*((0,) * count for count in (lanes, rows, half, (half + 1) // 2, 1)))


def best_simd() -> Simd:
    """Return the constants for the processor that numba compiles for: ours, or $NUMBA_CPU_NAME."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return next(simd_of(lanes, rows) for feature, lanes, rows in _PROCESSORS if not feature or feature in features)


class Vectors:
    """Emit instructions on vectors of float32, which are computed in double precision if ``is_double``."""

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

    def broadcast(self, value: Any) -> Any:
        """Emit a vector with one number in all lanes."""
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

    def scale_and_bias(self, context: Any, kind: Any, array: Any, output: Any) -> tuple[Any, Any]:
        """Emit loads of the scale and the bias of a vector of outputs, from an array [outputs / lanes][2][lanes]."""
        start = pointer(context, self.builder, kind, array, self.builder.mul(output, size(2)))
        return self.read(start), self.read(self.builder.gep(start, [size(self.lanes)]))

    def limits(self, pair: Any) -> tuple[Any, Any]:
        """Emit vectors of the least and the most that values may be."""
        least, most = (self.broadcast(self.builder.extract_value(pair, index)) for index in (0, 1))
        return least, most

    def affine_clipped(self, value: Any, terms: tuple[Any, Any], limits: tuple[Any, Any]) -> Any:
        """Emit value * scale + bias, between the limits; NaN stays."""
        value = self.fused(value, *terms)
        for sign, limit in zip("><", limits, strict=True):
            value = self.builder.select(self.builder.fcmp_ordered(sign, limit, value), limit, value)
        return value


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


def lanes_of(simd: Any) -> int:
    """Return the lanes of a simd's type."""
    return int(simd.types[0].count)


@intrinsic
def copy(typing: Any, array: Any, source: Any, target: Any, destination: Any, simd: Any) -> Any:
    """Copy a vector."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = Vectors(builder, lanes_of(simd))
        start, end = (pointer(context, builder, signature.args[i], values[i], values[i + 1]) for i in (0, 2))
        vectors.write(vectors.read(start), end)
        return context.get_dummy_value()

    return types.void(array, types.intp, target, types.intp, simd), lower


@intrinsic
def store_output(
    typing: Any, sums: Any, source: Any, affine: Any, output: Any, result: Any, destination: Any, limits: Any, simd: Any
) -> Any:  # fmt: skip
    """Write a vector of sums as outputs, scaled, with bias and activation (see `Vectors.affine_clipped`)."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = Vectors(builder, lanes_of(simd))
        source, target = (pointer(context, builder, signature.args[i], values[i], values[i + 1]) for i in (0, 4))
        terms = vectors.scale_and_bias(context, signature.args[2], values[2], values[3])
        vectors.write(vectors.affine_clipped(vectors.read(source), terms, vectors.limits(values[6])), target)
        return context.get_dummy_value()

    return types.void(sums, types.intp, affine, types.intp, result, types.intp, limits, simd), lower


@intrinsic
def multiply(
    typing: Any, pixels: Any, a: Any, weights: Any, b: Any, sums: Any, c: Any, depth: Any, ahead: Any, step: Any,
    used: Any, simd: Any,
) -> Any:  # fmt: skip
    """Multiply the first ``len(used)`` rows of the group at ``a`` by the panel at ``b`` into ``c``.

    Meanwhile the weights from ``ahead`` floats after ``b`` on are fetched, ``step`` of them for each channel.
    """
    lanes, most, rows = lanes_of(simd), int(simd.types[1].count), int(used.count)

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = Vectors(builder, lanes)
        left, right, target = (
            pointer(context, builder, signature.args[i], values[i], values[i + 1]) for i in (0, 2, 4)
        )

        starts, offsets = (left, right, builder.gep(right, [values[7]])), [row * lanes for row in range(rows)]
        products = _loop(builder, vectors, starts, values[6], values[8], offsets, _next_pixel(builder, lanes, most))
        for i, value in enumerate(products):
            vectors.write(value, builder.gep(target, [size(i * lanes)]))
        return context.get_dummy_value()

    intp = types.intp
    return types.void(pixels, intp, weights, intp, sums, intp, intp, intp, intp, used, simd), lower


@intrinsic
def multiply_to_outputs(
    typing: Any, pixels: Any, a: Any, weights: Any, b: Any, affine: Any, output: Any, limits: Any, result: Any,
    destination: Any, stride: Any, used: Any, depth: Any, ahead: Any, step: Any, simd: Any,
) -> Any:  # fmt: skip
    """Multiply a full group as `multiply` does, and write its rows as `store_output` does, with a stride in floats.

    Of a row only the first ``used`` vectors are written.
    """
    lanes, rows = lanes_of(simd), int(simd.types[1].count)

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = Vectors(builder, lanes)
        left, right, target = (
            pointer(context, builder, signature.args[i], values[i], values[i + 1]) for i in (0, 2, 7)
        )
        starts, offsets = (left, right, builder.gep(right, [values[12]])), [row * lanes for row in range(rows)]
        sums = _loop(builder, vectors, starts, values[11], values[13], offsets, _next_pixel(builder, lanes, rows))
        limits = vectors.limits(values[6])
        for v in range(REGISTERS):
            with builder.if_then(builder.icmp_signed("<", size(v), values[10])):
                output = builder.add(values[5], size(v * lanes))
                terms = vectors.scale_and_bias(context, signature.args[4], values[4], output)
                for row in range(rows):
                    value = vectors.affine_clipped(sums[row * REGISTERS + v], terms, limits)
                    line = builder.gep(target, [builder.mul(values[9], size(row))])
                    vectors.write(value, builder.gep(line, [size(v * lanes)]))
        return context.get_dummy_value()

    intp = types.intp
    arguments = (pixels, intp, weights, intp, affine, intp, limits, result, intp, intp, intp, intp, intp, intp, simd)
    return types.void(*arguments), lower


@intrinsic
def add_product(
    typing: Any, pixels: Any, a: Any, step: Any, weights: Any, b: Any, sums: Any, c: Any, stride: Any, depth: Any,
    used: Any, simd: Any,
) -> Any:  # fmt: skip
    """Add the product of a transposed group and a panel to the sums at ``c``, whose rows have a stride in floats.

    The pixels are [depth][rows], whose lines have the stride ``step``.
    """
    lanes, rows = lanes_of(simd), int(used.count)

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = Vectors(builder, lanes)
        left = pointer(context, builder, signature.args[0], values[0], values[1])
        right, target = (pointer(context, builder, signature.args[i], values[i], values[i + 1]) for i in (3, 5))
        products = _loop(
            builder, vectors, (left, right, builder.gep(left, [values[2]])), values[8], values[2], range(rows),
            lambda more: values[2],
        )  # fmt: skip
        for i, value in enumerate(products):
            line = builder.gep(target, [builder.mul(values[7], size(i // REGISTERS))])
            place = builder.gep(line, [size(i % REGISTERS * lanes)])
            vectors.write(builder.fadd(vectors.read(place), value), place)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(pixels, intp, intp, weights, intp, sums, intp, intp, intp, used, simd), lower


def _next_pixel(builder: Any, lanes: int, rows: int) -> Callable[[Any], Any]:
    """Return what brings a pointer to the next channel of a group, given how many were before."""

    def advance(more: Any) -> Any:
        is_last_lane = builder.icmp_signed("==", builder.and_(more, size(lanes - 1)), size(0))
        return builder.select(is_last_lane, size(rows * lanes - lanes + 1), size(1))

    return advance


def _loop(
    builder: Any, vectors: Vectors, starts: tuple[Any, Any, Any], depth: Any, step: Any, offsets: Sequence[int],
    advance: Callable[[Any], Any],
) -> list[Any]:  # fmt: skip
    """Emit the loop over the channels, one a turn; returns the sums.

    The rows' pixels are at ``offsets`` from the left start, which ``advance`` brings on, given the turns so far. With
    several channels in one block LLVM loads too much at once and spills. For the same reason it must not unroll the
    loop, and it does not if there is a piece of assembly in it, even of nothing.
    """
    lanes = vectors.lanes
    nothing = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
    before = builder.block
    loop, after = builder.append_basic_block("channels"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    count = builder.phi(SIZE)
    left, right, ahead = (builder.phi(FLOAT.as_pointer()) for _ in starts)
    sums = [builder.phi(vectors.type) for _ in range(len(offsets) * REGISTERS)]
    builder.call(nothing, [])
    fetch(builder, ahead)
    panel = [vectors.read(builder.gep(right, [size(v * lanes)])) for v in range(REGISTERS)]
    updated = []
    for row, place in enumerate(offsets):
        pixel = vectors.broadcast(builder.load(builder.gep(left, [size(place)])))
        updated += [vectors.fused(pixel, panel[v], sums[row * REGISTERS + v]) for v in range(REGISTERS)]
    more = builder.add(count, size(1))
    turns = [
        (count, size(0), more),
        (left, starts[0], builder.gep(left, [advance(more)])),
        (right, starts[1], builder.gep(right, [size(REGISTERS * lanes)])),
        (ahead, starts[2], builder.gep(ahead, [step])),
    ]
    turns += [(phi, vectors.constant(0.0), new) for phi, new in zip(sums, updated, strict=True)]
    for phi, first, new in turns:
        phi.add_incoming(first, before)
        phi.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", more, depth), loop, after)
    builder.position_at_end(after)
    return updated
