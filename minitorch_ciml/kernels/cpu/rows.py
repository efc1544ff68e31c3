"""Softmax and its logarithm on the CPU, and what kernels along rows are built from.

A thread takes a block of rows that stays in its nearest cache: each array goes through memory once,
whatever the number of loops over the block. Exponentials are taken of the whole block, so that they
fill vectors also where a row is shorter than one. Other dtypes than float32 and float64 go to the
reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from minitorch_ciml.kernels.cpu import columns
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.exponential import exp, log
from minitorch_ciml.kernels.cpu.jit import ready
from minitorch_ciml.kernels.cpu.loads import copy, load
from minitorch_ciml.kernels.cpu.simd import full, lanes, largest, maximum
from minitorch_ciml.kernels.cpu.threads import parallel
from minitorch_ciml.kernels.reference import nn as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

# Kernels for use in kernels. The sums of the first may be reordered, which is what vectorises them;
# but not the exponential's terms, of which the last would be lost. Those may be fused.
_HOW: dict[str, Any] = {
    "nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip
reordered = njit(fastmath={"reassoc", "nsz", "contract"}, **_HOW)
fused = njit(fastmath={"contract"}, **_HOW)

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


def parts_of(rows: int, n: int) -> int:
    """Into how many parts rows of n elements are cut: few small ones stay together."""
    return min(PARTS, rows) if rows * n >= MANY else 1


# --- in the compiled code: `rows` rows of n elements each, in flat arrays ------------------------
#
# Loops count with unsigned numbers: to numba another index may be negative, counted from the end,
# and LLVM does not vectorise what may. Slices would do as well, but take long to compile.


@reordered
def accumulate(a, i, b):
    """a[i] += b, of matrices."""
    for k in range(b.shape[0]):
        for j in range(b.shape[1]):
            a[i, k, j] += b[k, j]


@reordered
def top(x, first, n):
    """The largest of n elements. A NaN is none, but -inf is."""
    width, best = lanes(x), x.dtype.type(-np.inf)
    if n < width:
        for j in range(np.uint64(first), np.uint64(first + n)):
            best = x[j] if x[j] > best else best
        return best
    tops = full(x, best, 4)
    for j in range(0, n - 4 * width + 1, 4 * width):
        tops = maximum(load(x, first + j, 4), tops)
    last = maximum(load(x, first + n - width, 1), full(x, best, 1))  # others may see them too
    for j in range(n // (4 * width) * 4 * width, n - width, width):
        last = maximum(load(x, first + j, 1), last)
    return max(largest(tops), largest(last))


@reordered
def total(x, first, n):
    """The sum of n elements."""
    result = x.dtype.type(0)
    for j in range(np.uint64(first), np.uint64(first + n)):
        result += x[j]
    return result


@reordered
def dot(a, b, first, n):
    """The sum of the products of n elements."""
    result = a.dtype.type(0)
    for j in range(np.uint64(first), np.uint64(first + n)):
        result += a[j] * b[j]
    return result


@fused
def exponentiate(x, first, n):
    """In place: with a second array, LLVM would have to prove that they do not overlap."""
    for j in range(np.uint64(first), np.uint64(first + n)):
        x[j] = exp(x[j])


@reordered
def subtract(x, first, n, shift, y):
    for j in range(np.uint64(first), np.uint64(first + n)):
        y[j] = x[j] - shift


@reordered
def scale(x, first, n, factor):
    for j in range(np.uint64(first), np.uint64(first + n)):
        x[j] *= factor


@parallel
def _softmax(i, tasks, rows, n, x, y):
    step, last = max(1, BLOCK // max(1, n)), (i + 1) * rows // tasks
    for start in range(i * rows // tasks, last, step):
        end = min(start + step, last)
        for r in range(start, end):
            # A NaN is no maximum, but stays one in the difference.
            subtract(x, r * n, n, top(x, r * n, n), y)
        exponentiate(y, start * n, (end - start) * n)
        for r in range(start, end):
            scale(y, r * n, n, y.dtype.type(1) / total(y, r * n, n))  # 1 / float32 is float64


@parallel
def _log_softmax(i, tasks, rows, n, x, y):
    step, last = max(1, BLOCK // max(1, n)), (i + 1) * rows // tasks
    e = np.empty(step * n, x.dtype)
    for start in range(i * rows // tasks, last, step):
        end = min(start + step, last)
        for r in range(start, end):
            subtract(x, r * n, n, top(x, r * n, n), y)
        copy(e, 0, y, start * n, (end - start) * n)
        exponentiate(e, 0, (end - start) * n)
        for r in range(start, end):
            subtract(y, r * n, n, log(total(e, (r - start) * n, n)), y)


@reordered
def _softmax_slope(first, n, g, y, dx):
    mean = dot(g, y, first, n)
    for j in range(np.uint64(first), np.uint64(first + n)):
        dx[j] = y[j] * (g[j] - mean)


@parallel
def _softmax_grad(i, tasks, rows, n, g, y, dx):
    for r in range(i * rows // tasks, (i + 1) * rows // tasks):
        _softmax_slope(r * n, n, g, y, dx)


@reordered
def _log_softmax_slope(first, n, g, p):
    """With the softmax p, in its place."""
    weight = total(g, first, n)
    for j in range(np.uint64(first), np.uint64(first + n)):
        p[j] = g[j] - p[j] * weight


@parallel
def _log_softmax_grad(i, tasks, rows, n, g, y, dx):
    step, last = max(1, BLOCK // max(1, n)), (i + 1) * rows // tasks
    for start in range(i * rows // tasks, last, step):
        end = min(start + step, last)
        copy(dx, start * n, y, start * n, (end - start) * n)
        exponentiate(dx, start * n, (end - start) * n)
        for r in range(start, end):
            _log_softmax_slope(r * n, n, g, dx)


# --- along any axis -----------------------------------------------------------------------------


def _along(axis: int, apply: Callable, others: Callable, *arrays: Array) -> Array:
    """What the kernel for rows, or that for other axes, makes of the arrays along an axis."""
    axis %= arrays[0].ndim
    if math.prod(arrays[0].shape[axis + 1 :]) != 1:
        return columns.along_axis(others, axis, *arrays)
    shape, dtype = arrays[0].shape, arrays[0].dtype
    result = empty(shape, dtype)
    if result.size:
        rows, n = result.size // shape[axis], shape[axis]
        apply(parts_of(rows, n), rows, n, *[ready(x, dtype) for x in (*arrays, result)])
    return result


def softmax(x: Array, *, axis: int) -> Array:
    return (
        _along(axis, _softmax, columns.softmax, x)
        if is_simple(x)
        else reference.softmax(x, axis=axis)
    )


def softmax_grad(g: Array, y: Array, x: Array, *, needs: Needs, axis: int) -> Gradients:
    if not is_simple(g, y):
        return reference.softmax_grad(g, y, x, needs=needs, axis=axis)
    return (_along(axis, _softmax_grad, columns.softmax_grad, g, y),)


def log_softmax(x: Array, *, axis: int) -> Array:
    return (
        _along(axis, _log_softmax, columns.log_softmax, x)
        if is_simple(x)
        else reference.log_softmax(x, axis=axis)
    )


def log_softmax_grad(g: Array, y: Array, x: Array, *, needs: Needs, axis: int) -> Gradients:
    if not is_simple(g, y):
        return reference.log_softmax_grad(g, y, x, needs=needs, axis=axis)
    return (_along(axis, _log_softmax_grad, columns.log_softmax_grad, g, y),)
