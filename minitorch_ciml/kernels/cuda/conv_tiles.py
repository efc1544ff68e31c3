"""Convolution as a matrix product, in float32 on the GPU's ordinary cores.

The matrices of the product are never stored. Of a correlation `y[p, f] = sum over k of x[at(p, k)]
w[k, f]`, where p counts pixels and k counts taps and channels, a block of threads computes a tile
of y, pixels by filters. It goes along k in slices, which it brings into shared memory: of x from
wherever they lie, zeros where that is padding, of w as they are. A thread holds an 8 x 8 part of
the tile in registers, and for every k multiplies 8 numbers with 8 others.

That is 64 multiply-adds for 16 numbers read from shared memory: bound by arithmetic, where there
are enough filters; with fewer than about 16 of them bound by the memory that x comes from.

While a slice is multiplied the next one is on its way, in registers; there are two places in shared
memory, so threads wait for each other once per slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.intrinsics import i32, lds4, load4, smem_addr, store4
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.windows import divided

SLICE = 8  # of k
UNROLLED = 2  # of them, whose numbers the compiler may read ahead
_PAD = 4  # columns more in shared memory, so that threads that write do not meet in a bank
OUTSIDE = -(1 << 30)  # a position that no tap brings back into the array


@dataclass(frozen=True)
class Tile:
    """A block's share of the result, and each of its threads'.

    Attributes:
        rows, columns: of the tile.
        tall, wide: rows and columns of a thread's part; multiples of 4.
    """

    rows: int
    columns: int
    tall: int
    wide: int

    @property
    def threads(self) -> int:
        return (self.rows // self.tall) * (self.columns // self.wide)

    @property
    def line(self) -> int:
        """Numbers between two k of x's slice in shared memory."""
        return self.rows + _PAD

    # A thread's part is in groups of four rows and columns, this far apart: so the threads of a
    # warp read neighbouring numbers.
    @property
    def half_row(self) -> int:
        return 4 * self.rows // self.tall

    @property
    def half_column(self) -> int:
        return 4 * self.columns // self.wide


LARGE = Tile(128, 128, 8, 8)
SMALL = Tile(64, 64, 8, 4)  # where large ones would leave multiprocessors without work
NARROW = Tile(128, 32, 8, 4)  # for 32 filters or fewer
TILES = (LARGE, SMALL, NARROW)


# --- taps -----------------------------------------------------------------------------------------


@cuda.jit(device=True)
def next_tap(c, kz, ky, kx, by, channels, high, wide):
    """`by` steps further along k: the channel, and the tap's number in each dimension."""
    c = i32(c + by)
    while c >= channels:
        c = i32(c - channels)
        kx = i32(kx + 1)
        if kx == wide:
            kx = int32(0)
            ky = i32(ky + 1)
            if ky == high:
                ky = int32(0)
                kz = i32(kz + 1)
    return c, kz, ky, kx


@cuda.jit(device=True)
def next_pixel(n, oz, oy, ox, by, depth, height, width):
    """`by` pixels further: the sample, and the place in each dimension."""
    ox = i32(ox + by)
    while ox >= width:
        ox = i32(ox - width)
        oy = i32(oy + 1)
        if oy == height:
            oy = int32(0)
            oz = i32(oz + 1)
            if oz == depth:
                oz = int32(0)
                n = i32(n + 1)
    return n, oz, oy, ox


@cuda.jit(device=True)
def is_inside(z, y, x, depth, height, width):
    return 0 <= z < depth and 0 <= y < height and 0 <= x < width


@cuda.jit(device=True, forceinline=True)
def four(array, at, count, by_fours):
    """Four elements from `at`; zeros from the `count`-th on. `by_fours`: all are there, aligned."""
    a = b = c = d = float32(0.0)
    if count > 0:
        if by_fours:
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


@cuda.jit(device=True, forceinline=True)
def at_least(x, lowest):
    """The larger number; NaN stays."""
    return lowest if x < lowest else x


