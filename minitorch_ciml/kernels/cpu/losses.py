"""Cross-entropies on the CPU.

Those from logits take a block of rows through all of softmax at a time, on all threads. The others
are one pass each where NumPy needs several, and a tenth of its overhead for small arrays. Other
dtypes than float32 and float64 go to the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.exponential import log, sigmoid, softplus
from minitorch_ciml.kernels.cpu.jit import entry, ready
from minitorch_ciml.kernels.cpu.rows import (
    BLOCK,
    as_rows,
    exponentiate,
    is_simple,
    parts_of,
    reordered,
    scale,
    subtract,
    top,
    total,
)
from minitorch_ciml.kernels.cpu.threads import PIECE, parallel, piece
from minitorch_ciml.kernels.reference import nn as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

EPSILON = reference.EPSILON

# On one thread: the loops here are bound by memory, not by arithmetic. Sums may be reordered, so
# that they are vectorised.
compiled = partial(entry, fastmath={"reassoc", "nsz"})


# --- cross-entropies ----------------------------------------------------------------------------


@reordered
def _matched(t, z, first, n):
    """The sum of t z, where t is not 0: there z may be -inf."""
    result = z.dtype.type(0)
    for j in range(np.uint64(first), np.uint64(first + n)):
        if t[j] != 0:
            result += t[j] * z[j]
    return result


@reordered
def _scale_and_subtract(e, first, n, factor, t):
    for j in range(np.uint64(first), np.uint64(first + n)):
        e[j] = e[j] * factor - t[j]


@parallel
def _categorical_from_logits(i, tasks, rows, n, t, x, losses, slope):
    """The losses, and their slopes sum(t) p - t, of a part of the rows, a block at a time."""
    step, last = max(1, BLOCK // max(1, n)), (i + 1) * rows // tasks
    for start in range(i * rows // tasks, last, step):
        end = min(start + step, last)
        for r in range(start, end):
            # A NaN is no maximum, but stays one in the difference.
            subtract(x, r * n, n, top(x, r * n, n), slope)
            losses[r] = _matched(t, slope, r * n, n)
        exponentiate(slope, start * n, (end - start) * n)
        for r in range(start, end):
            weight, sum_ = total(t, r * n, n), total(slope, r * n, n)
            losses[r] = weight * x.dtype.type(math.log(sum_)) - losses[r]
            _scale_and_subtract(slope, r * n, n, weight / sum_, t)


@parallel
def _sparse_from_logits(i, tasks, rows, n, labels, x, losses, slope):
    """The same for labels."""
    step, last = max(1, BLOCK // max(1, n)), (i + 1) * rows // tasks
    for start in range(i * rows // tasks, last, step):
        end = min(start + step, last)
        for r in range(start, end):
            subtract(x, r * n, n, top(x, r * n, n), slope)
            losses[r] = slope[r * n + labels[r]]
        exponentiate(slope, start * n, (end - start) * n)
        for r in range(start, end):
            sum_ = total(slope, r * n, n)
            losses[r] = x.dtype.type(math.log(sum_)) - losses[r]
            scale(slope, r * n, n, x.dtype.type(1) / sum_)
            slope[r * n + labels[r]] -= 1


def _from_logits(compute: Callable, target: Array, x: Array) -> tuple[Array, Array]:
    rows, n = x.shape
    losses, slope = np.empty(rows, x.dtype), empty(x.shape, x.dtype)
    target = ready(target, target.dtype)
    compute(parts_of(rows, n), rows, n, target, ready(x, x.dtype), losses, slope.reshape(-1))
    return losses, slope


@compiled
def _categorical_from_probabilities(t, x, losses, slope):
    low, high = x.dtype.type(EPSILON), x.dtype.type(1 - EPSILON)
    for i in range(x.shape[0]):
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        loss, weight = x.dtype.type(0), x.dtype.type(0)
        for j in range(x.shape[1]):
            p = x[i, j] / total
            slope[i, j] = 0
            if t[i, j] != 0:
                loss -= t[i, j] * x.dtype.type(math.log(min(max(p, low), high)))
                if low <= p <= high:
                    weight += t[i, j]
                    slope[i, j] = t[i, j] / p
        losses[i] = loss
        for j in range(x.shape[1]):
            slope[i, j] = (weight - slope[i, j]) / total


@compiled
def _first_wrong(labels, classes):
    for i in range(labels.size):
        if not 0 <= labels[i] < classes:
            return i
    return -1


@compiled
def _sparse_from_probabilities(t, x, losses, slope):
    low, high = x.dtype.type(EPSILON), x.dtype.type(1 - EPSILON)
    for i in range(x.shape[0]):
        total = x.dtype.type(0)
        for j in range(x.shape[1]):
            total += x[i, j]
        p = x[i, t[i]] / total
        losses[i] = -x.dtype.type(math.log(min(max(p, low), high)))
        inside = low <= p <= high
        for j in range(x.shape[1]):
            slope[i, j] = x.dtype.type(1) / total if inside else 0
        if inside:
            slope[i, t[i]] -= 1 / (p * total)


def _from_probabilities(compute: Callable, target: Array, x: Array) -> tuple[Array, Array]:
    losses, slope = np.empty(len(x), x.dtype), empty(x.shape, x.dtype)
    compute(target, x, losses, slope)
    return losses, slope


@parallel
def _scale_rows(i, tasks, rows, n, g, slope, dx):
    """Every row of `slope` times its element of `g`."""
    for r in range(i * rows // tasks, (i + 1) * rows // tasks):
        for j in range(np.uint64(r * n), np.uint64(r * n + n)):
            dx[j] = g[r] * slope[j]


def categorical_crossentropy(
    target: Array, output: Array, *, from_logits: bool, axis: int
) -> tuple[Array, Array]:
    if not is_simple(target, output) or axis != output.ndim - 1:
        return reference.categorical_crossentropy(
            target, output, from_logits=from_logits, axis=axis
        )
    t, x = as_rows(target), as_rows(output)
    if from_logits:
        losses, slope = _from_logits(_categorical_from_logits, t, x)
    else:
        losses, slope = _from_probabilities(_categorical_from_probabilities, t, x)
    return losses.reshape(output.shape[:-1]), slope


def sparse_categorical_crossentropy(
    target: Array, output: Array, *, from_logits: bool, axis: int
) -> tuple[Array, Array]:
    if not is_simple(output) or axis != output.ndim - 1:
        return reference.sparse_categorical_crossentropy(
            target, output, from_logits=from_logits, axis=axis
        )
    labels, x = target.astype(np.intp, copy=False).reshape(-1), as_rows(output)
    if _first_wrong(labels, x.shape[1]) >= 0:
        reference.check_labels(labels, x.shape[1])
    if from_logits:
        losses, slope = _from_logits(_sparse_from_logits, labels, x)
    else:
        losses, slope = _from_probabilities(_sparse_from_probabilities, labels, x)
    return losses.reshape(output.shape[:-1]), slope


def categorical_crossentropy_grad(
    g: Array, y: Array, target: Array, output: Array, *,
    needs: Needs, saved: Array, from_logits: bool, axis: int,
) -> Gradients:  # fmt: skip
    if needs[0] or not is_simple(g, saved) or axis != output.ndim - 1:
        return reference.categorical_crossentropy_grad(
            g, y, target, output,
            needs=needs, saved=saved.reshape(output.shape), from_logits=from_logits, axis=axis,
        )  # fmt: skip
    rows, n = saved.shape
    dx = empty(output.shape, saved.dtype)
    flat = ready(g, saved.dtype), ready(saved, saved.dtype), dx.reshape(-1)
    _scale_rows(parts_of(rows, n), rows, n, *flat)
    return None, dx


def sparse_categorical_crossentropy_grad(
    g: Array, y: Array, target: Array, output: Array, *,
    needs: Needs, saved: Array, from_logits: bool, axis: int,
) -> Gradients:  # fmt: skip
    return categorical_crossentropy_grad(
        g, y, target, output,
        needs=(False, needs[1]), saved=saved, from_logits=from_logits, axis=axis,
    )  # fmt: skip


@parallel
def _binary_from_logits(i, t, x, losses):
    t, x, losses = piece(t, i), piece(x, i), piece(losses, i)
    one = x.dtype.type(1)
    for k in range(x.size):
        losses[k] = (one - t[k]) * x[k] + softplus(-x[k])


@parallel
def _binary_from_probabilities(i, t, x, losses):
    t, x, losses = piece(t, i), piece(x, i), piece(losses, i)
    low, high, one = x.dtype.type(EPSILON), x.dtype.type(1 - EPSILON), x.dtype.type(1)
    for k in range(x.size):
        p = low if x[k] < low else x[k]  # a NaN stays one
        p = high if p > high else p
        losses[k] = (t[k] - one) * log(one - p) - t[k] * log(p)


@parallel
def _binary_slope_of_logits(i, g, t, x, dx):
    g, t, x, dx = piece(g, i), piece(t, i), piece(x, i), piece(dx, i)
    for k in range(dx.size):
        dx[k] = g[k] * (sigmoid(x[k]) - t[k])


@parallel
def _binary_slope(i, g, t, x, dx):
    g, t, x, dx = piece(g, i), piece(t, i), piece(x, i), piece(dx, i)
    low, high = x.dtype.type(EPSILON), x.dtype.type(1 - EPSILON)
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for k in range(dx.size):
        slope = g[k] * (x[k] - t[k]) / (x[k] * (one - x[k]))
        dx[k] = slope if (low <= x[k]) & (x[k] <= high) else zero


def binary_crossentropy(target: Array, output: Array, *, from_logits: bool) -> Array:
    if not is_simple(target, output):
        return reference.binary_crossentropy(target, output, from_logits=from_logits)
    kernel = _binary_from_logits if from_logits else _binary_from_probabilities
    losses = empty(output.shape, output.dtype)
    kernel(-(-output.size // PIECE), *[ready(x, x.dtype) for x in (target, output, losses)])
    return losses


def binary_crossentropy_grad(
    g: Array, y: Array, target: Array, output: Array, *, needs: Needs, from_logits: bool
) -> Gradients:
    if needs[0] or not is_simple(g, target, output):
        return reference.binary_crossentropy_grad(
            g, y, target, output, needs=needs, from_logits=from_logits
        )
    kernel = _binary_slope_of_logits if from_logits else _binary_slope
    dx = empty(output.shape, output.dtype)
    kernel(-(-dx.size // PIECE), *[ready(x, x.dtype) for x in (g, target, output, dx)])
    return None, dx
