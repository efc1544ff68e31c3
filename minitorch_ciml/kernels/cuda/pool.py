"""Pooling on the GPU. Each thread computes one element, or four neighbouring channels.

All kernels are bound by memory: a window's elements are read from the caches, since neighbouring
threads hold neighbouring channels, and pass through memory once.

The gradients are computed where they arrive: a thread looks up the windows that cover its element,
and adds what they have for it in the order of the window's places. So nothing is added by two
threads, also where windows overlap, and results repeat bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import cuda, float32, float64, int32

from minitorch_ciml.kernels.cuda.elements import read, read4, write, write4
from minitorch_ciml.kernels.cuda.elementwise import TRAINED
from minitorch_ciml.kernels.cuda.intrinsics import store4
from minitorch_ciml.kernels.cuda.launch import Kernel, kernel
from minitorch_ciml.kernels.cuda.memory import CudaArray, empty
from minitorch_ciml.kernels.cuda.windows import (
    THREADS,
    before,
    divided,
    end_inside,
    first_inside,
    in_three,
    output_sizes,
    over,
    pixel_of,
    windows_over,
)
from minitorch_ciml.kernels.reference.conv import Ints, Pads

Needs = tuple[bool, ...]

_PLACES = ("u1", "i8")
# Sizes of the input, sizes of the output, the window, its strides, the padding before: three each.
_GEOMETRY = " i4" * 15


# --- vectors --------------------------------------------------------------------------------------


def _vectors(lanes: int) -> tuple[Callable, Callable, Callable]:
    """Reading and writing one element, or four neighbouring ones."""
    if lanes == 1:

        @cuda.jit(device=True)
        def fetch(values, x, at):
            values[0] = read(x, at)

        @cuda.jit(device=True)
        def put(y, at, values):
            write(y, at, values[0])

        @cuda.jit(device=True)
        def put_places(saved, at, places):
            saved[at] = places[0]

    else:

        @cuda.jit(device=True)
        def fetch(values, x, at):
            values[0], values[1], values[2], values[3] = read4(x, at, 1)

        @cuda.jit(device=True)
        def put(y, at, values):
            write4(y, at, values[0], values[1], values[2], values[3])

        @cuda.jit(device=True)
        def put_places(saved, at, places):
            store4(saved, at, places[0], places[1], places[2], places[3])

    return fetch, put, put_places


# --- the maximum ----------------------------------------------------------------------------------


def _max_pool(code: str, lanes: int) -> Kernel:
    number = float64 if code == "f8" else float32
    fetch, put, put_places = _vectors(lanes)

    @kernel(
        "T* S* T* i4 i4 i4" + _GEOMETRY, threads=THREADS, T=(code,),
        S=_PLACES if lanes == 1 else ("u1",),
        name=f"pool.max_pool_{code}x{lanes}",
    )  # fmt: skip
    def max_pool(
        y, saved, x, count, channels, nowhere,
        depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
        window_width, step_z, step_y, step_x, before_z, before_y, before_x,
    ):  # fmt: skip
        """`nowhere` stands for the place of a window that has no element."""
        top = cuda.local.array(lanes, number)
        value = cuda.local.array(lanes, number)
        place = cuda.local.array(lanes, int32)
        i = cuda.grid(1)
        if i < count:
            rest, c = divided(i, channels)
            n, out_z, out_y, out_x = pixel_of(rest, out_depth, out_height, out_width)
            z = int32(out_z * step_z - before_z)
            y_ = int32(out_y * step_y - before_y)
            x_ = int32(out_x * step_x - before_x)
            for e in range(lanes):
                top[e], place[e] = number(-math.inf), int32(nowhere)
            for kz in range(first_inside(z), end_inside(z, window_depth, depth)):
                for ky in range(first_inside(y_), end_inside(y_, window_height, height)):
                    row = int32(((n * depth + z + kz) * height + y_ + ky) * width + x_)
                    for kx in range(first_inside(x_), end_inside(x_, window_width, width)):
                        fetch(value, x, int32(((row + kx) * channels + c) * lanes))
                        here = int32((kz * window_height + ky) * window_width + kx)
                        for e in range(lanes):
                            v = value[e]
                            is_first_nan = v != v and top[e] == top[e]
                            if v > top[e] or place[e] == nowhere or is_first_nan:
                                top[e], place[e] = v, here
            put(y, int32(i * lanes), top)
            put_places(saved, int32(i * lanes), place)

    return max_pool


def _scatter(code: str, lanes: int) -> Kernel:
    number = float64 if code == "f8" else float32
    fetch, put, _ = _vectors(lanes)

    @kernel(
        "T* T* S* i4 i4" + _GEOMETRY, threads=THREADS, T=(code,),
        S=_PLACES if lanes == 1 else ("u1",),
        name=f"pool.scatter_{code}x{lanes}",
    )  # fmt: skip
    def scatter(
        dx, g, saved, count, channels,
        depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
        window_width, step_z, step_y, step_x, before_z, before_y, before_x,
    ):  # fmt: skip
        """Adds g at the places that were saved."""
        total = cuda.local.array(lanes, number)
        value = cuda.local.array(lanes, number)
        i = cuda.grid(1)
        if i < count:
            rest, c = divided(i, channels)
            n, z, y_, x_ = pixel_of(rest, depth, height, width)
            z, y_, x_ = int32(z + before_z), int32(y_ + before_y), int32(x_ + before_x)
            last_z, windows_z = windows_over(z, window_depth, step_z, out_depth)
            last_y, windows_y = windows_over(y_, window_height, step_y, out_height)
            last_x, windows_x = windows_over(x_, window_width, step_x, out_width)
            for e in range(lanes):
                total[e] = number(0.0)
            for jz in range(windows_z):
                out_z = int32(last_z - jz)
                for jy in range(windows_y):
                    out_y = int32(last_y - jy)
                    line = (z - out_z * step_z) * window_height + y_ - out_y * step_y
                    row = int32(((n * out_depth + out_z) * out_height + out_y) * out_width)
                    for jx in range(windows_x):
                        out_x = int32(last_x - jx)
                        at = int32(((row + out_x) * channels + c) * lanes)
                        here = int32(line * window_width + x_ - out_x * step_x)
                        fetch(value, g, at)
                        for e in range(lanes):
                            if saved[at + e] == here:
                                total[e] += value[e]
            put(dx, int32(i * lanes), total)

    return scatter


@kernel("T* T* S* i4 i4" + _GEOMETRY, threads=THREADS, T=TRAINED, S=_PLACES)
def _gather(
    y, x, saved, count, channels,
    depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
    window_width, step_z, step_y, step_x, before_z, before_y, before_x,
):  # fmt: skip
    i = cuda.grid(1)
    if i < count:
        rest, c = divided(i, channels)
        n, out_z, out_y, out_x = pixel_of(rest, out_depth, out_height, out_width)
        place = int32(saved[i])
        value = float32(0.0)
        if 0 <= place < window_depth * window_height * window_width:
            rest, kx = divided(place, window_width)
            kz, ky = divided(rest, window_height)
            z = out_z * step_z - before_z + kz
            y_ = out_y * step_y - before_y + ky
            x_ = out_x * step_x - before_x + kx
            if 0 <= z < depth and 0 <= y_ < height and 0 <= x_ < width:
                value = read(x, (((n * depth + z) * height + y_) * width + x_) * channels + c)
        write(y, i, value)


# --- the mean -------------------------------------------------------------------------------------


def _avg_pool(code: str, lanes: int) -> Kernel:
    number = float64 if code == "f8" else float32
    fetch, put, _ = _vectors(lanes)

    @kernel(
        "T* T* i4 i4" + _GEOMETRY, threads=THREADS, T=(code,),
        name=f"pool.mean_{code}x{lanes}",
    )  # fmt: skip
    def mean(
        y, x, count, channels,
        depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
        window_width, step_z, step_y, step_x, before_z, before_y, before_x,
    ):  # fmt: skip
        """The mean of what lies inside x."""
        total = cuda.local.array(lanes, number)
        value = cuda.local.array(lanes, number)
        i = cuda.grid(1)
        if i < count:
            rest, c = divided(i, channels)
            n, out_z, out_y, out_x = pixel_of(rest, out_depth, out_height, out_width)
            z = int32(out_z * step_z - before_z)
            y_ = int32(out_y * step_y - before_y)
            x_ = int32(out_x * step_x - before_x)
            first_z, end_z = first_inside(z), end_inside(z, window_depth, depth)
            first_y, end_y = first_inside(y_), end_inside(y_, window_height, height)
            first_x, end_x = first_inside(x_), end_inside(x_, window_width, width)
            for e in range(lanes):
                total[e] = number(0.0)
            for kz in range(first_z, end_z):
                for ky in range(first_y, end_y):
                    row = int32(((n * depth + z + kz) * height + y_ + ky) * width + x_)
                    for kx in range(first_x, end_x):
                        fetch(value, x, int32(((row + kx) * channels + c) * lanes))
                        for e in range(lanes):
                            total[e] += value[e]
            inside = number((end_z - first_z) * (end_y - first_y) * (end_x - first_x))
            for e in range(lanes):
                total[e] /= inside
            put(y, int32(i * lanes), total)

    return mean


@cuda.jit(device=True)
def _covered(out, step, before, window, size):
    """How many elements of a window lie in the array, along one dimension."""
    start = out * step - before
    return int32(end_inside(start, window, size) - first_inside(start))


def _avg_pool_grad(code: str, lanes: int) -> Kernel:
    number = float64 if code == "f8" else float32
    fetch, put, _ = _vectors(lanes)

    @kernel(
        "T* T* i4 i4" + _GEOMETRY, threads=THREADS, T=(code,),
        name=f"pool.mean_grad_{code}x{lanes}",
    )  # fmt: skip
    def mean_grad(
        dx, g, count, channels,
        depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
        window_width, step_z, step_y, step_x, before_z, before_y, before_x,
    ):  # fmt: skip
        """Each window's gradient is shared by the elements it covers."""
        total = cuda.local.array(lanes, number)
        value = cuda.local.array(lanes, number)
        i = cuda.grid(1)
        if i < count:
            rest, c = divided(i, channels)
            n, z, y_, x_ = pixel_of(rest, depth, height, width)
            z, y_, x_ = int32(z + before_z), int32(y_ + before_y), int32(x_ + before_x)
            last_z, windows_z = windows_over(z, window_depth, step_z, out_depth)
            last_y, windows_y = windows_over(y_, window_height, step_y, out_height)
            last_x, windows_x = windows_over(x_, window_width, step_x, out_width)
            for e in range(lanes):
                total[e] = number(0.0)
            for jz in range(windows_z):
                out_z = int32(last_z - jz)
                in_z = _covered(out_z, step_z, before_z, window_depth, depth)
                for jy in range(windows_y):
                    out_y = int32(last_y - jy)
                    in_zy = in_z * _covered(out_y, step_y, before_y, window_height, height)
                    row = int32(((n * out_depth + out_z) * out_height + out_y) * out_width)
                    for jx in range(windows_x):
                        out_x = int32(last_x - jx)
                        inside = in_zy * _covered(out_x, step_x, before_x, window_width, width)
                        fetch(value, g, int32(((row + out_x) * channels + c) * lanes))
                        for e in range(lanes):
                            total[e] += value[e] / number(inside)
            put(dx, int32(i * lanes), total)

    return mean_grad


