"""Depthwise convolution: every channel for itself, with one filter each.

Bound by memory: a channel's window is a few multiply-adds for each number that is read. A thread
has four neighbouring channels of a pixel, so that the arithmetic of where to read, which is several
times that of the convolution, is done once for four.
"""

from __future__ import annotations

import math

from numba import cuda, float32, int32

from minitorch_ciml.kernels.cuda.elements import read4, write4
from minitorch_ciml.kernels.cuda.intrinsics import i32, store4
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.tiles import at_least
from minitorch_ciml.kernels.cuda.windows import (
    THREADS,
    divided,
    is_inside,
    next_pixel,
    pixel_of,
    target_of,
)

_TYPES = ("f4", "f2", "bf2")


@kernel("T* T* T* T*" + " i4" * (4 + 18 + 9), threads=THREADS, T=_TYPES)
def correlate(
    y, x, w, b, count, channels, has_bias, is_relu,
    depth, height, width, out_depth, out_height, out_width, deep, high, wide, start_z, start_y,
    start_x, stride_z, stride_y, stride_x, step_z, step_y, step_x,
    target_depth, target_height, target_width, first_z, first_y, first_x, every_z, every_y, every_x,
):  # fmt: skip
    """As in `conv_direct.py`, of x (N, *S, C) and w (taps, C), for every four channels."""
    i = i32(cuda.grid(1))
    if i < count:
        rest, c = divided(i, channels // 4)
        n, oz, oy, ox = pixel_of(rest, out_depth, out_height, out_width)
        c = i32(4 * c)
        start_z = i32(start_z + oz * stride_z)
        start_y = i32(start_y + oy * stride_y)
        start_x = i32(start_x + ox * stride_x)
        t0 = t1 = t2 = t3 = float32(0.0)
        if has_bias:
            t0, t1, t2, t3 = read4(b, c, 1)
        k = c  # of w's elements
        for kz in range(deep):
            z = i32(start_z + kz * step_z)
            for ky in range(high):
                v = i32(start_y + ky * step_y)
                for kx in range(wide):
                    u = i32(start_x + kx * step_x)
                    if is_inside(z, v, u, depth, height, width):
                        at = i32(((n * depth + z) * height + v) * width + u)
                        x0, x1, x2, x3 = read4(x, i32(at * channels + c), 1)
                        w0, w1, w2, w3 = read4(w, k, 1)
                        t0 += x0 * w0
                        t1 += x1 * w1
                        t2 += x2 * w2
                        t3 += x3 * w3
                    k = i32(k + channels)
        lowest = float32(0.0 if is_relu else -math.inf)
        to = target_of(
            n, oz, oy, ox, target_depth, target_height, target_width, first_z, first_y, first_x,
            every_z, every_y, every_x,
        )  # fmt: skip
        write4(
            y, i32(to * channels + c), at_least(t0, lowest), at_least(t1, lowest),
            at_least(t2, lowest), at_least(t3, lowest),
        )  # fmt: skip


@kernel("f4* T* T*" + " i4" * (4 + 18), threads=THREADS, T=_TYPES)
def correlate_grad(
    dw, x, g, count, pixels, share, channels,
    depth, height, width, out_depth, out_height, out_width, deep, high, wide, start_z, start_y,
    start_x, stride_z, stride_y, stride_x, step_z, step_y, step_x,
):  # fmt: skip
    """Four elements of the kernel's gradient, summed over one share of the pixels."""
    i = i32(cuda.grid(1))
    if i < count:
        number = i32(cuda.blockIdx.y)
        rest, c = divided(i, channels // 4)
        rest, kx = divided(rest, wide)
        kz, ky = divided(rest, high)
        c = i32(4 * c)
        start_z = i32(start_z + kz * step_z)
        start_y = i32(start_y + ky * step_y)
        start_x = i32(start_x + kx * step_x)
        first = i32(number * share)
        n, oz, oy, ox = pixel_of(first, out_depth, out_height, out_width)
        t0 = t1 = t2 = t3 = float32(0.0)
        for p in range(first, i32(min(pixels, first + share))):
            z = i32(oz * stride_z + start_z)
            v = i32(oy * stride_y + start_y)
            u = i32(ox * stride_x + start_x)
            if is_inside(z, v, u, depth, height, width):
                at = i32(((n * depth + z) * height + v) * width + u)
                x0, x1, x2, x3 = read4(x, i32(at * channels + c), 1)
                g0, g1, g2, g3 = read4(g, i32(p * channels + c), 1)
                t0 += x0 * g0
                t1 += x1 * g1
                t2 += x2 * g2
                t3 += x3 * g3
            n, oz, oy, ox = next_pixel(
                n, oz, oy, ox, int32(1), out_depth, out_height, out_width
            )  # fmt: skip
        store4(dw, i32(4 * (number * count + i)), t0, t1, t2, t3)
