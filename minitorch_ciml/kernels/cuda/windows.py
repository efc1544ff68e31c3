"""Windows that slide over one, two or three dimensions: what convolution and pooling share.

Kernels always see three dimensions, missing ones of size 1 in front: the loops over them run once.
"""

from __future__ import annotations

from numba import cuda, int32, uint32

from minitorch_ciml.kernels.cuda.intrinsics import i32
from minitorch_ciml.kernels.cuda.launch import ceil_div
from minitorch_ciml.kernels.reference.conv import Ints, Pads, output_size

THREADS = 256  # of a block, where each thread computes one element
OUTSIDE = -(1 << 30)  # a position that no tap brings back into the array


def over(n: int) -> tuple[int, int]:
    """Blocks, and threads of each, for n elements with a thread of its own each."""
    threads = min(THREADS, ceil_div(n, 32) * 32)
    return ceil_div(n, threads), threads


def in_three(values: Ints, missing: int = 1) -> Ints:
    """One number per spatial dimension, as three."""
    return (missing,) * (3 - len(values)) + tuple(values)


def before(padding: Pads) -> Ints:
    """The padding before the first element of each of three dimensions."""
    return in_three(tuple(pad for pad, _ in padding), 0)


def output_sizes(
    spatial: Ints, window: Ints, strides: Ints, padding: Pads, dilation: Ints | None = None
) -> Ints:
    """How many places the window can take along each dimension."""
    gaps = dilation or (1,) * len(spatial)
    return tuple(map(output_size, spatial, window, strides, padding, gaps))


# --- for kernels ----------------------------------------------------------------------------------


@cuda.jit(device=True)
def divided(a, b):
    """a / b and the remainder, for a >= 0 and b > 0; in 32 bits, which is several times faster."""
    quotient = int32(uint32(a) // uint32(b))
    return quotient, int32(a - quotient * b)


@cuda.jit(device=True)
def first_inside(start):
    """The first element of a window at `start` that is not before the array."""
    return int32(-start if start < 0 else 0)


@cuda.jit(device=True)
def end_inside(start, window, size):
    """One more than the last element of a window at `start` that lies in the array."""
    return int32(min(window, size - start))


@cuda.jit(device=True)
def windows_over(position, window, stride, windows):
    """The last of the windows that cover a position, and how many do.

    The position counts from where window 0 starts.
    """
    beyond = int32(position - window)
    first = int32(divided(beyond, stride)[0] + 1 if beyond >= 0 else 0)
    last = int32(min(divided(position, stride)[0], windows - 1))
    return last, int32(last + 1 - first)


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
def next_tap(c, kz, ky, kx, by, channels, high, wide):
    """`by` steps further along k: the channel, and the tap's number in each dimension."""
    kz, ky, kx, c = next_pixel(kz, ky, kx, c, by, high, wide, channels)  # one axis further in
    return c, kz, ky, kx


@cuda.jit(device=True)
def is_inside(z, y, x, depth, height, width):
    return 0 <= z < depth and 0 <= y < height and 0 <= x < width


@cuda.jit(device=True, forceinline=True)
def pixel_of(p, depth, height, width):
    """The sample and the place in each dimension of pixel p."""
    rest, x = divided(p, width)
    rest, y = divided(rest, height)
    n, z = divided(rest, depth)
    return n, z, y, x


@cuda.jit(device=True, forceinline=True)
def target_of(
    n, oz, oy, ox, target_depth, target_height, target_width, first_z, first_y, first_x, every_z,
    every_y, every_x,
):  # fmt: skip
    """Which pixel of a convolution's result the window at that place makes."""
    to = i32(n * target_depth + oz * every_z + first_z)
    to = i32(to * target_height + oy * every_y + first_y)
    return i32(to * target_width + ox * every_x + first_x)


@cuda.jit(device=True, forceinline=True)
def target_of_row(
    p, pixels, is_dense, out_depth, out_height, out_width, target_depth, target_height,
    target_width, first_z, first_y, first_x, every_z, every_y, every_x,
):  # fmt: skip
    """Which pixel of the result row p of the product is; -1 where there is none."""
    if p >= pixels:
        return int32(-1)
    if is_dense:
        return i32(p)
    n, oz, oy, ox = pixel_of(p, out_depth, out_height, out_width)
    return target_of(
        n, oz, oy, ox, target_depth, target_height, target_width, first_z, first_y, first_x,
        every_z, every_y, every_x,
    )  # fmt: skip


@cuda.jit(device=True, forceinline=True)
def start_of_target(targets, row):
    """Where a row of the result begins, for `tiles.write_of` and `cores.write_of`."""
    numbers, width = targets
    to = numbers[row]
    return i32(to * width) if to >= 0 else int32(-1)
