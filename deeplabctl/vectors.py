"""Give the kernels vectors of float32: LLVM does not vectorize their short loops over the labels.

Inside a kernel, ``load`` reads a vector from an array and ``store`` writes one; vectors and numbers have + - *;
``maximum``, ``clipped``, ``where_inside`` and ``exp2`` work lane by lane, ``largest`` and ``total`` reduce a vector to
a number. An array of uint16 holds bfloat16: the upper halves of float32, to which ``store`` rounds. A vector
is one to three registers of eight lanes, as many as the tuple ``width`` has members. It works on any CPU: LLVM splits
registers that are too wide. Numba loads with this module: import it inside functions only.
"""

# mypy: disable-error-code="misc, untyped-decorator, import-untyped"
# (numba and llvmlite have no types)

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types  # noqa: TID253 (see above)
from numba.core.imputils import lower_builtin  # noqa: TID253
from numba.core.typing.templates import AbstractTemplate, infer_global, signature  # noqa: TID253
from numba.extending import intrinsic, models, register_model  # noqa: TID253
from numpy.polynomial import Chebyshev, Polynomial

from deeplabctl.arrays import LANES

FLOAT, INT = ir.FloatType(), ir.IntType(32)
FLOATS, INTS = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
HALVES = ir.VectorType(ir.IntType(16), LANES)
FUSED = ("contract",)  # a * b + c may be rounded once
MANTISSA = 23  # bits
ROUNDING = 1.5 * 2**MANTISSA  # a number added to it is rounded to an integer, in the lowest bits of the sum
LEAST_EXPONENT = -64.0  # of exp2: 2**-64 is a negligible probability, and far from the denormals, which are slow
EXP2 = Chebyshev.interpolate(np.exp2, 5, (-0.5, 0.5)).convert(kind=Polynomial).coef.tolist()


class Vector(types.Type):
    """Define the type of a vector: registers of eight float32."""

    def __init__(self, registers: int) -> None:
        self.registers = registers
        super().__init__(name=f"float32x{LANES}x{registers}")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """Represent a vector as an array of registers in LLVM."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.ArrayType(FLOATS, kind.registers))


@infer_global(operator.add)
@infer_global(operator.sub)
@infer_global(operator.mul)
class Arithmetic(AbstractTemplate):
    """Type the sum, difference and product of two vectors, or of a number and a vector."""

    def generic(self, operands: Any, keywords: Any) -> Any:
        """Return the signature for these operands, None for others."""
        vectors = {kind for kind in operands if isinstance(kind, Vector)}
        if len(vectors) == 1 and vectors.union([types.float32]).issuperset(operands):
            return signature(*vectors, *operands)
        return None


for _operator, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):

    def _lower(context: Any, builder: Any, signature: Any, values: Any, name: str = _instruction) -> Any:
        a, b = (_registers(builder, value, signature.return_type.registers) for value in values)
        return _vector(builder, [getattr(builder, name)(*pair, flags=FUSED) for pair in zip(a, b, strict=True)])

    for _operands in ((Vector, Vector), (types.float32, Vector), (Vector, types.float32)):
        lower_builtin(_operator, *_operands)(_lower)


@intrinsic
def load(typing: Any, array: Any, index: Any, width: Any) -> Any:
    """Read a vector from a C-contiguous array, starting at a flat index."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        loaded = [builder.load(at) for at in _addresses(context, builder, array, values[0], values[1], len(width))]
        for register in loaded:
            register.align = array.dtype.bitwidth // 8
        if array.dtype == types.uint16:
            halves = (builder.shl(builder.zext(register, INTS), _all_ints(16)) for register in loaded)
            loaded = [builder.bitcast(half, FLOATS) for half in halves]
        return _vector(builder, loaded)

    return Vector(len(width))(array, types.intp, width), lower


@intrinsic
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write a vector to a C-contiguous array, starting at a flat index."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        registers = _registers(builder, values[2], vector.registers)
        addresses = _addresses(context, builder, array, values[0], values[1], vector.registers)
        if array.dtype == types.uint16:
            registers = [_upper_half(builder, register) for register in registers]
        for register, at in zip(registers, addresses, strict=True):
            builder.store(register, at).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), lower


@intrinsic
def maximum(typing: Any, a: Any, b: Any) -> Any:
    """Return the larger number of each pair of lanes."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        pairs = zip(*(_registers(builder, value, a.registers) for value in values), strict=True)
        return _vector(builder, [_larger(builder, *pair) for pair in pairs])

    return a(a, b), lower


@intrinsic
def clipped(typing: Any, vector: Any, limits: Any) -> Any:
    """Return the lanes of a vector between two numbers, the least and the most; NaN stays."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        registers = _registers(builder, values[0], vector.registers)
        for index, sign in enumerate("><"):
            limit = _registers(builder, builder.extract_value(values[1], index), 1)[0]
            registers = [builder.select(builder.fcmp_ordered(sign, limit, one), limit, one) for one in registers]
        return _vector(builder, registers)

    return vector(vector, limits), lower


