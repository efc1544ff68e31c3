"""Arrays whose memory is used again: `empty` is `np.empty` without the page faults.

A training step makes and drops the same activations and gradients each time. The C library gives
large blocks back to the operating system, which must zero every page of them when they are touched
again: measured, filling a new array of 5 MB took 0.6 ms, and 0.09 ms once its pages were there,
which is as long as a convolution that fills it. So the memory of large arrays is kept, and handed
out again when nobody else holds it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import count
from math import prod
from threading import Lock

import numpy as np
import numpy.typing as npt

# Below this, the C library reuses its memory itself.
SMALLEST = 64 * 1024
# Sizes are rounded up to a multiple of this, so that arrays of almost the same size can share.
GRANULE = 16 * 1024
# Arrays start on a cache line, so that no vector of theirs lies across two; and one after the other
# so many bytes further into a page: to the processor a read seems to need what is being written at
# the same place of another page, and waits for it.
CACHE_LINE, PAGE, APART = 64, 4096, 5 * 64
# Memory that may be kept, in bytes.
LARGEST_TOTAL = 1 << 30

# The working space of kernels, up to some megabytes, is the C library's. GNU's gives it back to the
# system each time, too, until a larger block has been freed; so one is, untouched. It learns from
# blocks below 32 MB. Measured: 6,000 page faults in each of the autoencoder's steps, and
# 12 to 17% of their time.
np.empty(31 << 20, np.uint8)


class Pool:
    """Blocks of memory by size. A block is free when the pool holds the only reference to it.

    NumPy makes sure of that test: every view, also a view of a view, and whatever else shares an
    array's memory (a memoryview, a DLPack capsule, a tensor of another library) holds a reference
    to the array that owns the memory, which is the block.
    """

    def __init__(self, largest_total: int = LARGEST_TOTAL) -> None:
        self.largest_total = largest_total
        self.total = 0
        # By size, in the order of their last use: blocks, and where in them an array starts.
        self._blocks: dict[int, list[tuple[np.ndarray, int]]] = {}
        self._lock = Lock()

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
        """A C-contiguous array of this shape and dtype with arbitrary contents."""
        dtype, shape = np.dtype(dtype), tuple(shape)
        needed = prod(shape) * dtype.itemsize
        if needed < SMALLEST:
            return np.empty(shape, dtype)
        size = -(-needed // GRANULE) * GRANULE
        with self._lock:
            block, start = self._free_block(size) or self._new_block(size)
            return np.ndarray(shape, dtype, block, start)

    def _free_block(self, size: int) -> tuple[np.ndarray, int] | None:
        blocks = self._blocks.pop(size, [])
        self._blocks[size] = blocks
        for entry in blocks:
            if sys.getrefcount(entry[0]) == _ONE_OWNER:
                return entry
        return None

    def _new_block(self, size: int) -> tuple[np.ndarray, int]:
        entry = _block(size)
        if size <= self.largest_total:
            self._blocks[size].append(entry)
            self.total += size
        while self.total > self.largest_total:
            self._forget_one(keep=entry[0])
        return entry

    def _forget_one(self, keep: np.ndarray) -> None:
        """Drops the block that was used longest ago; whoever holds it keeps its memory alive."""
        size = next(
            s for s, blocks in self._blocks.items() if any(b is not keep for b, _ in blocks)
        )
        blocks = self._blocks[size]
        del blocks[next(i for i, (b, _) in enumerate(blocks) if b is not keep)]
        self.total -= size
        if not blocks:
            del self._blocks[size]


_turns = count()


def _block(size: int) -> tuple[np.ndarray, int]:
    """Memory for an array of so many bytes, and where it is to start in it."""
    block = np.empty(size + PAGE, np.uint8)
    return block, (next(_turns) * APART - block.ctypes.data) % PAGE


def aligned(shape: Sequence[int], dtype: npt.DTypeLike) -> np.ndarray:
    """`np.empty`, at the start of a cache line where it is large: an optimizer's pass over arrays
    that are not takes up to twice as long.
    """
    dtype, shape = np.dtype(dtype), tuple(shape)
    needed = prod(shape) * dtype.itemsize
    if needed < SMALLEST:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, *_block(needed))


def _count_one_owner() -> int:
    """What `sys.getrefcount` says of an element of a list that nothing else refers to."""
    blocks = [(np.empty(1), 0)]
    return sys.getrefcount(blocks[0][0])


_ONE_OWNER = _count_one_owner()
# A C-contiguous array of this shape and dtype with arbitrary contents, of reused memory.
empty = Pool().empty
