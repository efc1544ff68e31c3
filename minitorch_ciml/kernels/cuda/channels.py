"""Two sums for every channel in one pass: what batch normalisation needs of its input and gradient.

Bound by memory: each array is read once. A block shares out the elements of some channels among its
threads and combines what they have in a tree, as in `reduce.py`; results repeat bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import cuda

from minitorch_ciml.kernels.cuda.elementwise import FLOATS, blocks_for
from minitorch_ciml.kernels.cuda.intrinsics import like
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, code_of, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty, full
from minitorch_ciml.kernels.cuda.reduce import (
    MOST_PARTS,
    NUMBER_TYPES,
    SHARE,
    THREADS,
    block_of,
    mean,
)
from minitorch_ciml.kernels.cuda.reduce import sum as _sum
from minitorch_ciml.kernels.cuda.windows import divided

_SAMPLE = 8  # one of so many rows


def _pairs(pair: Callable, wide: Any) -> Callable:
    """Sums of both numbers of pair(x, g, centre); the centres are the channels' own."""

    def pairs(y, x, g, c, results, n, inner, width, height, chunk, parts, channels):
        firsts = cuda.shared.array(THREADS, wide)
        seconds = cuda.shared.array(THREADS, wide)
        # Neighbouring threads have neighbours in memory: of a row, or of different columns.
        if inner == 1:
            column, thread = divided(cuda.threadIdx.x, height)
        else:
            thread, column = divided(cuda.threadIdx.x, width)
        result = cuda.blockIdx.x * width + column
        outer, b = divided(min(result, results - 1), inner)
        base = outer * n * inner + b
        centre = c[divided(outer * inner + b, channels)[1]]
        i = cuda.blockIdx.y * chunk + thread
        end = min((cuda.blockIdx.y + 1) * chunk, n)
        p0 = q0 = p1 = q1 = wide(0)
        while i + height < end:
            at, then = base + i * inner, base + (i + height) * inner
            x0, g0, x1, g1 = x[at], g[at], x[then], g[then]
            p, q = pair(x0, g0, centre)
            p0, q0 = p0 + p, q0 + q
            p, q = pair(x1, g1, centre)
            p1, q1 = p1 + p, q1 + q
            i += 2 * height
        if i < end:
            p, q = pair(x[base + i * inner], g[base + i * inner], centre)
            p0, q0 = p0 + p, q0 + q
        place = thread * width + column
        firsts[place], seconds[place] = p0 + p1, q0 + q1
        cuda.syncthreads()
        half = height // 2
        while half > 0:
            if thread < half:
                firsts[place] += firsts[place + half * width]
                seconds[place] += seconds[place + half * width]
            cuda.syncthreads()
            half //= 2
        if thread == 0 and result < results:
            at = (outer * parts + cuda.blockIdx.y) * inner + b
            y[at] = firsts[column]
            y[results * parts + at] = seconds[column]

    return pairs


def _made(name: str, pair: Callable) -> dict[str, Kernel]:
    made = {}
    for code in FLOATS:
        declare = kernel(
            "T* T* T* T*" + " i4" * 8, threads=THREADS, name=f"channels.{name}.{code}", T=(code,)
        )
        made[code] = declare(_pairs(cuda.jit(device=True)(pair), NUMBER_TYPES[code]))
    return made


def _power_sums(x, g, centre):
    deviation = x - centre
    return deviation, deviation * deviation


def _gradient_sums(x, g, centre):
    return g, g * (x - centre)


_POWERS = _made("powers", _power_sums)
_GRADIENTS = _made("gradients", _gradient_sums)


def _sums(
    kernels: dict[str, Kernel], x: CudaArray, g: CudaArray, centre: CudaArray, axis: int
) -> CudaArray:
    """(2, C)."""
    channels, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    images = math.prod(x.shape[:axis])
    if inner == 1:
        outer, n, inner, where = 1, images, channels, (1,)
    else:
        outer, n, inner, where = images * channels, inner, 1, (1, 3)
    width, height = block_of(n, inner)
    chunk = max(SHARE * height, ceil_div(n, MOST_PARTS))
    parts, results = ceil_div(n, chunk), outer * inner
    y = empty((2, outer, parts, inner), x.dtype)
    kernels[code_of(x.dtype)](
        (ceil_div(results, width), parts), width * height, y, x, g, centre,
        results, n, inner, width, height, chunk, parts, channels,
    )  # fmt: skip
    if parts == 1 and results == channels:
        return y.reshape(2, channels)
    shares = (2, parts, channels) if where == (1,) else (2, images, channels, parts)
    return _sum(y.reshape(shares), where, False)


def gradient_sums(g: CudaArray, x: CudaArray, centre: CudaArray, axis: int) -> CudaArray:
    """(2, C): for every channel the sums of g and of g (x - centre)."""
    if x.size == 0:
        return full((2, x.shape[axis]), 0, x.dtype)
    return _sums(_GRADIENTS, x, g, centre, axis)


@kernel("T* T* T* T i4", threads=THREADS, T=FLOATS)
def _as_moments(y, sums, centre, n, channels):
    """From the sums of deviations and of their squares, mean and variance."""
    c = cuda.grid(1)
    if c < channels:
        shift = sums[c] / n
        variance = sums[channels + c] / n - shift * shift
        y[c] = centre[c] + shift
        y[channels + c] = variance if variance > 0 or variance != variance else like(n, 0)


def moments(x: CudaArray, axis: int) -> CudaArray:
    """(2, C): the mean and the variance of every channel.

    Mean and variance follow from the sums of deviations from some number and of their squares, in
    one pass. If that number is d away from the mean, d^2 is taken off again, so d must not be much
    larger than the standard deviation s. It is the mean of the first eighth of the rows: then
    d^2 <= 7 s^2, since two parts, of 1/8 and 7/8, with such means alone have a variance of d^2 / 7.
    """
    channels = x.shape[axis]
    if x.size == 0:
        return full((2, channels), math.nan, x.dtype)
    others = tuple([a for a in range(x.ndim) if a != axis])
    rows = x.shape[0] if axis > 0 else 1
    sample = x.rows(0, ceil_div(rows, _SAMPLE)) if axis > 0 else x
    centre = mean(sample, others, False)
    sums = _sums(_POWERS, x, x, centre, axis)
    y = empty((2, channels), x.dtype)
    n = x.dtype.type(x.size // channels)
    _as_moments(*blocks_for(channels), y, sums, centre, n, channels)
    return y
