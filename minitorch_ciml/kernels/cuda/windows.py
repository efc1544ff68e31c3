"""Windows that slide over one, two or three dimensions: what convolution and pooling share.

Kernels always see three dimensions, missing ones of size 1 in front: the loops over them run once.
"""

from __future__ import annotations

from numba import cuda, int32, uint32

from minitorch_ciml.kernels.cuda.launch import ceil_div
from minitorch_ciml.kernels.reference.conv import Ints, Pads, output_size

THREADS = 256  # of a block, where each thread computes one element


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
