"""Functions that move elements without changing them: copies, transposes, joins.

All are bound by memory, and know elements as bits alone: a kernel exists for each size in bytes.
What only changes the shape is a view of the same memory.

One kernel copies between any two regular patterns of places (`Pattern`). It serves slices, padding,
joins, rolls, broadcasts and most transposes. It reads and writes fast where neighbouring elements
of the result are neighbours in the source, too; elements that stay together are copied as
one, 8 bytes at a time where they fit. A transpose that moves the last axis goes through shared
memory instead, tile by tile, so that both sides are read and written along rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, types

from minitorch_ciml.kernels.cuda.elementwise import THREADS, blocks_for
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, Shape, empty
from minitorch_ciml.kernels.cuda.windows import divided

_UNITS = ("u1", "u2", "u4", "u8")
_MOST_AXES = 5
_TILE, _PADDED = 32, 33  # rows and columns that pass through shared memory together
_ROWS = 8  # of threads, for such a tile


@dataclass(frozen=True)
class Pattern:
    """Where the elements of a part of an array lie: the first one, and a step along each axis."""

    start: int
    steps: tuple[int, ...]


def whole(shape: Shape) -> Pattern:
    """All elements of an array."""
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    return Pattern(0, tuple(steps))


# --- copies from pattern to pattern ---------------------------------------------------------------


@kernel("T* T*" + " i4" * 17, threads=THREADS, T=_UNITS)
def _copy(
    y, x, y_start, x_start, y0, y1, y2, y3, y4, x0, x1, x2, x3, x4, n1, n2, n3, n4, n
):  # fmt: skip
    k = cuda.grid(1)
    if k < n:
        rest, e = divided(k, n4)
        to = y_start + e * y4
        at = x_start + e * x4
        if rest > 0:
            rest, d = divided(rest, n3)
            rest, c = divided(rest, n2)
            a, b = divided(rest, n1)
            to += a * y0 + b * y1 + c * y2 + d * y3
            at += a * x0 + b * x1 + c * x2 + d * x3
        y[to] = x[at]


def copy(y: CudaArray, to: Pattern, x: CudaArray, at: Pattern, sizes: Shape) -> None:
    """Copies elements of x to places of y, which has the same dtype."""
    if math.prod(sizes) == 0:
        return
    kept = _joined(sizes, to.steps, at.steps)
    itemsize = y.dtype.itemsize
    starts = [to.start, at.start]
    while itemsize < 8 and _pairs(kept, starts) and y.is_aligned and x.is_aligned:
        # Two elements that stay together become one of twice the size.
        (n, _, _), itemsize = kept[-1], 2 * itemsize
        kept = [(m, p // 2, q // 2) for m, p, q in kept[:-1]] + [(n // 2, 1, 1)]
        starts = [start // 2 for start in starts]
    _copy_axes(_as_unit(y, itemsize), _as_unit(x, itemsize), starts, kept)


def _copy_axes(y: CudaArray, x: CudaArray, starts: list[int], axes: list[tuple]) -> None:
    if len(axes) > _MOST_AXES:
        (n, p, q), *rest = axes
        for i in range(n):
            _copy_axes(y, x, [starts[0] + i * p, starts[1] + i * q], rest)
        return
    full = [(1, 0, 0)] * (_MOST_AXES - len(axes)) + axes
    sizes, to, at = zip(*full)
    n = math.prod(sizes)
    _copy(*blocks_for(n), y, x, *starts, *to, *at, *sizes[1:], n)


def _joined(sizes: Shape, to: Sequence[int], at: Sequence[int]) -> list[tuple[int, int, int]]:
    """The axes with both steps, without those of size 1; what lies in a row becomes one axis."""
    axes: list[tuple[int, int, int]] = []
    for n, p, q in zip(sizes, to, at):
        if n == 1:
            continue
        if axes and axes[-1][1:] == (n * p, n * q):
            axes[-1] = (axes[-1][0] * n, p, q)
        else:
            axes.append((n, p, q))
    return axes or [(1, 1, 1)]


def _pairs(axes: list[tuple[int, int, int]], starts: list[int]) -> bool:
    """Whether all elements come and go in pairs."""
    n, p, q = axes[-1]
    numbers = [*starts, *[step for axis in axes[:-1] for step in axis[1:]]]
    return (p, q) == (1, 1) and n % 2 == 0 and all(i % 2 == 0 for i in numbers)


def _as_unit(x: CudaArray, itemsize: int) -> CudaArray:
    """The array's memory as integers of that size."""
    return x.as_integers(itemsize)


