"""An axis folded to one number: each element is read once, on all threads.

There are three axes: *before* the folded one, *along* it, *behind* it. Where something is behind,
runs of neighbours are joined to runs, element by element; short ones many at a time. Where nothing
is behind, as many rows as a vector has lanes are folded side by side: each has a vector of its own,
of these the *square* is turned, and its columns are joined.

Nothing depends on the number of threads, and no sum is of many numbers one after the other: few
runs, or vectors, are joined to one, such to each other, and halves to halves in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import inlined, kernel, ready
from minitorch_ciml.kernels.cpu.loads import copy, load_square, store
from minitorch_ciml.kernels.cpu.maxima import larger, smaller
from minitorch_ciml.kernels.cpu.simd import lanes
from minitorch_ciml.kernels.cpu.threads import PIECE, parallel
from minitorch_ciml.kernels.cpu.vector import items_of, splat, turned

Array = np.ndarray

WIDE = 512  # elements of a run
FEW = 64  # runs, or vectors, that are joined to one
PARTS = 64  # into which an axis is cut, at most, and each part folded by itself


# --- of vectors: a *join* is a function of an LLVM builder and two of them ------------------------


def sum_of(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.fadd(a, b)


def product_of(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return builder.fmul(a, b)


def larger_or_nan(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return _first_if(">", builder, a, b)


def smaller_or_nan(builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    return _first_if("<", builder, a, b)


def _first_if(comparison: str, builder: ir.IRBuilder, a: Any, b: Any) -> Any:
    """`a` if it compares so with b, or is NaN and b is not; otherwise b."""
    wins = builder.fcmp_unordered(comparison, a, b)
    return builder.select(builder.and_(wins, builder.fcmp_ordered("ord", b, b)), a, b)


@intrinsic
def only(typingctx, acc, first, end, otherwise):
    """The lanes of a tile from `first` to before `end`; the others are a number."""

    def codegen(context, builder, signature, arguments):
        values, first, end, number = arguments
        kind = context.get_value_type(acc.dtype)
        number = context.cast(builder, number, signature.args[3], acc.dtype.dtype)
        lane = ir.Constant(ir.VectorType(first.type, kind.count), list(range(kind.count)))
        inside = builder.and_(
            builder.icmp_signed(">=", lane, splat(builder, lane.type, first)),
            builder.icmp_signed("<", lane, splat(builder, lane.type, end)),
        )
        other = splat(builder, kind, number)
        kept = [builder.select(inside, value, other) for value in items_of(builder, acc, values)]
        return context.make_tuple(builder, acc, kept)

    return acc(acc, types.intp, types.intp, types.unliteral(otherwise)), codegen


def joining(join: Callable) -> Any:
    """Compiles `joined(a, b)`, of two tiles."""

    @intrinsic
    def joined(typingctx, a, b):
        def codegen(context, builder, signature, arguments):
            pairs = zip(*[items_of(builder, a, tile) for tile in arguments])
            return context.make_tuple(builder, a, [join(builder, *pair) for pair in pairs])

        return a(a, b), codegen

    return joined


def folding(join: Callable) -> Any:
    """Compiles `folded(square)`: one vector whose element t is the square's vector t, folded."""

    @intrinsic
    def folded(typingctx, square):
        result = types.UniTuple(square.dtype, 1)

        def codegen(context, builder, signature, arguments):
            values = turned(builder, items_of(builder, square, arguments[0]))
            while len(values) > 1:
                values = [join(builder, *pair) for pair in zip(values[::2], values[1::2])]
            return context.make_tuple(builder, result, values)

        return result(square), codegen

    return folded


# --- the loops ------------------------------------------------------------------------------------


