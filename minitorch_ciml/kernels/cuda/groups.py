"""Kernels that work along rows, and who works on a row together: a thread, a warp, or a block.

Such a kernel is written once, with the functions of a `Group`, and made for each of them. Which one
runs depends on the shape:

- a thread where rows are short, or where the elements of a row are far apart in memory (along an
  axis that is not the last one): neighbouring threads then read neighbouring elements;
- a warp for rows of up to `_LONG` elements: its lanes exchange numbers without a barrier;
- a block for longer ones.

A row is read several times, but from memory only once: the group has it in its cache after
the first time. A group combines the numbers of its threads in a tree, always the same one, so
results repeat bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, float64

from minitorch_ciml.kernels.cuda.elements import read
from minitorch_ciml.kernels.cuda.launch import Kernel, ceil_div, kernel, of_dtype
from minitorch_ciml.kernels.cuda.memory import CudaArray
from minitorch_ciml.kernels.cuda.windows import divided

THREADS = 256
_WARPS = THREADS // 32
_ALL_LANES = 0xFFFFFFFF
_SHORT = 8  # elements of a row that one thread reads alone
_LONG = 1024  # elements, 32 for each lane of a warp


class Group(NamedTuple):
    """Functions for kernels.

    Attributes:
        name: of the kind of group.
        place: () -> the number of the group's row, the thread's number in the group, and how many
            threads the group has.
        total: x -> the sum of x over the group's threads; all of them get it.
        largest: x -> the largest x; NaN counts as the largest.
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
def _alone(x):
    return x


# --- a warp ---------------------------------------------------------------------------------------


@cuda.jit(device=True)
def _place_of_warp():
    warp, lane = divided(cuda.grid(1), 32)
    return warp, lane, 32


@cuda.jit(device=True)
def larger(a, b):
    """The larger of two numbers; NaN counts as the largest."""
    return a if a > b or a != a else b


@cuda.jit(device=True)
def _plus(a, b):
    return a + b


def _over_warp(combine: Callable) -> Callable:
    @cuda.jit(device=True)
    def over_warp(x):
        distance = 16
        while distance > 0:
            x = combine(x, cuda.shfl_xor_sync(_ALL_LANES, x, distance))
            distance //= 2
        return x

    return over_warp


_warp_total, _warp_largest = _over_warp(_plus), _over_warp(larger)


# --- a block --------------------------------------------------------------------------------------


@cuda.jit(device=True)
def _place_of_block():
    return cuda.blockIdx.x, cuda.threadIdx.x, THREADS


def _over_block(real: Any, over_warp: Callable, combine: Callable) -> Callable:
    @cuda.jit(device=True)
    def over_block(x):
        shares = cuda.shared.array(_WARPS, real)
        x = over_warp(x)
        warp, lane = divided(cuda.threadIdx.x, 32)
        if lane == 0:
            shares[warp] = x
        cuda.syncthreads()
        x = shares[0]
        for i in range(1, _WARPS):
            x = combine(x, shares[i])
        cuda.syncthreads()
        return x

    return over_block


def _block(real: Any) -> Group:
    """A block whose threads have numbers of that type."""
    return Group(
        "block", _place_of_block,
        _over_block(real, _warp_total, _plus), _over_block(real, _warp_largest, larger),
    )  # fmt: skip


_THREAD = Group("thread", _place_of_thread, _alone, _alone)
_WARP = Group("warp", _place_of_warp, _warp_total, _warp_largest)

# What rows may be made of, by the type that they are computed in; and who works on them.
_TYPES = {"f4": ("f4", "f2", "bf2"), "f8": ("f8",)}
_GROUPS = {"f4": (_THREAD, _WARP, _block(float32)), "f8": (_THREAD, _WARP, _block(float64))}


# --- kernels along rows ---------------------------------------------------------------------------


class Rowwise:
    """A kernel that works on rows, made for each kind of group.

    Args:
        name: for reports.
        signature: of the kernel's own arguments, with T for the floats that rows are made of, and W
            for those that they are computed in. The number of rows, of their elements, and of steps
            from one to the next are added to it.
        build: the kernel, from a `Group`.
        variables: other letters of the signature, and their values.
    """

    def __init__(self, name: str, signature: str, build: Callable, **variables: tuple[str, ...]):
        self._kernels: dict[str, list[Kernel]] = {}
        for wide, types in _TYPES.items():
            made = [
                kernel(
                    f"{signature} i4 i4 i4", threads=THREADS, name=f"{name}.{group.name}.{wide}",
                    T=types, W=(wide,), **variables,
                )(build(group))
                for group in _GROUPS[wide]
            ]  # fmt: skip
            self._kernels |= dict.fromkeys(types, made)

    def __call__(self, x: CudaArray, axis: int, *arguments: Any) -> None:
        """Works along an axis of an array in the shape of x."""
        axis %= x.ndim
        n, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
        if x.size == 0:
            return
        rows = x.size // n
        alone, warp, block = of_dtype(self._kernels, x.dtype)
        if inner > 1 or n <= _SHORT:
            threads = min(THREADS, ceil_div(rows, 32) * 32)
            alone(ceil_div(rows, threads), threads, *arguments, rows, n, inner)
        elif n <= _LONG:
            threads = min(THREADS, rows * 32)
            warp(ceil_div(rows * 32, threads), threads, *arguments, rows, n, inner)
        else:
            block(rows, THREADS, *arguments, rows, n, inner)


def wide_type(x: CudaArray) -> type:
    """The NumPy type that elements are computed in."""
    return np.float64 if x.dtype.itemsize == 8 else np.float32


@cuda.jit(device=True)
def first_of(row, n, inner):
    """Where a row begins; the next element is `inner` places on."""
    outer, b = divided(row, inner)
    return outer * n * inner + b


def peak_of(group: Group) -> Callable:
    """For kernels: the largest element of a row; all of the group's threads get it."""
    largest = group.largest

    @cuda.jit(device=True)
    def peak(x, base, n, inner, thread, threads):
        top = read(x, base)
        for i in range(thread, n, threads):
            top = larger(top, read(x, base + i * inner))
        return largest(top)

    return peak
