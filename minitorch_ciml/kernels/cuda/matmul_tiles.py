"""Matrix products in float32 and float64, on the GPU's ordinary cores.

A block of threads computes a tile of the result, going along the summed index k in slices. Slices
of both factors are brought into shared memory with k first, however they lie in global memory:
what is contiguous there is read in fours by neighbouring threads. A thread holds a part of the
tile in registers, 8 x 8 numbers of the large tile, and for every k multiplies 8 numbers with 8
others: 64 multiply-adds for 16 numbers read from shared memory.

What limits it: each element of a 128 x 128 tile costs 2 k operations, and the tile 256 k numbers of
global memory, that is 32 operations for each byte of float32. GPUs do 12 to 20 operations in the
time of a byte, so large products are bound by arithmetic; those with a side below about 50 are
bound by memory.

While a slice is multiplied the next one is on its way, in registers. There are two places in shared
memory, so threads wait for each other once per slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba import cuda, float32, float64, int32

from minitorch_ciml.kernels.cuda.intrinsics import (
    i32,
    lds4,
    lds4_f8,
    load4,
    smem_addr,
    store4,
)
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel

UNROLLED = 2  # steps along k whose numbers the compiler may read ahead
_PAD = 4  # numbers more in a line of shared memory, so that writing threads do not meet in a bank
_BAND = 8  # tiles below each other that run at the same time, to share columns in the cache


@dataclass(frozen=True)
class Tile:
    """A block's share of the result, and each of its threads'.

    Attributes:
        rows, columns: of the tile.
        tall, wide: rows and columns of a thread's part; multiples of 4.
        slice: how many k at a time.
        speed: of its inner loop, compared with the large tile's, by instructions.
    """

    rows: int
    columns: int
    tall: int
    wide: int
    slice: int
    speed: float

    @property
    def threads(self) -> int:
        return (self.rows // self.tall) * (self.columns // self.wide)

    @property
    def resident(self) -> int:
        """Blocks of it that a multiprocessor needs to be busy."""
        return 512 // self.threads

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}"


LARGE = Tile(128, 128, 8, 8, slice=8, speed=1.0)
MEDIUM = Tile(64, 64, 8, 4, slice=8, speed=0.75)
SMALL = Tile(32, 32, 4, 4, slice=16, speed=0.55)


# --- places ---------------------------------------------------------------------------------------


@cuda.jit(device=True, forceinline=True)
def tile_of(number, down, across):
    """The row and column of tiles for a block: bands of tiles, each from left to right."""
    band = i32(number // (_BAND * across))
    first = i32(band * _BAND)
    height = i32(min(_BAND, down - first))
    within = i32(number - band * _BAND * across)
    return i32(first + within % height), i32(within // height)


@cuda.jit(device=True, forceinline=True)
def batch_start(number, inner, outer_step, inner_step):
    """Where a factor's matrix for this result begins: batches broadcast, in two dimensions."""
    outer = i32(number // inner)
    return i32(outer * outer_step + (number - outer * inner) * inner_step)


@cuda.jit(device=True, forceinline=True)
def at_least(x, lowest):
    """The larger number; NaN stays."""
    return lowest if x < lowest else x


def four_of(dtype: Any) -> Callable:
    """Reads four elements from `at`; zeros from the `count`-th on."""

    @cuda.jit(device=True, forceinline=True)
    def four(array, at, count, by_fours):
        a = b = c = d = dtype(0)
        if count > 0:
            if by_fours:  # then all are there, and aligned
                a, b, c, d = load4(array, at)
            else:
                a = array[at]
                if count > 1:
                    b = array[at + 1]
                if count > 2:
                    c = array[at + 2]
                if count > 3:
                    d = array[at + 3]
        return a, b, c, d

    return four


def _side(width: int, slice_: int, threads: int, is_along_k: bool, dtype: Any) -> tuple:
    """How a factor's slice, `width` x k, comes into shared memory.

    `fetch` reads a thread's numbers from a matrix whose lines are k (`is_along_k`) or the other
    index, `put` writes them. Threads load fours that lie side by side.
    """
    line = width + _PAD
    per_line = (slice_ if is_along_k else width) // 4
    fours = width * slice_ // 4
    loads = max(1, fours // threads)
    loaders = min(threads, fours)
    step = loaders // per_line  # lines that are read at a time
    four = four_of(dtype)

    @cuda.jit(device=True, forceinline=True)
    def fetch(loaded, array, start, first, size, k, end, pitch, by_fours, thread):
        line_at, at = i32(thread // per_line), i32(thread % per_line * 4)
        for i in range(loads):
            if is_along_k:
                row, place = i32(first + line_at + i * step), i32(k + at)
                inside, count = row < size, i32(end - place)
            else:
                row, place = i32(k + line_at + i * step), i32(first + at)
                inside, count = row < end, i32(size - place)
            if not (inside and thread < loaders):
                count = int32(0)
            (
                loaded[4 * i], loaded[4 * i + 1], loaded[4 * i + 2], loaded[4 * i + 3],
            ) = four(array, i32(start + row * pitch + place), count, by_fours)  # fmt: skip

    @cuda.jit(device=True, forceinline=True)
    def put(shared, base, loaded, thread):
        line_at, at = i32(thread // per_line), i32(thread % per_line * 4)
        if thread < loaders:
            for i in range(loads):
                if is_along_k:
                    to = i32(base + at * line + line_at + i * step)
                    for j in range(4):
                        shared[to + j * line] = loaded[4 * i + j]
                else:
                    to = i32(base + (line_at + i * step) * line + at)
                    store4(
                        shared, to,
                        loaded[4 * i], loaded[4 * i + 1], loaded[4 * i + 2], loaded[4 * i + 3],
                    )  # fmt: skip

    return fetch, put, 4 * loads, line


def _multiply(tile: Tile, dtype: Any) -> Callable:
    """Adds the product of two slices in shared memory to what a thread has of the tile."""
    tall, wide = tile.tall, tile.wide
    size = dtype.bitwidth // 8
    a_line, b_line = (tile.rows + _PAD) * size, (tile.columns + _PAD) * size
    a_part, b_part = 4 * tile.rows // tall * size, 4 * tile.columns // wide * size
    rounds = tile.slice // UNROLLED
    read = lds4 if dtype == float32 else lds4_f8

    @cuda.jit(device=True, forceinline=True)
    def multiply(total, left, right, a_at, b_at):
        for _ in range(rounds):
            for u in range(UNROLLED):
                for i in range(tall // 4):
                    (
                        left[4 * i], left[4 * i + 1], left[4 * i + 2], left[4 * i + 3],
                    ) = read(a_at + i32(u * a_line + i * a_part))  # fmt: skip
                for j in range(wide // 4):
                    (
                        right[4 * j], right[4 * j + 1], right[4 * j + 2], right[4 * j + 3],
                    ) = read(b_at + i32(u * b_line + j * b_part))  # fmt: skip
                for i in range(tall):
                    for j in range(wide):
                        total[i * wide + j] += left[i] * right[j]
            a_at = i32(a_at + UNROLLED * a_line)
            b_at = i32(b_at + UNROLLED * b_line)

    return multiply


def _put_part(tile: Tile) -> Callable:
    """Writes a thread's part of the tile: short enough to be unrolled, so it stays in registers."""
    tall, wide = tile.tall, tile.wide
    row_part, column_part = 4 * tile.rows // tall, 4 * tile.columns // wide

    @cuda.jit(device=True, forceinline=True)
    def put_part(y, total, start, row, column, m, n, by_fours):
        for i in range(tall):
            r = i32(row + i % 4 + i // 4 * row_part)
            at = i32(start + r * n)
            if r < m:
                for j in range(wide // 4):
                    c = i32(column + j * column_part)
                    o = i * wide + 4 * j
                    if by_fours:
                        if c < n:
                            store4(y, at + c, total[o], total[o + 1], total[o + 2], total[o + 3])
                    else:
                        for q in range(4):
                            if c + q < n:
                                y[at + c + q] = total[o + q]

    return put_part


# --- the kernel -----------------------------------------------------------------------------------


def _product(tile: Tile, code: str, transpose_a: bool, transpose_b: bool) -> Kernel:
    """y = a b for batches of matrices, or shares of the sum over k; with bias and ReLU if wanted.

    Block (x, y, z) computes tile x of share y of the product number `batch` + z.
    """
    dtype = {"f4": float32, "f8": float64}[code]
    rows, columns, tall, wide, slice_ = tile.rows, tile.columns, tile.tall, tile.wide, tile.slice
    across = columns // wide  # threads side by side
    fetch_a, put_a, held_a, a_line = _side(rows, slice_, tile.threads, not transpose_a, dtype)
    fetch_b, put_b, held_b, b_line = _side(columns, slice_, tile.threads, transpose_b, dtype)
    multiply, put_part, four = _multiply(tile, dtype), _put_part(tile), four_of(dtype)
    a_slice, b_slice, part = slice_ * a_line, slice_ * b_line, tall * wide
    a_room, b_room = 2 * a_slice, 2 * b_slice
    size = dtype.bitwidth // 8
    # A thread's part is in groups of four rows and columns, this far apart: so the threads of a
    # warp read neighbouring numbers.
    column_part = 4 * columns // wide
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
        left = cuda.local.array(tall, dtype)
        right = cuda.local.array(wide, dtype)
        a_loaded = cuda.local.array(held_a, dtype)
        b_loaded = cuda.local.array(held_b, dtype)
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
        slices = i32((end - first + slice_ - 1) // slice_)
        for s in range(slices + 1):
            if s < slices:
                at = i32(first + s * slice_)
                fetch_a(a_loaded, a, a_start, row, m, at, end, a_pitch, a_by_fours, thread)
                fetch_b(b_loaded, b, b_start, column, n, at, end, b_pitch, b_by_fours, thread)
            if s > 0:
                turn = i32((s - 1) & 1)
                a_at = i32(a_base + (turn * a_slice + own_row) * size)
                b_at = i32(b_base + (turn * b_slice + own_column) * size)
                multiply(total, left, right, a_at, b_at)
            if s < slices:
                turn = i32(s & 1)
                put_a(a_shared, i32(turn * a_slice), a_loaded, thread)
                put_b(b_shared, i32(turn * b_slice), b_loaded, thread)
                cuda.syncthreads()

        lowest = dtype(0 if is_relu else -math.inf)
        y_start = i32((number * cuda.gridDim.y + cuda.blockIdx.y) * m * n)
        for j in range(wide // 4):
            c = i32(column + own_column + j * column_part)
            b0, b1, b2, b3 = four(bias, c, i32(n - c) if has_bias else int32(0), y_by_fours)
            for i in range(tall):
                o = i * wide + 4 * j
                total[o] = at_least(total[o] + b0, lowest)
                total[o + 1] = at_least(total[o + 1] + b1, lowest)
                total[o + 2] = at_least(total[o + 2] + b2, lowest)
                total[o + 3] = at_least(total[o + 3] + b3, lowest)
        own_row, own_column = i32(row + own_row), i32(column + own_column)
        put_part(y, total, y_start, own_row, own_column, m, n, y_by_fours)

    return product


TILES = {"f4": (LARGE, MEDIUM, SMALL), "f8": (MEDIUM, SMALL)}
PRODUCT = {
    (code, tile, transpose_a, transpose_b): _product(tile, code, transpose_a, transpose_b)
    for code, tiles in TILES.items()
    for tile in tiles
    for transpose_a in (False, True)
    for transpose_b in (False, True)
}
