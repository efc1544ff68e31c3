"""Memory that the ranks of one machine share: they add up their gradients by reading it.

Four times as fast as messages between them: 300,000 float32 numbers of 2 ranks took 37 us, where
MPI's Allreduce took 151 us. What is left for the network is one sum per machine.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any

import numpy as np

from minitorch_ciml.distributed.requests import wait

_SHARED = "/dev/shm"  # files in memory, on Linux
_PAGE = 4096
_BLOCK = 1 << 16  # elements added at a time: they stay in the core's cache


class Node:
    """The ranks of this machine and the memory that they share.

    Args:
        ranks: an MPI communicator of them.
    """

    def __init__(self, ranks: Any):
        self._ranks = ranks
        self.rank, self.size = ranks.rank, ranks.size

    def arrive(self) -> Any:
        """This rank is here: an MPI request that is done when all ranks of the machine are."""
        return self._ranks.Ibarrier()

    def barrier(self) -> None:
        """Waits until all ranks of the machine are here."""
        wait(self.arrive())

    def allocate(self, size: int, dtype: np.dtype) -> list[np.ndarray] | None:
        """One array per rank, of shape (size,), that all of them see; None if there is no room.

        Collective. The file has no name any more when this returns, so that it goes when the ranks
        do, however they end.
        """
        each = -(-size * dtype.itemsize // _PAGE) * _PAGE
        path = self._ranks.bcast(_reserve(each * self.size) if self.rank == 0 else None)
        if path is None:
            return None
        with open(path, "r+b") as file:
            memory = mmap.mmap(file.fileno(), each * self.size)
        self.barrier()
        if self.rank == 0:
            os.unlink(path)
        return [np.frombuffer(memory, dtype, size, each * r) for r in range(self.size)]

    def share(self, start: int, stop: int) -> slice:
        """The part of [start, stop) that this rank adds up."""
        length = stop - start
        return slice(
            start + length * self.rank // self.size,
            start + length * (self.rank + 1) // self.size,
        )

    def add_up(self, arrays: list[np.ndarray], part: slice) -> None:
        """Replaces this rank's `part` by the sum over the ranks, in the order of the ranks."""
        own = arrays[self.rank]
        for start in range(part.start, part.stop, _BLOCK):
            block = slice(start, min(start + _BLOCK, part.stop))
            total = arrays[0][block] + arrays[1][block]
            for other in arrays[2:]:
                total += other[block]
            own[block] = total

    def hand_out(self, arrays: list[np.ndarray], part: slice) -> None:
        """Copies this rank's `part` to the other ranks."""
        own = arrays[self.rank]
        for rank, other in enumerate(arrays):
            if rank != self.rank:
                other[part] = own[part]


def _reserve(size: int) -> str | None:
    """A file of so many bytes in memory; None if there is no room, or no such files."""
    if not os.path.isdir(_SHARED):
        return None
    handle, path = tempfile.mkstemp(prefix="minitorch_ciml.", dir=_SHARED)
    try:
        # Without the reservation, writing beyond what there is would kill the process.
        os.posix_fallocate(handle, 0, size)
    except OSError:
        os.unlink(path)
        return None
    finally:
        os.close(handle)
    return path
