"""Vector registers for numba: one type, and the few operations the kernels are built from.

LLVM turns plain loops into vector code only when it can prove that it may, and never keeps a whole
block of results in registers. The kernels of this package say what they want instead. A *vector*
is one register (16 floats with AVX-512, 8 with AVX2, 4 with SSE2 or NEON); a *tile* is a tuple of
vectors that LLVM keeps in registers through a loop:

    acc = tile(load(bias, f, 2), ROWS)            # ROWS x 2 vectors, each pair a copy of the bias
    for q in range(run):
        acc = outer_fma(acc, x, at, q, load(w, q * width, 2))
    store_at(y, to, f, acc)

That is a matrix product at the machine's full speed: per step, ROWS numbers of x are broadcast
and multiplied with two vectors of w, and the sums never leave the registers.

`vector` has the type, and its width on this machine; `loads` brings vectors from memory and back.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from minitorch_ciml.kernels.cpu.vector import (
    Vector,
    address_of,
    fma,
    items_of,
    larger_of,
    read_vector,
    splat,
    turned,
)


@intrinsic
def lanes(typingctx, x):
    """Number of elements of array x that fit one vector: a constant to the compiler."""

    def codegen(context, builder, signature, arguments):
        return context.get_constant(types.intp, Vector(signature.args[0].dtype).lanes)

    return types.intp(x), codegen


@intrinsic
def row_sums(typingctx, x, i):
    """One vector whose element t is the sum of the vector that starts at `x[i + t * lanes]`."""
    kind = Vector(x.dtype)
    result = types.UniTuple(kind, 1)

    def codegen(context, builder, signature, arguments):
        start = address_of(context, builder, signature.args[0], *arguments)
        rows = [read_vector(context, builder, kind, start, t) for t in range(kind.lanes)]
        sums = turned(builder, rows)
        while len(sums) > 1:
            sums = [builder.fadd(*pair) for pair in zip(sums[::2], sums[1::2])]
        return context.make_tuple(builder, result, sums)

    return result(x, types.intp), codegen


@intrinsic(prefer_literal=True)
def full(typingctx, x, value, n):
    """A tile of n vectors of x's dtype, every element of which is `value`."""
    result = types.UniTuple(Vector(x.dtype), n.literal_value)

    def codegen(context, builder, signature, arguments):
        number = context.cast(builder, arguments[1], signature.args[1], result.dtype.dtype)
        vector = splat(builder, context.get_value_type(result.dtype), number)
        return context.make_tuple(builder, result, [vector] * result.count)

    return result(x, types.unliteral(value), n), codegen


