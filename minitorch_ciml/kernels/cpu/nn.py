"""Cross-entropies on the CPU.

Exponentials are NumPy's. The loops before and after them are numba: one pass each where NumPy needs
several, and a tenth of its overhead for small arrays. Other dtypes than float32 and float64 go to
the reference.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from minitorch_ciml.kernels.cpu import pool
from minitorch_ciml.kernels.cpu.jit import entry
from minitorch_ciml.kernels.cpu.rows import as_rows, is_simple
from minitorch_ciml.kernels.reference import nn as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

EPSILON = reference.EPSILON

# On one thread: the loops here are bound by memory, not by arithmetic. Sums may be reordered, so
# that they are vectorised.
compiled = partial(entry, fastmath={"reassoc", "nsz"})


# --- cross-entropies ----------------------------------------------------------------------------


LANES = 16  # so many maxima at a time fill a vector register; LLVM does not split one by itself


@compiled
def _shifted(x):
    """Every row minus its maximum. A NaN is no maximum, but stays one in the result."""
    z, tops = np.empty_like(x), np.empty(LANES, x.dtype)
    blocks = x.shape[1] // LANES * LANES
    for i in range(x.shape[0]):
        top = x.dtype.type(-np.inf)
        for k in range(LANES):
            tops[k] = top
        for j in range(0, blocks, LANES):
            for k in range(LANES):
                tops[k] = x[i, j + k] if x[i, j + k] > tops[k] else tops[k]
        for k in range(LANES):
            top = tops[k] if tops[k] > top else top
        for j in range(blocks, x.shape[1]):
            top = x[i, j] if x[i, j] > top else top
        for j in range(x.shape[1]):
            z[i, j] = x[i, j] - top
    return z


@compiled
def _categorical_from_logits(t, z, e):
    """The losses, and the slope (sum(t) p - t) in the place of e = exp(z)."""
    losses = np.empty(z.shape[0], z.dtype)
    for i in range(z.shape[0]):
        total, weight, matched = z.dtype.type(0), z.dtype.type(0), z.dtype.type(0)
        for j in range(z.shape[1]):
            total += e[i, j]
            weight += t[i, j]
            if t[i, j] != 0:  # since z may be -inf where t is 0
                matched += t[i, j] * z[i, j]
        losses[i] = weight * z.dtype.type(math.log(total)) - matched
        for j in range(z.shape[1]):
            e[i, j] = e[i, j] * (weight / total) - t[i, j]
    return losses


@compiled
def _categorical_from_probabilities(t, x):
    losses, slope = np.empty(x.shape[0], x.dtype), np.empty_like(x)
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
    return losses, slope


@compiled
def _first_wrong(labels, classes):
    for i in range(labels.size):
        if not 0 <= labels[i] < classes:
            return i
    return -1


@compiled
def _sparse_from_logits(t, z, e):
    """As `_categorical_from_logits`, for labels."""
    losses = np.empty(z.shape[0], z.dtype)
    for i in range(z.shape[0]):
        total = z.dtype.type(0)
        for j in range(z.shape[1]):
            total += e[i, j]
        losses[i] = z.dtype.type(math.log(total)) - z[i, t[i]]
        share = z.dtype.type(1) / total
        for j in range(z.shape[1]):
            e[i, j] *= share
        e[i, t[i]] -= 1
    return losses


@compiled
def _sparse_from_probabilities(t, x):
    losses, slope = np.empty(x.shape[0], x.dtype), np.empty_like(x)
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
    return losses, slope


@compiled
def _scale_rows(g, slope):
    """Every row of `slope` times its element of `g`, as a new array."""
    dx = np.empty_like(slope)
    for i in range(slope.shape[0]):
        for j in range(slope.shape[1]):
            dx[i, j] = g[i] * slope[i, j]
    return dx


def categorical_crossentropy(
    target: Array, output: Array, *, from_logits: bool, axis: int
) -> tuple[Array, Array]:
    if not is_simple(target, output) or axis != output.ndim - 1:
        return reference.categorical_crossentropy(
            target, output, from_logits=from_logits, axis=axis
        )
    t, x = as_rows(target), as_rows(output)
    if from_logits:
        z = _shifted(x)
        slope = np.exp(z)
        losses = _categorical_from_logits(t, z, slope)
    else:
        losses, slope = _categorical_from_probabilities(t, x)
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
        z = _shifted(x)
        slope = np.exp(z)
        losses = _sparse_from_logits(labels, z, slope)
    else:
        losses, slope = _sparse_from_probabilities(labels, x)
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
    return None, _scale_rows(np.ascontiguousarray(g).reshape(-1), saved).reshape(output.shape)


def sparse_categorical_crossentropy_grad(
    g: Array, y: Array, target: Array, output: Array, *,
    needs: Needs, saved: Array, from_logits: bool, axis: int,
) -> Gradients:  # fmt: skip
    return categorical_crossentropy_grad(
        g, y, target, output,
        needs=(False, needs[1]), saved=saved, from_logits=from_logits, axis=axis,
    )  # fmt: skip


@compiled
def _binary_from_logits(t, x):
    losses = np.empty_like(x)
    for i in range(x.size):
        # softplus(-x), in which no exponential overflows
        rest = math.log1p(math.exp(-abs(x[i]))) + max(-x[i], 0)
        losses[i] = (1 - t[i]) * x[i] + rest
    return losses


@compiled
def _binary_from_probabilities(t, x):
    losses = np.empty_like(x)
    low, high = x.dtype.type(EPSILON), x.dtype.type(1 - EPSILON)
    for i in range(x.size):
        p = min(max(x[i], low), high)
        loss = x.dtype.type(0)
        if t[i] != 0:
            loss -= t[i] * x.dtype.type(math.log(p))
        if t[i] != 1:
            loss -= (1 - t[i]) * x.dtype.type(math.log(1 - p))
        losses[i] = loss
    return losses


@compiled
def _binary_slope(g, t, x, from_logits):
    dx = np.empty_like(x)
    low, high = x.dtype.type(EPSILON), x.dtype.type(1 - EPSILON)
    for i in range(x.size):
        if from_logits:
            small = math.exp(-abs(x[i]))
            p = (1 if x[i] >= 0 else small) / (1 + small)
            dx[i] = g[i] * (p - t[i])
        elif low <= x[i] <= high:
            dx[i] = g[i] * (x[i] - t[i]) / (x[i] * (1 - x[i]))
        else:
            dx[i] = 0
    return dx


def _flat(x: Array) -> Array:
    return np.ascontiguousarray(x).reshape(-1)


def binary_crossentropy(target: Array, output: Array, *, from_logits: bool) -> Array:
    if not is_simple(target, output):
        return reference.binary_crossentropy(target, output, from_logits=from_logits)
    kernel = _binary_from_logits if from_logits else _binary_from_probabilities
    return kernel(_flat(target), _flat(output)).reshape(output.shape)


def binary_crossentropy_grad(
    g: Array, y: Array, target: Array, output: Array, *, needs: Needs, from_logits: bool
) -> Gradients:
    if needs[0] or not is_simple(g, target, output):
        return reference.binary_crossentropy_grad(
            g, y, target, output, needs=needs, from_logits=from_logits
        )
    dx = _binary_slope(_flat(g), _flat(target), _flat(output), from_logits)
    return None, dx.reshape(output.shape)


# --- max pooling under the names of its ops (see `ops/pool.py`) -----------------------------------


def max_pool_places(x: Array, **how) -> Array:
    """Which element of each window is the maximum."""
    return pool.max_pool(x, **how)[1]


def max_pool_grad(g: Array, y: Array, x: Array, *, needs: Needs, saved: Array, **how) -> Gradients:
    return (pool.max_pool_scatter(g, saved, input_shape=x.shape, **how),)
