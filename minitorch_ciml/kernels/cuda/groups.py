"""Who works on a row together: one thread, a warp, or a block.

A kernel that works along rows is written once, with the functions of a `Group`, and made for each
of the three. The right one depends on the shape:

- a thread, where the elements of a row are far apart in memory (an axis that is not the last one):
  neighbouring threads then read neighbouring elements of different rows;
- a warp for rows of up to `_LONG` elements: its lanes exchange numbers without a barrier;
- a block for longer ones.

A group combines the numbers of its threads in a tree, always the same one: results repeat bit for
bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from numba import cuda

THREADS = 256
_WARPS = THREADS // 32
_LONG = 1024  # elements, 32 for each lane of a warp
_ALL = 0xFFFFFFFF


class Group(NamedTuple):
    """Functions for kernels.

    Attributes:
        name: of the kind.
        place: () -> the number of the group's row, the thread's number in the group, and how many
            threads it has.
        total: x -> the sum of x over the group's threads; all of them get it.
        largest: x -> the largest x.
    """

    name: str
    place: Callable
    total: Callable
    largest: Callable


# --- a thread -------------------------------------------------------------------------------------


@cuda.jit(device=True)
def _place_of_thread():
    return cuda.grid(1), 0, 1


@cuda.jit(device=True)
def _same(x):
    return x


# --- a warp ---------------------------------------------------------------------------------------


@cuda.jit(device=True)
def _place_of_warp():
    thread = cuda.grid(1)
    return thread // 32, thread % 32, 32


@cuda.jit(device=True)
def warp_total(x):
    """The sum of x over a warp's lanes; all of them get it."""
    for distance in (16, 8, 4, 2, 1):
        x += cuda.shfl_xor_sync(_ALL, x, distance)
    return x


@cuda.jit(device=True)
def larger(a, b):
    """NaN counts as the largest."""
    return a if a > b or a != a else b


@cuda.jit(device=True)
def warp_largest(x):
    """The largest x of a warp's lanes; all of them get it."""
    for distance in (16, 8, 4, 2, 1):
        x = larger(x, cuda.shfl_xor_sync(_ALL, x, distance))
    return x


# --- a block --------------------------------------------------------------------------------------


@cuda.jit(device=True)
def _place_of_block():
    return cuda.blockIdx.x, cuda.threadIdx.x, THREADS
