"""Convolution as a matrix product, in float32 on the GPU's ordinary cores.

The matrices of the product are never stored. Of a correlation `y[p, f] = sum over k of x[at(p, k)]
w[k, f]`, where p counts pixels and k counts taps and channels, a block of threads computes a tile
of y, pixels by filters, as `tiles.py` says. Here is what a matrix product does not have: x's slices
come from wherever the windows are, zeros where that is padding.

It is bound by arithmetic, where there are enough filters; with fewer than about 16 of them bound
by the memory that x comes from.
"""

from __future__ import annotations

import math

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.intrinsics import i32, load4
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.shared_memory import smem_addr
from minitorch_ciml.kernels.cuda.tiles import (
    MEDIUM,
    NARROW,
    SHORT,
    Side,
    Tile,
    fetch_of,
    finish_of,
    multiply_of,
    put_of,
    write_of,
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

# The medium one where large ones would leave multiprocessors without work; the narrow one for 32
# filters or fewer.
TILES = (SHORT, MEDIUM, NARROW)


# --- y = x * w ------------------------------------------------------------------------------------


def _correlate(tile: Tile) -> Kernel:
    left, right = Side(tile, tile.rows, True), Side(tile, tile.columns, False)
    put_x, fetch_w, put_w = put_of(left, float32), fetch_of(right, float32), put_of(right, float32)
    multiply, finish, write = (
        multiply_of(tile, float32), finish_of(tile, float32), write_of(tile, start_of_target),
    )  # fmt: skip
    rows, columns, slice_, part, across, threads = (
        tile.rows, tile.columns, tile.slice, tile.part, tile.across, tile.threads,
    )  # fmt: skip
    per_line, loads, step, held, w_held = (
        left.per_line, left.loads, left.step, left.held, right.held,
    )  # fmt: skip
    x_slice, w_slice = left.numbers, right.numbers
    x_room, w_room = 2 * x_slice, 2 * w_slice

    @kernel(
        "f4* f4* f4* f4*" + " i4" * (10 + 18 + 9),
        threads=threads, blocks=tile.resident, name=f"conv_tiles.correlate_{tile.name}",
    )  # fmt: skip
    def correlate(
        y, x, w, b, pixels, taken, channels, filters, all_filters, has_bias, is_relu, by_fours,
        filters_by_fours, is_dense,
        depth, height, width, out_depth, out_height, out_width, deep, high, wide_, start_z, start_y,
        start_x, stride_z, stride_y, stride_x, step_z, step_y, step_x,
        target_depth, target_height, target_width, first_z, first_y, first_x, every_z, every_y,
        every_x,
    ):  # fmt: skip
        xs = cuda.shared.array(x_room, float32, alignment=16)
        ws = cuda.shared.array(w_room, float32, alignment=16)
        targets = cuda.shared.array(rows, int32)
        total = cuda.local.array(part, float32)
        loaded = cuda.local.array(held, float32)
        w_loaded = cuda.local.array(w_held, float32)
        plane = cuda.local.array(loads, int32)
        at_z = cuda.local.array(loads, int32)
        at_y = cuda.local.array(loads, int32)
        at_x = cuda.local.array(loads, int32)
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

        # What this thread loads of x: four numbers along k, for one or two pixels.
        load_row, load_k = i32(thread // per_line), i32(thread % per_line * 4)
        for i in range(loads):
            p = i32(tile_row + load_row + i * step)
            n, oz, oy, ox = pixel_of(p, out_depth, out_height, out_width)
            plane[i] = i32(n * depth)
            at_z[i] = i32(oz * stride_z + start_z) if p < pixels else int32(OUTSIDE)
            at_y[i] = i32(oy * stride_y + start_y)
            at_x[i] = i32(ox * stride_x + start_x)
        c, kz, ky, kx = next_tap(
            int32(0), int32(0), int32(0), int32(0), load_k, taken, high, wide_
        )  # fmt: skip
        group_channel = i32(group * taken)
        group_filter = i32(group * filters)
        length = i32(deep * high * wide_ * taken)

        row, column = i32(thread // across * 4), i32(thread % across * 4)
        x_start, w_start = smem_addr(xs), smem_addr(ws)
        slices = i32((length + slice_ - 1) // slice_)
        for s in range(slices + 1):
            if s < slices:
                for i in range(held):
                    loaded[i] = float32(0.0)
                if by_fours:
                    if kz < deep:
                        for i in range(loads):
                            z = i32(at_z[i] + kz * step_z)
                            v = i32(at_y[i] + ky * step_y)
                            u = i32(at_x[i] + kx * step_x)
                            if is_inside(z, v, u, depth, height, width):
                                at = i32(((plane[i] + z) * height + v) * width + u)
                                at = i32(at * channels + group_channel + c)
                                (
                                    loaded[4 * i], loaded[4 * i + 1], loaded[4 * i + 2],
                                    loaded[4 * i + 3],
                                ) = load4(x, at)  # fmt: skip
                    c, kz, ky, kx = next_tap(c, kz, ky, kx, int32(slice_), taken, high, wide_)
                else:
                    for j in range(4):
                        if kz < deep:
                            for i in range(loads):
                                z = i32(at_z[i] + kz * step_z)
                                v = i32(at_y[i] + ky * step_y)
                                u = i32(at_x[i] + kx * step_x)
                                if is_inside(z, v, u, depth, height, width):
                                    at = i32(((plane[i] + z) * height + v) * width + u)
                                    at = i32(at * channels + group_channel + c)
                                    loaded[4 * i + j] = x[at]
                        c, kz, ky, kx = next_tap(c, kz, ky, kx, int32(1), taken, high, wide_)
                    c, kz, ky, kx = next_tap(c, kz, ky, kx, int32(slice_ - 4), taken, high, wide_)
                fetch_w(
                    w_loaded, w, group_filter, tile_column, filters, i32(s * slice_), length,
                    all_filters, filters_by_fours, thread,
                )  # fmt: skip
            if s > 0:
                turn = i32((s - 1) & 1)
                x_at = i32(x_start + 4 * (turn * x_slice + row))
                w_at = i32(w_start + 4 * (turn * w_slice + column))
                multiply(total, x_at, w_at)
            if s < slices:
                turn = i32(s & 1)
                put_x(i32(x_start + 4 * turn * x_slice), loaded, thread)
                put_w(i32(w_start + 4 * turn * w_slice), w_loaded, thread)
                cuda.syncthreads()

        column = i32(tile_column + column)
        at, more = i32(group_filter + column), i32(filters - column)
        lowest = float32(0.0 if is_relu else -math.inf)
        finish(total, b, at, more if has_bias else int32(0), filters_by_fours, lowest)
        write(y, total, (targets, all_filters), row, at, more, filters_by_fours)

    return correlate


CORRELATE = {tile: _correlate(tile) for tile in TILES}


# --- dw = sum over p of x[at(p, k)] g[p] ----------------------------------------------------------


def _correlate_grad(tile: Tile) -> Kernel:
    """A tile of the kernel's gradient, taps and channels by filters; the slices are of pixels.

    Each block sums over a share of the pixels, so that there is work for the whole GPU; the shares
    are added afterwards, always in the same order.
    """
    left, right = Side(tile, tile.rows, False), Side(tile, tile.columns, False)
    put_x, fetch_g, put_g = put_of(left, float32), fetch_of(right, float32), put_of(right, float32)
    multiply, write = multiply_of(tile, float32, unrolled=2), write_of(tile, start_of_target)
    rows, columns, slice_, part, across, threads = (
        tile.rows, tile.columns, tile.slice, tile.part, tile.across, tile.threads,
    )  # fmt: skip
    line, per_line, loads, step, held, g_held = (
        left.line, left.per_line, left.loads, left.step, left.held, right.held,
    )  # fmt: skip
    x_slice, g_slice = left.numbers, right.numbers
    x_room, g_room = 2 * x_slice, 2 * g_slice

    @kernel(
        "f4* f4* f4*" + " i4" * (9 + 18),
        threads=threads, blocks=tile.resident, name=f"conv_tiles.correlate_grad_{tile.name}",
    )  # fmt: skip
    def correlate_grad(
        dw, x, g, pixels, share, shares, taken, channels, filters, all_filters, by_fours,
        filters_by_fours,
        depth, height, width, out_depth, out_height, out_width, deep, high, wide_, start_z, start_y,
        start_x, stride_z, stride_y, stride_x, step_z, step_y, step_x,
    ):  # fmt: skip
        xs = cuda.shared.array(x_room, float32, alignment=16)
        gs = cuda.shared.array(g_room, float32, alignment=16)
        targets = cuda.shared.array(rows, int32)
        total = cuda.local.array(part, float32)
        loaded = cuda.local.array(held, float32)
        g_loaded = cuda.local.array(g_held, float32)
        n = cuda.local.array(loads, int32)
        oz = cuda.local.array(loads, int32)
        oy = cuda.local.array(loads, int32)
        ox = cuda.local.array(loads, int32)
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

        # What this thread loads of x: four channels of one or two pixels, or, where the channels
        # cannot be read by fours, one channel of as many numbers of pixels, one after the other.
        if by_fours:
            load_row, load_pixel = i32(thread % per_line * 4), i32(thread // per_line)
        else:
            load_row, load_pixel = i32(thread % rows), i32(thread // rows * held)
        c, kz, ky, kx = next_tap(
            int32(0), int32(0), int32(0), int32(0), i32(tile_row + load_row), taken, high, wide_
        )  # fmt: skip
        channel = i32(group * taken + c)
        off_z, off_y, off_x = (
            i32(start_z + kz * step_z), i32(start_y + ky * step_y), i32(start_x + kx * step_x),
        )  # fmt: skip
        is_row = tile_row + load_row < length
        for i in range(loads):
            n[i], oz[i], oy[i], ox[i] = pixel_of(
                i32(first + load_pixel + i * step), out_depth, out_height, out_width
            )  # fmt: skip
        group_filter = i32(group * filters)

        row, column = i32(thread // across * 4), i32(thread % across * 4)
        x_start, g_start = smem_addr(xs), smem_addr(gs)
        slices = i32((end - first + slice_ - 1) // slice_)
        for s in range(slices + 1):
            if s < slices:
                p = i32(first + s * slice_)
                for i in range(held):
                    loaded[i] = float32(0.0)
                if by_fours:
                    for i in range(loads):
                        z = i32(oz[i] * stride_z + off_z)
                        v = i32(oy[i] * stride_y + off_y)
                        u = i32(ox[i] * stride_x + off_x)
                        is_pixel = p + load_pixel + i * step < end
                        if is_row and is_pixel and is_inside(z, v, u, depth, height, width):
                            at = i32(((n[i] * depth + z) * height + v) * width + u)
                            (
                                loaded[4 * i], loaded[4 * i + 1], loaded[4 * i + 2],
                                loaded[4 * i + 3],
                            ) = load4(x, i32(at * channels + channel))  # fmt: skip
                        n[i], oz[i], oy[i], ox[i] = next_pixel(
                            n[i], oz[i], oy[i], ox[i], int32(slice_), out_depth, out_height,
                            out_width,
                        )  # fmt: skip
                else:
                    for j in range(held):
                        z = i32(oz[0] * stride_z + off_z)
                        v = i32(oy[0] * stride_y + off_y)
                        u = i32(ox[0] * stride_x + off_x)
                        is_pixel = p + load_pixel + j < end
                        if is_row and is_pixel and is_inside(z, v, u, depth, height, width):
                            at = i32(((n[0] * depth + z) * height + v) * width + u)
                            loaded[j] = x[i32(at * channels + channel)]
                        by = int32(1 if j < held - 1 else slice_ - held + 1)
                        n[0], oz[0], oy[0], ox[0] = next_pixel(
                            n[0], oz[0], oy[0], ox[0], by, out_depth, out_height, out_width
                        )  # fmt: skip
                fetch_g(
                    g_loaded, g, group_filter, tile_column, filters, p, end, all_filters,
                    filters_by_fours, thread,
                )  # fmt: skip
            if s > 0:
                turn = i32((s - 1) & 1)
                x_at = i32(x_start + 4 * (turn * x_slice + row))
                g_at = i32(g_start + 4 * (turn * g_slice + column))
                multiply(total, x_at, g_at)
            if s < slices:
                turn = i32(s & 1)
                if by_fours:
                    put_x(i32(x_start + 4 * turn * x_slice), loaded, thread)
                else:
                    to = i32(turn * x_slice + load_pixel * line + load_row)
                    for j in range(held):
                        xs[to + j * line] = loaded[j]
                put_g(i32(g_start + 4 * turn * g_slice), g_loaded, thread)
                cuda.syncthreads()

        column = i32(tile_column + column)
        write(
            dw, total, (targets, all_filters), row, i32(group_filter + column),
            i32(filters - column), filters_by_fours,
        )  # fmt: skip

    return correlate_grad


CORRELATE_GRAD = {tile: _correlate_grad(tile) for tile in TILES}
