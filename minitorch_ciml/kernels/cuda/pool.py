"""Pooling on the GPU. Each thread computes one element of the result.

All kernels are bound by memory: a window's elements are read from the caches, since neighbouring
threads hold neighbouring channels, and pass through memory once.

The gradients are computed where they arrive: a thread looks up the windows that cover its element,
and adds what they have for it in the order of the window's places. So nothing is added by two
threads, also where windows overlap, and results repeat bit for bit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.elementwise import TRAINED
from minitorch_ciml.kernels.cuda.launch import kernel
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
    windows_over,
)
from minitorch_ciml.kernels.reference.conv import Ints, Pads

Needs = tuple[bool, ...]

_PLACES = ("u1", "i8")
# Sizes of the input, sizes of the output, the window, its strides, the padding before: three each.
_GEOMETRY = " i4" * 15


# --- the maximum ----------------------------------------------------------------------------------


@kernel("T* S* T* i4 i4 i4" + _GEOMETRY, threads=THREADS, T=TRAINED, S=_PLACES)
def _max_pool(
    y, saved, x, count, channels, nowhere,
    depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
    window_width, step_z, step_y, step_x, before_z, before_y, before_x,
):  # fmt: skip
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < count:
        rest, c = divided(i, channels)
        rest, out_x = divided(rest, out_width)
        rest, out_y = divided(rest, out_height)
        n, out_z = divided(rest, out_depth)
        z = int32(out_z * step_z - before_z)
        y_ = int32(out_y * step_y - before_y)
        x_ = int32(out_x * step_x - before_x)
        top, place = float32(-math.inf), int32(nowhere)
        for kz in range(first_inside(z), end_inside(z, window_depth, depth)):
            for ky in range(first_inside(y_), end_inside(y_, window_height, height)):
                row = int32(((n * depth + z + kz) * height + y_ + ky) * width + x_)
                for kx in range(first_inside(x_), end_inside(x_, window_width, width)):
                    value = read(x, int32((row + kx) * channels + c))
                    is_first_nan = value != value and top == top
                    if value > top or place == nowhere or is_first_nan:
                        top = value
                        place = int32((kz * window_height + ky) * window_width + kx)
        write(y, i, top)
        saved[i] = place


@kernel("T* T* S* i4 i4" + _GEOMETRY, threads=THREADS, T=TRAINED, S=_PLACES)
def _gather(
    y, x, saved, count, channels,
    depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
    window_width, step_z, step_y, step_x, before_z, before_y, before_x,
):  # fmt: skip
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < count:
        rest, c = divided(i, channels)
        rest, out_x = divided(rest, out_width)
        rest, out_y = divided(rest, out_height)
        n, out_z = divided(rest, out_depth)
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


@kernel("T* T* S* i4 i4" + _GEOMETRY, threads=THREADS, T=TRAINED, S=_PLACES)
def _scatter(
    dx, g, saved, count, channels,
    depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
    window_width, step_z, step_y, step_x, before_z, before_y, before_x,
):  # fmt: skip
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < count:
        rest, c = divided(i, channels)
        rest, x_ = divided(rest, width)
        rest, y_ = divided(rest, height)
        n, z = divided(rest, depth)
        z, y_, x_ = int32(z + before_z), int32(y_ + before_y), int32(x_ + before_x)
        last_z, windows_z = windows_over(z, window_depth, step_z, out_depth)
        last_y, windows_y = windows_over(y_, window_height, step_y, out_height)
        last_x, windows_x = windows_over(x_, window_width, step_x, out_width)
        total = float32(0.0)
        for jz in range(windows_z):
            out_z = int32(last_z - jz)
            for jy in range(windows_y):
                out_y = int32(last_y - jy)
                line = (z - out_z * step_z) * window_height + y_ - out_y * step_y
                row = int32(((n * out_depth + out_z) * out_height + out_y) * out_width)
                for jx in range(windows_x):
                    out_x = int32(last_x - jx)
                    at = int32((row + out_x) * channels + c)
                    if saved[at] == line * window_width + x_ - out_x * step_x:
                        total += read(g, at)
        write(dx, i, total)


# --- the mean -------------------------------------------------------------------------------------


@kernel("T* T* i4 i4" + _GEOMETRY, threads=THREADS, T=TRAINED)
def _avg_pool(
    y, x, count, channels,
    depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
    window_width, step_z, step_y, step_x, before_z, before_y, before_x,
):  # fmt: skip
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < count:
        rest, c = divided(i, channels)
        rest, out_x = divided(rest, out_width)
        rest, out_y = divided(rest, out_height)
        n, out_z = divided(rest, out_depth)
        z = int32(out_z * step_z - before_z)
        y_ = int32(out_y * step_y - before_y)
        x_ = int32(out_x * step_x - before_x)
        first_z, end_z = first_inside(z), end_inside(z, window_depth, depth)
        first_y, end_y = first_inside(y_), end_inside(y_, window_height, height)
        first_x, end_x = first_inside(x_), end_inside(x_, window_width, width)
        total = float32(0.0)
        for kz in range(first_z, end_z):
            for ky in range(first_y, end_y):
                row = int32(((n * depth + z + kz) * height + y_ + ky) * width + x_)
                for kx in range(first_x, end_x):
                    total += read(x, int32((row + kx) * channels + c))
        count = float32((end_z - first_z) * (end_y - first_y) * (end_x - first_x))
        write(y, i, total / count)


@cuda.jit(device=True)
def _covered(out, step, before, window, size):
    """How many elements of a window lie in the array, along one dimension."""
    start = out * step - before
    return int32(end_inside(start, window, size) - first_inside(start))


@kernel("T* T* i4 i4" + _GEOMETRY, threads=THREADS, T=TRAINED)
def _avg_pool_grad(
    dx, g, count, channels,
    depth, height, width, out_depth, out_height, out_width, window_depth, window_height,
    window_width, step_z, step_y, step_x, before_z, before_y, before_x,
):  # fmt: skip
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < count:
        rest, c = divided(i, channels)
        rest, x_ = divided(rest, width)
        rest, y_ = divided(rest, height)
        n, z = divided(rest, depth)
        z, y_, x_ = int32(z + before_z), int32(y_ + before_y), int32(x_ + before_x)
        last_z, windows_z = windows_over(z, window_depth, step_z, out_depth)
        last_y, windows_y = windows_over(y_, window_height, step_y, out_height)
        last_x, windows_x = windows_over(x_, window_width, step_x, out_width)
        total = float32(0.0)
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
                    total += read(g, (row + out_x) * channels + c) / float32(inside)
        write(dx, i, total)


# --- launchers ------------------------------------------------------------------------------------


def _geometry(spatial: Ints, outputs: Ints, pool_size: Ints, strides: Ints, padding: Pads) -> Ints:
    """The kernels' last arguments."""
    return (
        *in_three(spatial), *in_three(outputs), *in_three(pool_size), *in_three(strides),
        *before(padding),
    )  # fmt: skip


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
        _max_pool(*over(y.size), y, saved, x, y.size, x.shape[-1], nowhere, *how)
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
        _scatter(*over(dx.size), dx, g, saved, dx.size, input_shape[-1], *how)
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
        _avg_pool(*over(y.size), y, x, y.size, x.shape[-1], *how)
    return y


def avg_pool_grad(
    g: CudaArray, *, input_shape: Ints, pool_size: Ints, strides: Ints, padding: Pads
) -> CudaArray:
    dx = empty(input_shape, g.dtype)
    if dx.size:
        how = _geometry(input_shape[1:-1], g.shape[1:-1], pool_size, strides, padding)
        _avg_pool_grad(*over(dx.size), dx, g, dx.size, input_shape[-1], *how)
    return dx
