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

All addresses count elements of a contiguous array, without bounds checks: these functions trust
their caller. `vector` has the type, and its width on this machine.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from minitorch_ciml.kernels.cpu.vector import (
    INT64,
    Vector,
    address_of,
    fma,
    items_of,
    larger_of,
    pointer_to,
    read_vector,
    splat,
    write_vector,
)


def _read_tuple(
    context: Any, builder: ir.IRBuilder, result: Any, array_type: Any, array: Any, i: Any
) -> Any:
    """The vectors that start at `array[i]`, as many as the tuple `result` holds."""
    start = address_of(context, builder, array_type, array, i)
    values = [read_vector(context, builder, result.dtype, start, v) for v in range(result.count)]
    return context.make_tuple(builder, result, values)


def read_rows(
    context: Any, builder: ir.IRBuilder, kind: Vector, array_type: Any, array: Any, i: Any,
    step: Any, count: int,
) -> list:  # fmt: skip
    """The vectors that start at `array[i], array[i + step], ...`"""
    rows = []
    for _ in range(count):
        address = address_of(context, builder, array_type, array, i)
        rows.append(read_vector(context, builder, kind, address))
        i = builder.add(i, step)
    return rows


@intrinsic
def lanes(typingctx, x):
    """Number of elements of array x that fit one vector: a constant to the compiler."""

    def codegen(context, builder, signature, arguments):
        return context.get_constant(types.intp, Vector(signature.args[0].dtype).lanes)

    return types.intp(x), codegen


@intrinsic(prefer_literal=True)
def load(typingctx, x, i, n):
    """The n vectors that start at `x[i]`."""
    result = types.UniTuple(Vector(x.dtype), n.literal_value)

    def codegen(context, builder, signature, arguments):
        return _read_tuple(context, builder, result, signature.args[0], *arguments[:2])

    return result(x, types.intp, n), codegen


@intrinsic
def load_as_many(typingctx, x, i, places):
    """The vectors that start at `x[i]`, as many as the tuple `places` is long."""
    result = types.UniTuple(Vector(x.dtype), places.count)

    def codegen(context, builder, signature, arguments):
        return _read_tuple(context, builder, result, signature.args[0], *arguments[:2])

    return result(x, types.intp, places), codegen


@intrinsic
def load_row(typingctx, x, i, step, places):
    """The vectors that start at `x[i + k * step]`, for each k of the tuple `places`."""
    result = types.UniTuple(Vector(x.dtype), places.count)

    def codegen(context, builder, signature, arguments):
        array, kind = signature.args[0], result.dtype
        rows = read_rows(context, builder, kind, array, *arguments[:3], result.count)
        return context.make_tuple(builder, result, rows)

    return result(x, types.intp, types.intp, places), codegen


@intrinsic(prefer_literal=True)
def load_at(typingctx, x, at, i, n):
    """The n vectors that start at `x[at[t] + i]`, for each t."""
    width = n.literal_value
    result = types.UniTuple(Vector(x.dtype), at.count * width)

    def codegen(context, builder, signature, arguments):
        array, starts, offset, _ = arguments
        values = []
        for start in items_of(builder, at, starts):
            row = address_of(context, builder, signature.args[0], array, start)
            row = builder.gep(row, [offset])
            values += [read_vector(context, builder, result.dtype, row, v) for v in range(width)]
        return context.make_tuple(builder, result, values)

    return result(x, at, types.intp, n), codegen


@intrinsic(prefer_literal=True)
def load_grid(typingctx, x, i, line, lines, step, columns):
    """The vectors that start at `x[i + h * line + w * step]`, for h < lines and w < columns."""
    height, width = lines.literal_value, columns.literal_value
    result = types.UniTuple(Vector(x.dtype), height * width)

    def codegen(context, builder, signature, arguments):
        array, start, line, _, step, _ = arguments
        kind, values = result.dtype, []
        for _ in range(height):
            at = array, start, step
            values += read_rows(context, builder, kind, signature.args[0], *at, width)
            start = builder.add(start, line)
        return context.make_tuple(builder, result, values)

    return result(x, types.intp, types.intp, lines, types.intp, columns), codegen


@intrinsic
def load_turned(typingctx, x, i, step):
    """A square of x, turned: vector k is `x[i + k], x[i + step + k], x[i + 2 * step + k], ...`"""
    kind = Vector(x.dtype)
    result = types.UniTuple(kind, kind.lanes)

    def codegen(context, builder, signature, arguments):
        rows = read_rows(context, builder, kind, signature.args[0], *arguments, kind.lanes)
        return context.make_tuple(builder, result, turned(builder, rows))

    return result(x, types.intp, types.intp), codegen


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


def turned(builder: ir.IRBuilder, rows: list) -> list:
    """The columns of a square of vectors: pairs of rows change places of ever smaller blocks."""
    count, half = len(rows), len(rows) // 2
    lanes = ir.VectorType(ir.IntType(32), count)
    while half:
        kept = [k if k & half == 0 else count + k - half for k in range(count)]
        swapped = [k + half if k & half == 0 else count + k for k in range(count)]
        for t in range(count):
            if t & half == 0:
                a, b = rows[t], rows[t + half]
                rows[t] = builder.shuffle_vector(a, b, ir.Constant(lanes, kept))
                rows[t + half] = builder.shuffle_vector(a, b, ir.Constant(lanes, swapped))
        half //= 2
    return rows


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


