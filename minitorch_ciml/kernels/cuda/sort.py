"""Sorting: the order of the elements along an axis, stable, of any length.

Sorted runs are merged two by two: the place of an element in the merged run is its place in its
own, plus the number of elements of the other run that come before it, which is found by bisection.
All elements are placed at the same time. A block merges the runs of up to `_CHUNK` elements in its
shared memory; longer ones are merged in global memory, with one kernel for each doubling.

Bound by the latency of the bisections, which read where others have read: from the caches.
"""

from __future__ import annotations

import math

from numba import cuda, int32

from minitorch_ciml.kernels.cuda.elements import read
from minitorch_ciml.kernels.cuda.elementwise import ALL, THREADS, blocks_for, cast
from minitorch_ciml.kernels.cuda.launch import ceil_div, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty
from minitorch_ciml.kernels.cuda.shape import Pattern, copy, swapaxes, whole
from minitorch_ciml.kernels.cuda.windows import divided

_CHUNK = 1024  # elements: 8 KiB of shared memory for their order, before and after a step
_TWO_ORDERS = 2 * _CHUNK  # numba wants a name or a number here


@cuda.jit(device=True)
def _precedes(a, b, descending):
    """Whether a comes before b, whatever their places; NaN counts as the largest."""
    if descending:
        return a > b or (a != a and b == b)
    return a < b or (b != b and a == a)


@cuda.jit(device=True)
def _place_in_merged(order, at, x, base, i, length, n, descending):
    """Where number i of the sorted runs in `order` goes when they are merged two by two.

    The runs are of n elements of x from `base` on; their order begins at `order[at]`.
    """
    first = int32(i // (2 * length) * (2 * length))
    middle = int32(min(first + length, n))
    in_left = i < middle
    value = read(x, base + order[at + i])
    begin = middle if in_left else first
    low, high = begin, int32(min(middle + length, n)) if in_left else middle
    while low < high:
        half = int32((low + high) // 2)
        other = read(x, base + order[at + half])
        # Of equal elements, those of the left run come first.
        if in_left:
            before = _precedes(other, value, descending)
        else:
            before = not _precedes(value, other, descending)
        if before:
            low = int32(half + 1)
        else:
            high = half
    return first + (i - first if in_left else i - middle) + (low - begin)


@kernel("i4* T* i4 i4", threads=THREADS, T=ALL)
def _sort_chunks(order, x, n, descending):
    """The order of each chunk of a row, as places in the row."""
    runs = cuda.shared.array(_TWO_ORDERS, int32)
    row = cuda.blockIdx.y
    start = int32(cuda.blockIdx.x * _CHUNK)
    count = int32(min(_CHUNK, n - start))
    base = row * n + start
    for i in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        runs[i] = i
    cuda.syncthreads()
    now, length = int32(0), int32(1)
    while length < count:
        for i in range(cuda.threadIdx.x, count, cuda.blockDim.x):
            place = _place_in_merged(runs, now, x, base, i, length, count, descending)
            runs[_CHUNK - now + place] = runs[now + i]
        cuda.syncthreads()
        now = int32(_CHUNK - now)
        length *= 2
    for i in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        order[base + i] = start + runs[now + i]


@kernel("i4* i4* T* i4 i4 i4 i4", threads=THREADS, T=ALL)
def _merge(merged, order, x, n, length, descending, size):
    """Merges runs of this length in every row of n elements."""
    k = cuda.grid(1)
    if k < size:
        row, i = divided(k, n)
        base = row * n
        place = _place_in_merged(order, base, x, base, i, length, n, descending)
        merged[base + place] = order[k]


def order_of(x: CudaArray, descending: bool = False) -> CudaArray:
    """For each row of x (rows, n), the places of its elements in order, as int32."""
    rows, n = x.shape
    order = empty((rows, n), "int32")
    if x.size == 0:
        return order
    for first in range(0, rows, 65535):  # the grid's second axis takes no more
        part = slice(first, min(first + 65535, rows))
        chunks = ceil_div(n, _CHUNK)
        threads = min(THREADS, ceil_div(min(n, _CHUNK), 32) * 32)
        grid = (chunks, part.stop - part.start)
        _sort_chunks(grid, threads, order[part], x[part], n, descending)
    length = _CHUNK
    while length < n:
        merged = empty((rows, n), "int32")
        _merge(*blocks_for(x.size), merged, order, x, n, length, descending, x.size)
        order, length = merged, 2 * length
    return order


def argsort(x: CudaArray, *, axis: int) -> CudaArray:
    if x.ndim == 0:
        return cast(order_of(x.reshape(1, 1)), "int64").reshape(())
    last = axis % x.ndim == x.ndim - 1
    moved = x if last else swapaxes(x, axis1=axis, axis2=-1)
    n = moved.shape[-1]
    rows = moved.reshape(math.prod(moved.shape[:-1]), n)
    order = cast(order_of(rows), "int64").reshape(moved.shape)
    return order if last else swapaxes(order, axis1=axis, axis2=-1)


def top_indices(x: CudaArray, *, k: int) -> CudaArray:
    """Where the k largest elements along the last axis are, largest first."""
    n = x.shape[-1]
    rows = math.prod(x.shape[:-1])
    order = order_of(x.reshape(rows, n), descending=True)
    y = empty((rows, k), "int32")
    copy(y, whole(y.shape), order, Pattern(0, (n, 1)), y.shape)
    return cast(y, "int64").reshape((*x.shape[:-1], k))
