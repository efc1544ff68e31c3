"""Tiles on Hopper's tensor cores, which read both factors from shared memory by themselves.

Two warp groups of a block multiply 64 rows each with all columns of the tile (`warpgroup.py`). They
go along the summed index k in slices of 128 bytes, of which several are in shared memory: one that
is multiplied, one that may still be, and those that are on their way. How a slice comes there
depends on what the instruction can do:

- 16-bit numbers lie in shared memory as their lines lie in global memory, transposed or not. Copies
  run by themselves (`cp.async`).
- float32 is multiplied as TF32, which must be rounded, and lie along k. It goes through registers:
  read in fours, rounded, where it lies the other way 4 x 4 numbers turned round, and written in
  fours. For 3xTF32 what rounding took away is written too, and multiplied as a slice of its own.

    for s in range(-AHEAD, slices):
        if s >= 0:    wait for slice s, and for all threads
                      start to multiply slice s
        start to bring slice s + AHEAD
        if s >= 0:    wait until slice s - 1 is multiplied

So while threads bring slices, tensor cores always have one to multiply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda import warpgroup
from minitorch_ciml.kernels.cuda.cores import BF16, F16, TF32, TF32X3, CoreTile, Numbers
from minitorch_ciml.kernels.cuda.intrinsics import i32, to_tf32
from minitorch_ciml.kernels.cuda.shared_memory import (
    cp_async4,
    cp_async16,
    cp_async_commit,
    cp_async_wait0,
    cp_async_wait1,
    sts4,
)
from minitorch_ciml.kernels.cuda.tiles import four_of
from minitorch_ciml.kernels.cuda.warpgroup import (
    LINE,
    Factor,
    Kind,
    fence_shared,
    start_products_of,
    wait_for_products_of,
)

HOPPER = (9, 0)  # the only capability that has the instructions
ALIGNED = 1024  # bytes that shared memory must begin at a multiple of
THREADS = 256  # two warp groups
_CHUNKS = LINE // 16
_FOUR = four_of(float32)
_KINDS: dict[Numbers, Kind] = {
    TF32: warpgroup.TF32, TF32X3: warpgroup.TF32, BF16: warpgroup.BF16, F16: warpgroup.F16,
}  # fmt: skip


@dataclass(frozen=True)
class GroupTile(CoreTile):
    """A tile for two warp groups; each warp has 16 rows of it.

    Attributes:
        speed: compared with the large tile of `cores.py`, by what bounds both.
        resident: blocks that a multiprocessor holds, of one that has registers and room for them.
    """

    resident: int = 2

    slice = LINE // 2  # k that a share is a multiple of: a slice of the smallest numbers


WIDE = GroupTile(128, 256, tall=16, wide=256, speed=1.6, resident=1)
SQUARE = GroupTile(128, 128, tall=16, wide=128, speed=1.3)
THRICE = GroupTile(128, 128, tall=16, wide=128, speed=1.4, resident=1)  # for 3xTF32


class Slices:
    """How the slices of both factors lie in shared memory.

    Attributes:
        kind: of the numbers.
        is_copied: whether they lie in shared memory as they do in memory.
        depth: k of a slice.
        left, right: how the factors lie.
        stages: slices in shared memory.
        ahead: slices that are on their way.
        parts: slices of each factor that are kept: two where what rounding took away is one.
        a_bytes, b_bytes: of a slice.
        stage: bytes of all that belongs to one.
    """

    def __init__(self, tile: GroupTile, numbers: Numbers, a_along_k: bool, b_along_k: bool):
        self.kind = _KINDS[numbers]
        self.is_copied = self.kind.size == 2
        self.depth = self.kind.depth
        along_k, across = Factor(True, 0), Factor(False, self.depth * LINE)
        self.left, self.right = (
            along_k if is_along_k or not self.is_copied else across
            for is_along_k in (a_along_k, b_along_k)
        )
        self.ahead = 2 if self.is_copied and tile.resident == 1 else 1
        self.stages = self.ahead + 2
        self.parts = 2 if numbers.is_thrice else 1
        self.a_bytes, self.b_bytes = tile.rows * LINE, tile.columns * LINE
        self.stage = self.parts * (self.a_bytes + self.b_bytes)


# --- 16-bit numbers: copies -----------------------------------------------------------------------


@cache
def copy_of(width: int, factor: Factor) -> Callable:
    """Starts the copies of a slice of `width` rows or columns; arguments as of `cores.copy_of`."""
    is_along_k, group = factor.is_along_k, factor.group
    per_line = _CHUNKS if is_along_k else width // 8
    step = THREADS // per_line  # lines that are copied at a time: a multiple of 8
    rounds = width * _CHUNKS // THREADS

    @cuda.jit(device=True, forceinline=True)
    def copy(address, array, start, first, extent, k, end, line_length, by_chunks, thread):
        line, chunk = i32(thread // per_line), i32(thread % per_line)
        to = i32(address + line * LINE + (((chunk & 7) ^ (line & 7)) << 4))
        if is_along_k:
            row, place, rows, places = i32(first + line), i32(k + chunk * 8), extent, end
        else:
            row, place, rows, places = i32(k + line), i32(first + chunk * 8), end, extent
            to = i32(to + (chunk >> 3) * group)
        source = i32(start + row * line_length + place)
        for i in range(rounds):
            own, at = i32(to + i * step * LINE), i32(source + i * step * line_length)
            is_line = row + i * step < rows
            if by_chunks:
                cp_async16(own, array, at, is_line and place < places)
            else:
                for w in range(4):
                    is_valid = is_line and place + 2 * w < places
                    cp_async4(i32(own + 4 * w), array, i32(at + 2 * w), is_valid)

    return copy


# --- float32: through registers -------------------------------------------------------------------


def held(width: int) -> int:
    """Numbers of a slice of `width` rows or columns that a thread brings."""
    return width * warpgroup.TF32.depth // THREADS


@cache
def fetch_of(width: int, is_along_k: bool) -> Callable:
    """Reads a thread's numbers of a slice; arguments as of `tiles.fetch_of`.

    Along k these are four of several lines; otherwise squares of four numbers of four lines.
    """
    rounds = held(width) // 4

    @cuda.jit(device=True, forceinline=True)
    def fetch(loaded, array, start, first, extent, k, end, line_length, by_fours, thread):
        if is_along_k:
            row, place = i32(first + (thread >> 3)), i32(k + (thread & 7) * 4)
            rows, count = extent, i32(end - place)
        else:
            number, chunk = _square(thread)
            row, place = i32(k + chunk * 4), i32(first + number)
            rows, count = end, i32(extent - place)
        source = i32(start + row * line_length + place)
        for i in range(rounds):
            if is_along_k:
                down, over = i * THREADS // 8, 0
            else:
                down, over = i % 4, i // 4 * 128
            more = i32(count - over) if row + down < rows else int32(0)
            at = i32(source + down * line_length + over)
            (
                loaded[4 * i], loaded[4 * i + 1], loaded[4 * i + 2], loaded[4 * i + 3],
            ) = _FOUR(array, at, more, by_fours)  # fmt: skip

    return fetch


@cuda.jit(device=True, forceinline=True)
def _square(thread):
    """The first row (or column) of a thread's square, and its place along k in fours.

    The threads of a warp have 8 x 4 squares: they read whole lines of memory, and eight that write
    together write to different banks.
    """
    lane, warp = i32(thread & 31), i32(thread >> 5)
    number = i32((warp >> 1) * 32 + ((lane & 1) + (lane >> 3) * 2) * 4)
    return number, i32((warp & 1) * 4 + ((lane >> 1) & 3))


@cache
def put_of(width: int, is_along_k: bool, rest: int) -> Callable:
    """Writes what a thread has fetched, rounded to TF32, to the slice at `address`.

    What rounding took away goes `rest` bytes further, if that is not 0.
    """
    rounds = held(width) // 4

    @cuda.jit(device=True, forceinline=True)
    def put(address, loaded, thread):
        number, chunk = i32(thread >> 3), i32(thread & 7)
        if not is_along_k:
            number, chunk = _square(thread)
        for i in range(rounds):
            if is_along_k:
                line, first, apart = i32(number + i * THREADS // 8), 4 * i, 1
            else:
                line, first, apart = i32(number + i // 4 * 128 + i % 4), i // 4 * 16 + i % 4, 4
            to = i32(address + line * LINE + ((chunk ^ (line & 7)) << 4))
            a, b = loaded[first], loaded[first + apart]
            c, d = loaded[first + 2 * apart], loaded[first + 3 * apart]
            a0, b0, c0, d0 = to_tf32(a), to_tf32(b), to_tf32(c), to_tf32(d)
            sts4(to, a0, b0, c0, d0)
            if rest:
                sts4(
                    i32(to + rest), to_tf32(a - a0), to_tf32(b - b0), to_tf32(c - c0),
                    to_tf32(d - d0),
                )  # fmt: skip

    return put


# --- the loop -------------------------------------------------------------------------------------


def multiply_of(tile: GroupTile, slices: Slices) -> Callable:
    """Starts to multiply the slices of a stage, as often as there are parts of them."""
    start = start_products_of(slices.kind, tile.columns, slices.left, slices.right)
    a_bytes, b_at, b_bytes = slices.a_bytes, slices.parts * slices.a_bytes, slices.b_bytes
    is_thrice, group_bytes = slices.parts == 2, warpgroup.ROWS * LINE

    @cuda.jit(device=True, forceinline=True)
    def multiply(total, stage, group):
        a, b = i32(stage + group * group_bytes), i32(stage + b_at)
        if is_thrice:  # the small products first
            start(total, i32(a + a_bytes), b)
            start(total, a, i32(b + b_bytes))
        start(total, a, b)

    return multiply


def wait_of(tile: GroupTile, slices: Slices) -> tuple[Callable, Callable]:
    """Waits until all slices but the last one are multiplied; and until all are."""
    groups = 3 if slices.parts == 2 else 1
    return wait_for_products_of(tile.columns, groups), wait_for_products_of(tile.columns, 0)


def by_copies(tile: GroupTile, numbers: Numbers, a_along_k: bool, b_along_k: bool) -> Callable:
    """Adds the product of all slices, which are copied, to `total`."""
    slices = Slices(tile, numbers, a_along_k, b_along_k)
    copy_a, copy_b = copy_of(tile.rows, slices.left), copy_of(tile.columns, slices.right)
    multiply, (wait, wait_for_all) = multiply_of(tile, slices), wait_of(tile, slices)
    wait_for_copies = cp_async_wait1 if slices.ahead == 2 else cp_async_wait0
    stages, ahead, stage, b_at, depth = (
        slices.stages, slices.ahead, slices.stage, slices.a_bytes, slices.depth,
    )  # fmt: skip

    @cuda.jit(device=True, forceinline=True)
    def add_products(
        total, base, a, a_start, a_line, a_by_chunks, row, m, b, b_start, b_line, b_by_chunks,
        column, n, first, end, thread,
    ):  # fmt: skip
        group = i32(thread >> 7)
        turn, next_turn = int32(0), int32(0)
        for s in range(-ahead, i32((end - first + depth - 1) // depth)):
            if s >= 0:
                wait_for_copies()
                fence_shared()
                cuda.syncthreads()  # all have this slice, and slice s - 2 is multiplied
                multiply(total, i32(base + turn * stage), group)
                turn = i32(turn + 1) if turn < stages - 1 else int32(0)
            k, to = i32(first + (s + ahead) * depth), i32(base + next_turn * stage)
            copy_a(to, a, a_start, row, m, k, end, a_line, a_by_chunks, thread)
            copy_b(i32(to + b_at), b, b_start, column, n, k, end, b_line, b_by_chunks, thread)
            cp_async_commit()
            next_turn = i32(next_turn + 1) if next_turn < stages - 1 else int32(0)
            if s >= 0:
                wait(total)
        wait_for_all(total)

    return add_products


def through_registers(
    tile: GroupTile, numbers: Numbers, a_along_k: bool, b_along_k: bool
) -> Callable:
    """Adds the product of all slices, which are rounded on their way, to `total`."""
    slices = Slices(tile, numbers, a_along_k, b_along_k)
    a_rest, b_rest = (slices.a_bytes, slices.b_bytes) if slices.parts == 2 else (0, 0)
    fetch_a, put_a = fetch_of(tile.rows, a_along_k), put_of(tile.rows, a_along_k, a_rest)
    fetch_b, put_b = fetch_of(tile.columns, b_along_k), put_of(tile.columns, b_along_k, b_rest)
    multiply, (wait, wait_for_all) = multiply_of(tile, slices), wait_of(tile, slices)
    a_held, b_held = held(tile.rows), held(tile.columns)
    stages, stage, b_at, depth = (
        slices.stages, slices.stage, slices.parts * slices.a_bytes, slices.depth,
    )  # fmt: skip

    @cuda.jit(device=True, forceinline=True)
    def add_products(
        total, base, a, a_start, a_line, a_by_fours, row, m, b, b_start, b_line, b_by_fours,
        column, n, first, end, thread,
    ):  # fmt: skip
        a_loaded = cuda.local.array(a_held, float32)
        b_loaded = cuda.local.array(b_held, float32)
        group = i32(thread >> 7)
        turn = int32(0)
        fetch_a(a_loaded, a, a_start, row, m, first, end, a_line, a_by_fours, thread)
        fetch_b(b_loaded, b, b_start, column, n, first, end, b_line, b_by_fours, thread)
        put_a(base, a_loaded, thread)
        put_b(i32(base + b_at), b_loaded, thread)
        k = i32(first + depth)
        fetch_a(a_loaded, a, a_start, row, m, k, end, a_line, a_by_fours, thread)
        fetch_b(b_loaded, b, b_start, column, n, k, end, b_line, b_by_fours, thread)
        # Slice s + 1 is written while slice s is multiplied, and slice s + 2 is read meanwhile.
        for s in range(i32((end - first + depth - 1) // depth)):
            fence_shared()
            cuda.syncthreads()  # all have this slice, and slice s - 2 is multiplied
            multiply(total, i32(base + turn * stage), group)
            turn = i32(turn + 1) if turn < stages - 1 else int32(0)
            to = i32(base + turn * stage)
            put_a(to, a_loaded, thread)
            put_b(i32(to + b_at), b_loaded, thread)
            k = i32(first + (s + 2) * depth)
            fetch_a(a_loaded, a, a_start, row, m, k, end, a_line, a_by_fours, thread)
            fetch_b(b_loaded, b, b_start, column, n, k, end, b_line, b_by_fours, thread)
            wait(total)
        wait_for_all(total)

    return add_products
