"""Matrix products inside of a task: many small ones on several threads, or parts of a large one.

BLAS brings its own threads to each product, which for a small one costs more than it gains. Here
every thread multiplies matrices of its own:

    pack(b, first, row_step, column_step, inner, columns, packed)
    product(a, a_rows, step, inner, packed, columns, y, y_rows, False)

is y[y_rows[r] + j] = sum over k < inner of a[a_rows[r] + k * step] * b[first + k * row_step +
j * column_step]: either side may be transposed, and lie anywhere in a larger array. All arrays are
flat and contiguous; addresses count elements.

`multiply` is made of them. Measured on a Zen 5 core, on which NumPy's OpenBLAS does not use the
long vectors, `product` does 205-245 GFLOP/s, and BLAS 105-115.
"""

from __future__ import annotations

import numpy as np

from minitorch_ciml.kernels.cpu.buffers import empty
from minitorch_ciml.kernels.cpu.jit import entry, kernel
from minitorch_ciml.kernels.cpu.simd import (
    REGISTERS,
    addresses,
    clear,
    copy,
    full,
    lanes,
    load,
    outer_fma,
    store,
    store_at,
)
from minitorch_ciml.kernels.cpu.simd import add as plus
from minitorch_ciml.kernels.cpu.threads import ALL, task

# Rows of a tile; it is two vectors wide. The sums, two vectors of b and a number of a must fit.
TILE = 12 if REGISTERS == 32 else 6
VECTORS = 2 * TILE

# A part of a large product: its share of b, packed, stays in the first cache.
ROWS, COLUMNS, DEPTH = 20 * TILE, 64, 192


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
                copy(packed, to, b, at, count)
            else:
                for j in range(count):
                    packed[to + j] = b[at + j * column_step]
            clear(packed, to + count, width - count)
            to += width


@kernel
def product(a, a_rows, step, inner, packed, columns, y, y_rows, add):
    """y = a b for a packed b, or y += a b; see the module."""
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
            if not add and r + TILE <= count and start + width <= columns:
                store_at(y, addresses(y_rows, r, count - 1, TILE), start, acc)
                continue
            store(spill, 0, acc)
            for t in range(min(TILE, count - r)):
                to, from_ = y_rows[r + t] + start, t * width
                if not add:
                    copy(y, to, spill, from_, min(width, columns - start))
                elif start + width <= columns:
                    store(y, to, plus(load(y, to, 2), load(spill, from_, 2)))
                else:
                    for j in range(columns - start):
                        y[to + j] += spill[from_ + j]


@kernel
def places(first, step, count):
    """first, first + step, ...: the rows of a matrix."""
    rows = np.empty(count, np.int64)
    for i in range(count):
        rows[i] = first + i * step
    return rows


@task
def _multiply_part(i, a, row_step, step, b, b_row_step, b_column_step, sizes, y):
    rows, inner, columns = sizes
    across = (columns + COLUMNS - 1) // COLUMNS
    row, column = i // across * ROWS, i % across * COLUMNS
    count, width = min(ROWS, rows - row), min(COLUMNS, columns - column)
    packed = np.empty(packed_size(b, min(DEPTH, inner), width), b.dtype)
    to = places(row * columns + column, columns, count)
    for k in range(0, inner, DEPTH):
        depth = min(DEPTH, inner - k)
        first = k * b_row_step + column * b_column_step
        pack(b, first, b_row_step, b_column_step, depth, width, packed)
        from_ = places(row * row_step + k * step, row_step, count)
        product(a, from_, step, depth, packed, width, y, to, k > 0)


@entry
def _multiply(parts, a, row_step, step, b, b_row_step, b_column_step, sizes, y):
    _multiply_part(parts, ALL, (a, row_step, step, b, b_row_step, b_column_step, sizes, y))


def _with_steps(x: np.ndarray) -> tuple[np.ndarray, int, int]:
    """A matrix as a flat array, and the steps to the next row and to the next column."""
    if x.T.flags.carray:
        return x.T.reshape(-1), 1, x.shape[0]
    x = x if x.flags.carray else np.array(x, order="C")
    return x.reshape(-1), x.shape[1], 1


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a b for two matrices of float32 or of float64, also transposed ones, on all threads."""
    y = empty((a.shape[0], b.shape[1]), a.dtype)
    if 0 in a.shape:
        y[...] = 0
        return y
    parts = -(-y.shape[0] // ROWS) * -(-y.shape[1] // COLUMNS)
    sizes = (a.shape[0], a.shape[1], b.shape[1])
    _multiply(parts, *_with_steps(a), *_with_steps(b), sizes, y.reshape(-1))
    return y
