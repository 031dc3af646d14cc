"""Transform one vector of channels of a tile for Winograd's algorithm, and the products back; see `winograd`.

Numba loads with this module: import it inside functions only.
"""

# mypy: disable-error-code="misc, untyped-decorator, import-untyped"
# (numba and llvmlite have no types)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import types  # noqa: TID253 (see above)
from numba.extending import intrinsic  # noqa: TID253

from deeplabctl.arrays import Float32, Floats
from deeplabctl.engine.microkernel import REGISTERS, Simd, Vectors, fetch, lanes_of, pointer, size
from deeplabctl.engine.winograd import KERNEL_SIZE, matrices
from deeplabctl.jit import kernel

_FLAGS = ("contract", "nsz")  # a * b + c may be rounded once


@intrinsic
def transform(
    typing: Any, image: Any, source: Any, row_stride: Any, column_stride: Any, target: Any, destination: Any,
    stride: Any, tile: Any, simd: Any,
) -> Any:  # fmt: skip
    """Transform n x n pixels from an index on, with two strides, to n * n values with one; strides are in floats."""
    b = matrices(int(tile.count))[1]
    return _transform((image, target, tile, simd), b)


@intrinsic
def transform_gradient(
    typing: Any, image: Any, source: Any, row_stride: Any, column_stride: Any, target: Any, destination: Any,
    stride: Any, tile: Any, simd: Any,
) -> Any:  # fmt: skip
    """Transform the m x m pixels of a result's gradient as `transform` does those of the image."""
    a = matrices(int(tile.count))[0]
    return _transform((image, target, tile, simd), a.T)


@intrinsic
def transform_kernel(
    typing: Any, image: Any, source: Any, row_stride: Any, column_stride: Any, target: Any, destination: Any,
    stride: Any, tile: Any, simd: Any,
) -> Any:  # fmt: skip
    """Transform the 3 x 3 weights of a kernel as `transform` does the pixels of the image, but round only once."""
    g = matrices(int(tile.count))[2]
    return _transform((image, target, tile, simd), g, is_double=True)


def _transform(arguments: tuple[Any, Any, Any, Any], matrix: Floats, *, is_double: bool = False) -> Any:
    """Return what computes matrix * pixels * matrix'."""
    image, target, tile, simd = arguments
    m, lanes, (n, side) = int(tile.count), lanes_of(simd), matrix.shape

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start = pointer(context, builder, signature.args[0], values[0], values[1])
        target = pointer(context, builder, signature.args[4], values[4], values[5])
        vectors = Vectors(builder, lanes, is_double=is_double)
        sums, columns = _Sums(vectors), []
        for j in range(side):
            top = builder.gep(start, [builder.mul(values[3], size(j))])
            pixels = [builder.gep(top, [builder.mul(values[2], size(i))]) for i in range(side)]
            columns.append(sums.apply(matrix, [vectors.read(pixel) for pixel in pixels]))
            if j >= side - m:  # the pixels of the tile beside it
                for pixel in pixels:
                    fetch(builder, builder.gep(pixel, [builder.mul(values[3], size(m))]))
        for i in range(n):
            for j, value in enumerate(sums.apply(matrix, [column[i] for column in columns])):
                vectors.write(value, builder.gep(target, [builder.mul(values[6], size(i * n + j))]))
        return context.get_dummy_value()

    intp = types.intp
    return types.void(image, intp, intp, intp, target, intp, intp, tile, simd), lower


@intrinsic
def transform_back(
    typing: Any, products: Any, source: Any, stride: Any, affine: Any, output: Any, limits: Any, image: Any,
    destination: Any, row_stride: Any, column_stride: Any, tile: Any, simd: Any,
) -> Any:  # fmt: skip
    """Transform n * n products to m x m pixels, then scale them, with bias and activation."""
    m, lanes = int(tile.count), lanes_of(simd)
    a, n = matrices(m)[0], m + KERNEL_SIZE - 1

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start = pointer(context, builder, signature.args[0], values[0], values[1])
        target = pointer(context, builder, signature.args[6], values[6], values[7])
        vectors = Vectors(builder, lanes)
        terms = vectors.scale_and_bias(context, signature.args[3], values[3], values[4])
        bounds, sums, columns = vectors.limits(values[5]), _Sums(vectors), []
        for j in range(n):
            places = (builder.mul(values[2], size(i * n + j)) for i in range(n))
            columns.append(sums.apply(a, [vectors.read(builder.gep(start, [place])) for place in places]))
        for i in range(m):
            line = builder.gep(target, [builder.mul(values[8], size(i))])
            for j, value in enumerate(sums.apply(a, [column[i] for column in columns])):
                pixel = vectors.affine_clipped(value, terms, bounds)
                vectors.write(pixel, builder.gep(line, [builder.mul(values[9], size(j))]))
        return context.get_dummy_value()

    intp = types.intp
    arguments = (products, intp, intp, affine, intp, limits, image, intp, intp, intp, tile, simd)
    return types.void(*arguments), lower


