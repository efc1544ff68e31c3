"""Convolution as a matrix product on tensor cores.

`conv_tiles.py` says which matrices these are, `cores.py` how tensor cores multiply, and in which
arithmetic. Here is what both leave open: copies that find their elements as the windows say. A
thread copies 16 bytes at a time: channels that lie side by side in one pixel; padding is zeros that
nobody reads. Where 16 bytes would reach into the next tap, as they do with few channels, it copies
4 bytes at a time.

What limits it is what limits matrix products, with one difference: neighbouring windows share
elements, which come from the cache.
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
    part_of,
    place_of,
)
from minitorch_ciml.kernels.cuda.cores_results import write_of
from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.shared_memory import (
    cp_async4,
    cp_async16,
    cp_async_commit,
    cp_async_wait1,
    smem_addr,
)
from minitorch_ciml.kernels.cuda.windows import (
    OUTSIDE,
    divided,
    is_inside,
    next_pixel,
    next_tap,
    pixel_of,
    start_of_target,
    target_of_row,
)

# --- y = x * w ------------------------------------------------------------------------------------


def _correlate(tile: CoreTile, numbers: Numbers) -> Kernel:
    left, right = Side(tile, numbers.size, True, True), Side(tile, numbers.size, False, False)
    copy_w, part_x, place_x, place_w = (
        copy_of(right), part_of(left), place_of(left), place_of(right),
    )  # fmt: skip
    add_product = multiply_of(tile, numbers, left, right)
    write = write_of(tile, numbers, False, start_of_target)
    rows, columns, tall, wide, depth = tile.rows, tile.columns, tile.tall, tile.wide, left.depth
    part, side_by_side = tile.part, tile.side_by_side
    x_bytes, stage = left.bytes, left.bytes + right.bytes
    chunks, line_step, pitch, rounds, each = (
        left.chunks, left.step, left.pitch, left.rounds, left.each,
    )  # fmt: skip
    word = 4 // numbers.size  # numbers in four bytes
    skip = depth - each  # numbers that other threads copy

    @cuda.jit(device=True, forceinline=True)
    def copy_x(
        address, x, by_chunks, place, at_z, at_y, at_x, c, kz, ky, kx, taken, channel,
        channels, depth_, height, width, deep, high, wide_, step_z, step_y, step_x,
    ):  # fmt: skip
        """Starts the copies of a slice of x, and goes to the tap of the next one."""
        for w in range(1 if by_chunks else 4):
            dz, dy, dx = i32(kz * step_z), i32(ky * step_y), i32(kx * step_x)
            offset = i32(((dz * height + dy) * width + dx) * channels + channel + c)
            for i in range(rounds):
                z, v, u = i32(at_z[i] + dz), i32(at_y[i] + dy), i32(at_x[i] + dx)
                is_valid = kz < deep and is_inside(z, v, u, depth_, height, width)
                to = i32(address + i * line_step * pitch + 4 * w)
                source = i32(place[i] + offset) if is_valid else int32(0)
                if by_chunks:
                    cp_async16(to, x, source, is_valid)
                else:
                    cp_async4(to, x, source, is_valid)
            by = int32(0) if by_chunks else int32(word)
            c, kz, ky, kx = next_tap(c, kz, ky, kx, by, taken, high, wide_)
        by = int32(depth) if by_chunks else int32(skip)
        return next_tap(c, kz, ky, kx, by, taken, high, wide_)

    @kernel(
        "T* T* T* T*" + " i4" * (11 + 18 + 9), T=(numbers.code,),
        threads=tile.threads, blocks=tile.resident,
        shared=STAGES * stage, needs=NEEDS,
        name=f"conv_cores.correlate_{numbers.name}_{tile.name}",
    )  # fmt: skip
    def correlate(
        y, x, w, b, pixels, taken, channels, filters, all_filters, has_bias, is_relu, x_by_chunks,
        w_by_chunks, y_by_8_bytes, is_dense,
        depth_, height, width, out_depth, out_height, out_width, deep, high, wide_, start_z,
        start_y, start_x, stride_z, stride_y, stride_x, step_z, step_y, step_x,
        target_depth, target_height, target_width, first_z, first_y, first_x, every_z, every_y,
        every_x,
    ):  # fmt: skip
        shared = cuda.shared.array(0, float32, alignment=ALIGNED)
        targets = cuda.shared.array(rows, int32)
        total = cuda.local.array(part, float32)
        place = cuda.local.array(rounds, int32)
        at_z = cuda.local.array(rounds, int32)
        at_y = cuda.local.array(rounds, int32)
        at_x = cuda.local.array(rounds, int32)
        for i in range(part):
            total[i] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        group = i32(cuda.blockIdx.z)
        tile_row, tile_column = i32(cuda.blockIdx.x * rows), i32(cuda.blockIdx.y * columns)

        if thread < rows:
            targets[thread] = target_of_row(
                i32(tile_row + thread), pixels, is_dense, out_depth, out_height, out_width,
                target_depth, target_height, target_width, first_z, first_y, first_x, every_z,
                every_y, every_x,
            )  # fmt: skip
        cuda.syncthreads()

        # The pixels whose channels this thread copies.
        line = i32(thread // chunks)
        for i in range(rounds):
            p = i32(tile_row + line + i * line_step)
            n, oz, oy, ox = pixel_of(p, out_depth, out_height, out_width)
            z = i32(oz * stride_z + start_z)
            at_y[i], at_x[i] = i32(oy * stride_y + start_y), i32(ox * stride_x + start_x)
            at = i32((n * depth_ + z) * height + at_y[i])
            place[i] = i32((at * width + at_x[i]) * channels)
            at_z[i] = z if p < pixels else int32(OUTSIDE)
        own = i32(thread % chunks * each)
        c, kz, ky, kx = next_tap(
            int32(0), int32(0), int32(0), int32(0), own, taken, high, wide_
        )  # fmt: skip
        channel, group_filter = i32(group * taken), i32(group * filters)
        length = i32(deep * high * wide_ * taken)

        lane, warp = i32(thread & 31), i32(thread >> 5)
        own_row, own_column = i32(warp // side_by_side * tall), i32(warp % side_by_side * wide)
        base = smem_addr(shared)
        to_x = i32(base + part_x(line, i32(thread % chunks)))
        x_place = i32(base + place_x(own_row, lane))
        w_place = i32(base + x_bytes + place_w(own_column, lane))
        slices = i32((length + depth - 1) // depth)
        turn, next_turn = int32(0), int32(0)
        for s in range(1 - STAGES, slices):  # the first slices are only copied
            if s >= 0:
                cp_async_wait1()
                cuda.syncthreads()  # all have this slice, and none needs the last one any more
            to = i32(next_turn * stage)
            c, kz, ky, kx = copy_x(
                i32(to_x + to), x, x_by_chunks, place, at_z, at_y, at_x, c, kz, ky, kx,
                taken, channel, channels, depth_, height, width, deep, high, wide_, step_z, step_y,
                step_x,
            )  # fmt: skip
            copy_w(
                i32(base + to + x_bytes), w, group_filter, tile_column, filters,
                i32((s + STAGES - 1) * depth), length, all_filters, w_by_chunks, thread,
            )  # fmt: skip
            cp_async_commit()
            next_turn = following(next_turn)
            if s >= 0:
                add_product(total, i32(x_place + turn * stage), i32(w_place + turn * stage))
                turn = following(turn)

        own_column = i32(tile_column + own_column + (lane & 3) * 2)
        at = i32(group_filter + own_column)
        write(
            y, b, total, (targets, all_filters), i32(own_row + (lane >> 2)), at, at,
            i32(filters - own_column), y_by_8_bytes, has_bias,
            float32(0.0 if is_relu else -math.inf),
        )  # fmt: skip

    return correlate


CORRELATE = {
    (numbers, tile): _correlate(tile, numbers)
    for numbers, tiles in TILES.items()
    for tile, _ in tiles
}


# --- dw = sum over p of x[at(p, k)] g[p] ----------------------------------------------------------


def _correlate_grad(tile: CoreTile, numbers: Numbers) -> Kernel:
    """A tile of the kernel's gradient over a share of the pixels, in float32.

    Channels must come in 16 bytes.
    """
    size = numbers.size
    left, right = Side(tile, size, True, False), Side(tile, size, False, False)
    copy_g, part_x, place_x, place_g = (
        copy_of(right), part_of(left), place_of(left), place_of(right),
    )  # fmt: skip
    add_product = multiply_of(tile, numbers, left, right)
    write = write_of(tile, numbers, True, start_of_target)
    rows, columns, tall, wide, depth = tile.rows, tile.columns, tile.tall, tile.wide, left.depth
    part, side_by_side = tile.part, tile.side_by_side
    x_bytes, stage = left.bytes, left.bytes + right.bytes
    chunks, line_step, pitch, rounds, each = (
        left.chunks, left.step, left.pitch, left.rounds, left.each,
    )  # fmt: skip

    @kernel(
        "f4* T* T*" + " i4" * (9 + 18), T=(numbers.code,),
        threads=tile.threads, blocks=tile.resident,
        shared=STAGES * stage, needs=NEEDS,
        name=f"conv_cores.correlate_grad_{numbers.name}_{tile.name}",
    )  # fmt: skip
    def correlate_grad(
        dw, x, g, pixels, share, shares, taken, channels, filters, all_filters, g_by_chunks,
        dw_by_8_bytes, depth_, height, width, out_depth, out_height, out_width, deep, high, wide_,
        start_z, start_y, start_x, stride_z, stride_y, stride_x, step_z, step_y, step_x,
    ):  # fmt: skip
        shared = cuda.shared.array(0, float32, alignment=ALIGNED)
        targets = cuda.shared.array(rows, int32)
        total = cuda.local.array(part, float32)
        n = cuda.local.array(rounds, int32)
        oz = cuda.local.array(rounds, int32)
        oy = cuda.local.array(rounds, int32)
        ox = cuda.local.array(rounds, int32)
        for i in range(part):
            total[i] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        group, number = divided(i32(cuda.blockIdx.z), shares)
        tile_row, tile_column = i32(cuda.blockIdx.x * rows), i32(cuda.blockIdx.y * columns)
        first = i32(number * share)
        end = i32(min(pixels, first + share))
        length = i32(deep * high * wide_ * taken)
        if thread < rows:
            k = i32(tile_row + thread)
            targets[thread] = i32(number * length + k) if k < length else int32(-1)
        cuda.syncthreads()

        # The channels of a tap that this thread copies, of some pixels.
        line, own = i32(thread // chunks), i32(thread % chunks * each)
        c, kz, ky, kx = next_tap(
            int32(0), int32(0), int32(0), int32(0), i32(tile_row + own), taken, high, wide_
        )  # fmt: skip
        channel = i32(group * taken + c)
        off_z, off_y, off_x = (
            i32(start_z + kz * step_z), i32(start_y + ky * step_y), i32(start_x + kx * step_x),
        )  # fmt: skip
        is_row = tile_row + own < length
        for i in range(rounds):
            n[i], oz[i], oy[i], ox[i] = pixel_of(
                i32(first + line + i * line_step), out_depth, out_height, out_width
            )  # fmt: skip
        group_filter = i32(group * filters)

        lane, warp = i32(thread & 31), i32(thread >> 5)
        own_row, own_column = i32(warp // side_by_side * tall), i32(warp % side_by_side * wide)
        base = smem_addr(shared)
        to_x = i32(base + part_x(line, i32(thread % chunks)))
        x_place = i32(base + place_x(own_row, lane))
        g_place = i32(base + x_bytes + place_g(own_column, lane))
        slices = i32((end - first + depth - 1) // depth)
        turn, next_turn = int32(0), int32(0)
        for s in range(1 - STAGES, slices):  # the first slices are only copied
            if s >= 0:
                cp_async_wait1()
                cuda.syncthreads()  # all have this slice, and none needs the last one any more
            to = i32(next_turn * stage)
            p = i32(first + (s + STAGES - 1) * depth)
            for i in range(rounds):
                z, v = i32(oz[i] * stride_z + off_z), i32(oy[i] * stride_y + off_y)
                u = i32(ox[i] * stride_x + off_x)
                is_valid = is_row and p + line + i * line_step < end
                is_valid = is_valid and is_inside(z, v, u, depth_, height, width)
                at = i32(((n[i] * depth_ + z) * height + v) * width + u)
                source = i32(at * channels + channel) if is_valid else int32(0)
                cp_async16(i32(to_x + to + i * line_step * pitch), x, source, is_valid)
                n[i], oz[i], oy[i], ox[i] = next_pixel(
                    n[i], oz[i], oy[i], ox[i], int32(depth), out_depth, out_height, out_width
                )  # fmt: skip
            copy_g(
                i32(base + to + x_bytes), g, group_filter, tile_column, filters, p, end,
                all_filters, g_by_chunks, thread,
            )  # fmt: skip
            cp_async_commit()
            next_turn = following(next_turn)
            if s >= 0:
                add_product(total, i32(x_place + turn * stage), i32(g_place + turn * stage))
                turn = following(turn)

        own_column = i32(tile_column + own_column + (lane & 3) * 2)
        at = i32(group_filter + own_column)
        write(
            dw, g, total, (targets, all_filters), i32(own_row + (lane >> 2)), at, at,
            i32(filters - own_column), dw_by_8_bytes, False, float32(-math.inf),
        )  # fmt: skip

    return correlate_grad


CORRELATE_GRAD = {
    (numbers, tile): _correlate_grad(tile, numbers)
    for numbers, tiles in TILES.items()
    for tile, _ in tiles
}
