"""Convolution with one thread per element of the result; and the kernel turned round.

For convolutions in many small groups (depthwise ones above all), where there are no matrices to
speak of: bound by memory, since neighbouring threads have neighbouring channels, and what they read
again comes from the caches. And for float64, for which this is simple, and slow.
"""

from __future__ import annotations

from numba import cuda, float32, float64, int32, types

from minitorch_ciml.kernels.cuda.elements import read, write
from minitorch_ciml.kernels.cuda.elementwise import TRAINED
from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import kernel
from minitorch_ciml.kernels.cuda.windows import (
    THREADS,
    divided,
    is_inside,
    next_pixel,
    pixel_of,
    target_of,
)


@kernel("T* T* T* T*" + " i4" * (7 + 18 + 9), threads=THREADS, T=TRAINED)
def correlate(
    y, x, w, b, count, taken, channels, filters, all_filters, has_bias, is_relu,
    depth, height, width, out_depth, out_height, out_width, deep, high, wide, start_z, start_y,
    start_x, stride_z, stride_y, stride_x, step_z, step_y, step_x,
    target_depth, target_height, target_width, first_z, first_y, first_x, every_z, every_y, every_x,
):  # fmt: skip
    i = cuda.grid(1)
    if i < count:
        rest, f = divided(i, all_filters)
        n, oz, oy, ox = pixel_of(rest, out_depth, out_height, out_width)
        channel = i32(divided(f, filters)[0] * taken)
        start_z = i32(start_z + oz * stride_z)
        start_y = i32(start_y + oy * stride_y)
        start_x = i32(start_x + ox * stride_x)
        total = float32(0.0)
        k = f  # of w's element
        for kz in range(deep):
            z = i32(start_z + kz * step_z)
            for ky in range(high):
                v = i32(start_y + ky * step_y)
                for kx in range(wide):
                    u = i32(start_x + kx * step_x)
                    if is_inside(z, v, u, depth, height, width):
                        at = i32(((n * depth + z) * height + v) * width + u)
                        at = i32(at * channels + channel)
                        for c in range(taken):
                            total += read(x, i32(at + c)) * read(w, i32(k + c * all_filters))
                    k = i32(k + taken * all_filters)
        if has_bias:
            total += read(b, f)
        if is_relu and total < 0:
            total = float32(0.0)
        to = target_of(
            n, oz, oy, ox, target_depth, target_height, target_width, first_z, first_y, first_x,
            every_z, every_y, every_x,
        )  # fmt: skip
        write(y, i32(to * all_filters + f), total)


def _correlate_grad(
    dw, x, g, count, pixels, share, shares, taken, channels, filters, all_filters,
    depth, height, width, out_depth, out_height, out_width, deep, high, wide, start_z, start_y,
    start_x, stride_z, stride_y, stride_x, step_z, step_y, step_x,
):  # fmt: skip
    """An element of the kernel's gradient, summed over one share of the pixels."""
    i = cuda.grid(1)
    if i < count:
        number = i32(cuda.blockIdx.y)
        rest, f = divided(i, all_filters)
        rest, c = divided(rest, taken)
        rest, kx = divided(rest, wide)
        kz, ky = divided(rest, high)
        channel = i32(divided(f, filters)[0] * taken + c)
        start_z = i32(start_z + kz * step_z)
        start_y = i32(start_y + ky * step_y)
        start_x = i32(start_x + kx * step_x)
        first = i32(number * share)
        n, oz, oy, ox = pixel_of(first, out_depth, out_height, out_width)
        total = float32(0.0)
        for p in range(first, i32(min(pixels, first + share))):
            z = i32(oz * stride_z + start_z)
            v = i32(oy * stride_y + start_y)
            u = i32(ox * stride_x + start_x)
            if is_inside(z, v, u, depth, height, width):
                at = i32(((n * depth + z) * height + v) * width + u)
                at = i32(at * channels + channel)
                total += read(x, at) * read(g, i32(p * all_filters + f))
            n, oz, oy, ox = next_pixel(
                n, oz, oy, ox, int32(1), out_depth, out_height, out_width
            )  # fmt: skip
        dw[i32(number * count + i)] = total


# The sums are in float32, also where x and g have 16 bits.
CORRELATE_GRAD = {
    code: kernel(
        f"{total}* T* T*" + " i4" * (8 + 18), threads=THREADS, T=(code,),
        name=f"conv_direct.correlate_grad_{code}",
    )(_correlate_grad)
    for code, total in {"f4": "f4", "f8": "f8", "f2": "f4", "bf2": "f4"}.items()
}  # fmt: skip


# --- the flipped kernel ---------------------------------------------------------------------------

ROWS = 8  # of a block's threads
SQUARE = 32  # of a block: a tile that is read along one axis and written along the other
_LINE = SQUARE + 1  # so that a column lies in 32 banks


_NUMBERS = {"f4": float32, "f8": float64, "f2": types.float16, "bf2": types.uint16}


def _flipped(dtype: str):
    number = _NUMBERS[dtype]

    @kernel(
        "T* T*" + " i4" * 13, threads=SQUARE * ROWS, T=(dtype,),
        name=f"conv_direct.flipped_{dtype}",
    )  # fmt: skip
    def flipped(
        out, w, taken, filters, groups, count_y, count_x, high, wide,
        first_z, first_y, first_x, every_z, every_y, every_x,
    ):  # fmt: skip
        """out[tap, f, c] = w[that tap, c, f], of some taps; both f and c in groups."""
        tile = cuda.shared.array((SQUARE, _LINE), number)
        column, row = i32(cuda.threadIdx.x), i32(cuda.threadIdx.y)
        tap, group = divided(i32(cuda.blockIdx.z), groups)
        rest, kx = divided(tap, count_x)
        kz, ky = divided(rest, count_y)
        source = i32((first_z + kz * every_z) * high + first_y + ky * every_y)
        source = i32(source * wide + first_x + kx * every_x)
        first_f, first_c = i32(cuda.blockIdx.x * SQUARE), i32(cuda.blockIdx.y * SQUARE)
        for r in range(row, SQUARE, ROWS):
            c, f = i32(first_c + r), i32(first_f + column)
            if c < taken and f < filters:
                tile[r, column] = w[
                    i32((source * taken + c) * groups * filters + group * filters + f)
                ]
        cuda.syncthreads()
        for r in range(row, SQUARE, ROWS):
            f, c = i32(first_f + r), i32(first_c + column)
            if c < taken and f < filters:
                out[i32((tap * filters + f) * groups * taken + group * taken + c)] = tile[column, r]

    return flipped


FLIPPED = {dtype: _flipped(dtype) for dtype in _NUMBERS}