@intrinsic
def where_inside(typing: Any, vector: Any, value: Any, limits: Any) -> Any:
    """Return the lanes of a vector, and 0 where another's are at two limits or beyond."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        registers, others = (_registers(builder, each, vector.registers) for each in values[:2])
        for index, sign in enumerate(("<=", ">=")):
            limit = _registers(builder, builder.extract_value(values[2], index), 1)[0]
            pairs = zip(registers, others, strict=True)
            zero = _all_lanes(0.0)
            registers = [builder.select(builder.fcmp_ordered(sign, other, limit), zero, one) for one, other in pairs]
        return _vector(builder, registers)

    return vector(vector, value, limits), lower


@intrinsic
def largest(typing: Any, vector: Any) -> Any:
    """Return the largest number of a vector."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        register = functools.reduce(
            functools.partial(_larger, builder), _registers(builder, values[0], vector.registers)
        )
        reduce = _declared(builder, "llvm.vector.reduce.fmax.v8f32", FLOAT, FLOATS)
        return builder.call(reduce, [register], fastmath=("nnan",))

    return types.float32(vector), lower


@intrinsic
def total(typing: Any, vector: Any) -> Any:
    """Return the sum of a vector."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        register = functools.reduce(builder.fadd, _registers(builder, values[0], vector.registers))
        reduce = _declared(builder, "llvm.vector.reduce.fadd.v8f32", FLOAT, FLOAT, FLOATS)
        return builder.call(reduce, [ir.Constant(FLOAT, 0.0), register], fastmath=("reassoc",))

    return types.float32(vector), lower


@intrinsic
def exp2(typing: Any, vector: Any) -> Any:
    """Return 2 to the power of each lane, which must not be above 0; at least 2**-64, relative error 2e-7."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _vector(builder, [_exp2(builder, part) for part in _registers(builder, values[0], vector.registers)])

    return vector(vector), lower


def _exp2(builder: Any, x: Any) -> Any:
    x = _larger(builder, x, _all_lanes(LEAST_EXPONENT))
    shifted = builder.fadd(x, _all_lanes(ROUNDING))
    rest = builder.fsub(x, builder.fsub(shifted, _all_lanes(ROUNDING)))
    power = _all_lanes(EXP2[-1])
    for coefficient in EXP2[-2::-1]:
        power = builder.fadd(builder.fmul(power, rest, flags=FUSED), _all_lanes(coefficient), flags=FUSED)
    exponents = builder.shl(builder.bitcast(shifted, INTS), _all_ints(MANTISSA))
    return builder.bitcast(builder.add(builder.bitcast(power, INTS), exponents), FLOATS)


def _all_lanes(value: float) -> Any:
    return ir.Constant(FLOATS, [value] * LANES)


def _all_ints(value: int) -> Any:
    return ir.Constant(INTS, [value] * LANES)


def _upper_half(builder: Any, register: Any) -> Any:
    """Return the nearest numbers of 16 bits, and of two the even one; no NaN of a computation becomes a number."""
    bits = builder.bitcast(register, INTS)
    is_odd = builder.and_(builder.lshr(bits, _all_ints(16)), _all_ints(1))
    rounded = builder.add(builder.add(bits, _all_ints(2**15 - 1)), is_odd)
    return builder.trunc(builder.lshr(rounded, _all_ints(16)), HALVES)


def _registers(builder: Any, value: Any, count: int) -> list[Any]:
    """Return the registers of a vector, or a number repeated in all lanes."""
    if value.type != FLOAT:
        return [builder.extract_value(value, i) for i in range(count)]
    undefined = ir.Constant(FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(INT, 0))
    return [builder.shuffle_vector(first, undefined, ir.Constant(INTS, [0] * LANES))] * count


def _vector(builder: Any, registers: list[Any]) -> Any:
    """Return a vector of registers."""
    vector = ir.Constant(ir.ArrayType(FLOATS, len(registers)), ir.Undefined)
    for i, register in enumerate(registers):
        vector = builder.insert_value(vector, register, i)
    return vector


def _addresses(context: Any, builder: Any, kind: Any, array: Any, index: Any, count: int) -> list[Any]:
    data = context.make_array(kind)(context, builder, array).data
    registers = HALVES if kind.dtype == types.uint16 else FLOATS
    first = builder.bitcast(builder.gep(data, [index]), registers.as_pointer())
    return [builder.gep(first, [ir.Constant(INT, i)]) for i in range(count)]


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _declared(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)
