"""Batch normalisation on the CPU, with the ReLU behind it: each kernel reads its arrays once.

Rows are samples and places, columns are channels; each thread takes some of the rows. Few rows are
added up in x's dtype and those sums in float64, so that a batch of a million rows loses nothing.

An activation is two bounds: y = min(max(z, low), high), and g passes where y is between them.
"""

from __future__ import annotations

import math

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.loads import clear
from minitorch_ciml.kernels.cpu.rows import accumulate, is_simple, parts_of, reordered
from minitorch_ciml.kernels.cpu.threads import ALL, task
from minitorch_ciml.kernels.reference import normalization as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

FEW = 64  # rows that are added up in x's dtype


def _rows(x: Array, axis: int) -> Array:
    """`x` as contiguous rows of its channels."""
    if axis != x.ndim - 1:
        x = np.moveaxis(x, axis, -1)
    if x.ndim != 2:
        x = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    return np.ascontiguousarray(x)


def _restored(rows: Array, x: Array, axis: int) -> Array:
    """The inverse of `_rows`."""
    if axis == x.ndim - 1:
        return rows.reshape(x.shape)
    shape = [n for a, n in enumerate(x.shape) if a != axis]
    return np.ascontiguousarray(np.moveaxis(rows.reshape(*shape, x.shape[axis]), -1, axis))


# --- compiled -----------------------------------------------------------------------------------


@reordered
def _add_differences(first, last, x, sums):
    """For every column, the sums of x - x[0] and of its square: x[0] is near enough to the mean."""
    for i in range(np.uint64(first), np.uint64(last)):
        for j in range(x.shape[1]):
            d = x[i, j] - x[0, j]
            sums[0, j] += d
            sums[1, j] += d * d


@task
def _moments_part(i, parts, x, sums):
    start, end = i * x.shape[0] // parts, (i + 1) * x.shape[0] // parts
    some = np.empty((2, x.shape[1]), x.dtype)
    for first in range(start, end, FEW):
        clear(some, 0, some.size)
        _add_differences(first, min(first + FEW, end), x, some)
        accumulate(sums, i, some)


@entry
def _moments(x, sums, moments):
    """sums (parts, 2, C): room for those of each part, 0 at first."""
    parts = sums.shape[0]
    _moments_part(parts, ALL, (parts, x, sums))
    for i in range(1, parts):
        accumulate(sums, 0, sums[i])
    for j in range(x.shape[1]):
        shift = sums[0, 0, j] / x.shape[0]
        moments[0, j] = x[0, j] + shift
        moments[1, j] = max(sums[0, 1, j] / x.shape[0] - shift * shift, 0)


@reordered
def _scale_rows(first, last, x, mean, factor, offset, low, high, y):
    for i in range(np.uint64(first), np.uint64(last)):
        for j in range(x.shape[1]):
            z = (x[i, j] - mean[j]) * factor[j] + offset[j]
            z = low if z < low else z  # in this order a NaN stays one
            y[i, j] = high if z > high else z


@task
def _scale_part(i, parts, x, mean, factor, offset, low, high, y):
    first, last = i * x.shape[0] // parts, (i + 1) * x.shape[0] // parts
    _scale_rows(first, last, x, mean, factor, offset, low, high, y)


@entry
def _normalize(parts, x, mean, variance, scale, offset, epsilon, low, high, y):
    factor = np.empty_like(scale)
    for j in range(factor.size):
        factor[j] = scale[j] / np.sqrt(variance[j] + epsilon)
    _scale_part(parts, ALL, (parts, x, mean, factor, offset, low, high, y))


@reordered
def _passing(g, y, low, high, otherwise):
    # `&`, not `and`, and g as an argument: loops with branches are not vectorised.
    return g if (y > low) & (y < high) else otherwise


@reordered
def _add_slopes(first, last, g, y, x, mean, low, high, sums):
    """For every column, the sums of g and of g (x - mean), where y is between the bounds."""
    zero = g.dtype.type(0)
    if y.shape[0]:
        for i in range(np.uint64(first), np.uint64(last)):
            for j in range(x.shape[1]):
                h = _passing(g[i, j], y[i, j], low, high, zero)
                sums[0, j] += h
                sums[1, j] += h * (x[i, j] - mean[j])
        return
    for i in range(np.uint64(first), np.uint64(last)):
        for j in range(x.shape[1]):
            sums[0, j] += g[i, j]
            sums[1, j] += g[i, j] * (x[i, j] - mean[j])


@task
def _slopes_part(i, parts, g, y, x, mean, low, high, sums):
    start, end = i * x.shape[0] // parts, (i + 1) * x.shape[0] // parts
    some = np.empty((2, x.shape[1]), x.dtype)
    for first in range(start, end, FEW):
        clear(some, 0, some.size)
        _add_slopes(first, min(first + FEW, end), g, y, x, mean, low, high, some)
        accumulate(sums, i, some)


@kernel
def _slopes(g, y, x, mean, low, high, sums):
    """The sums of `_add_slopes` over all rows, in sums[0]; sums (parts, 2, C) is 0 at first."""
    parts = sums.shape[0]
    _slopes_part(parts, ALL, (parts, g, y, x, mean, low, high, sums))
    for i in range(1, parts):
        accumulate(sums, 0, sums[i])


@reordered
def _input_rows(first, last, g, y, x, mean, factor, common, slope, low, high, dx):
    """factor (g - common - slope (x - mean)), with g only where y is between the bounds."""
    zero = g.dtype.type(0)
    if y.shape[0]:
        for i in range(np.uint64(first), np.uint64(last)):
            for j in range(x.shape[1]):
                h = _passing(g[i, j], y[i, j], low, high, zero)
                dx[i, j] = factor[j] * (h - common[j] - slope[j] * (x[i, j] - mean[j]))
        return
    for i in range(np.uint64(first), np.uint64(last)):
        for j in range(x.shape[1]):
            dx[i, j] = factor[j] * (g[i, j] - common[j] - slope[j] * (x[i, j] - mean[j]))


