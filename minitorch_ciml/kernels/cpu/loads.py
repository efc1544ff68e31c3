"""Vectors from memory, and back: what `simd` computes with.

All addresses count elements of a contiguous array, without bounds checks: these functions trust
their caller.
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
    items_of,
    pointer_to,
    read_vector,
    splat,
    turned,
    write_vector,
)


def _read_tuple(
    context: Any, builder: ir.IRBuilder, result: Any, array_type: Any, array: Any, i: Any
) -> Any:
    """The vectors that start at `array[i]`, as many as the tuple `result` holds."""
    start = address_of(context, builder, array_type, array, i)
    values = [read_vector(context, builder, result.dtype, start, v) for v in range(result.count)]
    return context.make_tuple(builder, result, values)


def _read_rows(
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
        rows = _read_rows(context, builder, kind, array, *arguments[:3], result.count)
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
            values += _read_rows(context, builder, kind, signature.args[0], *at, width)
            start = builder.add(start, line)
        return context.make_tuple(builder, result, values)

    return result(x, types.intp, types.intp, lines, types.intp, columns), codegen


@intrinsic
def load_square(typingctx, x, i, step):
    """The vectors that start at `x[i], x[i + step], ...`, as many as a vector has lanes."""
    kind = Vector(x.dtype)
    result = types.UniTuple(kind, kind.lanes)

    def codegen(context, builder, signature, arguments):
        rows = _read_rows(context, builder, kind, signature.args[0], *arguments, kind.lanes)
        return context.make_tuple(builder, result, rows)

    return result(x, types.intp, types.intp), codegen


@intrinsic
def load_turned(typingctx, x, i, step):
    """Such a square, turned: vector k is `x[i + k], x[i + step + k], x[i + 2 * step + k], ...`"""
    kind = Vector(x.dtype)
    result = types.UniTuple(kind, kind.lanes)

    def codegen(context, builder, signature, arguments):
        rows = _read_rows(context, builder, kind, signature.args[0], *arguments, kind.lanes)
        return context.make_tuple(builder, result, turned(builder, rows))

    return result(x, types.intp, types.intp), codegen


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
