"""Matrix products inside of a task, for many small ones on several threads.

BLAS brings its own threads to each product, which for a small one costs more than it gains. Here
every thread multiplies matrices of its own:

    pack(b, first, row_step, column_step, inner, columns, packed)
    product(a, a_rows, step, inner, packed, columns, y, y_rows)

is y[y_rows[r] + j] = sum over k < inner of a[a_rows[r] + k * step] * b[first + k * row_step +
j * column_step]: either side may be transposed, and lie anywhere in a larger array. All arrays are
flat and contiguous; addresses count elements.
"""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu.jit import kernel
from minitorch_ciml.kernels.cpu.simd import (
    REGISTERS,
    addresses,
    full,
    lanes,
    load,
    outer_fma,
    store,
    store_at,
)

# Rows of a tile; it is two vectors wide. The sums, two vectors of b and a number of a must fit.
TILE = 12 if REGISTERS == 32 else 6
VECTORS = 2 * TILE


@kernel
def packed_size(b, inner, columns):
    """Elements that `pack` writes: panels of two vectors, the last one filled up with zeros."""
    width = 2 * lanes(b)
    return (columns + width - 1) // width * width * inner


@kernel
def pack(b, first, row_step, column_step, inner, columns, packed):
    """Copies b in the order in which `product` reads it: panel by panel of two vectors' width."""
    width = 2 * lanes(b)
    to = 0
    for start in range(0, columns, width):
        count = min(width, columns - start)
        for k in range(inner):
            at = first + k * row_step + start * column_step
            if column_step == 1:
                for j in range(count):
                    packed[to + j] = b[at + j]
            else:
                for j in range(count):
                    packed[to + j] = b[at + j * column_step]
            for j in range(count, width):
                packed[to + j] = 0
            to += width


@kernel
def product(a, a_rows, step, inner, packed, columns, y, y_rows):
    """y = a b for a packed b; see the module."""
    width = 2 * lanes(y)
    count = a_rows.size
    spill = np.empty(TILE * width, y.dtype)
    for start in range(0, columns, width):
        panel = start * inner
        for r in range(0, count, TILE):
            at = addresses(a_rows, r, count - 1, TILE)
            acc = full(y, 0.0, VECTORS)
            for k in range(inner):
                acc = outer_fma(acc, a, at, k * step, load(packed, panel + k * width, 2))
            if r + TILE <= count and start + width <= columns:
                store_at(y, addresses(y_rows, r, count - 1, TILE), start, acc)
            else:
                store(spill, 0, acc)
                for t in range(min(TILE, count - r)):
                    for j in range(min(width, columns - start)):
                        y[y_rows[r + t] + start + j] = spill[t * width + j]


@kernel
def places(first, step, count):
    """first, first + step, ...: the rows of a matrix."""
    rows = np.empty(count, np.int64)
    for i in range(count):
        rows[i] = first + i * step
    return rows