@task
def _input_part(i, parts, g, y, x, mean, factor, common, slope, low, high, dx):
    first, last = i * x.shape[0] // parts, (i + 1) * x.shape[0] // parts
    _input_rows(first, last, g, y, x, mean, factor, common, slope, low, high, dx)


@entry
def _gradients(
    g, y, x, mean, variance, scale, epsilon, share, low, high, sums, dx, d_scale, d_offset
):
    """Those of `factor (x - mean) + offset`, and of x, whose moments have a share of so much of
    each element's: of none where they are not x's. dx may be empty.
    """
    _slopes(g, y, x, mean, low, high, sums)
    factor, common, slope = np.empty_like(scale), np.empty_like(scale), np.empty_like(scale)
    for j in range(scale.size):
        rstd = 1 / np.sqrt(variance[j] + epsilon)
        d_offset[j] = sums[0, 0, j]
        d_scale[j] = sums[0, 1, j] * rstd
        factor[j] = scale[j] * rstd
        common[j] = d_offset[j] * share
        slope[j] = d_scale[j] * rstd * share
    if dx.size > 0:
        parts = sums.shape[0]
        _input_part(parts, ALL, (parts, g, y, x, mean, factor, common, slope, low, high, dx))


# --- the kernels --------------------------------------------------------------------------------


def batch_moments(x: Array, *, axis: int) -> Array:
    if not is_simple(x) or not x.size:
        return reference.batch_moments(x, axis=axis)
    rows = _rows(x, axis)
    moments = np.empty((2, rows.shape[1]), x.dtype)
    _moments(rows, _no_sums(rows), moments)
    return moments


def batch_normalization(
    x: Array, mean: Array, variance: Array, scale: Array, offset: Array, *,
    axis: int, epsilon: float, activation: str = "linear",
) -> Array:  # fmt: skip
    if not is_simple(x, mean, variance, scale, offset):
        return reference.batch_normalization(
            x, mean, variance, scale, offset, axis=axis, epsilon=epsilon, activation=activation
        )
    rows = _rows(x, axis)
    y, small = empty(rows.shape, x.dtype), x.dtype.type(epsilon)
    how = _bounds(x, activation)
    _normalize(parts_of(*rows.shape), rows, mean, variance, scale, offset, small, *how, y)
    return _restored(y, x, axis)


def batch_normalization_grad(
    g: Array, y: Array, x: Array, mean: Array, variance: Array, scale: Array, offset: Array, *,
    needs: Needs, axis: int, epsilon: float, activation: str = "linear",
) -> Gradients:  # fmt: skip
    if not is_simple(g, y, x, mean, variance, scale):
        return reference.batch_normalization_grad(
            g, y, x, mean, variance, scale, offset,
            needs=needs, axis=axis, epsilon=epsilon, activation=activation,
        )  # fmt: skip
    dx, d_scale, d_offset = _grads(
        g, y, x, mean, variance, scale, needs[0], axis, epsilon, activation, share=0.0
    )
    if not any(needs[1:]):
        return dx, None, None, None, None
    rstd = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    return dx, -d_offset * scale * rstd, -0.5 * d_scale * scale * rstd**2, d_scale, d_offset


def normalize_batch(
    x: Array, scale: Array, offset: Array, moments: Array, *,
    axis: int, epsilon: float, activation: str = "linear",
) -> Array:  # fmt: skip
    return batch_normalization(
        x, moments[0], moments[1], scale, offset,
        axis=axis, epsilon=epsilon, activation=activation,
    )  # fmt: skip


def normalize_batch_grad(
    g: Array, y: Array, x: Array, scale: Array, offset: Array, moments: Array, *,
    needs: Needs, axis: int, epsilon: float, activation: str = "linear",
) -> Gradients:  # fmt: skip
    if not is_simple(g, y, x, scale, moments):
        return reference.normalize_batch_grad(
            g, y, x, scale, offset, moments,
            needs=needs, axis=axis, epsilon=epsilon, activation=activation,
        )  # fmt: skip
    share = scale.size / max(x.size, 1)
    dx, d_scale, d_offset = _grads(
        g, y, x, moments[0], moments[1], scale, needs[0], axis, epsilon, activation, share
    )
    return dx, d_scale, d_offset, None


def _grads(
    g: Array, y: Array, x: Array, mean: Array, variance: Array, scale: Array, wants_dx: bool,
    axis: int, epsilon: float, activation: str, share: float,
) -> tuple[Array | None, Array, Array]:  # fmt: skip
    """`(dx, d_scale, d_offset)`; see `_gradients`."""
    number = x.dtype.type
    g_rows, rows = _rows(g, axis), _rows(x, axis)
    y_rows = rows[:0] if activation == "linear" else _rows(y, axis)  # empty where all of g passes
    dx = empty(rows.shape if wants_dx else (0, rows.shape[1]), x.dtype)
    d_scale, d_offset = np.empty_like(scale), np.empty_like(scale)
    _gradients(
        g_rows, y_rows, rows, mean, variance, scale, number(epsilon), number(share),
        *_bounds(x, activation), _no_sums(rows), dx, d_scale, d_offset,
    )  # fmt: skip
    return _restored(dx, x, axis) if wants_dx else None, d_scale, d_offset


def _bounds(x: Array, activation: str) -> tuple:
    low, high = reference.BOUNDS[activation]
    return x.dtype.type(low), x.dtype.type(high)


def _no_sums(rows: Array) -> Array:
    return np.zeros((parts_of(*rows.shape), 2, rows.shape[1]))
