"""Where something is: the largest element along an axis, or a value's place in a sorted line.

The search for an extreme element is a reduction (`reduce.py`) of pairs, an element and its place:
of equal elements the first one is chosen, and NaN before all others. Several blocks that share one
line leave their places to a second step. Bound by memory; the bisections by the latency of caches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, int32

from minitorch_ciml.kernels.cuda.elements import read
from minitorch_ciml.kernels.cuda.elementwise import blocks_for, cast
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, kernel, of_dtype
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty
from minitorch_ciml.kernels.cuda.reduce import (
    CHOICES,
    MOST_PARTS,
    NUMBER_TYPES,
    SHARE,
    THREADS,
    block_of,
    without,
)
from minitorch_ciml.kernels.cuda.windows import divided

# --- where the extreme element is -----------------------------------------------------------------


def _places(better: Callable, wide: Any) -> Callable:
    """`better(v, w)`: whether v is chosen before w, wherever they stand."""

    def places(
        y, x, candidates, chosen, results, whole, n, inner, width, height, chunk, parts
    ):  # fmt: skip
        values = cuda.shared.array(THREADS, wide)
        positions = cuda.shared.array(THREADS, int32)
        if inner == 1:
            column, thread = divided(cuda.threadIdx.x, height)
        else:
            thread, column = divided(cuda.threadIdx.x, width)
        result = cuda.blockIdx.x * width + column
        outer, b = divided(min(result, results - 1), inner)
        begin = cuda.blockIdx.y * chunk
        end = min(begin + chunk, n)
        first = outer * n * inner + b
        position = int32(candidates[first + begin * inner] if chosen else begin)
        value = wide(read(x, outer * whole * inner + position * inner + b))
        for i in range(begin + thread, end, height):
            q = int32(candidates[first + i * inner] if chosen else i)
            w = wide(read(x, outer * whole * inner + q * inner + b))
            if better(w, value) or (q < position and not better(value, w)):
                value, position = w, q
        place = thread * width + column
        values[place], positions[place] = value, position
        cuda.syncthreads()
        half = height // 2
        while half > 0:
            if thread < half:
                v, w = values[place], values[place + half * width]
                p, q = positions[place], positions[place + half * width]
                if better(w, v) or (q < p and not better(v, w)):
                    values[place], positions[place] = w, q
            cuda.syncthreads()
            half //= 2
        if thread == 0 and result < results:
            y[(outer * parts + cuda.blockIdx.y) * inner + b] = positions[column]

    return places


def _found_by(name: str, better: Callable) -> dict[str, Kernel]:
    made = {}
    for wide, narrow in CHOICES.items():
        build = _places(cuda.jit(device=True)(better), NUMBER_TYPES[wide])
        declare = kernel(
            "i8* T* i8*" + " i4" * 9, threads=THREADS, name=f"search.{name}.{wide}", T=narrow
        )
        made |= dict.fromkeys(narrow, declare(build))
    return made


_ARGMAX = _found_by("argmax", lambda v, w: v > w or (v != v and w == w))
_ARGMIN = _found_by("argmin", lambda v, w: v < w or (v != v and w == w))


def argmax(x: CudaArray, axis: int | None, keepdims: bool) -> CudaArray:
    return _found(_ARGMAX, x, axis, keepdims)


def argmin(x: CudaArray, axis: int | None, keepdims: bool) -> CudaArray:
    return _found(_ARGMIN, x, axis, keepdims)


def _found(kernels: dict[str, Kernel], x: CudaArray, axis: int | None, keepdims: bool) -> CudaArray:
    axes = tuple(range(x.ndim)) if axis is None else (axis % x.ndim,)
    shape = tuple([1 if i in axes else n for i, n in enumerate(x.shape)])
    flat = x.reshape(-1) if axis is None else x
    along = 0 if axis is None else axis % x.ndim
    outer, whole = math.prod(flat.shape[:along]), (flat.shape[along] if flat.ndim else 1)
    inner = math.prod(flat.shape[along + 1 :])
    y, n = empty((1,), "int64"), whole
    chosen = False
    while x.size and (n > 1 or not chosen):
        width, height = block_of(n, inner)
        chunk = max(SHARE * height, ceil_div(n, MOST_PARTS))
        parts = ceil_div(n, chunk)
        found = empty((outer, parts, inner), "int64")
        grid = (ceil_div(outer * inner, width), parts)
        sizes = (outer * inner, whole, n, inner, width, height, chunk, parts)
        of_dtype(kernels, x.dtype)(grid, width * height, found, flat, y, chosen, *sizes)
        y, n, chosen = found, parts, True
    if not x.size:
        y = empty(shape, "int64")
    return y.reshape(shape if keepdims else without(shape, axes))


# --- places in a sorted line ----------------------------------------------------------------------


@kernel("i8* T* T* i4 i4 i4", threads=THREADS, T=("f4", "f8", "i4", "i8"))
def _searchsorted(y, x, values, length, right, n):
    """By bisection; NaN comes after all numbers."""
    i = cuda.grid(1)
    if i < n:
        value = values[i]
        low, high = int32(0), int32(length)
        while low < high:
            middle = int32((low + high) // 2)
            other = x[middle]
            is_less = other < value or (value != value and other == other)
            is_equal = other == value or (value != value and other != other)
            if is_less or (right and is_equal):
                low = int32(middle + 1)
            else:
                high = middle
        y[i] = low


def searchsorted(x: CudaArray, values: CudaArray, side: str) -> CudaArray:
    dtype = np.result_type(x.dtype, values.dtype)
    x, values = cast(x, dtype), cast(values, dtype)
    y = empty(values.shape, "int64")
    if y.size:
        _searchsorted(*blocks_for(y.size), y, x, values, x.size, side == "right", y.size)
    return y
