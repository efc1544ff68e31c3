"""Matrix products on tensor cores.

`cores.py` says how a block computes a tile, and in which arithmetic; here is which tile, and where
its numbers are.

What limits it: a 128 x 128 tile costs 64 operations for each byte of float32 that is read, 128 for
two-byte numbers. An H100 does 150 to 300 operations on tensor cores in the time in which its memory
brings a byte, but 5 times as much comes from the cache that tiles share: bound by the rate at which
shared memory feeds the tensor cores. Hopper's own instructions (`matmul_warpgroup.py`) lift that.
"""

from __future__ import annotations

import math

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.cores import (
    ALIGNED,
    NEEDS,
    STAGES,
    TILES,
    CoreTile,
    Numbers,
    Side,
    copy_of,
    following,
    multiply_of,
    place_of,
)
from minitorch_ciml.kernels.cuda.cores_results import write_of
from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.matmul_tiles import batch_start, start_of_row, tile_of
from minitorch_ciml.kernels.cuda.shared_memory import cp_async_commit, cp_async_wait1, smem_addr


def _product(
    numbers: Numbers, tile: CoreTile, is_sum: bool, transpose_a: bool, transpose_b: bool
) -> Kernel:
    """As `matmul_tiles`' kernel; `is_sum`: the result is float32, to be added to others."""
    left = Side(tile, numbers.size, True, not transpose_a)
    right = Side(tile, numbers.size, False, transpose_b)
    copy_a, copy_b, place_a, place_b = (
        copy_of(left),
        copy_of(right),
        place_of(left),
        place_of(right),
    )
    add_product = multiply_of(tile, numbers, left, right)
    write = write_of(tile, numbers, is_sum, start_of_row)
    rows, columns, tall, wide, depth = tile.rows, tile.columns, tile.tall, tile.wide, left.depth
    part, side_by_side = tile.part, tile.side_by_side
    a_bytes, stage = left.bytes, left.bytes + right.bytes
    kind = "nt"[transpose_a] + "nt"[transpose_b] + ("_sum" if is_sum else "")

    @kernel(
        "Y* T* T* T*" + " i4" * 15, Y=("f4" if is_sum else numbers.code,), T=(numbers.code,),
        threads=tile.threads, blocks=tile.resident, shared=STAGES * stage, needs=NEEDS,
        name=f"matmul_cores.product_{numbers.name}_{tile.name}_{kind}",
    )  # fmt: skip
    def product(
        y, a, b, bias, m, n, k, share, batch, inner, a_outer, a_inner, b_outer, b_inner,
        a_by_chunks, b_by_chunks, y_by_8_bytes, has_bias, is_relu,
    ):  # fmt: skip
        shared = cuda.shared.array(0, float32, alignment=ALIGNED)
        total = cuda.local.array(part, float32)
        for i in range(part):
            total[i] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        number = i32(batch + cuda.blockIdx.z)
        row, column = tile_of(
            i32(cuda.blockIdx.x), i32((m + rows - 1) // rows), i32((n + columns - 1) // columns)
        )
        row, column = i32(row * rows), i32(column * columns)
        a_start = batch_start(number, inner, a_outer, a_inner)
        b_start = batch_start(number, inner, b_outer, b_inner)
        a_line = m if transpose_a else k
        b_line = k if transpose_b else n
        first = i32(cuda.blockIdx.y * share)
        end = i32(min(k, first + share))

        lane, warp = i32(thread & 31), i32(thread >> 5)
        own_row, own_column = i32(warp // side_by_side * tall), i32(warp % side_by_side * wide)
        base = smem_addr(shared)
        a_place = i32(base + place_a(own_row, lane))
        b_place = i32(base + a_bytes + place_b(own_column, lane))
        slices = i32((end - first + depth - 1) // depth)
        turn, next_turn = int32(0), int32(0)
        for s in range(1 - STAGES, slices):  # the first slices are only copied
            if s >= 0:
                cp_async_wait1()
                cuda.syncthreads()  # all have this slice, and none needs the last one any more
            at, to = i32(first + (s + STAGES - 1) * depth), i32(base + next_turn * stage)
            copy_a(to, a, a_start, row, m, at, end, a_line, a_by_chunks, thread)
            copy_b(i32(to + a_bytes), b, b_start, column, n, at, end, b_line, b_by_chunks, thread)
            cp_async_commit()
            next_turn = following(next_turn)
            if s >= 0:
                add_product(total, i32(a_place + turn * stage), i32(b_place + turn * stage))
                turn = following(turn)

        own_row = i32(row + own_row + (lane >> 2))
        own_column = i32(column + own_column + (lane & 3) * 2)
        y_start = i32((number * cuda.gridDim.y + cuda.blockIdx.y) * m * n)
        write(
            y, bias, total, (y_start, m, n), own_row, own_column, own_column, i32(n - own_column),
            y_by_8_bytes, has_bias, float32(0.0 if is_relu else -math.inf),
        )  # fmt: skip

    return product


PRODUCT = {
    (numbers, tile, is_sum, transpose_a, transpose_b): _product(
        numbers, tile, is_sum, transpose_a, transpose_b
    )
    for numbers, tiles in TILES.items()
    for tile, can_share in tiles
    for is_sum in ((False, True) if can_share and numbers.size == 2 else (False,))
    for transpose_a in (False, True)
    for transpose_b in (False, True)
}
