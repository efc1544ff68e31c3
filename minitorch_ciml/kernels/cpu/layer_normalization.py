"""Layer normalisation on the CPU: each array is read once, where NumPy reads it five times.

Sums over rows are kept in float64, one per column, so that a batch of a million rows loses nothing.
"""

from __future__ import annotations

import math

import numpy as np

from minitorch_ciml.kernels.cpu.arrivals import makes_first
from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import entry
from minitorch_ciml.kernels.cpu.loads import clear
from minitorch_ciml.kernels.cpu.rows import accumulate, as_rows, is_simple, parts_of, reordered
from minitorch_ciml.kernels.cpu.threads import ALL, parallel, task
from minitorch_ciml.kernels.reference import normalization as reference

Array = np.ndarray
Needs = tuple[bool, ...]
Gradients = tuple[Array | None, ...]


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


@parallel
def _layer(i, tasks, x, gamma, beta, epsilon, y, means, rstds):
    first, last = i * x.shape[0] // tasks, (i + 1) * x.shape[0] // tasks
    _normalise_rows(first, last, x, gamma, beta, epsilon, y, means, rstds)


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


FEW = 64  # rows whose sums may be in x's dtype; those of more are in float64


@task
def _layer_grad_part(i, parts, g, x, means, rstds, gamma, dx, d_weights):
    start, end = i * x.shape[0] // parts, (i + 1) * x.shape[0] // parts
    sums = np.empty((2, x.shape[1]), x.dtype)
    for first in range(start, end, FEW):
        clear(sums, 0, sums.size)
        _slopes(first, min(first + FEW, end), g, x, means, rstds, gamma, dx, sums)
        accumulate(d_weights, i, sums)


@entry
def _layer_grad(g, x, means, rstds, gamma, dx, d_weights):
    """d_weights (parts, 2, n): each part's sums for the gradients of gamma and beta, from 0 on."""
    parts = d_weights.shape[0]
    _layer_grad_part(parts, ALL, (parts, g, x, means, rstds, gamma, dx, d_weights))
    for i in range(1, parts):
        accumulate(d_weights, 0, d_weights[i])


def layer_normalization(
    x: Array, gamma: Array, beta: Array, *, epsilon: float
) -> tuple[Array, tuple[Array, Array]]:
    if not is_simple(x, gamma, beta):
        return reference.layer_normalization(x, gamma, beta, epsilon=epsilon)
    y, rows = empty(x.shape, x.dtype), as_rows(x)
    mean, rstd = (np.empty((*x.shape[:-1], 1), x.dtype) for _ in range(2))
    flat = y.reshape(rows.shape), mean.reshape(-1), rstd.reshape(-1)
    _layer(parts_of(*rows.shape), rows, gamma, beta, x.dtype.type(epsilon), *flat)
    return y, (mean, rstd)


@makes_first
def layer_normalization_grad(
    g: Array, y: Array, x: Array, gamma: Array, beta: Array, *,
    needs: Needs, saved: tuple[Array, Array], epsilon: float,
) -> Gradients:  # fmt: skip
    if not is_simple(g, x, gamma):
        return reference.layer_normalization_grad(
            g, y, x, gamma, beta, needs=needs, saved=saved, epsilon=epsilon
        )
    dx, rows = empty(x.shape, g.dtype), as_rows(x)
    d_weights = np.zeros((parts_of(*rows.shape), 2, gamma.size))
    flat = [s.reshape(-1) for s in saved]
    _layer_grad(as_rows(g), rows, *flat, gamma, dx.reshape(rows.shape), d_weights)
    return dx, *d_weights[0].astype(g.dtype)
