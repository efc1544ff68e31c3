"""Tiles on the GPU's ordinary cores: what matrix products and convolutions have in common.

A block of threads computes a tile of the result, going along the summed index k in slices. Slices
of both factors are brought into shared memory with k first, however they lie in global memory:
what is contiguous there is read in fours by neighbouring threads. A thread holds a part of the
tile in registers, 8 x 8 numbers of the large tile, and for every k multiplies 8 numbers with 8
others: 64 multiply-adds for 16 numbers read from shared memory.

While a slice is multiplied the next one is on its way, in registers. There are two places in shared
memory, so threads wait for each other once per slice:

    for s in range(slices + 1):
        if s < slices:    fetch slice s into registers
        if s > 0:         multiply slice s - 1
        if s < slices:    put slice s into shared memory; wait for all threads

A kernel can only use numbers, arrays and functions from around it, so what follows are functions
that make functions for a tile. They make each but once: kernels that share it compile it once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from numba import cuda, float32

from minitorch_ciml.kernels.cuda.intrinsics import i32, load4, store4
from minitorch_ciml.kernels.cuda.shared_memory import lds4, lds4_f8, sts, sts4, sts4_f8, sts_f8

_PAD = 4  # numbers more in a line of shared memory, so that writing threads do not meet in a bank


@dataclass(frozen=True)
class Tile:
    """A block's share of the result, and each of its threads'.

    A thread's part is in groups of four rows and columns, `row_part` and `column_part` apart: so
    the threads of a warp read neighbouring numbers.

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
    def across(self) -> int:
        """Threads side by side."""
        return self.columns // self.wide

    @property
    def part(self) -> int:
        """Numbers that a thread computes."""
        return self.tall * self.wide

    @property
    def row_part(self) -> int:
        return 4 * self.rows // self.tall

    @property
    def column_part(self) -> int:
        return 4 * self.columns // self.wide

    @property
    def name(self) -> str:
        return f"{self.rows}x{self.columns}"


LARGE = Tile(128, 128, 8, 8, slice=16, speed=1.0)
SHORT = Tile(128, 128, 8, 8, slice=8, speed=1.0)  # for convolution, which needs more registers
MEDIUM = Tile(64, 64, 8, 4, slice=8, speed=0.85)
WIDE_NUMBERS = Tile(64, 64, 4, 4, slice=8, speed=0.75)  # for float64
NARROW = Tile(128, 32, 8, 4, slice=8, speed=0.75)
SMALL = Tile(32, 32, 4, 4, slice=16, speed=0.55)