# By the type, and how many channels a thread has.
_VARIANTS = [(code, 1) for code in TRAINED] + [(code, 4) for code in TRAINED if code != "f8"]
_MAX_POOL = {one: _max_pool(*one) for one in _VARIANTS}
_SCATTER = {one: _scatter(*one) for one in _VARIANTS}
_AVG_POOL = {one: _avg_pool(*one) for one in _VARIANTS}
_AVG_POOL_GRAD = {one: _avg_pool_grad(*one) for one in _VARIANTS}


# --- launchers ------------------------------------------------------------------------------------


def _geometry(spatial: Ints, outputs: Ints, pool_size: Ints, strides: Ints, padding: Pads) -> Ints:
    """The kernels' last arguments."""
    return (
        *in_three(spatial), *in_three(outputs), *in_three(pool_size), *in_three(strides),
        *before(padding),
    )  # fmt: skip


def _run(
    kernels: dict, of: CudaArray, result: CudaArray, arrays: tuple, more: tuple, how: Ints
) -> None:
    """The kernel for the type of `of`, with four channels for each thread where they come so."""
    channels, code = result.shape[-1], of.pointer_type[:-1]
    by_fours = channels % 4 == 0 and all(x.is_aligned for x in (result, *arrays))
    is_small = all(x.pointer_type != "i8*" for x in arrays)
    lanes = 4 if by_fours and is_small and (code, 4) in kernels else 1
    count = result.size // lanes
    kernels[code, lanes](*over(count), result, *arrays, count, channels // lanes, *more, *how)


def _output_shape(shape: Ints, pool_size: Ints, strides: Ints, padding: Pads) -> Ints:
    return (shape[0], *output_sizes(shape[1:-1], pool_size, strides, padding), shape[-1])


def max_pool(
    x: CudaArray, *, pool_size: Ints, strides: Ints, padding: Pads
) -> tuple[CudaArray, CudaArray]:
    shape = _output_shape(x.shape, pool_size, strides, padding)
    is_small = math.prod(pool_size) <= 255
    y, saved = empty(shape, x.dtype), empty(shape, np.uint8 if is_small else np.int64)
    if y.size:
        how = _geometry(x.shape[1:-1], shape[1:-1], pool_size, strides, padding)
        nowhere = 255 if is_small else -1
        _run(_MAX_POOL, x, y, (saved, x), (nowhere,), how)
    return y, saved


def max_pool_places(x: CudaArray, *, pool_size: Ints, strides: Ints, padding: Pads) -> CudaArray:
    return max_pool(x, pool_size=pool_size, strides=strides, padding=padding)[1]


def max_pool_gather(
    x: CudaArray, saved: CudaArray, *, pool_size: Ints, strides: Ints, padding: Pads
) -> CudaArray:
    y = empty(saved.shape, x.dtype)
    if y.size:
        how = _geometry(x.shape[1:-1], y.shape[1:-1], pool_size, strides, padding)
        _gather(*over(y.size), y, x, saved, y.size, x.shape[-1], *how)
    return y


def max_pool_scatter(
    g: CudaArray, saved: CudaArray, *,
    input_shape: Ints, pool_size: Ints, strides: Ints, padding: Pads,
) -> CudaArray:  # fmt: skip
    dx = empty(input_shape, g.dtype)
    if dx.size:
        how = _geometry(input_shape[1:-1], g.shape[1:-1], pool_size, strides, padding)
        _run(_SCATTER, g, dx, (g, saved), (), how)
    return dx


def max_pool_grad(
    g: CudaArray, y: CudaArray, x: CudaArray, *,
    needs: Needs, saved: CudaArray, pool_size: Ints, strides: Ints, padding: Pads,
) -> tuple[CudaArray]:  # fmt: skip
    how = {"pool_size": pool_size, "strides": strides, "padding": padding}
    return (max_pool_scatter(g, saved, input_shape=x.shape, **how),)


def avg_pool(x: CudaArray, *, pool_size: Ints, strides: Ints, padding: Pads) -> CudaArray:
    y = empty(_output_shape(x.shape, pool_size, strides, padding), x.dtype)
    if y.size:
        how = _geometry(x.shape[1:-1], y.shape[1:-1], pool_size, strides, padding)
        _run(_AVG_POOL, x, y, (x,), (), how)
    return y


def avg_pool_grad(
    g: CudaArray, *, input_shape: Ints, pool_size: Ints, strides: Ints, padding: Pads
) -> CudaArray:
    dx = empty(input_shape, g.dtype)
    if dx.size:
        how = _geometry(input_shape[1:-1], g.shape[1:-1], pool_size, strides, padding)
        _run(_AVG_POOL_GRAD, g, dx, (g,), (), how)
    return dx
