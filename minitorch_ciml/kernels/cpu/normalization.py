"""Normalisation on the CPU: each kernel reads its arrays once, where NumPy reads them five times.

Rows are samples (and places), columns are channels. Sums over rows are kept in float64, one per
column, so that a batch of a million rows loses nothing.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import entry
from minitorch_ciml.kernels.cpu.rows import parts_of, reordered
from minitorch_ciml.kernels.cpu.simd import clear
from minitorch_ciml.kernels.cpu.threads import ALL, task
from minitorch_ciml.kernels.reference import normalization as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]

compiled = partial(entry, fastmath={"reassoc", "nsz"})


def _is_simple(*arrays: Array) -> bool:
    return all(x.dtype.char in "fd" and x.dtype == arrays[0].dtype for x in arrays)


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


# --- per channel --------------------------------------------------------------------------------


@compiled
def _moments(x):
    # Sums of differences from the first row, which is near enough to the mean.
    total, squares = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for i in range(1, x.shape[0]):
        for j in range(x.shape[1]):
            d = np.float64(x[i, j]) - np.float64(x[0, j])
            total[j] += d
            squares[j] += d * d
    moments = np.empty((2, x.shape[1]), x.dtype)
    for j in range(x.shape[1]):
        shift = total[j] / x.shape[0]
        moments[0, j] = x[0, j] + shift
        moments[1, j] = max(squares[j] / x.shape[0] - shift * shift, 0)
    return moments


@compiled
def _scale(x, mean, factor, offset, y):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[i, j] = (x[i, j] - mean[j]) * factor[j] + offset[j]


def _scaled(x: Array, mean: Array, factor: Array, offset: Array) -> Array:
    y = empty(x.shape, x.dtype)
    _scale(x, mean, factor, offset, y)
    return y


@compiled
def _two_sums(g, x, mean):
    """For every column, the sums of g and of g (x - mean)."""
    plain, weighted = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            plain[j] += g[i, j]
            weighted[j] += g[i, j] * (x[i, j] - mean[j])
    return plain.astype(x.dtype), weighted.astype(x.dtype)


@compiled
def _rest(g, x, mean, factor, common, slope, dx):
    """factor (g - common - slope (x - mean))."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            dx[i, j] = factor[j] * (g[i, j] - common[j] - slope[j] * (x[i, j] - mean[j]))


def batch_moments(x: Array, *, axis: int) -> Array:
    if not _is_simple(x) or not x.size:
        return reference.batch_moments(x, axis=axis)
    return _moments(_rows(x, axis))


def batch_normalization(
    x: Array, mean: Array, variance: Array, scale: Array, offset: Array, *,
    axis: int, epsilon: float,
) -> Array:  # fmt: skip
    if not _is_simple(x, mean, variance, scale, offset):
        return reference.batch_normalization(
            x, mean, variance, scale, offset, axis=axis, epsilon=epsilon
        )
    factor = scale / np.sqrt(variance + x.dtype.type(epsilon))
    return _restored(_scaled(_rows(x, axis), mean, factor, offset), x, axis)


def batch_normalization_grad(
    g: Array, y: Array, x: Array, mean: Array, variance: Array, scale: Array, offset: Array, *,
    needs: Needs, axis: int, epsilon: float,
) -> Gradients:  # fmt: skip
    if not _is_simple(g, x, mean, variance, scale):
        return reference.batch_normalization_grad(
            g, y, x, mean, variance, scale, offset, needs=needs, axis=axis, epsilon=epsilon
        )
    rows = _rows(g, axis)
    rstd = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    dx, nothing = None, np.zeros_like(mean)
    if needs[0]:
        dx = _restored(_scaled(rows, nothing, scale * rstd, nothing), x, axis)
    if not any(needs[1:]):
        return dx, None, None, None, None
    d_offset, d_scale = _two_sums(rows, _rows(x, axis), mean)
    d_scale *= rstd
    return dx, -d_offset * scale * rstd, -0.5 * d_scale * scale * rstd**2, d_scale, d_offset


def normalize_batch(
    x: Array, scale: Array, offset: Array, moments: Array, *, axis: int, epsilon: float
) -> Array:
    mean, variance = moments
    return batch_normalization(x, mean, variance, scale, offset, axis=axis, epsilon=epsilon)


def normalize_batch_grad(
    g: Array, y: Array, x: Array, scale: Array, offset: Array, moments: Array, *,
    needs: Needs, axis: int, epsilon: float,
) -> Gradients:  # fmt: skip
    if not _is_simple(g, x, scale, moments):
        return reference.normalize_batch_grad(
            g, y, x, scale, offset, moments, needs=needs, axis=axis, epsilon=epsilon
        )
    g_rows, x_rows, mean = _rows(g, axis), _rows(x, axis), moments[0]
    rstd = 1 / np.sqrt(moments[1] + x.dtype.type(epsilon))
    d_offset, d_scale = _two_sums(g_rows, x_rows, mean)
    d_scale *= rstd
    dx = None
    if needs[0]:
        share = x.dtype.type(1 / max(len(x_rows), 1))
        common, slope = d_offset * share, d_scale * rstd * share
        dx = empty(x_rows.shape, x.dtype)
        _rest(g_rows, x_rows, mean, scale * rstd, common, slope, dx)
        dx = _restored(dx, x, axis)
    return dx, d_scale, d_offset, None