@dataclass(frozen=True)
class Side:
    """How the slices of one factor come into shared memory: `width` numbers for each k.

    Attributes:
        tile: whose slices they are.
        width: rows of the tile, or columns.
        is_along_k: whether lines of global memory go along k; else along the other index.
    """

    tile: Tile
    width: int
    is_along_k: bool

    @property
    def line(self) -> int:
        """Numbers from one k to the next in shared memory."""
        return self.width + _PAD

    @property
    def numbers(self) -> int:
        """Numbers of a slice in shared memory."""
        return self.tile.slice * self.line

    @property
    def per_line(self) -> int:
        """Threads that read a line of a slice, four numbers each."""
        return (self.tile.slice if self.is_along_k else self.width) // 4

    @property
    def loaders(self) -> int:
        """Threads that read."""
        return min(self.tile.threads, self._fours)

    @property
    def step(self) -> int:
        """Lines that are read at a time."""
        return self.loaders // self.per_line

    @property
    def loads(self) -> int:
        """How often a thread reads."""
        return max(1, self._fours // self.tile.threads)

    @property
    def held(self) -> int:
        """Numbers that a thread has then."""
        return 4 * self.loads

    @property
    def _fours(self) -> int:
        return self.width * self.tile.slice // 4


@cuda.jit(device=True, forceinline=True)
def at_least(x, lowest):
    """The larger number; NaN stays."""
    return lowest if x < lowest else x


@cache
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


@cache
def fetch_of(side: Side, dtype: Any) -> Callable:
    """Reads a thread's numbers of a slice from a matrix in global memory, which begins at `start`.

    The slice is from `k` on, and ends at `end` if that is nearer; of the other index it has the
    numbers from `first` on, of `size`.
    """
    per_line, step, loads, loaders = side.per_line, side.step, side.loads, side.loaders
    is_along_k, four = side.is_along_k, four_of(dtype)

    @cuda.jit(device=True, forceinline=True)
    def fetch(loaded, array, start, first, size, k, end, pitch, by_fours, thread):
        line_at, at = i32(thread // per_line), i32(thread % per_line * 4)
        for i in range(loads):
            # What does not depend on k is computed once, before the loop over slices.
            line = i32(line_at + i * step)
            if is_along_k:
                row = i32(first + line)
                place = i32(i32(start + row * pitch + at) + k)
                inside, count = row < size, i32(i32(end - at) - k)
            else:
                place = i32(i32(start + line * pitch + first + at) + i32(k * pitch))
                inside, count = k < i32(end - line), i32(size - first - at)
            if not (inside and thread < loaders):
                count = i32(0)
            (
                loaded[4 * i], loaded[4 * i + 1], loaded[4 * i + 2], loaded[4 * i + 3],
            ) = four(array, place, count, by_fours)  # fmt: skip

    return fetch


@cache
def put_of(side: Side, dtype: Any) -> Callable:
    """Writes what a thread has fetched to the slice at an address of shared memory."""
    per_line, step, loads, loaders = side.per_line, side.step, side.loads, side.loaders
    is_along_k, line, size = side.is_along_k, side.line, dtype.bitwidth // 8
    put1, put4 = (sts, sts4) if dtype == float32 else (sts_f8, sts4_f8)

    @cuda.jit(device=True, forceinline=True)
    def put(address, loaded, thread):
        line_at, at = i32(thread // per_line), i32(thread % per_line * 4)
        if thread < loaders:
            if is_along_k:
                to = i32(address + i32((at * line + line_at) * size))
                for i in range(loads):
                    for j in range(4):
                        put1(i32(to + (j * line + i * step) * size), loaded[4 * i + j])
            else:
                to = i32(address + i32((line_at * line + at) * size))
                for i in range(loads):
                    put4(
                        i32(to + i * step * line * size),
                        loaded[4 * i], loaded[4 * i + 1], loaded[4 * i + 2], loaded[4 * i + 3],
                    )  # fmt: skip

    return put


@cache
def multiply_of(tile: Tile, dtype: Any, unrolled: int | None = None) -> Callable:
    """Adds the product of two slices in shared memory to what a thread has of the tile.

    All k of a slice, or `unrolled` ones, a power of two, are written out: the compiler would not
    unroll a loop as much. Where registers are short a loop needs fewer.
    """
    unrolled = unrolled or tile.slice
    rounds = tile.slice // unrolled
    tall, wide, part = tile.tall, tile.wide, tile.part
    size = dtype.bitwidth // 8
    a_line, b_line = (tile.rows + _PAD) * size, (tile.columns + _PAD) * size
    a_part, b_part = tile.row_part * size, tile.column_part * size
    read = lds4 if dtype == float32 else lds4_f8

    @cuda.jit(device=True, forceinline=True)
    def add_products(total, a_at, b_at):
        left = cuda.local.array(tall, dtype)
        right = cuda.local.array(wide, dtype)
        for i in range(tall // 4):
            (
                left[4 * i], left[4 * i + 1], left[4 * i + 2], left[4 * i + 3],
            ) = read(i32(a_at + i * a_part))  # fmt: skip
        for j in range(wide // 4):
            (
                right[4 * j], right[4 * j + 1], right[4 * j + 2], right[4 * j + 3],
            ) = read(i32(b_at + j * b_part))  # fmt: skip
        for o in range(part):
            total[o] += left[o // wide] * right[o % wide]

    steps, count = add_products, 1
    while count < unrolled:
        steps = _twice(steps, count * a_line, count * b_line)
        count *= 2
    if rounds == 1:
        return steps
    a_further, b_further = unrolled * a_line, unrolled * b_line

    @cuda.jit(device=True, forceinline=True)
    def multiply(total, a_at, b_at):
        for _ in range(rounds):
            steps(total, a_at, b_at)
            a_at, b_at = i32(a_at + a_further), i32(b_at + b_further)

    return multiply


def _twice(steps: Callable, a_further: int, b_further: int) -> Callable:
    """The steps at two addresses, and the same steps so many bytes further."""

    @cuda.jit(device=True, forceinline=True)
    def both(total, a_at, b_at):
        steps(total, a_at, b_at)
        steps(total, i32(a_at + a_further), i32(b_at + b_further))

    return both


def in_turn(functions: list[Callable]) -> Callable:
    """A device function that calls others with the same arguments."""
    *before, last = functions
    if not before:
        return last
    earlier = in_turn(before)

    @cuda.jit(device=True, forceinline=True)
    def both(*arguments):
        earlier(*arguments)
        last(*arguments)

    return both


@cache
def finish_of(tile: Tile, dtype: Any) -> Callable:
    """Adds the bias, from element `at` on, to a thread's part; what is below `lowest` is raised.

    `count` of its elements from `at` on are there; with 0 there is no bias.
    """
    tall, wide, column_part, four = tile.tall, tile.wide, tile.column_part, four_of(dtype)

    @cuda.jit(device=True, forceinline=True)
    def finish(total, bias, at, count, by_fours, lowest):
        for j in range(wide // 4):
            c = i32(j * column_part)
            b0, b1, b2, b3 = four(bias, i32(at + c), i32(count - c), by_fours)
            for i in range(tall):
                o = i * wide + 4 * j
                total[o] = at_least(total[o] + b0, lowest)
                total[o + 1] = at_least(total[o + 1] + b1, lowest)
                total[o + 2] = at_least(total[o + 2] + b2, lowest)
                total[o + 3] = at_least(total[o + 3] + b3, lowest)

    return finish


@cache
def write_of(tile: Tile, start_of: Callable) -> Callable:
    """Writes a thread's part of the tile: short enough to be unrolled, so it stays in registers.

    `start_of(rows, row)` is the element of y with which a row of the result begins, or -1 if there
    is none. Of `column` and those right of it, `count` are there.
    """
    tall, wide, row_part, column_part = tile.tall, tile.wide, tile.row_part, tile.column_part

    @cuda.jit(device=True, forceinline=True)
    def write(y, total, rows, row, column, count, by_fours):
        for i in range(tall):
            start = start_of(rows, i32(row + i % 4 + i // 4 * row_part))
            at = i32(start + column)
            if start >= 0:
                for j in range(wide // 4):
                    c = j * column_part
                    o = i * wide + 4 * j
                    if by_fours:
                        if c < count:
                            store4(y, at + c, total[o], total[o + 1], total[o + 2], total[o + 3])
                    else:
                        for q in range(4):
                            if c + q < count:
                                y[at + c + q] = total[o + q]

    return write