@intrinsic(prefer_literal=True)
def addresses(typingctx, table, i, last, n):
    """`table[min(i + t, last)]` for t < n, as a tuple that stays in registers."""
    result = types.UniTuple(types.intp, n.literal_value)

    def codegen(context, builder, signature, arguments):
        array, start, end, _ = arguments
        values = []
        for t in range(result.count):
            at = builder.add(start, context.get_constant(types.intp, t))
            at = builder.select(builder.icmp_signed("<", at, end), at, end)
            values.append(builder.load(address_of(context, builder, signature.args[0], array, at)))
        return context.make_tuple(builder, result, values)

    return result(table, types.intp, types.intp, n), codegen


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
def store(typingctx, y, i, acc):
    """Writes the vectors of a tile one after the other from `y[i]` on."""

    def codegen(context, builder, signature, arguments):
        start = address_of(context, builder, signature.args[0], *arguments[:2])
        for v, value in enumerate(items_of(builder, acc, arguments[2])):
            write_vector(context, builder, acc.dtype, value, start, v)
        return context.get_dummy_value()

    return types.void(y, types.intp, acc), codegen


@intrinsic
def store_at(typingctx, y, to, i, acc):
    """Writes row t of a tile from `y[to[t] + i]` on; a row is `len(acc) / len(to)` vectors."""

    def codegen(context, builder, signature, arguments):
        array, starts, offset, values = arguments
        values = items_of(builder, acc, values)
        width = acc.count // to.count
        for t, start in enumerate(items_of(builder, to, starts)):
            row = address_of(context, builder, signature.args[0], array, builder.add(start, offset))
            for v in range(width):
                write_vector(context, builder, acc.dtype, values[t * width + v], row, v)
        return context.get_dummy_value()

    return types.void(y, to, types.intp, acc), codegen


@intrinsic(prefer_literal=True)
def prefetch_at(typingctx, y, to, i, n):
    """Asks for the n vectors that start at `y[to[t] + i]`, for each t: they are needed soon."""

    def codegen(context, builder, signature, arguments):
        array, starts, offset, _ = arguments
        kind, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [kind, number, number, number]),
            "llvm.prefetch.p0i8",
        )
        vector = Vector(signature.args[0].dtype)
        for start in items_of(builder, to, starts):
            row = address_of(context, builder, signature.args[0], array, builder.add(start, offset))
            for v in range(n.literal_value):
                line = builder.bitcast(pointer_to(context, builder, vector, row, v), kind)
                # To be read, or owned by nobody else, into the nearest cache, as data.
                builder.call(prefetch, [line, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(y, to, types.intp, n), codegen


@intrinsic
def store_rows(typingctx, y, i, step, acc):
    """Writes vector t of a tile from `y[i + t * step]` on."""

    def codegen(context, builder, signature, arguments):
        array, start, step, values = arguments
        for value in items_of(builder, acc, values):
            address = address_of(context, builder, signature.args[0], array, start)
            write_vector(context, builder, acc.dtype, value, address)
            start = builder.add(start, step)
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp, acc), codegen


@intrinsic
def store_parts(typingctx, y, i, step, acc, valid):
    """The same for the first `valid` elements of each vector (slower, even where all are)."""

    def codegen(context, builder, signature, arguments):
        array, start, step, values, valid = arguments
        kind = context.get_value_type(acc.dtype)
        places = ir.Constant(ir.VectorType(INT64, kind.count), list(range(kind.count)))
        mask = builder.icmp_signed("<", places, splat(builder, places.type, valid))
        masked_store = _masked_store(builder, kind, mask)
        align = ir.Constant(ir.IntType(32), acc.dtype.dtype.bitwidth // 8)
        for value in items_of(builder, acc, values):
            address = address_of(context, builder, signature.args[0], array, start)
            pointer = pointer_to(context, builder, acc.dtype, address, 0)
            builder.call(masked_store, [value, pointer, align, mask])
            start = builder.add(start, step)
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp, acc, types.intp), codegen


def _masked_store(builder: ir.IRBuilder, kind: ir.VectorType, mask: Any) -> ir.Function:
    element = "f32" if isinstance(kind.element, ir.FloatType) else "f64"
    arguments = [kind, kind.as_pointer(), ir.IntType(32), mask.type]
    return cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), arguments),
        f"llvm.masked.store.v{kind.count}{element}.p0v{kind.count}{element}",
    )


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


@intrinsic
def copy(typingctx, y, i, x, j, n):
    """`y[i : i + n] = x[j : j + n]` for n >= 0."""

    def codegen(context, builder, signature, arguments):
        target, i, source, j, n = arguments
        size = context.get_constant(types.intp, signature.args[0].dtype.bitwidth // 8)
        cgutils.raw_memcpy(
            builder,
            address_of(context, builder, signature.args[0], target, i),
            address_of(context, builder, signature.args[2], source, j),
            n,
            size,
        )
        return context.get_dummy_value()

    return types.void(y, types.intp, x, types.intp, types.intp), codegen


@intrinsic
def clear(typingctx, y, i, n):
    """`y[i : i + n] = 0` for n >= 0."""

    def codegen(context, builder, signature, arguments):
        target, i, n = arguments
        size = context.get_constant(types.intp, signature.args[0].dtype.bitwidth // 8)
        start = address_of(context, builder, signature.args[0], target, i)
        cgutils.memset(builder, start, builder.mul(n, size), 0)
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp), codegen