def _fold(name: str, join: Callable, join_vectors: Callable, nothing: float) -> Any:
    """Compiles `fold(tasks, before, parts, along, behind, x, y)`.

    Args:
        join: what makes one of two numbers.
        join_vectors: the same of vectors, see `folds`.
        nothing: the number that changes none by being joined to it.
    """
    joined, folded = joining(join_vectors), folding(join_vectors)

    @kernel
    def merge(a, i, b, j, n):
        """The n elements of b from the j-th on are joined to those of a from the i-th on."""
        # Unsigned: to numba another index may be negative, and such a loop is not vectorised.
        i, j = np.uint64(i), np.uint64(j)
        for k in range(np.uint64(n)):
            a[i + k] = join(a[i + k], b[j + k])

    @kernel
    def fold_runs(x, at, step, runs, rest, width, room):
        """room[:width]: `runs` runs, `step` from start to start, and the first of one more."""
        for first in range(0, runs, FEW):
            to = width if first else 0
            copy(room, to, x, at + first * step, width)
            for k in range(first + 1, min(first + FEW, runs)):
                merge(room, to, x, at + k * step, width)
            if first:
                merge(room, 0, room, width, width)
        merge(room, 0, x, at + runs * step, rest)

    @kernel
    def fold_one(x, at, along, behind, n, y, to, room):
        """y[to : to + n]: `along` times n elements of x, `behind` from start to start."""
        times = max(1, min(along, WIDE // behind))
        width = times * n
        fold_runs(x, at, times * behind, along // times, along % times * n, width, room)
        while times > 1:  # the second half to the first
            kept = (times + 1) // 2
            merge(room, 0, room, kept * n, (times - kept) * n)
            times = kept
        copy(y, to, room, 0, n)

    @inlined
    def fold_squares(x, at, n, first, end):
        square = load_square(x, at + first, n)
        for j in range(first + lanes(x), end - lanes(x) + 1, lanes(x)):
            square = joined(square, load_square(x, at + j, n))
        return square

    @kernel
    def fold_rows(x, n, first, end, y, room):
        width, fill = lanes(x), x.dtype.type(nothing)
        rest = n % width
        r = first
        while r + width <= end and (r + width - 1) * n + width <= x.size:
            if n < width:
                square = only(load_square(x, r * n, n), 0, n, fill)
            else:
                square = fold_squares(x, r * n, n, 0, min(n, FEW * width))
                for start in range(FEW * width, n - width + 1, FEW * width):
                    part = fold_squares(x, r * n, n, start, min(n, start + FEW * width))
                    square = joined(square, part)
                if rest:
                    part = only(load_square(x, r * n + n - width, n), width - rest, width, fill)
                    square = joined(square, part)
            store(y, r, folded(square))
            r += width
        for left in range(r, end):
            fold_one(x, left * n, n, 1, 1, y, left, room)

    def fold(i, tasks, before, parts, along, behind, x, y):
        room, chunks = np.empty(2 * WIDE, x.dtype), -(-behind // WIDE)
        units = before * parts * chunks
        first, end = i * units // tasks, (i + 1) * units // tasks
        if behind == 1 and parts == 1:
            fold_rows(x, along, first, end, y, room)
            return
        for unit in range(first, end):
            a, part, c = unit // chunks // parts, unit // chunks % parts, unit % chunks * WIDE
            start, stop = part * along // parts, (part + 1) * along // parts
            at, to = (a * along + start) * behind + c, (a * parts + part) * behind + c
            fold_one(x, at, stop - start, behind, min(WIDE, behind - c), y, to, room)

    return parallel(fold, f"folds.{name}")


@inlined
def _plus(a, b):
    return a + b


@inlined
def _times(a, b):
    return a * b


fold_sum = _fold("sum", _plus, sum_of, 0.0)
fold_prod = _fold("prod", _times, product_of, 1.0)
fold_max = _fold("max", larger, larger_or_nan, -np.inf)
fold_min = _fold("min", smaller, smaller_or_nan, np.inf)


def fold_axis(fold: Callable, x: Array, before: int, along: int, behind: int) -> Array:
    """The flat x (before, along, behind) as (before, behind): see above."""
    pieces = max(1, x.size // PIECE)
    units = before * -(-behind // WIDE)
    parts = max(1, min(PARTS, pieces, along) // units)
    y = empty((before * parts * behind,), x.dtype)
    tasks = min(pieces, units * parts)
    fold(tasks, before, parts, along, behind, ready(x, x.dtype), y)
    return y if parts == 1 else fold_axis(fold, y, before, parts, behind)
