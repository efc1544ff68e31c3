"""Normalisation, bound by memory. What each kernel means is in `reference/normalization.py`.

Per channel: the moments, and the sums that the gradients need, are computed in one pass each
(`channels.py`); then one kernel computes a few numbers for every channel, and another one with them
the result. Per row (layer normalisation) everything happens in one kernel along rows (`groups.py`);
what the weights' gradients need is one number per element, written once and summed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import cuda

from minitorch_ciml.kernels.cuda import functions
from minitorch_ciml.kernels.cuda.channels import gradient_sums, moments
from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.elementwise import FLOATS, THREADS, Elementwise, blocks_for, cast
from minitorch_ciml.kernels.cuda.groups import Group, Rowwise, first_of, wide_type
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty
from minitorch_ciml.kernels.cuda.reduce import sum as _sum
from minitorch_ciml.kernels.cuda.windows import divided

Needs = tuple[bool, ...]
Gradients = tuple[CudaArray | None, ...]

# --- per channel ----------------------------------------------------------------------------------


@kernel("T* T* T* T i4", threads=THREADS, T=FLOATS)
def _factors(y, scale, variance, epsilon, channels):
    c = cuda.grid(1)
    if c < channels:
        y[c] = scale[c] / math.sqrt(variance[c] + epsilon)


_normalized = Elementwise(
    "normalization.normalized",
    (lambda mean, factor, offset, x: (x - mean) * factor + offset, "T T T T", "T", FLOATS),
)


def batch_moments(x: CudaArray, *, axis: int) -> CudaArray:
    """(2, C): the mean and the variance of every channel."""
    return cast(moments(*_singles(x), axis), x.dtype)


def batch_normalization(
    x: CudaArray, mean: CudaArray, variance: CudaArray, scale: CudaArray, offset: CudaArray, *,
    axis: int, epsilon: float, activation: str = "linear",
) -> CudaArray:  # fmt: skip
    """y = activation(scale (x - mean) / sqrt(variance + epsilon) + offset)."""
    dtype = x.dtype
    x, mean, variance, scale, offset = _singles(x, mean, variance, scale, offset)
    factor, channels = empty(scale.shape, x.dtype), scale.size
    if channels:
        _factors(*blocks_for(channels), factor, scale, variance, _number(x, epsilon), channels)
    along = [-1 if a == axis else 1 for a in range(x.ndim)]
    vectors = [v.reshape(along) for v in (mean, factor, offset)]
    return cast(_activated(_normalized(*vectors, x), activation), dtype)


def _activated(z: CudaArray, activation: str) -> CudaArray:
    if activation == "relu6":
        return functions.clipped_relu(z, max_value=6.0)
    return functions.relu(z) if activation == "relu" else z


def _passed(g: CudaArray, y: CudaArray, activation: str) -> CudaArray:
    """The gradient before the activation."""
    if activation == "relu6":
        return functions.clipped_relu_grad(g, y, y, needs=(True,), max_value=6.0)[0]  # type: ignore
    return functions.relu_grad(g, y, y, needs=(True,))[0] if activation == "relu" else g  # type: ignore


def _singles(*arrays: CudaArray) -> list[CudaArray]:
    """16-bit floats as 32-bit ones: statistics and weights are kept so, too."""
    return [cast(x, "float32") if x.dtype.itemsize == 2 else x for x in arrays]


def _number(x: CudaArray, value: float) -> Any:
    return x.dtype.type(value)


@kernel("T* T* T* T* T* T* T* T T i4 i4", threads=THREADS, T=FLOATS)
def _channel_slopes(
    v, d_scale, d_offset, products, mean, variance, scale, epsilon, n, own, channels
):
    """For each channel the numbers of `_normalized_grad`, and d_scale.

    `products` are the sums of g (x - mean). With `own`, the moments are those of x itself, and
    what g has in common with 1 and with x does not arrive.
    """
    c = cuda.grid(1)
    if c < channels:
        rstd = like(n, 1) / math.sqrt(variance[c] + epsilon)
        slope = products[c] * rstd
        factor = scale[c] * rstd
        d_scale[c] = slope
        v[c] = mean[c]
        v[channels + c] = factor
        v[2 * channels + c] = -factor * rstd * slope / n if own else like(n, 0)
        v[3 * channels + c] = -factor * d_offset[c] / n if own else like(n, 0)


@kernel("T* T* T* T* i4 i4 i4", threads=THREADS, T=FLOATS)
def _normalized_grad(dx, g, x, v, inner, channels, n):
    """dx = g v_1 + (x - v_0) v_2 + v_3, with numbers v_0 to v_3 for every channel."""
    i = cuda.grid(1)
    if i < n:
        line, _ = divided(i, inner)
        _, c = divided(line, channels)
        dx[i] = g[i] * v[channels + c] + (x[i] - v[c]) * v[2 * channels + c] + v[3 * channels + c]


def _gradients(
    g: CudaArray, x: CudaArray, mean: CudaArray, variance: CudaArray, scale: CudaArray,
    axis: int, epsilon: float, own: bool,
) -> tuple[CudaArray, CudaArray, CudaArray, CudaArray]:  # fmt: skip
    """(dx, d_scale, d_offset, factor)."""
    channels = scale.size
    n = max(x.size // max(channels, 1), 1)
    sums = gradient_sums(g, x, mean, axis)
    d_offset, products = _apart(sums)
    v, d_scale = empty((4, channels), x.dtype), empty((channels,), x.dtype)
    dx = empty(x.shape, x.dtype)
    if channels:
        _channel_slopes(
            *blocks_for(channels), v, d_scale, d_offset, products, mean, variance, scale,
            _number(x, epsilon), _number(x, n), own, channels,
        )  # fmt: skip
    if x.size:
        inner = math.prod(x.shape[axis + 1 :])
        _normalized_grad(*blocks_for(x.size), dx, g, x, v, inner, channels, x.size)
    return dx, d_scale, d_offset, v.rows(1, 2).reshape(channels)


_mean_slope = Elementwise(
    "normalization.mean_slope", (lambda factor, d_offset: -factor * d_offset, "T T", "T", FLOATS)
)
_variance_slope = Elementwise(
    "normalization.variance_slope",
    (
        # -(1/2) d_scale scale rstd^2, with scale rstd = factor
        lambda factor, scale, d_scale: (
            -like(factor, 0.5) * d_scale * (factor * factor / scale if scale != 0 else scale)
        ),
        "T T T",
        "T",
        FLOATS,
    ),
)


def batch_normalization_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, mean: CudaArray, variance: CudaArray,
    scale: CudaArray, offset: CudaArray, *,
    needs: Needs, axis: int, epsilon: float, activation: str = "linear",
) -> Gradients:  # fmt: skip
    dtype, g = x.dtype, _passed(g, y, activation)
    g, x, mean, variance, scale = _singles(g, x, mean, variance, scale)
    dx, d_scale, d_offset, factor = _gradients(g, x, mean, variance, scale, axis, epsilon, False)
    d_mean = _mean_slope(factor, d_offset)
    d_variance = _variance_slope(factor, scale, d_scale)
    return tuple([cast(d, dtype) for d in (dx, d_mean, d_variance, d_scale, d_offset)])


def normalize_batch(
    x: CudaArray, scale: CudaArray, offset: CudaArray, moments: CudaArray, *,
    axis: int, epsilon: float, activation: str = "linear",
) -> CudaArray:  # fmt: skip
    """`batch_normalization` with the moments of x itself: mean, variance = moments."""
    how: Any = dict(axis=axis, epsilon=epsilon, activation=activation)
    return batch_normalization(x, *_apart(moments), scale, offset, **how)


def _apart(moments: CudaArray) -> list[CudaArray]:
    return [moments.rows(i, i + 1).reshape(moments.shape[1]) for i in (0, 1)]


def normalize_batch_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, scale: CudaArray, offset: CudaArray,
    moments: CudaArray, *,
    needs: Needs, axis: int, epsilon: float, activation: str = "linear",
) -> Gradients:  # fmt: skip
    dtype, g = x.dtype, _passed(g, y, activation)
    g, x, scale, moments = _singles(g, x, scale, moments)
    mean, variance = _apart(moments)
    dx, d_scale, d_offset, _ = _gradients(g, x, mean, variance, scale, axis, epsilon, True)
    return cast(dx, dtype), cast(d_scale, dtype), cast(d_offset, dtype), None


# --- per row --------------------------------------------------------------------------------------


def _layer_kernel(group: Group) -> Callable:
    place, total = group.place, group.total

    def layer_normalization(y, means, rstds, x, gamma, beta, epsilon, rows, n, inner):
        row, thread, threads = place()
        if row < rows:
            base = first_of(row, n, inner)
            s = like(epsilon, 0)
            for i in range(thread, n, threads):
                s += read(x, base + i * inner)
            mean = total(s) / like(epsilon, n)
            s = like(epsilon, 0)
            for i in range(thread, n, threads):
                deviation = read(x, base + i * inner) - mean
                s += deviation * deviation
            rstd = like(epsilon, 1) / math.sqrt(total(s) / like(epsilon, n) + epsilon)
            for i in range(thread, n, threads):
                z = (read(x, base + i * inner) - mean) * rstd
                write(y, base + i * inner, z * read(gamma, i) + read(beta, i))
            if thread == 0:
                means[row] = mean
                rstds[row] = rstd

    return layer_normalization


def _layer_grad_kernel(group: Group) -> Callable:
    place, total = group.place, group.total

    def layer_normalization_grad(dx, gz, g, x, gamma, means, rstds, rows, n, inner):
        row, thread, threads = place()
        if row < rows:
            base = first_of(row, n, inner)
            mean, rstd = means[row], rstds[row]
            of_1, of_z = like(mean, 0), like(mean, 0)
            for i in range(thread, n, threads):
                z = (read(x, base + i * inner) - mean) * rstd
                dz = read(g, base + i * inner) * read(gamma, i)
                of_1 += dz
                of_z += dz * z
            of_1, of_z = total(of_1) / like(mean, n), total(of_z) / like(mean, n)
            for i in range(thread, n, threads):
                at = base + i * inner
                z = (read(x, at) - mean) * rstd
                own = read(g, at)
                write(dx, at, rstd * (own * read(gamma, i) - of_1 - z * of_z))
                gz[at] = own * z

    return layer_normalization_grad


_layer = Rowwise("layer_normalization", "T* W* W* T* T* T* W", _layer_kernel)
_layer_grad = Rowwise("layer_normalization_grad", "T* W* T* T* T* W* W*", _layer_grad_kernel)


def layer_normalization(
    x: CudaArray, gamma: CudaArray, beta: CudaArray, *, epsilon: float
) -> tuple[CudaArray, tuple[CudaArray, CudaArray]]:
    """y = gamma z + beta, with z = (x - mean) / sqrt(variance + epsilon); and mean, 1 / sqrt."""
    real = wide_type(x)
    y, means, rstds = empty(x.shape, x.dtype), *(empty(x.shape[:-1], real) for _ in range(2))
    _layer(x, -1, y, means, rstds, x, gamma, beta, real(epsilon))
    return y, (means, rstds)


def layer_normalization_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, gamma: CudaArray, beta: CudaArray, *,
    needs: Needs, saved: tuple[CudaArray, CudaArray], epsilon: float,
) -> Gradients:  # fmt: skip
    dx, gz = empty(x.shape, x.dtype), empty(x.shape, wide_type(x))
    _layer_grad(x, -1, dx, gz, g, x, gamma, *saved)
    others = tuple(range(x.ndim - 1))
    return dx, cast(_sum(gz, others, False), x.dtype), _sum(g, others, False)