# --- views ----------------------------------------------------------------------------------------


def view(x: CudaArray, *, dtype: np.dtype) -> CudaArray:
    """The same bits as another dtype."""
    return x.as_dtype(np.empty(x.shape, x.dtype).view(dtype).shape, dtype)


def reshape(x: CudaArray, *, shape: Any) -> CudaArray:
    return x.reshape(shape)


def squeeze(x: CudaArray, *, axis: Any) -> CudaArray:
    return x.reshape(np.squeeze(_outline(x), axis).shape)


def expand_dims(x: CudaArray, *, axis: Any) -> CudaArray:
    return x.reshape(np.expand_dims(_outline(x), axis).shape)


def _outline(x: CudaArray) -> np.ndarray:
    """An array of the same shape, of one element: what NumPy makes of its shape and strides."""
    return np.broadcast_to(np.int8(0), x.shape)


# --- copies ---------------------------------------------------------------------------------------


def broadcast_to(x: CudaArray, *, shape: Shape) -> CudaArray:
    if x.shape == tuple(shape):
        return x
    sizes = np.broadcast_to(_outline(x), shape).shape  # raises where that is not possible
    missing = len(sizes) - x.ndim
    own = whole(x.shape).steps
    steps = [0 if n == 1 else step for n, step in zip(x.shape, own)]
    y = empty(sizes, x.dtype)
    copy(y, whole(sizes), x, Pattern(0, (*[0] * missing, *steps)), sizes)
    return y


def concatenate(*xs: CudaArray, axis: int) -> CudaArray:
    shape = list(np.concatenate([_outline(x) for x in xs[:1]], axis).shape)
    for x in xs[1:]:
        others = [n for i, n in enumerate(x.shape) if i != axis % len(shape)]
        if len(x.shape) != len(shape) or others != [
            n for i, n in enumerate(shape) if i != axis % len(shape)
        ]:
            raise ValueError("all sizes but those along the axis must be equal")
        shape[axis] += x.shape[axis]
    y = empty(tuple(shape), xs[0].dtype)
    steps = whole(y.shape).steps
    start = 0
    for x in xs:
        copy(y, Pattern(start, steps), x, whole(x.shape), x.shape)
        start += x.shape[axis] * steps[axis]
    return y


def stack(*xs: CudaArray, axis: int) -> CudaArray:
    if len({x.shape for x in xs}) > 1:
        raise ValueError("all shapes must be equal")
    return concatenate(*[expand_dims(x, axis=axis) for x in xs], axis=axis)


def roll(x: CudaArray, *, shift: Any, axis: Any) -> CudaArray:
    if axis is None:
        return roll(x.reshape(-1), shift=sum(np.atleast_1d(shift).tolist()), axis=0).reshape(
            x.shape
        )
    for by, along in np.broadcast(shift, axis):
        x = _rolled(x, int(by), int(along))
    return x


def _rolled(x: CudaArray, shift: int, axis: int) -> CudaArray:
    n = x.shape[axis]
    shift = shift % n if n else 0
    if shift == 0:
        return x
    y = empty(x.shape, x.dtype)
    steps = whole(x.shape).steps
    for to, at, count in ((shift, 0, n - shift), (0, n - shift, shift)):
        sizes = [count if i == axis % x.ndim else m for i, m in enumerate(x.shape)]
        places = [Pattern(first * steps[axis], steps) for first in (to, at)]
        copy(y, places[0], x, places[1], tuple(sizes))
    return y


