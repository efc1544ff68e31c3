"""Softmax along an axis that others are behind, and running sums, on all threads.

x is (before, along, behind), flat. What is computed along the axis is computed for some neighbours
behind it at a time, whose vectors the loops run over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.exponential import exp, log
from minitorch_ciml.kernels.cpu.jit import inlined, ready
from minitorch_ciml.kernels.cpu.loads import copy
from minitorch_ciml.kernels.cpu.threads import parallel

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

WIDE = 256  # columns at a time
MANY = 1 << 13  # elements of which the running sum is worth a kernel


@inlined
def _place(unit, along, behind):
    """Where a unit's columns start, and how many they are."""
    chunks = -(-behind // WIDE)
    c = unit % chunks * WIDE
    return unit // chunks * along * behind + c, min(WIDE, behind - c)


@inlined
def _span(first, n):
    """Numbers without a sign: to numba others may be negative, and no loop is vectorised."""
    return range(np.uint64(first), np.uint64(first + n))


@inlined
def _tops(x, at, n, along, behind, top):
    """The largest number of each column; NaN is none."""
    at = np.uint64(at)
    for j in _span(0, n):
        top[j] = -np.inf
    for r in range(along):
        row = at + np.uint64(r * behind)
        for j in _span(0, n):
            top[j] = x[row + j] if x[row + j] > top[j] else top[j]


@parallel
def softmax(i, along, behind, x, y):
    at, n = _place(i, along, behind)
    top, total = np.empty(WIDE, x.dtype), np.zeros(WIDE, x.dtype)
    _tops(x, at, n, along, behind, top)
    for r in range(along):
        row = np.uint64(at + r * behind)
        for j in _span(0, n):
            y[row + j] = exp(x[row + j] - top[j])
        for j in _span(0, n):
            total[j] += y[row + j]
    for j in _span(0, n):
        total[j] = x.dtype.type(1) / total[j]
    for r in range(along):
        row = np.uint64(at + r * behind)
        for j in _span(0, n):
            y[row + j] *= total[j]


@parallel
def softmax_grad(i, along, behind, g, y, dx):
    at, n = _place(i, along, behind)
    mean = np.zeros(WIDE, y.dtype)
    for r in range(along):
        row = np.uint64(at + r * behind)
        for j in _span(0, n):
            mean[j] += g[row + j] * y[row + j]
    for r in range(along):
        row = np.uint64(at + r * behind)
        for j in _span(0, n):
            dx[row + j] = y[row + j] * (g[row + j] - mean[j])


@parallel
def log_softmax(i, along, behind, x, y):
    at, n = _place(i, along, behind)
    top, total = np.empty(WIDE, x.dtype), np.zeros(WIDE, x.dtype)
    _tops(x, at, n, along, behind, top)
    for r in range(along):
        row = np.uint64(at + r * behind)
        for j in _span(0, n):
            y[row + j] = x[row + j] - top[j]
        for j in _span(0, n):
            total[j] += exp(y[row + j])
    for j in _span(0, n):
        total[j] = log(total[j])
    for r in range(along):
        row = np.uint64(at + r * behind)
        for j in _span(0, n):
            y[row + j] -= total[j]


@parallel
def log_softmax_grad(i, along, behind, g, y, dx):
    at, n = _place(i, along, behind)
    weight = np.zeros(WIDE, y.dtype)
    for r in range(along):
        row = np.uint64(at + r * behind)
        for j in _span(0, n):
            weight[j] += g[row + j]
    for r in range(along):
        row = np.uint64(at + r * behind)
        for j in _span(0, n):
            dx[row + j] = g[row + j] - exp(y[row + j]) * weight[j]


@parallel
def _running_sum(i, along, behind, backwards, x, y):
    at, n = _place(i, along, behind)
    step = behind
    if backwards:
        at, step = at + (along - 1) * behind, -behind
    if n == 1:
        total = x.dtype.type(0)
        for r in range(along):
            total += x[at + r * step]
            y[at + r * step] = total
        return
    copy(y, at, x, at, n)
    for r in range(1, along):
        row, last = np.uint64(at + r * step), np.uint64(at + (r - 1) * step)
        for j in _span(0, n):
            y[row + j] = y[last + j] + x[row + j]


def along_axis(run: Callable, axis: int, *arrays: Array) -> Array:
    """What `run` makes of arrays of one shape and dtype along an axis."""
    first = arrays[0]
    along, behind = first.shape[axis], math.prod(first.shape[axis + 1 :])
    y = empty(first.shape, first.dtype)
    units = math.prod(first.shape[:axis]) * -(-behind // WIDE)
    run(units, along, behind, *[ready(x, first.dtype) for x in (*arrays, y)])
    return y


def _is_large(x: Array) -> bool:
    return x.size >= MANY and x.dtype.char in "fd"


def cumsum(x: Array, *, axis: int) -> Array:
    if not _is_large(x):
        return np.cumsum(x, axis)
    return along_axis(partial(_running, False), axis, x)


def cumsum_grad(g: Array, y: Array, x: Array, *, needs: Needs, axis: int) -> Gradients:
    if not _is_large(g):
        return (np.flip(np.cumsum(np.flip(g, axis), axis), axis),)
    return (along_axis(partial(_running, True), axis, g),)


def _running(backwards: bool, units: int, along: int, behind: int, x: Array, y: Array) -> None:
    _running_sum(units, along, behind, backwards, x, y)
