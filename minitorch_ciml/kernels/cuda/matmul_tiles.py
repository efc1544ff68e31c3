"""Matrix products in float32 and float64, on the GPU's ordinary cores.

`tiles.py` says how a block computes a tile; here is which tile, and where its numbers are.

What limits it: each element of a 128 x 128 tile costs 2 k operations, and the tile 256 k numbers of
global memory, that is 32 operations for each byte of float32. GPUs do 12 to 20 operations in the
time of a byte, so large products are bound by arithmetic; those with a side below about 50 are
bound by memory.
"""

from __future__ import annotations

import math

from numba import cuda, float32, float64, int32

from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.shared_memory import smem_addr
from minitorch_ciml.kernels.cuda.tiles import (
    LARGE,
    MEDIUM,
    SMALL,
    WIDE_NUMBERS,
    Side,
    Tile,
    fetch_of,
    finish_of,
    multiply_of,
    put_of,
    write_of,
)
from minitorch_ciml.kernels.cuda.windows import divided

_BAND = 8  # tiles below each other that run at the same time, to share columns in the cache


@cuda.jit(device=True, forceinline=True)
def tile_of(number, down, across):
    """The row and column of tiles for a block: bands of tiles, each from left to right."""
    band, within = divided(number, i32(_BAND * across))
    first = i32(band * _BAND)
    column, row = divided(within, i32(min(_BAND, down - first)))
    return i32(first + row), column


@cuda.jit(device=True, forceinline=True)
def batch_start(number, inner, outer_step, inner_step):
    """Where a factor's matrix for this result begins: batches broadcast, in two dimensions."""
    outer, rest = divided(number, inner)
    return i32(outer * outer_step + rest * inner_step)


@cuda.jit(device=True, forceinline=True)
def start_of_row(matrix, row):
    """Where a row of a matrix begins; -1 if it has fewer. `matrix`: its start and two sizes."""
    start, m, n = matrix
    return i32(start + row * n) if row < m else int32(-1)


def _product(tile: Tile, code: str, transpose_a: bool, transpose_b: bool) -> Kernel:
    """y = a b for batches of matrices, or shares of the sum over k; with bias and ReLU if wanted.

    Block (x, y, z) computes tile x of share y of the product number `batch` + z.
    """
    dtype = {"f4": float32, "f8": float64}[code]
    left, right = Side(tile, tile.rows, not transpose_a), Side(tile, tile.columns, transpose_b)
    fetch_a, fetch_b = fetch_of(left, dtype), fetch_of(right, dtype)
    put_a, put_b = put_of(left, dtype), put_of(right, dtype)
    multiply, finish, write = (
        multiply_of(tile, dtype), finish_of(tile, dtype), write_of(tile, start_of_row),
    )  # fmt: skip
    rows, columns, slice_, part, across = (
        tile.rows, tile.columns, tile.slice, tile.part, tile.across,
    )  # fmt: skip
    a_held, b_held, a_room, b_room = left.held, right.held, 2 * left.numbers, 2 * right.numbers
    size = dtype.bitwidth // 8
    a_bytes, b_bytes = size * left.numbers, size * right.numbers
    kind = "nt"[transpose_a] + "nt"[transpose_b]

    @kernel(
        "T* T* T* T*" + " i4" * 15, T=(code,), threads=tile.threads, blocks=tile.resident,
        name=f"matmul_tiles.product_{code}_{tile.name}_{kind}",
    )  # fmt: skip
    def product(
        y, a, b, bias, m, n, k, share, batch, inner, a_outer, a_inner, b_outer, b_inner,
        a_by_fours, b_by_fours, y_by_fours, has_bias, is_relu,
    ):  # fmt: skip
        a_shared = cuda.shared.array(a_room, dtype, alignment=16)
        b_shared = cuda.shared.array(b_room, dtype, alignment=16)
        total = cuda.local.array(part, dtype)
        a_loaded = cuda.local.array(a_held, dtype)
        b_loaded = cuda.local.array(b_held, dtype)
        for i in range(part):
            total[i] = dtype(0)
        thread = i32(cuda.threadIdx.x)
        number = i32(batch + cuda.blockIdx.z)
        row, column = tile_of(
            i32(cuda.blockIdx.x), i32((m + rows - 1) // rows), i32((n + columns - 1) // columns)
        )
        row, column = i32(row * rows), i32(column * columns)
        a_start = batch_start(number, inner, a_outer, a_inner)
        b_start = batch_start(number, inner, b_outer, b_inner)
        a_pitch = m if transpose_a else k
        b_pitch = k if transpose_b else n
        first = i32(cuda.blockIdx.y * share)
        end = i32(min(k, first + share))

        own_row, own_column = i32(thread // across * 4), i32(thread % across * 4)
        a_base, b_base = smem_addr(a_shared), smem_addr(b_shared)
        a_own, b_own = i32(a_base + own_row * size), i32(b_base + own_column * size)
        slices = i32((end - first + slice_ - 1) // slice_)
        for s in range(slices + 1):
            if s < slices:
                at = i32(first + s * slice_)
                fetch_a(a_loaded, a, a_start, row, m, at, end, a_pitch, a_by_fours, thread)
                fetch_b(b_loaded, b, b_start, column, n, at, end, b_pitch, b_by_fours, thread)
            if s > 0:
                turn = i32((s - 1) & 1)
                multiply(total, i32(a_own + turn * a_bytes), i32(b_own + turn * b_bytes))
            if s < slices:
                turn = i32(s & 1)
                put_a(i32(a_base + turn * a_bytes), a_loaded, thread)
                put_b(i32(b_base + turn * b_bytes), b_loaded, thread)
                cuda.syncthreads()

        own_row, own_column = i32(row + own_row), i32(column + own_column)
        more = i32(n - own_column)
        lowest = dtype(0 if is_relu else -math.inf)
        finish(total, bias, own_column, more if has_bias else int32(0), y_by_fours, lowest)
        y_start = i32((number * cuda.gridDim.y + cuda.blockIdx.y) * m * n)
        write(y, total, (y_start, m, n), own_row, own_column, more, y_by_fours)

    return product


TILES = {"f4": (LARGE, MEDIUM, SMALL), "f8": (WIDE_NUMBERS, SMALL)}
PRODUCT = {
    (code, tile, transpose_a, transpose_b): _product(tile, code, transpose_a, transpose_b)
    for code, tiles in TILES.items()
    for tile in tiles
    for transpose_a in (False, True)
    for transpose_b in (False, True)
}