def _multiply(tile: Tile) -> Callable:
    """Adds the product of two slices in shared memory to what a thread has of the tile."""
    line, columns, tall, wide = tile.line, tile.columns, tile.tall, tile.wide
    half_row, half_column = tile.half_row, tile.half_column

    @cuda.jit(device=True, forceinline=True)
    def multiply(total, left, right, x_at, w_at):
        for _ in range(SLICE // UNROLLED):
            for u in range(UNROLLED):
                for i in range(tall // 4):
                    (
                        left[4 * i], left[4 * i + 1], left[4 * i + 2], left[4 * i + 3],
                    ) = lds4(x_at + i32(4 * (u * line + i * half_row)))  # fmt: skip
                for j in range(wide // 4):
                    (
                        right[4 * j], right[4 * j + 1], right[4 * j + 2], right[4 * j + 3],
                    ) = lds4(w_at + i32(4 * (u * columns + j * half_column)))  # fmt: skip
                for i in range(tall):
                    for j in range(wide):
                        total[i * wide + j] += left[i] * right[j]
            x_at = i32(x_at + 4 * UNROLLED * line)
            w_at = i32(w_at + 4 * UNROLLED * columns)

    return multiply


def _put_part(tile: Tile) -> Callable:
    """Writes a thread's part of the tile, whose rows are those of y that `targets` names."""
    tall, wide, half_row, half_column = tile.tall, tile.wide, tile.half_row, tile.half_column

    @cuda.jit(device=True, forceinline=True)
    def put_part(y, total, targets, row, column, columns, width, by_fours):
        for i in range(tall):
            to = targets[row + i % 4 + i // 4 * half_row]
            at = i32(to * width + column)
            if to >= 0:
                for j in range(wide // 4):
                    f = j * half_column
                    o = i * wide + 4 * j
                    if by_fours:
                        if f < columns:
                            store4(y, at + f, total[o], total[o + 1], total[o + 2], total[o + 3])
                    else:
                        for q in range(4):
                            if f + q < columns:
                                y[at + f + q] = total[o + q]

    return put_part


# --- y = x * w ------------------------------------------------------------------------------------


def _correlate(tile: Tile) -> Kernel:
    rows, columns, tall, wide, threads = (
        tile.rows, tile.columns, tile.tall, tile.wide, tile.threads,
    )  # fmt: skip
    across = columns // wide  # threads side by side
    part, half_column, line = tall * wide, tile.half_column, tile.line
    multiply, put_part = _multiply(tile), _put_part(tile)
    x_slice, w_slice = SLICE * line, SLICE * columns
    x_room, w_room = 2 * x_slice, 2 * w_slice
    per_row = SLICE // 4  # threads that load a row of x's slice, four numbers each
    loads = rows * per_row // threads
    row_step = threads // per_row
    quarter = columns // 4  # threads that load a row of w's slice
    loaders = SLICE * quarter
    held = 4 * loads

    @kernel(
        "f4* f4* f4* f4*" + " i4" * (10 + 18 + 9),
        threads=threads, blocks=512 // threads, name=f"conv_tiles.correlate_{rows}x{columns}",
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
        left = cuda.local.array(tall, float32)
        right = cuda.local.array(wide, float32)
        loaded = cuda.local.array(held, float32)
        plane = cuda.local.array(loads, int32)
        at_z = cuda.local.array(loads, int32)
        at_y = cuda.local.array(loads, int32)
        at_x = cuda.local.array(loads, int32)
        for i in range(part):
            total[i] = float32(0.0)
        thread = i32(cuda.threadIdx.x)
        group = i32(cuda.blockIdx.z)
        tile_row, tile_column = i32(cuda.blockIdx.x * rows), i32(cuda.blockIdx.y * columns)

        # Where the tile's rows lie in y; -1 where there is none.
        if thread < rows:
            p = i32(tile_row + thread)
            to = p
            if is_dense == 0:
                rest, ox = divided(p, out_width)
                rest, oy = divided(rest, out_height)
                n, oz = divided(rest, out_depth)
                to = i32(n * target_depth + oz * every_z + first_z)
                to = i32(to * target_height + oy * every_y + first_y)
                to = i32(to * target_width + ox * every_x + first_x)
            targets[thread] = to if p < pixels else int32(-1)
        cuda.syncthreads()

        # What this thread loads of x: four numbers along k, for one or two pixels.
        load_row, load_k = i32(thread // per_row), i32(thread % per_row * 4)
        for i in range(loads):
            p = i32(tile_row + load_row + i * row_step)
            rest, ox = divided(p, out_width)
            rest, oy = divided(rest, out_height)
            n, oz = divided(rest, out_depth)
            plane[i] = i32(n * depth)
            at_z[i] = i32(oz * stride_z + start_z) if p < pixels else int32(OUTSIDE)
            at_y[i] = i32(oy * stride_y + start_y)
            at_x[i] = i32(ox * stride_x + start_x)
        c, kz, ky, kx = next_tap(
            int32(0), int32(0), int32(0), int32(0), load_k, taken, high, wide_
        )  # fmt: skip
        group_channel = i32(group * taken)
        # And of w: four filters of one k.
        w_row, w_column = i32(thread // quarter), i32(thread % quarter * 4)
        w_filter = i32(tile_column + w_column)
        group_filter = i32(group * filters)
        length = i32(deep * high * wide_ * taken)

        row, column = i32(thread // across * 4), i32(thread % across * 4)
        x_start, w_start = smem_addr(xs), smem_addr(ws)
        slices = i32((length + SLICE - 1) // SLICE)
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
                    c, kz, ky, kx = next_tap(c, kz, ky, kx, int32(SLICE), taken, high, wide_)
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
                    c, kz, ky, kx = next_tap(c, kz, ky, kx, int32(SLICE - 4), taken, high, wide_)
                k = i32(s * SLICE + w_row)
                at = i32(k * all_filters + group_filter + w_filter)
                more = i32(filters - w_filter) if thread < loaders and k < length else int32(0)
                w0, w1, w2, w3 = four(w, at, more, filters_by_fours)
            if s > 0:
                turn = i32((s - 1) & 1)
                x_at = i32(x_start + 4 * (turn * x_slice + row))
                w_at = i32(w_start + 4 * (turn * w_slice + column))
                multiply(total, left, right, x_at, w_at)
            if s < slices:
                turn = i32(s & 1)
                for i in range(loads):
                    to = i32(turn * x_slice + load_k * line + load_row + i * row_step)
                    for j in range(4):
                        xs[to + j * line] = loaded[4 * i + j]
                if thread < loaders:
                    store4(ws, i32(turn * w_slice + w_row * columns + w_column), w0, w1, w2, w3)
                cuda.syncthreads()

        lowest = float32(0.0 if is_relu else -math.inf)
        for j in range(wide // 4):
            f = i32(tile_column + column + j * half_column)
            more = i32(filters - f) if has_bias else int32(0)
            b0, b1, b2, b3 = four(b, i32(group_filter + f), more, filters_by_fours)
            for i in range(tall):
                o = i * wide + 4 * j
                total[o] = at_least(total[o] + b0, lowest)
                total[o + 1] = at_least(total[o + 1] + b1, lowest)
                total[o + 2] = at_least(total[o + 2] + b2, lowest)
                total[o + 3] = at_least(total[o + 3] + b3, lowest)
        put_part(
            y, total, targets, row, i32(group_filter + tile_column + column),
            i32(filters - tile_column - column), all_filters, filters_by_fours,
        )  # fmt: skip

    return correlate


CORRELATE = {tile: _correlate(tile) for tile in TILES}


# --- dw = sum over p of x[at(p, k)] g[p] ----------------------------------------------------------


def _correlate_grad(tile: Tile) -> Kernel:
    """A tile of the kernel's gradient, taps and channels by filters; the slices are of pixels.

    Each block sums over a share of the pixels, so that there is work for the whole GPU; the shares
    are added afterwards, always in the same order.
    """
    rows, columns, tall, wide, threads = (
        tile.rows, tile.columns, tile.tall, tile.wide, tile.threads,
    )  # fmt: skip
    across = columns // wide
    part, line = tall * wide, tile.line
    multiply, put_part = _multiply(tile), _put_part(tile)
    x_slice, g_slice = SLICE * line, SLICE * columns
    x_room, g_room = 2 * x_slice, 2 * g_slice
    fourth = rows // 4  # threads that load a pixel of x's slice, four channels each
    loads = SLICE * fourth // threads
    pixel_step = threads // fourth
    held = 4 * loads
    quarter = columns // 4  # threads that load a pixel of g's slice
    loaders = SLICE * quarter

    @kernel(
        "f4* f4* f4*" + " i4" * (9 + 18),
        threads=threads, blocks=512 // threads, name=f"conv_tiles.correlate_grad_{rows}x{columns}",
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
        left = cuda.local.array(tall, float32)
        right = cuda.local.array(wide, float32)
        loaded = cuda.local.array(held, float32)
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
            load_row, load_pixel = i32(thread % fourth * 4), i32(thread // fourth)
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
            rest, ox[i] = divided(i32(first + load_pixel + i * pixel_step), out_width)
            rest, oy[i] = divided(rest, out_height)
            n[i], oz[i] = divided(rest, out_depth)
        # And of g: four filters of one pixel.
        g_row, g_column = i32(thread // quarter), i32(thread % quarter * 4)
        g_filter = i32(tile_column + g_column)
        group_filter = i32(group * filters)

        row, column = i32(thread // across * 4), i32(thread % across * 4)
        x_start, g_start = smem_addr(xs), smem_addr(gs)
        slices = i32((end - first + SLICE - 1) // SLICE)
        for s in range(slices + 1):
            if s < slices:
                p = i32(first + s * SLICE)
                for i in range(held):
                    loaded[i] = float32(0.0)
                if by_fours:
                    for i in range(loads):
                        z = i32(oz[i] * stride_z + off_z)
                        v = i32(oy[i] * stride_y + off_y)
                        u = i32(ox[i] * stride_x + off_x)
                        is_pixel = p + load_pixel + i * pixel_step < end
                        if is_row and is_pixel and is_inside(z, v, u, depth, height, width):
                            at = i32(((n[i] * depth + z) * height + v) * width + u)
                            (
                                loaded[4 * i], loaded[4 * i + 1], loaded[4 * i + 2],
                                loaded[4 * i + 3],
                            ) = load4(x, i32(at * channels + channel))  # fmt: skip
                        n[i], oz[i], oy[i], ox[i] = next_pixel(
                            n[i], oz[i], oy[i], ox[i], int32(SLICE), out_depth, out_height,
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
                        by = int32(1 if j < held - 1 else SLICE - held + 1)
                        n[0], oz[0], oy[0], ox[0] = next_pixel(
                            n[0], oz[0], oy[0], ox[0], by, out_depth, out_height, out_width
                        )  # fmt: skip
                at = i32((p + g_row) * all_filters + group_filter + g_filter)
                more = i32(filters - g_filter) if thread < loaders and p + g_row < end else int32(0)
                g0, g1, g2, g3 = four(g, at, more, filters_by_fours)
            if s > 0:
                turn = i32((s - 1) & 1)
                x_at = i32(x_start + 4 * (turn * x_slice + row))
                g_at = i32(g_start + 4 * (turn * g_slice + column))
                multiply(total, left, right, x_at, g_at)
            if s < slices:
                turn = i32(s & 1)
                to = i32(turn * x_slice + load_pixel * line + load_row)
                if by_fours:
                    for i in range(loads):
                        store4(
                            xs, to + i * pixel_step * line, loaded[4 * i], loaded[4 * i + 1],
                            loaded[4 * i + 2], loaded[4 * i + 3],
                        )  # fmt: skip
                else:
                    for j in range(held):
                        xs[to + j * line] = loaded[j]
                if thread < loaders:
                    store4(gs, i32(turn * g_slice + g_row * columns + g_column), g0, g1, g2, g3)
                cuda.syncthreads()

        put_part(
            dw, total, targets, row, i32(group_filter + tile_column + column),
            i32(filters - tile_column - column), all_filters, filters_by_fours,
        )  # fmt: skip

    return correlate_grad


CORRELATE_GRAD = {tile: _correlate_grad(tile) for tile in TILES}
