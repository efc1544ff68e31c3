"""Softmax and its logarithm on the CPU, and what kernels along rows are built from.

A thread takes a block of rows that stays in its nearest cache: each array goes through memory once,
whatever the number of loops over the block. Exponentials are taken of the whole block, so that they
fill vectors also where a row is shorter than one. Other dtypes than float32 and float64 go to the
reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.exponential import exp
from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.simd import full, lanes, largest, load, maximum
from minitorch_ciml.kernels.cpu.threads import ALL, task
from minitorch_ciml.kernels.reference import nn as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# Kernels for use in kernels. The sums of the first may be reordered, which is what vectorises them;
# but not the exponential's terms, of which the last would be lost. Those may be fused.
how = dict(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
reordered = njit(fastmath={"reassoc", "nsz", "contract"}, **how)
fused = njit(fastmath={"contract"}, **how)

MANY = 1 << 16  # elements that are worth several threads
PARTS = 64  # of the rows, of which each thread takes one at a time
BLOCK = 1 << 11  # elements that stay in the nearest cache, with what is computed from them


def as_rows(x: Array) -> Array:
    """`x` as contiguous rows of its last axis."""
    if x.ndim != 2:
        x = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return np.ascontiguousarray(x)


def is_simple(*arrays: Array) -> bool:
    """Whether numba takes these arrays: all float32, or all float64."""
    dtype = arrays[0].dtype
    for x in arrays:
        if x.dtype is not dtype and x.dtype != dtype:
            return False
    return dtype.char in "fd"


@kernel
def parts_of(x):
    """Into how many parts the rows of x are cut: a small x stays whole."""
    return min(PARTS, x.shape[0]) if x.size >= MANY else 1


@kernel
def part(x, i, parts):
    """The rows of part i."""
    return x[i * x.shape[0] // parts : (i + 1) * x.shape[0] // parts]


@reordered
def top(row):
    """The largest element. A NaN is none, but -inf is."""
    n, width = row.size, lanes(row)
    best = row.dtype.type(-np.inf)
    if n < width:
        for j in range(n):
            best = row[j] if row[j] > best else best
        return best
    tops = full(row, best, 4)
    for j in range(0, n - 4 * width + 1, 4 * width):
        tops = maximum(load(row, j, 4), tops)
    last = maximum(load(row, n - width, 1), full(row, best, 1))  # also what others have seen
    for j in range(n // (4 * width) * 4 * width, n - width, width):
        last = maximum(load(row, j, 1), last)
    return max(largest(tops), largest(last))


@reordered
def total(row):
    """The sum of the elements."""
    result = row.dtype.type(0)
    for j in range(row.size):
        result += row[j]
    return result


@reordered
def _subtract_tops(x, z):
    """Every row minus its maximum. A NaN is no maximum, but stays one in the result."""
    for i in range(x.shape[0]):
        from_, to = x[i], z[i]
        highest = top(from_)
        for j in range(to.size):
            to[j] = from_[j] - highest


@fused
def exponentiate(x):
    """In place: with a second array, LLVM would have to prove that they do not overlap."""
    for j in range(x.size):
        x[j] = exp(x[j])


@kernel
def _softmax_block(x, y):
    _subtract_tops(x, y)
    exponentiate(y.reshape(-1))
    for r in range(y.shape[0]):
        row = y[r]
        share = y.dtype.type(1) / total(row)  # 1 / float32 would be float64
        for j in range(row.size):
            row[j] *= share


@kernel
def _log_softmax_block(x, y):
    _subtract_tops(x, y)
    e = y.copy()
    exponentiate(e.reshape(-1))
    for r in range(y.shape[0]):
        row, shift = y[r], y.dtype.type(math.log(total(e[r])))
        for j in range(row.size):
            row[j] -= shift


@reordered
def _softmax_slopes(g, y, dx):
    for i in range(y.shape[0]):
        mean = y.dtype.type(0)
        for j in range(y.shape[1]):
            mean += g[i, j] * y[i, j]
        for j in range(y.shape[1]):
            dx[i, j] = y[i, j] * (g[i, j] - mean)


@kernel
def _log_softmax_slopes(g, y, dx):
    dx[:] = y
    exponentiate(dx.reshape(-1))
    for i in range(g.shape[0]):
        slope, row = g[i], dx[i]
        weight = total(slope)
        for j in range(row.size):
            row[j] = slope[j] - row[j] * weight


@task
def _softmax_part(i, parts, x, y):
    x, y = part(x, i, parts), part(y, i, parts)
    rows = max(1, BLOCK // max(1, x.shape[1]))
    for r in range(0, x.shape[0], rows):
        _softmax_block(x[r : r + rows], y[r : r + rows])


@task
def _log_softmax_part(i, parts, x, y):
    x, y = part(x, i, parts), part(y, i, parts)
    rows = max(1, BLOCK // max(1, x.shape[1]))
    for r in range(0, x.shape[0], rows):
        _log_softmax_block(x[r : r + rows], y[r : r + rows])


@task
def _softmax_grad_part(i, parts, g, y, dx):
    _softmax_slopes(part(g, i, parts), part(y, i, parts), part(dx, i, parts))


@task
def _log_softmax_grad_part(i, parts, g, y, dx):
    g, y, dx = part(g, i, parts), part(y, i, parts), part(dx, i, parts)
    rows = max(1, BLOCK // max(1, y.shape[1]))
    for r in range(0, y.shape[0], rows):
        _log_softmax_slopes(g[r : r + rows], y[r : r + rows], dx[r : r + rows])


@entry
def _softmax(x, y):
    parts = parts_of(x)
    _softmax_part(parts, ALL, (parts, x, y))


@entry
def _log_softmax(x, y):
    parts = parts_of(x)
    _log_softmax_part(parts, ALL, (parts, x, y))


@entry
def _softmax_grad(g, y, dx):
    parts = parts_of(y)
    _softmax_grad_part(parts, ALL, (parts, g, y, dx))


@entry
def _log_softmax_grad(g, y, dx):
    parts = parts_of(y)
    _log_softmax_grad_part(parts, ALL, (parts, g, y, dx))


# --- along any axis -----------------------------------------------------------------------------


def _along(axis: int, apply: Callable, *arrays: Array) -> Array:
    """What the kernel for rows makes of the arrays' rows along an axis."""
    if axis not in (-1, arrays[0].ndim - 1):
        moved = [np.moveaxis(x, axis, -1) for x in arrays]
        return np.ascontiguousarray(np.moveaxis(_along(-1, apply, *moved), -1, axis))
    rows = [as_rows(x) for x in arrays]
    result = empty(rows[0].shape, rows[0].dtype)
    apply(*rows, result)
    return result.reshape(arrays[0].shape)


def softmax(x: Array, *, axis: int) -> Array:
    return _along(axis, _softmax, x) if is_simple(x) else reference.softmax(x, axis=axis)


def softmax_grad(g: Array, y: Array, x: Array, *, needs: Needs, axis: int) -> Gradients:
    if not is_simple(g, y):
        return reference.softmax_grad(g, y, x, needs=needs, axis=axis)
    return (_along(axis, _softmax_grad, g, y),)


def log_softmax(x: Array, *, axis: int) -> Array:
    return _along(axis, _log_softmax, x) if is_simple(x) else reference.log_softmax(x, axis=axis)


def log_softmax_grad(g: Array, y: Array, x: Array, *, needs: Needs, axis: int) -> Gradients:
    if not is_simple(g, y):
        return reference.log_softmax_grad(g, y, x, needs=needs, axis=axis)
    return (_along(axis, _log_softmax_grad, g, y),)
