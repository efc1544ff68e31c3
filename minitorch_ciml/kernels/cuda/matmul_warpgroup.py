"""Matrix products on Hopper's tensor cores.

`warpgroup_tiles.py` says how a block computes a tile; here is which tile, and where its numbers
are.

What limits it: an H100 multiplies a 128 x 256 slice of 128 bytes of k in 1024 cycles, while 48 KiB
come from the cache that tiles share: 48 bytes for each cycle of a multiprocessor, which is about
what that cache brings. (NVIDIA's own kernels let neighbouring blocks share what they read.)
"""

from __future__ import annotations

import math

from numba import cuda, float32

from minitorch_ciml.kernels.cuda.cores import BF16, F16, TF32, TF32X3, Numbers
from minitorch_ciml.kernels.cuda.cores_results import write_of
from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.matmul_tiles import batch_start, start_of_row, tile_of
from minitorch_ciml.kernels.cuda.shared_memory import smem_addr
from minitorch_ciml.kernels.cuda.warpgroup_tiles import (
    ALIGNED,
    HOPPER,
    SQUARE,
    THREADS,
    THRICE,
    WIDE,
    GroupTile,
    Slices,
    by_copies,
    through_registers,
)


def _product(
    numbers: Numbers, tile: GroupTile, is_sum: bool, transpose_a: bool, transpose_b: bool
) -> Kernel:
    """As `matmul_tiles`' kernel; `is_sum`: the result is float32, to be added to others."""
    make = by_copies if numbers.size == 2 else through_registers
    add_products = make(tile, numbers, not transpose_a, transpose_b)
    slices = Slices(tile, numbers, not transpose_a, transpose_b)
    write = write_of(tile, numbers, is_sum, start_of_row)
    rows, columns, part = tile.rows, tile.columns, tile.part
    kind = "nt"[transpose_a] + "nt"[transpose_b] + ("_sum" if is_sum else "")

    @kernel(
        "Y* T* T* T*" + " i4" * 15, Y=("f4" if is_sum else numbers.code,), T=(numbers.code,),
        threads=THREADS, blocks=tile.resident, shared=slices.stages * slices.stage + ALIGNED,
        needs=HOPPER, alone=True,
        name=f"matmul_warpgroup.product_{numbers.name}_{tile.name}_{kind}",
    )  # fmt: skip
    def product(
        y, a, b, bias, m, n, k, share, batch, inner, a_outer, a_inner, b_outer, b_inner,
        a_by_vectors, b_by_vectors, y_by_8_bytes, has_bias, is_relu,
    ):  # fmt: skip
        shared = cuda.shared.array(0, float32, alignment=16)
        total = cuda.local.array(part, float32)
        for i in range(part):
            total[i] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        number = i32(batch + cuda.blockIdx.z)
        row, column = tile_of(
            i32(cuda.blockIdx.x), i32((m + rows - 1) // rows), i32((n + columns - 1) // columns)
        )
        row, column = i32(row * rows), i32(column * columns)
        first = i32(cuda.blockIdx.y * share)
        add_products(
            total, i32((smem_addr(shared) + ALIGNED - 1) & -ALIGNED),
            a, batch_start(number, inner, a_outer, a_inner), m if transpose_a else k, a_by_vectors,
            row, m, b, batch_start(number, inner, b_outer, b_inner), k if transpose_b else n,
            b_by_vectors, column, n, first, i32(min(k, first + share)), thread,
        )  # fmt: skip

        lane, warp = i32(thread & 31), i32(thread >> 5)
        own_row = i32(row + warp * 16 + (lane >> 2))
        own_column = i32(column + (lane & 3) * 2)
        y_start = i32((number * cuda.gridDim.y + cuda.blockIdx.y) * m * n)
        write(
            y, bias, total, (y_start, m, n), own_row, own_column, own_column, i32(n - own_column),
            y_by_8_bytes, has_bias, float32(0.0 if is_relu else -math.inf),
        )  # fmt: skip

    return product


# Which tiles there are, and whether they can compute a share of a sum.
TILES: dict[Numbers, tuple[tuple[GroupTile, bool], ...]] = {
    TF32: ((WIDE, True), (SQUARE, True)),
    TF32X3: ((THRICE, True),),
    BF16: ((WIDE, False), (SQUARE, True)),
    F16: ((WIDE, False), (SQUARE, True)),
}
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