@intrinsic(prefer_literal=True)
def tile(typingctx, vectors, n):
    """`vectors` repeated n times: (a, b) -> (a, b, a, b, ...)."""
    result = types.UniTuple(vectors.dtype, vectors.count * n.literal_value)

    def codegen(context, builder, signature, arguments):
        values = items_of(builder, signature.args[0], arguments[0])
        return context.make_tuple(builder, result, values * (result.count // len(values)))

    return result(vectors, n), codegen


@intrinsic
def outer_fma(typingctx, acc, x, at, i, vectors):
    """`acc[t, v] += x[at[t] + i] * vectors[v]`: numbers of x broadcast over vectors."""

    def codegen(context, builder, signature, arguments):
        sums, array, starts, offset, factors = arguments
        kind = context.get_value_type(acc.dtype)
        sums, factors = items_of(builder, acc, sums), items_of(builder, vectors, factors)
        for t, start in enumerate(items_of(builder, at, starts)):
            row = address_of(context, builder, signature.args[1], array, start)
            number = splat(builder, kind, builder.load(builder.gep(row, [offset])))
            for v, factor in enumerate(factors):
                place = t * len(factors) + v
                sums[place] = fma(builder, number, factor, sums[place])
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, at, types.intp, vectors), codegen


@intrinsic
def lane_fma(typingctx, acc, x, at, i, vector):
    """`acc[t] += x[at[t] + i : ... + lanes] * vector`: vectors of x, lane by lane."""

    def codegen(context, builder, signature, arguments):
        sums, array, starts, offset, factor = arguments
        factor = builder.extract_value(factor, 0)
        result = []
        for start, total in zip(
            items_of(builder, at, starts), items_of(builder, acc, sums), strict=True
        ):
            row = address_of(context, builder, signature.args[1], array, start)
            row = read_vector(context, builder, acc.dtype, builder.gep(row, [offset]))
            result.append(fma(builder, row, factor, total))
        return context.make_tuple(builder, acc, result)

    return acc(acc, x, at, types.intp, vector), codegen


@intrinsic
def row_fma(typingctx, acc, x, i, apart, w, j, window):
    """`acc[t] += sum over k of x[i + (t + k) * gap] * w[j + k * lanes : ...]`.

    k runs over the tuple `window`, of which only the length counts, and each number of x is read
    once. The gap is one vector if `apart` is True, one element if it is None.
    """
    gap = acc.dtype.lanes if apart == types.boolean else 1

    def codegen(context, builder, signature, arguments):
        sums, array, i, _, weights, j, _ = arguments
        kind = context.get_value_type(acc.dtype)
        sums = items_of(builder, acc, sums)
        row = address_of(context, builder, signature.args[1], array, i)
        start = address_of(context, builder, signature.args[4], weights, j)
        factors = [read_vector(context, builder, acc.dtype, start, k) for k in range(window.count)]
        for place in range(len(sums) + len(factors) - 1):
            at = builder.gep(row, [context.get_constant(types.intp, place * gap)])
            number = splat(builder, kind, builder.load(at))
            for k, factor in enumerate(factors):
                if 0 <= place - k < len(sums):
                    sums[place - k] = fma(builder, number, factor, sums[place - k])
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, types.intp, apart, w, types.intp, window), codegen


@intrinsic
def window_fma(typingctx, acc, x, i, line, lines, vector):
    """`acc[h * width + w] += x[i + h * line + w] * vector`: a window's places times a vector.

    h runs over the tuple `lines`, of which only the length counts; the width is what is left.
    """
    height, width = lines.count, acc.count // lines.count

    def codegen(context, builder, signature, arguments):
        sums, array, start, line, _, factor = arguments
        kind = context.get_value_type(acc.dtype)
        factor = builder.extract_value(factor, 0)
        sums = items_of(builder, acc, sums)
        for h in range(height):
            row = address_of(context, builder, signature.args[1], array, start)
            for w in range(width):
                at = builder.gep(row, [context.get_constant(types.intp, w)])
                number = splat(builder, kind, builder.load(at))
                place = h * width + w
                sums[place] = fma(builder, number, factor, sums[place])
            start = builder.add(start, line)
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, types.intp, types.intp, lines, vector), codegen


@intrinsic
def scaled_fma(typingctx, acc, x, vector):
    """`acc[k] += x[k] * vector`, of two tiles and one vector."""

    def codegen(context, builder, signature, arguments):
        factor = builder.extract_value(arguments[2], 0)
        pairs = _pairs(builder, acc, *arguments[:2])
        sums = [fma(builder, value, factor, total) for total, value in pairs]
        return context.make_tuple(builder, acc, sums)

    return acc(acc, x, vector), codegen


@intrinsic
def dot_fma(typingctx, total, a, b):
    """`total + sum over k of a[k] * b[k]`, of one vector and two tiles."""

    def codegen(context, builder, signature, arguments):
        value = builder.extract_value(arguments[0], 0)
        for pair in _pairs(builder, a, *arguments[1:]):
            value = fma(builder, *pair, value)
        return context.make_tuple(builder, total, [value])

    return total(total, a, b), codegen


def _pairs(builder: ir.IRBuilder, tile_type: Any, a: Any, b: Any) -> Any:
    """The vectors of two tiles of one type, side by side."""
    return zip(items_of(builder, tile_type, a), items_of(builder, tile_type, b))


@intrinsic
def add(typingctx, a, b):
    """`a + b` of two tiles."""

    def codegen(context, builder, signature, arguments):
        pairs = _pairs(builder, a, *arguments)
        return context.make_tuple(builder, a, [builder.fadd(*pair) for pair in pairs])

    return a(a, b), codegen