# --- per row ------------------------------------------------------------------------------------


@reordered
def _normalise_rows(first, last, x, gamma, beta, epsilon, y, means, rstds):
    n = x.dtype.type(x.shape[1])
    for i in range(np.uint64(first), np.uint64(last)):
        mean, squares = x.dtype.type(0), x.dtype.type(0)
        for j in range(x.shape[1]):
            mean += x[i, j]
        mean /= n
        for j in range(x.shape[1]):
            squares += (x[i, j] - mean) * (x[i, j] - mean)
        rstd = x.dtype.type(1 / math.sqrt(squares / n + epsilon))
        for j in range(x.shape[1]):
            y[i, j] = (x[i, j] - mean) * rstd * gamma[j] + beta[j]
        means[i], rstds[i] = mean, rstd


@task
def _layer_part(i, parts, x, gamma, beta, epsilon, y, means, rstds):
    first, last = i * x.shape[0] // parts, (i + 1) * x.shape[0] // parts
    _normalise_rows(first, last, x, gamma, beta, epsilon, y, means, rstds)


@entry
def _layer(parts, x, gamma, beta, epsilon, y, means, rstds):
    _layer_part(parts, ALL, (parts, x, gamma, beta, epsilon, y, means, rstds))


@reordered
def _slopes(first, last, g, x, means, rstds, gamma, dx, sums):
    """dx of the rows; what they give to the gradients of gamma and beta is added to `sums`."""
    n = x.dtype.type(x.shape[1])
    for i in range(np.uint64(first), np.uint64(last)):
        mean, rstd = means[i], rstds[i]
        plain, weighted = x.dtype.type(0), x.dtype.type(0)
        for j in range(x.shape[1]):
            z, dz = (x[i, j] - mean) * rstd, g[i, j] * gamma[j]
            plain += dz
            weighted += dz * z
            sums[0, j] += g[i, j] * z
            sums[1, j] += g[i, j]
        plain /= n
        weighted /= n
        for j in range(x.shape[1]):
            z = (x[i, j] - mean) * rstd
            dx[i, j] = rstd * (g[i, j] * gamma[j] - plain - z * weighted)


@reordered
def _add(a, i, b):
    """a[i] += b, of matrices."""
    for k in range(b.shape[0]):
        for j in range(b.shape[1]):
            a[i, k, j] += b[k, j]


FEW = 64  # rows whose sums may be in x's dtype; those of more are in float64


@task
def _layer_grad_part(i, parts, g, x, means, rstds, gamma, dx, d_weights):
    start, end = i * x.shape[0] // parts, (i + 1) * x.shape[0] // parts
    sums = np.empty((2, x.shape[1]), x.dtype)
    for first in range(start, end, FEW):
        clear(sums, 0, sums.size)
        _slopes(first, min(first + FEW, end), g, x, means, rstds, gamma, dx, sums)
        _add(d_weights, i, sums)


@entry
def _layer_grad(g, x, means, rstds, gamma, dx, d_weights):
    """d_weights (parts, 2, n): each part's sums for the gradients of gamma and beta, from 0 on."""
    parts = d_weights.shape[0]
    _layer_grad_part(parts, ALL, (parts, g, x, means, rstds, gamma, dx, d_weights))
    for i in range(1, parts):
        _add(d_weights, 0, d_weights[i])


def layer_normalization(
    x: Array, gamma: Array, beta: Array, *, epsilon: float
) -> tuple[Array, tuple[Array, Array]]:
    if not _is_simple(x, gamma, beta):
        return reference.layer_normalization(x, gamma, beta, epsilon=epsilon)
    y, rows = empty(x.shape, x.dtype), _rows(x, x.ndim - 1)
    mean, rstd = (np.empty((*x.shape[:-1], 1), x.dtype) for _ in range(2))
    flat = y.reshape(rows.shape), mean.reshape(-1), rstd.reshape(-1)
    _layer(parts_of(*rows.shape), rows, gamma, beta, x.dtype.type(epsilon), *flat)
    return y, (mean, rstd)


def layer_normalization_grad(
    g: Array, y: Array, x: Array, gamma: Array, beta: Array, *,
    needs: Needs, saved: tuple[Array, Array], epsilon: float,
) -> Gradients:  # fmt: skip
    if not _is_simple(g, x, gamma):
        return reference.layer_normalization_grad(
            g, y, x, gamma, beta, needs=needs, saved=saved, epsilon=epsilon
        )
    dx, rows = empty(x.shape, g.dtype), _rows(x, x.ndim - 1)
    d_weights = np.zeros((parts_of(*rows.shape), 2, gamma.size))
    flat = [s.reshape(-1) for s in saved]
    _layer_grad(_rows(g, g.ndim - 1), rows, *flat, gamma, dx.reshape(rows.shape), d_weights)
    return dx, *d_weights[0].astype(g.dtype)