@kernel
def pack_transformed(
    weights: Float32, depth: int, panels: int, packed: Float32, tile: Any, simd: Simd, first: int, last: int
) -> None:
    """Transform the outputs of the panels first:last of a flat 3x3 kernel: [n * n][panels][depth][width].

    The kernel is (3, 3, depth, panels * width).
    """
    lanes, width = len(simd.lanes), REGISTERS * len(simd.lanes)
    outputs = panels * width
    for panel in range(first, last):
        for v in range(0, width, lanes):
            for c in range(depth):
                transform_kernel(
                    weights, c * outputs + panel * width + v, 3 * depth * outputs, depth * outputs, packed,
                    (panel * depth + c) * width + v, depth * outputs, tile, simd,
                )  # fmt: skip


class _Sums:
    """Emit few instructions for the product of a known matrix and vectors.

    Two rows, or two columns, that are equal but for the signs of every other entry (those of a point and its negative)
    are the sum and the difference of the same two halves, which are computed once.
    """

    def __init__(self, vectors: Vectors) -> None:
        self._vectors, self._builder = vectors, vectors.builder

    def apply(self, matrix: Floats, values: Sequence[Any]) -> list[Any]:
        """Emit matrix times values."""
        if any(_halves(matrix[i], matrix[k]) for i in range(len(matrix)) for k in range(i)):
            return self._by_rows(matrix, values)
        return self._by_columns(matrix, values)

    def _by_rows(self, matrix: Floats, values: Sequence[Any]) -> list[Any]:
        results: list[Any] = [None] * len(matrix)
        for i, row in enumerate(matrix):
            if results[i] is not None:
                continue
            for k in range(i + 1, len(matrix)):
                if halves := _halves(row, matrix[k]):
                    even, odd = halves
                    scale = next(weight for weight in odd if weight)  # once, and fused with the sum
                    first, second = self._weighted(even, values), self._weighted(odd / scale, values)
                    results[i] = self._plus(first, scale, second)
                    results[k] = self._plus(first, -scale, second)
                    break
            else:
                results[i] = self._weighted(row, values)
        return results

    def _by_columns(self, matrix: Floats, values: Sequence[Any]) -> list[Any]:
        weights, terms, used = [], [], set()
        for j, column in enumerate(matrix.T):
            if j in used:
                continue
            for k in range(j + 1, matrix.shape[1]):
                if halves := _halves(column, matrix[:, k]):
                    terms += [self._plus(values[j], 1, values[k]), self._plus(values[j], -1, values[k])]
                    weights += halves
                    used.add(k)
                    break
            else:
                terms.append(values[j])
                weights.append(column)
        return [self._weighted(row, terms) for row in np.array(weights).T]

    def _weighted(self, weights: Floats, values: Sequence[Any]) -> Any:
        """Emit one sum, at least one of whose weights is not 0; those without a multiplication come first."""
        terms = [(float(weight), value) for weight, value in zip(weights, values, strict=True) if weight]
        total = None
        for weight, value in sorted(terms, key=lambda term: (term[0] != 1, abs(term[0]) != 1)):
            total = self._plus(total, weight, value)
        return total

    def _plus(self, total: Any, weight: float, value: Any) -> Any:
        builder = self._builder
        if total is not None and abs(weight) == 1:
            return (builder.fadd if weight == 1 else builder.fsub)(total, value, flags=_FLAGS)
        if weight != 1:
            value = builder.fmul(value, self._vectors.constant(weight), flags=_FLAGS)
        return value if total is None else builder.fadd(total, value, flags=_FLAGS)


def _halves(a: Floats, b: Floats) -> list[Floats] | None:
    """Return the halves whose sum and difference two lines of a matrix are, if these have no place in common."""
    even, odd = (a + b) / 2, (a - b) / 2
    return [even, odd] if even.any() and odd.any() and not (even * odd).any() else None
