"""Multiply groups of pixels by panels of weights: the kernel in which nearly all of the time goes.

    pixels    [depth / lanes][rows][lanes]    a group
    weights   [depth][WIDTH]                  a panel; WIDTH = REGISTERS * lanes outputs
    sums      [rows][WIDTH]

So the inner loop reads from two pointers alone, and both run straight through memory; all sums stay in registers. Numba
loads with this module: import it inside functions only.
"""

# mypy: disable-error-code="misc, untyped-decorator, import-untyped"
# (numba and llvmlite have no types)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types  # noqa: TID253 (see above)
from numba.extending import intrinsic  # noqa: TID253

from deeplabctl.engine.registers import FLOAT, REGISTERS, SIZE, Vectors, fetch, lanes_of, pointer, size


@intrinsic
def multiply(
    typing: Any, pixels: Any, a: Any, weights: Any, b: Any, sums: Any, c: Any, depth: Any, ahead: Any, step: Any,
    used: Any, form: Any,
) -> Any:  # fmt: skip
    """Multiply the group at ``a`` by the panel at ``b`` into ``c``; only the first rows, as many as ``used`` has.

    Meanwhile the weights from ``ahead`` floats after ``b`` on are fetched, ``step`` of them for each channel.
    """
    lanes, most, rows = lanes_of(form), int(form.types[1].count), int(used.count)

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = Vectors(builder, lanes)
        left, right, goal = (pointer(context, builder, signature.args[i], values[i], values[i + 1]) for i in (0, 2, 4))

        def forward(more: Any) -> Any:
            is_last_lane = builder.icmp_signed("==", builder.and_(more, size(lanes - 1)), size(0))
            return builder.select(is_last_lane, size(most * lanes - lanes + 1), size(1))

        starts = left, right, builder.gep(right, [values[7]])
        products = _loop(builder, vectors, starts, values[6], values[8], [row * lanes for row in range(rows)], forward)
        for i, value in enumerate(products):
            vectors.write(value, builder.gep(goal, [size(i * lanes)]))
        return context.get_dummy_value()

    intp = types.intp
    return types.void(pixels, intp, weights, intp, sums, intp, intp, intp, intp, used, form), lower


@intrinsic
def add_product(
    typing: Any, pixels: Any, a: Any, step: Any, weights: Any, b: Any, sums: Any, c: Any, apart: Any, depth: Any,
    used: Any, form: Any,
) -> Any:  # fmt: skip
    """Add the product of a transposed group and a panel to the sums at ``c``, whose rows are ``apart`` floats apart.

    The pixels are [depth][rows], their lines ``step`` floats apart.
    """
    lanes, rows = lanes_of(form), int(used.count)

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vectors = Vectors(builder, lanes)
        left = pointer(context, builder, signature.args[0], values[0], values[1])
        right, goal = (pointer(context, builder, signature.args[i], values[i], values[i + 1]) for i in (3, 5))
        products = _loop(
            builder, vectors, (left, right, builder.gep(left, [values[2]])), values[8], values[2], range(rows),
            lambda more: values[2],
        )  # fmt: skip
        for i, value in enumerate(products):
            line = builder.gep(goal, [builder.mul(values[7], size(i // REGISTERS))])
            place = builder.gep(line, [size(i % REGISTERS * lanes)])
            vectors.write(builder.fadd(vectors.read(place), value), place)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(pixels, intp, intp, weights, intp, sums, intp, intp, intp, used, form), lower


def _loop(
    builder: Any, vectors: Vectors, starts: tuple[Any, Any, Any], depth: Any, step: Any, places: Sequence[int],
    forward: Callable[[Any], Any],
) -> list[Any]:  # fmt: skip
    """Emit the loop over the channels, one a turn; returns the sums.

    The rows' pixels are at ``places`` from the left start, which ``forward`` brings on, given the turns so far. With
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
    sums = [builder.phi(vectors.type) for _ in range(len(places) * REGISTERS)]
    builder.call(nothing, [])
    fetch(builder, ahead)
    panel = [vectors.read(builder.gep(right, [size(v * lanes)])) for v in range(REGISTERS)]
    news = []
    for row, place in enumerate(places):
        pixel = vectors.every(builder.load(builder.gep(left, [size(place)])))
        news += [vectors.fused(pixel, panel[v], sums[row * REGISTERS + v]) for v in range(REGISTERS)]
    more = builder.add(count, size(1))
    turns = [
        (count, size(0), more),
        (left, starts[0], builder.gep(left, [forward(more)])),
        (right, starts[1], builder.gep(right, [size(REGISTERS * lanes)])),
        (ahead, starts[2], builder.gep(ahead, [step])),
    ]
    turns += [(phi, vectors.constant(0.0), new) for phi, new in zip(sums, news, strict=True)]
    for phi, first, new in turns:
        phi.add_incoming(first, before)
        phi.add_incoming(new, loop)
    builder.cbranch(builder.icmp_signed("<", more, depth), loop, after)
    builder.position_at_end(after)
    return news