@intrinsic
def maximum(typingctx, a, b):
    """`a` where it is larger, else `b`, of two tiles: where a is NaN, b."""

    def codegen(context, builder, signature, arguments):
        pairs = _pairs(builder, a, *arguments)
        return context.make_tuple(builder, a, [larger_of(builder, *pair) for pair in pairs])

    return a(a, b), codegen


@intrinsic
def largest(typingctx, acc):
    """The largest number of a tile without NaN."""

    def codegen(context, builder, signature, arguments):
        best, *others = items_of(builder, acc, arguments[0])
        for other in others:
            best = larger_of(builder, best, other)
        half = acc.dtype.lanes // 2
        while half:  # the upper half against the lower one
            order = [(lane + half) % acc.dtype.lanes for lane in range(acc.dtype.lanes)]
            order = ir.Constant(ir.VectorType(ir.IntType(32), acc.dtype.lanes), order)
            best = larger_of(builder, best, builder.shuffle_vector(best, best, order))
            half //= 2
        return builder.extract_element(best, ir.Constant(ir.IntType(32), 0))

    return acc.dtype.dtype(acc), codegen


def matrix(rows: tuple[tuple[float, ...], ...]) -> Any:
    """Compiles `times(tile)`: a small constant matrix times a tile whose vectors are the elements
    of a matrix, row by row. Zeros and ones cost nothing.
    """

    @intrinsic
    def times(typingctx, acc):
        columns = acc.count // len(rows[0])
        result = types.UniTuple(acc.dtype, len(rows) * columns)

        def codegen(context, builder, signature, arguments):
            values = items_of(builder, acc, arguments[0])
            sums = [
                _combined(builder, row, values[column::columns])
                for row in rows
                for column in range(columns)
            ]
            return context.make_tuple(builder, result, sums)

        return result(acc), codegen

    return times


def _combined(builder: ir.IRBuilder, factors: tuple[float, ...], values: list) -> Any:
    """The sum of the values, each times its factor."""
    total = None
    for factor, value in sorted(zip(factors, values), key=lambda pair: pair[0] != 1):
        kind = value.type
        if factor == 1:
            total = value if total is None else builder.fadd(total, value)
        elif factor == -1 and total is not None:
            total = builder.fsub(total, value)
        elif factor != 0:
            scale = ir.Constant(kind, [ir.Constant(kind.element, factor)] * kind.count)
            if total is None:
                total = builder.fmul(value, scale)
            else:
                total = fma(builder, value, scale, total)
    return total


@intrinsic(prefer_literal=True)
def transposed(typingctx, acc, columns):
    """A tile of rows of `columns` vectors each, as the rows of its transpose."""

    def codegen(context, builder, signature, arguments):
        values = items_of(builder, acc, arguments[0])
        wide = columns.literal_value
        turned = [value for column in range(wide) for value in values[column::wide]]
        return context.make_tuple(builder, acc, turned)

    return acc(acc, columns), codegen


@intrinsic
def relu(typingctx, acc):
    """`max(acc, 0)`; NaN stays NaN."""

    def codegen(context, builder, signature, arguments):
        zero = ir.Constant(context.get_value_type(acc.dtype), None)
        values = [
            builder.select(builder.fcmp_ordered(">", zero, value), zero, value)
            for value in items_of(builder, acc, arguments[0])
        ]
        return context.make_tuple(builder, acc, values)

    return acc(acc), codegen


@intrinsic
def keep_positive(typingctx, values, mask):
    """The values where mask > 0, else 0: ReLU's derivative, applied to two tiles."""

    def codegen(context, builder, signature, arguments):
        zero = ir.Constant(context.get_value_type(values.dtype), None)
        kept = [
            builder.select(builder.fcmp_ordered(">", gate, zero), value, zero)
            for value, gate in _pairs(builder, values, *arguments)
        ]
        return context.make_tuple(builder, values, kept)

    return values(values, mask), codegen