# --- transposes -----------------------------------------------------------------------------------


def _tiled(dtype: Any) -> Kernel:
    """Transposes tiles: neighbours along the source's last axis, then along the result's."""

    def tiled(
        y, x, rows, columns, x_row, y_column, tiles, n1, n2, n3, x0, x1, x2, x3, y0, y1, y2, y3
    ):  # fmt: skip
        # One more column than is used: the elements of a column lie in different banks.
        tile = cuda.shared.array((_TILE, _PADDED), dtype)
        rest, d = divided(cuda.blockIdx.y, n3)
        rest, c = divided(rest, n2)
        a, b = divided(rest, n1)
        at = a * x0 + b * x1 + c * x2 + d * x3
        to = a * y0 + b * y1 + c * y2 + d * y3
        down, across = divided(cuda.blockIdx.x, tiles)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        column = across * _TILE + tx
        for i in range(ty, _TILE, _ROWS):
            row = down * _TILE + i
            if row < rows and column < columns:
                tile[i, tx] = x[at + row * x_row + column]
        cuda.syncthreads()
        row = down * _TILE + tx
        for i in range(ty, _TILE, _ROWS):
            column = across * _TILE + i
            if row < rows and column < columns:
                y[to + column * y_column + row] = tile[tx, i]

    size = dtype.bitwidth // 8
    declare = kernel(
        f"u{size}* u{size}*" + " i4" * 16, threads=_TILE * _ROWS, name=f"shape.tiled.u{size}"
    )
    return declare(tiled)


_TILED = {
    t.bitwidth // 8: _tiled(t) for t in (types.uint8, types.uint16, types.uint32, types.uint64)
}


def transpose(x: CudaArray, *, axes: tuple[int, ...] | None) -> CudaArray:
    order = tuple(reversed(range(x.ndim))) if axes is None else tuple(axes)
    shape = tuple([x.shape[a] for a in order])
    # Axes of size 1 do not matter; axes that stay neighbours are one.
    steps = whole(x.shape).steps
    if x.size <= 1 or list(order) == sorted(order):
        return x.reshape(shape)
    y = empty(shape, x.dtype)
    source = Pattern(0, tuple([steps[a] for a in order]))
    axes_joined = _joined(shape, whole(shape).steps, source.steps)
    if axes_joined[-1][2] == 1:  # the last axis stays
        copy(y, whole(shape), x, source, shape)
    else:
        _transpose_tiles(y, x, axes_joined)
    return y


def _transpose_tiles(y: CudaArray, x: CudaArray, axes: list[tuple[int, int, int]]) -> None:
    """`axes` have sizes, the result's steps, and the source's, in the result's order."""
    rows, _, x_row = axes[-1]  # the result's last axis
    last = next(i for i, axis in enumerate(axes) if axis[2] == 1)  # the source's
    columns, y_column, _ = axes[last]
    others = axes[:last] + axes[last + 1 : -1]
    if len(others) > 4 or math.prod(n for n, _, _ in others) > 65535:
        sizes, to, at = zip(*axes)
        copy(y, Pattern(0, to), x, Pattern(0, at), sizes)
        return
    full = [(1, 0, 0)] * (4 - len(others)) + others
    sizes, to, at = zip(*full)
    tiles = ceil_div(columns, _TILE)
    size = x.dtype.itemsize
    _TILED[size](
        (ceil_div(rows, _TILE) * tiles, math.prod(sizes)), (_TILE, _ROWS),
        _as_unit(y, size), _as_unit(x, size), rows, columns, x_row, y_column, tiles,
        *sizes[1:], *at, *to,
    )  # fmt: skip


def swapaxes(x: CudaArray, *, axis1: int, axis2: int) -> CudaArray:
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, axes=tuple(order))
